//! The proxy's side of the core's traits: host calls of the proxy-wasm ABI 0.2.1.
//!
//! The imports are declared here because the SDK panics on every status it does not expect, and a panic takes the whole VM down.

use crate::gate::Response;
use crate::ledger::Clock;
use crate::metrics::{Metric, MetricId, Metrics};
use crate::reply::Reply;
use crate::request::{Head, Headers};
use crate::store::{HostError, SharedData, Version, Versioned, Written};
use crate::window::Timestamp;

/// The proxy this module runs in, acting for the current context.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proxy;

// proxy_status_t
const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const BAD_ARGUMENT: u32 = 2;
const SERIALIZATION_FAILURE: u32 = 3;
const CAS_MISMATCH: u32 = 8;

// proxy_header_map_type_t, proxy_metric_type_t
const REQUEST_HEADERS: u32 = 0;
const RESPONSE_HEADERS: u32 = 2;
#[cfg(feature = "llm")]
const REQUEST_STREAM: u32 = 0; // proxy_stream_type_t
const COUNTER: u32 = 0;
const GAUGE: u32 = 1;

/// Presented as version for a key that does not exist, the host creates it; for one that does, it is a lost race. Without a
/// version (0) the host would overwrite whatever came between.
const CREATE: u32 = u32::MAX;

impl Proxy {
    /// Sends a reply instead of letting the request pass.
    pub(crate) fn reply(self, reply: &Reply) -> Result<(), HostError> {
        let (details, headers) = (&reply.details, reply.headers.as_bytes());
        raw::send_local_response(reply.status.into(), details, &reply.body, headers, reply.grpc_status)
    }

    /// Leaves text for access logs and later filters: filter state `wasm.<name>`.
    pub(crate) fn note(self, name: &str, text: &str) -> Result<(), HostError> {
        raw::set_property(name, text.as_bytes())
    }

    /// Whether the proxy still has a context: a stream, or a root. If so the rest of this callback acts for it. A host that does not say so
    /// is taken to have it.
    pub(crate) fn has(self, context: u32) -> bool {
        !matches!(raw::set_effective_context(context), Err(HostError { status: BAD_ARGUMENT, .. }))
    }

    /// Random bytes from the host.
    pub(crate) fn random(self) -> Option<[u8; 16]> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).ok()?;
        Some(bytes)
    }
}

/// What only streams with bodies need.
#[cfg(feature = "llm")]
impl Proxy {
    /// Bytes of the body at hand, from `start`, at most `length`.
    pub(crate) fn body(self, body: Body, start: usize, length: usize) -> Result<Vec<u8>, HostError> {
        raw::buffer(body as u32, start, length)
    }

    /// Puts other bytes in place of the whole body at hand.
    pub(crate) fn replace_body(self, body: Body, bytes: &[u8]) -> Result<(), HostError> {
        raw::set_buffer(body as u32, bytes)
    }

    /// Sets a header of the request that is held, in place of any of its name. The proxy chooses the route anew then.
    pub(crate) fn set_request_header(self, name: &str, value: &str) -> Result<(), HostError> {
        raw::replace_header(REQUEST_HEADERS, name, value)
    }

    /// Its `content-length`, if it says one.
    pub(crate) fn request_length(self) -> Result<Option<String>, HostError> {
        let length = raw::header(REQUEST_HEADERS, "content-length")?;
        Ok(length.map(|length| String::from_utf8_lossy(&length).into_owned()))
    }

    /// Makes the request ask for a response that is not compressed, if it asks for anything of that kind.
    pub(crate) fn ask_for_plain(self) -> Result<(), HostError> {
        match raw::header(REQUEST_HEADERS, "accept-encoding")? {
            Some(_) => raw::replace_header(REQUEST_HEADERS, "accept-encoding", "identity"),
            None => Ok(()),
        }
    }

    /// A header of the response, its first value.
    pub(crate) fn response_value(self, name: &str) -> Result<Option<Vec<u8>>, HostError> {
        raw::header(RESPONSE_HEADERS, name)
    }

    /// Acts for another context from here on: a stream, or the root. Refused where that is gone; then nothing must be done for it.
    pub(crate) fn act_for(self, context: u32) -> Result<(), HostError> {
        raw::set_effective_context(context)
    }

    /// Lets a request go on that was held.
    pub(crate) fn resume_request(self) -> Result<(), HostError> {
        raw::continue_stream(REQUEST_STREAM)
    }

    /// How often the root's timer fires, in milliseconds; 0 stops it.
    pub(crate) fn tick_every(self, milliseconds: u32) -> Result<(), HostError> {
        raw::set_tick_period(milliseconds)
    }
}

/// Which body: proxy_buffer_type_t.
#[cfg(feature = "llm")]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Body {
    Request = 0,
    Response = 1,
}

impl Clock for Proxy {
    #[inline(always)]
    fn now(&self) -> Result<Timestamp, HostError> {
        raw::now().map(Timestamp)
    }
}

impl Head for Proxy {
    #[inline(always)]
    fn headers(&self) -> Result<Headers, HostError> {
        let bytes = raw::header_pairs(REQUEST_HEADERS)?;
        Headers::decode(bytes).ok_or(HostError { call: "get_header_map_pairs", status: OK })
    }

    fn metadata(&self, path: &[String]) -> Result<Option<Vec<u8>>, HostError> {
        let path: Vec<&str> =
            ["metadata", "filter_metadata"].into_iter().chain(path.iter().map(String::as_str)).collect();
        match raw::property(&path) {
            // What the host makes of a null.
            Err(HostError { status: SERIALIZATION_FAILURE, .. }) => Ok(None),
            value => value,
        }
    }

    fn source_address(&self) -> Result<Vec<u8>, HostError> {
        Ok(raw::property(&["source", "address"])?.unwrap_or_default())
    }
}

impl Response for Proxy {
    fn header(&self, name: &str) -> Result<Option<Vec<u8>>, HostError> {
        // Absence costs less to learn here; of repeated headers the property has them all.
        if raw::header(RESPONSE_HEADERS, name)?.is_none() {
            return Ok(None);
        }
        raw::property(&["response", "headers", name])
    }

    fn add(&self, name: &str, value: &str) -> Result<(), HostError> {
        raw::add_header(RESPONSE_HEADERS, name, value)
    }

    fn replace(&self, name: &str, value: &str) -> Result<(), HostError> {
        raw::replace_header(RESPONSE_HEADERS, name, value)
    }
}

impl SharedData for Proxy {
    #[inline(always)]
    fn get(&self, key: &[u8]) -> Result<Versioned, HostError> {
        let (value, version) = raw::shared_data(key)?;
        let version = version.map_or(Version::Absent, Version::Stored);
        Ok(Versioned { value, version })
    }

    #[inline(always)]
    fn set(&self, key: &[u8], value: &[u8], version: Version) -> Result<Written, HostError> {
        let version = match version {
            Version::Absent => CREATE,
            Version::Stored(version) => version,
        };
        raw::set_shared_data(key, value, version).map(|stored| if stored { Written::Stored } else { Written::Conflict })
    }
}

impl Metrics for Proxy {
    fn counter(&self, name: &str) -> Metric {
        raw::define_metric(COUNTER, name).ok().map(MetricId)
    }

    fn gauge(&self, name: &str) -> Metric {
        raw::define_metric(GAUGE, name).ok().map(MetricId)
    }

    fn add(&self, metric: MetricId, by: i64) {
        // A metric that the host no longer takes must not decide about a request.
        let _ = raw::increment_metric(metric.0, by);
    }

    fn set_gauge(&self, metric: MetricId, value: u64) {
        let _ = raw::record_metric(metric.0, value);
    }
}

/// The imports, and safe functions that check status and null.
#[allow(unsafe_code)]
mod raw {
    use super::{CAS_MISMATCH, HostError, NOT_FOUND, OK};
    use std::ptr::{null, null_mut};

    // Without the module's name the linker takes them for symbols it should have found.
    #[cfg_attr(target_arch = "wasm32", link(wasm_import_module = "env"))]
    unsafe extern "C" {
        fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
        fn proxy_get_property(path: *const u8, path_len: usize, value: *mut *mut u8, value_len: *mut usize) -> u32;
        fn proxy_get_header_map_pairs(map: u32, value: *mut *mut u8, value_len: *mut usize) -> u32;
        fn proxy_get_header_map_value(
            map: u32,
            name: *const u8,
            name_len: usize,
            value: *mut *mut u8,
            value_len: *mut usize,
        ) -> u32;
        fn proxy_add_header_map_value(
            map: u32,
            name: *const u8,
            name_len: usize,
            value: *const u8,
            value_len: usize,
        ) -> u32;
        fn proxy_replace_header_map_value(
            map: u32,
            name: *const u8,
            name_len: usize,
            value: *const u8,
            value_len: usize,
        ) -> u32;
        fn proxy_get_shared_data(
            key: *const u8,
            key_len: usize,
            value: *mut *mut u8,
            value_len: *mut usize,
            cas: *mut u32,
        ) -> u32;
        fn proxy_set_shared_data(key: *const u8, key_len: usize, value: *const u8, value_len: usize, cas: u32) -> u32;
        fn proxy_define_metric(kind: u32, name: *const u8, name_len: usize, id: *mut u32) -> u32;
        fn proxy_increment_metric(id: u32, offset: i64) -> u32;
        fn proxy_record_metric(id: u32, value: u64) -> u32;
        fn proxy_set_property(path: *const u8, path_len: usize, value: *const u8, value_len: usize) -> u32;
        #[cfg(feature = "llm")]
        fn proxy_get_buffer_bytes(
            buffer: u32,
            start: usize,
            length: usize,
            value: *mut *mut u8,
            value_len: *mut usize,
        ) -> u32;
        #[cfg(feature = "llm")]
        fn proxy_set_buffer_bytes(buffer: u32, start: usize, length: usize, value: *const u8, value_len: usize) -> u32;
        fn proxy_set_effective_context(context: u32) -> u32;
        #[cfg(feature = "llm")]
        fn proxy_continue_stream(stream: u32) -> u32;
        #[cfg(feature = "llm")]
        fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
        fn proxy_send_local_response(
            status: u32,
            details: *const u8,
            details_len: usize,
            body: *const u8,
            body_len: usize,
            headers: *const u8,
            headers_len: usize,
            grpc_status: i32,
        ) -> u32;
    }

    /// Room for what the host is about to return. The SDK's takes the long way to the same.
    #[cfg(target_arch = "wasm32")]
    #[unsafe(export_name = "allowance_on_memory_allocate")]
    extern "C" fn allocate(size: usize) -> *mut u8 {
        match std::alloc::Layout::array::<u8>(size) {
            // SAFETY: the layout is not empty.
            Ok(layout) if size > 0 => unsafe { std::alloc::alloc(layout) },
            _ => null_mut(),
        }
    }

    #[inline(always)]
    fn check(call: &'static str, status: u32) -> Result<(), HostError> {
        if status == OK { Ok(()) } else { Err(HostError { call, status }) }
    }

    /// Takes over bytes that the host put into memory it had from this module's allocator.
    #[inline(always)]
    fn owned(data: *mut u8, len: usize) -> Vec<u8> {
        if data.is_null() || len == 0 {
            return Vec::new();
        }
        // SAFETY: a returned value is a block of exactly `len` bytes from `allocate`; the host has filled it and keeps no reference.
        unsafe { Vec::from_raw_parts(data, len, len) }
    }

    #[inline(always)]
    pub(super) fn now() -> Result<u64, HostError> {
        let mut time = 0;
        // SAFETY: the host writes one u64.
        let status = unsafe { proxy_get_current_time_nanoseconds(&raw mut time) };
        check("get_current_time_nanoseconds", status)?;
        Ok(time)
    }

    pub(super) fn property(path: &[&str]) -> Result<Option<Vec<u8>>, HostError> {
        let path = path.join("\0");
        let (mut value, mut len) = (null_mut(), 0);
        // SAFETY: the path is read during the call; the host writes a pointer and a length.
        let status = unsafe { proxy_get_property(path.as_ptr(), path.len(), &raw mut value, &raw mut len) };
        if status == NOT_FOUND {
            return Ok(None);
        }
        check("get_property", status)?;
        Ok(Some(owned(value, len)))
    }

    #[inline(always)]
    pub(super) fn header_pairs(map: u32) -> Result<Vec<u8>, HostError> {
        let (mut value, mut len) = (null_mut(), 0);
        // SAFETY: the host writes a pointer and a length.
        let status = unsafe { proxy_get_header_map_pairs(map, &raw mut value, &raw mut len) };
        check("get_header_map_pairs", status)?;
        Ok(owned(value, len))
    }

    /// The first value of a header.
    pub(super) fn header(map: u32, name: &str) -> Result<Option<Vec<u8>>, HostError> {
        let (mut value, mut len) = (null_mut(), 0);
        // SAFETY: the name is read during the call; the host writes a pointer and a length.
        let status =
            unsafe { proxy_get_header_map_value(map, name.as_ptr(), name.len(), &raw mut value, &raw mut len) };
        if status == NOT_FOUND {
            return Ok(None);
        }
        check("get_header_map_value", status)?;
        Ok(Some(owned(value, len)))
    }

    pub(super) fn add_header(map: u32, name: &str, value: &str) -> Result<(), HostError> {
        // SAFETY: name and value are read during the call.
        let status = unsafe { proxy_add_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
        check("add_header_map_value", status)
    }

    pub(super) fn replace_header(map: u32, name: &str, value: &str) -> Result<(), HostError> {
        // SAFETY: name and value are read during the call.
        let status =
            unsafe { proxy_replace_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
        check("replace_header_map_value", status)
    }

    /// The value and its version; no version where the key does not exist.
    #[inline(always)]
    pub(super) fn shared_data(key: &[u8]) -> Result<(Vec<u8>, Option<u32>), HostError> {
        let (mut value, mut len, mut cas) = (null_mut(), 0, 0);
        // SAFETY: the key is read during the call; the host writes a pointer, a length and a u32.
        let status =
            unsafe { proxy_get_shared_data(key.as_ptr(), key.len(), &raw mut value, &raw mut len, &raw mut cas) };
        if status == NOT_FOUND {
            return Ok((Vec::new(), None));
        }
        check("get_shared_data", status)?;
        Ok((owned(value, len), Some(cas)))
    }

    /// Whether the value was stored; if not, the key was at another version.
    #[inline(always)]
    pub(super) fn set_shared_data(key: &[u8], value: &[u8], cas: u32) -> Result<bool, HostError> {
        // SAFETY: key and value are read during the call.
        let status = unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) };
        if status == CAS_MISMATCH {
            return Ok(false);
        }
        check("set_shared_data", status)?;
        Ok(true)
    }

    pub(super) fn define_metric(kind: u32, name: &str) -> Result<u32, HostError> {
        let mut id = 0;
        // SAFETY: the name is read during the call; the host writes one u32.
        let status = unsafe { proxy_define_metric(kind, name.as_ptr(), name.len(), &raw mut id) };
        check("define_metric", status)?;
        Ok(id)
    }

    pub(super) fn increment_metric(id: u32, by: i64) -> Result<(), HostError> {
        // SAFETY: numbers only.
        let status = unsafe { proxy_increment_metric(id, by) };
        check("increment_metric", status)
    }

    pub(super) fn record_metric(id: u32, value: u64) -> Result<(), HostError> {
        // SAFETY: numbers only.
        let status = unsafe { proxy_record_metric(id, value) };
        check("record_metric", status)
    }

    pub(super) fn set_property(path: &str, value: &[u8]) -> Result<(), HostError> {
        // SAFETY: path and value are read during the call.
        let status = unsafe { proxy_set_property(path.as_ptr(), path.len(), value.as_ptr(), value.len()) };
        check("set_property", status)
    }

    #[cfg(feature = "llm")]
    pub(super) fn buffer(buffer: u32, start: usize, length: usize) -> Result<Vec<u8>, HostError> {
        let (mut value, mut len) = (null_mut(), 0);
        // SAFETY: the host writes a pointer and a length, or nothing where there are no bytes.
        let status = unsafe { proxy_get_buffer_bytes(buffer, start, length, &raw mut value, &raw mut len) };
        if status == NOT_FOUND {
            return Ok(Vec::new());
        }
        check("get_buffer_bytes", status)?;
        Ok(owned(value, len))
    }

    #[cfg(feature = "llm")]
    pub(super) fn set_buffer(buffer: u32, bytes: &[u8]) -> Result<(), HostError> {
        // SAFETY: the bytes are read during the call. All there are of the buffer are replaced.
        let status = unsafe { proxy_set_buffer_bytes(buffer, 0, usize::MAX, bytes.as_ptr(), bytes.len()) };
        check("set_buffer_bytes", status)
    }

    pub(super) fn set_effective_context(context: u32) -> Result<(), HostError> {
        // SAFETY: numbers only.
        let status = unsafe { proxy_set_effective_context(context) };
        check("set_effective_context", status)
    }

    #[cfg(feature = "llm")]
    pub(super) fn continue_stream(stream: u32) -> Result<(), HostError> {
        // SAFETY: numbers only.
        let status = unsafe { proxy_continue_stream(stream) };
        check("continue_stream", status)
    }

    #[cfg(feature = "llm")]
    pub(super) fn set_tick_period(milliseconds: u32) -> Result<(), HostError> {
        // SAFETY: numbers only.
        let status = unsafe { proxy_set_tick_period_milliseconds(milliseconds) };
        check("set_tick_period_milliseconds", status)
    }

    pub(super) fn send_local_response(
        status: u32,
        details: &str,
        body: &[u8],
        headers: &[u8],
        grpc_status: i32,
    ) -> Result<(), HostError> {
        let pointer = |bytes: &[u8]| if bytes.is_empty() { null() } else { bytes.as_ptr() };
        // SAFETY: details, body and headers are read during the call.
        let status = unsafe {
            proxy_send_local_response(
                status,
                details.as_ptr(),
                details.len(),
                pointer(body),
                body.len(),
                headers.as_ptr(),
                headers.len(),
                grpc_status,
            )
        };
        check("send_local_response", status)
    }
}
