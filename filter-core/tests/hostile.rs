//! Any header set at all: no panic, and what leaves is always valid. Random ones, and the corpus of
//! the fuzz target (`fuzz/corpus/headers`), which so runs on stable as well.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

mod support;

use std::fs;
use std::path::Path;

use filter_core::headers::HeaderBlock;
use support::hostile::check;

const NAMES: [&str; 14] = [
    "traceparent",
    "tracestate",
    "tracestate",
    "baggage",
    "baggage",
    ":method",
    ":path",
    ":authority",
    "content-type",
    "content-length",
    "user-agent",
    "x-tracemeter-debug",
    "b",
    "",
];

/// Pieces that hostile and honest values are made of.
const PIECES: [&[u8]; 34] = [
    b"00-4bf92f3577b34da6a3f0000000000001-00f067aa0ba902b7-01",
    b"cc-4bf92f3577b34da6a310000000000001-00f067aa0ba902b7-ff-x",
    b"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
    b"cost_usd=",
    b"data_tag=",
    b"PII",
    b"tm=c:0.5;d:PII",
    b"ot=",
    b"th:",
    b"rv:",
    b"e666",
    b"f0000000000000",
    b";",
    b",",
    b"=",
    b" ",
    b"\t",
    b"%",
    b"%C3%B6",
    b"\"",
    b"\xff",
    b"\x80",
    b"\xc3\xa9",
    b"a",
    b"a=x",
    b"k@v=1",
    b"0.00001",
    b"99999999999999999999",
    b"-1",
    b"/users/42?x=1",
    b"CONNECT",
    b"application/grpc",
    b"tracemeter/1",
    b"/v1/traces",
];

fn value(rng: &mut fastrand::Rng) -> Vec<u8> {
    match rng.u8(0..8) {
        0 => (0..rng.usize(0..300)).map(|_| rng.u8(..)).collect(),
        1 => vec![*rng.choice(b"ax,=;%\x00\xff").unwrap(); rng.usize(0..9_000)],
        _ => {
            let count = rng.usize(1..40);
            let pieces = (0..count).map(|_| PIECES[rng.usize(0..PIECES.len())]);
            pieces.collect::<Vec<_>>().concat()
        }
    }
}

fn header_set(rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut lines: Vec<(&str, Vec<u8>)> = (0..rng.usize(0..12))
        .map(|_| (*rng.choice(&NAMES).unwrap(), value(rng)))
        .collect();
    if rng.bool() {
        lines.push(("traceparent", PIECES[rng.usize(0..2)].to_vec()));
    }
    let mut block = HeaderBlock::encode(&lines);
    if rng.u8(0..10) == 0 && !block.is_empty() {
        let at = rng.usize(0..block.len().min(64));
        block[at] = rng.u8(..);
    }
    block
}

#[test]
fn random_header_sets_never_panic_and_what_leaves_is_valid() {
    let mut rng = fastrand::Rng::with_seed(20_261_121);
    for round in 0..6_000 {
        check(round, &header_set(&mut rng));
    }
}

#[test]
fn the_fuzz_corpus_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/headers");
    let files: Vec<_> = fs::read_dir(&folder).unwrap().collect();
    assert!(files.len() >= 20, "the corpus is committed");
    for file in files {
        let block = fs::read(file.unwrap().path()).unwrap();
        for policy in 0..6 {
            check(policy, &block);
        }
    }
}

/// Writes the corpus anew: `cargo test -p filter-core --test hostile -- --ignored`.
#[test]
#[ignore = "writes files"]
fn write_the_corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/headers");
    fs::create_dir_all(&folder).unwrap();
    let mut rng = fastrand::Rng::with_seed(1);
    for number in 0..40 {
        let mut block = header_set(&mut rng);
        while block.len() > 2_000 {
            block = header_set(&mut rng);
        }
        fs::write(folder.join(format!("seed-{number:02}")), block).unwrap();
    }
}
