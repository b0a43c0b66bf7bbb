//! The end of a request: final cost, end-of-stream rules, the span.

use mesh_config::money::NanoUsd;
use mesh_config::policy::Direction;
use mesh_config::rule::Attribute;
use mesh_config::sampling::{Reason, Threshold, Verdict};

use super::Engine;
use crate::counters::Counter;
use crate::headers::host_of;
use crate::ledger::{Amounts, Key, StatusClass};
use crate::route::OTHER;
use crate::span::{self, Finished};
use crate::state::{Details, RequestState, StreamEnd};
use crate::view::{EndView, View};

/// How a stream ended, seen by the rules.
struct Ending<'e> {
    end: &'e StreamEnd,
    duration_nanos: u64,
    error: bool,
    /// This hop's exclusive cost; zero where the other side of the call charges.
    cost: NanoUsd,
}

/// Why a span is kept, and with which probability spans like it are: the threshold in its
/// tracestate.
struct Kept {
    reason: Reason,
    threshold: Option<Threshold>,
}

impl Engine {
    /// Ends a request that [`Engine::request`] has begun. `details` is called only when the span
    /// is kept: what it reads costs something.
    pub fn end(
        &mut self,
        mut state: RequestState,
        end: &StreamEnd,
        details: impl FnOnce() -> Details,
    ) {
        self.counters.bump(Counter::Ended);
        let errors = &self.settings.policy.sampling.error_classes;
        let error = errors.is_error(end.http_status, end.grpc_status, end.reset());
        if error {
            self.counters.bump(Counter::Errors);
        }
        let ending = Ending {
            end,
            duration_nanos: end.now_unix_nanos.saturating_sub(state.start_unix_nanos),
            error,
            cost: self.own_cost(&state, end.now_unix_nanos, end.body_bytes()),
        };
        self.count_ended(&state, &ending);
        // In companion mode the span is Envoy's, and so is the decision to keep it.
        if !state.owns_context {
            return;
        }
        if let Some(kept) = self.kept(&state, &ending) {
            let protocol = details().protocol;
            state.facts.protocol = state.facts.protocol.or(protocol);
            self.record(&state, &ending, &kept);
        }
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
        self.outlet.count(&key, &amounts);
    }

    /// Counts an ended request in the ledger, whatever sampling decides.
    fn count_ended(&mut self, state: &RequestState, ending: &Ending<'_>) {
        let end = ending.end;
        let key = Key {
            direction: state.direction,
            peer: match state.direction {
                Direction::Outbound => host_of(state.facts.authority()),
                Direction::Auto | Direction::Inbound | Direction::Gateway => b"",
            },
            route: state.facts.route(),
            status: StatusClass::of(end.http_status, end.grpc_status, end.reset()),
            tag: state.labels.tag,
            charged: state.charged,
            tenant: self.tenant(state),
        };
        let amounts = Amounts {
            error: ending.error,
            cost: ending.cost,
            request_bytes: end.request_bytes,
            response_bytes: end.response_bytes,
            duration_nanos: ending.duration_nanos,
        };
        self.outlet.count(&key, &amounts);
    }

    fn tenant<'s>(&mut self, state: &'s RequestState) -> &'s [u8] {
        let kept = self.settings.kept_index(&Attribute::Tenant);
        let name = kept.and_then(|index| state.facts.kept(index));
        match name {
            Some(name) if !name.is_empty() && !self.tenants.admits(name) => OTHER,
            name => name.unwrap_or_default(),
        }
    }

    /// This hop's exclusive cost; zero where the other side of the call charges.
    pub(super) fn own_cost(
        &self,
        state: &RequestState,
        now_unix_nanos: u64,
        bytes: u64,
    ) -> NanoUsd {
        if !state.charged {
            return NanoUsd::ZERO;
        }
        let duration_nanos = now_unix_nanos.saturating_sub(state.start_unix_nanos);
        let (table, _) = self.settings.prices.at(now_unix_nanos);
        table.cost_of(state.labels.operation, duration_nanos, bytes)
    }

    /// Whether this hop's span is kept, by the decision at the head or by an end-of-stream rule.
    fn kept(&mut self, state: &RequestState, ending: &Ending<'_>) -> Option<Kept> {
        let randomness = state.head.randomness;
        let keeps = |verdict: &Verdict| verdict.threshold.filter(|th| th.keeps(randomness));
        let mut verdict = self.end_verdict(state, ending, ending.error);
        // A flood of client errors keeps only its allowance: above it the request counts as any
        // other, so the rules are asked again without the error.
        let client_error = ending.error && matches!(ending.end.http_status, Some(400..=499));
        let mut flood = false;
        if client_error && keeps(&verdict).is_some() && self.flood_cap_reached(state, ending.end) {
            flood = true;
            verdict = self.end_verdict(state, ending, false);
        }
        match (state.head.keep, keeps(&verdict)) {
            (true, at_end) => Some(Kept {
                reason: state.head.reason,
                threshold: combined(state.head.threshold, at_end),
            }),
            (false, Some(threshold)) => {
                self.counters.bump(Counter::Promoted);
                self.counters.reason(verdict.reason);
                Some(Kept {
                    reason: verdict.reason,
                    threshold: Some(threshold),
                })
            }
            (false, None) => {
                if flood {
                    self.counters.reason(Reason::ErrorFlood);
                }
                None
            }
        }
    }

    fn flood_cap_reached(&mut self, state: &RequestState, end: &StreamEnd) -> bool {
        let capped = self.settings.policy.sampling.error_flood.kept_per_minute > 0;
        capped
            && !self
                .client_errors
                .take(state.facts.route(), end.now_unix_nanos)
    }

    fn end_verdict(&self, state: &RequestState, ending: &Ending<'_>, error: bool) -> Verdict {
        let view = View {
            settings: &self.settings,
            identity: &self.identity,
            direction: state.direction,
            facts: &state.facts,
            headers: None,
            operation: self.settings.operation(state.labels.mapping).1,
            tag: state.labels.tag,
            hitl_required: state.labels.hitl_required,
            cost: state.path_cost.saturating_add(ending.cost),
            end: Some(EndView {
                end: ending.end,
                duration_nanos: ending.duration_nanos,
                error,
            }),
        };
        self.settings.sampler.end(&view)
    }

    fn record(&mut self, state: &RequestState, ending: &Ending<'_>, kept: &Kept) {
        let settings = &self.settings;
        let now = ending.end.now_unix_nanos;
        let (table, _) = settings.prices.at(now);
        let finished = Finished {
            end: ending.end,
            error: ending.error,
            reason: kept.reason,
            threshold: kept.threshold,
            cost: ending.cost,
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
