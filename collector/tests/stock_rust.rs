//! The real binary and the exporter of opentelemetry-rust.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod common;

use common::Collector;
use opentelemetry::trace::{
    Span as _, SpanContext, SpanKind, Status, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, trace::TraceContextExt as _};
use opentelemetry_otlp::{Compression, SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;

/// Traces of two spans each that one client sends.
const TRACES: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opentelemetry_rust_exports_over_grpc_plain_and_gzip() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path(), &[]);
    for (service, compression) in [("plain", None), ("gzip", Some(Compression::Gzip))] {
        let mut builder = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(format!("http://{}", collector.grpc));
        if let Some(compression) = compression {
            builder = builder.with_compression(compression);
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(builder.build().unwrap())
            .with_resource(Resource::builder().with_service_name(service).build())
            .build();
        let roots: Vec<SpanContext> = (0..TRACES).map(|number| trace(&provider, number)).collect();
        // Fails when any batch was refused.
        tokio::task::spawn_blocking(move || provider.shutdown())
            .await
            .unwrap()
            .unwrap();

        let rows = collector.sql(&format!(
            "SELECT COUNT(*) AS spans, COUNT(DISTINCT trace_id) AS traces, SUM(cost_usd) AS cost, \
             SUM(CASE WHEN error THEN 1 ELSE 0 END) AS errors FROM spans WHERE service_name = '{service}'"
        ));
        let number = |name: &str| rows[0][name].as_f64().unwrap();
        assert_eq!(
            (number("spans"), number("traces")),
            (80.0, 40.0),
            "{rows:?}"
        );
        // 1 + 2 + .. + 40 millionths of a dollar.
        assert_eq!(
            (number("cost"), number("errors")),
            (0.00082, 20.0),
            "{rows:?}"
        );
        let id = roots[7].trace_id();
        let spans = collector.sql(&format!(
            "SELECT operation, kind, parent_id, attributes FROM spans \
             WHERE trace_id = '{id}' ORDER BY parent_id NULLS FIRST"
        ));
        assert_eq!(
            (&spans[0]["operation"], &spans[0]["kind"]),
            (&"root".into(), &"SERVER".into())
        );
        assert_eq!(spans[1]["parent_id"], roots[7].span_id().to_string());
        assert!(
            spans[1]["attributes"]
                .as_str()
                .unwrap()
                .contains("\"item\":7"),
            "{spans:?}"
        );
    }
}

fn trace(provider: &SdkTracerProvider, number: usize) -> SpanContext {
    let tracer = provider.tracer("stock");
    let mut root = tracer
        .span_builder("root")
        .with_kind(SpanKind::Server)
        .with_attributes([KeyValue::new("cost_usd", (number + 1) as f64 * 1e-6)])
        .start(&tracer);
    if number % 2 == 1 {
        root.set_status(Status::error("planned"));
    }
    let context = root.span_context().clone();
    let parent = Context::new().with_span(root);
    let mut child = tracer.start_with_context("child", &parent);
    child.set_attribute(KeyValue::new("item", number as i64));
    child.set_attribute(KeyValue::new("cost_usd", 0.0));
    child.end();
    context
}
