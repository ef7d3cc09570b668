//! Proves the support code itself, so that a failing test elsewhere means the product.

#[path = "mod.rs"]
mod support;

mod self_tests;
