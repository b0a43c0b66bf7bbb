//! One span: fields, the attributes that become columns, cost and class.
//!
//! Attributes that have a column of their own are lifted out; the rest is kept as JSON.
//! A lifted attribute whose value makes no sense (a negative cost) stays in the JSON, so
//! that nobody has to guess what the sender said.

use mesh_config::DataTag;
use w3c_traceparent_parser::otel::OtState;
use w3c_traceparent_parser::tracestate::TraceState;

use super::any::{self, Any};
use super::batch::{Arena, CostSource, SpanRow, Text};
use super::decode::{Context, write_member};
use super::limits::{Limits, Refusal};
use super::wire::{Reader, Value, WireError};
use crate::policy::{Facts, nanos_from_usd};

/// What the spans of one scope share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope {
    /// The scope's name.
    pub(crate) text: Text,
    /// True for spans of the filter, which are never priced a second time.
    pub(crate) is_filter: bool,
    /// Index of the resource.
    pub(crate) resource: u32,
}

/// Why a span was refused.
#[derive(Debug)]
pub(crate) struct SpanError {
    /// The reason counted.
    pub(crate) reason: Refusal,
    /// What the client is told.
    pub(crate) detail: String,
}

impl From<WireError> for SpanError {
    fn from(error: WireError) -> Self {
        let reason = if error == WireError::Depth {
            Refusal::TooLarge
        } else {
            Refusal::Malformed
        };
        Self {
            reason,
            detail: error.to_string(),
        }
    }
}

fn refuse(reason: Refusal, detail: impl Into<String>) -> SpanError {
    SpanError {
        reason,
        detail: detail.into(),
    }
}

/// Attributes with columns of their own, as far as seen.
#[derive(Default)]
struct Lifted<'a> {
    cost_usd: Option<u64>,
    cost_path: Option<u64>,
    cost_source: &'a str,
    price_version: &'a str,
    operation_type: &'a str,
    sampling_reason: &'a str,
    retention_days: Option<u16>,
    class: Option<DataTag>,
    detected: Option<DataTag>,
    http_status: u16,
    grpc_status: Option<u32>,
    facts: Facts<'a>,
}

/// Decodes one `Span` message; text goes to the arena.
pub(crate) fn decode(
    message: &[u8],
    scope: Scope,
    context: &Context<'_>,
    text: &mut Arena,
) -> Result<SpanRow, SpanError> {
    let limits = context.limits;
    if message.len() > limits.span_bytes {
        return Err(refuse(
            Refusal::TooLarge,
            format!(
                "span has `{}` bytes, the limit is `{}`",
                message.len(),
                limits.span_bytes
            ),
        ));
    }
    let mut row = SpanRow {
        scope: scope.text,
        resource: scope.resource,
        ..SpanRow::default()
    };
    let lifted = attributes(message, context, text, &mut row)?;
    let (mut start, mut end) = (0u64, 0u64);
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.next()? {
        match number {
            1 => row.trace_id = id(value.bytes()?, Refusal::TraceId, "trace id")?,
            2 => row.span_id = id(value.bytes()?, Refusal::SpanId, "span id")?,
            3 => row.trace_state = name(value, limits, text, "trace state")?,
            4 => row.parent_id = parent_id(value.bytes()?)?,
            5 => row.name = name(value, limits, text, "span name")?,
            6 => {
                row.kind = u8::try_from(value.varint()?)
                    .ok()
                    .filter(|kind| *kind <= 5)
                    .unwrap_or(0)
            }
            7 => start = value.fixed64()?,
            8 => end = value.fixed64()?,
            15 => status(value.bytes()?, limits, text, &mut row)?,
            _ => {}
        }
    }
    if row.trace_id == [0; 16] {
        return Err(refuse(Refusal::TraceId, "trace id is missing or all zero"));
    }
    if row.span_id == [0; 8] {
        return Err(refuse(Refusal::SpanId, "span id is missing or all zero"));
    }
    times(start, end, context, &mut row)?;
    row.adjusted_count = adjusted_count(row.trace_state.of(text.as_str()));
    lists(message, limits, text, &mut row)?;
    settle(&lifted, scope, context, text, &mut row);
    Ok(row)
}

fn id<const N: usize>(bytes: &[u8], reason: Refusal, what: &str) -> Result<[u8; N], SpanError> {
    <[u8; N]>::try_from(bytes).map_err(|_| {
        refuse(
            reason,
            format!("{what} has `{}` bytes, not `{N}`", bytes.len()),
        )
    })
}

fn parent_id(bytes: &[u8]) -> Result<[u8; 8], SpanError> {
    // A root span has no parent: absent, empty, or (some exporters) eight zero bytes.
    if bytes.is_empty() {
        Ok([0; 8])
    } else {
        id(bytes, Refusal::ParentId, "parent id")
    }
}

fn name(
    value: Value<'_>,
    limits: &Limits,
    text: &mut Arena,
    what: &str,
) -> Result<Text, SpanError> {
    let name = value.text()?;
    if name.len() > limits.name_bytes {
        return Err(refuse(
            Refusal::TooLarge,
            format!("{what} has `{}` bytes", name.len()),
        ));
    }
    Ok(text.push(name))
}

fn status(
    message: &[u8],
    limits: &Limits,
    text: &mut Arena,
    row: &mut SpanRow,
) -> Result<(), SpanError> {
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.next()? {
        match number {
            2 => row.status_message = name(value, limits, text, "status message")?,
            3 => {
                row.status = u8::try_from(value.varint()?)
                    .ok()
                    .filter(|code| *code <= 2)
                    .unwrap_or(0)
            }
            _ => {}
        }
    }
    Ok(())
}

fn times(start: u64, end: u64, context: &Context<'_>, row: &mut SpanRow) -> Result<(), SpanError> {
    let limits = context.limits;
    let (Ok(start_ns), Ok(end_ns)) = (i64::try_from(start), i64::try_from(end)) else {
        return Err(refuse(Refusal::Time, "time is beyond the year 2262"));
    };
    if start == 0 || end == 0 {
        return Err(refuse(Refusal::Time, "start or end time is missing"));
    }
    if start > end.saturating_add(limits.negative_duration_ns) {
        return Err(refuse(
            Refusal::EndBeforeStart,
            "span ends before it starts",
        ));
    }
    if start > context.received_ns.saturating_add(limits.future_ns) {
        return Err(refuse(
            Refusal::Future,
            "span starts more than a day in the future",
        ));
    }
    if start < context.received_ns.saturating_sub(limits.past_ns) {
        return Err(refuse(Refusal::TooOld, "span is older than any retention"));
    }
    row.start_ns = start_ns;
    row.end_ns = end_ns.max(start_ns);
    Ok(())
}

/// 1 / probability from the trace state's `ot=th:..`.
fn adjusted_count(trace_state: &str) -> Option<f64> {
    if trace_state.is_empty() {
        return None;
    }
    let state = TraceState::parse(trace_state.as_bytes()).ok()?;
    let threshold = OtState::parse(state.get(b"ot")?).threshold()?;
    Some(threshold.adjusted_count())
}

/// Writes the remaining attributes as JSON and collects the lifted ones.
fn attributes<'a>(
    message: &'a [u8],
    context: &Context<'_>,
    text: &mut Arena,
    row: &mut SpanRow,
) -> Result<Lifted<'a>, SpanError> {
    let limits = context.limits;
    let mut lifted = Lifted::default();
    let start = text.len();
    let out = text.buffer();
    out.push('{');
    let mut first = true;
    let mut count = 0usize;
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.next()? {
        if number != 9 {
            continue;
        }
        count += 1;
        let (key, any) = attribute(value, count, limits)?;
        if key == "data_tag"
            && let Some(tag) = any.as_str()
        {
            lifted.class = Some(context.rules.class_of_tag(tag));
            continue;
        }
        let found = context
            .rules
            .class_of(key, any.as_str().unwrap_or_default());
        lifted.detected = lifted.detected.max(found);
        if !lift(key, any, &mut lifted) {
            write_member(key, any, limits, &mut first, out)?;
        }
    }
    out.push('}');
    row.attributes = text.since(start);
    Ok(lifted)
}

fn attribute<'a>(
    value: Value<'a>,
    count: usize,
    limits: &Limits,
) -> Result<(&'a str, Any<'a>), SpanError> {
    if count > limits.attributes {
        return Err(refuse(
            Refusal::TooMany,
            format!("more than `{}` attributes", limits.attributes),
        ));
    }
    let len = value.bytes()?.len();
    let (key, any) = any::key_value(value)?;
    if key.len() > limits.key_bytes || len > limits.value_bytes.saturating_add(key.len()) {
        return Err(refuse(
            Refusal::TooLarge,
            format!("attribute has `{len}` bytes"),
        ));
    }
    Ok((key, any))
}

/// Takes what has a column or decides the cost; true when the JSON need not repeat it.
fn lift<'a>(key: &str, any: Any<'a>, to: &mut Lifted<'a>) -> bool {
    fn set<T>(slot: &mut Option<T>, value: Option<T>) -> bool {
        let found = value.is_some();
        if found {
            *slot = value;
        }
        found
    }
    fn text<'a>(slot: &mut &'a str, any: Any<'a>) -> bool {
        any.as_str().map(|text| *slot = text).is_some()
    }
    let facts = &mut to.facts;
    match key {
        "cost_usd" => set(&mut to.cost_usd, any.as_f64().and_then(nanos_from_usd)),
        "cost_usd.path" => set(&mut to.cost_path, any.as_f64().and_then(nanos_from_usd)),
        "cost.source" => text(&mut to.cost_source, any),
        "cost.price_version" => text(&mut to.price_version, any),
        "operation_type" => text(&mut to.operation_type, any),
        "sampling.reason" => text(&mut to.sampling_reason, any),
        "retention_days" => set(
            &mut to.retention_days,
            any.as_int().and_then(|days| u16::try_from(days).ok()),
        ),
        "http.response.status_code" | "http.status_code" => any
            .as_int()
            .and_then(|status| u16::try_from(status).ok())
            .map(|status| to.http_status = status)
            .is_some(),
        "rpc.grpc.status_code" => {
            to.grpc_status = any.as_int().and_then(|status| u32::try_from(status).ok());
            false
        }
        // The rest decides the cost and stays visible in the JSON.
        _ => {
            facts.note(key, any);
            false
        }
    }
}

fn lists(
    message: &[u8],
    limits: &Limits,
    text: &mut Arena,
    row: &mut SpanRow,
) -> Result<(), SpanError> {
    row.events = list(message, 11, limits, text, write_event)?;
    row.links = list(message, 13, limits, text, write_link)?;
    Ok(())
}

type WriteItem = fn(&[u8], &Limits, &mut String) -> Result<(), SpanError>;

fn list(
    message: &[u8],
    field: u32,
    limits: &Limits,
    text: &mut Arena,
    write: WriteItem,
) -> Result<Text, SpanError> {
    let start = text.len();
    let out = text.buffer();
    let mut count = 0usize;
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.next()? {
        if number != field {
            continue;
        }
        if count >= limits.events {
            return Err(refuse(
                Refusal::TooMany,
                format!("more than `{}` events or links", count),
            ));
        }
        out.push(if count == 0 { '[' } else { ',' });
        write(value.bytes()?, limits, out)?;
        count += 1;
    }
    if count > 0 {
        out.push(']');
    }
    Ok(text.since(start))
}

fn write_event(message: &[u8], limits: &Limits, out: &mut String) -> Result<(), SpanError> {
    let (mut time, mut name) = (0, "");
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.next()? {
        match number {
            1 => time = value.fixed64()?,
            2 => name = value.text()?,
            _ => {}
        }
    }
    out.push_str("{\"time_unix_nano\":");
    out.push_str(&time.to_string());
    out.push_str(",\"name\":");
    any::write_string(name, out);
    write_attributes(message, 3, limits, out)
}

fn write_link(message: &[u8], limits: &Limits, out: &mut String) -> Result<(), SpanError> {
    let (mut trace_id, mut span_id, mut state) = (&[][..], &[][..], "");
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.next()? {
        match number {
            1 => trace_id = value.bytes()?,
            2 => span_id = value.bytes()?,
            3 => state = value.text()?,
            _ => {}
        }
    }
    out.push_str("{\"trace_id\":\"");
    write_hex(trace_id, out);
    out.push_str("\",\"span_id\":\"");
    write_hex(span_id, out);
    out.push('"');
    if !state.is_empty() {
        out.push_str(",\"trace_state\":");
        any::write_string(state, out);
    }
    write_attributes(message, 4, limits, out)
}

fn write_attributes(
    message: &[u8],
    field: u32,
    limits: &Limits,
    out: &mut String,
) -> Result<(), SpanError> {
    out.push_str(",\"attributes\":{");
    let mut first = true;
    let mut count = 0usize;
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.next()? {
        if number == field {
            count += 1;
            let (key, any) = attribute(value, count, limits)?;
            write_member(key, any, limits, &mut first, out)?;
        }
    }
    out.push_str("}}");
    Ok(())
}

/// Appends lower-case hex.
pub(crate) fn write_hex(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            out.push(char::from(if nibble < 10 {
                b'0' + nibble
            } else {
                b'a' + nibble - 10
            }));
        }
    }
}

/// Decides error, class, retention and cost once everything is known.
fn settle(
    lifted: &Lifted<'_>,
    scope: Scope,
    context: &Context<'_>,
    text: &mut Arena,
    row: &mut SpanRow,
) {
    row.http_status = lifted.http_status;
    let rules = context.rules;
    let http = (lifted.http_status != 0).then_some(lifted.http_status);
    row.error = row.status == 2 || rules.is_error(http, lifted.grpc_status);
    // A sender may say more than the detectors find, never less.
    row.class = lifted
        .class
        .max(lifted.detected)
        .unwrap_or_else(|| rules.default_class());
    let cap = rules.retention_days(row.class);
    row.retention_days = lifted.retention_days.map_or(cap, |days| days.min(cap));
    row.operation_type = text.push(lifted.operation_type);
    row.sampling_reason = text.push(lifted.sampling_reason);
    row.cost_path_nanos = lifted.cost_path;
    row.price_version = text.push(lifted.price_version);
    (row.cost_nanos, row.cost_source) = match lifted.cost_usd {
        Some(nanos)
            if lifted.cost_source == CostSource::MeshEstimate.as_str() || scope.is_filter =>
        {
            (Some(nanos), CostSource::MeshEstimate)
        }
        Some(nanos) => (Some(nanos), CostSource::App),
        // The filter charges a request once; its other hop carries no cost on purpose.
        None if scope.is_filter => (None, CostSource::NotCharged),
        None => {
            let mut facts = lifted.facts;
            facts.operation_type = lifted.operation_type;
            let duration_ns = row.end_ns.saturating_sub(row.start_ns).unsigned_abs();
            let (nanos, source, version) =
                rules.price(&facts, row.start_ns.unsigned_abs(), duration_ns);
            row.price_version = text.push(version);
            (Some(nanos), source)
        }
    };
}
