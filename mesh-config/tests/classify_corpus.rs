//! How much the value detectors miss and find wrongly, on the generated corpus
//! (`data/classify_corpus.py` writes `data/classify_corpus.tsv`). Run with `--nocapture` for the
//! confusion table.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use mesh_config::classify::{Classifier, Kind};
use std::collections::BTreeMap;

/// What became of the values with one expected kind.
#[derive(Default)]
struct Row {
    right: usize,
    /// Another kind; a value that should be protected still is.
    other: BTreeMap<Kind, usize>,
    missed: usize,
    /// Values for the table: those that were missed or wrongly found.
    examples: Vec<String>,
}

impl Row {
    fn wrong(&self) -> usize {
        self.other.values().sum()
    }
}

fn confusion() -> BTreeMap<&'static str, Row> {
    let classifier = Classifier::default();
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    let lines = include_str!("data/classify_corpus.tsv").lines();
    for line in lines.filter(|line| !line.starts_with('#')) {
        let [expected, name, value] = line.splitn(3, '\t').collect::<Vec<_>>()[..] else {
            panic!("three columns in {line}")
        };
        // The mark keeps secret scanners of code hosts away from the file.
        let value = value.replace('\u{a4}', "");
        let found = classifier.classify(name.as_bytes(), value.as_bytes());
        let row = rows.entry(expected).or_default();
        match found {
            Some((_, kind)) if kind.as_str() == expected => row.right += 1,
            None if expected == "-" => row.right += 1,
            Some((_, kind)) => {
                *row.other.entry(kind).or_default() += 1;
                row.examples.push(value);
            }
            None => {
                row.missed += 1;
                row.examples.push(value);
            }
        }
    }
    rows
}

#[test]
fn few_values_are_missed_and_few_harmless_ones_are_found() {
    let rows = confusion();
    println!(
        "{:<20} {:>5} {:>6} {:>7} {:>6}  found instead",
        "expected", "all", "right", "missed", "other"
    );
    for (expected, row) in &rows {
        let all = row.right + row.missed + row.wrong();
        let (right, missed, wrong) = (row.right, row.missed, row.wrong());
        println!(
            "{expected:<20} {all:>5} {right:>6} {missed:>7} {wrong:>6}  {:?}",
            row.other
        );
        for value in row.examples.iter().take(10) {
            println!("{:<48}{value}", "");
        }
    }
    for (expected, row) in &rows {
        match *expected {
            // Random numbers that happen to have a card's prefix and check digit, and random ids
            // that nobody can tell from keys.
            "-" => assert!(row.wrong() <= 3, "{} of 2400 found wrongly", row.wrong()),
            "random_secret" => assert!(row.missed <= 2 && row.wrong() == 0, "{}", row.missed),
            // Everything with a structure is found, and as what it is.
            _ => assert_eq!((row.missed, row.wrong()), (0, 0), "{expected}"),
        }
    }
    assert_eq!(rows.len(), 15);
    assert_eq!(
        rows.values()
            .map(|row| row.right + row.missed + row.wrong())
            .sum::<usize>(),
        4_200
    );
}
