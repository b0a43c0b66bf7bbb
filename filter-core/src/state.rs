//! What one request in flight holds between its headers and its end.

use mesh_config::money::NanoUsd;
use mesh_config::price::OperationId;
use mesh_config::sampling::Reason;
use mesh_config::{DataTag, policy::Direction};
use w3c_traceparent_parser::otel::{Randomness, Threshold};
use w3c_traceparent_parser::{SpanId, TraceFlags, TraceId, TraceParent};

use crate::engine::budget::BudgetState;
use crate::engine::llm::LlmCall;
use crate::engine::reply::Side;
use crate::facts::{Facts, Protocol};
use crate::headers::Values;
use crate::reply::Mark;

/// The labels that the policy's mappings gave to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Labels {
    /// Operation type, which selects the price.
    pub(crate) operation: OperationId,
    /// Position of the mapping that named it.
    pub(crate) mapping: Option<u16>,
    /// Data class.
    pub(crate) tag: DataTag,
    /// Whether a human is involved.
    pub(crate) hitl_required: bool,
}

/// How a header that leaves stands to what came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// No line came.
    Absent,
    /// Lines came.
    Other,
    /// What came is what leaves: writing it again would cost a host call.
    Same,
}

impl Came {
    pub(crate) fn with(lines: &Values<'_>, leaves: &[u8]) -> Self {
        if lines.is_empty() {
            Self::Absent
        } else if !leaves.is_empty() && lines.is_just(leaves) {
            Self::Same
        } else {
            Self::Other
        }
    }
}

/// The decision at the request's headers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct HeadVerdict {
    /// Whether this hop's span is kept.
    pub(crate) keep: bool,
    /// Why.
    pub(crate) reason: Reason,
    /// Threshold that was written.
    pub(crate) threshold: Option<Threshold>,
    /// The trace's randomness.
    pub(crate) randomness: Randomness,
    /// Whether that was an `rv` of the tracestate instead of the trace id.
    pub(crate) explicit_randomness: bool,
    /// Priority rule that decided, by its position in the policy.
    pub(crate) rule: Option<u16>,
}

/// See the module documentation. Its size is bounded: see [`Facts`].
#[derive(Debug)]
pub struct RequestState {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) parent_id: Option<SpanId>,
    pub(crate) flags: TraceFlags,
    /// The outside context that an edge replaced.
    pub(crate) link: Option<TraceParent>,
    pub(crate) start_unix_nanos: u64,
    pub(crate) direction: Direction,
    pub(crate) facts: Facts,
    pub(crate) labels: Labels,
    pub(crate) head: HeadVerdict,
    /// Accumulated cost that came in.
    pub(crate) path_cost: NanoUsd,
    /// Whether this hop charges.
    pub(crate) charged: bool,
    /// The tracestate that left; kept only for sampled requests.
    pub(crate) trace_state: Vec<u8>,
    /// Whether the filter wrote the headers (owner mode).
    pub(crate) owns_context: bool,
    /// How the tracestate that leaves stands to the one that came.
    pub(crate) tracestate: Came,
    /// How the baggage that leaves stands to the one that came.
    pub(crate) baggage: Came,
    pub(crate) explanation: Option<(String, String)>,
    /// What the return channel holds.
    pub(crate) side: Side,
    /// What is left of the trace's budget.
    pub(crate) budget: BudgetState,
    /// A call to a language model.
    pub(crate) llm: Option<Box<LlmCall>>,
}

impl RequestState {
    /// What a request begins with; takes no memory.
    pub const EMPTY: Self = Self {
        trace_id: TraceId::MIN,
        span_id: SpanId::MIN,
        parent_id: None,
        flags: TraceFlags::NONE,
        link: None,
        start_unix_nanos: 0,
        direction: Direction::Auto,
        facts: Facts::NONE,
        labels: Labels {
            operation: OperationId::UNKNOWN,
            mapping: None,
            tag: DataTag::ExportOk,
            hitl_required: false,
        },
        head: HeadVerdict {
            keep: false,
            reason: Reason::NotSampled,
            threshold: None,
            randomness: Randomness::from_trace_id(TraceId::MIN),
            explicit_randomness: false,
            rule: None,
        },
        path_cost: NanoUsd::ZERO,
        charged: false,
        trace_state: Vec::new(),
        owns_context: false,
        tracestate: Came::Absent,
        baggage: Came::Absent,
        explanation: None,
        side: Side::NONE,
        budget: BudgetState {
            left: None,
            exceeded: false,
            denied: false,
        },
        llm: None,
    };

    /// The trace.
    #[must_use]
    pub fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// This hop's span.
    #[must_use]
    pub fn span_id(&self) -> SpanId {
        self.span_id
    }

    /// Whether the request is gRPC: its status is in trailers, not in the HTTP status.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        self.facts.grpc
    }

    /// Whether Envoy's own tracer makes the span.
    #[must_use]
    pub fn is_companion(&self) -> bool {
        !self.owns_context
    }

    /// The traceparent that was written, if the filter owns the context.
    #[must_use]
    pub fn written_traceparent(&self) -> Option<[u8; 55]> {
        self.owns_context.then(|| self.context().to_bytes())
    }

    /// The context that leaves: this hop's span as the parent.
    #[must_use]
    pub fn context(&self) -> TraceParent {
        TraceParent {
            trace_id: self.trace_id,
            parent_id: self.span_id,
            flags: self.flags,
        }
    }

    /// Whether this hop's span is kept by the decision at the headers.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.head.keep
    }

    /// Why the decision at the headers keeps the span, if that concerns every caller.
    pub(crate) fn head_mark(&self) -> Option<Mark> {
        Mark::of(self.head.reason).filter(|_| self.head.keep)
    }

    /// Name and value of the response header that explains the decision, where the policy allows
    /// it and the request asked.
    #[must_use]
    pub fn explanation(&self) -> Option<(&str, &str)> {
        self.explanation
            .as_ref()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// What is read only for a span that is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// HTTP version.
    pub protocol: Option<Protocol>,
    /// Address and port of the other end, as Envoy writes them; where it is wanted.
    pub peer: Option<Vec<u8>>,
    /// `user-agent` of the request; where it is wanted.
    pub user_agent: Option<Vec<u8>>,
}

/// Which of the [`Details`] the policy asks for beside the HTTP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The other end of the connection: the client's of a server span, the upstream's of a client
    /// span.
    pub peer: Option<Peer>,
    /// The `user-agent` header.
    pub user_agent: bool,
}

/// Which end of the proxy a span's peer stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Who has called.
    Downstream,
    /// Who was called.
    Upstream,
}

/// How a stream ended. Absent values are information: Envoy has no response code for a client that
/// went away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamEnd {
    /// Unix nanoseconds.
    pub now_unix_nanos: u64,
    /// HTTP status; absent when the client went away before there was one.
    pub http_status: Option<u16>,
    /// gRPC status of a gRPC request.
    pub grpc_status: Option<u32>,
    /// Envoy's response flags.
    pub response_flags: u64,
    /// Bytes of the request body.
    pub request_bytes: u64,
    /// Bytes of the response body.
    pub response_bytes: u64,
}

/// Envoy response flags (`%RESPONSE_FLAGS%`), the bits of the property `response.flags`.
mod flag {
    pub(super) const NO_HEALTHY_UPSTREAM: u64 = 0x2;
    pub(super) const UPSTREAM_REQUEST_TIMEOUT: u64 = 0x4;
    pub(super) const LOCAL_RESET: u64 = 0x8;
    pub(super) const UPSTREAM_REMOTE_RESET: u64 = 0x10;
    pub(super) const UPSTREAM_CONNECTION_FAILURE: u64 = 0x20;
    pub(super) const UPSTREAM_CONNECTION_TERMINATION: u64 = 0x40;
    pub(super) const UPSTREAM_OVERFLOW: u64 = 0x80;
    pub(super) const DOWNSTREAM_CONNECTION_TERMINATION: u64 = 0x4000;
    pub(super) const STREAM_IDLE_TIMEOUT: u64 = 0x1_0000;
    pub(super) const UPSTREAM_MAX_STREAM_DURATION: u64 = 0x8_0000;
    pub(super) const DURATION_TIMEOUT: u64 = 0x40_0000;
    pub(super) const UPSTREAM_PROTOCOL_ERROR: u64 = 0x80_0000;
    pub(super) const NO_CLUSTER_FOUND: u64 = 0x100_0000;
    pub(super) const DOWNSTREAM_REMOTE_RESET: u64 = 0x1000_0000;
}

/// Flags of a stream that failed on the side of the service, with their `error.type`, the most
/// telling first.
const RESETS: [(u64, &str); 11] = [
    (flag::UPSTREAM_REQUEST_TIMEOUT, "timeout"),
    (flag::STREAM_IDLE_TIMEOUT, "timeout"),
    (flag::UPSTREAM_MAX_STREAM_DURATION, "timeout"),
    (flag::DURATION_TIMEOUT, "timeout"),
    (flag::UPSTREAM_CONNECTION_FAILURE, "connection_failure"),
    (flag::UPSTREAM_REMOTE_RESET, "upstream_reset"),
    (flag::LOCAL_RESET, "local_reset"),
    (
        flag::UPSTREAM_CONNECTION_TERMINATION,
        "connection_termination",
    ),
    (flag::UPSTREAM_PROTOCOL_ERROR, "protocol_error"),
    (
        flag::NO_HEALTHY_UPSTREAM | flag::UPSTREAM_OVERFLOW,
        "no_capacity",
    ),
    (flag::NO_CLUSTER_FOUND, "no_cluster"),
];

impl StreamEnd {
    /// The client went away: its own doing, not an error of the service.
    #[must_use]
    pub fn client_left(&self) -> bool {
        let flags = flag::DOWNSTREAM_CONNECTION_TERMINATION | flag::DOWNSTREAM_REMOTE_RESET;
        self.response_flags & flags != 0
    }

    /// The stream was reset or timed out on the side of the service.
    #[must_use]
    pub fn reset(&self) -> bool {
        // Nearly no stream has a flag.
        self.response_flags != 0 && self.reset_kind().is_some()
    }

    /// The kind of reset, as `error.type` (OTel: a low-cardinality name when there is no status).
    #[must_use]
    pub fn reset_kind(&self) -> Option<&'static str> {
        // What was upgraded (a WebSocket) ends when either side closes its connection.
        let ordinary = match self.http_status {
            Some(101) => flag::UPSTREAM_CONNECTION_TERMINATION,
            _ => 0,
        };
        let flags = self.response_flags & !ordinary;
        let found = RESETS.into_iter().find(|(bits, _)| flags & bits != 0);
        found.map(|(_, name)| name)
    }

    /// Body bytes in both directions.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        self.request_bytes.saturating_add(self.response_bytes)
    }
}
