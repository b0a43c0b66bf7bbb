//! The default prices against the numbers that the specification's Python prints
//! (`data/price_golden.py` writes `data/price_golden.tsv`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use mesh_config::money::NanoUsd;
use mesh_config::price::PriceTable;

struct Vector<'a> {
    operation: &'a str,
    duration_ns: u64,
    bytes: u64,
    /// What `round(total_cost, 6)` returned.
    python: NanoUsd,
}

fn vectors() -> Vec<Vector<'static>> {
    let lines = include_str!("data/price_golden.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut fields = line.split('\t');
            let mut next = || fields.next().expect("four fields");
            Vector {
                operation: next(),
                duration_ns: next().parse().unwrap(),
                bytes: next().parse().unwrap(),
                python: next().parse().unwrap(),
            }
        })
        .collect()
}

/// Twice the distance of the exact cost from the nearest tie of rounding to micro-dollars, as an
/// exact fraction of a nano-dollar: `(numerator, denominator)`. Written from the formula, apart
/// from the code under test.
fn twice_distance_from_tie(base_nanos: u128, vector: &Vector<'_>) -> (u128, u128) {
    // base * (1 + ns/1e9 + bytes/(100 * 2^20)), over 1e9 * 2^20.
    let denominator = 1_000_000_000_u128 << 20;
    let cost = base_nanos
        * (denominator
            + (u128::from(vector.duration_ns) << 20)
            + u128::from(vector.bytes) * 10_000_000);
    let micro = 1_000 * denominator;
    ((2 * (cost % micro)).abs_diff(micro), denominator)
}

#[test]
fn costs_equal_the_python_after_rounding_to_six_decimals() {
    let table = PriceTable::default();
    let (mut equal, mut ties_equal, mut ties_apart) = (0, 0, 0);
    for vector in vectors() {
        let ours = table
            .cost(vector.operation, vector.duration_ns, vector.bytes)
            .round_to_micros();
        let base = u128::from(table.base(vector.operation).as_nanos());
        let (twice_distance, denominator) = twice_distance_from_tie(base, &vector);
        // Rounding to nano-dollars first can only matter within half a nano-dollar of a tie.
        let tie = twice_distance <= denominator;
        let name = format!(
            "{} {} ns {} B",
            vector.operation, vector.duration_ns, vector.bytes
        );
        match (tie, ours == vector.python) {
            (_, true) if !tie => equal += 1,
            (_, true) => ties_equal += 1,
            (true, false) => {
                // Ours is the tie rounded up; Python's binary float lay a little below it.
                let micro = NanoUsd::from_nanos(1_000);
                assert_eq!(ours, vector.python.saturating_add(micro), "{name}");
                ties_apart += 1;
            }
            (false, false) => panic!("{name}: `{ours}` but python prints `{}`", vector.python),
        }
    }
    println!(
        "golden vectors: {equal} equal, at ties {ties_equal} equal and {ties_apart} rounded up"
    );
    assert_eq!((equal, ties_equal, ties_apart), (851, 27, 4));
}

#[test]
fn a_tie_is_always_rounded_up() {
    let table = PriceTable::default();
    // 10 micro-dollars * 1.05 = 10.5 micro-dollars exactly; Python prints 0.00001 for it.
    let cost = table.cost("api_call", 50_000_000, 0);
    assert_eq!(cost, NanoUsd::from_nanos(10_500));
    assert_eq!(cost.round_to_micros(), NanoUsd::from_nanos(11_000));
}
