//! The finished module in a real Envoy, several workers, real connections.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected may panic; that is what it is for"
)]

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod asking;
mod broken_host;
mod callers;
mod crash;
mod decisions;
mod dialects;
mod exactness;
mod grpc;
mod hostile;
mod presets;
mod refusals;
mod reload;
mod rules;
mod samples;
mod upstreams;
mod ways_around;

/// A configuration whose unlisted keys have these limits.
pub(crate) fn unlisted(limits: &str) -> String {
    format!("unlisted: {{plan: free}}\nplans: {{free: {{limits: {limits}}}}}\n")
}
