//! Assembly: the traces that are under way, span by span, whatever the order of arrival.
//!
//! It answers what no single request can: how deep a trace is, which spans wait for a parent,
//! when a trace passes a bound, which of the policy's rules it meets. What it finds goes into the
//! stored parts of the trace (so that `trace_metadata` has it for ever) and, as [`Signals`],
//! to the alerts. It is pure: time comes in, nothing goes out by itself.
//!
//! It sees each span once (the store drops duplicates first) and keeps ids, not spans.
//!
//! # What counts as an orphan
//!
//! A span that names a parent which has not arrived when the grace is over. The grace runs from
//! the youngest span that names the parent, so a parent that outlives many children is not
//! missed early. Spans of the filter never count: a hop that was kept for its error alone has
//! ancestors that were rightly not kept, and the parent of an edge is the client's.
//!
//! # Memory
//!
//! At most [`Limits::bytes`]; beyond it the trace that was quiet longest goes first and is
//! counted. A trace that was quiet for [`QUIET_S`] goes anyway. A span that comes later begins
//! anew: sums in `trace_metadata` stay exact, since they are added up from the stored parts, but
//! depth and orphans are then those of the pieces, and a bound is measured on what came later.

mod facts;
mod graph;
mod keep;
mod signals;
mod traces;
mod watch;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::otlp::batch::{CostSource, SpanBatch, SpanRow};
use crate::policy::{FILTER_SCOPE, Rules};
use facts::SpanFacts;
use graph::Placed;
pub(crate) use keep::{KeepRules, WholeTrace};
pub(crate) use signals::{Counted, Crossing, Observed, Signals, Stats, Until};
use traces::{Missing, Total, Trace, Traces};
use watch::Counts;
pub(crate) use watch::Watches;

/// A trace that was quiet this long is complete: an hour covers what is retried and what
/// background work ends late.
const QUIET_S: u32 = 3_600;
/// The share of memory for judgements that wait for their time, as a divisor; beyond it the oldest
/// are left out and counted.
const DUE_SHARE: usize = 8;
/// Traces named between two looks at the signals; further ones are counted only.
const MAX_CROSSINGS: usize = 10_000;

/// Bounds of the assembly.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Memory. Defaults to 48 MiB: about 100,000 traces of ten spans.
    pub(crate) bytes: usize,
    /// How long a parent may take to arrive, in seconds. Defaults to 60.
    pub(crate) grace_s: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 48 << 20,
            grace_s: 60,
        }
    }
}

/// A judgement at the end of a grace: about the spans that wait for a parent, or (parent 0)
/// about a trace that may be quiet.
#[derive(Debug, Clone, Copy)]
struct Due {
    at_s: u32,
    trace: u128,
    parent: u64,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    limits: Limits,
    rules: Option<Arc<Rules>>,
    traces: Traces,
    due: VecDeque<Due>,
    signals: Signals,
    stats: Stats,
    /// What was counted before a restart.
    counted: Until,
    /// The youngest arrival.
    youngest_ns: u64,
}

fn seconds(ns: u64) -> u32 {
    u32::try_from(ns / 1_000_000_000).unwrap_or(u32::MAX)
}

impl Assembly {
    /// Sets bounds and rules; done once, before the first span.
    pub(crate) fn configure(&mut self, limits: Limits, rules: Arc<Rules>) {
        let watches = rules.watches().list.len();
        self.signals.counted = vec![Counted::default(); watches];
        self.limits = limits;
        self.rules = Some(rules);
    }

    /// Says what was counted before a restart.
    pub(crate) fn counted_until(&mut self, until: Until) {
        self.counted = until;
    }

    /// How it is doing.
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            traces: self.traces.len(),
            bytes: self.traces.bytes() + self.due.capacity() * size_of::<Due>(),
            ..self.stats
        }
    }

    /// Takes a new span that arrived at `at_ns`.
    pub(crate) fn observe(&mut self, batch: &SpanBatch, row: &SpanRow, at_ns: u64) -> Observed {
        // Out of the way meanwhile: counting references for every span would cost more than this.
        let rules = self.rules.take();
        let observed = self.observe_by(rules.as_deref(), batch, row, at_ns);
        self.rules = rules;
        observed
    }

    fn observe_by(
        &mut self,
        rules: Option<&Rules>,
        batch: &SpanBatch,
        row: &SpanRow,
        at_ns: u64,
    ) -> Observed {
        let at_s = seconds(at_ns);
        self.youngest_ns = self.youngest_ns.max(at_ns);
        let watches = rules.map(Rules::watches);
        let id = u128::from_be_bytes(row.trace_id);
        let at = self.traces.heard(id);
        let Some(trace) = self.traces.get_mut(at) else {
            return Observed::default();
        };
        let is_first = trace.spans == 0;
        add(trace, row, at_s);
        let span = SpanFacts::new(batch, row);
        if let Some(watches) = watches {
            total(trace, &span, watches, is_first);
        }
        let is_filter = batch.str(row.scope) == FILTER_SCOPE;
        let orphans = self.place(at, row, (is_filter, watches), at_s);
        let mut observed = Observed {
            orphans,
            ..Observed::default()
        };
        if let (Some(watches), Some(rules)) = (watches, rules) {
            if is_first && watches.settles {
                self.later(at_s.saturating_add(self.limits.grace_s), id, 0);
            }
            if at_ns > self.counted.arrived_ns {
                self.count(&span, watches, id);
            }
            self.cross(at, watches, false, at_ns);
            if let Some(trace) = self.traces.get_mut(at) {
                observed.keep = rules.keep_rules().of_span(trace, &span);
            }
        }
        if let Some(trace) = self.traces.get_mut(at) {
            observed.depth = trace.graph.depth();
        }
        self.traces.account(at);
        self.shrink();
        observed
    }

    /// Places a span below its parent; returns the change in the number of waiting spans.
    fn place(
        &mut self,
        at: u32,
        row: &SpanRow,
        (is_filter, watches): (bool, Option<&Watches>),
        at_s: u32,
    ) -> i64 {
        let due_s = at_s.saturating_add(self.limits.grace_s);
        let (own, parent) = (
            u64::from_be_bytes(row.span_id),
            u64::from_be_bytes(row.parent_id),
        );
        let Some(trace) = self.traces.get_mut(at) else {
            return 0;
        };
        let mut change = 0;
        let found = trace.missing.remove(own);
        let placed = trace.graph.add(own, parent);
        let mut is_new = false;
        if placed == Placed::Waiting && !is_filter {
            change += 1;
            is_new = trace.missing.change(parent, |missing| {
                missing.waiting = missing.waiting.saturating_add(1);
                missing.due_s = due_s;
                // One judgement waits per parent; it looks at `due_s` when its time comes.
                missing.waiting == missing.counted + 1
            });
        }
        if let Some(found) = found {
            change -= i64::from(found.waiting);
            if found.counted > 0
                && let Some(watches) = watches
            {
                self.take_back(&found, watches);
            }
        }
        match placed {
            Placed::Linked | Placed::Waiting => {}
            Placed::Circle => self.stats.circles += 1,
            Placed::Full => self.stats.unplaced += 1,
        }
        if is_new {
            self.later(due_s, u128::from_be_bytes(row.trace_id), parent);
        }
        change
    }

    fn later(&mut self, at_s: u32, trace: u128, parent: u64) {
        let most = (self.limits.bytes / DUE_SHARE / size_of::<Due>()).max(1);
        if self.due.len() >= most && self.due.pop_front().is_some() {
            self.stats.unjudged += 1;
        }
        self.due.push_back(Due {
            at_s,
            trace,
            parent,
        });
    }

    /// Spans that were reported as orphans have their parent after all.
    fn take_back(&mut self, found: &Missing, watches: &Watches) {
        for (counts, counted) in watches.list.iter().zip(&mut self.signals.counted) {
            if matches!(counts, Counts::Orphans) && counted.taken_back.len() < MAX_CROSSINGS {
                counted
                    .taken_back
                    .push((found.counted_s, u64::from(found.counted)));
            }
        }
    }

    /// Counts a span for the watches that count spans.
    fn count(&mut self, span: &SpanFacts<'_>, watches: &Watches, id: u128) {
        for (counts, counted) in watches.list.iter().zip(&mut self.signals.counted) {
            let counts = match counts {
                Counts::Unpriced => span.row.cost_source == CostSource::DefaultPrice,
                Counts::Without(attribute) => !span.has(attribute),
                Counts::Where(condition) => condition.eval(span).is_true(),
                Counts::Orphans | Counts::Traces(..) => false,
            };
            if counts {
                counted.add(1, id);
            }
        }
    }

    /// Looks whether a trace meets a condition that it did not meet before.
    fn cross(&mut self, at: u32, watches: &Watches, is_settled: bool, at_ns: u64) {
        let Some(trace) = self.traces.get_mut(at) else {
            return;
        };
        for (watch, counts) in watches.list.iter().enumerate() {
            let Counts::Traces(measure, comparison, bound) = counts else {
                continue;
            };
            let bit = 1u64.checked_shl(watch as u32).unwrap_or(0);
            if trace.met & bit != 0 || counts.settles() != is_settled {
                continue;
            }
            let Some(value) = measure.of(trace) else {
                continue;
            };
            if !comparison.holds(value, *bound) {
                continue;
            }
            trace.met |= bit;
            if self.signals.crossings.len() < MAX_CROSSINGS {
                self.signals.crossings.push(Crossing {
                    watch,
                    trace: trace.id,
                    value,
                    at_ns,
                });
            } else if let Some(counted) = self.signals.counted.get_mut(watch) {
                counted.count += 1;
            }
        }
    }

    /// Keeps memory within its bound.
    fn shrink(&mut self) {
        let due = self.due.capacity() * size_of::<Due>();
        let most = self.limits.bytes.saturating_sub(due);
        while self.traces.bytes() > most && self.traces.len() > 1 {
            if !self.forget() {
                return;
            }
            self.stats.evicted += 1;
        }
    }

    fn forget(&mut self) -> bool {
        let Some(trace) = self.traces.drop_quietest() else {
            return false;
        };
        for missing in trace.missing.iter() {
            self.stats.unjudged += u64::from(missing.waiting.saturating_sub(missing.counted));
        }
        true
    }

    /// Judges what is due at `now_ns`, forgets what was quiet for long, and hands over what was
    /// found, with what it covers.
    #[must_use]
    pub(crate) fn look(&mut self, now_ns: u64) -> (Signals, Until) {
        let now_s = seconds(now_ns);
        while self.due.front().is_some_and(|due| due.at_s <= now_s)
            && let Some(due) = self.due.pop_front()
        {
            if due.parent == 0 {
                self.settle(due, now_s, now_ns);
            } else {
                self.judge(due, now_s);
            }
        }
        if self.due.is_empty() {
            self.due = VecDeque::new();
        }
        while let Some(heard_s) = self.traces.quietest()
            && heard_s.saturating_add(QUIET_S) <= now_s
            && self.forget()
        {}
        let watches = self.signals.counted.len();
        let empty = Signals {
            counted: vec![Counted::default(); watches],
            crossings: Vec::new(),
        };
        (
            std::mem::replace(&mut self.signals, empty),
            Until {
                arrived_ns: self.youngest_ns,
                judged_ns: now_ns,
            },
        )
    }

    /// The grace of spans that wait for a parent is over, unless one came meanwhile.
    fn judge(&mut self, due: Due, now_s: u32) {
        let Some(trace) = self
            .traces
            .find(due.trace)
            .and_then(|at| self.traces.get_mut(at))
        else {
            return;
        };
        let Some(missing) = trace.missing.get_mut(due.parent) else {
            return;
        };
        if missing.due_s > now_s {
            let at_s = missing.due_s;
            return self.later(at_s, due.trace, due.parent);
        }
        let orphans = u64::from(missing.waiting.saturating_sub(missing.counted));
        missing.counted = missing.waiting;
        missing.counted_s = now_s;
        if u64::from(missing.due_s) * 1_000_000_000 <= self.counted.judged_ns {
            // Counted before the restart, at the end of its grace.
            missing.counted_s = missing.due_s;
            return;
        }
        let Some(rules) = self.rules.clone() else {
            return;
        };
        for (counts, counted) in rules.watches().list.iter().zip(&mut self.signals.counted) {
            if matches!(counts, Counts::Orphans) {
                counted.add(orphans, due.trace);
            }
        }
    }

    /// A trace may be quiet: then what could have been taken back is certain.
    fn settle(&mut self, due: Due, now_s: u32, now_ns: u64) {
        let grace_s = self.limits.grace_s;
        let Some(at) = self.traces.find(due.trace) else {
            return;
        };
        let Some(trace) = self.traces.get_mut(at) else {
            return;
        };
        let quiet_s = trace.heard_s.saturating_add(grace_s);
        if quiet_s > now_s {
            return self.later(quiet_s, due.trace, 0);
        }
        if let Some(rules) = self.rules.clone() {
            self.cross(at, rules.watches(), true, now_ns);
        }
    }

    /// Takes a span that is in a partition already: it is part of its trace, and nothing more
    /// is to be said about it.
    pub(crate) fn recall(&mut self, batch: &SpanBatch, row: &SpanRow, at_ns: u64) {
        let before = std::mem::take(&mut self.signals);
        let until = self.counted;
        self.counted.arrived_ns = u64::MAX;
        self.observe(batch, row, at_ns);
        self.counted = until;
        self.signals = before;
    }
}

/// Adds a span to the sums of its trace.
fn add(trace: &mut Trace, row: &SpanRow, at_s: u32) {
    if trace.spans == 0 {
        trace.first_ns = row.start_ns;
        trace.last_ns = row.end_ns;
    }
    trace.heard_s = trace.heard_s.max(at_s);
    trace.spans = trace.spans.saturating_add(1);
    let cost = row.cost_nanos.unwrap_or(0);
    trace.cost_nanos = trace.cost_nanos.saturating_add(cost);
    trace.first_ns = trace.first_ns.min(row.start_ns);
    trace.last_ns = trace.last_ns.max(row.end_ns);
    trace.class = trace.class.max(row.class);
    trace.error |= row.error;
}

/// Adds a span's values to the combinations that watches ask for.
fn total(trace: &mut Trace, span: &SpanFacts<'_>, watches: &Watches, is_first: bool) {
    if watches.attributes.is_empty() {
        return;
    }
    if is_first {
        trace.totals = vec![Total::default(); watches.attributes.len()].into();
    }
    for (attribute, total) in watches.attributes.iter().zip(&mut trace.totals) {
        let number = span.number(attribute);
        if number.is_none() && !span.has(attribute) {
            continue;
        }
        let number = number.unwrap_or(0.0);
        total.max = if total.count == 0 {
            number
        } else {
            total.max.max(number)
        };
        total.sum += number;
        total.count = total.count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests;
