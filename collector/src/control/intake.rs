//! What was counted in the open window.
//!
//! Every delta that is new (the store knows) adds its decisions to the window in which it arrives.
//! A filter sends a delta every few seconds, so what arrives in a window is what happened in it, but
//! for those seconds.
//!
//! **Late deltas.** A filter that could not reach the collector sends one delta for all the time
//! that it was cut off. Counted in one window this would look like a burst. It is known by covering
//! more time than has passed since the filter's previous delta: only the share of its counts that
//! fits into that time counts here, the rest is late ([`Window::late`]). (A delta after a time
//! without requests covers that time too, but then as much time has passed.)
//!
//! Limits: [`MAX_KEYS`] keys in a window, further ones are counted together; [`MAX_PROXIES`] filter
//! instances, the decisions of further ones count but nobody misses them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::table::{Key, fnv1a};
use crate::otlp::metrics::Delta;

/// Keys of one window.
pub(super) const MAX_KEYS: usize = 16_384;
/// Filter instances that are told apart.
const MAX_PROXIES: usize = 50_000;
/// Windows after which a silent instance is forgotten.
const FORGET_AFTER: u32 = 10;
/// Slack on top of the filter's own interval before a delta counts as late.
const SLACK_MS: u64 = 1_000;
/// The filter's name for all routes beyond its limit.
const OTHER_ROUTE: &str = "other";

/// What one collector counted in one window.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Window {
    /// Start, milliseconds since the epoch.
    pub(super) from_ms: u64,
    /// End.
    pub(super) until_ms: u64,
    /// Traces decided by key.
    pub(super) counts: BTreeMap<Key, u64>,
    /// Traces of keys beyond the limits, here or in the filter.
    pub(super) overflow: u64,
    /// Decisions that came too late to be counted.
    pub(super) late: u64,
    /// Decisions by filter instance (its name's hash).
    pub(super) proxies: BTreeMap<u64, u64>,
}

impl Window {
    /// Length in milliseconds.
    pub(super) fn length_ms(&self) -> u64 {
        self.until_ms.saturating_sub(self.from_ms)
    }

    /// False when the clock was set back or far ahead: the window then says nothing.
    pub(super) fn is_plausible(&self, interval_ms: u64) -> bool {
        let length_ms = self.length_ms();
        length_ms >= interval_ms / 4 && length_ms <= interval_ms.saturating_mul(2)
    }

    /// What a count is multiplied by, as if the window had the length of the interval.
    pub(super) fn share(&self, interval_ms: u64) -> Share {
        Share {
            numerator: interval_ms,
            denominator: self.length_ms().max(1),
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Proxy {
    last_ms: u64,
    decided: u64,
    silent_windows: u32,
}

#[derive(Debug, Default)]
struct Open {
    window: Window,
    proxies: HashMap<u64, Proxy>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Intake {
    enabled: bool,
    flush_ms: u64,
    open: Mutex<Open>,
}

impl Intake {
    /// Nothing counted yet. `flush` is the time between two deltas of a filter.
    pub(super) fn new(enabled: bool, flush: Duration, now_ms: u64) -> Self {
        let mut open = Open::default();
        open.window.from_ms = now_ms;
        Self {
            enabled,
            flush_ms: u64::try_from(flush.as_millis()).unwrap_or(u64::MAX),
            open: Mutex::new(open),
        }
    }

    /// Counts a delta that was not counted before.
    pub(crate) fn observe(&self, delta: &Delta, now_ms: u64) {
        if !self.enabled || delta.decided.is_empty() {
            return;
        }
        let mut open = self.lock();
        let covered_ms =
            u64::try_from(delta.until_ns.saturating_sub(delta.from_ns)).unwrap_or(0) / 1_000_000;
        let instance = fnv1a(delta.instance.as_bytes());
        let known = open.proxies.get(&instance).copied();
        let share = self.share(
            covered_ms,
            known.map(|proxy| now_ms.saturating_sub(proxy.last_ms)),
        );
        let mut total = 0;
        for (route, decided) in &delta.decided {
            let counted = share.of(*decided);
            open.window.late = open.window.late.saturating_add(decided - counted);
            open.window.add(&delta.service, route, counted, MAX_KEYS);
            total += counted;
        }
        open.note(instance, known, total, now_ms);
    }

    /// The share of a delta's counts that belongs to the time since the previous one.
    fn share(&self, covered_ms: u64, since_ms: Option<u64>) -> Share {
        let Some(since_ms) = since_ms else {
            return Share::ALL;
        };
        // A retry may leave no time between two deltas; one interval's worth is always taken.
        let fits_ms = since_ms.max(self.flush_ms).saturating_add(SLACK_MS);
        if covered_ms <= fits_ms {
            Share::ALL
        } else {
            Share {
                numerator: fits_ms,
                denominator: covered_ms,
            }
        }
    }

    /// Ends the window and begins the next one.
    pub(super) fn close(&self, now_ms: u64) -> Window {
        let mut open = self.lock();
        let next = Window {
            from_ms: now_ms,
            ..Window::default()
        };
        let mut window = std::mem::replace(&mut open.window, next);
        window.until_ms = now_ms;
        for (instance, proxy) in &mut open.proxies {
            if proxy.decided > 0 {
                window.proxies.insert(*instance, proxy.decided);
                proxy.silent_windows = 0;
            } else {
                proxy.silent_windows += 1;
            }
            proxy.decided = 0;
        }
        open.proxies
            .retain(|_, proxy| proxy.silent_windows < FORGET_AFTER);
        window
    }

    /// When the open window began.
    pub(super) fn opened_ms(&self) -> u64 {
        self.lock().window.from_ms
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Counts are only ever added to; a panic elsewhere leaves them usable.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn note(&mut self, instance: u64, known: Option<Proxy>, decided: u64, now_ms: u64) {
        if known.is_none() && self.proxies.len() >= MAX_PROXIES {
            return;
        }
        let proxy = self.proxies.entry(instance).or_default();
        proxy.last_ms = now_ms;
        // A delta of which nothing is left was a report all the same.
        proxy.decided = proxy.decided.saturating_add(decided.max(1));
    }
}

impl Window {
    /// Adds decisions of one key, if there is room for it among `max_keys`.
    pub(super) fn add(&mut self, service: &str, route: &str, decided: u64, max_keys: usize) {
        if decided == 0 {
            return;
        }
        let key = Key {
            service: service.into(),
            route: route.into(),
        };
        let full = self.counts.len() >= max_keys;
        match self.counts.get_mut(&key) {
            Some(count) => *count = count.saturating_add(decided),
            None if full || route == OTHER_ROUTE => {
                self.overflow = self.overflow.saturating_add(decided);
            }
            None => {
                self.counts.insert(key, decided);
            }
        }
    }
}

/// A part of a whole, rounded half up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    pub(super) numerator: u64,
    /// Never zero.
    pub(super) denominator: u64,
}

impl Share {
    const ALL: Self = Self {
        numerator: 1,
        denominator: 1,
    };

    /// The part of `count`.
    pub(super) fn of(self, count: u64) -> u64 {
        let scaled = u128::from(count) * u128::from(self.numerator);
        let denominator = u128::from(self.denominator.max(1));
        u64::try_from((scaled + denominator / 2) / denominator).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: i64 = 1_000_000_000;

    fn delta(instance: &str, covered_s: i64, decided: &[(&str, u64)]) -> Delta {
        Delta {
            service: "checkout".into(),
            instance: instance.into(),
            from_ns: 1_000 * SECOND_NS,
            until_ns: (1_000 + covered_s) * SECOND_NS,
            decided: decided
                .iter()
                .map(|(route, count)| ((*route).to_owned(), *count))
                .collect(),
            ..Delta::default()
        }
    }

    fn intake() -> Intake {
        Intake::new(true, Duration::from_secs(5), 0)
    }

    fn count(window: &Window, route: &str) -> u64 {
        let key = Key {
            service: "checkout".into(),
            route: route.into(),
        };
        window.counts.get(&key).copied().unwrap_or(0)
    }

    #[test]
    fn a_window_adds_up_what_arrived_in_it_and_says_who_reported() {
        let intake = intake();
        intake.observe(&delta("a", 5, &[("/cart", 10), ("/pay", 7)]), 5_000);
        intake.observe(&delta("b", 5, &[("/cart", 3), ("other", 4)]), 6_000);
        let window = intake.close(60_000);
        assert_eq!((count(&window, "/cart"), count(&window, "/pay")), (13, 7));
        assert_eq!(window.overflow, 4);
        let proxies = [(fnv1a(b"a"), 17), (fnv1a(b"b"), 7)];
        assert_eq!(window.proxies, BTreeMap::from(proxies));
        assert_eq!(window.length_ms(), 60_000);
        let next = intake.close(120_000);
        assert_eq!((next.proxies.len(), next.counts.len()), (0, 0));
    }

    #[test]
    fn a_delta_that_waited_for_the_collector_is_no_burst() {
        let intake = intake();
        intake.observe(&delta("a", 5, &[("/cart", 50)]), 5_000);
        // Away for ten minutes: the sealed delta comes first, then one for all the time.
        intake.observe(&delta("a", 5, &[("/cart", 50)]), 605_000);
        intake.observe(&delta("a", 600, &[("/cart", 6_000)]), 605_100);
        let window = intake.close(660_000);
        assert_eq!(count(&window, "/cart"), 50 + 50 + 60);
        assert_eq!(window.late, 5_940);
    }

    #[test]
    fn a_delta_after_a_time_without_requests_counts_in_full() {
        let intake = intake();
        intake.observe(&delta("a", 5, &[("/cart", 50)]), 5_000);
        intake.observe(&delta("a", 600, &[("/cart", 40)]), 605_000);
        let window = intake.close(660_000);
        assert_eq!((count(&window, "/cart"), window.late), (90, 0));
    }

    #[test]
    fn keys_beyond_the_limit_are_counted_together() {
        let intake = intake();
        for index in 0..MAX_KEYS + 10 {
            let route = format!("/{index}");
            intake.observe(&delta("a", 5, &[(route.as_str(), 2)]), 1_000);
        }
        let window = intake.close(60_000);
        assert_eq!((window.counts.len(), window.overflow), (MAX_KEYS, 20));
    }

    #[test]
    fn filters_that_send_no_decisions_are_not_counted_as_reporting() {
        let intake = intake();
        intake.observe(&delta("a", 5, &[]), 1_000);
        assert!(intake.close(60_000).proxies.is_empty());
    }
}
