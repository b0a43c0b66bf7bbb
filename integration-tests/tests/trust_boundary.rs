//! The trust boundary listener by listener, with nothing but the proxy between the caller and the
//! application: what an outside context may say, and what may leave the mesh.
//!
//! One Envoy has all listeners of a test; each has a policy of its own. What a whole mesh and its
//! collector make of a claim from outside is in `trust.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use integration_tests::app::{App, Plan};
use integration_tests::client::{Call, Client, Protocol};
use integration_tests::envoy::Envoy;
use integration_tests::headers::HeaderLines;
use integration_tests::wait::{self, PATIENCE};
use serde_json::{Value, json};

mod proxies;
mod receiver;
mod support;
use proxies::{Listener, at_rate, keep_all, with};
use receiver::{CLIENT, Receiver, SERVER};
use support::{CALLER_SPAN, CALLER_TRACE, cost_member, only, traceparent};

/// Trace ids whose randomness is above and below the threshold of one half.
const HIGH: &str = "0af7651916cd43dd84f0000000000001";
const LOW: &str = "0af7651916cd43dd8410000000000001";

struct Setup {
    app: App,
    receiver: Receiver,
    envoy: Envoy,
}

impl Setup {
    async fn start(listeners: &[Listener]) -> Self {
        let app = App::start(|_| Plan::default()).await.unwrap();
        let receiver = Receiver::start().await;
        let config = proxies::config(listeners, app.address(), receiver.address());
        let envoy = Envoy::start("boundary", &config, 1).await.unwrap();
        Self {
            app,
            receiver,
            envoy,
        }
    }

    /// What the application sees of a request to `authority` at a listener.
    async fn send(
        &self,
        listener: &str,
        protocol: Protocol,
        authority: &str,
        headers: HeaderLines,
    ) -> HeaderLines {
        let client = Client::new(self.envoy.listener(listener).unwrap());
        let call = Call::new(protocol, authority, "/claims").headers(headers);
        let reply = client.send(call).await.unwrap();
        assert!(reply.is_ok(), "{listener}: {reply:?}");
        only(self.app.take_recorded()).headers
    }

    async fn counted(&self, counter: &str, enough: u64) -> u64 {
        let name = format!("wasmcustom.tracemeter_{counter}");
        wait::until(&name, PATIENCE, async || {
            let stats = self.envoy.stats().await?;
            Ok(stats.get(&name).copied().filter(|count| *count >= enough))
        })
        .await
        .unwrap()
    }
}

fn gateway(name: &'static str, policy: Value) -> Listener {
    // Istio's gateways have outbound listeners: the policy's word counts, not the listener's.
    let policy = with(policy, json!({"service": {"direction": "gateway"}}));
    Listener::new(name, "OUTBOUND", policy)
}

fn trust(options: Value) -> Value {
    json!({ "trust": options })
}

fn context(trace: &str, flags: &str) -> HeaderLines {
    HeaderLines::new().with("traceparent", format!("00-{trace}-{CALLER_SPAN}-{flags}"))
}

/// Claims in every form that this product writes, between foreign members.
fn claims(trace: &str, flags: &str) -> HeaderLines {
    context(trace, flags)
        .with("tracestate", "rojo=1,cost_usd=5,tm=c:7;d:PII")
        .with("tracestate", "data_tag=PII,congo=t61")
        .with(
            "baggage",
            "user=alice;level=5,cost_usd=5,data_tag=SENSITIVE,last=%20",
        )
}

fn tags(members: &[String]) -> Vec<&str> {
    let tags = members
        .iter()
        .filter_map(|member| member.strip_prefix("data_tag="));
    tags.collect()
}

fn assert_foreign_members_are_kept(headers: &HeaderLines) {
    let state = headers.members("tracestate");
    assert_eq!(
        state[state.len() - 2..],
        ["rojo=1", "congo=t61"],
        "{headers:?}"
    );
    let baggage = headers.members("baggage");
    for member in ["user=alice;level=5", "last=%20"] {
        assert!(baggage.contains(&member.to_owned()), "{baggage:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_drops_claims_from_outside_whatever_the_flag_means_there() {
    let edge = |flag: &str| with(keep_all(), trust(json!({"sampled_flag": flag})));
    let setup = Setup::start(&[
        gateway("ignore", edge("ignore")),
        gateway("clamp", edge("clamp")),
        gateway("accept", edge("accept")),
        Listener::new(
            "edge_inbound",
            "INBOUND",
            with(keep_all(), trust(json!({"inbound": "edge"}))),
        ),
    ])
    .await;
    let listeners = ["ignore", "clamp", "accept", "edge_inbound"];
    for listener in listeners {
        for protocol in Protocol::ALL {
            let headers = setup
                .send(listener, protocol, "app", claims(CALLER_TRACE, "01"))
                .await;
            assert_eq!(traceparent(&headers).trace_id.to_string(), CALLER_TRACE);
            for name in ["tracestate", "baggage"] {
                let members = headers.members(name);
                assert_eq!(headers.lines(name).count(), 1, "{headers:?}");
                assert!(cost_member(&members) < 0.001, "{listener}: {members:?}");
                assert_eq!(tags(&members), ["EXPORT_OK"], "{listener}: {members:?}");
                assert!(
                    !headers.text(name).contains("tm=c"),
                    "{listener}: {headers:?}"
                );
            }
            assert_foreign_members_are_kept(&headers);
        }
    }
    let requests = (listeners.len() * Protocol::ALL.len()) as u64;
    let dropped = setup
        .counted("untrusted_members_dropped_total", requests)
        .await;
    assert_eq!(dropped, requests);
    let of_trace = |span: &receiver::Span| span.trace_id == CALLER_TRACE;
    for span in setup
        .receiver
        .wait_for("all spans", requests as usize, of_trace)
        .await
    {
        assert_eq!(
            (span.kind, span.attribute("data_tag")),
            (SERVER, "EXPORT_OK"),
            "{span:#?}"
        );
        let path_cost = span.attribute("cost_usd.path");
        assert!(
            path_cost.is_empty() || path_cost.parse::<f64>().unwrap() == 0.0,
            "{span:#?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outside_sampled_flag_decides_only_where_the_policy_accepts_it() {
    let edge = |flag: &str| with(at_rate(0.5), trust(json!({"sampled_flag": flag})));
    let setup = Setup::start(&[
        gateway("ignore", edge("ignore")),
        gateway("clamp", edge("clamp")),
        gateway("accept", edge("accept")),
        Listener::new("inside", "INBOUND", at_rate(0.5)),
    ])
    .await;
    let kept_by_us = Some("ot=th:8");
    // Listener, randomness, flag that came in, flag that leaves, `ot` member that leaves.
    let table = [
        ("ignore", HIGH, "00", true, kept_by_us),
        ("ignore", HIGH, "01", true, kept_by_us),
        ("ignore", LOW, "00", false, None),
        ("ignore", LOW, "01", false, None),
        ("clamp", HIGH, "00", true, kept_by_us),
        ("clamp", HIGH, "01", true, kept_by_us),
        ("clamp", LOW, "00", false, None),
        ("clamp", LOW, "01", false, None),
        ("accept", HIGH, "00", true, kept_by_us),
        // Kept at a rate that is not known here: the outside claim of one is not believed.
        ("accept", HIGH, "01", true, None),
        ("accept", LOW, "00", false, None),
        ("accept", LOW, "01", true, None),
        // One of us claims a rate of 1: believed, the lower threshold leaves.
        ("inside", HIGH, "00", true, kept_by_us),
        ("inside", HIGH, "01", true, Some("ot=th:0")),
        ("inside", LOW, "00", false, None),
        ("inside", LOW, "01", true, Some("ot=th:0")),
    ];
    for (listener, trace, flags, kept, ot) in table {
        let row = format!("{listener} {trace} {flags}");
        let headers = context(trace, flags).with("tracestate", "rojo=1,ot=th:0");
        let headers = setup.send(listener, Protocol::Http1, "app", headers).await;
        let parent = traceparent(&headers);
        assert_eq!(parent.trace_id.to_string(), trace, "{row}");
        assert_eq!(parent.flags.is_sampled(), kept, "{row}: {headers:?}");
        let members = headers.members("tracestate");
        let found = members.iter().find(|member| member.starts_with("ot="));
        assert_eq!(found.map(String::as_str), ot, "{row}: {members:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_begins_a_new_trace_whose_span_links_to_the_one_outside() {
    let policy = with(keep_all(), trust(json!({"trace_id": "restart"})));
    let setup = Setup::start(&[gateway("restart", policy)]).await;
    let mut traces = Vec::new();
    for protocol in Protocol::ALL {
        let headers = setup
            .send("restart", protocol, "app", claims(CALLER_TRACE, "01"))
            .await;
        let parent = traceparent(&headers);
        let trace = parent.trace_id.to_string();
        assert_ne!(trace, CALLER_TRACE);
        assert!(parent.flags.is_random(), "a new id is random: {headers:?}");
        // State of the old trace is none of the new one; baggage is independent of traces.
        let state = headers.text("tracestate");
        assert!(
            !state.contains("rojo") && !state.contains("congo"),
            "{state}"
        );
        assert!(
            headers.text("baggage").contains("user=alice;level=5"),
            "{headers:?}"
        );
        assert!(
            cost_member(&headers.members("tracestate")) < 0.001,
            "{headers:?}"
        );

        let of_trace = |span: &receiver::Span| span.trace_id == trace;
        let span = setup
            .receiver
            .wait_for("the span", 1, of_trace)
            .await
            .remove(0);
        assert_eq!(span.parent, "", "a new trace has no parent: {span:#?}");
        assert_eq!(
            span.links,
            [(CALLER_TRACE.to_owned(), CALLER_SPAN.to_owned())]
        );
        assert_eq!(span.id, parent.parent_id.to_string());
        traces.push(trace);
    }
    traces.sort_unstable();
    traces.dedup();
    assert_eq!(
        traces.len(),
        Protocol::ALL.len(),
        "each request has a trace of its own"
    );

    // Without a context from outside there is nothing to link to.
    let headers = setup
        .send("restart", Protocol::Http1, "app", HeaderLines::new())
        .await;
    let trace = traceparent(&headers).trace_id.to_string();
    let of_trace = |span: &receiver::Span| span.trace_id == trace;
    let span = setup
        .receiver
        .wait_for("the span", 1, of_trace)
        .await
        .remove(0);
    assert_eq!(span.links, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_believes_the_mesh_in_both_directions() {
    let setup = Setup::start(&[
        Listener::new("inbound", "INBOUND", keep_all()),
        Listener::new("outbound", "OUTBOUND", keep_all()),
    ])
    .await;
    for (listener, kind) in [("inbound", SERVER), ("outbound", CLIENT)] {
        for protocol in Protocol::ALL {
            let trace = format!("{:032x}", fastrand::u128(1..));
            let headers = setup
                .send(listener, protocol, "app", claims(&trace, "01"))
                .await;
            for name in ["tracestate", "baggage"] {
                let members = headers.members(name);
                // An outbound hop leaves the charge to the callee.
                let cost = cost_member(&members);
                assert!((5.0..5.001).contains(&cost), "{members:?}");
                // The strictest of what came in, in either header.
                assert_eq!(tags(&members), ["PII"], "{members:?}");
            }
            // The compact form of the same is read and replaced, never repeated.
            assert!(!headers.text("tracestate").contains("tm=c"), "{headers:?}");
            assert_foreign_members_are_kept(&headers);
            let of_trace = |span: &receiver::Span| span.trace_id == trace;
            let span = setup
                .receiver
                .wait_for("the span", 1, of_trace)
                .await
                .remove(0);
            assert_eq!(
                (span.kind, span.parent.as_str()),
                (kind, CALLER_SPAN),
                "{span:#?}"
            );
            assert_eq!(span.attribute("data_tag"), "PII", "{span:#?}");
            assert_eq!(
                span.attribute("cost_usd.path").parse::<f64>().unwrap(),
                5.0,
                "{span:#?}"
            );
        }
    }
    let stats = setup.envoy.stats().await.unwrap();
    assert_eq!(
        stats["wasmcustom.tracemeter_untrusted_members_dropped_total"],
        0
    );
}

fn assert_stripped(host: &str, headers: &HeaderLines) {
    for name in ["tracestate", "baggage"] {
        let text = headers.text(name);
        for own in ["cost_usd", "data_tag", "tm="] {
            assert!(!text.contains(own), "{host}: {name}: {text}");
        }
    }
    assert_foreign_members_are_kept(headers);
}

fn assert_carries_our_members(host: &str, headers: &HeaderLines) {
    for name in ["tracestate", "baggage"] {
        let members = headers.members(name);
        assert!(cost_member(&members) >= 5.0, "{host}: {members:?}");
        assert_eq!(tags(&members), ["PII"], "{host}: {members:?}");
    }
    assert_foreign_members_are_kept(headers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_members_leave_only_to_hosts_inside_the_mesh_or_on_the_list() {
    let allowing = trust(json!({"egress": {"allow": ["*.friend.example"]}}));
    let open = trust(json!({"egress": {"strip": false}}));
    let setup = Setup::start(&[
        Listener::new("outbound", "OUTBOUND", with(keep_all(), allowing)),
        Listener::new("open", "OUTBOUND", with(keep_all(), open)),
        Listener::new("inbound", "INBOUND", keep_all()),
    ])
    .await;
    let outside = [
        "api.partner.example",
        "api.partner.example:8443",
        "API.Partner.Example",
        "friend.example.evil.example",
        "svc.cluster.local.evil.example",
        "93.184.216.34",
        "[2606:2800:220:1::1]:80",
    ];
    let inside = [
        "neighbour",
        "neighbour:8080",
        "payments.shop.svc",
        "payments.shop.svc.cluster.local:80",
        "db.internal",
        "10.1.2.3:5000",
        "127.0.0.1",
        "pay.friend.example",
        "PAY.friend.example:443",
    ];
    for protocol in Protocol::ALL {
        for host in outside {
            let trace = format!("{:032x}", fastrand::u128(1..));
            let headers = setup
                .send("outbound", protocol, host, claims(&trace, "01"))
                .await;
            assert_stripped(host, &headers);
            // The trace itself goes on.
            assert_eq!(traceparent(&headers).trace_id.to_string(), trace, "{host}");
            assert!(traceparent(&headers).flags.is_sampled(), "{host}");
        }
        for host in inside {
            let headers = setup
                .send("outbound", protocol, host, claims(CALLER_TRACE, "01"))
                .await;
            assert_carries_our_members(host, &headers);
        }
        // The host says nothing about requests that come in, and `strip: false` is obeyed.
        for listener in ["open", "inbound"] {
            let host = "api.partner.example";
            let headers = setup
                .send(listener, protocol, host, claims(CALLER_TRACE, "01"))
                .await;
            assert_carries_our_members(listener, &headers);
        }
    }
    let requests = (outside.len() * Protocol::ALL.len()) as u64;
    assert_eq!(
        setup.counted("egress_stripped_total", requests).await,
        requests
    );
}
