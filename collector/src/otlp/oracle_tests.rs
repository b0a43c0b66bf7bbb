//! The field reader against `prost`: random requests, then random damage.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Proto;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use serde_json::{Map, Value as Json, json};

use super::batch::{SpanBatch, SpanRow};
use super::decode::{Context, traces};
use super::limits::{Limits, Refusal};
use crate::policy::Rules;

const NOW: u64 = 1_800_000_000_000_000_000;

fn decode(bytes: &[u8]) -> Result<SpanBatch, super::wire::WireError> {
    let (limits, rules) = (Limits::default(), Rules::load(None).unwrap());
    traces(
        bytes,
        &Context {
            limits: &limits,
            rules: &rules,
            received_ns: NOW,
        },
    )
}

fn text(random: &mut fastrand::Rng) -> String {
    (0..random.usize(0..20)).map(|_| random.char(..)).collect()
}

fn any(random: &mut fastrand::Rng, depth: usize) -> AnyValue {
    let value = match random.u32(0..if depth < 4 { 7 } else { 5 }) {
        0 => Proto::StringValue(text(random)),
        1 => Proto::BoolValue(random.bool()),
        2 => Proto::IntValue(random.i64(..)),
        // Exact in few digits: serde_json's own parser is off by one bit for longer ones.
        3 => Proto::DoubleValue(f64::from(random.i16(..)) / 8.0),
        4 => Proto::BytesValue((0..random.usize(0..9)).map(|_| random.u8(..)).collect()),
        5 => Proto::ArrayValue(ArrayValue {
            values: (0..random.usize(0..4))
                .map(|_| any(random, depth + 1))
                .collect(),
        }),
        _ => Proto::KvlistValue(KeyValueList {
            values: key_values(random, depth + 1),
        }),
    };
    AnyValue {
        value: (random.u32(0..20) > 0).then_some(value),
    }
}

fn key_values(random: &mut fastrand::Rng, depth: usize) -> Vec<KeyValue> {
    (0..random.usize(0..6))
        // Unique keys: JSON objects cannot show duplicates.
        .map(|index| {
            let key = format!("{index}.{}", text(random));
            KeyValue { key, value: Some(any(random, depth)), ..KeyValue::default() }
        })
        .collect()
}

fn span(random: &mut fastrand::Rng) -> Span {
    let start = NOW - random.u64(0..1_000_000_000_000);
    let bytes = |random: &mut fastrand::Rng, len: usize| -> Vec<u8> {
        (0..len).map(|_| random.u8(1..)).collect()
    };
    Span {
        trace_id: bytes(random, 16),
        span_id: bytes(random, 8),
        parent_span_id: if random.bool() {
            bytes(random, 8)
        } else {
            Vec::new()
        },
        trace_state: text(random),
        flags: random.u32(..),
        name: text(random),
        kind: random.i32(0..6),
        start_time_unix_nano: start,
        end_time_unix_nano: start + random.u64(0..10_000_000_000),
        attributes: key_values(random, 0),
        dropped_attributes_count: random.u32(..),
        events: (0..random.usize(0..3))
            .map(|_| Event {
                time_unix_nano: start,
                name: text(random),
                attributes: key_values(random, 0),
                dropped_attributes_count: 0,
            })
            .collect(),
        links: (0..random.usize(0..3))
            .map(|_| Link {
                trace_id: bytes(random, 16),
                span_id: bytes(random, 8),
                trace_state: text(random),
                attributes: key_values(random, 0),
                ..Link::default()
            })
            .collect(),
        status: random.bool().then(|| Status {
            message: text(random),
            code: random.i32(0..3),
        }),
        ..Span::default()
    }
}

fn request(random: &mut fastrand::Rng) -> ExportTraceServiceRequest {
    let scope = |random: &mut fastrand::Rng| ScopeSpans {
        scope: Some(InstrumentationScope {
            name: text(random),
            ..Default::default()
        }),
        spans: (0..random.usize(0..5)).map(|_| span(random)).collect(),
        schema_url: String::new(),
    };
    let resource = |random: &mut fastrand::Rng| ResourceSpans {
        resource: Some(Resource {
            attributes: key_values(random, 0),
            ..Default::default()
        }),
        scope_spans: (0..random.usize(0..3)).map(|_| scope(random)).collect(),
        schema_url: String::new(),
    };
    ExportTraceServiceRequest {
        resource_spans: (0..random.usize(0..4)).map(|_| resource(random)).collect(),
    }
}

fn any_json(any: &AnyValue) -> Json {
    match any.value.as_ref() {
        None => Json::Null,
        Some(Proto::StringValue(text)) => json!(text),
        Some(Proto::BoolValue(flag)) => json!(flag),
        Some(Proto::IntValue(number)) => json!(number),
        Some(Proto::DoubleValue(number)) => json!(number),
        Some(Proto::BytesValue(bytes)) => json!(super::any::base64(bytes)),
        Some(Proto::ArrayValue(list)) => list.values.iter().map(any_json).collect(),
        Some(Proto::KvlistValue(map)) => attributes_json(&map.values),
        Some(other) => panic!("{other:?}"),
    }
}

fn attributes_json(attributes: &[KeyValue]) -> Json {
    let member = |entry: &KeyValue| {
        (
            entry.key.clone(),
            entry.value.as_ref().map_or(Json::Null, any_json),
        )
    };
    Json::Object(attributes.iter().map(member).collect::<Map<_, _>>())
}

fn parsed(text: &str) -> Json {
    serde_json::from_str(text).unwrap()
}

fn compare(batch: &SpanBatch, row: &SpanRow, span: &Span) {
    assert_eq!(row.trace_id.to_vec(), span.trace_id);
    assert_eq!(row.span_id.to_vec(), span.span_id);
    let parent: &[u8] = if span.parent_span_id.is_empty() {
        &[0; 8]
    } else {
        &span.parent_span_id
    };
    assert_eq!(row.parent_id, parent);
    assert_eq!(batch.str(row.name), span.name);
    assert_eq!(batch.str(row.trace_state), span.trace_state);
    assert_eq!(i32::from(row.kind), span.kind);
    assert_eq!(row.start_ns as u64, span.start_time_unix_nano);
    assert_eq!(row.end_ns as u64, span.end_time_unix_nano);
    let status = span.status.clone().unwrap_or_default();
    assert_eq!(
        (i32::from(row.status), batch.str(row.status_message)),
        (status.code, &*status.message)
    );
    assert_eq!(
        parsed(batch.str(row.attributes)),
        attributes_json(&span.attributes)
    );
    let lists = [
        (row.events, span.events.len()),
        (row.links, span.links.len()),
    ];
    for (list, len) in lists {
        let items = if list.is_empty() {
            json!([])
        } else {
            parsed(batch.str(list))
        };
        assert_eq!(items.as_array().unwrap().len(), len);
    }
    for (link, item) in span.links.iter().zip(parsed_or_empty(batch.str(row.links))) {
        assert_eq!(item["attributes"], attributes_json(&link.attributes));
        assert_eq!(item["span_id"].as_str().unwrap().len(), 16);
    }
    for (event, item) in span
        .events
        .iter()
        .zip(parsed_or_empty(batch.str(row.events)))
    {
        assert_eq!(item["name"], json!(event.name));
        assert_eq!(item["time_unix_nano"], json!(event.time_unix_nano));
        assert_eq!(item["attributes"], attributes_json(&event.attributes));
    }
}

fn parsed_or_empty(text: &str) -> Vec<Json> {
    if text.is_empty() {
        Vec::new()
    } else {
        serde_json::from_str(text).unwrap()
    }
}

#[test]
fn every_field_equals_what_prost_reads() {
    for seed in 0..2_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let request = request(&mut random);
        let batch = decode(&request.encode_to_vec()).unwrap();
        assert_eq!(
            batch.refused.total(),
            0,
            "seed {seed}: {}",
            batch.refused.message()
        );
        let mut rows = batch.spans.iter();
        for resource_spans in &request.resource_spans {
            let attributes = &resource_spans.resource.as_ref().unwrap().attributes;
            for scope_spans in &resource_spans.scope_spans {
                for span in &scope_spans.spans {
                    let row = rows.next().expect("a row per span");
                    compare(&batch, row, span);
                    assert_eq!(
                        batch.str(row.scope),
                        scope_spans.scope.as_ref().unwrap().name
                    );
                    let resource = batch.resource(row);
                    assert_eq!(
                        parsed(batch.str(resource.attributes)),
                        attributes_json(attributes)
                    );
                }
            }
        }
        assert!(rows.next().is_none());
    }
}

#[test]
fn damaged_requests_never_panic_and_what_both_accept_has_the_same_spans() {
    let mut accepted = 0u32;
    for seed in 0..20_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = request(&mut random).encode_to_vec();
        for _ in 0..random.usize(1..4) {
            if bytes.is_empty() {
                break;
            }
            let at = random.usize(0..bytes.len());
            match random.u32(0..3) {
                0 => bytes[at] = random.u8(..),
                1 => bytes.truncate(at),
                _ => bytes.insert(at, random.u8(..)),
            }
        }
        let ours = decode(&bytes);
        if let (Ok(ours), Ok(oracle)) = (ours, ExportTraceServiceRequest::decode(&bytes[..])) {
            accepted += 1;
            let spans: usize = oracle
                .resource_spans
                .iter()
                .flat_map(|resource| &resource.scope_spans)
                .map(|scope| scope.spans.len())
                .sum();
            let total = ours.spans.len() as u64 + ours.refused.total();
            assert_eq!(total, spans as u64, "seed {seed}");
        }
    }
    assert!(
        accepted > 1_000,
        "{accepted} damaged requests were still readable"
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn a_bad_span_is_refused_alone_and_with_its_reason() {
    let good = span(&mut fastrand::Rng::with_seed(1));
    let change = |change: &dyn Fn(&mut Span)| {
        let mut bad = good.clone();
        change(&mut bad);
        bad
    };
    let many = KeyValue {
        key: "k".into(),
        ..KeyValue::default()
    };
    let mut nested = AnyValue {
        value: Some(Proto::IntValue(1)),
    };
    for _ in 0..20 {
        nested = AnyValue {
            value: Some(Proto::ArrayValue(ArrayValue {
                values: vec![nested],
            })),
        };
    }
    let nested = KeyValue {
        key: "n".into(),
        value: Some(nested),
        ..KeyValue::default()
    };
    let cases: Vec<(Refusal, Span)> = vec![
        (
            Refusal::TraceId,
            change(&|span| span.trace_id = vec![0; 16]),
        ),
        (
            Refusal::TraceId,
            change(&|span| span.trace_id = vec![1; 15]),
        ),
        (Refusal::SpanId, change(&|span| span.span_id.clear())),
        (
            Refusal::ParentId,
            change(&|span| span.parent_span_id = vec![1; 7]),
        ),
        (Refusal::Time, change(&|span| span.end_time_unix_nano = 0)),
        (
            Refusal::Time,
            change(&|span| span.start_time_unix_nano = u64::MAX),
        ),
        (
            Refusal::EndBeforeStart,
            change(&|span| span.end_time_unix_nano = span.start_time_unix_nano - 2_000_000_000),
        ),
        (
            Refusal::Future,
            change(&|span| {
                span.start_time_unix_nano = NOW + 90_000_000_000_000;
                span.end_time_unix_nano = span.start_time_unix_nano;
            }),
        ),
        (
            Refusal::TooOld,
            change(&|span| span.start_time_unix_nano = 1),
        ),
        (
            Refusal::TooLarge,
            change(&|span| span.name = "x".repeat(20_000)),
        ),
        (
            Refusal::TooMany,
            change(&|span| span.attributes = vec![many.clone(); 2_000]),
        ),
        (
            Refusal::TooLarge,
            change(&|span| span.attributes = vec![nested.clone()]),
        ),
        (
            Refusal::TooLarge,
            change(&|span| span.trace_state = "x".repeat(2 << 20)),
        ),
    ];
    for (reason, bad) in cases {
        let scope = ScopeSpans {
            spans: vec![bad, good.clone()],
            ..ScopeSpans::default()
        };
        let resource = ResourceSpans {
            scope_spans: vec![scope],
            ..ResourceSpans::default()
        };
        let request = ExportTraceServiceRequest {
            resource_spans: vec![resource],
        };
        let batch = decode(&request.encode_to_vec()).unwrap();
        assert_eq!(batch.spans.len(), 1, "{reason:?}");
        assert_eq!(batch.refused.by_reason().collect::<Vec<_>>(), [(reason, 1)]);
        compare(&batch, &batch.spans[0], &good);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn cost_comes_from_the_application_else_from_the_table() {
    let attribute = |key: &str, value: Proto| KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    };
    let text = |text: &str| Proto::StringValue(text.into());
    for (attributes, nanos, source) in [
        (
            vec![attribute("cost_usd", Proto::DoubleValue(0.0001))],
            Some(100_000),
            "app",
        ),
        (
            vec![attribute("cost_usd", text("1.0E-5"))],
            Some(10_000),
            "app",
        ),
        (
            vec![attribute("cost_usd", Proto::IntValue(2))],
            Some(2_000_000_000),
            "app",
        ),
        (
            vec![
                attribute("cost_usd", Proto::DoubleValue(0.5)),
                attribute("cost.source", text("mesh_estimate")),
            ],
            Some(500_000_000),
            "mesh_estimate",
        ),
        // 0.001 x (1 + 100 ms / 100 x 0.1)
        (
            vec![attribute("operation_type", text("robot_actuation"))],
            Some(1_100_000),
            "price_table",
        ),
        (
            vec![attribute("db.system", text("postgresql"))],
            Some(22_000),
            "price_table",
        ),
        (vec![], Some(11_000), "default_price"),
        (
            vec![attribute("cost_usd", Proto::DoubleValue(-1.0))],
            Some(11_000),
            "default_price",
        ),
        (
            vec![attribute("cost_usd", text("NaN"))],
            Some(11_000),
            "default_price",
        ),
        (
            vec![attribute("cost_usd.path", Proto::DoubleValue(7.0))],
            Some(11_000),
            "default_price",
        ),
    ] {
        let mut one = span(&mut fastrand::Rng::with_seed(3));
        one.attributes = attributes.clone();
        one.end_time_unix_nano = one.start_time_unix_nano + 100_000_000;
        let scope = ScopeSpans {
            spans: vec![one],
            ..ScopeSpans::default()
        };
        let resource = ResourceSpans {
            scope_spans: vec![scope],
            ..ResourceSpans::default()
        };
        let request = ExportTraceServiceRequest {
            resource_spans: vec![resource],
        };
        let batch = decode(&request.encode_to_vec()).unwrap();
        let row = batch.spans[0];
        assert_eq!(
            (row.cost_nanos, row.cost_source.as_str()),
            (nanos, source),
            "{attributes:?}"
        );
    }
}
