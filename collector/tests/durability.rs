//! The real binary: `kill -9` under load, restarts, draining.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod common;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Collector, PATIENCE, encoded, get, span, wait_for};

/// Small generations, so that compaction, merging and log removal are part of the test.
const SMALL: [&str; 4] = ["--generation-mib", "1", "--hot-mib", "64"];
const BATCH: u64 = 20;

/// Sends batches from several threads until the collector dies; returns acknowledged span ids.
/// Every batch is sent at least twice, as a client does whose answer was lost.
fn load(
    collector: &Collector,
    next: &AtomicU64,
    acknowledged: &Mutex<Vec<u64>>,
    kill_after: usize,
) {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let first = next.fetch_add(BATCH, Ordering::Relaxed);
                    let ids: Vec<u64> = (first..first + BATCH).collect();
                    let spans = ids
                        .iter()
                        .map(|id| span(u128::from(id / 7 + 1), *id))
                        .collect();
                    let body = encoded("load", spans);
                    let once = collector.send(&body).is_ok_and(|reply| reply.status == 200);
                    if once {
                        acknowledged.lock().unwrap().extend(&ids);
                    }
                    if collector.send(&body).is_err() {
                        return;
                    }
                }
            });
        }
        wait_for("enough acknowledged spans", || {
            (acknowledged.lock().unwrap().len() >= kill_after).then_some(())
        });
        let killed = Command::new("kill")
            .args(["-9", &collector.pid().to_string()])
            .status();
        assert!(killed.unwrap().success());
    });
}

#[test]
fn kill_9_under_load_loses_nothing_acknowledged_and_counts_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let next = AtomicU64::new(1);
    let acknowledged = Mutex::new(Vec::new());
    for round in 1..=4 {
        let collector = Collector::start(dir.path(), &SMALL);
        load(&collector, &next, &acknowledged, round * 6_000);
    }
    let collector = Collector::start(dir.path(), &SMALL);
    let stored: BTreeMap<u64, u64> = collector
        .sql_csv("SELECT span_id, COUNT(*) FROM spans GROUP BY span_id")
        .into_iter()
        .map(|row| {
            (
                u64::from_str_radix(&row[0], 16).unwrap(),
                row[1].parse().unwrap(),
            )
        })
        .collect();
    let acknowledged = acknowledged.into_inner().unwrap();
    let lost = acknowledged
        .iter()
        .filter(|id| !stored.contains_key(id))
        .count();
    assert_eq!(lost, 0, "of {} acknowledged spans", acknowledged.len());
    let twice = stored.values().filter(|count| **count != 1).count();
    assert_eq!(twice, 0, "spans counted more than once");
    // The cost of a span is its id in nano-dollars: totals show any double counting, too.
    let expected: u128 = stored.keys().map(|id| u128::from(*id)).sum();
    for query in [
        "SELECT SUM(cost_usd) FROM spans",
        "SELECT SUM(recorded_cost) FROM trace_metadata",
    ] {
        let cell = collector.sql_csv(query)[0][0].clone();
        let total = cell
            .replace('.', "")
            .parse::<u128>()
            .unwrap_or_else(|_| panic!("{query}: `{cell}`"));
        assert_eq!(total, expected, "{query}");
    }
    wait_for("compaction, which is part of the test", || {
        let log = collector.log();
        log.contains("compacted a log segment").then_some(())
    });
}

#[test]
fn sigterm_drains_and_a_restart_has_everything() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path(), &[]);
    for id in 1..=50 {
        assert_eq!(
            collector
                .send(&encoded("a", vec![span(1, id)]))
                .unwrap()
                .status,
            200
        );
    }
    collector.terminate();
    assert!(collector.wait().success());
    let collector = Collector::start(dir.path(), &[]);
    assert_eq!(collector.sql("SELECT COUNT(*) AS n FROM spans")[0]["n"], 50);
    // What is sent again after the restart is known.
    assert_eq!(
        collector
            .send(&encoded("a", vec![span(1, 7)]))
            .unwrap()
            .status,
        200
    );
    assert_eq!(collector.sql("SELECT COUNT(*) AS n FROM spans")[0]["n"], 50);
}

#[test]
fn a_request_under_way_at_sigterm_is_answered_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path(), &[]);
    let body = encoded("a", vec![span(1, 1), span(1, 2)]);
    let mut stream = TcpStream::connect(collector.http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let (first, rest) = body.split_at(body.len() / 2);
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(first).unwrap();
    wait_for("the request to be under way", || {
        (collector.metric("tracemeter_collector_http_requests_total") > 0).then_some(())
    });
    collector.terminate();
    wait_for("draining", || {
        collector.log().contains("draining").then_some(())
    });
    stream.write_all(rest).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(collector.wait().success());
    let collector = Collector::start(dir.path(), &[]);
    assert_eq!(collector.sql("SELECT COUNT(*) AS n FROM spans")[0]["n"], 2);
}

#[test]
fn a_duplicate_is_known_after_compaction_and_restart() {
    let dir = tempfile::tempdir().unwrap();
    let body = encoded("a", (1..=500).map(|id| span(u128::from(id), id)).collect());
    let collector = Collector::start(dir.path(), &["--generation-age", "0"]);
    assert_eq!(collector.send(&body).unwrap().status, 200);
    wait_for("compaction", || {
        (collector.metric("tracemeter_collector_partitions") > 0).then_some(())
    });
    collector.kill();
    let collector = Collector::start(dir.path(), &[]);
    assert_eq!(
        collector.metric("tracemeter_collector_hot_spans"),
        0,
        "all is in a partition"
    );
    assert_eq!(collector.send(&body).unwrap().status, 200);
    assert_eq!(
        collector.sql("SELECT COUNT(*) AS n FROM spans")[0]["n"],
        500
    );
    assert_eq!(
        collector.metric("tracemeter_collector_spans_duplicate_total"),
        500
    );
}

#[test]
fn many_small_partitions_of_a_day_become_one() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path(), &["--generation-age", "0"]);
    let mut sent = 0u64;
    wait_for("a merge", || {
        sent += 1;
        assert_eq!(
            collector
                .send(&encoded("a", vec![span(u128::from(sent), sent)]))
                .unwrap()
                .status,
            200
        );
        (collector.metric("tracemeter_collector_merge_seconds_count") > 0).then_some(())
    });
    assert_eq!(
        collector.sql("SELECT COUNT(*) AS n FROM spans")[0]["n"],
        sent
    );
    assert_eq!(
        collector.sql("SELECT COUNT(*) AS n FROM trace_metadata")[0]["n"],
        sent
    );
    collector.kill();
    let collector = Collector::start(dir.path(), &[]);
    assert_eq!(
        collector.sql("SELECT COUNT(*) AS n FROM spans")[0]["n"],
        sent
    );
}

#[test]
fn damage_in_the_log_costs_only_what_it_touches_and_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path(), &[]);
    for id in 1..=20 {
        assert_eq!(
            collector
                .send(&encoded("a", vec![span(1, id)]))
                .unwrap()
                .status,
            200
        );
    }
    collector.kill();
    let segment = std::fs::read_dir(dir.path().join("data/wal"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let mut bytes = std::fs::read(segment.path()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    bytes.extend_from_slice(b"torn tail");
    std::fs::write(segment.path(), bytes).unwrap();
    let collector = Collector::start(dir.path(), &[]);
    assert_eq!(collector.sql("SELECT COUNT(*) AS n FROM spans")[0]["n"], 19);
    assert_eq!(
        collector.metric("tracemeter_collector_log_damaged_total"),
        1
    );
    assert_eq!(
        collector.metric("tracemeter_collector_log_torn_bytes_total"),
        9
    );
    assert_eq!(get(collector.http, "/readyz").unwrap().status, 200);
}

#[test]
fn a_data_folder_serves_one_collector_and_any_number_of_readers() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path(), &[]);
    assert_eq!(
        collector
            .send(&encoded("a", vec![span(1, 1)]))
            .unwrap()
            .status,
        200
    );
    let data = dir.path().join("data");
    let binary = env!("CARGO_BIN_EXE_collector");
    let second = Command::new(binary)
        .args([
            "serve",
            "--grpc",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--data",
        ])
        .arg(&data)
        .output()
        .unwrap();
    assert!(!second.status.success());
    assert!(
        String::from_utf8_lossy(&second.stderr).contains("is in use"),
        "{second:?}"
    );
    for source in [
        ["--data", data.to_str().unwrap()],
        ["--url", &format!("http://{}", collector.http)],
    ] {
        let answer = Command::new(binary)
            .arg("sql")
            .args(source)
            .args([
                "--format",
                "csv",
                "-- a comment first\nSELECT COUNT(*) AS n FROM spans;",
            ])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&answer.stdout),
            "n\r\n1\r\n",
            "{answer:?}"
        );
    }
    let refused = Command::new(binary)
        .args([
            "sql",
            "--url",
            &format!("http://{}", collector.http),
            "DROP TABLE spans",
        ])
        .output()
        .unwrap();
    assert!(!refused.status.success() && refused.stdout.is_empty());
    assert!(
        String::from_utf8_lossy(&refused.stderr).starts_with("error: "),
        "{refused:?}"
    );
}

#[test]
fn what_has_run_out_leaves_and_errors_stay_longer() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.yaml");
    // Everything but errors ends at once; errors stay for a day.
    let text = "trace_storage:\n  hot: {duration: 1s}\n  warm: {duration: 2s, sampling: 0.5}\n  \
                cold: {duration: 3s, sampling: 0.1, compression: zstd}\n  errors: 24h\n";
    std::fs::write(&policy, text).unwrap();
    let policy = policy.to_str().unwrap();
    let collector = Collector::start(dir.path(), &["--generation-age", "0", "--policy", policy]);
    for trace in 1..=40u64 {
        let mut one = span(u128::from(trace) << 64 | 1, trace);
        if trace % 4 == 0 {
            let status = Some(opentelemetry_proto::tonic::trace::v1::Status {
                code: 2,
                ..Default::default()
            });
            one = opentelemetry_proto::tonic::trace::v1::Span { status, ..one };
        }
        assert_eq!(
            collector.send(&encoded("a", vec![one])).unwrap().status,
            200
        );
    }
    let compacted = || collector.metric("tracemeter_collector_hot_spans") == 0;
    wait_for("compaction", || compacted().then_some(()));
    let start = std::time::Instant::now();
    wait_for("the tiers to end", || {
        (start.elapsed().as_secs() > 4).then_some(())
    });
    let plan = Command::new(env!("CARGO_BIN_EXE_collector"))
        .args(["retention", "plan", "--policy", policy, "--data"])
        .arg(dir.path().join("data"))
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&plan.stdout).contains(" leave"),
        "{plan:?}"
    );
    // A restart sweeps at once.
    collector.kill();
    let collector = Collector::start(dir.path(), &["--policy", policy]);
    wait_for("retention", || {
        let left = collector.sql("SELECT COUNT(*) AS n FROM spans WHERE NOT error");
        (left[0]["n"] == 0).then_some(())
    });
    assert_eq!(collector.sql("SELECT COUNT(*) AS n FROM spans")[0]["n"], 10);
    assert_eq!(
        collector.sql("SELECT COUNT(*) AS n FROM trace_metadata")[0]["n"],
        10
    );
}
