//! Clients written by others send to the collector: opentelemetry-python with both of its OTLP
//! exporters, and Envoy's own tracer with both of its. (opentelemetry-rust is in the collector's own
//! tests; the filter is in most tests of this crate.)
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use integration_tests::artefacts;
use integration_tests::client::{Call, Client, Protocol};
use integration_tests::collector::{Collector, number};
use integration_tests::envoy::Envoy;
use integration_tests::wait::PATIENCE;

const SEND: &str = include_str!("stock/send_otlp.py");

/// Traces of two spans each.
const TRACES: u32 = 100;

/// Runs the exporter to its end; the id of its first trace.
fn send(protocol: &str, endpoint: &str, compression: &str, service: &str) -> String {
    let traces = TRACES.to_string();
    let output = Command::new(artefacts::python().unwrap())
        .args([
            "-c",
            SEND,
            protocol,
            endpoint,
            compression,
            service,
            &traces,
        ])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{protocol} {compression}: {complaints}"
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opentelemetry_python_exports_over_grpc_and_http_plain_and_gzip() {
    let collector = Collector::start(None).await.unwrap();
    let grpc = collector.grpc().to_string();
    let http = format!("http://{}/v1/traces", collector.http());
    for (protocol, endpoint) in [("grpc", &grpc), ("http", &http)] {
        for compression in ["none", "gzip"] {
            let service = format!("{protocol}-{compression}");
            let id = send(protocol, endpoint, compression, &service);
            // The exporter has its answer, so all of it is stored.
            let totals = collector
                .sql(&format!(
                    "SELECT COUNT(*) AS spans, COUNT(DISTINCT trace_id) AS traces, \
                     SUM(cost_usd) AS cost, SUM(CASE WHEN error THEN 1 ELSE 0 END) AS errors \
                     FROM spans WHERE service_name = '{service}'"
                ))
                .await
                .unwrap();
            let total = |name: &str| number(&totals[0][name]).unwrap();
            assert_eq!(
                (total("spans"), total("traces")),
                (200.0, 100.0),
                "{service}"
            );
            // 1 + 2 + .. + 100 millionths of a dollar.
            assert_eq!(
                (total("cost"), total("errors")),
                (0.00505, 50.0),
                "{service}"
            );
            let spans = collector
                .sql(&format!(
                    "SELECT operation, kind, attributes, events, links, parent_id FROM spans \
                     WHERE trace_id = '{id}' ORDER BY parent_id NULLS FIRST"
                ))
                .await
                .unwrap();
            let text = |row: usize, name: &str| spans[row][name].as_str().unwrap_or_default();
            assert_eq!(
                (spans.len(), text(0, "kind")),
                (2, "SERVER"),
                "{service}: {spans:?}"
            );
            assert!(
                text(0, "attributes").contains("\"items\":[1,2]"),
                "{spans:?}"
            );
            assert!(
                text(0, "events").contains("\"shelf\":\"ä\\\"<\""),
                "{spans:?}"
            );
            assert!(text(1, "links").contains(&id) && !text(1, "parent_id").is_empty());
        }
    }
    let metrics = collector.metrics().await.unwrap();
    assert!(
        metrics.contains("tracemeter_collector_requests_refused_total{reason=\"malformed\"} 0"),
        "{metrics}"
    );
}

/// How the two listeners' tracers reach the collector.
fn tracer(exporter: &str) -> String {
    match exporter {
        "grpc" => "grpc_service: { envoy_grpc: { cluster_name: grpc }, timeout: 2s }".to_owned(),
        _ => "http_service: { http_uri: { uri: \"http://collector/v1/traces\", cluster: http, timeout: 2s } }"
            .to_owned(),
    }
}

fn listener(exporter: &str) -> String {
    let tracer = tracer(exporter);
    format!(
        r#"  - name: {exporter}
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {exporter}
          tracing:
            random_sampling: {{ value: 100 }}
            spawn_upstream_span: false
            provider:
              name: envoy.tracers.opentelemetry
              typed_config:
                "@type": type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig
                service_name: envoy-{exporter}
                {tracer}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{ path: "/refused" }}
                direct_response: {{ status: 503 }}
              - match: {{ prefix: "/" }}
                direct_response: {{ status: 200 }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
"#
    )
}

fn cluster(name: &str, address: SocketAddr, options: &str) -> String {
    let (host, port) = (address.ip(), address.port());
    format!(
        r#"  - name: {name}
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{ {options}: {{}} }}
    load_assignment:
      cluster_name: {name}
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: {host}, port_value: {port} }} }} }}
"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoys_own_tracer_exports_over_grpc_and_http() {
    let collector = Collector::start(None).await.unwrap();
    let configuration = format!(
        "admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }} }}\n\
         static_resources:\n  listeners:\n{}{}  clusters:\n{}{}",
        listener("grpc"),
        listener("http"),
        cluster("grpc", collector.grpc(), "http2_protocol_options"),
        cluster("http", collector.http(), "http_protocol_options"),
    );
    let envoy = Envoy::start("traced", &configuration, 1).await.unwrap();
    for exporter in ["grpc", "http"] {
        let client = Client::new(envoy.listener(exporter).unwrap());
        for request in 0..40 {
            let path = if request % 4 == 0 { "/refused" } else { "/" };
            client
                .send(Call::new(Protocol::Http1, "shop", path))
                .await
                .unwrap();
        }
        let service = format!("FROM spans WHERE service_name = 'envoy-{exporter}'");
        let count = format!("SELECT COUNT(*) {service}");
        collector
            .wait_for_number(&count, PATIENCE, |spans| spans >= 40.0)
            .await
            .unwrap();
        let rows = collector
            .sql(&format!(
                "SELECT COUNT(*) AS spans, COUNT(DISTINCT trace_id) AS traces, \
                 SUM(CASE WHEN error THEN 1 ELSE 0 END) AS errors, MIN(kind) AS kind, \
                 MAX(http_status_code) AS status, MIN(cost_usd) AS least {service}"
            ))
            .await
            .unwrap();
        let cell = |name: &str| number(&rows[0][name]).unwrap();
        assert_eq!((cell("spans"), cell("traces")), (40.0, 40.0), "{exporter}");
        assert_eq!(
            (cell("errors"), cell("status")),
            (10.0, 503.0),
            "{exporter}"
        );
        // Envoy's tracer knows no costs: the policy's prices do.
        assert!(cell("least") > 0.0, "{rows:?}");
        assert_eq!(rows[0]["kind"], "SERVER");
    }
}
