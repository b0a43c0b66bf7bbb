//! Adaptive rates where traces begin: which threshold holds for a route now, and the counts from
//! which it follows.
//!
//! The collector computes one table per service from the counts of all proxies; this asks for it
//! now and then with the entity tag of the one at hand ([`Rates::poll`], [`Rates::on_answer`]),
//! and remembers the last good one. Without an answer for [`STALE_INTERVALS`] this worker follows
//! its own counts with the same controller and its share of the target (`local`). Until the
//! first of either the static rates of the policy hold. Rates depend on time and load, never on a
//! trace's randomness.
//!
//! What it is not: a part of hops at which no trace begins. They follow the decision that came
//! with the request, count nothing and ask for nothing.
//!
//! Limits: at most [`MAX_ROUTES`] routes are counted apart, further ones as `other`; one request is
//! under way at a time, with a pause after each that fails.

mod fetch;
mod local;

use mesh_config::Policy;
use mesh_config::adaptive::{Settings, Table};
use mesh_config::sampling::Threshold;

use crate::counters::{Counter, Counters};
use crate::ledger::MAX_TEXT_BYTES;
use crate::route::OTHER;

pub use fetch::{Answer, Request, Shared};
use fetch::{Fetch, Fetched};
use local::Local;

/// Intervals of the policy after which a table nobody confirmed is given up.
pub const STALE_INTERVALS: u64 = 3;

/// Routes counted apart at most; the policy's own cap on routes is usually far lower.
pub const MAX_ROUTES: usize = 10_000;

/// What decides at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Neither a table nor a window of own counts is there yet.
    Static,
    /// The collector's table.
    Table,
    /// This worker's own controller.
    Local,
}

/// One route at which traces begin.
#[derive(Debug, Clone, Copy, Default)]
struct Route {
    threshold: Option<Threshold>,
    /// Traces decided that are in no ledger delta yet.
    unsent: u64,
    /// Traces decided in the window of the own controller.
    window: u64,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Rates {
    service: String,
    interval_nanos: u64,
    /// The lowest and the highest threshold that the policy allows, whoever asks for another.
    bounds: (Threshold, Option<Threshold>),
    source: Source,
    /// Sorted by name; a vector because a further kind of map is 8 kB of code.
    routes: Vec<(Vec<u8>, Route)>,
    fetched: Option<Fetched>,
    fetch: Fetch,
    local: Local,
    unsent: bool,
}

fn cut(route: &[u8]) -> &[u8] {
    route.get(..MAX_TEXT_BYTES).unwrap_or(route)
}

impl Rates {
    /// Nothing known yet, for `service`.
    #[must_use]
    pub fn new(policy: &Policy, service: &str) -> Self {
        let adaptive = &policy.sampling.adaptive;
        let interval = adaptive.adjustment_interval.as_nanos();
        let interval_nanos = u64::try_from(interval).unwrap_or(u64::MAX);
        let bound = |rate: mesh_config::units::Probability| Threshold::from_probability(rate.get());
        let settings = Settings::from(&policy.sampling);
        Self {
            service: service.to_owned(),
            interval_nanos,
            bounds: (
                bound(adaptive.max_sampling_rate).unwrap_or(Threshold::ALWAYS),
                bound(adaptive.min_sampling_rate),
            ),
            source: Source::Static,
            routes: Vec::new(),
            fetched: None,
            fetch: Fetch::new(policy, service, interval_nanos),
            local: Local::new(settings.with_share(adaptive.local_share.get())),
            unsent: false,
        }
    }

    /// Counts a trace that begins on `route` and says which threshold holds for it; `None` leaves
    /// it to the static rates.
    pub fn root(&mut self, route: &[u8], counters: &mut Counters) -> Option<Threshold> {
        self.unsent = true;
        self.fetch.wanted = true;
        counters.bump(match self.source {
            Source::Static => Counter::RatesStatic,
            Source::Table => Counter::RatesTable,
            Source::Local => Counter::RatesLocal,
        });
        let at = self.place(route);
        let (_, route) = self.routes.get_mut(at)?;
        route.unsent += 1;
        route.window += 1;
        route.threshold
    }

    /// Where a route stands, or the one that further routes are counted as; now it does.
    fn place(&mut self, route: &[u8]) -> usize {
        let mut route = cut(route);
        let mut found = self.find(route);
        if found.is_err() && self.routes.len() >= MAX_ROUTES {
            route = OTHER;
            found = self.find(route);
        }
        match found {
            Ok(at) => at,
            Err(at) => {
                let fresh = Route {
                    threshold: self.lookup(route),
                    ..Route::default()
                };
                self.routes.insert(at, (route.to_vec(), fresh));
                at
            }
        }
    }

    fn find(&self, route: &[u8]) -> Result<usize, usize> {
        self.routes
            .binary_search_by(|(name, _)| name.as_slice().cmp(route))
    }

    /// The trace that was just counted is kept by a rule whatever the rate: it is not one of those
    /// that the rates decide.
    pub fn forced(&mut self, route: &[u8]) {
        let at = self.place(route);
        if let Some((_, route)) = self.routes.get_mut(at) {
            route.unsent = route.unsent.saturating_sub(1);
            route.window = route.window.saturating_sub(1);
        }
    }

    /// Hands over the counts per route since the last call.
    pub fn take_unsent(&mut self, mut take: impl FnMut(&[u8], u64)) {
        if !std::mem::take(&mut self.unsent) {
            return;
        }
        for (name, route) in &mut self.routes {
            if route.unsent > 0 {
                take(name, std::mem::take(&mut route.unsent));
            }
        }
    }

    /// Whether counts are here that no ledger has.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        self.unsent && self.routes.iter().any(|(_, route)| route.unsent > 0)
    }

    /// Takes over what the rates of an earlier policy knew of the same service. Its counts must
    /// have been taken.
    pub fn take_over(&mut self, previous: Self) {
        if previous.service != self.service || previous.fetched.is_none() {
            return;
        }
        self.fetched = previous.fetched;
        self.source = previous.source;
        if self.source == Source::Local {
            self.source = Source::Static;
        }
        self.fetch.wanted = previous.fetch.wanted;
    }

    /// Once per tick: gives up a table that nobody confirms and lets the own controller learn.
    pub fn tick(&mut self, now_nanos: u64) {
        let patience = self.interval_nanos.saturating_mul(STALE_INTERVALS);
        let fresh = (self.fetched.as_ref())
            .is_some_and(|fetched| now_nanos.saturating_sub(fetched.seen_at_nanos) <= patience);
        if fresh && self.source != Source::Table {
            self.enter(Source::Table);
        }
        let Some(duration_nanos) = self.local.window(now_nanos, self.interval_nanos) else {
            return;
        };
        let counts = self.routes.iter_mut();
        let counts = counts.map(|(name, route)| (&*name, std::mem::take(&mut route.window)));
        if fresh {
            counts.for_each(drop);
        } else {
            self.local.learn(duration_nanos, counts);
            self.enter(Source::Local);
        }
    }

    /// The request for the collector's table that has to be sent now, if any.
    pub fn poll(&mut self, now_nanos: u64, counters: &mut Counters) -> Option<Request<'_>> {
        self.fetch.poll(now_nanos, self.fetched.as_ref(), counters)
    }

    /// Whether [`Rates::poll`] would ask now: then a table that another worker has shared since is
    /// worth a look.
    #[must_use]
    pub fn is_due(&self, now_nanos: u64) -> bool {
        self.fetch.is_due(now_nanos)
    }

    /// Takes the answer. `Some` is to be shared with the other workers of the proxy.
    pub fn on_answer(
        &mut self,
        answer: &Answer<'_>,
        now_nanos: u64,
        entropy: u64,
        counters: &mut Counters,
    ) -> Option<Shared<'_>> {
        let before = self.fetched.take();
        let fetch = &mut self.fetch;
        let (after, fresh) = fetch.answered(
            answer,
            before,
            &self.service,
            (now_nanos, entropy),
            counters,
        );
        self.fetched = after;
        if !fresh {
            return None;
        }
        self.enter(Source::Table);
        self.fetched.as_ref().map(Fetched::shared)
    }

    /// Takes a table that another worker has shared, if it is newer than the one at hand.
    pub fn adopt(&mut self, shared: &[u8], now_nanos: u64, entropy: u64) {
        let patience = self.interval_nanos.saturating_mul(STALE_INTERVALS);
        let newest = self.fetched.as_ref().map_or(0, |held| held.seen_at_nanos);
        let Some(theirs) = Fetched::from_shared(shared, &self.service) else {
            return;
        };
        let age = now_nanos.saturating_sub(theirs.seen_at_nanos);
        if theirs.seen_at_nanos > newest && age <= patience {
            self.fetch.confirmed(theirs.seen_at_nanos, entropy);
            self.fetched = Some(theirs);
            self.enter(Source::Table);
        }
    }

    /// Version of the collector's table; 0 while another source decides.
    #[must_use]
    pub fn version(&self) -> u64 {
        let fetched = self.fetched.as_ref();
        let table = fetched.filter(|_| self.source == Source::Table);
        table.map_or(0, |fetched| fetched.table.version())
    }

    /// The source changed, or what it says.
    fn enter(&mut self, source: Source) {
        self.source = source;
        let mut routes = std::mem::take(&mut self.routes);
        for (name, route) in &mut routes {
            route.threshold = self.lookup(name);
        }
        self.routes = routes;
    }

    fn lookup(&self, route: &[u8]) -> Option<Threshold> {
        let table: &Table<Vec<u8>> = match self.source {
            Source::Static => return None,
            Source::Table => &self.fetched.as_ref()?.table,
            Source::Local => self.local.table(),
        };
        let (highest_rate, lowest_rate) = self.bounds;
        let threshold = table.threshold(route).max(highest_rate);
        Some(lowest_rate.map_or(threshold, |lowest| threshold.min(lowest)))
    }
}

#[cfg(test)]
mod tests;
