//! Runs the committed corpus of the fuzz targets, and mutations of it, on the stable toolchain.

#![cfg(feature = "yaml")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "support/check.rs"]
mod check;

use std::path::Path;

use fastrand::Rng;

/// Mutants of each file: enough to find slips, few enough for every test run.
const MUTANTS: usize = 60;

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
    let inputs: Vec<Vec<u8>> = files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect();
    let mut rng = Rng::with_seed(11);
    for (file, input) in files.iter().zip(&inputs) {
        run(check, input, &file.display().to_string());
        for _ in 0..MUTANTS {
            let mutant = mutate(input, &inputs, &mut rng);
            run(
                check,
                &mutant,
                &format!("{:?}", String::from_utf8_lossy(&mutant)),
            );
        }
    }
}

fn run(check: fn(&[u8]), input: &[u8], name: &str) {
    let outcome = std::panic::catch_unwind(|| check(input));
    assert!(outcome.is_ok(), "{name} fails");
}

/// Cuts, copies and splices a few pieces.
fn mutate(input: &[u8], others: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut mutant = input.to_vec();
    for _ in 0..rng.usize(1..5) {
        let at = rng.usize(0..=mutant.len());
        match rng.u8(0..4) {
            0 => mutant.truncate(at),
            1 => mutant.insert(at, rng.u8(b' '..0x7f)),
            2 if at < mutant.len() => drop(mutant.remove(at)),
            _ => {
                let other = &others[rng.usize(0..others.len())];
                let from = rng.usize(0..=other.len());
                let to = rng.usize(from..=other.len().min(from + 40));
                mutant.splice(at..at, other[from..to].iter().copied());
            }
        }
    }
    mutant
}

#[test]
fn the_corpus_of_rule_holds() {
    replay("rule", check::rule);
}

#[test]
fn the_corpus_of_json_holds() {
    replay("json", check::json);
}

#[test]
fn the_corpus_of_yaml_holds() {
    replay("yaml", check::yaml);
}
