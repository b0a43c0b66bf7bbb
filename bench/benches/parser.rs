//! Time and allocations per header: this project's parser, a hand-written reader of 55 bytes,
//! and the other libraries, in one run.
//!
//! `cargo bench -p bench --bench parser`. Variants take turns in short slices, in a new random
//! order each round, so that the machine's moods hit all of them alike. Printed are the median
//! over the slices, the ratio to the named baseline of the group, and allocations per header.
//! Times differ from day to day, ratios within a run hold. It fails only if this project's parser
//! allocates; timing never decides over a check.
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

#[path = "parser/allocations.rs"]
mod allocations;
#[path = "parser/hand_written.rs"]
mod hand_written;
#[path = "parser/variants.rs"]
mod variants;

use std::hint::black_box;
use std::time::{Duration, Instant};

use variants::{Group, Inputs, Variant};

const ROUNDS: usize = 301;
const SLICE: Duration = Duration::from_micros(400);
const ALLOCATION_SAMPLE: u64 = 1024;

struct Measured {
    /// Nanoseconds per header, one entry per slice.
    slices: Vec<f64>,
    calls_per_slice: u64,
    allocations: f64,
}

fn main() {
    let rounds = match std::env::args().any(|argument| argument == "--quick") {
        true => 31,
        false => ROUNDS,
    };
    let inputs = Inputs::new(64, 0x7ace_5eed);
    let mut allocating = Vec::new();
    for group in variants::groups() {
        let measured = measure(&group, &inputs, rounds);
        report(&group, &measured);
        for (variant, measured) in group.variants.iter().zip(&measured) {
            if variant.is_ours && measured.allocations > 0.0 {
                allocating.push(variant.name);
            }
        }
    }
    assert!(
        allocating.is_empty(),
        "these must not allocate: {allocating:?}"
    );
}

fn measure(group: &Group, inputs: &Inputs, rounds: usize) -> Vec<Measured> {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut measured: Vec<Measured> = group
        .variants
        .iter()
        .map(|variant| prepare(variant, inputs))
        .collect();
    let mut order: Vec<usize> = (0..measured.len()).collect();
    for _ in 0..rounds {
        rng.shuffle(&mut order);
        for &index in &order {
            let calls = measured[index].calls_per_slice;
            let time = run(&group.variants[index], inputs, calls);
            measured[index]
                .slices
                .push(time.as_nanos() as f64 / calls as f64);
        }
    }
    measured
}

/// Counts allocations, and finds out how many calls fill a slice.
fn prepare(variant: &Variant, inputs: &Inputs) -> Measured {
    run(variant, inputs, ALLOCATION_SAMPLE);
    let before = allocations::count();
    run(variant, inputs, ALLOCATION_SAMPLE);
    let allocations = (allocations::count() - before) as f64 / ALLOCATION_SAMPLE as f64;
    let mut calls = ALLOCATION_SAMPLE;
    while run(variant, inputs, calls) < SLICE {
        calls *= 2;
    }
    Measured {
        slices: Vec::new(),
        calls_per_slice: calls,
        allocations,
    }
}

fn run(variant: &Variant, inputs: &Inputs, calls: u64) -> Duration {
    let start = Instant::now();
    (variant.run)(black_box(inputs), black_box(calls));
    start.elapsed()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn report(group: &Group, measured: &[Measured]) {
    let baseline = median(&measured[0].slices);
    println!("\n{} (baseline: {})", group.name, group.variants[0].name);
    println!(
        "{:<44} {:>9} {:>7} {:>7}",
        "variant", "ns/header", "ratio", "allocs"
    );
    for (variant, measured) in group.variants.iter().zip(measured) {
        let time = median(&measured.slices);
        let ratio = time / baseline;
        let (name, allocations) = (variant.name, measured.allocations);
        println!("{name:<44} {time:>9.2} {ratio:>7.2} {allocations:>7.2}");
    }
}
