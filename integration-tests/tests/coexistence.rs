//! Beside Envoy's own OpenTelemetry tracer, down to what SQL says of Envoy's own span, and the
//! explanation a response may carry. Each mode has its tests on the wire in `modes.rs`.
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

/// The tracer as an operator would add it to the connection manager.
const TRACING: &str = r#"          codec_type: AUTO
          tracing:
            random_sampling: { value: 100 }
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
    async fn start(policy: &str) -> Self {
        let collector = Collector::start(Some(policy)).await.unwrap();
        let app = App::start(|_| Plan::default()).await.unwrap();
        let mesh = Mesh::new(policy, collector.http()).unwrap();
        let proxy = Proxy {
            service: "traced".to_owned(),
            upstream: Some(app.address()),
            ..Proxy::default()
        };
        let plain = mesh.render(&proxy).unwrap();
        let with_tracer = plain.replace("          codec_type: AUTO\n", TRACING);
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
}

fn context() -> HeaderLines {
    HeaderLines::new()
        .with("traceparent", caller_context())
        .with("tracestate", "rojo=1")
        .with("baggage", "user=alice")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_companion_leaves_the_context_to_envoy_and_puts_cost_and_class_on_its_span() {
    let policy = format!(
        "{KEEP_ALL}propagation: {{ mode: companion }}\n\
         attributes: {{ data_tag: [{{ when: 'url.path = \"/\"', value: SENSITIVE }}] }}\n"
    );
    let mut traced = Traced::start(&policy).await;
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
