//! What the collector holds of a trace: one tree that the headers agree with, and the cost that
//! the price table says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::collections::{BTreeMap, BTreeSet};

use integration_tests::client::{Call, Protocol};
use integration_tests::headers::HeaderLines;
use integration_tests::mesh::{Chain, SERVICE_A, SERVICE_B};

mod support;
use support::spans::{self, Span};
use support::{CALLER_SPAN, CALLER_TRACE, KEEP_ALL, caller_context, only, traceparent};

/// Spans of a whole trace: the ingress, A inbound, A outbound, B inbound.
const HOPS: usize = 4;

/// The span that is nobody's child among these; fails unless there is exactly one tree.
fn root(spans: &[Span]) -> &Span {
    let by_id: BTreeMap<&str, &Span> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    assert_eq!(
        by_id.len(),
        spans.len(),
        "span ids are not unique: {spans:#?}"
    );
    let parent = |span: &Span| {
        by_id
            .get(span.parent.as_deref().unwrap_or_default())
            .copied()
    };
    let mut roots: Vec<&Span> = spans.iter().filter(|span| parent(span).is_none()).collect();
    assert_eq!(roots.len(), 1, "not one tree: {spans:#?}");
    for span in spans {
        let mut seen = BTreeSet::from([span.id.clone()]);
        let mut at = span;
        while let Some(next) = parent(at) {
            assert!(seen.insert(next.id.clone()), "a cycle: {spans:#?}");
            at = next;
        }
        assert_eq!(at.id, roots[0].id);
    }
    roots.remove(0)
}

fn find<'a>(spans: &'a [Span], service: &str, kind: &str) -> &'a Span {
    let found = spans
        .iter()
        .find(|span| span.service == service && span.kind == kind);
    found.unwrap_or_else(|| panic!("no {kind} span of {service}: {spans:#?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_spans_of_a_trace_form_one_tree_that_the_headers_agree_with() {
    let chain = Chain::start(KEEP_ALL).await.unwrap();
    for protocol in Protocol::ALL {
        let call = Call::new(protocol, SERVICE_A, "/tree");
        assert!(chain.client.send(call).await.unwrap().is_ok());
        let at_a = traceparent(&only(chain.a.app.take_recorded()).headers);
        let at_b = traceparent(&only(chain.b.app.take_recorded()).headers);
        let trace = at_b.trace_id.to_string();
        let spans = spans::of_trace(&chain.collector, &trace, HOPS).await;

        let ingress = find(&spans, "ingress", "SERVER");
        let inbound_a = find(&spans, SERVICE_A, "SERVER");
        let outbound_a = find(&spans, SERVICE_A, "CLIENT");
        let inbound_b = find(&spans, SERVICE_B, "SERVER");
        assert_eq!(root(&spans).id, ingress.id);
        assert_eq!(
            ingress.parent, None,
            "a trace that starts here has no parent"
        );
        assert_eq!(inbound_a.parent.as_ref(), Some(&ingress.id));
        assert_eq!(outbound_a.parent.as_ref(), Some(&inbound_a.id));
        assert_eq!(inbound_b.parent.as_ref(), Some(&outbound_a.id));
        assert_eq!(
            inbound_a.id,
            at_a.parent_id.to_string(),
            "A saw its own proxy's span"
        );
        assert_eq!(
            inbound_b.id,
            at_b.parent_id.to_string(),
            "B saw its own proxy's span"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_span_of_a_continued_trace_is_a_child_of_the_caller() {
    let chain = Chain::start(KEEP_ALL).await.unwrap();
    let headers = HeaderLines::new().with("traceparent", caller_context());
    let call = Call::new(Protocol::Http1, SERVICE_A, "/continued").headers(headers);
    assert!(chain.client.send(call).await.unwrap().is_ok());
    let spans = spans::of_trace(&chain.collector, CALLER_TRACE, HOPS).await;
    let first = root(&spans);
    assert_eq!(
        (first.service.as_str(), first.parent.as_deref()),
        ("ingress", Some(CALLER_SPAN))
    );
}

/// Every operation of the price table, by path.
const PRICED: &str = "\
sampling:
  default_rate: 1.0
  adaptive: { enabled: false }
attributes:
  operation_type:
    - { when: 'url.path = \"/api\"', value: api_call }
    - { when: 'url.path = \"/db\"', value: database_query }
    - { when: 'url.path = \"/ml\"', value: ml_inference }
    - { when: 'url.path = \"/robot\"', value: robot_actuation }
    - { when: 'url.path = \"/read\"', value: storage_read }
    - { when: 'url.path = \"/write\"', value: storage_write }
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cost_of_a_trace_is_what_the_price_table_says_for_its_hops() {
    let chain = Chain::start(PRICED).await.unwrap();
    let paths = [
        "/api", "/db", "/ml", "/robot", "/read", "/write", "/unknown",
    ];
    let mut traces = Vec::new();
    for (number, path) in paths.iter().enumerate() {
        let call = Call::new(Protocol::Http1, SERVICE_A, path).body_of(number * 300_000);
        assert!(chain.client.send(call).await.unwrap().is_ok());
        let at_b = only(chain.b.app.take_recorded());
        assert_eq!(at_b.body_bytes, number * 300_000);
        traces.push((
            path,
            number,
            traceparent(&at_b.headers).trace_id.to_string(),
        ));
    }
    let mut operations = BTreeSet::new();
    for (path, number, trace) in traces {
        let spans = spans::of_trace(&chain.collector, &trace, HOPS).await;
        let mut total = 0;
        for span in &spans {
            let wanted = match span.kind.as_str() {
                // The callee's proxy charges the call, so the caller's does not.
                "CLIENT" => 0,
                _ => spans::price(&span.operation_type, span.duration_nanos, span.body_bytes),
            };
            assert_eq!(span.cost_nanos, wanted, "{path}: {span:#?}");
            assert!(
                span.body_bytes as usize >= number * 300_000,
                "{path}: {span:#?}"
            );
            assert!(span.duration_nanos > 0, "{path}: {span:#?}");
            total += wanted;
        }
        operations.insert(find(&spans, SERVICE_B, "SERVER").operation_type.clone());
        let query = format!("SELECT SUM(cost_usd) FROM spans WHERE trace_id = '{trace}'");
        let in_sql = chain.collector.sql_number(&query).await.unwrap();
        assert_eq!((in_sql * 1e9).round() as u128, total, "{path}");
    }
    assert!(operations.len() >= 6, "{operations:?}");
}

#[test]
fn the_price_formula_equals_the_specifications_listing() {
    // 0.0001 x (1 + 250 / 100 x 0.1 + 3 x 0.01) = 0.000128
    assert_eq!(spans::price("ml_inference", 250_000_000, 3 << 20), 128_000);
    assert_eq!(spans::price("no such thing", 0, 0), 10_000);
    // 0.000001 x (1 + 0.0005) = 0.0000010005, half a nano-dollar up
    assert_eq!(spans::price("storage_read", 500_000, 0), 1_001);
}
