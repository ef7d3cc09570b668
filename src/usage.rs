//! Usage: the tokens that a provider's response says it took.

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
