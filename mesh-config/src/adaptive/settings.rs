//! What an operator may choose about the controller.

use w3c_traceparent_parser::otel::Threshold;

/// The controller's settings. Values outside their range are moved to its nearest end, and what is
/// not a number to the default, so that an update never fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Traces to keep per second over all keys. Defaults to 100.
    pub target_per_second: f64,
    /// No key is kept at a lower rate, even if the target is exceeded. Defaults to 0.001.
    pub min_rate: f64,
    /// No key but an exempt one is kept at a higher rate. Defaults to 1.
    pub max_rate: f64,
    /// The rate of every key until the first window was counted. Defaults to 0.1.
    pub initial_rate: f64,
    /// Traces per minute that every key keeps on average (all of them, if it has fewer), even if the
    /// target is exceeded. Defaults to 1.
    pub floor_per_minute: f64,
    /// The least weight of the newest window in a key's mean, 0.01 to 1: a smaller one averages
    /// noise over more windows; changes beyond noise take effect at once anyway. Defaults to 0.2.
    pub smoothing: f64,
    /// A key's rate may grow in one window at most by this factor, 1.1 or more. Defaults to 10.
    pub max_increase: f64,
    /// A key's rate may fall in one window at most by this factor, 1.1 or more. Larger, since too
    /// much kept harms more than too little. Defaults to 100.
    pub max_decrease: f64,
    /// Windows without traffic after which a key is forgotten, at least 1. Defaults to 10.
    pub forget_after: u32,
    /// Keys that are listed. Bounds the table that every filter holds. Defaults to 4096.
    pub max_keys: usize,
    /// The share of proxies that must have reported for a window to count, 0 to 1. Defaults to 0.5.
    pub min_coverage: f64,
    /// Whether traces of exempt keys take a part of the target. Defaults to false.
    pub count_exempt: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            target_per_second: 100.0,
            min_rate: 0.001,
            max_rate: 1.0,
            initial_rate: 0.1,
            floor_per_minute: 1.0,
            smoothing: 0.2,
            max_increase: 10.0,
            max_decrease: 100.0,
            forget_after: 10,
            max_keys: 4096,
            min_coverage: 0.5,
            count_exempt: false,
        }
    }
}

impl Settings {
    /// The lowest rate that can be set. Far above the lowest that a threshold can express, and still
    /// one trace in a million.
    pub const MIN_RATE: f64 = 1e-6;

    /// These settings for one of several controllers that share the target, such as one proxy of a
    /// mesh whose collector is away: target and floor are multiplied by `share`, 0 to 1.
    #[must_use]
    pub fn with_share(&self, share: f64) -> Self {
        let share = within(share, 0.0, 1.0, 1.0);
        Self {
            target_per_second: self.target_per_second * share,
            floor_per_minute: self.floor_per_minute * share,
            ..*self
        }
    }

    /// Every value within its range.
    pub(super) fn sane(&self) -> Self {
        let default = Self::default();
        let min_rate = within(self.min_rate, Self::MIN_RATE, 1.0, default.min_rate);
        Self {
            target_per_second: within(self.target_per_second, 0.0, 1e12, default.target_per_second),
            min_rate,
            max_rate: within(self.max_rate, min_rate, 1.0, default.max_rate),
            initial_rate: within(self.initial_rate, Self::MIN_RATE, 1.0, default.initial_rate),
            floor_per_minute: within(self.floor_per_minute, 0.0, 1e12, default.floor_per_minute),
            smoothing: within(self.smoothing, 0.01, 1.0, default.smoothing),
            max_increase: within(self.max_increase, 1.1, 1e9, default.max_increase),
            max_decrease: within(self.max_decrease, 1.1, 1e9, default.max_decrease),
            forget_after: self.forget_after.max(1),
            max_keys: self.max_keys,
            min_coverage: within(self.min_coverage, 0.0, 1.0, default.min_coverage),
            count_exempt: self.count_exempt,
        }
    }

    /// The floor in the unit of the estimates.
    pub(super) fn floor_per_second(&self) -> f64 {
        self.floor_per_minute / 60.0
    }

    /// Moves a rate towards `wanted` as far as one window allows. A rate outside its limits, such as
    /// an initial one, is not held back from returning to them.
    pub(super) fn step(&self, before: Threshold, wanted: f64) -> f64 {
        let before = before.probability();
        let (low, high) = (before / self.max_decrease, before * self.max_increase);
        wanted
            .max(low)
            .min(high)
            .max(self.min_rate)
            .min(self.max_rate)
    }
}

/// `value` within a range, or `default` when it is not a number. Unlike `f64::clamp` never panics.
fn within(value: f64, low: f64, high: f64, default: f64) -> f64 {
    let value = if value.is_nan() { default } else { value };
    value.min(high).max(low)
}
