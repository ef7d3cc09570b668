//! Limits in tokens: allowance-llm.wasm in a real Envoy, official SDKs and upstreams that end in every way.

#![allow(
    dead_code,
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected may panic; of what it shares with others it uses a part"
)]

#[path = "../e2e/asking.rs"]
mod asking;
#[path = "../support/mod.rs"]
mod support;

mod bodies;
mod bound;
mod endings;
mod events;
mod gateway;
mod hidden;
mod sdk;
