//! The OpenTelemetry member of the tracestate that leaves.

use w3c_traceparent_parser::otel::{OtState, Threshold};

use super::Incoming;
use crate::counters::{Counter, Counters};

/// What becomes of the `ot` member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ot<'b> {
    /// It stays where it is, byte for byte.
    Unchanged,
    /// It is written anew, or removed when empty.
    Changed(&'b [u8]),
}

/// The `ot` member that leaves with this threshold.
pub(super) fn ot_member<'b>(
    incoming: &Incoming<'_>,
    threshold: Option<Threshold>,
    out: &'b mut [u8; 256],
    counters: &mut Counters,
) -> Ot<'b> {
    if incoming.ot_value.is_empty() && threshold.is_none() {
        return Ot::Unchanged;
    }
    let state = &incoming.ot;
    if is_malformed(incoming.ot_value, state) {
        counters.bump(Counter::InvalidOtState);
    } else if state.threshold() == threshold {
        return Ot::Unchanged;
    }
    match state.write(threshold, state.randomness(), out) {
        Ok(length) => Ot::Changed(out.get(..length).unwrap_or_default()),
        // Too long with the threshold: the rules say to leave the member unchanged, but a stale
        // threshold would be wrong, so without one it is written again.
        Err(_) => match state.write(None, state.randomness(), out) {
            Ok(length) => Ot::Changed(out.get(..length).unwrap_or_default()),
            Err(_) => Ot::Changed(b""),
        },
    }
}

/// Whether a `th` or `rv` is there that could not be read.
fn is_malformed(value: &[u8], state: &OtState<'_>) -> bool {
    value.split(|byte| *byte == b';').any(|part| {
        (part.starts_with(b"th:") && state.threshold().is_none())
            || (part.starts_with(b"rv:") && state.randomness().is_none())
    })
}
