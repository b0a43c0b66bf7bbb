//! Runs the committed corpus of the fuzz targets on the stable toolchain.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "support/check.rs"]
mod check;

use std::path::Path;

fn replay(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut files: Vec<_> = std::fs::read_dir(&corpus)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 10, "corpus of `{target}` is missing");
    for file in files {
        let input = std::fs::read(&file).unwrap();
        let outcome = std::panic::catch_unwind(|| check(&input));
        assert!(outcome.is_ok(), "{} fails", file.display());
    }
}

#[test]
fn the_corpus_of_traceparent_holds() {
    replay("traceparent", check::traceparent);
}

#[test]
fn the_corpus_of_tracestate_holds() {
    replay("tracestate", check::tracestate);
}

#[test]
fn the_corpus_of_baggage_holds() {
    replay("baggage", check::baggage);
}

#[test]
fn the_corpus_of_ot_holds() {
    replay("ot", check::ot);
}
