//! Compressed responses: what says that it is compressed, in any cuts, and the same with and without compression.

#![no_main]

#[path = "../../core/usage/oracle.rs"]
mod oracle;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    oracle::decoder_does_not_mind_cuts(bytes);
    oracle::compression_makes_no_difference(bytes, bytes.len());
});
