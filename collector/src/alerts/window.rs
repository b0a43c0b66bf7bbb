//! A count over a sliding window.
//!
//! Kept in buckets of a 600th of the window, at least a second: a count leaves between the
//! window's length and a bucket more after it came. At most 602 buckets, whatever is counted.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Buckets of a full window.
const BUCKETS: u64 = 600;

/// See the module's documentation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Window {
    window_s: u64,
    /// Start in seconds since the epoch, count; oldest first.
    buckets: VecDeque<(u64, u64)>,
}

impl Window {
    /// An empty window of `window_s` seconds.
    pub(super) fn new(window_s: u64) -> Self {
        Self {
            window_s: window_s.max(1),
            buckets: VecDeque::new(),
        }
    }

    fn width_s(&self) -> u64 {
        (self.window_s / BUCKETS).max(1)
    }

    /// Length in seconds.
    pub(super) fn seconds(&self) -> u64 {
        self.window_s
    }

    /// Counts `count` at `now_s`; time does not run backwards between calls.
    pub(super) fn add(&mut self, now_s: u64, count: u64) {
        if count == 0 {
            return;
        }
        let start = now_s - now_s % self.width_s();
        match self.buckets.back_mut() {
            Some((last, sum)) if *last >= start => *sum = sum.saturating_add(count),
            _ => self.buckets.push_back((start, count)),
        }
    }

    /// Takes back what was counted at `at_s`, if that is still in the window.
    pub(super) fn take_back(&mut self, at_s: u64, count: u64) {
        let width_s = self.width_s();
        let bucket = self
            .buckets
            .iter_mut()
            .find(|(start, _)| (*start..start + width_s).contains(&at_s));
        if let Some((_, sum)) = bucket {
            *sum = sum.saturating_sub(count);
        }
    }

    /// The count within the window that ends at `now_s`.
    pub(super) fn value(&mut self, now_s: u64) -> u64 {
        let width_s = self.width_s();
        while self
            .buckets
            .front()
            .is_some_and(|(start, _)| start + width_s + self.window_s <= now_s + 1)
        {
            self.buckets.pop_front();
        }
        self.buckets
            .iter()
            .fold(0, |sum: u64, (_, count)| sum.saturating_add(*count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_leave_when_the_window_has_passed() {
        for window_s in [1, 60, 300, 86_400] {
            let mut window = Window::new(window_s);
            let width_s = (window_s / BUCKETS).max(1);
            let start = 1_000_000 * width_s;
            window.add(start, 3);
            window.add(start + window_s / 2, 4);
            assert_eq!(window.value(start + window_s - 1), 7, "{window_s}");
            let left = window.value(start + window_s + width_s);
            assert_eq!(left, if window_s == 1 { 0 } else { 4 }, "{window_s}");
            assert_eq!(window.value(start + 3 * window_s), 0, "{window_s}");
        }
    }

    #[test]
    fn what_is_taken_back_never_counts_below_zero_and_buckets_are_bounded() {
        let mut window = Window::new(604_800);
        for now_s in 0..1_300_000u64 {
            if now_s % 100 == 0 {
                window.add(now_s, 1);
                window.value(now_s);
            }
        }
        assert!(window.buckets.len() <= 602, "{}", window.buckets.len());
        let before = window.value(1_299_999);
        window.take_back(1_299_900, 1);
        window.take_back(5, 1_000);
        assert_eq!(window.value(1_299_999), before - 1);
        window.take_back(1_299_900, 1_000_000);
        assert!(window.value(1_299_999) < before);
    }
}
