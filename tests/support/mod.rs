//! What the integration tests stand on: a client that sends exact bytes, a real Envoy, a proxy-wasm host inside the
//! test process, and a scheduler that forces two of its instances through every interleaving.
//!
//! Nothing here knows the product's rules. A test states them; this only lets them be observed.

// Every test crate includes all of this and uses a part; what is dead in one is used in another, and nothing here
// leaves its crate.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test crate uses a part of the support code")]
// A test that cannot go on should say so and stop: that is what a panic is. The product's lints forbid it for the
// product.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "in a test a panic is the way to fail"
)]

pub mod envoy;
pub mod http;
pub mod interleave;
pub mod proxy;
pub mod scripted;
pub mod upstream;
