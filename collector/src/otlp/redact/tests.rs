//! What leaves of a request, by mode, and that nothing else changes.

use mesh_config::Policy;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use prost::Message as _;

use super::*;
use crate::otlp::decode::{Context, traces};
use crate::otlp::limits::Limits;
use crate::testing::{double, now_ns, request, span, text};

fn rules(classification: &str) -> Rules {
    let yaml = format!("classification: {{{classification}}}");
    let policy = Policy::from_yaml(&yaml, "test").unwrap().policy;
    Rules::compile(policy).unwrap()
}

fn any(value: Any) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn attribute(key: &str, value: Any) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(any(value)),
        ..KeyValue::default()
    }
}

/// A span with personal data everywhere.
fn telling() -> Span {
    let mail = || any(Any::StringValue("ana@example.com".into()));
    let list = ArrayValue {
        values: vec![mail(), any(Any::IntValue(7))],
    };
    let map = KeyValueList {
        values: vec![attribute("reply", Any::ArrayValue(list.clone()))],
    };
    Span {
        name: "GET /users/ana@example.com".into(),
        attributes: vec![
            text("user.email", "ana@example.com"),
            text("note", "to ana@example.com, please"),
            attribute("list", Any::ArrayValue(list)),
            attribute("map", Any::KvlistValue(map)),
            attribute("password", Any::IntValue(1_234)),
            text("plain", "nothing here"),
            double("cost_usd", 0.25),
        ],
        events: vec![Event {
            name: "mail to ana@example.com".into(),
            attributes: vec![text("exception.message", "no such user ana@example.com")],
            ..Event::default()
        }],
        links: vec![Link {
            attributes: vec![text("why", "ana@example.com")],
            ..Link::default()
        }],
        status: Some(Status {
            message: "ana@example.com is unknown".into(),
            code: 2,
        }),
        ..span(1, 1, 0, 0, Vec::new())
    }
}

fn treated(raw: &[u8], rules: &Rules) -> (ExportTraceServiceRequest, u64) {
    let mut redactor = Redactor::new(rules);
    let request = redactor.request(raw).unwrap();
    let values = redactor.values;
    (
        ExportTraceServiceRequest::decode(&*request).unwrap(),
        values,
    )
}

fn only_span(request: &ExportTraceServiceRequest) -> &Span {
    &request.resource_spans[0].scope_spans[0].spans[0]
}

fn value<'s>(span: &'s Span, key: &str) -> Option<&'s Any> {
    let found = span.attributes.iter().find(|one| one.key == key)?;
    found.value.as_ref()?.value.as_ref()
}

#[test]
fn masking_leaves_no_trace_of_a_value_and_everything_else_as_it_was() {
    let raw = request("a", vec![telling()]);
    let (request, values) = treated(&raw, &rules(""));
    let debug = format!("{request:?}");
    assert!(
        !debug.contains("ana@") && !debug.contains("1234"),
        "{debug}"
    );
    assert_eq!(values, 10, "{debug}");
    let span = only_span(&request);
    assert_eq!(span.name, "GET /users/***");
    let text = |text: &str| Some(Any::StringValue(text.into()));
    assert_eq!(value(span, "note"), text("to ***, please").as_ref());
    assert_eq!(value(span, "password"), text("***").as_ref());
    assert_eq!(value(span, "plain"), text("nothing here").as_ref());
    assert_eq!(value(span, "cost_usd"), Some(&Any::DoubleValue(0.25)));
    assert_eq!(value(span, "data_tag"), text("PII").as_ref());
    assert_eq!(span.trace_id, telling().trace_id);
    assert_eq!(span.events[0].name, "mail to ***");
}

#[test]
fn dropping_leaves_attributes_out_and_hashing_keeps_equal_values_equal() {
    let raw = request("a", vec![telling()]);
    let (request, _) = treated(&raw, &rules("redaction: {mode: drop}"));
    let span = only_span(&request);
    for gone in ["user.email", "note", "password"] {
        assert_eq!(value(span, gone), None, "{gone}");
    }
    assert_eq!(span.name, "***", "a name cannot be left out");
    assert!(!format!("{request:?}").contains("ana@"));
    let (request, _) = treated(
        &raw,
        &rules("redaction: {mode: hash, hash_key: 0123456789abcdef}"),
    );
    let span = only_span(&request);
    let Some(Any::StringValue(hash)) = value(span, "user.email") else {
        panic!("{span:?}");
    };
    assert_eq!(hash.len(), 32);
    assert_eq!(
        span.links[0].attributes[0].value,
        Some(any(Any::StringValue(hash.clone()))),
        "the same value"
    );
    let Some(Any::StringValue(number)) = value(span, "password") else {
        panic!("{span:?}");
    };
    assert_ne!(number, hash);
}

#[test]
fn a_hash_of_the_filter_is_not_hashed_again() {
    let rules = rules("redaction: {mode: hash, hash_key: 0123456789abcdef}");
    let raw = request(
        "a",
        vec![span(
            1,
            1,
            0,
            0,
            vec![text("user.email", "ana@example.com")],
        )],
    );
    let (mut hashed, _) = treated(&raw, &rules);
    let first = value(only_span(&hashed), "user.email").unwrap().clone();
    for (scope, is_same) in [("tracemeter", true), ("an application", false)] {
        hashed.resource_spans[0].scope_spans[0]
            .scope
            .get_or_insert_default()
            .name = scope.into();
        let (again, _) = treated(&hashed.encode_to_vec(), &rules);
        let again = value(only_span(&again), "user.email").unwrap();
        assert_eq!(*again == first, is_same, "{scope}");
    }
}

#[test]
fn the_class_stays_when_the_value_is_gone_and_is_never_lowered() {
    let rules = rules("");
    let limits = Limits::default();
    let context = Context {
        limits: &limits,
        rules: &rules,
        received_ns: now_ns(),
    };
    for (tag, value, expected) in [
        (None, "ana@example.com", DataTag::Pii),
        (Some("EXPORT_OK"), "ana@example.com", DataTag::Pii),
        (Some("PII"), "Bearer abcdefghijklmnop1234", DataTag::Pii),
        (None, "token=abcdef1234567890", DataTag::Sensitive),
    ] {
        let mut attributes = vec![text("note", value)];
        attributes.extend(tag.map(|tag| text("data_tag", tag)));
        let raw = request("a", vec![span(1, 1, 0, 0, attributes)]);
        let before = traces(&raw, &context).unwrap();
        assert!(before.is_redactable, "{value}");
        let rewritten = Redactor::new(&rules).request(&raw).unwrap();
        let after = traces(&rewritten, &context).unwrap();
        assert_eq!(before.spans[0].class, expected, "{value}");
        assert_eq!(after.spans[0].class, expected, "{value}");
        assert_eq!(
            after.spans[0].retention_days,
            before.spans[0].retention_days
        );
        let json = after.str(after.spans[0].attributes);
        assert!(json.contains("***"), "{json}");
    }
}

#[test]
fn a_request_without_classified_values_is_equal_after_a_rewrite() {
    let mut random = fastrand::Rng::with_seed(9);
    for _ in 0..200 {
        let attributes = (0..random.usize(0..6))
            .map(|at| match random.u8(0..4) {
                0 => attribute(&format!("k{at}"), Any::IntValue(random.i64(..))),
                1 => attribute(&format!("k{at}"), Any::BoolValue(random.bool())),
                2 => double(&format!("k{at}"), random.f64()),
                _ => text(&format!("k{at}"), "GET"),
            })
            .collect();
        let one = Span {
            links: vec![Link::default(); random.usize(0..2)],
            dropped_attributes_count: random.u32(0..3),
            flags: random.u32(..),
            ..span(
                random.u128(1..),
                random.u64(1..),
                random.u64(..),
                0,
                attributes,
            )
        };
        let raw = request("a", vec![one]);
        let before = ExportTraceServiceRequest::decode(&*raw).unwrap();
        assert_eq!(treated(&raw, &rules("")), (before, 0));
    }
}

#[test]
fn off_and_a_stricter_start_treat_nothing_that_they_should_not() {
    let limits = Limits::default();
    let raw = request(
        "a",
        vec![span(1, 1, 0, 0, vec![text("authorization", "Basic x")])],
    );
    for (classification, is_redactable) in [
        ("", true),
        ("redaction: {mode: off}", false),
        ("redaction: {from: PII}", false),
    ] {
        let rules = rules(classification);
        let context = Context {
            limits: &limits,
            rules: &rules,
            received_ns: now_ns(),
        };
        let batch = traces(&raw, &context).unwrap();
        assert_eq!(batch.is_redactable, is_redactable, "{classification}");
        assert_eq!(batch.spans[0].class, DataTag::Sensitive);
    }
}

#[test]
fn damaged_requests_are_refused_and_deep_ones_end() {
    let rules = rules("");
    let mut value = any(Any::StringValue("ana@example.com".into()));
    for _ in 0..40 {
        value = any(Any::ArrayValue(ArrayValue {
            values: vec![value],
        }));
    }
    let deep = KeyValue {
        key: "deep".into(),
        value: Some(value),
        ..KeyValue::default()
    };
    let raw = request("a", vec![span(1, 1, 0, 0, vec![deep])]);
    assert!(!format!("{:?}", treated(&raw, &rules).0).contains("ana@"));
    for len in 0..raw.len() {
        // Whatever comes out: no panic.
        drop(Redactor::new(&rules).request(&raw[..len]));
    }
}
