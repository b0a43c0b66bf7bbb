//! Readers of decoded spans.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn value<'s>(span: &'s Span, key: &str) -> Option<&'s Value> {
    let mut found = span.attributes.iter().filter(|pair| pair.key == key);
    let first = found.next()?;
    assert!(found.next().is_none(), "`{key}` stands twice: {span:#?}");
    first.value.as_ref()?.value.as_ref()
}

pub(crate) fn text<'s>(span: &'s Span, key: &str) -> Option<&'s str> {
    match value(span, key)? {
        Value::StringValue(text) => Some(text),
        other => panic!("`{key}` is {other:?}"),
    }
}

pub(crate) fn int(span: &Span, key: &str) -> Option<i64> {
    match value(span, key)? {
        Value::IntValue(number) => Some(*number),
        other => panic!("`{key}` is {other:?}"),
    }
}

pub(crate) fn double(span: &Span, key: &str) -> Option<f64> {
    match value(span, key)? {
        Value::DoubleValue(number) => Some(*number),
        other => panic!("`{key}` is {other:?}"),
    }
}

pub(crate) fn flag(span: &Span, key: &str) -> Option<bool> {
    match value(span, key)? {
        Value::BoolValue(flag) => Some(*flag),
        other => panic!("`{key}` is {other:?}"),
    }
}

/// Keys in the order of the span.
pub(crate) fn keys(span: &Span) -> Vec<&str> {
    span.attributes
        .iter()
        .map(|pair| pair.key.as_str())
        .collect()
}
