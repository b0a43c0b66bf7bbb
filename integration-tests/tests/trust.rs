//! The ingress as `mesh-config` renders it stands at the edge: what becomes of a caller's claims
//! on the wire and in the collector. Each option of the boundary has its test in
//! `trust_boundary.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use integration_tests::client::{Call, Protocol};
use integration_tests::headers::HeaderLines;
use integration_tests::mesh::{Chain, SERVICE_A};

mod support;
use support::{CALLER_TRACE, KEEP_ALL, caller_context, cost_member, only, spans, traceparent};

/// A context with claims about cost and class.
fn claims() -> HeaderLines {
    HeaderLines::new()
        .with("traceparent", caller_context())
        .with("tracestate", "cost_usd=5,data_tag=PII,rojo=1")
        .with("baggage", "cost_usd=5,data_tag=PII,user=alice")
}

/// What A sees of a request at the ingress with the claims.
async fn through_ingress(policy: &str) -> (Chain, HeaderLines) {
    let chain = Chain::start(policy).await.unwrap();
    let call = Call::new(Protocol::Http1, SERVICE_A, "/claims").headers(claims());
    assert!(chain.client.send(call).await.unwrap().is_ok());
    let headers = only(chain.a.app.take_recorded()).headers;
    (chain, headers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_of_a_caller_outside_about_cost_and_class_are_dropped() {
    let (chain, headers) = through_ingress(KEEP_ALL).await;
    for name in ["tracestate", "baggage"] {
        let members = headers.members(name);
        assert!(cost_member(&members) < 1.0, "{members:?}");
        let tags: Vec<_> = members
            .iter()
            .filter(|member| member.starts_with("data_tag="))
            .collect();
        assert_eq!(tags, ["data_tag=EXPORT_OK"], "{members:?}");
    }
    assert!(
        headers.members("tracestate").contains(&"rojo=1".to_owned()),
        "{headers:?}"
    );
    assert!(
        headers
            .members("baggage")
            .contains(&"user=alice".to_owned()),
        "{headers:?}"
    );
    assert_eq!(traceparent(&headers).trace_id.to_string(), CALLER_TRACE);
    let spans = spans::of_trace(&chain.collector, CALLER_TRACE, 4).await;
    assert!(
        spans.iter().all(|span| span.data_tag == "EXPORT_OK"),
        "{spans:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_trace_links_to_the_one_outside() {
    let policy = format!("{KEEP_ALL}trust: {{ trace_id: restart }}\n");
    let (chain, headers) = through_ingress(&policy).await;
    let trace = traceparent(&headers).trace_id.to_string();
    assert_ne!(trace, CALLER_TRACE);
    spans::of_trace(&chain.collector, &trace, 4).await;
    let query =
        format!("SELECT links FROM spans WHERE trace_id = '{trace}' AND service_name = 'ingress'");
    let rows = chain.collector.sql(&query).await.unwrap();
    let links = rows[0]["links"].to_string();
    assert!(links.contains(CALLER_TRACE), "{links}");
}
