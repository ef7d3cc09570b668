//! What Allowance costs: processor time of a real Envoy per request, beside what people use today, in one run on this machine.
//!
//! ```text
//! variant ─▶ arena (one Envoy, a listener for each variant) ─▶ turns ─▶ load (h2load) ─▶ figures ─▶ report: Markdown, and target/bench.json
//! growth: the same for what may get large, each size in an Envoy of its own
//! counts: the arena under callgrind, which counts instructions in place of time
//! ```
//!
//! `make bench`, `make bench-quick` and `make bench-counts` run it. Other tests leave it alone.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a benchmark that meets the unexpected must not go on"
)]

#[path = "../support/mod.rs"]
mod support;

mod arena;
mod by_hand;
mod counts;
mod extent;
mod figures;
mod growth;
mod load;
mod machine;
mod report;
mod turns;
mod variant;

use std::path::PathBuf;

use extent::Extent;

/// Where what a run makes is put.
fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench")
}

fn main() {
    // --counts: what requests execute, no time; --quick: fewer of everything; --table: variants only. Cargo adds --bench.
    let given = |option| std::env::args().any(|argument| argument == option);
    let extent = if given("--quick") { Extent::quick() } else { Extent::full() };
    std::fs::create_dir_all(folder()).expect("target is writable");
    let machine = machine::Machine::now();
    if given("--counts") {
        return report::counted(&machine, &counts::run(machine.cores));
    }
    let table = arena::run(&extent);
    report::print_table(&machine, &extent, &table);
    let growth = if given("--table") { Vec::new() } else { growth::run(&extent) };
    if !growth.is_empty() {
        report::print_growth(&extent, &growth);
    }
    report::save(&machine, &extent, &table, &growth);
}
