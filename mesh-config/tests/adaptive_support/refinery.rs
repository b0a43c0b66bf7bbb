//! An oracle of Refinery's EMA throughput sampler, written from its documented algorithm.
//!
//! Per interval an exponential moving average of the count per key is kept (weight 0.5; a key below
//! the age-out value of 0.5 is dropped). The goal of an interval is divided among keys in
//! proportion to the logarithm of their average, at least one event for each; what a key cannot use
//! goes to the keys after it in alphabetical order. Rates are whole numbers N (keep one in N),
//! rounded up. Before the first data N is 10, a key without a rate has N = 1. Its burst detection
//! (an early adjustment once an interval saw twice the average) is given to it as an adjustment at
//! the end of the window it happens in, which every sampler here gets anyway.

use super::Random;
use super::traffic::Sampler;
use std::collections::BTreeMap;

pub(crate) struct Refinery {
    goal_per_second: f64,
    averages: BTreeMap<u32, f64>,
    one_in: Option<BTreeMap<u32, f64>>,
}

/// The names of keys are in no order of traffic; numbers would be, to this algorithm's disadvantage.
fn name(key: u32) -> u32 {
    key.wrapping_mul(0x9e37_79b1)
}

const WEIGHT: f64 = 0.5;
const INITIAL_ONE_IN: f64 = 10.0;

impl Refinery {
    pub(crate) fn new(goal_per_second: f64) -> Self {
        Self {
            goal_per_second,
            averages: BTreeMap::new(),
            one_in: None,
        }
    }
}

impl Sampler for Refinery {
    fn keep(&mut self, key: u32, n: u64, random: &mut Random) -> u64 {
        let one_in = match &self.one_in {
            None => INITIAL_ONE_IN,
            Some(rates) => rates.get(&name(key)).copied().unwrap_or(1.0),
        };
        random.binomial(n, 1.0 / one_in)
    }

    fn adjust(&mut self, seen: &[(u32, u64)], _: &BTreeMap<u32, u64>, seconds: f64) {
        if seen.is_empty() {
            return;
        }
        for average in self.averages.values_mut() {
            *average *= 1.0 - WEIGHT;
        }
        for &(key, count) in seen {
            *self.averages.entry(name(key)).or_default() += WEIGHT * count as f64;
        }
        self.averages.retain(|_, average| *average >= WEIGHT);
        let logs: f64 = self
            .averages
            .values()
            .map(|average| average.max(1.0).log10())
            .sum();
        let per_log = self.goal_per_second * seconds / logs;
        let mut left_over = 0.0;
        let mut keys_left = self.averages.len() as f64;
        let mut rates = BTreeMap::new();
        for (&key, average) in &self.averages {
            let events = average.max(1.0);
            let from_others = left_over / keys_left;
            let goal = (events.log10() * per_log).max(1.0) + from_others;
            left_over -= from_others;
            keys_left -= 1.0;
            let one_in = if events <= goal {
                1.0
            } else {
                (events / goal).ceil()
            };
            left_over += goal - events / one_in;
            rates.insert(key, one_in);
        }
        self.one_in = Some(rates);
    }

    fn name(&self) -> &'static str {
        "refinery ema"
    }
}
