//! The official SDKs against the filter in a real Envoy: what applications meet when their quota is used up.

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

mod examples;
mod gateway;
mod node;
mod python;
mod retries;
mod sdk;
