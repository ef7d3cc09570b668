//! What goes into the module for one request, and all that could be seen of it.

use std::fmt;

use super::Headers;

/// One HTTP exchange as the filter meets it: the request, and the response that the upstream would give.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub(super) request_headers: Headers,
    pub(super) request_body: Vec<Vec<u8>>,
    pub(super) response_headers: Headers,
    pub(super) response_body: Vec<Vec<u8>>,
    pub(super) properties: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Exchange {
    /// A request with these header lines and no body; the upstream answers 200 with a short text.
    ///
    /// The pseudo headers that every request has in a proxy are put in front where they are missing (`GET /`).
    pub fn new<N: AsRef<[u8]>, V: AsRef<[u8]>>(headers: &[(N, V)]) -> Self {
        let given: Headers = headers.iter().map(|(name, value)| (name, value)).collect();
        let defaults = [(":authority", "allowance.test"), (":path", "/"), (":method", "GET"), (":scheme", "http")];
        let missing = defaults.into_iter().filter(|(name, _)| given.all(name).is_empty());
        let mut request_headers: Headers = missing.collect();
        given.lines().iter().for_each(|(name, value)| request_headers.add(name, value));
        Self {
            request_headers,
            request_body: Vec::new(),
            response_headers: [(":status", "200"), ("content-length", "9"), ("content-type", "text/plain")]
                .into_iter()
                .collect(),
            response_body: vec![b"upstream\n".to_vec()],
            properties: Vec::new(),
        }
        .source_address("203.0.113.7:4711")
    }

    /// The request has a body, arriving in these pieces.
    pub fn request_body<B: AsRef<[u8]>>(mut self, chunks: &[B]) -> Self {
        self.request_body = chunks.iter().map(|chunk| chunk.as_ref().to_vec()).collect();
        self
    }

    /// The upstream answers with these header lines (`:status` among them) and a body in these pieces.
    pub fn response<B: AsRef<[u8]>>(mut self, headers: &[(&str, &str)], chunks: &[B]) -> Self {
        self.response_headers = headers.iter().copied().collect();
        self.response_body = chunks.iter().map(|chunk| chunk.as_ref().to_vec()).collect();
        self
    }

    /// The client's address as `source.address` shows it, with port.
    pub fn source_address(self, address: &str) -> Self {
        self.property(&["source", "address"], address)
    }

    /// A property of the request, in the host's encoding; one given again replaces the earlier value.
    pub fn property(mut self, path: &[&str], value: impl AsRef<[u8]>) -> Self {
        let path = path.join("\0").into_bytes();
        self.properties.retain(|(given, _)| *given != path);
        self.properties.push((path, value.as_ref().to_vec()));
        self
    }
}

/// What a header callback tells the host to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Go on to the next filter.
    Continue,
    /// Wait; also what a filter says after it has answered the request itself.
    Pause,
}

/// An answer that the filter gave instead of the upstream, as it was handed to the host.
///
/// For gRPC callers a real proxy turns it into a trailers-only response; here it stays as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct LocalReply {
    /// HTTP status.
    pub status: u32,
    /// Response code details, for the access log.
    pub details: String,
    /// The body.
    pub body: Vec<u8>,
    /// Additional header lines.
    pub headers: Headers,
    /// gRPC status, -1 when left to the host.
    pub grpc_status: i32,
}

impl LocalReply {
    /// The body as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; fails the test, showing the body, when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("body is not JSON ({error}): {:?}", self.text()))
    }

    /// The response that the proxy makes of it: header lines and body.
    pub(super) fn response(&self) -> (Headers, Vec<Vec<u8>>) {
        let mut headers: Headers = [(":status", self.status.to_string())].into_iter().collect();
        self.headers.lines().iter().for_each(|(name, value)| headers.add(name, value));
        if self.body.is_empty() {
            return (headers, Vec::new());
        }
        headers.set(b"content-length", self.body.len().to_string().as_bytes());
        if headers.all("content-type").is_empty() {
            headers.add(b"content-type", b"text/plain");
        }
        (headers, vec![self.body.clone()])
    }
}

impl fmt::Debug for LocalReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut reply = f.debug_struct("LocalReply");
        reply.field("status", &self.status).field("details", &self.details).field("body", &self.text());
        reply.field("headers", &self.headers).field("grpc_status", &self.grpc_status).finish()
    }
}

/// One host call that the module made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The import's name, like `proxy_get_shared_data`.
    pub name: String,
    /// What it was about, for reading: key, header name, metric…
    pub args: String,
    /// The number it returned; 0 is success.
    pub status: u32,
    /// Bytes that the host allocated inside the module to return: what makes a call expensive.
    pub returned_bytes: usize,
    /// The exported function in which the module made it.
    pub during: String,
}

/// How loud a message is, in the ABI's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// 0
    Trace,
    /// 1
    Debug,
    /// 2
    Info,
    /// 3
    Warn,
    /// 4
    Error,
    /// 5
    Critical,
}

impl LogLevel {
    pub(super) fn from_abi(level: u32) -> Option<Self> {
        [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error, Self::Critical].get(level as usize).copied()
    }
}

/// A line the module logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How loud.
    pub level: LogLevel,
    /// The text.
    pub message: String,
}

impl Log {
    /// All lines in one text, for messages.
    pub(super) fn lines(logs: &[Self]) -> String {
        logs.iter().map(|log| format!("\n  {log}")).collect()
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:?}] {}", self.level, self.message)
    }
}

/// Everything that could be seen of one exchange.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the request headers callback returned.
    pub action: Action,
    /// The filter's own answer, if it gave one.
    pub local_reply: Option<LocalReply>,
    /// The request headers as the next filter would see them.
    pub request_headers: Headers,
    /// The response headers as the client would see them; empty when the request was left waiting.
    pub response_headers: Headers,
    /// The lines of these that the filter's response callbacks put there.
    pub response_headers_added: Headers,
    /// The response body as the client would see it.
    pub response_body: Vec<u8>,
    /// Every host call, in order.
    pub calls: Vec<Call>,
    /// Every entry into the module, in order: callbacks, and allocations that the host made to return bytes.
    pub entries: Vec<String>,
    /// Bytes copied between the host and the module's memory, either way.
    pub copied_bytes: usize,
    /// Instructions that the module executed, in the interpreter's unit (wasmi's fuel): about one each.
    pub fuel: u64,
    /// What the module logged at or above the host's level.
    pub logs: Vec<Log>,
    /// The properties it set, in order (filter state, seen by access logs): path joined by dots, value.
    pub properties_set: Vec<(String, Vec<u8>)>,
}

impl Outcome {
    /// The status that the client sees; `None` when the request was left waiting.
    pub fn status(&self) -> Option<u16> {
        self.response_headers.text(":status").and_then(|status| status.parse().ok())
    }

    /// A response header as the client sees it.
    pub fn header(&self, name: &str) -> Option<String> {
        self.response_headers.text(name)
    }

    /// The names of the host calls, in order.
    pub fn call_names(&self) -> Vec<&str> {
        self.calls.iter().map(|call| call.name.as_str()).collect()
    }

    /// How often the module made this host call.
    pub fn count(&self, name: &str) -> usize {
        self.calls.iter().filter(|call| call.name == name).count()
    }

    /// The host calls that returned bytes, each of which cost another entry into the module.
    pub fn returning_calls(&self) -> Vec<&Call> {
        self.calls.iter().filter(|call| call.returned_bytes > 0).collect()
    }
}
