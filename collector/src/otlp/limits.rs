//! What one request and one span may contain, and the reasons for refusing a span.

/// Limits of the decoder. Defaults are far above what SDKs send (OpenTelemetry's own
/// defaults are 128 attributes, events and links per span) and keep one span's cost bounded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Spans of one request. Defaults to 100,000.
    pub(crate) spans: usize,
    /// Encoded bytes of one span. Defaults to 1 MiB.
    pub(crate) span_bytes: usize,
    /// Attributes of one span, event, link or resource. Defaults to 1,024.
    pub(crate) attributes: usize,
    /// Bytes of one attribute's key. Defaults to 1 KiB.
    pub(crate) key_bytes: usize,
    /// Bytes of one encoded attribute value. Defaults to 256 KiB.
    pub(crate) value_bytes: usize,
    /// Events or links of one span. Defaults to 1,024.
    pub(crate) events: usize,
    /// Nesting of one attribute value. Defaults to 16.
    pub(crate) depth: usize,
    /// Bytes of a span's name, a service's or scope's name, or a trace state. Defaults to 16 KiB.
    pub(crate) name_bytes: usize,
    /// How far a span may start after it was received, for clocks that run ahead.
    /// Defaults to one day.
    pub(crate) future_ns: u64,
    /// How old a span may be. Defaults to 400 days: beyond the longest retention (365 days),
    /// and it bounds the number of day partitions a client can open.
    pub(crate) past_ns: u64,
    /// Up to this much a span may end before it starts (stepped clocks); its duration then
    /// counts as zero. Defaults to 1 s.
    pub(crate) negative_duration_ns: u64,
}

const DAY_NS: u64 = 86_400_000_000_000;

impl Default for Limits {
    fn default() -> Self {
        Self {
            spans: 100_000,
            span_bytes: 1 << 20,
            attributes: 1_024,
            key_bytes: 1 << 10,
            value_bytes: 256 << 10,
            events: 1_024,
            depth: 16,
            name_bytes: 16 << 10,
            future_ns: DAY_NS,
            past_ns: 400 * DAY_NS,
            negative_duration_ns: 1_000_000_000,
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident => $label:literal,)+) => {
        /// Why one span was refused. The label is the same in metrics, logs and answers.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Refusal { $($(#[doc = $doc])+ $variant,)+ }

        impl Refusal {
            /// Every reason, in the order of the counters.
            pub(crate) const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The stable label.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
        }
    };
}

reasons! {
    /// The span's bytes are not a valid message.
    Malformed => "malformed",
    /// The trace id is not 16 bytes or all zero.
    TraceId => "invalid_trace_id",
    /// The span id is not 8 bytes or all zero.
    SpanId => "invalid_span_id",
    /// The parent id is neither empty nor 8 bytes.
    ParentId => "invalid_parent_id",
    /// Start or end is zero, or beyond what a 64 bit nanosecond timestamp can hold.
    Time => "invalid_time",
    /// The span ends before it starts by more than clock steps explain.
    EndBeforeStart => "end_before_start",
    /// The span starts too far in the future.
    Future => "in_the_future",
    /// The span is older than any retention.
    TooOld => "too_old",
    /// The span, a name, a key or a value is larger than the limit.
    TooLarge => "too_large",
    /// Too many attributes, events or links.
    TooMany => "too_many_items",
    /// The request has more spans than the limit; this one is beyond it.
    TooManySpans => "too_many_spans",
}
