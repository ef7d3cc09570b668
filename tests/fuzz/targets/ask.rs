//! Bodies of requests: whole and in pieces they ask for the same, and a change in one place leaves JSON what it was.

#![no_main]

#[path = "../../core/ask_oracle.rs"]
mod oracle;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    oracle::asks_the_same_in_any_pieces(bytes);
});
