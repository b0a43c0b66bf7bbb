//! How many times something happened per route in the current minute, bounded.
//!
//! Serves the floor for routes with little traffic and the cap for floods of client errors. Fixed
//! windows of a minute: a burst across a border can count twice, which a floor or cap can bear.
//!
//! Limit: at most `max_routes` routes are followed; [`PerMinute::take`] says no for others.

use std::collections::BTreeMap;

const MINUTE_NANOS: u64 = 60_000_000_000;

/// See the module documentation.
#[derive(Debug)]
pub struct PerMinute {
    allowance: u32,
    max_routes: usize,
    minute: u64,
    taken: BTreeMap<Vec<u8>, u32>,
}

impl PerMinute {
    /// `allowance` per minute and route.
    #[must_use]
    pub fn new(allowance: u32, max_routes: usize) -> Self {
        Self {
            allowance,
            max_routes,
            minute: 0,
            taken: BTreeMap::new(),
        }
    }

    /// Whether the allowance of `route` is not used up in this minute; if so one is taken.
    #[must_use]
    pub fn take(&mut self, route: &[u8], now_unix_nanos: u64) -> bool {
        if self.allowance == 0 {
            return false;
        }
        let minute = now_unix_nanos / MINUTE_NANOS;
        if minute != self.minute {
            self.minute = minute;
            self.taken.clear();
        }
        if let Some(taken) = self.taken.get_mut(route) {
            let free = *taken < self.allowance;
            *taken = taken.saturating_add(u32::from(free));
            return free;
        }
        if self.taken.len() >= self.max_routes {
            return false;
        }
        self.taken.insert(route.to_vec(), 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_route_has_its_allowance_per_minute() {
        let mut floor = PerMinute::new(2, 10);
        assert_eq!(
            [1, 2, 3].map(|now| floor.take(b"/a", now)),
            [true, true, false]
        );
        assert!(floor.take(b"/b", 4));
        assert!(floor.take(b"/a", MINUTE_NANOS));
    }

    #[test]
    fn routes_beyond_the_limit_get_nothing() {
        let mut floor = PerMinute::new(1, 1);
        assert!(floor.take(b"/a", 0));
        assert!(!floor.take(b"/b", 0));
        assert!(!PerMinute::new(0, 10).take(b"/a", 0));
    }
}
