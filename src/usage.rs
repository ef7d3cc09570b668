//! Usage: the tokens that a provider's response says it took.
//!
//! ```text
//! response bytes ─▶ inflate ─▶ events, lines or one document ─▶ scanner ─▶ tally ─▶ Report
//! ```
//!
//! A [`Reader`] is given the bytes of one response as they come, and at its end says what it [reported](Report). Which provider speaks is told by the
//! shape of its JSON alone: [`place`] knows which members lead where. Nothing is buffered but the name, number or model that is being read, so a
//! stream of any length, in any cuts, takes less than a kilobyte; only a compressed response takes the 32 KB window that its format needs.
//!
//! [`inflate`] undoes compression. [`events`] splits event streams. [`scanner`] walks over JSON. [`tally`] keeps the numbers and knows each
//! provider's rule. A [`Dropper`] removes the one event of a stream that the client did not ask for.

pub mod dropper;
pub mod events;
#[cfg(any(feature = "llm", not(target_arch = "wasm32")))]
pub mod inflate;
pub mod place;
pub mod reader;
pub mod scanner;
pub mod tally;

pub use dropper::Dropper;
pub use reader::{Reader, Report};

/// Tokens of one response, as its provider counts them, brought to one form: cached tokens are part of the input and reasoning is part of
/// the output, whichever way the provider states them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All tokens read: prompt, tool definitions, cached or not.
    pub input: u64,
    /// Those of the input that came from the provider's cache.
    pub cached: u64,
    /// All tokens written: text, tool calls, reasoning.
    pub output: u64,
    /// Those of the output that were reasoning.
    pub reasoning: u64,
}
