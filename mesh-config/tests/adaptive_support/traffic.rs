//! Traffic per key and window, and how well a controller divided it.

use super::Random;
use mesh_config::adaptive::{Controller, Settings, Window};
use std::collections::BTreeMap;

pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// Anything that answers with rates and is told what happened.
pub(crate) trait Sampler {
    /// Keeps some of `n` traces of a key.
    fn keep(&mut self, key: u32, n: u64, random: &mut Random) -> u64;
    /// The window ended: the traffic and what was kept of it.
    fn adjust(&mut self, seen: &[(u32, u64)], kept: &BTreeMap<u32, u64>, seconds: f64);
    /// What it calls itself.
    fn name(&self) -> &'static str;
}

/// The controller under test.
pub(crate) struct Ours {
    pub(crate) controller: Controller<u32>,
    pub(crate) settings: Settings,
    /// Traces per key and window that are kept whatever the rate.
    pub(crate) floor: u64,
}

impl Ours {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            controller: Controller::new(&settings),
            settings,
            floor: 0,
        }
    }
}

impl Sampler for Ours {
    fn keep(&mut self, key: u32, n: u64, random: &mut Random) -> u64 {
        let rate = self.controller.table().threshold(&key).probability();
        random.binomial(n, rate).max(n.min(self.floor))
    }

    fn adjust(&mut self, seen: &[(u32, u64)], _: &BTreeMap<u32, u64>, seconds: f64) {
        let window = Window {
            duration_ns: (seconds * SECOND_NS as f64) as u64,
            counts: seen,
            overflow: 0,
            reported: 1,
            expected: 1,
        };
        let summary = self.controller.update(&window, &self.settings, |_| false);
        assert_eq!(summary.held, None);
    }

    fn name(&self) -> &'static str {
        if self.floor == 0 {
            "tracemeter"
        } else {
            "tracemeter + floor"
        }
    }
}

/// Mean traces per second of every key: Zipf with an exponent, scaled to a total.
pub(crate) fn zipf(keys: u32, exponent: f64, total_per_second: f64) -> Vec<f64> {
    let weights: Vec<f64> = (1..=keys)
        .map(|rank| f64::from(rank).powf(-exponent))
        .collect();
    let sum: f64 = weights.iter().sum();
    weights
        .iter()
        .map(|weight| weight / sum * total_per_second)
        .collect()
}

/// What happened in one window.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) seen: u64,
    pub(crate) kept: u64,
    /// Keys with 1 to 10 traces: how many, how many of these kept none, and their traces.
    pub(crate) rare_keys: u64,
    pub(crate) rare_keys_without: u64,
    pub(crate) rare_seen: u64,
    pub(crate) rare_kept: u64,
}

/// Runs one window of Poisson traffic.
pub(crate) fn run(
    sampler: &mut dyn Sampler,
    means: &[f64],
    seconds: f64,
    random: &mut Random,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut counts = Vec::new();
    let mut kept_by_key = BTreeMap::new();
    for (key, mean) in (0_u32..).zip(means) {
        let seen = random.poisson(mean * seconds);
        if seen == 0 {
            continue;
        }
        let kept = sampler.keep(key, seen, random);
        counts.push((key, seen));
        kept_by_key.insert(key, kept);
        outcome.seen += seen;
        outcome.kept += kept;
        if seen <= 10 {
            outcome.rare_keys += 1;
            outcome.rare_keys_without += u64::from(kept == 0);
            outcome.rare_seen += seen;
            outcome.rare_kept += kept;
        }
    }
    sampler.adjust(&counts, &kept_by_key, seconds);
    outcome
}
