//! Which spans were seen lately: a retried batch must not be counted twice.
//!
//! The window is the last [`Dedup::per_half`] to twice that many accepted spans, about 33 bytes
//! each, held as two sets of which the older is dropped when the younger is full. With the
//! default of 64 MiB that is one to two million spans: minutes of retries at 10,000 spans/s.
//! Keys are exact (trace id and span id), so a fresh span is never taken for a duplicate.
//! Hashing is keyed at random per process. After a restart the window is filled again from the log and the youngest partitions.
//!
//! The first span with an id wins, whatever a later one says.

use std::collections::HashSet;

use foldhash::fast::RandomState;

/// Trace id and span id.
pub(crate) type Key = [u64; 3];

/// Bytes a key takes in a hash set at its usual load.
const BYTES_PER_KEY: usize = 33;

/// The window.
#[derive(Debug)]
pub(crate) struct Dedup {
    young: HashSet<Key, RandomState>,
    old: HashSet<Key, RandomState>,
    per_half: usize,
}

/// The key of a span.
pub(crate) fn key(trace_id: &[u8; 16], span_id: &[u8; 8]) -> Key {
    let trace = u128::from_be_bytes(*trace_id);
    [
        (trace >> 64) as u64,
        trace as u64,
        u64::from_be_bytes(*span_id),
    ]
}

impl Dedup {
    /// A window that takes at most `bytes` of memory.
    pub(crate) fn new(bytes: usize) -> Self {
        let per_half = (bytes / 2 / BYTES_PER_KEY).max(1);
        Self {
            young: HashSet::default(),
            old: HashSet::default(),
            per_half,
        }
    }

    /// Remembers `key`; true when it was not in the window.
    pub(crate) fn insert(&mut self, key: Key) -> bool {
        if self.old.contains(&key) || !self.young.insert(key) {
            return false;
        }
        if self.young.len() >= self.per_half {
            self.old = std::mem::take(&mut self.young);
        }
        true
    }

    /// Keys in the window.
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Keys after which the older half is dropped.
    pub(crate) fn per_half(&self) -> usize {
        self.per_half
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_holds_at_least_its_half_and_at_most_all_of_it() {
        let mut dedup = Dedup::new(2 * 100 * BYTES_PER_KEY);
        let fresh = |dedup: &mut Dedup, id: u64| dedup.insert([0, 1, id]);
        for id in 0..1_000 {
            assert!(fresh(&mut dedup, id));
            assert!(!fresh(&mut dedup, id), "an immediate retry is a duplicate");
            if id >= 100 {
                assert!(!fresh(&mut dedup, id - 99), "so is one 99 spans later");
            }
            assert!(dedup.len() <= 200);
        }
        assert!(
            fresh(&mut dedup, 0),
            "beyond the window it is not known any more"
        );
    }
}
