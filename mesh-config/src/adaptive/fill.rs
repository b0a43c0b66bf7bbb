//! Water-filling: the level at which all keys together keep the target.

use super::Settings;

/// Halvings of the interval in which the level lies: enough for every digit of a double.
const STEPS: u32 = 64;

/// Keys of equal traffic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    /// Traces per second of one of them.
    pub(super) per_second: f64,
    /// How many they are.
    pub(super) keys: f64,
}

impl Demand {
    /// One key.
    pub(super) const fn one(per_second: f64) -> Self {
        Self {
            per_second,
            keys: 1.0,
        }
    }
}

/// The solution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    /// What a busy key keeps per second.
    pub(super) per_second: f64,
    /// True when the floors alone keep more than the target.
    pub(super) overshoot: bool,
    floor_per_second: f64,
    min_rate: f64,
    max_rate: f64,
}

impl Level {
    /// The rate of a key with this traffic.
    pub(super) fn rate(&self, per_second: f64) -> f64 {
        let kept = self.per_second.max(self.floor_per_second);
        let rate = if per_second > kept {
            kept / per_second
        } else {
            1.0
        };
        rate.max(self.min_rate).min(self.max_rate)
    }

    /// What all demands keep at this level.
    fn kept(&self, demands: &[Demand]) -> f64 {
        demands
            .iter()
            .map(|demand| demand.keys * demand.per_second * self.rate(demand.per_second))
            .sum()
    }
}

/// Finds the level. What is kept grows with it, so the interval between no level and the traffic of
/// the busiest key is halved until it is exact; a fixed number of steps keeps the time bounded and
/// the result the same on every machine.
pub(super) fn level(demands: &[Demand], target: f64, settings: &Settings) -> Level {
    let at = |per_second| Level {
        per_second,
        overshoot: false,
        floor_per_second: settings.floor_per_second(),
        min_rate: settings.min_rate,
        max_rate: settings.max_rate,
    };
    let busiest = demands
        .iter()
        .map(|demand| demand.per_second)
        .fold(0.0, f64::max);
    // With no traffic at all the level is the target, for whatever comes first.
    let (mut low, mut high) = (0.0, busiest.max(target));
    if at(high).kept(demands) <= target {
        return at(high);
    }
    let floors = at(low).kept(demands);
    if floors >= target {
        return Level {
            overshoot: floors > target,
            ..at(low)
        };
    }
    for _ in 0..STEPS {
        let middle = low + (high - low) / 2.0;
        if at(middle).kept(demands) <= target {
            low = middle;
        } else {
            high = middle;
        }
    }
    at(low)
}
