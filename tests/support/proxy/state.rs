//! What the host keeps for one VM, and the rules about what is visible when.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wasmi::{Memory, TypedFunc};

use super::{Call, Headers, LocalReply, Log, LogLevel, Metrics, SharedData, Status};

/// Called with a host call's name before it is carried out; what another worker does meanwhile is seen by the call.
pub type OnCall = Box<dyn FnMut(&str) + Send>;

/// Nanoseconds since the epoch, stopped until a test moves them. A clone is the same clock.
#[derive(Clone, Debug)]
pub struct Clock(Arc<AtomicU64>);

impl Default for Clock {
    /// The first of January 2026, a Thursday, at midnight UTC.
    fn default() -> Self {
        Self::at(1_767_225_600 * 1_000_000_000)
    }
}

impl Clock {
    /// A clock of its own that shows this time.
    pub fn at(now_ns: u64) -> Self {
        Self(Arc::new(AtomicU64::new(now_ns)))
    }

    /// The time it shows.
    pub fn now_ns(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Sets the time, also back.
    pub fn set(&self, now_ns: u64) {
        self.0.store(now_ns, Ordering::SeqCst);
    }

    /// Moves the time on.
    pub fn advance(&self, by: Duration) {
        self.set(self.now_ns() + u64::try_from(by.as_nanos()).expect("a test's time fits 64 bits"));
    }
}

/// Which part of a stream's life the module is in; maps and properties depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Root,
    Stream,
    Log,
}

/// The request being worked on.
#[derive(Default)]
pub(super) struct Stream {
    pub(super) phase: Phase,
    pub(super) request: Headers,
    pub(super) request_visible: bool,
    pub(super) response: Headers,
    pub(super) response_visible: bool,
    /// The buffer that body callbacks may read: its number in the ABI and its bytes.
    pub(super) body: Option<(u32, Vec<u8>)>,
    pub(super) properties: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) properties_set: Vec<(String, Vec<u8>)>,
    pub(super) reply: Option<LocalReply>,
}

/// What was seen since the last look.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) calls: Vec<Call>,
    pub(super) entries: Vec<String>,
    pub(super) logs: Vec<Log>,
    pub(super) copied_bytes: usize,
}

/// One VM's host side.
pub(super) struct State {
    pub(super) shared: Arc<SharedData>,
    pub(super) metrics: Metrics,
    pub(super) clock: Clock,
    pub(super) log_level: LogLevel,
    pub(super) environment: Vec<(String, String)>,
    pub(super) random: u64,
    pub(super) on_call: Option<OnCall>,
    pub(super) memory: Option<Memory>,
    pub(super) allocate: Option<TypedFunc<u32, u32>>,
    pub(super) contexts: HashSet<u32>,
    /// The context that the module chose to act for.
    pub(super) effective: u32,
    /// The contexts that it let go on.
    pub(super) resumed: Vec<u32>,
    pub(super) metric_names: Vec<String>,
    pub(super) tick_period_ms: u32,
    /// Readable only while `proxy_on_configure` (`proxy_on_vm_start`) runs.
    pub(super) plugin_configuration: Option<Vec<u8>>,
    pub(super) vm_configuration: Option<Vec<u8>>,
    pub(super) stream: Stream,
    pub(super) seen: Seen,
    /// The host call being carried out, the exported function being run.
    pub(super) call: Call,
    pub(super) during: String,
}

impl State {
    /// The header map with this number, if it exists in this phase.
    pub(super) fn map(&mut self, map: u32) -> Result<&mut Headers, Status> {
        let stream = &mut self.stream;
        match map {
            0 if stream.request_visible => Ok(&mut stream.request),
            2 if stream.response_visible => Ok(&mut stream.response),
            // Trailers and callout maps never exist here.
            0..=7 if stream.phase == Phase::Log => Err(Status::NotFound),
            _ => Err(Status::BadArgument),
        }
    }

    /// A property by its NUL-joined path.
    pub(super) fn property(&self, path: &[u8]) -> Option<Vec<u8>> {
        let stream = &self.stream;
        let header = |name: &[u8]| if stream.request_visible { stream.request.joined(name) } else { None };
        if let Some(name) = path.strip_prefix(b"request\0headers\0") {
            return header(name);
        }
        match path {
            b"request\0path" => header(b":path"),
            b"request\0method" => header(b":method"),
            b"request\0host" => header(b":authority"),
            _ => stream.properties.iter().find(|(given, _)| given == path).map(|(_, value)| value.clone()),
        }
    }

    /// The bytes of a buffer, if it exists in this phase.
    pub(super) fn buffer(&self, buffer: u32) -> Option<&[u8]> {
        match buffer {
            6 => self.vm_configuration.as_deref(),
            7 => self.plugin_configuration.as_deref(),
            _ => self.stream.body.as_ref().filter(|(number, _)| *number == buffer).map(|(_, bytes)| bytes.as_slice()),
        }
    }

    /// Puts other bytes in place of all that a buffer has; what Envoy lets a filter do.
    pub(super) fn replace_buffer(
        &mut self,
        buffer: u32,
        start: usize,
        length: usize,
        bytes: Vec<u8>,
    ) -> Result<(), Status> {
        let (_, old) = self.stream.body.as_mut().filter(|(number, _)| *number == buffer).ok_or(Status::NotFound)?;
        if start != 0 || length < old.len() {
            return Err(Status::BadArgument);
        }
        *old = bytes;
        Ok(())
    }

    /// Keeps a log line if it is loud enough.
    pub(super) fn log(&mut self, level: LogLevel, message: &[u8]) {
        if level >= self.log_level {
            self.seen.logs.push(Log { level, message: String::from_utf8_lossy(message).into_owned() });
        }
    }

    /// The next eight random bytes (splitmix64: any seed is a good one).
    pub(super) fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.random;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("during", &self.during).field("clock", &self.clock).finish_non_exhaustive()
    }
}
