//! The span of one hop, with OpenTelemetry semantic conventions (HTTP and RPC, 1.37).
//!
//! Named `{method} {route}` (gRPC: `{service}/{method}`). Client supplied text is cut by
//! [`crate::facts::MAX_VALUE_BYTES`], treated as the policy's `classification` says
//! ([`crate::redact`]) and made UTF-8 by the writer; queries never become attributes, and of header
//! values only `user-agent` where the policy asks for it.

use std::borrow::Cow;

use mesh_config::money::NanoUsd;
use mesh_config::policy::Direction;
use mesh_config::sampling::{Reason, Threshold};
use w3c_traceparent_parser::otel::{self, OtState};
use w3c_traceparent_parser::tracestate::TraceState;

use crate::engine::llm::LlmUse;
use crate::facts::rpc_of;
use crate::headers::{host_of, port_of};
use crate::otlp::span::{SpanHead, SpanKind, SpanWriter, StatusCode};
use crate::redact::Redactor;
use crate::reply::Mark;
use crate::state::{Details, RequestState, StreamEnd};

/// Methods that keep their name; others are `_OTHER` (HTTP conventions: known methods).
const KNOWN_METHODS: [&[u8]; 9] = [
    b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH",
];

/// What the end of the stream adds to the state.
pub(crate) struct Finished<'a> {
    pub(crate) end: &'a StreamEnd,
    pub(crate) details: &'a Details,
    /// Treats what the client has sent.
    pub(crate) redactor: &'a Redactor,
    pub(crate) error: bool,
    pub(crate) reason: Reason,
    /// Threshold that holds for the span; `None` when its probability is unknown.
    pub(crate) threshold: Option<Threshold>,
    /// Exclusive cost of this hop; zero where the other side charges.
    pub(crate) cost: NanoUsd,
    /// A call to a language model.
    pub(crate) llm: Option<LlmUse<'a>>,
    /// Whether the cost is that of its tokens.
    pub(crate) priced_by_tokens: bool,
    /// Why a call further down was kept.
    pub(crate) descendant: Option<Mark>,
    /// Cost of this hop and everything below it, where replies carry it.
    pub(crate) subtree_cost: Option<NanoUsd>,
    pub(crate) price_version: &'a str,
    pub(crate) operation: Option<&'a str>,
    pub(crate) retention_days: u32,
}

/// Appends the span to a batch.
pub(crate) fn encode(out: &mut Vec<u8>, state: &RequestState, finished: &Finished<'_>) {
    let path = finished.redactor.value("url.path", state.facts.path());
    let path = path.unwrap_or_default();
    let mut name = Vec::with_capacity(64);
    span_name(state, &path, &mut name);
    let trace_state = trace_state(state, finished);
    let head = SpanHead {
        trace_id: state.trace_id,
        span_id: state.span_id,
        parent_id: state.parent_id,
        trace_state: &trace_state,
        name: &name,
        kind: kind(state.direction),
        start_unix_nanos: state.start_unix_nanos,
        end_unix_nanos: finished.end.now_unix_nanos.max(state.start_unix_nanos),
        trace_flags: state.flags.with_sampled(true).bits(),
        status: status(state, finished),
    };
    let mut span = SpanWriter::begin(out, &head);
    request_attributes(&mut span, state, finished, &path);
    response_attributes(&mut span, state, finished);
    metering_attributes(&mut span, state, finished);
    if let Some(link) = state.link {
        span.link(link.trace_id, link.parent_id, link.flags.bits());
    }
    span.finish();
}

/// The tracestate of the span: the one that left with the request, with the threshold that holds
/// for the span where an end-of-stream rule lowered it (a span sampler after the fact). Members in
/// which something is found that must not leave stay out, all of them but ours.
#[inline(never)]
fn trace_state<'s>(state: &'s RequestState, finished: &Finished<'_>) -> Cow<'s, [u8]> {
    let threshold = finished.threshold;
    let left = state.trace_state.as_slice();
    let treated = finished.redactor.value("tracestate", left);
    let left = match treated {
        Some(Cow::Borrowed(_)) => left,
        Some(Cow::Owned(_)) | None => b"",
    };
    let whole = left.len() == state.trace_state.len();
    if whole && state.head.keep && state.head.threshold == threshold {
        return Cow::Borrowed(left);
    }
    let list = TraceState::parse(left).unwrap_or_default();
    let incoming = OtState::parse(list.get(otel::KEY).unwrap_or_default());
    let rv = Some(state.head.randomness).filter(|_| state.head.explicit_randomness);
    let mut value = [0; otel::MAX_LEN];
    let written = incoming.write(threshold, rv, &mut value);
    let value = written.ok().and_then(|length| value.get(..length));
    // Nothing left to say: the member goes.
    let value = value.filter(|value| !value.is_empty());
    let limit = left.len() + otel::MAX_LEN + 4;
    let mut out = vec![0; limit];
    let written = list.write_valid(&[otel::KEY], &[value], limit, &mut out);
    out.truncate(written.map_or(0, |written| written.len));
    Cow::Owned(out)
}

fn kind(direction: Direction) -> SpanKind {
    match direction {
        Direction::Outbound => SpanKind::Client,
        Direction::Auto | Direction::Inbound | Direction::Gateway => SpanKind::Server,
    }
}

fn known_method(method: &[u8]) -> &[u8] {
    if KNOWN_METHODS.contains(&method) {
        method
    } else {
        b"_OTHER"
    }
}

fn span_name(state: &RequestState, path: &[u8], name: &mut Vec<u8>) {
    let facts = &state.facts;
    if facts.grpc {
        name.extend_from_slice(path.strip_prefix(b"/").unwrap_or(path));
        return;
    }
    match known_method(facts.method()) {
        b"_OTHER" => name.extend_from_slice(b"HTTP"),
        method => name.extend_from_slice(method),
    }
    if !facts.route().is_empty() {
        name.push(b' ');
        name.extend_from_slice(facts.route());
    }
}

/// Span status (HTTP conventions): 5xx is an error, 4xx only for the caller; resets are errors.
fn status(state: &RequestState, finished: &Finished<'_>) -> StatusCode {
    let end = finished.end;
    let client = kind(state.direction) == SpanKind::Client;
    let by_http = match end.http_status {
        Some(500..=599) => true,
        Some(400..=499) => client,
        _ => false,
    };
    let by_grpc = end
        .grpc_status
        .is_some_and(|code| client && code != 0 || is_server_fault(code));
    if by_http || by_grpc || end.reset() {
        StatusCode::Error
    } else {
        StatusCode::Unset
    }
}

/// gRPC codes that a server span reports as its own error (RPC conventions: UNKNOWN,
/// DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS).
fn is_server_fault(code: u32) -> bool {
    matches!(code, 2 | 4 | 12 | 13 | 14 | 15)
}

#[inline(never)]
fn request_attributes(
    span: &mut SpanWriter<'_>,
    state: &RequestState,
    finished: &Finished<'_>,
    path: &[u8],
) {
    let facts = &state.facts;
    let method = known_method(facts.method());
    span.text("http.request.method", method);
    let mut treated = |name: &str, value: &[u8]| {
        if let Some(value) = finished.redactor.value(name, value) {
            span.text(name, &value);
        }
    };
    if method == b"_OTHER" {
        treated("http.request.method_original", facts.method());
    }
    treated("server.address", host_of(facts.authority()));
    if let Some(user_agent) = &finished.details.user_agent {
        treated("user_agent.original", user_agent);
    }
    let peer = finished.details.peer.as_deref().map(address_and_port);
    if let Some((address, _)) = peer {
        treated("network.peer.address", address);
    }
    if let Some((_, Some(port))) = peer {
        span.int("network.peer.port", i64::from(port));
    }
    span.text("http.route", facts.route())
        .text("url.path", path)
        .text("url.scheme", facts.scheme());
    if let Some(port) = port_of(facts.authority()) {
        span.int("server.port", i64::from(port));
    }
    if let Some(protocol) = facts.protocol {
        span.text("network.protocol.version", protocol.version().as_bytes());
    }
    if let Some((service, method)) = facts.grpc.then(|| rpc_of(path)).flatten() {
        span.text("rpc.system", b"grpc")
            .text("rpc.service", service)
            .text("rpc.method", method);
    }
}

#[inline(never)]
fn response_attributes(span: &mut SpanWriter<'_>, state: &RequestState, finished: &Finished<'_>) {
    let end = finished.end;
    if let Some(status) = end.http_status {
        span.int("http.response.status_code", i64::from(status));
    }
    if let Some(code) = end.grpc_status {
        span.int("rpc.grpc.status_code", i64::from(code));
    }
    span.int(
        "http.request.body.size",
        i64::try_from(end.request_bytes).unwrap_or(i64::MAX),
    );
    span.int(
        "http.response.body.size",
        i64::try_from(end.response_bytes).unwrap_or(i64::MAX),
    );
    if status(state, finished) == StatusCode::Error || finished.error {
        let mut digits = [0; 5];
        span.text("error.type", error_type(end, &mut digits));
    }
    if end.client_left() {
        span.bool("tracemeter.client_left", true);
    }
}

/// Address and port as Envoy writes them: `10.0.0.1:80`, `[::1]:80`, a path of a socket.
fn address_and_port(text: &[u8]) -> (&[u8], Option<u16>) {
    let colon = text.iter().rposition(|byte| *byte == b':');
    let parts = colon.and_then(|at| text.split_at_checked(at));
    let Some((address, port)) = parts else {
        return (text, None);
    };
    let port = std::str::from_utf8(port.get(1..).unwrap_or_default());
    let Some(port) = port.ok().and_then(|port| port.parse().ok()) else {
        return (text, None);
    };
    let inner = address.strip_prefix(b"[");
    let inner = inner.and_then(|rest| rest.strip_suffix(b"]"));
    (inner.unwrap_or(address), Some(port))
}

/// `error.type`: the kind of reset, else the gRPC or HTTP status as text.
fn error_type<'d>(end: &StreamEnd, digits: &'d mut [u8; 5]) -> &'d [u8] {
    if let Some(kind) = end.reset_kind() {
        return kind.as_bytes();
    }
    let grpc = end.grpc_status.filter(|code| *code != 0);
    match grpc.or(end.http_status.map(u32::from)) {
        Some(number) => decimal(number.min(99_999), digits),
        None => b"_OTHER",
    }
}

fn decimal(mut number: u32, digits: &mut [u8; 5]) -> &[u8] {
    let mut start = digits.len();
    for (index, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        start = index;
        if number == 0 {
            break;
        }
    }
    digits.get(start..).unwrap_or_default()
}

#[inline(never)]
fn metering_attributes(span: &mut SpanWriter<'_>, state: &RequestState, finished: &Finished<'_>) {
    let source: &[u8] = if finished.priced_by_tokens {
        b"token_price"
    } else if state.charged && !state.side.callee_charged() {
        b"mesh_estimate"
    } else {
        b"charged_by_callee"
    };
    span.double("cost_usd", finished.cost.to_f64())
        .double("cost_usd.path", state.path_cost.to_f64())
        .text("cost.source", source)
        .text("cost.price_version", finished.price_version.as_bytes())
        .text(
            "operation_type",
            finished.operation.unwrap_or_default().as_bytes(),
        )
        .text("data_tag", state.labels.tag.as_str().as_bytes())
        .int("retention_days", i64::from(finished.retention_days))
        .text("sampling.reason", finished.reason.as_str().as_bytes());
    if let Some(left) = state.budget.left {
        span.double("cost_budget_usd", left.to_f64())
            .bool("cost_budget.exceeded", state.budget.exceeded);
    }
    if let Some(used) = &finished.llm {
        llm_attributes(span, used, finished.end);
    }
    if let Some(mark) = finished.descendant {
        let reason = mark.reason().as_str();
        span.text("sampling.descendant_reason", reason.as_bytes());
    }
    if let Some(cost) = finished.subtree_cost {
        span.double("cost_usd.subtree", cost.to_f64());
    }
    if state.labels.hitl_required {
        span.bool("hitl_required", true);
    }
    if let Some(threshold) = finished.threshold {
        let mut hex = [0; 14];
        let length = threshold.write_hex(&mut hex);
        span.text("sampling.threshold", hex.get(..length).unwrap_or_default());
    }
}

/// A call to a language model, by the names of the GenAI conventions and the specification's own.
/// Lengths are bytes of the bodies: a proxy does not take prompts apart.
#[inline(never)]
fn llm_attributes(span: &mut SpanWriter<'_>, used: &LlmUse<'_>, end: &StreamEnd) {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let provider = used.provider.as_bytes();
    span.text("gen_ai.provider.name", provider)
        .text("provider", provider)
        .int("prompt_length", count(end.request_bytes))
        .int("response_length", count(end.response_bytes));
    if !used.model.is_empty() {
        span.text("gen_ai.response.model", used.model)
            .text("model", used.model);
    }
    if let Some(tokens) = used.tokens {
        span.int("gen_ai.usage.input_tokens", count(tokens.input))
            .int("gen_ai.usage.output_tokens", count(tokens.output))
            .int("gen_ai.usage.cache_read.input_tokens", count(tokens.cached))
            .int("input_tokens", count(tokens.input))
            .int("output_tokens", count(tokens.output));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_without_leading_zeros() {
        let mut digits = [0; 5];
        for (number, wanted) in [(0, "0"), (7, "7"), (503, "503"), (99_999, "99999")] {
            assert_eq!(decimal(number, &mut digits), wanted.as_bytes());
        }
    }

    #[test]
    fn envoys_addresses_are_taken_apart() {
        for (text, address, port) in [
            ("10.0.0.1:8080", "10.0.0.1", Some(8080)),
            ("[::1]:80", "::1", Some(80)),
            ("/run/app.sock", "/run/app.sock", None),
            ("a:b", "a:b", None),
            ("", "", None),
        ] {
            let wanted = (address.as_bytes(), port);
            assert_eq!(address_and_port(text.as_bytes()), wanted, "{text}");
        }
    }

    #[test]
    fn unknown_methods_do_not_become_names() {
        assert_eq!(known_method(b"GET"), b"GET");
        assert_eq!(known_method(b"BREW"), b"_OTHER");
        assert_eq!(known_method(b"get"), b"_OTHER");
    }
}
