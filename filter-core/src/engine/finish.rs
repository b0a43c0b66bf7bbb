//! The end of a request: final cost, end-of-stream rules, the span.

use mesh_config::money::NanoUsd;
use mesh_config::policy::Direction;
use mesh_config::rule::{Known, Measures};
use mesh_config::sampling::{Reason, Threshold, Verdict};

use super::Engine;
use super::llm;
use super::reply::{Letter, mark_of};
use crate::counters::Counter;
use crate::headers::host_of;
use crate::ledger::{Amounts, Key, Numbers, StatusClass, cut};
use crate::reply::{Mark, earlier};
use crate::span::{self, Finished};
use crate::state::{Details, RequestState, StreamEnd, Wanted};
use crate::view::{EndView, View};

/// How a stream ended, or how far it has come, seen by the rules.
pub(super) struct Ending<'e> {
    pub(super) end: &'e StreamEnd,
    pub(super) duration_nanos: u64,
    pub(super) error: bool,
    /// This hop's exclusive cost; zero where the other side of the call charges.
    pub(super) cost: NanoUsd,
    /// What is known of the whole trace's cost, where replies carry costs.
    pub(super) trace_cost: Option<NanoUsd>,
    /// Whether the stream is over; else values only grow and what is not known is open.
    pub(super) over: bool,
}

/// Why a span is kept, and with which probability spans like it are: the threshold in its
/// tracestate.
struct Kept {
    reason: Reason,
    threshold: Option<Threshold>,
}

/// What became of a request.
struct Outcome {
    kept: Option<Kept>,
    /// Why the callers should keep their spans, by what this hop saw itself.
    mark: Option<Mark>,
}

impl Engine {
    /// Ends a request that [`Engine::request`] has begun. `details` is called only when the span
    /// is kept: what it reads costs something. Returns what the request that caused this call
    /// should be told.
    pub fn end(
        &mut self,
        mut state: RequestState,
        end: &StreamEnd,
        details: impl FnOnce(Wanted) -> Details,
    ) -> Option<Letter> {
        self.end_in_place(&mut state, end, details)
    }

    /// The same without a copy; the state is of no use any more.
    pub fn end_in_place(
        &mut self,
        state: &mut RequestState,
        end: &StreamEnd,
        details: impl FnOnce(Wanted) -> Details,
    ) -> Option<Letter> {
        self.counters.bump(Counter::Ended);
        let errors = &self.settings.policy.sampling.error_classes;
        let error = errors.is_error(end.http_status, end.grpc_status, end.reset());
        if error {
            self.counters.bump(Counter::Errors);
        }
        let cost = self.own_cost(state, end.now_unix_nanos, end.body_bytes());
        let ending = Ending {
            end,
            duration_nanos: end.now_unix_nanos.saturating_sub(state.start_unix_nanos),
            error,
            cost,
            trace_cost: self.trace_cost(state, cost, state.side.below().cost),
            over: true,
        };
        let priced = llm::token_cost(&self.settings, state, end.now_unix_nanos).is_some();
        self.count_llm(state, priced);
        self.count_ended(state, &ending);
        // In companion mode the span is Envoy's, and so is the decision to keep it.
        if !state.owns_context {
            return None;
        }
        let Outcome { kept, mark } = self.outcome(state, &ending);
        if let Some(kept) = kept {
            let details = details(self.settings.wanted(state.direction));
            state.facts.protocol = state.facts.protocol.or(details.protocol);
            self.record(state, &ending, &kept, &details);
        }
        if let (Direction::Gateway, Some(cost)) = (state.direction, ending.trace_cost) {
            self.counters.bump(Counter::EdgeTraces);
            self.counters.add(Counter::EdgeTraceCost, cost.as_nanos());
        }
        self.letter(state, mark, ending.cost)
    }

    /// Ends a stream that [`Engine::request`] has left alone.
    pub fn end_excluded(&mut self) {
        self.counters.bump(Counter::Ended);
    }

    /// Ends a stream whose headers never came: the request was malformed.
    pub fn end_malformed(&mut self, listener: Direction, end: &StreamEnd) {
        self.counters.bump(Counter::Ended);
        self.counters.bump(Counter::Malformed);
        let errors = &self.settings.policy.sampling.error_classes;
        let error = errors.is_error(end.http_status, None, end.reset());
        if error {
            self.counters.bump(Counter::Errors);
        }
        let key = Key {
            direction: self.direction(listener),
            peer: b"",
            route: b"",
            status: StatusClass::of(end.http_status, None, end.reset()),
            tag: self.settings.default_tag(),
            charged: false,
            tenant: b"",
            numbers: None,
        };
        let amounts = Amounts {
            error,
            request_bytes: end.request_bytes,
            response_bytes: end.response_bytes,
            ..Amounts::default()
        };
        self.outlet.count(&key, &amounts);
    }

    /// Counts an ended request in the ledger, whatever sampling decides.
    fn count_ended(&mut self, state: &RequestState, ending: &Ending<'_>) {
        let end = ending.end;
        let facts = &state.facts;
        let mut numbers = Numbers {
            route: facts.route_number,
            ..Numbers::default()
        };
        let mut key = Key {
            direction: state.direction,
            peer: b"",
            route: facts.route(),
            status: StatusClass::of(end.http_status, end.grpc_status, end.reset()),
            tag: state.labels.tag,
            charged: state.charged,
            tenant: b"",
            numbers: None,
        };
        let mut numbered = true;
        if state.direction == Direction::Outbound {
            key.peer = cut(host_of(facts.authority()));
            let number = self.peers.admit(key.peer);
            numbered = number.is_some();
            numbers.peer = number.unwrap_or_default();
        }
        if self.settings.with_tenant {
            let tenant = facts.kept(0).unwrap_or_default();
            (numbers.tenant, key.tenant) = self.tenants.name(tenant);
        }
        key.numbers = numbered.then_some(numbers);
        let amounts = Amounts {
            error: ending.error,
            cost: ending.cost,
            request_bytes: end.request_bytes,
            response_bytes: end.response_bytes,
            duration_nanos: ending.duration_nanos,
        };
        self.outlet.count(&key, &amounts);
    }

    /// This hop's exclusive cost; zero where the other side of the call charges.
    pub(super) fn own_cost(
        &self,
        state: &RequestState,
        now_unix_nanos: u64,
        bytes: u64,
    ) -> NanoUsd {
        if !state.charged || state.side.callee_charged() {
            return NanoUsd::ZERO;
        }
        if let Some(settled) = state.side.settled {
            return settled;
        }
        if let Some(tokens) = llm::token_cost(&self.settings, state, now_unix_nanos) {
            return tokens;
        }
        let duration_nanos = now_unix_nanos.saturating_sub(state.start_unix_nanos);
        let (table, _) = self.settings.prices.at(now_unix_nanos);
        table.cost_of(state.labels.operation, duration_nanos, bytes)
    }

    /// Whether this hop's span is kept: by the decision at the head, by an end-of-stream rule, or
    /// because a call further down was kept.
    fn outcome(&mut self, state: &mut RequestState, ending: &Ending<'_>) -> Outcome {
        let (verdict, flooded) = self.verdict_at_end(state, ending);
        let randomness = state.head.randomness;
        let at_end = verdict.threshold.filter(|th| th.keeps(randomness));
        let mark = at_end.and_then(|_| mark_of(&verdict));
        let kept = match (state.head.keep, at_end, state.side.below().mark) {
            (true, at_end, _) => Some(Kept {
                reason: state.head.reason,
                threshold: combined(state.head.threshold, at_end),
            }),
            (false, Some(threshold), _) => Some(self.promoted(verdict.reason, Some(threshold))),
            // With which probability is not known: no threshold, so nothing is extrapolated from it.
            (false, None, Some(_)) => Some(self.promoted(Reason::Descendant, None)),
            (false, None, None) => {
                if flooded {
                    self.counters.reason(Reason::ErrorFlood);
                }
                None
            }
        };
        Outcome {
            kept,
            mark: earlier(state.head_mark(), mark),
        }
    }

    fn promoted(&mut self, reason: Reason, threshold: Option<Threshold>) -> Kept {
        self.counters.bump(Counter::Promoted);
        self.counters.reason(reason);
        Kept { reason, threshold }
    }

    /// What the end-of-stream rules say. A flood of client errors keeps only its allowance: above it
    /// (the second value) the request counts as any other, so the rules are asked again without the
    /// error.
    pub(super) fn verdict_at_end(
        &mut self,
        state: &mut RequestState,
        ending: &Ending<'_>,
    ) -> (Verdict, bool) {
        let verdict = self.end_verdict(state, ending, ending.error);
        let client_error = ending.error && matches!(ending.end.http_status, Some(400..=499));
        let kept = verdict.threshold;
        let kept = kept.is_some_and(|threshold| threshold.keeps(state.head.randomness));
        if client_error && kept && self.flood_cap_reached(state, ending.end) {
            return (self.end_verdict(state, ending, false), true);
        }
        (verdict, false)
    }

    /// Whether the allowance for client errors is used up. A request asks once.
    fn flood_cap_reached(&mut self, state: &mut RequestState, end: &StreamEnd) -> bool {
        if let Some(known) = state.side.flooded {
            return known;
        }
        let capped = self.settings.policy.sampling.error_flood.kept_per_minute > 0;
        let route = state.facts.route();
        let reached = capped && !self.client_errors.take(route, end.now_unix_nanos);
        state.side.flooded = Some(reached);
        reached
    }

    fn end_verdict(&self, state: &RequestState, ending: &Ending<'_>, error: bool) -> Verdict {
        // While the response has only begun these still grow, and an error may still come.
        let known = if ending.over {
            Known::Exactly
        } else {
            Known::AtLeast
        };
        let of_error = if ending.over || error {
            Known::Exactly
        } else {
            Known::Nothing
        };
        let cost = state.path_cost.saturating_add(ending.cost);
        let view = View {
            settings: &self.settings,
            identity: &self.identity,
            direction: state.direction,
            facts: &state.facts,
            headers: None,
            operation: self.settings.operation(state.labels.mapping).1,
            measures: Measures {
                numbers: [
                    u64::from(error),
                    u64::from(state.labels.hitl_required),
                    state.labels.tag as u64,
                    ending.duration_nanos,
                    cost.as_nanos(),
                ],
                known: [of_error, Known::Exactly, known, known, known],
            },
            end: Some(EndView {
                end: ending.end,
                trace_cost: ending.trace_cost,
                over: ending.over,
            }),
        };
        self.settings.sampler.end(&view)
    }

    fn record(
        &mut self,
        state: &RequestState,
        ending: &Ending<'_>,
        kept: &Kept,
        details: &Details,
    ) {
        let settings = &self.settings;
        let now = ending.end.now_unix_nanos;
        let (table, _) = settings.prices.at(now);
        let finished = Finished {
            end: ending.end,
            details,
            redactor: &settings.redactor,
            error: ending.error,
            reason: kept.reason,
            threshold: kept.threshold,
            cost: ending.cost,
            llm: llm::used(settings, state),
            priced_by_tokens: llm::token_cost(settings, state, now).is_some(),
            descendant: state.side.below().mark,
            subtree_cost: self.subtree_cost(state, ending.cost),
            price_version: table.version(),
            operation: settings.operation(state.labels.mapping).1,
            retention_days: settings
                .policy
                .classification
                .retention_days
                .of(state.labels.tag),
        };
        self.outlet.exporter.record(now, &mut self.counters, |out| {
            span::encode(out, state, &finished);
        });
    }
}

/// The threshold of a span that the head kept and that an end-of-stream rule may have kept too:
/// spans like it are kept with the larger of both probabilities. Where the head's is unknown, only
/// a rule that keeps all of them says more.
fn combined(head: Option<Threshold>, end: Option<Threshold>) -> Option<Threshold> {
    match (head, end) {
        (Some(head), Some(end)) => Some(head.min(end)),
        (Some(head), None) => Some(head),
        (None, end) => end.filter(|end| *end == Threshold::ALWAYS),
    }
}
