//! Any bytes as json; what must hold is in `tests/support/check.rs`.
#![no_main]

#[allow(dead_code)]
#[path = "../../tests/support/check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::json(data));
