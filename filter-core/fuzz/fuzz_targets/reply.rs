//! Any bytes as the internal header of a response and as the content of a mailbox: no panic, and
//! what is believed can be written again. `tests/returns.rs` runs the same checks on stable.
#![no_main]

#[path = "../../tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|data: &[u8]| support::replies::check(data));
