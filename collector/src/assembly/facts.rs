//! What a span says about the attributes that conditions ask for.
//!
//! Most attributes of a stored span are JSON; it is parsed once per span, and only when a
//! condition asks for something that has no column.

use std::cell::OnceCell;

use mesh_config::money::NanoUsd;
use mesh_config::rule::{Attribute, Attributes, KNOWN, Lookup, Value};
use serde_json::Value as Json;

use crate::otlp::batch::{SpanBatch, SpanRow, Text};

/// One span with its text.
pub(super) struct SpanFacts<'a> {
    batch: &'a SpanBatch,
    pub(super) row: &'a SpanRow,
    attributes: OnceCell<Json>,
    resource: OnceCell<Json>,
}

impl<'a> SpanFacts<'a> {
    /// A span; nothing is parsed yet.
    pub(super) fn new(batch: &'a SpanBatch, row: &'a SpanRow) -> Self {
        Self {
            batch,
            row,
            attributes: OnceCell::new(),
            resource: OnceCell::new(),
        }
    }

    fn parsed<'s>(&'s self, cell: &'s OnceCell<Json>, text: Text) -> &'s Json {
        // The text was written by this program.
        cell.get_or_init(|| serde_json::from_str(self.batch.str(text)).unwrap_or(Json::Null))
    }

    fn attribute(&self, name: &str) -> Option<&Json> {
        self.parsed(&self.attributes, self.row.attributes).get(name)
    }

    fn resource(&self, name: &str) -> Option<&Json> {
        let text = self.batch.resource(self.row).attributes;
        self.parsed(&self.resource, text).get(name)
    }

    /// Whether the span has an attribute. Those that every stored span has are always there.
    pub(super) fn has(&self, name: &str) -> bool {
        match name {
            "trace_id" | "span_id" | "service_name" | "duration_ms" | "data_tag"
            | "retention_days" => true,
            "parent_id" => self.row.parent_id != [0; 8],
            "cost_usd" => self.row.cost_nanos.is_some(),
            "operation_type" => !self.row.operation_type.is_empty(),
            "sampling.reason" => !self.row.sampling_reason.is_empty(),
            "http.status_code" | "http.response.status_code" => self.row.http_status != 0,
            name => self.attribute(name).is_some(),
        }
    }

    /// An attribute as a number; `cost_usd` in nano-USD.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        let row = self.row;
        match name {
            "cost_usd" => row.cost_nanos.map(|nanos| nanos as f64),
            "duration_ms" => Some(duration_ns(row) as f64 / 1e6),
            "http.status_code" | "http.response.status_code" => {
                (row.http_status != 0).then(|| f64::from(row.http_status))
            }
            name => match self.attribute(name)? {
                Json::Number(number) => number.as_f64(),
                Json::String(text) => text.trim().parse().ok().filter(|n: &f64| n.is_finite()),
                _ => None,
            },
        }
    }

    fn text(&self, text: Text) -> Lookup<'_> {
        if text.is_empty() {
            Lookup::Absent
        } else {
            Lookup::Value(Value::Bytes(self.batch.str(text).as_bytes()))
        }
    }

    /// An attribute with a fixed name, under that name or one of its others.
    fn known(&self, attribute: &Attribute) -> Lookup<'_> {
        let name = attribute.to_string();
        let known = KNOWN.iter().find(|known| known.name == name);
        let others = known.map_or(&[][..], |known| known.aliases);
        let names = std::iter::once(name.as_str()).chain(others.iter().copied());
        for name in names {
            if let Some(found) = self.attribute(name).or_else(|| self.resource(name)) {
                return value(Some(found));
            }
        }
        Lookup::Absent
    }
}

fn duration_ns(row: &SpanRow) -> u64 {
    row.end_ns.saturating_sub(row.start_ns).unsigned_abs()
}

fn value(json: Option<&Json>) -> Lookup<'_> {
    match json {
        Some(Json::Bool(flag)) => Lookup::Value(Value::Bool(*flag)),
        Some(Json::Number(number)) => number.as_f64().map_or(Lookup::Absent, |number| {
            Lookup::Value(Value::Number(number))
        }),
        Some(Json::String(text)) => Lookup::Value(Value::Bytes(text.as_bytes())),
        Some(Json::Null | Json::Array(_) | Json::Object(_)) | None => Lookup::Absent,
    }
}

impl Attributes for SpanFacts<'_> {
    fn get(&self, attribute: &Attribute) -> Lookup<'_> {
        let row = self.row;
        match attribute {
            Attribute::Error => Lookup::Value(Value::Bool(row.error)),
            Attribute::CostUsd => row.cost_nanos.map_or(Lookup::Absent, |nanos| {
                Lookup::Value(Value::Money(NanoUsd::from_nanos_saturating(nanos.into())))
            }),
            Attribute::DurationMs => Lookup::Value(Value::Nanos(duration_ns(row))),
            Attribute::DataTag => Lookup::Value(Value::Tag(row.class)),
            Attribute::OperationType => self.text(row.operation_type),
            Attribute::ServiceName => self.text(self.batch.resource(row).service),
            Attribute::HttpResponseStatusCode => match row.http_status {
                0 => Lookup::Absent,
                status => Lookup::Value(Value::Number(status.into())),
            },
            Attribute::Direction => match row.kind {
                2 => Lookup::Value(Value::Bytes(b"inbound")),
                3 => Lookup::Value(Value::Bytes(b"outbound")),
                _ => Lookup::Absent,
            },
            // About the whole trace, which a span alone does not know.
            Attribute::TraceCostUsd
            | Attribute::TraceDurationMs
            | Attribute::TraceSpans
            | Attribute::TraceDepth => Lookup::Unknown,
            Attribute::RequestHeader(name) => {
                value(self.attribute(&format!("http.request.header.{name}")))
            }
            Attribute::Baggage(_) => Lookup::Absent,
            Attribute::Resource(name) => value(self.resource(name)),
            Attribute::Span(name) => value(self.attribute(name)),
            fixed => self.known(fixed),
        }
    }
}
