//! One file per piece of support code.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "in a test a panic is the way to fail"
)]

mod envoy;
mod http;
mod interleave;
mod proxy;
mod shared_data;
mod upstream;
