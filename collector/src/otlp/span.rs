//! One span: its fields, their limits, and the reasons for refusing it.

use mesh_config::DataTag;

use super::attributes::Attributes;
use super::batch::{Arena, SpanRow, Text};
use super::counted::adjusted_count;
use super::decode::Context;
use super::inspect;
use super::known::KnownAttributes;
use super::limits::{Limits, Refusal};
use super::lists;
use super::wire::{Reader, WireError};

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

pub(super) fn refuse(reason: Refusal, detail: impl Into<String>) -> SpanError {
    SpanError {
        reason,
        detail: detail.into(),
    }
}

/// What is reused from span to span of a request.
#[derive(Default)]
pub(crate) struct Scratch<'a> {
    pub(super) known: KnownAttributes<'a>,
    texts: inspect::Texts<'a>,
    events: Vec<&'a [u8]>,
    links: Vec<&'a [u8]>,
    /// True once a span has values that the policy wants treated.
    pub(super) is_redactable: bool,
}

/// Fields that are looked at once the whole message was read.
#[derive(Default)]
struct Fields<'a> {
    trace_state: &'a str,
    name: &'a str,
    status: &'a [u8],
    start: u64,
    end: u64,
}

/// Decodes one `Span` message into an empty row; text goes to the arena.
pub(crate) fn decode<'a>(
    message: &'a [u8],
    scope: Scope,
    context: &Context<'_>,
    (text, row): (&mut Arena, &mut SpanRow),
    scratch: &mut Scratch<'a>,
) -> Result<(), SpanError> {
    let limits = context.limits;
    if message.len() > limits.span_bytes {
        let (len, limit) = (message.len(), limits.span_bytes);
        return Err(refuse(
            Refusal::TooLarge,
            format!("span has `{len}` bytes, the limit is `{limit}`"),
        ));
    }
    row.scope = scope.text;
    row.resource = scope.resource;
    let mut attributes = Attributes::begin(text);
    let fields = read(
        message,
        context,
        text,
        scratch,
        (&mut *row, &mut attributes),
    )?;
    row.attributes = attributes.end(text);
    if row.trace_id == [0; 16] {
        return Err(refuse(Refusal::TraceId, "trace id is missing or all zero"));
    }
    if row.span_id == [0; 8] {
        return Err(refuse(Refusal::SpanId, "span id is missing or all zero"));
    }
    times(fields.start, fields.end, context, row)?;
    row.adjusted_count = adjusted_count(fields.trace_state);
    row.trace_state = name(fields.trace_state, limits, text, "trace state")?;
    row.name = name(fields.name, limits, text, "span name")?;
    let message = status(fields.status, limits, text, row)?;
    attributes.detect(elsewhere(fields.name, message, context, scratch)?);
    row.events = lists::events(&scratch.events, limits, text)?;
    row.links = lists::links(&scratch.links, limits, text)?;
    row.linked_traces = lists::linked_traces(&scratch.links, text)?;
    attributes.settle(scope, context, text, row);
    let from = context.rules.redacts_from();
    scratch.is_redactable |= from.is_some_and(|from| attributes.detected() >= Some(from));
    Ok(())
}

/// Classes of what is not an attribute of the span.
fn elsewhere<'a>(
    name: &'a str,
    message: &'a str,
    context: &Context<'_>,
    scratch: &mut Scratch<'a>,
) -> Result<Option<DataTag>, SpanError> {
    let (rules, limits) = (context.rules, context.limits);
    let name = scratch.texts.class_of(name, rules);
    let message = scratch.texts.class_of(message, rules);
    // Event: name 2, attributes 3. Link: attributes 4.
    let events = inspect::items(&scratch.events, (2, 3), rules, limits)?;
    let links = inspect::items(&scratch.links, (0, 4), rules, limits)?;
    Ok(name.max(message).max(events).max(links))
}

/// One pass over the fields. Only attributes write text meanwhile, since their JSON must be in
/// one piece.
fn read<'a>(
    message: &'a [u8],
    context: &Context<'_>,
    text: &mut Arena,
    scratch: &mut Scratch<'a>,
    (row, attributes): (&mut SpanRow, &mut Attributes<'a>),
) -> Result<Fields<'a>, SpanError> {
    let mut fields = Fields::default();
    scratch.events.clear();
    scratch.links.clear();
    let small = |number: u64, max: u8| u8::try_from(number).ok().filter(|small| *small <= max);
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.next()? {
        match number {
            1 => row.trace_id = id(value.bytes()?, Refusal::TraceId, "trace id")?,
            2 => row.span_id = id(value.bytes()?, Refusal::SpanId, "span id")?,
            3 => fields.trace_state = value.text()?,
            4 => row.parent_id = parent_id(value.bytes()?)?,
            5 => fields.name = value.text()?,
            6 => row.kind = small(value.varint()?, 5).unwrap_or(0),
            7 => fields.start = value.fixed64()?,
            8 => fields.end = value.fixed64()?,
            9 => attributes.add(value, context, text, &mut scratch.known)?,
            11 => lists::collect(&mut scratch.events, value.bytes()?, context.limits)?,
            13 => lists::collect(&mut scratch.links, value.bytes()?, context.limits)?,
            15 => fields.status = value.bytes()?,
            _ => {}
        }
    }
    Ok(fields)
}

/// The trace id of a span that may be damaged elsewhere.
pub(super) fn trace_id(message: &[u8]) -> Option<[u8; 16]> {
    let mut reader = Reader::new(message);
    while let Ok(Some((number, value))) = reader.next() {
        if number == 1 {
            let id: [u8; 16] = value.bytes().ok()?.try_into().ok()?;
            return (id != [0; 16]).then_some(id);
        }
    }
    None
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

fn name(name: &str, limits: &Limits, text: &mut Arena, what: &str) -> Result<Text, SpanError> {
    if name.len() > limits.name_bytes {
        return Err(refuse(
            Refusal::TooLarge,
            format!("{what} has `{}` bytes", name.len()),
        ));
    }
    Ok(text.push(name))
}

fn status<'a>(
    message: &'a [u8],
    limits: &Limits,
    text: &mut Arena,
    row: &mut SpanRow,
) -> Result<&'a str, SpanError> {
    let mut said = "";
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.next()? {
        match number {
            2 => said = value.text()?,
            3 => {
                row.status = u8::try_from(value.varint()?)
                    .ok()
                    .filter(|code| *code <= 2)
                    .unwrap_or(0)
            }
            _ => {}
        }
    }
    row.status_message = name(said, limits, text, "status message")?;
    Ok(said)
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
