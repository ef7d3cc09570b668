//! The callbacks of the proxy-wasm ABI 0.2.1 that this filter has.
//!
//! The SDK has all there are, and makes an object for each stream, which the proxy then has to tell it to delete: two more entries into the
//! module for each request. The build leaves out those that are not here, and gives these the names that the proxy looks for:
//! `allowance_on_…` becomes `proxy_on_…`.

#![allow(unsafe_code, reason = "exported names are the linker's")]

use proxy_wasm::types::Action;

// Whatever panics from here on says so in the proxy's log.
#[cfg(target_arch = "wasm32")]
proxy_wasm::main! {{
    proxy_wasm::set_log_level(proxy_wasm::types::LogLevel::Info);
}}

#[unsafe(export_name = "allowance_on_context_create")]
extern "C" fn context_create(id: u32, root: u32) {
    super::create(id, root);
}

#[unsafe(export_name = "allowance_on_configure")]
extern "C" fn configure(root: u32, _: usize) -> bool {
    super::configure(root)
}

#[unsafe(export_name = "allowance_on_tick")]
extern "C" fn tick(root: u32) {
    super::tick(root);
}

#[unsafe(export_name = "allowance_on_request_headers")]
extern "C" fn request_headers(id: u32, _: usize, end: bool) -> Action {
    super::request_headers(id, end)
}

#[unsafe(export_name = "allowance_on_response_headers")]
extern "C" fn response_headers(id: u32, _: usize, end: bool) -> Action {
    super::response_headers(id, end);
    Action::Continue
}

#[cfg(feature = "llm")]
mod bodies {
    use crate::filter;
    use proxy_wasm::types::Action;

    #[unsafe(export_name = "allowance_on_request_body")]
    extern "C" fn request_body(id: u32, size: usize, end: bool) -> Action {
        filter::request_body(id, size, end)
    }

    #[unsafe(export_name = "allowance_on_request_trailers")]
    extern "C" fn request_trailers(id: u32, _: usize) -> Action {
        filter::request_trailers(id)
    }

    #[unsafe(export_name = "allowance_on_response_body")]
    extern "C" fn response_body(id: u32, size: usize, end: bool) -> Action {
        filter::response_body(id, size, end);
        Action::Continue
    }

    #[unsafe(export_name = "allowance_on_log")]
    extern "C" fn log(id: u32) {
        filter::log(id);
    }
}
