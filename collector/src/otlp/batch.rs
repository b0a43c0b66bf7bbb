//! The rows of one request: plain numbers beside one arena of text.
//!
//! A row refers to its text by offset, so that a request costs a handful of allocations
//! whatever the number of its spans. Offsets are 32 bits: a request is at most 64 MiB
//! decompressed and JSON escaping grows text by at most a factor of six.

use mesh_config::DataTag;

use super::limits::Refusal;

/// A piece of text inside [`SpanBatch::text`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Text {
    start: u32,
    len: u32,
}

impl Text {
    /// True when it was never set: not even text of no bytes.
    pub(crate) const fn is_unset(self) -> bool {
        self.start == 0 && self.len == 0
    }

    /// Its part from byte `from` on, of `len` bytes, which must lie within it.
    pub(super) const fn part(self, from: u32, len: u32) -> Self {
        Self {
            start: self.start.saturating_add(from),
            len,
        }
    }

    /// True when there is no text.
    pub(crate) const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Where it starts in its arena.
    pub(crate) const fn start(self) -> u32 {
        self.start
    }

    /// Its bytes.
    pub(crate) const fn len(self) -> u32 {
        self.len
    }

    /// The text, given the arena it was cut from.
    pub(crate) fn of(self, arena: &str) -> &str {
        let start = self.start as usize;
        arena
            .get(start..start.saturating_add(self.len as usize))
            .unwrap_or_default()
    }
}

/// Text of one request, appended piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Arena(String);

impl Arena {
    /// An arena that holds `bytes` without growing.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    /// Copies `text` in.
    pub(crate) fn push(&mut self, text: &str) -> Text {
        let start = self.0.len();
        self.0.push_str(text);
        self.since(start)
    }

    /// Everything appended since the arena had `start` bytes.
    pub(crate) fn since(&self, start: usize) -> Text {
        let len = self.0.len().saturating_sub(start);
        Text {
            start: u32::try_from(start).unwrap_or(u32::MAX),
            len: u32::try_from(len).unwrap_or(0),
        }
    }

    /// Copies in what it holds already.
    pub(crate) fn repeat(&mut self, piece: Text) {
        let start = piece.start as usize;
        let end = start.saturating_add(piece.len as usize);
        // A piece never reaches beyond its arena, nor into a character.
        if self.0.get(start..end).is_some() {
            self.0.extend_from_within(start..end);
        }
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets everything after the first `len` bytes.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// The buffer, for writers that append.
    pub(crate) fn buffer(&mut self) -> &mut String {
        &mut self.0
    }

    /// The text itself.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where a span's cost comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum CostSource {
    /// The application put `cost_usd` on the span.
    App,
    /// The filter put it there (`cost.source` = `mesh_estimate`).
    MeshEstimate,
    /// The collector priced the span's operation type.
    PriceTable,
    /// The collector priced tokens by provider and model.
    TokenPrice,
    /// No operation type known: the default price of the table.
    #[default]
    DefaultPrice,
    /// A hop that the filter reported and that is charged elsewhere: no cost.
    NotCharged,
}

impl CostSource {
    /// The stable label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::MeshEstimate => "mesh_estimate",
            Self::PriceTable => "price_table",
            Self::TokenPrice => "token_price",
            Self::DefaultPrice => "default_price",
            Self::NotCharged => "not_charged",
        }
    }
}

/// OTLP span kinds.
pub(crate) mod kind {
    pub(crate) const SERVER: u8 = 2;
    pub(crate) const CLIENT: u8 = 3;
    pub(crate) const PRODUCER: u8 = 4;
    pub(crate) const CONSUMER: u8 = 5;
}

/// What the spans of one resource share.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ResourceRow {
    /// `service.name`, or `unknown_service`.
    pub(crate) service: Text,
    /// All resource attributes as a JSON object.
    pub(crate) attributes: Text,
}

/// One span.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SpanRow {
    /// Never all zero.
    pub(crate) trace_id: [u8; 16],
    /// Never all zero.
    pub(crate) span_id: [u8; 8],
    /// All zero for a root span.
    pub(crate) parent_id: [u8; 8],
    /// Index into [`SpanBatch::resources`].
    pub(crate) resource: u32,
    /// The instrumentation scope's name.
    pub(crate) scope: Text,
    /// The span's name.
    pub(crate) name: Text,
    /// OTLP span kind, 0 to 5.
    pub(crate) kind: u8,
    /// Nanoseconds since the epoch.
    pub(crate) start_ns: i64,
    /// Never before `start_ns`.
    pub(crate) end_ns: i64,
    /// OTLP status code, 0 to 2.
    pub(crate) status: u8,
    /// Status message.
    pub(crate) status_message: Text,
    /// HTTP response status, 0 when there is none.
    pub(crate) http_status: u16,
    /// True for the error class (status error, HTTP >= 400, gRPC status not OK).
    pub(crate) error: bool,
    /// Exclusive cost in nano-USD; `None` when the hop is charged elsewhere.
    pub(crate) cost_nanos: Option<u64>,
    /// Where the cost comes from.
    pub(crate) cost_source: CostSource,
    /// Version of the price table, when the span names it.
    pub(crate) price_version: Text,
    /// Accumulated cost of the path before this span in nano-USD; never summed.
    pub(crate) cost_path_nanos: Option<u64>,
    /// The class, never lower than what the sender said.
    pub(crate) class: DataTag,
    /// Days the span may be kept.
    pub(crate) retention_days: u16,
    /// `operation_type`.
    pub(crate) operation_type: Text,
    /// `sampling.reason`.
    pub(crate) sampling_reason: Text,
    /// 1 / probability from `ot=th:..`; `None` when the trace state has no threshold.
    pub(crate) adjusted_count: Option<f64>,
    /// W3C trace state.
    pub(crate) trace_state: Text,
    /// A server's route or a client's peer, as its attributes say; counts from spans are by it.
    pub(crate) endpoint: Text,
    /// All other attributes as a JSON object.
    pub(crate) attributes: Text,
    /// Events as a JSON list, empty when there are none.
    pub(crate) events: Text,
    /// Links as a JSON list, empty when there are none.
    pub(crate) links: Text,
    /// Trace ids of the links, as hex with a blank between them.
    pub(crate) linked_traces: Text,
}

/// Refused spans of one request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refused {
    counts: [u64; Refusal::ALL.len()],
    /// What was wrong with the first one, for the client.
    pub(crate) first: Option<String>,
    /// The trace of the first one that names one, for the log.
    pub(crate) trace_id: Option<[u8; 16]>,
}

impl Refused {
    /// Counts one refused span.
    pub(crate) fn add(&mut self, reason: Refusal, detail: impl FnOnce() -> String) {
        if let Some(count) = self.counts.get_mut(reason as usize) {
            *count = count.saturating_add(1);
        }
        if self.first.is_none() {
            self.first = Some(detail());
        }
    }

    /// Refused spans in all.
    pub(crate) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Counts by reason, without the zeros.
    pub(crate) fn by_reason(&self) -> impl Iterator<Item = (Refusal, u64)> + '_ {
        Refusal::ALL
            .iter()
            .copied()
            .zip(self.counts)
            .filter(|(_, count)| *count > 0)
    }

    /// What the client is told: the counts by reason and the first detail.
    pub(crate) fn message(&self) -> String {
        let mut text = String::new();
        for (reason, count) in self.by_reason() {
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(&format!("{count} {}", reason.as_str()));
        }
        if let Some(first) = &self.first {
            text.push_str("; first: ");
            text.push_str(first);
        }
        text
    }
}

/// The rows of one request.
#[derive(Debug, Default)]
pub(crate) struct SpanBatch {
    /// All text of the rows.
    pub(crate) text: Arena,
    /// Accepted spans in the order received.
    pub(crate) spans: Vec<SpanRow>,
    /// Resources the spans refer to.
    pub(crate) resources: Vec<ResourceRow>,
    /// Refused spans.
    pub(crate) refused: Refused,
    /// When the request was received, nanoseconds since the epoch.
    pub(crate) received_ns: u64,
    /// True when the request has values that the policy wants treated.
    pub(crate) is_redactable: bool,
}

impl SpanBatch {
    /// The text behind `piece`.
    pub(crate) fn str(&self, piece: Text) -> &str {
        piece.of(self.text.as_str())
    }

    /// The resource of `span`.
    pub(crate) fn resource(&self, span: &SpanRow) -> ResourceRow {
        self.resources
            .get(span.resource as usize)
            .copied()
            .unwrap_or_default()
    }

    /// Roughly what the batch holds in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.text.len() + self.spans.len() * size_of::<SpanRow>()
    }
}
