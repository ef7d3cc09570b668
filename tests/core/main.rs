//! Properties of the pure core: counting, records, keys, with time as an argument.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected may panic; that is what it is for"
)]

mod ask;
mod ask_oracle;
mod clock;
mod counting;
mod dialects;
mod gate;
mod keys;
mod leases;
mod ledger;
mod records;
#[cfg(feature = "llm")]
mod settling;
mod strategies;
mod table;
#[cfg(feature = "llm")]
mod telling;
#[cfg(feature = "llm")]
mod tokens;
mod usage;
mod usual;
mod waiting;
