//! The controller under simulated traffic: steps, bursts, thousands of keys, missing reports, and
//! whether estimates stay unbiased.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod adaptive_support;

use adaptive_support::Random;
use adaptive_support::traffic::{Ours, SECOND_NS, run, zipf};
use mesh_config::adaptive::{Controller, Held, Settings, Window};
use w3c_traceparent_parser::otel::Threshold;

const SECONDS: f64 = 60.0;
const TARGET_PER_WINDOW: f64 = 100.0 * SECONDS;

fn window(counts: &[(u32, u64)]) -> Window<'_, u32> {
    Window {
        duration_ns: 60 * SECOND_NS,
        counts,
        overflow: 0,
        reported: 1,
        expected: 1,
    }
}

/// Kept traces of each window as a share of what the target allows.
fn shares(keys: &[f64], loads: &[f64], seed: u64) -> Vec<f64> {
    let mut random = Random(seed);
    let mut ours = Ours::new(Settings::default());
    let mut share = |load: &f64| {
        let means: Vec<f64> = keys.iter().map(|mean| mean * load).collect();
        let outcome = run(&mut ours, &means, SECONDS, &mut random);
        outcome.kept as f64 / TARGET_PER_WINDOW.min(outcome.seen as f64)
    };
    loads.iter().map(&mut share).collect()
}

#[test]
fn settles_within_ten_percent_two_intervals_after_a_tenfold_step() {
    let mixes = [
        ("1 key", vec![3_000.0]),
        ("10 equal keys", vec![300.0; 10]),
        ("200 keys", zipf(200, 1.0, 3_000.0)),
        ("3000 keys", zipf(3_000, 1.1, 5_000.0)),
        ("3000 equal rare keys", vec![0.2; 3_000]),
        ("4000 keys below one trace per window", vec![0.012; 4_000]),
    ];
    // A step inside a window shows as one window of mixed load.
    let steps: [(&str, [f64; 3]); 4] = [
        ("10x up", [1.0, 10.0, 10.0]),
        ("10x up in mid-window", [1.0, 5.5, 10.0]),
        ("10x down", [10.0, 1.0, 1.0]),
        ("10x down in mid-window", [10.0, 5.5, 1.0]),
    ];
    println!(
        "{:<38} {:<24} {:>7} {:>7} {:>7} {:>7}",
        "keys", "step", "at it", "1 later", "2 later", "3 later"
    );
    for (mix, keys) in &mixes {
        for (step, [before, during, after]) in &steps {
            let mut loads = vec![*before; 12];
            loads.push(*during);
            loads.extend([*after; 8]);
            let shares = shares(keys, &loads, 11);
            println!(
                "{mix:<38} {step:<24} {:>7.2} {:>7.2} {:>7.2} {:>7.2}",
                shares[12], shares[13], shares[14], shares[15]
            );
            for (at, share) in shares
                .iter()
                .enumerate()
                .filter(|(at, _)| (3..12).contains(at) || *at >= 14)
            {
                assert!(
                    (0.9..=1.1).contains(share),
                    "{mix}, {step}: {share:.3} in window {at}"
                );
            }
        }
    }
}

#[test]
fn a_burst_of_one_window_is_forgotten_within_two_windows() {
    for factor in [3.0, 10.0, 20.0] {
        let mut loads = vec![1.0; 10];
        loads.push(factor);
        loads.extend([1.0; 5]);
        let shares = shares(&zipf(500, 1.0, 2_000.0), &loads, 5);
        println!("burst {factor}x: {:.2?}", &shares[9..]);
        // After it too little is kept, never too much; and a rate grows tenfold at most.
        assert!(shares[11] < 1.1 && shares[12] < 1.1, "{shares:.3?}");
        let settled = if factor > 10.0 { 13 } else { 12 };
        assert!(
            shares[settled..]
                .iter()
                .all(|share| (0.9..=1.1).contains(share)),
            "{shares:.3?}"
        );
    }
}

#[test]
fn a_changing_mix_of_keys_stays_on_target() {
    // Every window, a tenth of the keys is replaced by keys never seen before.
    let mut random = Random(9);
    let mut ours = Ours::new(Settings::default());
    let means = zipf(1_000, 0.8, 3_000.0);
    for step in 0..30_u32 {
        let mut counts = Vec::new();
        let mut kept = 0.0;
        for (rank, mean) in (0_u32..).zip(&means) {
            let generation = (step + rank % 10) / 10;
            let key = rank + generation * 10_000;
            let count = random.poisson(mean * SECONDS);
            kept += count as f64 * ours.controller.table().threshold(&key).probability();
            counts.push((key, count));
        }
        let _ = ours
            .controller
            .update(&window(&counts), &ours.settings, |_| false);
        let share = kept / TARGET_PER_WINDOW;
        assert!(
            step < 3 || (0.85..=1.25).contains(&share),
            "{share:.3} in window {step}"
        );
    }
}

#[test]
fn rare_keys_keep_everything_and_every_key_its_floor() {
    let settings = Settings {
        floor_per_minute: 2.0,
        ..Settings::default()
    };
    let mut random = Random(3);
    let mut ours = Ours::new(settings);
    let means = zipf(2_000, 1.2, 30_000.0);
    for step in 0..40 {
        let counts: Vec<(u32, u64)> = (0..)
            .zip(&means)
            .map(|(key, mean)| (key, random.poisson(mean * SECONDS)))
            .collect();
        for (key, mean) in (0_u32..).zip(&means).filter(|_| step >= 5) {
            let rate = ours.controller.table().threshold(&key).probability();
            let kept = mean * SECONDS * rate;
            assert!(
                kept >= 0.5 * 2.0_f64.min(mean * SECONDS),
                "key {key}: {kept} in window {step}"
            );
            if mean * SECONDS <= 0.2 {
                assert!(
                    rate >= 1.0,
                    "key {key}: {rate} of {mean} per second in window {step}"
                );
            }
        }
        let _ = ours
            .controller
            .update(&window(&counts), &ours.settings, |_| false);
    }
    // On the average of its estimates, a key that is not rare keeps at least the floor too.
    let expected: f64 = (0_u32..)
        .zip(&means)
        .filter(|(_, mean)| **mean * SECONDS > 10.0)
        .map(|(key, mean)| mean * SECONDS * ours.controller.table().threshold(&key).probability())
        .fold(f64::INFINITY, f64::min);
    assert!(expected >= 1.2, "{expected}");
}

#[test]
fn missing_reports_hold_the_table_and_partial_ones_are_scaled_up() {
    let mut random = Random(4);
    let settings = Settings::default();
    let means = zipf(300, 1.0, 4_000.0);
    let mut controller = Controller::new(&settings);
    for step in 0..60_u32 {
        // Ten proxies with a tenth of the traffic each, of which some are silent in some windows.
        let reported = match step % 12 {
            6 => 0,
            7 => 3,
            8 => 7,
            9 => 5,
            _ => 10,
        };
        let mut counts = Vec::new();
        let mut kept = 0.0;
        for (key, mean) in (0_u32..).zip(&means) {
            let all: Vec<u64> = (0..10)
                .map(|_| random.poisson(mean * SECONDS / 10.0))
                .collect();
            let rate = controller.table().threshold(&key).probability();
            kept += all.iter().sum::<u64>() as f64 * rate;
            counts.push((key, all.iter().take(reported as usize).sum::<u64>()));
        }
        let before = controller.table().clone();
        let report = Window {
            reported,
            expected: 10,
            ..window(&counts)
        };
        let summary = controller.update(&report, &settings, |_| false);
        match reported {
            0 => assert_eq!(
                (summary.held, summary.held_in_a_row),
                (Some(Held::NoReports), 1)
            ),
            3 => assert_eq!(
                (summary.held, summary.held_in_a_row),
                (Some(Held::TooFewReports), 2)
            ),
            _ => assert_eq!((summary.held, summary.held_in_a_row), (None, 0)),
        }
        if summary.held.is_some() {
            assert_eq!(*controller.table(), before);
        }
        let share = kept / TARGET_PER_WINDOW;
        assert!(
            step < 2 || (0.9..=1.1).contains(&share),
            "{share:.3} in window {step}"
        );
    }
}

#[test]
fn proxies_on_their_own_keep_their_share_of_the_target() {
    let settings = Settings::default().with_share(0.1);
    let mut random = Random(8);
    let mut proxies: Vec<Controller<u32>> = (0..10).map(|_| Controller::new(&settings)).collect();
    let means = zipf(100, 1.0, 3_000.0);
    for step in 0..12 {
        let mut kept = 0.0;
        for proxy in &mut proxies {
            let counts: Vec<(u32, u64)> = (0..)
                .zip(&means)
                .map(|(key, mean)| (key, random.poisson(mean * SECONDS / 10.0)))
                .collect();
            let rate = |key| proxy.table().threshold(key).probability();
            kept += counts
                .iter()
                .map(|(key, count)| *count as f64 * rate(key))
                .sum::<f64>();
            let _ = proxy.update(&window(&counts), &settings, |_| false);
        }
        let share = kept / TARGET_PER_WINDOW;
        assert!(
            step < 2 || (0.9..=1.1).contains(&share),
            "{share:.3} in window {step}"
        );
    }
}

/// An adjusted count: what it estimates, and its variance and fourth cumulant if every trace is kept
/// on its own with the threshold's probability.
#[derive(Clone, Copy, Default)]
struct AdjustedCount {
    estimate: f64,
    truth: f64,
    variance: f64,
    cumulant: f64,
}

impl AdjustedCount {
    fn of(count: u64, threshold: Threshold, random: &mut Random) -> Self {
        let kept = (0..count)
            .filter(|_| random.trace() >= threshold.value())
            .count();
        let (rate, truth) = (threshold.probability(), count as f64);
        let spread = rate * (1.0 - rate);
        Self {
            estimate: kept as f64 * threshold.adjusted_count(),
            truth,
            variance: truth * spread / rate.powi(2),
            cumulant: truth * spread * (1.0 - 6.0 * spread) / rate.powi(4),
        }
    }

    fn add(&mut self, other: Self) {
        self.estimate += other.estimate;
        self.truth += other.truth;
        self.variance += other.variance;
        self.cumulant += other.cumulant;
    }
}

/// Independent estimates and how far they lie from the truth, in standard deviations.
#[derive(Default)]
struct Deviations {
    number: f64,
    sum: f64,
    sum_of_squares: f64,
    variance_of_squares: f64,
}

impl Deviations {
    fn add(&mut self, count: AdjustedCount) {
        if count.variance > 0.0 {
            let deviation = (count.estimate - count.truth) / count.variance.sqrt();
            self.number += 1.0;
            self.sum += deviation;
            self.sum_of_squares += deviation * deviation;
            // 2 for a normal deviation; sums of few traces have heavier tails.
            self.variance_of_squares += 2.0 + count.cumulant / count.variance.powi(2);
        }
    }

    /// Chi-square with `number` degrees of freedom, and the mean, both within four deviations.
    fn assert_unbiased(&self, what: &str) {
        let chi_square = (self.sum_of_squares - self.number) / self.variance_of_squares.sqrt();
        let mean = self.sum / self.number.sqrt();
        println!(
            "{what}: {} estimates, chi-square {:.0} ({chi_square:+.2} sigma), mean {mean:+.2} sigma",
            self.number, self.sum_of_squares
        );
        assert!(self.number >= 1_000.0, "{what}");
        assert!(chi_square.abs() < 4.0 && mean.abs() < 4.0, "{what}");
    }
}

#[test]
fn adjusted_counts_are_unbiased_over_many_seeds() {
    let means = zipf(60, 1.1, 40.0);
    let mut totals = Deviations::default();
    let mut single_keys = Deviations::default();
    let mut rare_keys = Deviations::default();
    for seed in 0..500 {
        let mut random = Random(seed);
        let settings = Settings {
            target_per_second: 4.0,
            ..Settings::default()
        };
        let mut controller = Controller::new(&settings);
        for step in 0..6 {
            // The load jumps, so that rates move all the time.
            let load = if step % 3 == 2 { 4.0 } else { 1.0 };
            let (mut total, mut rare) = (AdjustedCount::default(), AdjustedCount::default());
            let mut counts = Vec::new();
            for (key, mean) in (0_u32..).zip(&means) {
                let count = random.poisson(mean * load * 10.0);
                let adjusted =
                    AdjustedCount::of(count, controller.table().threshold(&key), &mut random);
                counts.push((key, count));
                total.add(adjusted);
                if key < 10 {
                    single_keys.add(adjusted);
                } else {
                    rare.add(adjusted);
                }
            }
            totals.add(total);
            rare_keys.add(rare);
            let report = Window {
                duration_ns: 10 * SECOND_NS,
                ..window(&counts)
            };
            let _ = controller.update(&report, &settings, |_| false);
        }
    }
    totals.assert_unbiased("all keys of a window");
    single_keys.assert_unbiased("each busy key of a window");
    rare_keys.assert_unbiased("all rare keys of a window");
}
