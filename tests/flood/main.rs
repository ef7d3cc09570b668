//! A flood in a real Envoy. Alone, because it takes all the machine has: other tests beside it would wait too long for their answers.

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

mod flood;
