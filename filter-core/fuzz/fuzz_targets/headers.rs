//! Any bytes as a header block through every kind of policy: no panic, and what leaves is valid.
//! The checks are those of `tests/hostile.rs`, which replays the corpus on stable.
#![no_main]

#[path = "../../tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // The length chooses the policy, so that the input is a header block as it stands.
    support::hostile::check(data.len(), data);
});
