//! One span (`opentelemetry.proto.trace.v1.Span`) written straight into a batch.

use w3c_traceparent_parser::{SpanId, TraceId};

use super::wire::{self, AnyValue, Open};

/// `SpanKind` of the two spans that a proxy makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// The proxy in front of the service: `SPAN_KIND_SERVER`.
    Server = 2,
    /// The proxy of the caller: `SPAN_KIND_CLIENT`.
    Client = 3,
}

/// `Status.StatusCode` (OTel: a proxy leaves it unset unless the request failed).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusCode {
    /// `STATUS_CODE_UNSET`.
    Unset = 0,
    /// `STATUS_CODE_ERROR`.
    Error = 2,
}

/// The fixed fields of a span.
#[derive(Debug, Clone, Copy)]
pub struct SpanHead<'a> {
    /// Trace the span belongs to.
    pub trace_id: TraceId,
    /// The span's own id: the parent id that the filter wrote to `traceparent`.
    pub span_id: SpanId,
    /// The caller's span, if it sent a valid context.
    pub parent_id: Option<SpanId>,
    /// The tracestate that left with the request; carries `ot=th:..` when sampled by probability.
    pub trace_state: &'a [u8],
    /// Span name.
    pub name: &'a [u8],
    /// Server or client.
    pub kind: SpanKind,
    /// Start, Unix nanoseconds.
    pub start_unix_nanos: u64,
    /// End, Unix nanoseconds.
    pub end_unix_nanos: u64,
    /// W3C trace flags that left with the request.
    pub trace_flags: u8,
    /// Outcome.
    pub status: StatusCode,
}

/// `Span.flags`: bits 8 and 9 say whether the parent is remote (opentelemetry-proto, `SpanFlags`).
const FLAGS_HAS_IS_REMOTE: u32 = 0x100;
const FLAGS_IS_REMOTE: u32 = 0x200;

/// Field number of `ScopeSpans.spans`.
const SPANS_FIELD: u32 = 2;
/// Field number of `Span.attributes`.
const ATTRIBUTES_FIELD: u32 = 9;

/// A span that is being written; attributes may follow until [`SpanWriter::finish`].
#[derive(Debug)]
#[must_use = "a span has to be finished"]
pub struct SpanWriter<'b> {
    out: &'b mut Vec<u8>,
    open: Open,
}

impl<'b> SpanWriter<'b> {
    /// Writes the fixed fields of a span at the end of `out`.
    #[inline(never)]
    pub fn begin(out: &'b mut Vec<u8>, head: &SpanHead<'_>) -> Self {
        let open = wire::begin(out, SPANS_FIELD);
        wire::bytes(out, 1, &head.trace_id.to_bytes());
        wire::bytes(out, 2, &head.span_id.to_bytes());
        if !head.trace_state.is_empty() {
            wire::string(out, 3, head.trace_state);
        }
        if let Some(parent_id) = head.parent_id {
            wire::bytes(out, 4, &parent_id.to_bytes());
        }
        wire::string(out, 5, head.name);
        wire::uint(out, 6, head.kind as u64);
        wire::fixed64(out, 7, head.start_unix_nanos);
        wire::fixed64(out, 8, head.end_unix_nanos);
        if head.status != StatusCode::Unset {
            // Status { code }: two bytes, no need to reserve a length.
            wire::bytes(out, 15, &[3 << 3, head.status as u8]);
        }
        let remote = if head.parent_id.is_some() {
            FLAGS_IS_REMOTE
        } else {
            0
        };
        wire::fixed32(
            out,
            16,
            u32::from(head.trace_flags) | FLAGS_HAS_IS_REMOTE | remote,
        );
        Self { out, open }
    }

    /// Adds a string attribute; an empty value is left out.
    pub fn text(&mut self, key: &str, value: &[u8]) -> &mut Self {
        if !value.is_empty() {
            wire::attribute(self.out, ATTRIBUTES_FIELD, key, AnyValue::String(value));
        }
        self
    }

    /// Adds an integer attribute.
    pub fn int(&mut self, key: &str, value: i64) -> &mut Self {
        wire::attribute(self.out, ATTRIBUTES_FIELD, key, AnyValue::Int(value));
        self
    }

    /// Adds a floating point attribute.
    pub fn double(&mut self, key: &str, value: f64) -> &mut Self {
        wire::attribute(self.out, ATTRIBUTES_FIELD, key, AnyValue::Double(value));
        self
    }

    /// Adds a boolean attribute.
    pub fn bool(&mut self, key: &str, value: bool) -> &mut Self {
        wire::attribute(self.out, ATTRIBUTES_FIELD, key, AnyValue::Bool(value));
        self
    }

    /// Adds a link to another trace's context (used when an edge restarts a trace).
    pub fn link(&mut self, trace_id: TraceId, span_id: SpanId, trace_flags: u8) -> &mut Self {
        let open = wire::begin(self.out, 13);
        wire::bytes(self.out, 1, &trace_id.to_bytes());
        wire::bytes(self.out, 2, &span_id.to_bytes());
        wire::fixed32(
            self.out,
            6,
            u32::from(trace_flags) | FLAGS_HAS_IS_REMOTE | FLAGS_IS_REMOTE,
        );
        wire::end(self.out, open);
        self
    }

    /// Ends the span.
    pub fn finish(self) {
        wire::end(self.out, self.open);
    }
}
