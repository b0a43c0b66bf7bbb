//! Which spans were seen lately: a retried batch must not be counted twice.
//!
//! The window is the last [`Dedup::per_half`] to twice that many accepted spans, held as two sets
//! of which the older is emptied when the younger is full. A set never grows beyond the buckets it
//! may have, and an emptied one is used again, so that memory is [`Dedup::max_bytes`] and no more.
//! With the default of 64 MiB that is 50 MiB for 0.9 to 1.8 million spans: minutes of retries at
//! 10,000 spans/s.
//! Keys are exact (trace id and span id), so a fresh span is never taken for a duplicate.
//! Hashing is keyed at random per process. After a restart the window is filled again from the log and the youngest partitions.
//!
//! The first span with an id wins, whatever a later one says.

use std::collections::HashSet;

use foldhash::fast::RandomState;

/// Trace id and span id.
pub(crate) type Key = [u64; 3];

/// Bytes of a bucket: the key and a byte of the hash.
const BUCKET: usize = size_of::<Key>() + 1;
/// Buckets come in powers of two, of which seven in eight are filled.
const MIN_BUCKETS: usize = 16;

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
        let buckets = (bytes / 2 / BUCKET).max(MIN_BUCKETS);
        let buckets = 1usize.checked_shl(buckets.ilog2()).unwrap_or(MIN_BUCKETS);
        Self {
            young: HashSet::default(),
            old: HashSet::default(),
            per_half: buckets / 8 * 7,
        }
    }

    /// Remembers the keys of a request; `is_new` says of each whether it was not in the window.
    ///
    /// One step for all keys after the other: what a look-up waits for is memory, and then the
    /// processor fetches for several keys at the same time.
    pub(crate) fn insert_all(&mut self, keys: &[Key], is_new: &mut Vec<bool>) {
        is_new.clear();
        if self.young.len() + keys.len() >= self.per_half {
            is_new.extend(keys.iter().map(|key| self.insert(*key)));
            return;
        }
        is_new.extend(keys.iter().map(|key| !self.old.contains(key)));
        for (key, is_new) in keys.iter().zip(is_new) {
            *is_new = *is_new && self.young.insert(*key);
        }
    }

    /// Remembers `key`; true when it was not in the window.
    pub(crate) fn insert(&mut self, key: Key) -> bool {
        if self.old.contains(&key) || !self.young.insert(key) {
            return false;
        }
        if self.young.len() >= self.per_half {
            std::mem::swap(&mut self.old, &mut self.young);
            self.young.clear();
        }
        true
    }

    /// Keys in the window.
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Memory now, empty buckets included.
    pub(crate) fn bytes(&self) -> usize {
        let of = |set: &HashSet<Key, RandomState>| set.capacity() / 7 * 8 * BUCKET;
        of(&self.young) + of(&self.old)
    }

    /// The most memory it takes.
    pub(crate) fn max_bytes(&self) -> usize {
        2 * (self.per_half / 7 * 8) * BUCKET
    }

    /// Keys after which the older half is emptied.
    pub(crate) fn per_half(&self) -> usize {
        self.per_half
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_keys_at_once_are_told_apart_as_one_by_one() {
        let mut random = fastrand::Rng::with_seed(11);
        let (mut one, mut all) = (Dedup::new(2 * 128 * BUCKET), Dedup::new(2 * 128 * BUCKET));
        let mut is_new = Vec::new();
        for _ in 0..500 {
            let keys: Vec<Key> = (0..random.usize(0..40))
                .map(|_| [0, 1, random.u64(0..400)])
                .collect();
            all.insert_all(&keys, &mut is_new);
            let expected: Vec<bool> = keys.iter().map(|key| one.insert(*key)).collect();
            assert_eq!((&is_new, all.len()), (&expected, one.len()));
        }
    }

    #[test]
    fn the_window_holds_at_least_its_half_and_at_most_all_of_it() {
        let mut dedup = Dedup::new(2 * 128 * BUCKET);
        assert_eq!(dedup.per_half(), 112);
        let fresh = |dedup: &mut Dedup, id: u64| dedup.insert([0, 1, id]);
        for id in 0..1_000 {
            assert!(fresh(&mut dedup, id));
            assert!(!fresh(&mut dedup, id), "an immediate retry is a duplicate");
            if id >= 112 {
                assert!(!fresh(&mut dedup, id - 111), "so is one 111 spans later");
            }
            assert!(dedup.len() <= 224);
            assert!(dedup.bytes() <= dedup.max_bytes());
        }
        assert!(
            fresh(&mut dedup, 0),
            "beyond the window it is not known any more"
        );
    }
}
