//! Responses, in every form and in any cuts.

#![no_main]

#[path = "../../core/usage/oracle.rs"]
mod oracle;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    oracle::reader_does_not_mind_cuts(bytes);
});
