//! Attaching the filter to what people have: Envoys of their own, Istio, Envoy Gateway. Everything under `envoy/` that says how is run as it
//! stands, in the oldest and the newest Envoy; what needs a cluster is checked against its API, and what a cluster makes of it is imitated.

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

mod attaching;
mod discovery;
mod files;
mod gateway;
mod identities;
mod images;
mod istio;
mod manifests;
mod pages;
mod quota;
mod remote;
mod server;
