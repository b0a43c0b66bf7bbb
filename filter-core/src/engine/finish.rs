//! The end of a request: final cost, end-of-stream rules, the span.

use mesh_config::money::NanoUsd;
use mesh_config::sampling::{Reason, Verdict};

use super::Engine;
use crate::counters::Counter;
use crate::span::{self, Finished};
use crate::state::{RequestState, StreamEnd};
use crate::view::{EndView, View};

impl Engine {
    /// Ends a request; call it exactly once per stream, without a state when the stream's headers
    /// never came (malformed requests).
    pub fn end(&mut self, state: Option<RequestState>, end: &StreamEnd) {
        self.counters.bump(Counter::Ended);
        let Some(state) = state else {
            self.counters.bump(Counter::Malformed);
            return;
        };
        let errors = &self.settings.policy.sampling.error_classes;
        let error = errors.is_error(end.http_status, end.grpc_status, end.reset());
        if error {
            self.counters.bump(Counter::Errors);
        }
        let duration_nanos = end.now_unix_nanos.saturating_sub(state.start_unix_nanos);
        let cost = self.own_cost(&state, end, duration_nanos);
        let reason = if state.head.keep {
            Some(state.head.reason)
        } else {
            self.promote(&state, end, duration_nanos, error, cost)
        };
        if let Some(reason) = reason {
            self.record(&state, end, error, reason, cost);
        }
    }

    /// This hop's exclusive cost; zero where the other side of the call charges.
    fn own_cost(&self, state: &RequestState, end: &StreamEnd, duration_nanos: u64) -> NanoUsd {
        if !state.charged {
            return NanoUsd::ZERO;
        }
        let (table, _) = self.settings.prices.at(end.now_unix_nanos);
        table.cost_of(state.labels.operation, duration_nanos, end.body_bytes())
    }

    /// Whether an end-of-stream rule keeps this hop's span although the head said drop.
    fn promote(
        &mut self,
        state: &RequestState,
        end: &StreamEnd,
        duration_nanos: u64,
        error: bool,
        cost: NanoUsd,
    ) -> Option<Reason> {
        let verdict = self.end_verdict(state, end, duration_nanos, error, cost);
        let kept = |verdict: &Verdict| {
            verdict
                .threshold
                .is_some_and(|threshold| threshold.keeps(state.head.randomness))
        };
        if !kept(&verdict) {
            return None;
        }
        // A flood of client errors keeps only its allowance: above it the request counts as any
        // other, so the rules are asked again without the error.
        let client_error = matches!(end.http_status, Some(400..=499));
        let mut reason = verdict.reason;
        if error && client_error && self.flood_cap_reached(state, end) {
            let without = self.end_verdict(state, end, duration_nanos, false, cost);
            if !kept(&without) {
                self.counters.reason(Reason::ErrorFlood);
                return None;
            }
            reason = without.reason;
        }
        self.counters.bump(Counter::Promoted);
        self.counters.reason(reason);
        Some(reason)
    }

    fn flood_cap_reached(&mut self, state: &RequestState, end: &StreamEnd) -> bool {
        let capped = self.settings.policy.sampling.error_flood.kept_per_minute > 0;
        capped
            && !self
                .client_errors
                .take(state.facts.route(), end.now_unix_nanos)
    }

    fn end_verdict(
        &self,
        state: &RequestState,
        end: &StreamEnd,
        duration_nanos: u64,
        error: bool,
        cost: NanoUsd,
    ) -> Verdict {
        let view = View {
            settings: &self.settings,
            identity: &self.identity,
            direction: state.direction,
            facts: &state.facts,
            headers: None,
            operation: self.settings.operation(state.labels.mapping).1,
            tag: state.labels.tag,
            hitl_required: state.labels.hitl_required,
            cost: state.path_cost.saturating_add(cost),
            end: Some(EndView {
                end,
                duration_nanos,
                error,
            }),
        };
        self.settings.sampler.end(&view)
    }

    fn record(
        &mut self,
        state: &RequestState,
        end: &StreamEnd,
        error: bool,
        reason: Reason,
        cost: NanoUsd,
    ) {
        let settings = &self.settings;
        let (table, _) = settings.prices.at(end.now_unix_nanos);
        let finished = Finished {
            end,
            error,
            reason,
            cost,
            price_version: table.version(),
            operation: settings.operation(state.labels.mapping).1,
            retention_days: settings
                .policy
                .classification
                .retention_days
                .of(state.labels.tag),
        };
        let now = end.now_unix_nanos;
        self.exporter.record(now, &mut self.counters, |out| {
            span::encode(out, state, &finished)
        });
    }

    /// Values for Envoy's own span in companion mode (filter state; HCM custom tags read them).
    pub(super) fn companion_tags(
        &self,
        state: &RequestState,
        cost: NanoUsd,
    ) -> Vec<(&'static str, Vec<u8>)> {
        let retention = self
            .settings
            .policy
            .classification
            .retention_days
            .of(state.labels.tag);
        vec![
            ("tracemeter.cost_usd", cost.to_string().into_bytes()),
            (
                "tracemeter.data_tag",
                state.labels.tag.as_str().as_bytes().to_vec(),
            ),
            (
                "tracemeter.retention_days",
                retention.to_string().into_bytes(),
            ),
        ]
    }
}
