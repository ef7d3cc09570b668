//! The finished module, as `make build` leaves it, in an in-process proxy-wasm host that can stop the clock, count every host
//! call and force two workers through every order of theirs.

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

mod budget;
mod figures;
mod hostile;
mod leases;
mod llm;
mod memory;
mod races;
mod secrets;
mod tokens;

use std::sync::{Arc, LazyLock};
use std::time::Duration;
use support::proxy::{Instance, Module, Options, SharedData};

/// SHA-256 of the key `abc`.
pub(crate) const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// How long after a denial the record is looked at again: it may be another filter that gave something back.
pub(crate) const LOOKED_AT_AGAIN: Duration = Duration::from_millis(10);

/// Compiled once for all tests.
static MODULE: LazyLock<Module> = LazyLock::new(|| {
    let path = std::env::var_os("ALLOWANCE_WASM").expect("ALLOWANCE_WASM is not set: run \"make test\"");
    Module::load(path)
});

pub(crate) fn instance(configuration: &str, shared: &Arc<SharedData>) -> Instance {
    with(Options::new(configuration), shared)
}

pub(crate) fn with(options: Options, shared: &Arc<SharedData>) -> Instance {
    Instance::new(&MODULE, shared.clone(), options).unwrap_or_else(|refused| panic!("{}", refused.text()))
}

/// Status of one request with this key in `x-api-key`; 200 where it passed.
pub(crate) fn status(instance: &mut Instance, key: &str) -> u16 {
    let headers = [(":method", "GET"), (":path", "/"), (":authority", "a"), ("x-api-key", key)];
    instance.request(&headers).local_reply.map_or(200, |reply| reply.status.try_into().unwrap())
}
