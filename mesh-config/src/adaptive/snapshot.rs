//! What a controller remembers, as plain values: to be stored and given back after a restart.
//!
//! It is not a wire format: how the values are written is the caller's business. What comes back
//! may have been damaged: values that a controller cannot hold are repaired or left out, never an
//! error.

use super::estimate::Estimate;
use super::{Controller, KeyState, Table, Unlisted};
use w3c_traceparent_parser::otel::Threshold;

/// What is remembered of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct KeySnapshot<K> {
    /// The key.
    pub key: K,
    /// Mean of its traffic.
    pub per_second: f64,
    /// Windows in the mean.
    pub windows: f64,
    /// Windows without a trace until now.
    pub idle_windows: u32,
    /// Whether it claims no part of the target.
    pub silent: bool,
    /// Whether it is always kept.
    pub exempt: bool,
}

/// All that a controller remembers. See [`Controller::snapshot`].
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot<K> {
    /// Keys with their estimates.
    pub keys: Vec<KeySnapshot<K>>,
    /// Version of the table.
    pub version: u64,
    /// Rate of keys without an entry.
    pub unlisted: Threshold,
    /// Rates by key.
    pub entries: Vec<(K, Threshold)>,
    /// Traffic per second and number of the keys that were new in the last window; `None` before
    /// the first window.
    pub last_new: Option<(f64, f64)>,
    /// The same of the keys evicted in the last window.
    pub last_evicted: (f64, f64),
    /// Traffic of a key that was unlisted in the last window.
    pub arrival_per_second: Option<f64>,
    /// Windows in a row that changed nothing.
    pub held_in_a_row: u32,
}

impl<K: Ord + Clone> Controller<K> {
    /// All that it remembers.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<K> {
        let keys = self.keys.iter().map(|(key, state)| {
            let (per_second, windows, idle_windows, silent) = state.traffic.parts();
            KeySnapshot {
                key: key.clone(),
                per_second,
                windows,
                idle_windows,
                silent,
                exempt: state.exempt,
            }
        });
        Snapshot {
            keys: keys.collect(),
            version: self.table.version(),
            unlisted: self.table.unlisted(),
            entries: self.table.entries().cloned().collect(),
            last_new: self.last_new.map(Unlisted::pair),
            last_evicted: self.last_evicted.pair(),
            arrival_per_second: self.arrival_per_second,
            held_in_a_row: self.held_in_a_row,
        }
    }

    /// A controller that remembers what `snapshot` says.
    #[must_use]
    pub fn restore(snapshot: Snapshot<K>) -> Self {
        let known = snapshot.keys.into_iter().map(|key| {
            let traffic =
                Estimate::from_parts(key.per_second, key.windows, key.idle_windows, key.silent);
            let state = KeyState {
                traffic,
                exempt: key.exempt,
            };
            (key.key, state)
        });
        Self {
            keys: known.collect(),
            table: Table::from_entries(snapshot.version, snapshot.entries, snapshot.unlisted),
            last_new: snapshot.last_new.map(Unlisted::from_pair),
            last_evicted: Unlisted::from_pair(snapshot.last_evicted),
            arrival_per_second: snapshot.arrival_per_second.map(traffic),
            held_in_a_row: snapshot.held_in_a_row,
        }
    }

    /// The traffic that a key's rate is based on, in traces per second; `None` for a key that is
    /// not remembered.
    #[must_use]
    pub fn traffic_per_second(&self, key: &K) -> Option<f64> {
        self.keys.get(key).map(|state| state.traffic.per_second())
    }
}

impl Unlisted {
    const fn pair(self) -> (f64, f64) {
        (self.per_second, self.keys)
    }

    fn from_pair((per_second, keys): (f64, f64)) -> Self {
        Self {
            per_second: traffic(per_second),
            keys: traffic(keys),
        }
    }
}

/// A number that traffic can be: finite and not negative.
pub(super) fn traffic(value: f64) -> f64 {
    if value.is_finite() {
        value.max(0.0)
    } else {
        0.0
    }
}
