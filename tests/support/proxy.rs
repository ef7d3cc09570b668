//! A proxy-wasm host inside the test process: what Envoy is to the module, without Envoy.
//!
//! It runs the finished module on an interpreter, so it can do what no real proxy lets a test do: stop the clock, count
//! every crossing between host and module, read everything the module ever stored, and choose which of two workers goes
//! first ([`interleave`](super::interleave)). Where a host call has surprising semantics, they are Envoy's: a fake that
//! is kinder than the real host proves nothing.
//!
//! ```text
//! Module ─▶ Instance (one worker's VM: root context, clock, calls it made)
//!             │  request(headers) ─▶ Outcome (action, local reply, headers, calls, VM entries, logs)
//!             ▼
//!           SharedData, Metrics (one process's, whichever instances share them)
//! ```

mod env;
mod exchange;
mod guest;
mod headers;
mod instance;
mod metrics;
mod module;
mod options;
mod shared_data;
mod state;
mod status;
mod wasi;

pub use exchange::{Action, Call, Exchange, LocalReply, Log, LogLevel, Outcome};
pub use headers::Headers;
pub use instance::{Instance, Live};
pub use metrics::{Kind, Metrics};
pub use module::Module;
pub use options::{Options, Refused, Trap};
pub use shared_data::{Mode, SharedData, Snapshot};
pub use state::{Clock, OnCall};
pub use status::Status;
