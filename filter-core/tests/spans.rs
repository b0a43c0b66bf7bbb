//! The bytes of spans, decoded by a stock decoder and compared field by field.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

mod support;

use std::collections::BTreeMap;

use filter_core::identity::Node;
use filter_core::{Direction, StreamEnd};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use support::spans::{flag, hex, int, keys, text};
use support::{
    Bench, CALLER, HIGH_TRACE, MILLISECOND, START, policy, rate, status_end, traceparent,
};

/// Attributes as text, so that a whole span compares with one table.
fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let print = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => format!("int {number}"),
        Value::DoubleValue(number) => format!("double {number}"),
        Value::BoolValue(flag) => format!("bool {flag}"),
        other => panic!("{other:?}"),
    };
    let pairs = span.attributes.iter().map(|pair| {
        let value = pair.value.as_ref().unwrap().value.as_ref().unwrap();
        (pair.key.as_str(), print(value))
    });
    pairs.collect()
}

#[test]
fn a_server_span_has_every_field_as_the_conventions_say() {
    let json = r#"{"sampling":{"default_rate":0.5,"low_volume":{"traces_per_minute":0}},
        "attributes":{"operation_type":[{"when":"url.path ^= \"/users\"","value":"database_query"}]},
        "cost":{"version":"2026-11"}}"#;
    let mut bench = Bench::new(json);
    let incoming = traceparent(HIGH_TRACE, "03");
    let lines = [
        (":method", "POST"),
        (":path", "/users/42?token=secret"),
        (":authority", "shop.svc:8080"),
        (":scheme", "https"),
        ("content-length", "1048576"),
        ("traceparent", incoming.as_str()),
        ("tracestate", "a=1,ot=th:c,cost_usd=0.25,data_tag=SENSITIVE"),
        ("cookie", "secret"),
    ];
    let left = bench.send(&lines).unwrap();
    let (parent, state) = (left.parent(), left.state().to_owned());
    let end = StreamEnd {
        http_status: Some(201),
        request_bytes: 1 << 20,
        response_bytes: 1 << 20,
        ..StreamEnd::default()
    };
    bench.end(left, 100, end);
    let span = bench.span();

    assert_eq!(hex(&span.trace_id), HIGH_TRACE);
    assert_eq!(
        hex(&span.span_id),
        parent.parent_id.to_string(),
        "the id that left"
    );
    assert_eq!(hex(&span.parent_span_id), CALLER);
    assert_eq!(span.trace_state, state);
    assert_eq!(state, "cost_usd=0.2500202,data_tag=SENSITIVE,ot=th:8,a=1");
    assert_eq!(span.flags, 0x303, "sampled, random, remote parent");
    assert_eq!((span.name.as_str(), span.kind), ("POST /users/{id}", 2));
    assert_eq!(span.start_time_unix_nano, START);
    assert_eq!(span.end_time_unix_nano, START + 100 * MILLISECOND);
    assert!(span.status.is_none() && span.events.is_empty() && span.links.is_empty());
    assert_eq!(
        (span.dropped_attributes_count, span.dropped_events_count),
        (0, 0)
    );
    // 0.00002 x (1 + 100 / 100 x 0.1 + 2 x 0.01)
    let wanted = [
        ("http.request.method", "POST"),
        ("http.route", "/users/{id}"),
        ("url.path", "/users/42"),
        ("url.scheme", "https"),
        ("server.address", "shop.svc"),
        ("server.port", "int 8080"),
        ("network.protocol.version", "2"),
        ("http.response.status_code", "int 201"),
        ("http.request.body.size", "int 1048576"),
        ("http.response.body.size", "int 1048576"),
        ("cost_usd", "double 0.0000224"),
        ("cost_usd.path", "double 0.25"),
        ("cost.source", "mesh_estimate"),
        ("cost.price_version", "2026-11"),
        ("operation_type", "database_query"),
        ("data_tag", "SENSITIVE"),
        ("retention_days", "int 90"),
        ("sampling.reason", "default_rate"),
        ("sampling.threshold", "8"),
    ];
    let wanted: BTreeMap<_, _> = wanted.map(|(key, value)| (key, value.to_owned())).into();
    assert_eq!(attributes(&span), wanted);
    assert_eq!(keys(&span).len(), wanted.len(), "no key stands twice");
}

#[test]
fn the_envelope_names_the_workload_and_the_scope() {
    let node = Node {
        canonical_name: "pay".to_owned(),
        namespace: "shop".to_owned(),
        pod: "pay-1".to_owned(),
        workload: "pay-v2".to_owned(),
        kubernetes_cluster: "east".to_owned(),
        region: "eu".to_owned(),
        ..Node::default()
    };
    let mut policy = policy(r#"{"sampling":{"default_rate":1},"service":{"environment":"prod"}}"#);
    policy.service.name.clear();
    let mut bench = Bench::new("{}");
    bench.engine = filter_core::Engine::new(&policy, &node, "worker-1");
    bench.exchange("/", &[], 200);
    let batch = bench.batches().remove(0);
    assert_eq!(batch.resource_spans.len(), 1);
    let resource = batch.resource_spans[0].resource.as_ref().unwrap();
    let found: BTreeMap<&str, &str> = resource
        .attributes
        .iter()
        .map(
            |pair| match pair.value.as_ref().unwrap().value.as_ref().unwrap() {
                Value::StringValue(text) => (pair.key.as_str(), text.as_str()),
                other => panic!("{other:?}"),
            },
        )
        .collect();
    let wanted = [
        ("service.name", "pay"),
        ("service.namespace", "shop"),
        ("service.instance.id", "worker-1"),
        ("deployment.environment.name", "prod"),
        ("k8s.namespace.name", "shop"),
        ("k8s.pod.name", "pay-1"),
        ("k8s.deployment.name", "pay-v2"),
        ("k8s.cluster.name", "east"),
        ("cloud.region", "eu"),
        ("telemetry.sdk.name", "tracemeter"),
        ("telemetry.sdk.language", "rust"),
        ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
    ];
    assert_eq!(found, wanted.into());
    let scope = &batch.resource_spans[0].scope_spans[0];
    assert_eq!(scope.scope.as_ref().unwrap().name, "tracemeter");
    assert!(
        scope
            .schema_url
            .starts_with("https://opentelemetry.io/schemas/")
    );
}

#[test]
fn a_grpc_call_is_named_and_judged_by_its_own_status() {
    // (direction, grpc status, span status, error.type)
    let table = [
        (Direction::Inbound, 0, 0, None),
        (Direction::Inbound, 5, 0, Some("5")),
        (Direction::Inbound, 13, 2, Some("13")),
        (Direction::Inbound, 14, 2, Some("14")),
        (Direction::Outbound, 0, 0, None),
        (Direction::Outbound, 5, 2, Some("5")),
    ];
    for (direction, code, status, error_type) in table {
        let mut bench = Bench::at(&rate("1"), direction);
        let lines = [
            (":method", "POST"),
            (":path", "/shop.v1.Pay/Charge"),
            (":authority", "pay"),
            ("content-type", "application/grpc+proto"),
        ];
        let left = bench.send(&lines).unwrap();
        let end = StreamEnd {
            http_status: Some(200),
            grpc_status: Some(code),
            ..StreamEnd::default()
        };
        bench.end(left, 5, end);
        let span = bench.span();
        assert_eq!(span.name, "shop.v1.Pay/Charge");
        assert_eq!(text(&span, "rpc.system"), Some("grpc"));
        assert_eq!(text(&span, "rpc.service"), Some("shop.v1.Pay"));
        assert_eq!(text(&span, "rpc.method"), Some("Charge"));
        assert_eq!(int(&span, "rpc.grpc.status_code"), Some(i64::from(code)));
        let found = span.status.as_ref().map_or(0, |status| status.code);
        assert_eq!(found, status, "{direction:?} {code}");
        assert_eq!(
            text(&span, "error.type"),
            error_type,
            "{direction:?} {code}"
        );
    }
}

type EndingRow = (
    Direction,
    StreamEnd,
    i32,
    Option<&'static str>,
    Option<bool>,
);

/// (direction, end, span status, error.type, client_left)
fn endings() -> Vec<EndingRow> {
    use Direction::{Inbound, Outbound};
    let flags = |http_status, response_flags| StreamEnd {
        http_status,
        response_flags,
        ..StreamEnd::default()
    };
    vec![
        (Inbound, status_end(200), 0, None, None),
        (Inbound, status_end(404), 0, Some("404"), None),
        (Outbound, status_end(404), 2, Some("404"), None),
        (Inbound, status_end(500), 2, Some("500"), None),
        // timeout, connect failure, resets, partial answer, unknown cluster
        (Inbound, flags(Some(504), 0x4), 2, Some("timeout"), None),
        (
            Inbound,
            flags(Some(503), 0x20),
            2,
            Some("connection_failure"),
            None,
        ),
        (
            Inbound,
            flags(Some(503), 0x8020),
            2,
            Some("connection_failure"),
            None,
        ),
        (
            Inbound,
            flags(Some(503), 0x40),
            2,
            Some("connection_termination"),
            None,
        ),
        (
            Inbound,
            flags(Some(200), 0x80_0000),
            2,
            Some("protocol_error"),
            None,
        ),
        (
            Inbound,
            flags(Some(503), 0x100_0000),
            2,
            Some("no_cluster"),
            None,
        ),
        (Inbound, flags(Some(503), 0x2), 2, Some("no_capacity"), None),
        (
            Inbound,
            flags(Some(408), 0x1_0000),
            2,
            Some("timeout"),
            None,
        ),
        // the client went away: nobody's error; websocket that is closed
        (Inbound, flags(None, 0x4000), 0, None, Some(true)),
        (Inbound, flags(None, 0x1000_0000), 0, None, Some(true)),
        (Inbound, flags(Some(101), 0x4000), 0, None, Some(true)),
        (Inbound, flags(Some(101), 0x40), 0, None, None),
        (
            Inbound,
            flags(Some(101), 0x1_0000),
            2,
            Some("timeout"),
            None,
        ),
    ]
}

#[test]
fn the_outcome_of_every_ending_is_told_as_the_conventions_say() {
    for (direction, end, status, error_type, client_left) in endings() {
        let mut bench = Bench::at(r#"{"sampling":{"default_rate":1}}"#, direction);
        let left = bench.get("/", &[]);
        bench.end(left, 5, end);
        let span = bench.span();
        let found = span.status.as_ref().map_or(0, |status| status.code);
        assert_eq!(found, status, "{end:?}");
        assert_eq!(text(&span, "error.type"), error_type, "{end:?}");
        assert_eq!(
            flag(&span, "tracemeter.client_left"),
            client_left,
            "{end:?}"
        );
        let code = int(&span, "http.response.status_code");
        assert_eq!(code, end.http_status.map(i64::from), "absent means absent");
    }
}

#[test]
fn text_that_a_client_sends_is_cut_and_made_utf8() {
    let mut bench = Bench::new(&rate("1"));
    let path = [&b"/caf\xe9/"[..], &vec![b'x'; 5_000]].concat();
    let lines: [(&str, &[u8]); 4] = [
        (":method", b"BREW\xff"),
        (":path", &path),
        (":authority", b"h\x80st:1"),
        ("traceparent", b"\xff\xfe"),
    ];
    let left = bench.send(&lines).unwrap();
    bench.answer(left, 200);
    let span = bench.span();
    let found = text(&span, "url.path").unwrap();
    assert!(found.starts_with("/caf\u{fffd}/xxx") && found.len() <= 1024);
    assert_eq!(text(&span, "http.request.method"), Some("_OTHER"));
    assert_eq!(
        text(&span, "http.request.method_original"),
        Some("BREW\u{fffd}")
    );
    assert_eq!(text(&span, "server.address"), Some("h\u{fffd}st"));
    assert!(span.name.starts_with("HTTP /caf") && span.name.len() <= 1024);
}

#[test]
fn a_request_with_nothing_in_it_makes_a_span() {
    let mut bench = Bench::new(&rate("1"));
    let none: [(&str, &str); 0] = [];
    let left = bench.send(&none).unwrap();
    bench.end(left, 0, StreamEnd::default());
    let span = bench.span();
    assert_eq!(span.start_time_unix_nano, span.end_time_unix_nano);
    assert_eq!(span.name, "HTTP");
}

#[test]
fn a_clock_that_steps_back_makes_no_negative_span() {
    let mut bench = Bench::new(&rate("1"));
    let left = bench.get("/", &[]);
    bench.now -= 3_600_000 * MILLISECOND;
    bench.end(left, 0, status_end(200));
    bench.now += 7_200_000 * MILLISECOND;
    let span = bench.span();
    assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
    assert_eq!(support::spans::double(&span, "cost_usd"), Some(0.000_01));
}

#[test]
fn a_typical_span_stays_within_its_byte_budget() {
    let mut bench = Bench::new(&rate("0.5"));
    let incoming = traceparent(HIGH_TRACE, "01");
    for _ in 0..100 {
        bench.exchange("/api/orders/12345", &[("traceparent", &incoming)], 200);
    }
    let bytes = bench.engine.buffered_bytes() / 100;
    // Committed: a change that makes spans larger has to say so here.
    assert!(bytes <= 700, "{bytes} bytes per span");
}
