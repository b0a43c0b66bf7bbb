//! The real binary: spans go on to another back end.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod common;

use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use common::back_end::{BackEnd, Received};
use common::{Collector, encoded, span, wait_for};

/// A policy that forwards; `more` are further options of the section.
fn policy(dir: &Path, endpoint: &str, more: &str) -> String {
    std::fs::create_dir_all(dir).unwrap();
    let path = dir.join("policy.yaml");
    let linger = if more.contains("linger") {
        ""
    } else {
        "  linger: 100ms\n"
    };
    let text = format!("forward:\n  endpoint: http://{endpoint}\n{linger}{more}");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn start(dir: &Path, endpoint: &str, more: &str) -> Collector {
    let policy = policy(dir, endpoint, more);
    Collector::start(dir, &["--policy", &policy])
}

fn send(collector: &Collector, ids: std::ops::Range<u64>) {
    for id in ids {
        let body = encoded("shop", vec![span(u128::from(id), id)]);
        assert_eq!(collector.send(&body).unwrap().status, 200);
    }
}

fn forwarded(collector: &Collector) -> u64 {
    collector.metric("tracemeter_collector_forward_spans_total")
}

fn dropped(collector: &Collector, reason: &str) -> u64 {
    let name = format!("tracemeter_collector_forward_dropped_total{{reason=\"{reason}\"}}");
    collector.metric(&name)
}

fn spans(collector: &Collector) -> u64 {
    let rows = collector.sql("SELECT COUNT(*) AS n FROM spans");
    rows[0]["n"].as_u64().unwrap()
}

#[test]
fn another_collector_gets_every_span_once_over_grpc_and_http_in_every_encoding() {
    let dir = tempfile::tempdir().unwrap();
    let last = Collector::start(&dir.path().join("last"), &[]);
    let (grpc, http) = (last.grpc.to_string(), last.http.to_string());
    let cases = [
        (&grpc, "grpc", "gzip"),
        (&grpc, "grpc", "zstd"),
        (&grpc, "grpc", "none"),
        (&http, "http/protobuf", "gzip"),
        (&http, "http/protobuf", "zstd"),
        (&http, "http/protobuf", "none"),
    ];
    for (index, (endpoint, protocol, compression)) in (0_u64..).zip(cases) {
        let more = format!("  protocol: {protocol}\n  compression: {compression}\n");
        let first = start(&dir.path().join(index.to_string()), endpoint, &more);
        let ids = 1 + index * 20..1 + (index + 1) * 20;
        send(&first, ids.clone());
        // Sent again by its client: known here, so not forwarded again.
        send(&first, ids.start..ids.start + 5);
        wait_for("the spans to be forwarded", || {
            (forwarded(&first) == 20).then_some(())
        });
        assert_eq!(spans(&last), 20 * (index + 1), "{protocol} {compression}");
        first.terminate();
        assert!(first.wait().success());
    }
    let duplicates = last.metric("tracemeter_collector_spans_duplicate_total");
    assert_eq!(duplicates, 0);
    let rows = last.sql(
        "SELECT service_name, operation, cost_usd FROM spans WHERE span_id = '0000000000000007'",
    );
    assert_eq!(rows[0]["service_name"], "shop");
    assert_eq!(rows[0]["cost_usd"].to_string(), "7e-9");
}

#[test]
fn nothing_is_lost_while_the_back_end_is_away_nor_by_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", common::spare_port());
    let near = dir.path().join("near");
    let more = "  protocol: http/protobuf\n";
    let first = start(&near, &address, more);
    send(&first, 1..31);
    wait_for("a failed try", || {
        (first.metric("tracemeter_collector_forward_retries_total") > 0).then_some(())
    });
    assert_eq!(forwarded(&first), 0);
    first.kill();
    // Compacted before it is forwarded: its rows leave memory, the log keeps it for the queue.
    let policy = policy(&near, &address, more);
    let quick = ["--policy", policy.as_str(), "--generation-age", "1"];
    let first = Collector::start(&near, &quick);
    send(&first, 31..41);
    wait_for("a compaction", || {
        let page = common::get(first.http, "/metrics").unwrap().text();
        page.lines()
            .any(|line| {
                line.starts_with("tracemeter_collector_compaction_seconds_count ")
                    && !line.ends_with(" 0")
            })
            .then_some(())
    });
    first.kill();
    let first = Collector::start(&near, &quick);
    let last = Collector::start_at(&dir.path().join("last"), &address, &[]);
    wait_for("every span at the back end", || {
        (spans(&last) == 40).then_some(())
    });
    wait_for("an empty queue", || {
        (first.metric("tracemeter_collector_forward_queue_spans") == 0).then_some(())
    });
    for reason in ["queue_full", "refused", "rejected", "gave_up", "damaged"] {
        assert_eq!(dropped(&first, reason), 0, "{reason}");
    }
    // What was delivered is not sent again after an orderly stop, and its segments go.
    first.terminate();
    assert!(first.wait().success());
    let before = last.metric("tracemeter_collector_spans_duplicate_total");
    let first = Collector::start(&near, &quick);
    send(&first, 41..42);
    wait_for("the new span at the back end", || {
        (spans(&last) == 41).then_some(())
    });
    assert_eq!(
        last.metric("tracemeter_collector_spans_duplicate_total"),
        before
    );
    wait_for("the old segments to go", || {
        let count = std::fs::read_dir(near.join("data/wal")).unwrap().count();
        (count <= 2).then_some(())
    });
}

#[test]
fn what_waits_is_sent_at_shutdown() {
    let dir = tempfile::tempdir().unwrap();
    let last = Collector::start(&dir.path().join("last"), &[]);
    let address = last.grpc.to_string();
    let first = start(&dir.path().join("near"), &address, "  linger: 1h\n");
    send(&first, 1..11);
    first.terminate();
    assert!(first.wait().success());
    assert_eq!(spans(&last), 10);
}

/// The spans of the next request that the back end took.
fn next(requests: &Receiver<Received>) -> Received {
    requests.recv_timeout(common::PATIENCE).unwrap()
}

#[test]
fn a_busy_back_end_is_asked_again_when_it_says_and_partial_success_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (sender, requests) = channel();
    let back_end = BackEnd::start(
        sender,
        vec![
            BackEnd::status(429, "retry-after: 1\r\n"),
            BackEnd::status(503, ""),
            BackEnd::partial(2, "no room"),
            BackEnd::status(400, ""),
        ],
    );
    let more = "  protocol: http/protobuf\n  compression: none\n  path: /otlp/v1/traces\n  max_in_flight: 1\n  headers: {authorization: \"Bearer s3cret\"}\n";
    let first = start(dir.path(), &back_end.address, more);
    let body = encoded("shop", (1..6).map(|id| span(1, id)).collect());
    assert_eq!(first.send(&body).unwrap().status, 200);
    let (one, two, three) = (next(&requests), next(&requests), next(&requests));
    assert_eq!((one.spans, two.spans, three.spans), (5, 5, 5));
    assert!(
        one.head.starts_with("POST /otlp/v1/traces HTTP/1.1\r\n"),
        "{}",
        one.head
    );
    assert!(
        one.head.contains("authorization: Bearer s3cret"),
        "{}",
        one.head
    );
    let pause = two.at.duration_since(one.at);
    assert!(pause.as_millis() >= 1_000, "Retry-After: {pause:?}");
    wait_for("the partial success to be counted", || {
        (dropped(&first, "rejected") == 2).then_some(())
    });
    assert_eq!(forwarded(&first), 3);
    // Refused for good: not tried again, and what comes after it goes on.
    let body = encoded("shop", vec![span(2, 7)]);
    assert_eq!(first.send(&body).unwrap().status, 200);
    assert_eq!(next(&requests).spans, 1);
    wait_for("the refusal to be counted", || {
        (dropped(&first, "refused") == 1).then_some(())
    });
    send(&first, 8..9);
    assert_eq!(next(&requests).spans, 1);
    wait_for("the last span", || (forwarded(&first) == 4).then_some(()));
    assert!(!first.log().contains("s3cret"));
}

#[test]
fn a_slow_back_end_costs_the_oldest_spans_and_no_client_waits() {
    let dir = tempfile::tempdir().unwrap();
    // Accepts connections (by its backlog) and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let more = "  protocol: http/protobuf\n  max_in_flight: 1\n  queue_bytes: 64KiB\n  batch_bytes: 4KiB\n  timeout: 200ms\n";
    let first = start(dir.path(), &address, more);
    send(&first, 1..801);
    let queued = first.metric("tracemeter_collector_forward_queue_bytes");
    assert!(queued <= 64 << 10, "{queued}");
    let lost = dropped(&first, "queue_full");
    let waiting = first.metric("tracemeter_collector_forward_queue_spans");
    assert!(lost > 0 && lost + waiting == 800, "{lost} {waiting}");
    assert_eq!(spans(&first), 800, "stored all the same");
}

/// The Python that `scripts/setup.sh` has given the published OpenTelemetry packages.
fn python() -> std::path::PathBuf {
    let cache = std::env::var_os("TRACEMETER_CACHE").map_or_else(
        || Path::new(&std::env::var_os("HOME").unwrap()).join(".cache/tracemeter"),
        std::path::PathBuf::from,
    );
    cache.join("py-venv/bin/python")
}

#[test]
fn a_stock_grpc_back_end_takes_the_spans_and_is_asked_again_when_it_was_full() {
    use std::io::BufRead as _;
    use std::process::{Command, Stdio};
    let dir = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stock/receive_otlp.py");
    let mut back_end = Command::new(python())
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(back_end.stdout.take().unwrap()).lines();
    let port = lines.next().unwrap().unwrap();
    let more = "  headers: {authorization: \"Bearer s3cret\"}\n";
    let first = start(dir.path(), &format!("127.0.0.1:{port}"), more);
    let body = encoded("shop", (1..8).map(|id| span(1, id)).collect());
    assert_eq!(first.send(&body).unwrap().status, 200);
    assert_eq!(lines.next().unwrap().unwrap(), "7 Bearer s3cret shop");
    wait_for("the spans to be counted", || {
        (forwarded(&first) == 7).then_some(())
    });
    assert_eq!(
        first.metric("tracemeter_collector_forward_retries_total"),
        1
    );
    // Its standard input ends with the handle, and so does it.
    drop(back_end.stdin.take());
    back_end.kill().unwrap();
    back_end.wait().unwrap();
}
