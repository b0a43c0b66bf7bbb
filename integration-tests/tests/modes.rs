//! The filter beside Envoy's own OpenTelemetry tracer: who owns the context, and what reaches the
//! application and the two kinds of spans.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use integration_tests::app::{App, Plan, Recorded};
use integration_tests::client::{Call, Client, Protocol};
use integration_tests::envoy::Envoy;
use integration_tests::headers::HeaderLines;
use integration_tests::wait::{self, PATIENCE};
use serde_json::{Value, json};

mod proxies;
mod receiver;
mod support;
use proxies::{ENVOY_PATH, Listener, Place, Tracer, keep_all, with};
use receiver::{CLIENT, Receiver, SERVER, Span};
use support::{CALLER_SPAN, CALLER_TRACE, caller_context, cost_member, only, traceparent};

const FILTER_PATH: &str = "/v1/traces";

/// The one warning of a proxy whose tracer overwrites the context.
const WARNING: &str = "another tracer overwrites traceparent";

struct Setup {
    app: App,
    receiver: Receiver,
    envoy: Envoy,
    client: Client,
}

impl Setup {
    async fn start(listener: Listener, workers: u32) -> Self {
        Self::with_plan(listener, workers, |_| Plan::default()).await
    }

    async fn with_plan(
        listener: Listener,
        workers: u32,
        planner: impl Fn(&Recorded) -> Plan + Send + Sync + 'static,
    ) -> Self {
        let app = App::start(planner).await.unwrap();
        let receiver = Receiver::start().await;
        let name = listener.name;
        let config = proxies::config(&[listener], app.address(), receiver.address());
        let envoy = Envoy::start("traced", &config, workers).await.unwrap();
        let client = Client::new(envoy.listener(name).unwrap());
        Self {
            app,
            receiver,
            envoy,
            client,
        }
    }

    /// One request; what the application saw of it.
    async fn request(&self, protocol: Protocol, headers: HeaderLines) -> HeaderLines {
        let call = Call::new(protocol, "app", "/pay").headers(headers);
        let reply = self.client.send(call).await.unwrap();
        assert!(reply.is_ok(), "{reply:?}");
        only(self.app.take_recorded()).headers
    }

    /// The only span of a trace that was posted to `path`.
    async fn span(&self, path: &str, trace: &str) -> Span {
        let what = format!("the span of {trace} at {path}");
        let of_trace = |span: &Span| span.path == path && span.trace_id == trace;
        let mut spans = self.receiver.wait_for(&what, 1, of_trace).await;
        assert_eq!(spans.len(), 1, "{spans:#?}");
        spans.remove(0)
    }

    /// A counter of the filter, once it is at least `enough`.
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

fn inbound(policy: Value) -> Listener {
    Listener::new("inbound", "INBOUND", policy)
}

fn companion() -> Value {
    let mappings = json!({"data_tag": [{"when": "url.scheme = http", "value": "PII"}]});
    with(
        keep_all(),
        json!({"propagation": {"mode": "companion"}, "attributes": mappings}),
    )
}

fn caller() -> HeaderLines {
    HeaderLines::new()
        .with("traceparent", caller_context())
        .with("tracestate", "rojo=1,ot=th:8;rv:f0000000000000")
        .with("baggage", "user=alice")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_beside_a_silent_tracer_has_its_headers_upstream_and_both_spans_are_exported() {
    let setup = Setup::start(inbound(keep_all()).tracer(Tracer::Silent), 1).await;
    for protocol in Protocol::ALL {
        let before = setup.receiver.len();
        let headers = setup.request(protocol, caller()).await;
        let parent = traceparent(&headers);
        assert_eq!(parent.trace_id.to_string(), CALLER_TRACE);
        let state = headers.members("tracestate");
        assert!(cost_member(&state) > 0.0, "{state:?}");
        assert!(state.contains(&"rojo=1".to_owned()), "{state:?}");
        assert!(
            cost_member(&headers.members("baggage")) > 0.0,
            "{headers:?}"
        );

        let new = |span: &Span| span.trace_id == CALLER_TRACE;
        let spans = setup.receiver.wait_for("both spans", before + 2, new).await;
        let newer = |path: &str| {
            let found = spans.iter().rev().find(|span| span.path == path);
            found.unwrap_or_else(|| panic!("no span at {path}: {spans:#?}"))
        };
        let (own, envoys) = (newer(FILTER_PATH), newer(ENVOY_PATH));
        assert_eq!(
            own.id,
            parent.parent_id.to_string(),
            "the application's parent"
        );
        assert_ne!(own.id, envoys.id);
        // Siblings below the caller.
        assert_eq!(
            (own.parent.as_str(), envoys.parent.as_str()),
            (CALLER_SPAN, CALLER_SPAN)
        );
        assert_eq!(envoys.service, "envoy-itself");
    }
    assert_eq!(setup.counted("heartbeat_total", 2).await.min(2), 2);
    let stats = setup.envoy.stats().await.unwrap();
    assert_eq!(stats["wasmcustom.tracemeter_context_overwritten_total"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_is_overwritten_counts_it_and_warns_once_per_worker_at_most() {
    const WORKERS: u32 = 2;
    let mut setup = Setup::start(inbound(keep_all()).tracer(Tracer::Propagating), WORKERS).await;
    let mut written_by_envoy = 0;
    for _ in 0..4 {
        // Each client has a connection of its own, so that both workers see requests.
        setup.client = Client::new(setup.envoy.listener("inbound").unwrap());
        for _ in 0..5 {
            let headers = setup.request(Protocol::Http1, caller()).await;
            let state = headers.text("tracestate");
            assert!(
                !state.contains("cost_usd"),
                "Envoy's tracer keeps ours: {state}"
            );
            assert!(
                cost_member(&headers.members("baggage")) > 0.0,
                "{headers:?}"
            );
            written_by_envoy += 1;
        }
    }
    let counted = setup
        .counted("context_overwritten_total", written_by_envoy)
        .await;
    assert_eq!(
        counted, written_by_envoy,
        "the first 32 of a worker are all looked at"
    );
    let log = setup.envoy.process().output();
    let warnings = log.matches(WARNING).count();
    assert!(
        (1..=WORKERS as usize).contains(&warnings),
        "{warnings} warnings:\n{log}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_companion_leaves_the_context_to_envoy_and_tags_its_span() {
    let mut setup = Setup::start(inbound(companion()).tracer(Tracer::Propagating), 1).await;
    for protocol in Protocol::ALL {
        let headers = setup.request(protocol, HeaderLines::new()).await;
        let parent = traceparent(&headers);
        let trace = parent.trace_id.to_string();
        let span = setup.span(ENVOY_PATH, &trace).await;
        assert_eq!(
            span.id,
            parent.parent_id.to_string(),
            "the application's parent is Envoy's"
        );

        let baggage = headers.members("baggage");
        assert!(cost_member(&baggage) > 0.0, "{baggage:?}");
        assert!(baggage.contains(&"data_tag=PII".to_owned()), "{baggage:?}");
        assert_eq!(span.attribute("data_tag"), "PII", "{span:#?}");
        let cost: f64 = span.attribute("cost_usd").parse().unwrap();
        assert!(cost > 0.0 && cost < 0.001, "{span:#?}");
    }
    // With a caller: Envoy continues its trace, foreign baggage passes.
    let headers = setup.request(Protocol::Http1, caller()).await;
    assert_eq!(traceparent(&headers).trace_id.to_string(), CALLER_TRACE);
    assert!(
        headers
            .members("baggage")
            .contains(&"user=alice".to_owned()),
        "{headers:?}"
    );
    let span = setup.span(ENVOY_PATH, CALLER_TRACE).await;
    assert_eq!(
        (span.parent.as_str(), span.attribute("data_tag")),
        (CALLER_SPAN, "PII")
    );

    // Nothing of this is an overwritten context, and the filter has no spans of its own.
    setup.counted("requests_ended_total", 4).await;
    assert!(
        setup
            .receiver
            .spans()
            .iter()
            .all(|span| span.path == ENVOY_PATH)
    );
    let stats = setup.envoy.stats().await.unwrap();
    assert_eq!(stats["wasmcustom.tracemeter_context_overwritten_total"], 0);
    let log = setup.envoy.process().output();
    assert!(!log.contains(WARNING), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_companion_in_the_upstream_chain_keeps_tracestate_on_envoys_trace() {
    let listener = inbound(companion())
        .tracer(Tracer::Propagating)
        .place(Place::Upstream);
    let setup = Setup::start(listener, 1).await;
    for protocol in Protocol::ALL {
        let headers = setup.request(protocol, HeaderLines::new()).await;
        let parent = traceparent(&headers);
        let span = setup.span(ENVOY_PATH, &parent.trace_id.to_string()).await;
        assert_eq!(
            span.id,
            parent.parent_id.to_string(),
            "the application's parent is Envoy's"
        );
        assert_eq!(span.attribute("data_tag"), "PII", "{span:#?}");
        let cost: f64 = span.attribute("cost_usd").parse().unwrap();
        assert!(cost > 0.0, "{span:#?}");
        for name in ["tracestate", "baggage"] {
            let members = headers.members(name);
            // The header left before the duration was known; the span's cost is the exact one.
            let known = cost_member(&members);
            assert!(known > 0.0 && known <= cost, "{members:?} {cost}");
            assert!(members.contains(&"data_tag=PII".to_owned()), "{members:?}");
        }
        // The decision was Envoy's, at a rate that is not known here.
        assert!(!headers.text("tracestate").contains("th:"), "{headers:?}");
    }
    let headers = setup.request(Protocol::Http1, caller()).await;
    assert_eq!(traceparent(&headers).trace_id.to_string(), CALLER_TRACE);
    let state = headers.members("tracestate");
    assert_eq!(headers.lines("tracestate").count(), 1, "{headers:?}");
    assert!(cost_member(&state) > 0.0, "{state:?}");
    // The caller's threshold agrees with the flag that leaves, so it stays, byte for byte.
    for member in ["rojo=1", "ot=th:8;rv:f0000000000000"] {
        assert!(state.contains(&member.to_owned()), "{state:?}");
    }
    assert!(
        headers
            .members("baggage")
            .contains(&"user=alice".to_owned()),
        "{headers:?}"
    );
    // `on_log` is not called in the upstream chain; requests end all the same.
    assert_eq!(setup.counted("requests_ended_total", 4).await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_in_the_upstream_chain_puts_its_span_between_envoys_and_the_application() {
    for (direction, kind) in [("INBOUND", SERVER), ("OUTBOUND", CLIENT)] {
        let listener = Listener::new("upstream", direction, keep_all())
            .tracer(Tracer::Propagating)
            .place(Place::Upstream);
        let setup = Setup::start(listener, 1).await;
        for protocol in Protocol::ALL {
            let headers = setup.request(protocol, HeaderLines::new()).await;
            let parent = traceparent(&headers);
            let trace = parent.trace_id.to_string();
            let envoys = setup.span(ENVOY_PATH, &trace).await;
            let own = setup.span(FILTER_PATH, &trace).await;
            assert_eq!(own.parent, envoys.id);
            assert_eq!(own.id, parent.parent_id.to_string());
            assert_eq!(
                own.kind, kind,
                "the listener's direction is known there too"
            );
            let method = if protocol == Protocol::Grpc {
                "POST"
            } else {
                "GET"
            };
            assert_eq!(own.attribute("http.request.method"), method, "{own:#?}");
            assert_eq!(
                own.attribute("http.response.status_code"),
                "200",
                "{own:#?}"
            );
            let cost: f64 = own.attribute("cost_usd").parse().unwrap();
            assert_eq!(cost > 0.0, kind == SERVER, "the callee charges: {own:#?}");
            assert!(
                headers.text("tracestate").contains("data_tag="),
                "{headers:?}"
            );
        }
        let stats = setup.envoy.stats().await.unwrap();
        assert_eq!(stats["wasmcustom.tracemeter_context_overwritten_total"], 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_upstream_chain_every_try_is_a_request_with_a_cost_of_its_own() {
    let mut listener = inbound(keep_all())
        .tracer(Tracer::Propagating)
        .place(Place::Upstream);
    listener.retries = 2;
    // The first two tries fail.
    let tries = std::sync::atomic::AtomicU32::new(0);
    let setup = Setup::with_plan(listener, 1, move |_| Plan {
        status: match tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 | 1 => 503,
            _ => 200,
        },
        ..Plan::default()
    })
    .await;
    let call = Call::new(Protocol::Http1, "app", "/pay").headers(caller());
    assert!(setup.client.send(call).await.unwrap().is_ok());
    let tries = setup.app.take_recorded();
    assert_eq!(tries.len(), 3);
    let mut last = 0.0;
    for request in &tries {
        for name in ["traceparent", "tracestate", "baggage"] {
            assert_eq!(
                request.headers.lines(name).count(),
                1,
                "{:?}",
                request.headers
            );
        }
        let state = request.headers.members("tracestate");
        let own = state
            .iter()
            .filter(|member| member.starts_with("cost_usd="))
            .count();
        assert_eq!(own, 1, "own members pile up: {state:?}");
        let baggage = request.headers.members("baggage");
        let cost = cost_member(&baggage);
        assert_eq!(cost_member(&state), cost, "{state:?} {baggage:?}");
        assert!(cost > last, "a failed try costs too: {cost} after {last}");
        last = cost;
    }
    let own = |span: &Span| span.path == FILTER_PATH;
    let spans = setup.receiver.wait_for("a span per try", 3, own).await;
    assert_eq!(spans.len(), 3, "{spans:#?}");
    let envoys = setup.span(ENVOY_PATH, CALLER_TRACE).await;
    assert!(
        spans.iter().all(|span| span.parent == envoys.id),
        "{spans:#?}"
    );
    // What the caller never sees is an error of its try all the same.
    let mut statuses: Vec<_> = spans
        .iter()
        .map(|span| span.attribute("http.response.status_code"))
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, ["200", "503", "503"]);
}
