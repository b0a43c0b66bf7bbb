//! Thousands of random and mutated inputs against the naive readings in `support/oracle.rs`.
//!
//! The seed is printed; `PARSER_TEST_SEED=<seed>` repeats a failing run.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

#[path = "support/check.rs"]
mod check;

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Each round checks three inputs per header.
const ROUNDS: usize = if cfg!(target_arch = "wasm32") {
    1_000
} else {
    5_000
};

fn rng() -> fastrand::Rng {
    #[cfg(target_arch = "wasm32")]
    let seed = 0x7ace_0001;
    #[cfg(not(target_arch = "wasm32"))]
    let seed = std::env::var("PARSER_TEST_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    #[cfg(not(target_arch = "wasm32"))]
    println!("PARSER_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// Characters at the edges of the classes, separators, white space, control and high bytes.
const ALPHABET: &[u8] =
    b"0123456789abcdefABFGfgz/:@`{-_*.~!\"\\%+;,== \t\n\r\0\x7f\x80\xc3\xa9\xff";

fn pick(rng: &mut fastrand::Rng) -> u8 {
    if rng.u8(..8) == 0 {
        rng.u8(..)
    } else {
        ALPHABET[rng.usize(..ALPHABET.len())]
    }
}

fn random(rng: &mut fastrand::Rng, max_len: usize) -> Vec<u8> {
    let len = rng.usize(..max_len);
    (0..len).map(|_| pick(rng)).collect()
}

/// Zero to three small changes: replace, insert, delete, cut, double a part.
fn mutate(rng: &mut fastrand::Rng, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..rng.u8(..4) {
        if bytes.is_empty() {
            bytes.push(pick(rng));
            continue;
        }
        let at = rng.usize(..bytes.len());
        match rng.u8(..6) {
            0 | 1 => bytes[at] = pick(rng),
            2 => bytes.insert(at, pick(rng)),
            3 => drop(bytes.remove(at)),
            4 => bytes.truncate(at),
            _ => {
                let part = bytes[at..(at + rng.usize(..40)).min(bytes.len())].to_vec();
                bytes.extend(part);
            }
        }
    }
    bytes
}

fn traceparent(rng: &mut fastrand::Rng) -> Vec<u8> {
    let version = match rng.u8(..4) {
        0 => rng.u8(..),
        1 => 0xff,
        _ => 0,
    };
    let trace_id = if rng.u8(..20) == 0 { 0 } else { rng.u128(..) };
    let parent_id = if rng.u8(..20) == 0 { 0 } else { rng.u64(..) };
    let flags = rng.u8(..);
    let tail = ["", "", "", "-", "-more", ".", " ", "\t "][rng.usize(..8)];
    format!("{version:02x}-{trace_id:032x}-{parent_id:016x}-{flags:02x}{tail}").into_bytes()
}

const KEYS: [&str; 10] = [
    "a",
    "b",
    "ot",
    "rojo",
    "congo",
    "0tenant@sys",
    "cost_usd",
    "data_tag",
    "x*/_-@",
    "userId",
];

fn word(rng: &mut fastrand::Rng, alphabet: &str, max_len: usize) -> String {
    let alphabet: Vec<char> = alphabet.chars().collect();
    let len = rng.usize(1..=max_len);
    (0..len)
        .map(|_| alphabet[rng.usize(..alphabet.len())])
        .collect()
}

fn list(rng: &mut fastrand::Rng, member: impl Fn(&mut fastrand::Rng, &str) -> String) -> Vec<u8> {
    let mut text = String::from(char::from(rng.u8(..128)));
    for _ in 0..rng.u8(..40) {
        let key = match rng.u8(..3) {
            0 => KEYS[rng.usize(..KEYS.len())].to_owned(),
            _ => word(rng, "abcxyz019_-*/", 12),
        };
        text += &member(rng, &key);
        text += [",", ",", ",", " , ", ",\t", ",,", "\n"][rng.usize(..7)];
    }
    let mut bytes = text.into_bytes();
    bytes[0] |= rng.u8(..2) << 7;
    bytes
}

fn tracestate(rng: &mut fastrand::Rng) -> Vec<u8> {
    list(rng, |rng, key| {
        let max_len = [3, 20, 150, 257][rng.usize(..4)];
        let value = word(rng, "abcXYZ019 !~;:\"\\", max_len);
        format!("{key}={value}")
    })
}

fn baggage(rng: &mut fastrand::Rng) -> Vec<u8> {
    list(rng, |rng, key| {
        let value = word(rng, "abcXYZ019=%20!~'", 30);
        let property = ["", "", ";p", " ; p = v ", ";p;q=1", ";"][rng.usize(..6)];
        format!("{key}={value}{property}")
    })
}

fn ot(rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut parts = Vec::new();
    for _ in 0..rng.u8(..6) {
        let digits = rng.usize(1..=15);
        let hex = word(rng, "0123456789abcdef", digits);
        let part = match rng.u8(..5) {
            0 => format!("th:{hex}"),
            1 => format!("rv:{:014x}", rng.u64(..) >> 8),
            2 => format!("rv:{hex}"),
            3 => "p:8;r:62".to_owned(),
            _ => format!("{}:{}", word(rng, "abz09", 8), word(rng, "aZ0._-", 90)),
        };
        parts.push(part);
    }
    parts.join(";").into_bytes()
}

fn run(check: fn(&[u8]), valid: fn(&mut fastrand::Rng) -> Vec<u8>) {
    let mut rng = rng();
    for _ in 0..ROUNDS {
        check(&random(&mut rng, 80));
        let input = valid(&mut rng);
        check(&input);
        check(&mutate(&mut rng, input));
    }
}

#[test]
fn traceparent_agrees_with_the_naive_reading() {
    run(check::traceparent, traceparent);
}

#[test]
fn tracestate_agrees_with_the_naive_reading() {
    run(check::tracestate, tracestate);
}

#[test]
fn baggage_agrees_with_the_naive_reading() {
    run(check::baggage, baggage);
}

#[test]
fn ot_agrees_with_the_naive_reading() {
    run(check::ot, ot);
}

#[test]
fn every_single_byte_change_of_a_traceparent_agrees_with_the_naive_reading() {
    let valid = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for at in 0..valid.len() {
        for byte in 0..=255 {
            let mut changed = *valid;
            changed[at] = byte;
            check::traceparent(&changed);
        }
    }
}
