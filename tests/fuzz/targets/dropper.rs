//! Streams that an event is taken out of, against the plainest way to do it.

#![no_main]

#[path = "../../core/usage/oracle.rs"]
mod oracle;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    oracle::dropper_takes_out_what_it_is_to(bytes);
});
