//! The real binary: transports, encodings, refusals.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod common;

use std::io::Write as _;

use common::{Collector, attribute, encoded, get, post, request, span};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use tonic::Code;
use tonic::codec::CompressionEncoding;

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn http_takes_protobuf_and_json_plain_gzip_and_zstd() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path(), &[]);
    let bodies = [
        (vec![PROTOBUF], encoded("plain", vec![span(1, 1)])),
        (
            vec![PROTOBUF, ("content-encoding", "gzip")],
            gzip(&encoded("gzip", vec![span(1, 2)])),
        ),
        (
            vec![PROTOBUF, ("content-encoding", "zstd")],
            zstd::bulk::compress(&encoded("zstd", vec![span(1, 3)]), 3).unwrap(),
        ),
        (
            vec![("content-type", "application/json; charset=utf-8")],
            serde_json::to_vec(&request("json", vec![span(1, 4)])).unwrap(),
        ),
    ];
    for (headers, body) in &bodies {
        let reply = post(collector.http, "/v1/traces", headers, body).unwrap();
        assert_eq!(reply.status, 200, "{headers:?}: {}", reply.text());
    }
    let rows = collector.sql("SELECT service_name, cost_usd FROM spans ORDER BY span_id");
    let services: Vec<_> = rows
        .iter()
        .map(|row| row["service_name"].as_str().unwrap())
        .collect();
    assert_eq!(services, ["plain", "gzip", "zstd", "json"]);
    let traces = collector.sql("SELECT * FROM trace_metadata");
    assert_eq!(
        (traces.len(), traces[0]["span_count"].as_u64()),
        (1, Some(4))
    );
    assert_eq!(traces[0]["recorded_cost"].to_string(), "1e-8");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_takes_plain_gzip_and_zstd_and_reports_bad_spans() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path(), &[]);
    let url = format!("http://{}", collector.grpc);
    for (id, encoding) in [
        (1, None),
        (2, Some(CompressionEncoding::Gzip)),
        (3, Some(CompressionEncoding::Zstd)),
    ] {
        let mut client = TraceServiceClient::connect(url.clone()).await.unwrap();
        if let Some(encoding) = encoding {
            client = client.send_compressed(encoding).accept_compressed(encoding);
        }
        let mut bad = span(9, 9);
        bad.trace_id = vec![0; 16];
        let reply = client
            .export(request("grpc", vec![span(1, id), bad]))
            .await
            .unwrap();
        let partial = reply.into_inner().partial_success.unwrap();
        assert_eq!(partial.rejected_spans, 1);
        assert!(
            partial.error_message.contains("invalid_trace_id"),
            "{}",
            partial.error_message
        );
    }
    let rows = collector.sql("SELECT COUNT(*) AS n FROM spans");
    assert_eq!(rows[0]["n"], 3);
    assert_eq!(
        collector.metric("tracemeter_collector_spans_refused_total{reason=\"invalid_trace_id\"}"),
        3
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_grpc_method_is_unimplemented() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path(), &[]);
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", collector.grpc))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let path = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
        .parse()
        .unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let status = client
        .unary(tonic::Request::new(()), path, codec)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[test]
fn what_cannot_be_taken_is_refused_with_the_right_status() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path(), &[]);
    let good = encoded("a", vec![span(1, 1)]);
    let zeros = vec![0u8; 80 << 20];
    type Case<'a> = (u16, Vec<(&'a str, &'a str)>, Vec<u8>);
    let cases: Vec<Case<'_>> = vec![
        (415, vec![("content-type", "text/plain")], good.clone()),
        (415, vec![], good.clone()),
        (
            415,
            vec![PROTOBUF, ("content-encoding", "br")],
            good.clone(),
        ),
        (
            415,
            vec![PROTOBUF, ("content-encoding", "gzip")],
            good.clone(),
        ),
        (400, vec![PROTOBUF], b"\x0a\xff\xff".to_vec()),
        (
            400,
            vec![("content-type", "application/json")],
            b"{\"resourceSpans\":1}".to_vec(),
        ),
        (413, vec![PROTOBUF], vec![0; (16 << 20) + 1]),
        (
            413,
            vec![PROTOBUF, ("content-encoding", "gzip")],
            gzip(&zeros),
        ),
        (
            413,
            vec![PROTOBUF, ("content-encoding", "zstd")],
            zstd::bulk::compress(&zeros, 1).unwrap(),
        ),
        // Small enough decompressed, but far too many bytes for one received.
        (
            413,
            vec![PROTOBUF, ("content-encoding", "zstd")],
            zstd::bulk::compress(&zeros[..20 << 20], 1).unwrap(),
        ),
        // Nesting that would exhaust a stack.
        (
            400,
            vec![("content-type", "application/json")],
            b"{\"resourceSpans\":"
                .iter()
                .copied()
                .chain(vec![b'['; 1 << 20])
                .collect(),
        ),
    ];
    for (status, headers, body) in &cases {
        let reply = post(collector.http, "/v1/traces", headers, body).unwrap();
        assert_eq!(reply.status, *status, "{headers:?}: {}", reply.text());
    }
    let ratio = "more than `4194304` bytes";
    let (_, headers, body) = &cases[cases.len() - 2];
    let reply = post(collector.http, "/v1/traces", headers, body).unwrap();
    assert!(reply.text().contains(ratio), "{}", reply.text());
    assert_eq!(get(collector.http, "/v1/traces").unwrap().status, 405);
    assert_eq!(get(collector.http, "/nothing").unwrap().status, 404);
    // After all that it still works, and the bytes in flight were given back.
    assert_eq!(collector.send(&good).unwrap().status, 200);
    assert_eq!(collector.metric("tracemeter_collector_in_flight_bytes"), 0);
    assert_eq!(get(collector.http, "/readyz").unwrap().status, 200);
    assert_eq!(get(collector.http, "/healthz").unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_collector_asks_clients_to_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path(), &["--in-flight-mib", "1"]);
    let mut big = span(1, 1);
    big.attributes = (0..9)
        .map(|index| {
            attribute(
                &format!("k{index}"),
                Value::StringValue("x".repeat(120_000)),
            )
        })
        .collect();
    let reply = collector.send(&encoded("a", vec![big.clone()])).unwrap();
    assert_eq!(reply.status, 429, "{}", reply.text());
    assert!(reply.head.contains("retry-after: 1"), "{}", reply.head);

    let mut client = TraceServiceClient::connect(format!("http://{}", collector.grpc))
        .await
        .unwrap();
    let status = client.export(request("a", vec![big])).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let details = String::from_utf8_lossy(status.details()).into_owned();
    assert!(
        details.contains("google.rpc.RetryInfo"),
        "without it clients do not retry"
    );
    assert_eq!(
        collector
            .send(&encoded("a", vec![span(1, 1)]))
            .unwrap()
            .status,
        200
    );
}

#[test]
fn partial_success_names_reasons_and_keeps_the_good_spans() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path(), &[]);
    let mut reversed = span(1, 2);
    reversed.end_time_unix_nano -= 5_000_000_000;
    let reply = collector
        .send(&encoded("a", vec![span(1, 1), reversed]))
        .unwrap();
    assert_eq!(reply.status, 200);
    let answer = ExportTraceServiceResponse::decode(&reply.body[..]).unwrap();
    let partial = answer.partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 1);
    assert!(
        partial.error_message.starts_with("1 end_before_start"),
        "{}",
        partial.error_message
    );
    assert_eq!(collector.sql("SELECT COUNT(*) AS n FROM spans")[0]["n"], 1);
}

fn point(route: &str, direction: &str, number: i64) -> NumberDataPoint {
    let text = |key: &str, value: &str| attribute(key, Value::StringValue(value.into()));
    NumberDataPoint {
        attributes: vec![
            text("tracemeter.direction", direction),
            text("http.route", route),
            text("data_tag", "EXPORT_OK"),
        ],
        time_unix_nano: common::now_ns(),
        value: Some(number_data_point::Value::AsInt(number)),
        ..NumberDataPoint::default()
    }
}

/// Delta `sequence` of `instance`: 2 requests on /pay with 1 error, 500 nano-USD.
fn delta(instance: &str, sequence: i64, scope: &str) -> ExportMetricsServiceRequest {
    let sum = |name: &str, number| Metric {
        name: name.into(),
        data: Some(Data::Sum(Sum {
            data_points: vec![point("/pay", "inbound", number)],
            aggregation_temporality: 1,
            is_monotonic: true,
        })),
        ..Metric::default()
    };
    let requests = point("/pay", "inbound", 0);
    let histogram = Metric {
        name: "tracemeter.requests.duration".into(),
        data: Some(Data::ExponentialHistogram(ExponentialHistogram {
            data_points: vec![ExponentialHistogramDataPoint {
                attributes: requests.attributes,
                time_unix_nano: requests.time_unix_nano,
                count: 2,
                sum: Some(8e6),
                scale: 2,
                positive: Some(Buckets {
                    offset: 87,
                    bucket_counts: vec![1, 0, 1],
                }),
                ..Default::default()
            }],
            aggregation_temporality: 1,
        })),
        ..Metric::default()
    };
    let number = attribute("tracemeter.sequence", Value::IntValue(sequence));
    let scope_metrics = ScopeMetrics {
        scope: Some(InstrumentationScope {
            name: scope.into(),
            attributes: vec![number],
            ..InstrumentationScope::default()
        }),
        metrics: vec![
            histogram,
            sum("tracemeter.requests.errors", 1),
            sum("tracemeter.cost", 500),
        ],
        ..ScopeMetrics::default()
    };
    let name = |key: &str, value: &str| attribute(key, Value::StringValue(value.into()));
    let attributes = vec![
        name("service.name", "payment"),
        name("service.instance.id", instance),
    ];
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource {
                attributes,
                ..Resource::default()
            }),
            scope_metrics: vec![scope_metrics],
            ..ResourceMetrics::default()
        }],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ledger_deltas_count_once_per_instance_also_after_compaction_and_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path(), &["--generation-age", "0"]);
    let post_delta = |collector: &Collector, request: &ExportMetricsServiceRequest| {
        post(
            collector.http,
            "/v1/metrics",
            &[PROTOBUF],
            &request.encode_to_vec(),
        )
        .unwrap()
    };
    for request in [
        delta("i1", 1, "tracemeter"),
        delta("i1", 1, "tracemeter"),
        delta("i2", 1, "tracemeter"),
    ] {
        assert_eq!(post_delta(&collector, &request).status, 200);
    }
    let mut client = MetricsServiceClient::connect(format!("http://{}", collector.grpc))
        .await
        .unwrap();
    client.export(delta("i1", 2, "tracemeter")).await.unwrap();
    let foreign = client
        .export(delta("i1", 3, "somebody"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(foreign.partial_success.unwrap().rejected_data_points, 3);
    common::wait_for("compaction", || {
        (collector.metric("tracemeter_collector_partitions") > 0).then_some(())
    });
    collector.kill();

    let collector = Collector::start(dir.path(), &[]);
    assert_eq!(
        post_delta(&collector, &delta("i2", 1, "tracemeter")).status,
        200
    );
    assert_eq!(
        post_delta(&collector, &delta("i1", 2, "tracemeter")).status,
        200
    );
    let rows = collector.sql(
        "SELECT service_name, SUM(requests) AS requests, SUM(cost_usd) AS cost \
         FROM cost_by_service GROUP BY service_name",
    );
    assert_eq!(
        (rows.len(), rows[0]["requests"].as_u64()),
        (1, Some(6)),
        "{rows:?}"
    );
    assert_eq!(rows[0]["cost"].as_f64(), Some(1.5e-6));
    let red = collector.sql(
        "SELECT SUM(requests) AS requests, SUM(errors) AS errors, AVG(duration_ms_mean) AS mean \
         FROM red_by_service",
    );
    assert_eq!(
        (red[0]["requests"].as_u64(), red[0]["errors"].as_u64()),
        (Some(6), Some(3))
    );
    assert_eq!(red[0]["mean"].as_f64(), Some(4.0));
    for view in ["cost_by_data_tag", "cost_by_route"] {
        let rows = collector.sql(&format!("SELECT SUM(requests) AS n FROM {view}"));
        assert_eq!(rows[0]["n"].as_u64(), Some(6), "{view}");
    }
    assert!(collector.sql("SELECT * FROM service_edges").is_empty());
}

#[test]
fn the_page_lists_traces_with_cost_and_escapes_what_spans_say() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path(), &[]);
    let mut hostile = span(0xabc, 7);
    hostile.name = "<script>alert(1)</script>".into();
    let child = opentelemetry_proto::tonic::trace::v1::Span {
        parent_span_id: 7u64.to_be_bytes().to_vec(),
        ..span(0xabc, 8)
    };
    assert_eq!(
        collector
            .send(&encoded("<b>shop", vec![hostile, child]))
            .unwrap()
            .status,
        200
    );
    let id = format!("{:032x}", 0xabc);
    for path in ["/".to_owned(), format!("/traces/{id}")] {
        let reply = get(collector.http, &path).unwrap();
        assert_eq!(reply.status, 200);
        assert!(
            reply
                .head
                .contains("content-security-policy: default-src 'none'"),
            "{}",
            reply.head
        );
        let page = reply.text();
        assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
        assert!(
            page.contains("&lt;b&gt;shop") && page.contains(&id),
            "{page}"
        );
        assert!(page.contains("0.000000015"), "the trace's cost: {page}");
    }
    assert_eq!(
        get(collector.http, &format!("/traces/{:032x}", 1))
            .unwrap()
            .status,
        404
    );
    assert_eq!(
        get(collector.http, "/traces/nonsense'--").unwrap().status,
        400
    );
    let spans = get(collector.http, &format!("/api/traces/{id}")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&spans.body).unwrap();
    assert_eq!(json["rows"].as_array().unwrap().len(), 2);
    let list = get(collector.http, "/api/traces?order=cost&limit=5").unwrap();
    assert!(list.text().contains(&id), "{}", list.text());
}

#[test]
fn an_answer_comes_in_the_form_that_accept_asks_for() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path(), &[]);
    let ask = |accept: &str| {
        post(
            collector.http,
            "/api/sql",
            &[("accept", accept)],
            b"SELECT 1 AS one",
        )
        .unwrap()
    };
    for (accept, media_type, start) in [
        ("*/*", "application/json", &b"{\"columns\""[..]),
        ("text/csv", "text/csv", b"one\r\n1\r\n"),
        // An IPC stream begins with a continuation marker.
        (
            "application/vnd.apache.arrow.stream",
            "application/vnd.apache.arrow.stream",
            &[0xff, 0xff, 0xff, 0xff],
        ),
    ] {
        let reply = ask(accept);
        assert_eq!(reply.status, 200, "{accept}");
        assert!(
            reply.head.contains(&format!("content-type: {media_type}")),
            "{}",
            reply.head
        );
        assert!(reply.body.starts_with(start), "{accept}: {}", reply.text());
    }
    let refused = ask("image/png");
    assert_eq!(refused.status, 406);
    assert!(refused.text().contains("text/csv"), "{}", refused.text());
}
