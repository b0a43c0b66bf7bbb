//! The adaptive controller: which share of each key's traces to keep, so that the whole mesh keeps a
//! target number per second.
//!
//! [`Controller::update`] is a pure function of the counts of one window and of what the controller
//! knew before: no clock, no randomness, the same inputs give the same [`Table`]. It must be fed
//! with **exact counts of the traces whose decision the table makes** (each trace once, at its root,
//! kept or not), which the ledgers have; it never estimates traffic from what was kept. Decisions of
//! priority rules are not its business: they keep traces beyond the target.
//!
//! # How the rates come about
//!
//! 1. **Estimate** each key's traces per second from the windows seen so far (`estimate`): a mean
//!    that smooths the noise of small counts, but starts anew when a count cannot be noise.
//! 2. **Fill** (`fill`): one level L, the same for all keys, such that keeping `min(traffic, L)` of
//!    every key adds up to the target. A key with less traffic than L keeps everything; the others
//!    share what is left in equal parts. This is the max-min fair division. Every key keeps at least
//!    [`Settings::floor_per_minute`], and a rate stays within [`Settings::min_rate`] and
//!    [`Settings::max_rate`], even if the target is then exceeded; [`Summary::overshoot`] says so.
//! 3. **Step**: against one absurd report, a key's rate grows or falls in one window at most by
//!    [`Settings::max_increase`] and [`Settings::max_decrease`].
//!
//! # Keys that come and go
//!
//! * All keys without an entry share [`Table::unlisted`]. It begins at [`Settings::initial_rate`];
//!   from the second window on it is filled like the listed keys, by the average size of a key that
//!   was new in the last window, so that a rare key keeps everything at its first trace already
//!   while such keys are small. New keys are listed after their first window.
//! * A key that falls silent keeps its rate and stops claiming a part of the target. What is
//!   remembered of its traffic halves every window, so that it is cut soon enough when it comes back;
//!   after [`Settings::forget_after`] silent windows it is forgotten.
//! * Of more than [`Settings::max_keys`] keys those with the most traffic are listed.
//! * A window in which too few proxies reported, or of no length, changes nothing ([`Held`]).
//!
//! # What it is not
//!
//! It does not limit bursts within a window: a table holds until the next one. A traffic step is met
//! by the first table made from a full window of the new traffic.
//!
//! One proxy without a collector runs the same controller with [`Settings::with_share`].
//!
//! Limits: time and memory grow with the keys reported, at most [`MAX_REPORTED_KEYS`] of which are
//! looked at; the rest counts as traffic of one unlisted key. Looking up a rate allocates nothing.

mod answer;
mod estimate;
mod fill;
pub(crate) mod order;
mod policy;
mod settings;
mod snapshot;
mod table;

pub use answer::{AnswerError, MAX_ANSWER_BYTES, MAX_ANSWER_ROUTES};
pub use settings::Settings;
pub use snapshot::{KeySnapshot, Snapshot};
pub use table::Table;

use estimate::{Estimate, Observation};
use fill::Demand;
use std::collections::BTreeMap;
use w3c_traceparent_parser::otel::Threshold;

/// Different keys of one window that are looked at; far above what ledgers with a cap of their own
/// report.
pub const MAX_REPORTED_KEYS: usize = 1 << 17;

/// What was counted in one window.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a, K> {
    /// Length of the window. Zero holds the table.
    pub duration_ns: u64,
    /// Traces decided per key, kept or not. In any order; a key that stands twice is added up.
    pub counts: &'a [(K, u64)],
    /// Traces of keys that the ledgers had no room to tell apart.
    pub overflow: u64,
    /// Proxies that reported.
    pub reported: u32,
    /// Proxies that should have. When only some are missing the counts are scaled up to all.
    pub expected: u32,
}

/// Why a window changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Held {
    /// The window has no length.
    EmptyWindow,
    /// Nobody reported.
    NoReports,
    /// A smaller share than [`Settings::min_coverage`] reported.
    TooFewReports,
}

impl Held {
    /// Every reason, in the order of their discriminants.
    pub const ALL: [Self; 3] = [Self::EmptyWindow, Self::NoReports, Self::TooFewReports];

    /// A stable label for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EmptyWindow => "empty_window",
            Self::NoReports => "no_reports",
            Self::TooFewReports => "too_few_reports",
        }
    }
}

/// What one update did, for metrics and pages.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// Set when the table was left as it is; all else is zero then.
    pub held: Option<Held>,
    /// Windows in a row that were held, this one included.
    pub held_in_a_row: u32,
    /// Traces per second in this window, exempt ones included.
    pub observed_per_second: f64,
    /// Those of exempt keys.
    pub exempt_per_second: f64,
    /// What the new table is expected to keep per second, without exempt keys.
    pub expected_per_second: f64,
    /// The level L: what a busy key keeps per second.
    pub level_per_second: f64,
    /// True when floors keep more than the target although the level is zero.
    pub overshoot: bool,
    /// Keys that were not known before this window.
    pub new_keys: usize,
    /// Keys forgotten after a long silence.
    pub forgotten: usize,
    /// Keys dropped because there are more than [`Settings::max_keys`].
    pub evicted: usize,
}

/// What is known of one key.
#[derive(Clone, Debug, PartialEq)]
struct KeyState {
    traffic: Estimate,
    exempt: bool,
}

/// Traffic of keys that were not listed in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Unlisted {
    per_second: f64,
    keys: f64,
}

/// The controller with all it remembers; its state is explicit, clonable and comparable.
#[derive(Clone, Debug, PartialEq)]
pub struct Controller<K> {
    keys: BTreeMap<K, KeyState>,
    table: Table<K>,
    /// Keys that were new in the last window, to tell a lasting stream of them from one arrival.
    last_new: Option<Unlisted>,
    /// Keys evicted in the last window.
    last_evicted: Unlisted,
    /// Traffic of a key that was unlisted in the last window; `None` until there were two.
    arrival_per_second: Option<f64>,
    held_in_a_row: u32,
}

impl<K: Ord + Clone> Controller<K> {
    /// A controller that has seen nothing. Its table keeps every key at `settings.initial_rate`.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let settings = settings.sane();
        Self {
            keys: BTreeMap::new(),
            table: Table::uniform(threshold(settings.initial_rate)),
            last_new: None,
            last_evicted: Unlisted::default(),
            arrival_per_second: None,
            held_in_a_row: 0,
        }
    }

    /// The table in force after the last update.
    #[must_use]
    pub const fn table(&self) -> &Table<K> {
        &self.table
    }

    /// Number of keys remembered, silent ones included.
    #[must_use]
    pub fn tracked_keys(&self) -> usize {
        self.keys.len()
    }

    /// Takes the counts of one window and makes the next table. Keys for which `exempt` is true are
    /// always kept; their traffic takes a part of the target only with [`Settings::count_exempt`].
    #[must_use = "the summary tells whether the table changed"]
    pub fn update(
        &mut self,
        window: &Window<'_, K>,
        settings: &Settings,
        exempt: impl Fn(&K) -> bool,
    ) -> Summary {
        let settings = settings.sane();
        if let Some(held) = held(window, &settings) {
            self.held_in_a_row = self.held_in_a_row.saturating_add(1);
            let held_in_a_row = self.held_in_a_row;
            return Summary {
                held: Some(held),
                held_in_a_row,
                ..Summary::default()
            };
        }
        self.held_in_a_row = 0;
        let mut summary = Summary::default();
        let unlisted = self.learn(window, &settings, &exempt, &mut summary);
        self.retable(unlisted, &settings, &mut summary);
        summary
    }

    /// Takes the counts into the estimates. Returns the traffic to expect from unlisted keys.
    fn learn(
        &mut self,
        window: &Window<'_, K>,
        settings: &Settings,
        exempt: &impl Fn(&K) -> bool,
        summary: &mut Summary,
    ) -> Unlisted {
        let seconds = window.duration_ns as f64 / 1e9;
        // Proxies are taken for alike: the missing ones saw what the others saw on average.
        let scale = f64::from(window.expected.max(window.reported)) / f64::from(window.reported);
        let (mut counts, overflow) = sum_by_key(window);
        summary.observed_per_second = overflow as f64 * scale / seconds;
        let mut observations = Vec::with_capacity(self.keys.len());
        for (key, state) in &mut self.keys {
            let count = counts.remove(key).unwrap_or(0) as f64 * scale;
            state.exempt = exempt(key);
            summary.observed_per_second += count / seconds;
            summary.exempt_per_second += if state.exempt { count / seconds } else { 0.0 };
            observations.push(Observation {
                count,
                estimate: &mut state.traffic,
            });
        }
        estimate::observe(observations, seconds, settings.smoothing);
        let tracked = self.keys.len();
        self.keys
            .retain(|_, state| state.traffic.idle_windows() < settings.forget_after);
        summary.forgotten = tracked - self.keys.len();
        summary.new_keys = counts.len();
        let mut arrived = Unlisted::default();
        arrived.add(overflow as f64 * scale / seconds);
        for (key, count) in counts {
            let per_second = count as f64 * scale / seconds;
            let traffic = Estimate::first(per_second);
            let state = KeyState {
                traffic,
                exempt: exempt(key),
            };
            summary.observed_per_second += per_second;
            if state.exempt {
                summary.exempt_per_second += per_second;
            } else {
                arrived.add(per_second);
            }
            self.keys.insert(key.clone(), state);
        }
        let mut evicted = Unlisted::default();
        for state in self.evict(settings.max_keys) {
            summary.evicted += 1;
            evicted.add(state.traffic.claim_per_second());
        }
        self.expect_unlisted(arrived, evicted)
    }

    /// What unlisted keys will bring in the next window: the keys evicted just now, and as many
    /// truly new ones as came in both of the last two windows. One arrival of many keys is no
    /// stream; they are listed now.
    fn expect_unlisted(&mut self, arrived: Unlisted, evicted: Unlisted) -> Unlisted {
        // Evicted keys with traffic arrive again; they are not new.
        let new = arrived.without(self.last_evicted);
        self.last_evicted = evicted;
        let Some(before) = self.last_new.replace(new) else {
            // In the first window every key is new: that says nothing about later arrivals.
            self.last_new = Some(Unlisted::default());
            self.arrival_per_second = (evicted.keys > 0.0).then(|| evicted.average());
            return evicted;
        };
        self.arrival_per_second = Some(arrived.average());
        let lasting = if before.per_second < new.per_second {
            before
        } else {
            new
        };
        Unlisted {
            per_second: evicted.per_second + lasting.per_second,
            keys: evicted.keys + lasting.keys,
        }
    }

    /// Removes the keys with the least traffic above a cap; exempt keys go last.
    fn evict(&mut self, max_keys: usize) -> Vec<KeyState> {
        if self.keys.len() <= max_keys {
            return Vec::new();
        }
        let mut order: Vec<(bool, f64, K)> = self
            .keys
            .iter()
            .map(|(key, state)| (state.exempt, state.traffic.per_second(), key.clone()))
            .collect();
        order::sort(&mut order, |a, b| {
            let order = (b.0.cmp(&a.0)).then(b.1.total_cmp(&a.1));
            order.then_with(|| a.2.cmp(&b.2)).is_lt()
        });
        order
            .iter()
            .skip(max_keys)
            .filter_map(|(_, _, key)| self.keys.remove(key))
            .collect()
    }

    /// Solves the level for the estimates and replaces the table.
    fn retable(&mut self, unlisted: Unlisted, settings: &Settings, summary: &mut Summary) {
        let adaptive = self.keys.values().filter(|state| !state.exempt);
        let mut demands: Vec<Demand> = adaptive
            .map(|state| Demand::one(state.traffic.claim_per_second()))
            .collect();
        demands.push(Demand {
            per_second: unlisted.average(),
            keys: unlisted.keys,
        });
        let exempt = if settings.count_exempt {
            summary.exempt_per_second
        } else {
            0.0
        };
        let target = (settings.target_per_second - exempt).max(0.0);
        let level = fill::level(&demands, target, settings);
        let before = &self.table;
        let unlisted_rate = match self.arrival_per_second {
            Some(arrival) => settings.step(before.unlisted(), level.rate(arrival)),
            None => settings.initial_rate,
        };
        let mut expected = unlisted.per_second * unlisted_rate;
        let mut entries = Vec::with_capacity(self.keys.len());
        for (key, state) in &self.keys {
            let rate = if state.exempt {
                1.0
            } else {
                settings.step(
                    before.threshold(key),
                    level.rate(state.traffic.per_second()),
                )
            };
            expected += if state.exempt {
                0.0
            } else {
                rate * state.traffic.claim_per_second()
            };
            entries.push((key.clone(), threshold(rate)));
        }
        summary.level_per_second = level.per_second;
        summary.overshoot = level.overshoot;
        summary.expected_per_second = expected;
        self.table = before.next(entries, threshold(unlisted_rate));
    }
}

impl Unlisted {
    /// Adds one key.
    fn add(&mut self, per_second: f64) {
        if per_second > 0.0 {
            self.per_second += per_second;
            self.keys += 1.0;
        }
    }

    /// What remains when others are taken away.
    fn without(self, others: Self) -> Self {
        Self {
            per_second: (self.per_second - others.per_second).max(0.0),
            keys: (self.keys - others.keys).max(0.0),
        }
    }

    /// Traffic of one of these keys.
    fn average(self) -> f64 {
        if self.keys > 0.0 {
            self.per_second / self.keys
        } else {
            0.0
        }
    }
}

/// Whether a window says too little to act on.
fn held<K>(window: &Window<'_, K>, settings: &Settings) -> Option<Held> {
    if window.duration_ns == 0 {
        Some(Held::EmptyWindow)
    } else if window.reported == 0 {
        Some(Held::NoReports)
    } else if f64::from(window.reported) < settings.min_coverage * f64::from(window.expected) {
        Some(Held::TooFewReports)
    } else {
        None
    }
}

/// Adds up the counts per key, without keys of no traffic; traffic above the limit of keys goes to
/// the overflow, which is the second value.
fn sum_by_key<'a, K: Ord>(window: &Window<'a, K>) -> (BTreeMap<&'a K, u64>, u64) {
    let mut sums: BTreeMap<&K, u64> = BTreeMap::new();
    let mut overflow = window.overflow;
    for (key, count) in window.counts.iter().filter(|(_, count)| *count > 0) {
        let full = sums.len() >= MAX_REPORTED_KEYS;
        match sums.get_mut(key) {
            Some(sum) => *sum = sum.saturating_add(*count),
            None if full => overflow = overflow.saturating_add(*count),
            None => {
                sums.insert(key, *count);
            }
        }
    }
    (sums, overflow)
}

/// The threshold of a rate between [`Settings::MIN_RATE`] and 1, which always has one.
fn threshold(rate: f64) -> Threshold {
    Threshold::from_probability(rate).unwrap_or(Threshold::ALWAYS)
}
