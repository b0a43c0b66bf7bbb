//! The end of a request: final cost, end-of-stream rules, the span.

use mesh_config::money::NanoUsd;
use mesh_config::policy::Direction;
use mesh_config::rule::{Known, Measure, Measures};
use mesh_config::sampling::{Reason, Threshold, Verdict};

use super::Engine;
use super::llm;
use super::reply::{Letter, mark_of};
use crate::counters::Counter;
use crate::headers::host_of;
use crate::ledger::{Amounts, Key, Numbers, StatusClass, UNNUMBERED, cut};
use crate::reply::{Mark, earlier};
use crate::span::{self, Finished};
use crate::state::{Details, RequestState, StreamEnd, Wanted};
use crate::view::{EndView, View};

/// How a stream ended, or how far it has come, seen by the rules.
pub(super) struct Ending<'e> {
    pub(super) end: &'e StreamEnd,
    /// Whether it was reset on the side of the service.
    pub(super) reset: bool,
    /// With this hop's exclusive cost; zero where the other side of the call charges.
    pub(super) amounts: Amounts,
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

/// What is known of the measures while the response has only begun, without an error so far.
const GROWING: [Known; Measure::ALL.len()] = [
    Known::Nothing,
    Known::Exactly,
    Known::AtLeast,
    Known::AtLeast,
    Known::AtLeast,
];

/// The same with one.
const GROWING_ERROR: [Known; Measure::ALL.len()] = [
    Known::Exactly,
    Known::Exactly,
    Known::AtLeast,
    Known::AtLeast,
    Known::AtLeast,
];

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
        let ending = self.ending(state, end);
        if state.llm.is_some() {
            self.count_llm(state, end.now_unix_nanos);
        }
        self.count_ended(state, &ending);
        // In companion mode the span is Envoy's, and so is the decision to keep it.
        if !state.owns_context {
            return None;
        }
        let mut verdict = Verdict::NOTHING;
        let flooded = self.verdict_at_end(state, &ending, &mut verdict);
        let threshold = verdict.threshold;
        let at_end = threshold.filter(|th| th.keeps(state.head.randomness));
        if let Some(kept) = self.kept(state, at_end, verdict.reason) {
            let details = details(self.settings.wanted(state.direction));
            state.facts.protocol = state.facts.protocol.or(details.protocol);
            self.record(state, &ending, &kept, &details);
        } else if flooded {
            self.counters.reason(Reason::ErrorFlood);
        }
        match state.direction {
            Direction::Auto | Direction::Inbound => None,
            Direction::Outbound | Direction::Gateway => {
                let mark = at_end.and_then(|_| mark_of(&verdict));
                self.tell(state, &ending, mark)
            }
        }
    }

    /// How a request has ended.
    fn ending<'e>(&mut self, state: &RequestState, end: &'e StreamEnd) -> Ending<'e> {
        let reset = end.reset();
        let errors = &self.settings.policy.sampling.error_classes;
        let error = errors.is_error(end.http_status, end.grpc_status, reset);
        if error {
            self.counters.bump(Counter::Errors);
        }
        let cost = self.own_cost(state, end.now_unix_nanos, end.body_bytes());
        Ending {
            end,
            reset,
            amounts: Amounts {
                error,
                cost,
                request_bytes: end.request_bytes,
                response_bytes: end.response_bytes,
                duration_nanos: end.now_unix_nanos.saturating_sub(state.start_unix_nanos),
            },
            trace_cost: if self.settings.carries_costs {
                self.trace_cost(state, cost, state.side.below().cost)
            } else {
                None
            },
            over: true,
        }
    }

    /// What a caller should be told of a call that has ended, or the counters of a gateway.
    #[inline(never)]
    fn tell(
        &mut self,
        state: &mut RequestState,
        ending: &Ending<'_>,
        mark: Option<Mark>,
    ) -> Option<Letter> {
        if let (Direction::Gateway, Some(cost)) = (state.direction, ending.trace_cost) {
            self.counters.bump(Counter::EdgeTraces);
            self.counters.add(Counter::EdgeTraceCost, cost.as_nanos());
        }
        let mark = earlier(state.head_mark(), mark);
        self.letter(state, mark, ending.amounts.cost)
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
        };
        let amounts = Amounts {
            error,
            request_bytes: end.request_bytes,
            response_bytes: end.response_bytes,
            ..Amounts::default()
        };
        self.outlet.count(&key, UNNUMBERED, &amounts);
    }

    /// Counts an ended request in the ledger, whatever sampling decides.
    fn count_ended(&mut self, state: &RequestState, ending: &Ending<'_>) {
        let end = ending.end;
        let mut key = Key {
            direction: state.direction,
            peer: b"",
            route: b"",
            status: StatusClass::of(end.http_status, end.grpc_status, ending.reset),
            tag: state.labels.tag,
            charged: state.charged,
            tenant: b"",
        };
        let mut numbers = Numbers {
            route: state.facts.route_number,
            ..Numbers::default()
        };
        let mut numbered = true;
        if state.direction == Direction::Outbound {
            key.peer = cut(host_of(state.facts.authority()));
            let number = self.peers.admit(key.peer);
            numbered = number.is_some();
            numbers.peer = number.unwrap_or_default();
        }
        if self.settings.with_tenant {
            let tenant = state.facts.kept(0).unwrap_or_default();
            (numbers.tenant, key.tenant) = self.tenants.name(tenant);
        }
        let packed = if numbered {
            key.packed(numbers)
        } else {
            UNNUMBERED
        };
        if !self.outlet.count_packed(packed, &ending.amounts) {
            key.route = state.facts.route();
            self.outlet.count(&key, packed, &ending.amounts);
        }
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
        if state.llm.is_some()
            && let Some(tokens) = llm::token_cost(&self.settings, state, now_unix_nanos)
        {
            return tokens;
        }
        let duration_nanos = now_unix_nanos.saturating_sub(state.start_unix_nanos);
        let (table, _) = self.settings.prices.at(now_unix_nanos);
        table.cost_of(state.labels.operation, duration_nanos, bytes)
    }

    /// Whether this hop's span is kept: by the decision at the head, by an end-of-stream rule
    /// (`at_end`, for `reason`), or because a call further down was kept.
    fn kept(
        &mut self,
        state: &RequestState,
        at_end: Option<Threshold>,
        reason: Reason,
    ) -> Option<Kept> {
        if state.head.keep {
            return Some(Kept {
                reason: state.head.reason,
                threshold: combined(state.head.threshold, at_end),
            });
        }
        let reason = if at_end.is_some() {
            reason
        } else if state.side.has_mark() {
            // With which probability is not known: no threshold, so nothing is extrapolated from it.
            Reason::Descendant
        } else {
            return None;
        };
        self.counters.bump(Counter::Promoted);
        self.counters.reason(reason);
        Some(Kept {
            reason,
            threshold: at_end,
        })
    }

    /// What the end-of-stream rules say. A flood of client errors keeps only its allowance: above it
    /// (then this is true) the request counts as any other, so the rules are asked again without the
    /// error.
    pub(super) fn verdict_at_end(
        &mut self,
        state: &mut RequestState,
        ending: &Ending<'_>,
        verdict: &mut Verdict,
    ) -> bool {
        let error = ending.amounts.error;
        self.end_verdict(state, ending, error, verdict);
        if !error || !matches!(ending.end.http_status, Some(400..=499)) {
            return false;
        }
        let kept = verdict.threshold;
        let kept = kept.is_some_and(|threshold| threshold.keeps(state.head.randomness));
        if !kept || !self.flood_cap_reached(state, ending.end) {
            return false;
        }
        *verdict = Verdict::NOTHING;
        self.end_verdict(state, ending, false, verdict);
        true
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

    fn end_verdict(
        &self,
        state: &RequestState,
        ending: &Ending<'_>,
        error: bool,
        verdict: &mut Verdict,
    ) {
        // While the response has only begun these still grow, and an error may still come.
        let known = match (ending.over, error) {
            (true, _) => [Known::Exactly; Measure::ALL.len()],
            (false, true) => GROWING_ERROR,
            (false, false) => GROWING,
        };
        let cost = state.path_cost.saturating_add(ending.amounts.cost);
        let measures = Measures {
            numbers: [
                u64::from(error),
                u64::from(state.labels.hitl_required),
                state.labels.tag as u64,
                ending.amounts.duration_nanos,
                cost.as_nanos(),
            ],
            known,
        };
        let sampler = &self.settings.sampler;
        if sampler.end_compares_measures() {
            sampler.end_into(&measures, verdict);
        } else {
            self.end_verdict_of_all(state, ending, measures, verdict);
        }
    }

    /// The same where a rule asks for more than measures.
    #[inline(never)]
    fn end_verdict_of_all(
        &self,
        state: &RequestState,
        ending: &Ending<'_>,
        measures: Measures,
        verdict: &mut Verdict,
    ) {
        let view = View {
            settings: &self.settings,
            identity: &self.identity,
            direction: state.direction,
            facts: &state.facts,
            headers: None,
            operation: self.settings.operation(state.labels.mapping).1,
            measures,
            end: Some(EndView {
                end: ending.end,
                trace_cost: ending.trace_cost,
                over: ending.over,
            }),
        };
        self.settings.sampler.end_into(&view, verdict);
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
            error: ending.amounts.error,
            reason: kept.reason,
            threshold: kept.threshold,
            cost: ending.amounts.cost,
            llm: llm::used(settings, state),
            priced_by_tokens: llm::token_cost(settings, state, now).is_some(),
            descendant: state.side.below().mark,
            subtree_cost: self.subtree_cost(state, ending.amounts.cost),
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
