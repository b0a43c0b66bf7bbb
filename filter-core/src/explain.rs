//! The explanation of one decision: what was parsed, decided and why, as one printable line.
//!
//! It goes into a response header where the policy allows it. It never repeats what a client
//! sent, only what was made of it: no byte of a request can reach the response through it.

use mesh_config::money::NanoUsd;
use w3c_traceparent_parser::otel::Threshold;

use crate::context::{Incoming, ParentContext};
use crate::state::RequestState;
use crate::view::direction_name;

/// Builds the line.
pub(crate) fn line(
    state: &RequestState,
    incoming: &Incoming<'_>,
    local: Option<Threshold>,
    path_cost_out: NanoUsd,
) -> String {
    let context = match incoming.parent {
        ParentContext::Absent => "absent".to_owned(),
        ParentContext::Invalid(reason) => format!("invalid({})", reason.as_str()),
        ParentContext::Valid(_) => "valid".to_owned(),
    };
    let tracestate = if incoming.state_invalid {
        "invalid".to_owned()
    } else {
        incoming.state().len().to_string()
    };
    let head = &state.head;
    let rule = head
        .rule
        .map_or(String::new(), |rule| format!("; rule={rule}"));
    format!(
        "trace_id={}; span_id={}; direction={}; traceparent={context}; tracestate_members={tracestate}; \
         baggage_malformed={}; sampled={}; reason={}{rule}; p={}; T={}; T_written={}; R={:014x}; \
         cost_usd={path_cost_out}; data_tag={}",
        state.trace_id,
        state.span_id,
        direction_name(state.direction),
        incoming.baggage().malformed(),
        head.keep,
        head.reason.as_str(),
        probability_text(local),
        threshold_text(local),
        threshold_text(head.threshold),
        head.randomness.value(),
        state.labels.tag,
    )
}

/// A probability with nine digits; integers, because formatting floats takes 20 kB of code.
fn probability_text(threshold: Option<Threshold>) -> String {
    let parts = (threshold.map_or(0.0, Threshold::probability) * 1e9) as u64;
    format!("{}.{:09}", parts / 1_000_000_000, parts % 1_000_000_000)
}

fn threshold_text(threshold: Option<Threshold>) -> String {
    let Some(threshold) = threshold else {
        return "none".to_owned();
    };
    let mut hex = [0; 14];
    let length = threshold.write_hex(&mut hex);
    String::from_utf8_lossy(hex.get(..length).unwrap_or_default()).into_owned()
}
