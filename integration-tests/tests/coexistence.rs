//! Beside Envoy's own OpenTelemetry tracer: who owns the headers, and that nobody loses hours to
//! finding out. Also the explanation a response may carry.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use integration_tests::app::{App, Plan};
use integration_tests::client::{Call, Client, Protocol, Reply};
use integration_tests::collector::Collector;
use integration_tests::envoy::Envoy;
use integration_tests::headers::HeaderLines;
use integration_tests::mesh::{Mesh, Proxy};
use integration_tests::wait;

mod support;
use support::{CALLER_TRACE, KEEP_ALL, caller_context, only, spans, traceparent};

/// The tracer as an operator would add it to the connection manager; `%more%` is a further option.
const TRACING: &str = r#"          codec_type: AUTO
          tracing:
            random_sampling: { value: 100 }
%more%
            custom_tags:
            - { tag: cost_usd, value: "%FILTER_STATE(wasm.tracemeter.cost_usd:PLAIN)%" }
            - { tag: data_tag, value: "%FILTER_STATE(wasm.tracemeter.data_tag:PLAIN)%" }
            provider:
              name: envoy.tracers.opentelemetry
              typed_config:
                "@type": type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig
                service_name: envoys-own
                http_service:
                  http_uri: { uri: "http://collector/v1/traces", cluster: tracemeter_collector, timeout: 1s }
"#;

struct Traced {
    app: App,
    envoy: Envoy,
    client: Client,
    collector: Collector,
}

impl Traced {
    /// One inbound proxy whose connection manager traces too.
    async fn start(policy: &str, option: &str) -> Self {
        let collector = Collector::start(Some(policy)).await.unwrap();
        let app = App::start(|_| Plan::default()).await.unwrap();
        let mesh = Mesh::new(policy, collector.http()).unwrap();
        let proxy = Proxy {
            service: "traced".to_owned(),
            upstream: Some(app.address()),
            ..Proxy::default()
        };
        let plain = mesh.render(&proxy).unwrap();
        let tracing = TRACING.replace("%more%", option);
        let with_tracer = plain.replace("          codec_type: AUTO\n", &tracing);
        assert_ne!(
            plain, with_tracer,
            "the rendered configuration has another shape"
        );
        let envoy = Envoy::start("traced", &with_tracer, 1).await.unwrap();
        let client = Client::new(envoy.listener("inbound").unwrap());
        Self {
            app,
            envoy,
            client,
            collector,
        }
    }

    async fn send(&self, headers: HeaderLines) -> (Reply, HeaderLines) {
        let call = Call::new(Protocol::Http1, "traced", "/").headers(headers);
        let reply = self.client.send(call).await.unwrap();
        assert_eq!(reply.status, 200);
        (reply, only(self.app.take_recorded()).headers)
    }

    async fn counted(&self, name: &str) -> u64 {
        let name = format!("wasmcustom.tracemeter_{name}");
        let heartbeat = "wasmcustom.tracemeter_heartbeat_total";
        let before = self
            .envoy
            .stats()
            .await
            .unwrap()
            .get(heartbeat)
            .copied()
            .unwrap_or(0);
        // Two more ticks of both threads: whatever was counted has reached the statistics.
        wait::until("ticks of the filter", wait::PATIENCE, async || {
            let stats = self.envoy.stats().await?;
            let ticks = stats.get(heartbeat).copied().unwrap_or(0);
            Ok((ticks >= before + 4).then(|| stats.get(&name).copied().unwrap_or(0)))
        })
        .await
        .unwrap()
    }
}

fn context() -> HeaderLines {
    HeaderLines::new()
        .with("traceparent", caller_context())
        .with("tracestate", "rojo=1")
        .with("baggage", "user=alice")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_whose_headers_are_overwritten_says_so_once() {
    let mut traced = Traced::start(KEEP_ALL, "").await;
    for _ in 0..3 {
        let (_, headers) = traced.send(context()).await;
        assert_eq!(traceparent(&headers).trace_id.to_string(), CALLER_TRACE);
        assert_eq!(
            headers.text("tracestate"),
            "rojo=1",
            "Envoy's tracer owns it"
        );
        assert!(headers.text("baggage").contains("cost_usd="), "{headers:?}");
    }
    assert!(traced.counted("context_overwritten_total").await > 0);
    let log = traced.envoy.process().output();
    let said = log.matches("another tracer overwrites traceparent").count();
    assert_eq!(said, 1, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_beside_a_tracer_that_does_not_propagate_keeps_its_headers() {
    let option = "            no_context_propagation: true";
    let traced = Traced::start(KEEP_ALL, option).await;
    let (_, headers) = traced.send(context()).await;
    let parent = traceparent(&headers);
    assert_eq!(parent.trace_id.to_string(), CALLER_TRACE);
    let members = headers.members("tracestate");
    assert!(members[0].starts_with("cost_usd="), "{members:?}");
    assert_eq!(members.last().map(String::as_str), Some("rojo=1"));
    assert_eq!(traced.counted("context_overwritten_total").await, 0);
    // Both report a span of the same trace, and the application's parent is the filter's.
    let spans = spans::of_trace(&traced.collector, CALLER_TRACE, 2).await;
    let ours = spans.iter().find(|span| span.service == "traced").unwrap();
    assert_eq!(ours.id, parent.parent_id.to_string());
    assert!(
        spans.iter().any(|span| span.service == "envoys-own"),
        "{spans:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_companion_leaves_the_context_to_envoy_and_puts_cost_and_class_on_its_span() {
    let policy = format!(
        "{KEEP_ALL}propagation: {{ mode: companion }}\n\
         attributes: {{ data_tag: [{{ when: 'url.path = \"/\"', value: SENSITIVE }}] }}\n"
    );
    let mut traced = Traced::start(&policy, "").await;
    let (_, headers) = traced.send(context()).await;
    let parent = traceparent(&headers);
    assert_eq!(parent.trace_id.to_string(), CALLER_TRACE);
    let baggage = headers.members("baggage");
    assert!(
        baggage.contains(&"data_tag=SENSITIVE".to_owned()),
        "{baggage:?}"
    );
    assert!(baggage.contains(&"user=alice".to_owned()), "{baggage:?}");
    let query = format!(
        "SELECT span_id, cost_usd, data_tag FROM spans \
         WHERE trace_id = '{CALLER_TRACE}' AND service_name = 'envoys-own'"
    );
    let rows = wait::until("Envoy's own span", spans::ARRIVAL, async || {
        let rows = traced.collector.sql(&query).await?;
        Ok((!rows.is_empty()).then_some(rows))
    })
    .await
    .unwrap();
    assert_eq!(
        rows[0]["span_id"].as_str().unwrap(),
        parent.parent_id.to_string()
    );
    assert_eq!(rows[0]["data_tag"], "SENSITIVE");
    let cost = integration_tests::collector::number(&rows[0]["cost_usd"]).unwrap();
    assert!(cost > 0.0, "{rows:?}");
    assert_eq!(traced.counted("context_overwritten_total").await, 0);
    let log = traced.envoy.process().output();
    assert!(!log.contains("overwrites"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_explains_the_decision_only_when_asked_and_allowed() {
    let allowed = format!("{KEEP_ALL}debug: {{ explain: true }}\n");
    for (policy, asked, wanted) in [
        (KEEP_ALL, true, false),
        (allowed.as_str(), false, false),
        (allowed.as_str(), true, true),
    ] {
        let collector = Collector::start(None).await.unwrap();
        let app = App::start(|_| Plan::default()).await.unwrap();
        let mesh = Mesh::new(policy, collector.http()).unwrap();
        let proxy = Proxy {
            service: "explained".to_owned(),
            upstream: Some(app.address()),
            ..Proxy::default()
        };
        let envoy = mesh.proxy(&proxy).await.unwrap();
        let client = Client::new(envoy.listener("inbound").unwrap());
        let mut headers = context();
        if asked {
            headers.push("x-tracemeter-debug", "1");
        }
        let call = Call::new(Protocol::Http1, "explained", "/").headers(headers);
        let reply = client.send(call).await.unwrap();
        let explanation = reply.headers.text("x-tracemeter-explain");
        assert_eq!(
            explanation.contains(CALLER_TRACE),
            wanted,
            "`{explanation}`"
        );
    }
}
