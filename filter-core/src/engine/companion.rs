//! Companion mode: values that ride on Envoy's own span.
//!
//! Envoy's tracer makes the span; custom tags of the connection manager read filter state. The
//! last value that is written before the response has ended counts, so cost is written twice: what
//! is known when the request begins (for streams that are reset), and the final one.

use mesh_config::money::NanoUsd;

use super::Engine;
use crate::state::RequestState;

/// Filter state of the own cost of this hop, in US dollars.
pub const COST_STATE: &str = "tracemeter.cost_usd";
/// Filter state of the accumulated cost that came in, in US dollars.
pub const PATH_COST_STATE: &str = "tracemeter.cost_usd.path";
/// Filter state of the data class.
pub const TAG_STATE: &str = "tracemeter.data_tag";
/// Filter state of the days that the span may be kept.
pub const RETENTION_STATE: &str = "tracemeter.retention_days";

/// How far a response has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Unix nanoseconds.
    pub now_unix_nanos: u64,
    /// Bytes of the request body.
    pub request_bytes: u64,
    /// Bytes of the response body.
    pub response_bytes: u64,
}

impl Engine {
    /// Whether Envoy's own tracer makes the spans: [`Engine::filter_state_at_head`] after the
    /// headers and [`Engine::filter_state_at_end`] with the last byte of the response are wanted.
    #[must_use]
    pub fn is_companion(&self) -> bool {
        !self.settings.owns_context()
    }

    /// Names and values of the filter state that is known when the request begins.
    #[must_use]
    pub fn filter_state_at_head(&self, state: &RequestState) -> [(&'static str, Vec<u8>); 4] {
        let retention = &self.settings.policy.classification.retention_days;
        let known = Progress {
            now_unix_nanos: state.start_unix_nanos,
            request_bytes: state.facts.content_length.unwrap_or(0),
            response_bytes: 0,
        };
        let (name, cost) = self.filter_state_at_end(state, &known);
        let days = retention.of(state.labels.tag);
        [
            (name, cost),
            (PATH_COST_STATE, decimal(state.path_cost)),
            (TAG_STATE, state.labels.tag.as_str().as_bytes().to_vec()),
            (RETENTION_STATE, days.to_string().into_bytes()),
        ]
    }

    /// Name and value of the filter state that changes with the end of the response: the final
    /// cost of this hop.
    #[must_use]
    pub fn filter_state_at_end(
        &self,
        state: &RequestState,
        progress: &Progress,
    ) -> (&'static str, Vec<u8>) {
        let bytes = progress
            .request_bytes
            .saturating_add(progress.response_bytes);
        let cost = self.own_cost(state, progress.now_unix_nanos, bytes);
        (COST_STATE, decimal(cost))
    }
}

pub(super) fn decimal(cost: NanoUsd) -> Vec<u8> {
    let mut digits = [0; 24];
    cost.write_decimal(&mut digits).to_vec()
}
