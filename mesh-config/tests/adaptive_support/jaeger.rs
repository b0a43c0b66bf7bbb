//! An oracle of Jaeger's adaptive sampling, written from its documented algorithm.
//!
//! Every operation has a target of its own; to compare with a target for all, it gets an equal part
//! of it per operation. A new operation starts at probability 0.001. The collector knows only the
//! traces that were kept: per interval the probability is multiplied by target / kept, at most
//! doubled, unchanged within a tolerance of 30 %, doubled when nothing was kept, and never below
//! 0.00001. A client keeps at least one trace per minute and operation. Its default delay of two
//! minutes before counts are used is left out, in its favour.

use super::Random;
use super::traffic::Sampler;
use std::collections::BTreeMap;

pub(crate) struct Jaeger {
    target_per_operation: f64,
    window_minutes: f64,
    probabilities: BTreeMap<u32, f64>,
}

const INITIAL: f64 = 0.001;
const LEAST: f64 = 0.000_01;
const TOLERANCE: f64 = 0.3;

impl Jaeger {
    pub(crate) fn new(target_per_second: f64, operations: usize, window_seconds: f64) -> Self {
        Self {
            target_per_operation: target_per_second / operations as f64,
            window_minutes: window_seconds / 60.0,
            probabilities: BTreeMap::new(),
        }
    }
}

impl Sampler for Jaeger {
    fn keep(&mut self, key: u32, n: u64, random: &mut Random) -> u64 {
        let probability = self.probabilities.get(&key).copied().unwrap_or(INITIAL);
        // The lower-bound sampler of the client: a token per minute.
        let guaranteed = self.window_minutes.round().max(1.0) as u64;
        random.binomial(n, probability).max(n.min(guaranteed))
    }

    fn adjust(&mut self, seen: &[(u32, u64)], kept: &BTreeMap<u32, u64>, seconds: f64) {
        for &(key, _) in seen {
            self.probabilities.entry(key).or_insert(INITIAL);
        }
        for (key, probability) in &mut self.probabilities {
            let per_second = kept.get(key).copied().unwrap_or(0) as f64 / seconds;
            let factor = if per_second == 0.0 {
                2.0
            } else {
                self.target_per_operation / per_second
            };
            if per_second == 0.0 || (1.0 / factor - 1.0).abs() >= TOLERANCE {
                *probability = (*probability * factor.min(2.0)).clamp(LEAST, 1.0);
            }
        }
    }

    fn name(&self) -> &'static str {
        "jaeger adaptive"
    }
}
