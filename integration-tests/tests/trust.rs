//! Trust boundaries: what counts of a context from outside, and what leaves the mesh.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use integration_tests::app::{App, Plan};
use integration_tests::client::{Call, Client, Protocol};
use integration_tests::headers::HeaderLines;
use integration_tests::mesh::{Chain, Mesh, SERVICE_A};

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
async fn claims_from_inside_the_mesh_add_up_and_the_class_never_falls() {
    let chain = Chain::start(KEEP_ALL).await.unwrap();
    let inside = Client::new(chain.a.inbound);
    let call = Call::new(Protocol::Http1, SERVICE_A, "/claims").headers(claims());
    assert!(inside.send(call).await.unwrap().is_ok());
    let at_a = only(chain.a.app.take_recorded()).headers;
    let at_b = only(chain.b.app.take_recorded()).headers;
    for headers in [&at_a, &at_b] {
        let members = headers.members("tracestate");
        assert!(cost_member(&members) > 5.0, "{members:?}");
        assert_eq!(members[1], "data_tag=PII", "{members:?}");
    }
    let cost = |headers: &HeaderLines| cost_member(&headers.members("tracestate"));
    assert!(cost(&at_b) > cost(&at_a));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_outside_cannot_force_a_trace_unless_the_policy_accepts_it() {
    let never = "sampling: { default_rate: 0, low_volume: { traces_per_minute: 0 } }\n";
    let (_chain, headers) = through_ingress(never).await;
    assert!(!traceparent(&headers).flags.is_sampled(), "{headers:?}");
    let accept = format!("{never}trust: {{ sampled_flag: accept }}\n");
    let (_chain, headers) = through_ingress(&accept).await;
    assert!(traceparent(&headers).flags.is_sampled(), "{headers:?}");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_members_do_not_leave_the_mesh() {
    let collector = integration_tests::collector::Collector::start(None)
        .await
        .unwrap();
    let mesh = Mesh::new(KEEP_ALL, collector.http()).unwrap();
    let outside = App::start(|_| Plan::default()).await.unwrap();
    let inside = App::start(|_| Plan::default()).await.unwrap();
    let routes = [
        ("api.partner.example", outside.address()),
        ("neighbour", inside.address()),
    ];
    let service = mesh
        .service("caller", &routes, |_| {
            let call = |authority| Call::new(Protocol::Http1, authority, "/called");
            Plan {
                calls: vec![call("api.partner.example"), call("neighbour")],
                ..Plan::default()
            }
        })
        .await
        .unwrap();
    let call = Call::new(Protocol::Http1, "caller", "/").headers(claims());
    assert!(
        Client::new(service.inbound)
            .send(call)
            .await
            .unwrap()
            .is_ok()
    );

    let (outside, inside) = (only(outside.take_recorded()), only(inside.take_recorded()));
    for name in ["tracestate", "baggage"] {
        let text = outside.headers.text(name);
        assert!(
            !text.contains("cost_usd") && !text.contains("data_tag"),
            "{text}"
        );
        let text = inside.headers.text(name);
        assert!(
            text.contains("cost_usd") && text.contains("data_tag"),
            "{text}"
        );
    }
    assert!(
        outside.headers.text("tracestate").contains("rojo=1"),
        "{:?}",
        outside.headers
    );
    assert!(
        outside.headers.text("baggage").contains("user=alice"),
        "{:?}",
        outside.headers
    );
    assert_eq!(
        traceparent(&outside.headers).trace_id.to_string(),
        CALLER_TRACE
    );
}
