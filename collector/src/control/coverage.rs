//! How many proxies should have reported in a window.
//!
//! A proxy that decided many traces in one window and sends nothing in the next has either lost its
//! way to the collector or ended. For one window it counts as missing (the controller then scales
//! the others' counts up, or holds its table when too many are missing); if it stays away it is
//! gone. A proxy with little traffic is silent by chance, and is never expected.

use std::collections::{BTreeMap, BTreeSet};

/// Decisions in a window from which silence in the next one cannot be chance (a Poisson count of
/// this mean is zero once in nine million windows).
pub(super) const BUSY: u64 = 16;

/// Busy proxies of the last window.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    busy: BTreeSet<u64>,
}

impl Coverage {
    /// Takes the decisions by proxy of a window; returns how many proxies reported and how many
    /// were expected.
    ///
    /// Proxies with little traffic count only when there are no others: those that are missing were
    /// busy, and are to be replaced by the average of busy ones.
    pub(super) fn take(&mut self, proxies: &BTreeMap<u64, u64>) -> (u32, u32) {
        let size = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let missing = self.busy.iter().filter(|id| !proxies.contains_key(id));
        let missing = size(missing.count());
        self.busy = proxies
            .iter()
            .filter(|(_, decided)| **decided >= BUSY)
            .map(|(id, _)| *id)
            .collect();
        let reported = if self.busy.is_empty() {
            size(proxies.len())
        } else {
            size(self.busy.len())
        };
        (reported, reported.saturating_add(missing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(busy: std::ops::Range<u64>, quiet: std::ops::Range<u64>) -> BTreeMap<u64, u64> {
        let busy = busy.map(|id| (id, BUSY));
        busy.chain(quiet.map(|id| (id, BUSY - 1))).collect()
    }

    #[test]
    fn a_busy_proxy_is_missing_for_one_window_and_then_gone() {
        let mut coverage = Coverage::default();
        assert_eq!(coverage.take(&proxies(0..10, 20..25)), (10, 10));
        assert_eq!(coverage.take(&proxies(0..7, 20..25)), (7, 10));
        assert_eq!(coverage.take(&proxies(0..7, 20..25)), (7, 7));
    }

    #[test]
    fn proxies_that_became_quiet_are_not_missing() {
        let mut coverage = Coverage::default();
        assert_eq!(coverage.take(&proxies(0..4, 4..6)), (4, 4));
        assert_eq!(coverage.take(&proxies(0..2, 2..6)), (2, 2));
        assert_eq!(coverage.take(&proxies(0..0, 0..6)), (6, 6));
        assert_eq!(coverage.take(&proxies(0..0, 0..3)), (3, 3));
    }

    #[test]
    fn nobody_reporting_is_nobody() {
        let mut coverage = Coverage::default();
        assert_eq!(coverage.take(&proxies(0..4, 0..0)), (4, 4));
        assert_eq!(coverage.take(&proxies(0..0, 0..0)), (0, 4));
        assert_eq!(coverage.take(&proxies(0..0, 0..0)), (0, 0));
    }
}
