//! The published result: a rate per key.

use super::order;
use core::borrow::Borrow;
use w3c_traceparent_parser::otel::Threshold;

/// Rates per key under a version number that grows with every change. Small enough to be fetched by
/// every filter: keys whose rate is that of unlisted keys have no entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table<K> {
    version: u64,
    /// Sorted by key.
    entries: Box<[(K, Threshold)]>,
    unlisted: Threshold,
}

impl<K: Ord> Table<K> {
    /// The same rate for every key, as version 0.
    #[must_use]
    pub fn uniform(threshold: Threshold) -> Self {
        Self {
            version: 0,
            entries: Box::default(),
            unlisted: threshold,
        }
    }

    /// A table received from elsewhere. Of entries with the same key one is kept.
    #[must_use]
    pub fn from_entries(
        version: u64,
        mut entries: Vec<(K, Threshold)>,
        unlisted: Threshold,
    ) -> Self {
        entries.retain(|(_, threshold)| *threshold != unlisted);
        order::sort(&mut entries, |a, b| a < b);
        entries.dedup_by(|later, first| later.0 == first.0);
        Self {
            version,
            entries: entries.into(),
            unlisted,
        }
    }

    /// The table that follows; the version grows only when a rate changed.
    pub(super) fn next(&self, entries: Vec<(K, Threshold)>, unlisted: Threshold) -> Self {
        let mut next = Self::from_entries(self.version, entries, unlisted);
        if next != *self {
            next.version = self.version.saturating_add(1);
        }
        next
    }

    /// Grows with every change; an entity tag.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The threshold of a key. Does not allocate.
    #[must_use]
    pub fn threshold<Q>(&self, key: &Q) -> Threshold
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let found = self
            .entries
            .binary_search_by(|(entry, _)| entry.borrow().cmp(key));
        found
            .ok()
            .and_then(|at| self.entries.get(at))
            .map_or(self.unlisted, |(_, found)| *found)
    }

    /// The threshold of every key without an entry.
    #[must_use]
    pub const fn unlisted(&self) -> Threshold {
        self.unlisted
    }

    /// The entries in the order of their keys.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &(K, Threshold)> {
        self.entries.iter()
    }
}
