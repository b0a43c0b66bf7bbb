//! A whole trace export request: bytes in, [`SpanBatch`] out.

use super::any::{self, Any};
use super::batch::{Arena, ResourceRow, SpanBatch, SpanRow};
use super::inspect;
use super::limits::{Limits, Refusal};
use super::span::{self, Scratch};
use super::wire::{Reader, WireError};
use crate::policy::Rules;

/// Bytes of a span below those of most; room for a request's rows is made by it.
const USUAL_SPAN: usize = 400;

/// What decoding depends on besides the bytes. Decoding the same bytes in the same
/// context always gives the same rows; recovery relies on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    /// Caps.
    pub(crate) limits: &'a Limits,
    /// Prices and classes.
    pub(crate) rules: &'a Rules,
    /// When the request was received, nanoseconds since the epoch.
    pub(crate) received_ns: u64,
}

/// Decodes an `ExportTraceServiceRequest`.
pub(crate) fn traces(message: &[u8], context: &Context<'_>) -> Result<SpanBatch, WireError> {
    let mut batch = SpanBatch {
        text: Arena::with_capacity(message.len()),
        spans: Vec::with_capacity(context.limits.spans.min(message.len() / USUAL_SPAN)),
        received_ns: context.received_ns,
        ..SpanBatch::default()
    };
    let mut scratch = Scratch::default();
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.next()? {
        if number == 1 {
            resource_spans(value.bytes()?, context, &mut batch, &mut scratch)?;
        }
    }
    // What was refused was not looked at to its end.
    let is_off = context.rules.redacts_from().is_none();
    batch.is_redactable = !is_off && (scratch.is_redactable || batch.refused.total() > 0);
    Ok(batch)
}

fn resource_spans<'a>(
    message: &'a [u8],
    context: &Context<'_>,
    batch: &mut SpanBatch,
    scratch: &mut Scratch<'a>,
) -> Result<(), WireError> {
    // The resource may follow its spans on the wire, so it is looked up first.
    let mut resource_message = &[][..];
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.next()? {
        if number == 1 {
            resource_message = value.bytes()?;
        }
    }
    let row = resource(resource_message, context, batch, scratch)?;
    let index = u32::try_from(batch.resources.len()).unwrap_or(u32::MAX);
    batch.resources.push(row);
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.next()? {
        if number == 2 {
            scope_spans(value.bytes()?, index, context, batch, scratch)?;
        }
    }
    Ok(())
}

fn resource<'a>(
    message: &'a [u8],
    context: &Context<'_>,
    batch: &mut SpanBatch,
    scratch: &mut Scratch<'a>,
) -> Result<ResourceRow, WireError> {
    let limits = context.limits;
    let redacts_from = context.rules.redacts_from();
    let mut service = None;
    let start = batch.text.len();
    let out = batch.text.buffer();
    out.push('{');
    let mut first = true;
    let mut count = 0usize;
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.next()? {
        if number != 1 {
            continue;
        }
        let (key, any) = any::key_value(value)?;
        count += 1;
        // Resource attributes beyond the limit are dropped: refusing all spans of a
        // process for its environment would help nobody.
        if count > limits.attributes || key.len() > limits.key_bytes {
            continue;
        }
        if let Some(from) = redacts_from {
            let named = scratch.known.key(key, context.rules).named;
            let found = inspect::class_of_named(named, any, context.rules, limits)?;
            scratch.is_redactable |= found >= Some(from);
        }
        if key == "service.name" {
            service = any.as_str().filter(|name| name.len() <= limits.name_bytes);
        }
        write_member(key, any, limits, &mut first, out)?;
    }
    out.push('}');
    let attributes = batch.text.since(start);
    let name = service
        .filter(|name| !name.is_empty())
        .unwrap_or("unknown_service");
    Ok(ResourceRow {
        service: batch.text.push(name),
        attributes,
    })
}

fn scope_spans<'a>(
    message: &'a [u8],
    resource: u32,
    context: &Context<'_>,
    batch: &mut SpanBatch,
    scratch: &mut Scratch<'a>,
) -> Result<(), WireError> {
    let mut name = "";
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.next()? {
        if number == 1 {
            let mut scope = Reader::new(value.bytes()?);
            while let Some((number, value)) = scope.next()? {
                if number == 1 {
                    name = value.text()?;
                }
            }
        }
    }
    if name.len() > context.limits.name_bytes {
        name = "";
    }
    let scope = span::Scope {
        text: batch.text.push(name),
        is_filter: name == crate::policy::FILTER_SCOPE,
        resource,
    };
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.next()? {
        if number == 2 {
            one_span(value.bytes()?, scope, context, batch, scratch);
        }
    }
    Ok(())
}

fn one_span<'a>(
    message: &'a [u8],
    scope: span::Scope,
    context: &Context<'_>,
    batch: &mut SpanBatch,
    scratch: &mut Scratch<'a>,
) {
    if batch.spans.len() >= context.limits.spans {
        batch.refused.add(Refusal::TooManySpans, || {
            format!("more than `{}` spans in one request", context.limits.spans)
        });
        return;
    }
    let text_before = batch.text.len();
    // In its place at once: a row is large.
    batch.spans.push(SpanRow::default());
    let Some(row) = batch.spans.last_mut() else {
        return;
    };
    match span::decode(message, scope, context, (&mut batch.text, row), scratch) {
        Ok(()) => {}
        Err(error) => {
            batch.spans.pop();
            batch.text.truncate(text_before);
            scratch.known.clear();
            batch.refused.add(error.reason, || error.detail);
            if batch.refused.trace_id.is_none() {
                batch.refused.trace_id = span::trace_id(message);
            }
        }
    }
}

/// Appends `"key":value` to a JSON object.
pub(crate) fn write_member(
    key: &str,
    any: Any<'_>,
    limits: &Limits,
    first: &mut bool,
    out: &mut String,
) -> Result<(), WireError> {
    any::separate(first, out);
    any::write_string(key, out);
    out.push(':');
    any.write_json(limits, 0, out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{now_ns, request, span};

    #[test]
    fn spans_beyond_the_limit_are_refused_one_by_one() {
        let spans = (1..=5).map(|id| span(1, id, 0, 1, Vec::new())).collect();
        let limits = Limits {
            spans: 3,
            ..Limits::default()
        };
        let rules = Rules::load(None).unwrap();
        let context = Context {
            limits: &limits,
            rules: &rules,
            received_ns: now_ns(),
        };
        let batch = traces(&request("many", spans), &context).unwrap();
        assert_eq!(batch.spans.len(), 3);
        let refused: Vec<_> = batch.refused.by_reason().collect();
        assert_eq!(refused, [(Refusal::TooManySpans, 2)]);
    }
}
