//! The real binary: health, readiness, metrics, logs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod common;

use std::process::Command;

use common::{Collector, encoded, get, request_with, span, wait_for};

#[test]
fn metrics_are_openmetrics_with_trace_ids_for_clients_that_ask_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path(), &[]);
    let body = encoded("shop", vec![span(0xfeed, 2_000_000)]);
    assert_eq!(collector.send(&body).unwrap().status, 200);
    let accept = [(
        "accept",
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3",
    )];
    let reply = request_with(collector.http, "GET", "/metrics", &accept).unwrap();
    assert!(
        reply
            .head
            .contains("content-type: application/openmetrics-text; version=1.0.0")
    );
    let text = reply.text();
    assert!(text.ends_with("# EOF\n"));
    // 0.002 USD and 1 ms: the bucket with the span has its trace.
    let exemplar = "# {trace_id=\"0000000000000000000000000000feed\"}";
    for (family, bound) in [("cost_usd", "0.01"), ("duration_seconds", "0.001")] {
        let sample = format!(
            "tracemeter_collector_received_span_{family}_bucket{{service=\"shop\",le=\"{bound}\"}} 1 {exemplar} "
        );
        assert!(text.contains(&sample), "{sample} in {text}");
    }
    assert!(text.contains("# TYPE tracemeter_collector_spans_stored counter\n"));
    assert!(text.contains("\ntracemeter_collector_spans_stored_total 1\n"));
    let plain = get(collector.http, "/metrics").unwrap();
    assert!(
        plain
            .head
            .contains("content-type: text/plain; version=0.0.4")
    );
    assert!(!plain.text().contains("# EOF") && !plain.text().contains(exemplar));
    for limit in ["hot_bytes", "in_flight_bytes", "log_queue_requests"] {
        assert!(collector.metric(&format!("tracemeter_collector_limit_{limit}")) > 0);
    }
}

/// Limits the size of the collector's files: what its log sees is what a full disk does.
fn limit_files(collector: &Collector, bytes: &str) {
    let status = Command::new("prlimit")
        .args([&format!("--fsize={bytes}:"), "--pid"])
        .arg(collector.pid().to_string())
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn a_full_disk_makes_it_unready_until_there_is_room_again() {
    let dir = tempfile::tempdir().unwrap();
    // No file may grow beyond 512 KiB: what the log sees is what a full disk does.
    let collector = Collector::start(dir.path(), &[]);
    limit_files(&collector, "524288");
    assert_eq!(get(collector.http, "/readyz").unwrap().status, 200);
    let refused = wait_for("the log to reach its limit", || {
        let noisy = (0..200).map(|_| {
            let mut span = span(u128::from(fastrand::u64(1..)), fastrand::u64(1..));
            span.name = (0..200).map(|_| fastrand::alphanumeric()).collect();
            span
        });
        let body = encoded("shop", noisy.collect());
        let reply = collector.send(&body).unwrap();
        (reply.status != 200).then_some(reply)
    });
    assert_eq!(refused.status, 503);
    assert!(refused.head.contains("retry-after: 1"));
    let unready = get(collector.http, "/readyz").unwrap();
    assert_eq!(unready.status, 503);
    assert!(unready.text().contains("the log cannot be written"));
    assert_eq!(get(collector.http, "/healthz").unwrap().status, 200);
    assert_eq!(collector.metric("tracemeter_collector_log_failing"), 1);
    // Room again. Nobody sends anything: it finds out by itself.
    limit_files(&collector, "unlimited");
    wait_for("it to be ready", || {
        (get(collector.http, "/readyz").unwrap().status == 200).then_some(())
    });
    let body = encoded("shop", vec![span(1, 1)]);
    assert_eq!(collector.send(&body).unwrap().status, 200);
}

#[test]
fn log_lines_are_json_and_name_the_trace_they_are_about() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path(), &["--log-format", "json"]);
    let mut bad = span(0xbad, 7);
    bad.span_id = vec![0; 8];
    let reply = collector
        .send(&encoded("shop", vec![span(1, 1), bad]))
        .unwrap();
    assert_eq!(reply.status, 200);
    let line = wait_for("the line", || {
        let log = collector.log();
        let mut lines = log
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.find(|line| line["fields"]["message"] == "refused spans")
    });
    assert_eq!(line["level"], "WARN");
    assert_eq!(
        line["fields"]["trace_id"],
        "00000000000000000000000000000bad"
    );
    assert_eq!(line["fields"]["spans"], 1);
}
