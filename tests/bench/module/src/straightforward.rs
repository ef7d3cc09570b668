//! A rate limiter in the straightforward way: so many requests per key and window, counted as text under a key of the shared data for
//! each window. With several windows one after the other, each charged before the next is looked at.

use std::num::NonZeroU64;
use std::rc::Rc;
use std::time::UNIX_EPOCH;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, MetricType, Status};
use serde::Deserialize;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root { config: Rc::default(), requests: 0 }));
}}

#[derive(Default, Deserialize)]
struct Config {
    /// So many requests…
    max: u64,
    /// … in each of these, in seconds.
    windows: Vec<NonZeroU64>,
}

struct Root {
    config: Rc<Config>,
    requests: u32,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let Some(bytes) = self.get_plugin_configuration() else { return false };
        let Ok(config) = serde_json::from_slice::<Config>(&bytes) else { return false };
        let Ok(requests) = hostcalls::define_metric(MetricType::Counter, "straightforward_requests_total") else {
            return false;
        };
        (self.config, self.requests) = (Rc::new(config), requests);
        true
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Filter { config: Rc::clone(&self.config), requests: self.requests }))
    }
}

struct Filter {
    config: Rc<Config>,
    requests: u32,
}

impl Context for Filter {}

impl HttpContext for Filter {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let Some(key) = self.get_http_request_header("x-api-key") else {
            self.send_http_response(401, vec![], Some(b"API key is missing"));
            return Action::Pause;
        };
        let now = self.get_current_time().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        for &window in &self.config.windows {
            let counter = format!("rate_limit:{key}:{window}:{}", now / window);
            loop {
                let (value, version) = self.get_shared_data(&counter);
                let used: u64 = value
                    .and_then(|value| String::from_utf8(value).ok())
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(0);
                if used >= self.config.max {
                    let retry_after = (window.get() - now % window).to_string();
                    self.send_http_response(429, vec![("retry-after", &retry_after)], Some(b"Too many requests"));
                    return Action::Pause;
                }
                match self.set_shared_data(&counter, Some((used + 1).to_string().as_bytes()), version) {
                    Err(Status::CasMismatch) => {}
                    _ => break,
                }
            }
        }
        let _ = hostcalls::increment_metric(self.requests, 1);
        Action::Continue
    }
}
