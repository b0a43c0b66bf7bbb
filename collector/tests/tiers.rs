//! Tiers on a real S3-compatible server: move, query, lose the server, crash, expire.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use common::s3_server::{KEY, S3Server, SECRET, url};
use common::{Collector, encoded, get, post, span, wait_for};
use opentelemetry_proto::tonic::trace::v1::{Span, Status};

const DAY_NS: u64 = 86_400_000_000_000;

/// Ten days old: in the cold tier. Half of the traces are within its share, every fourth has an
/// error, all have two spans.
fn old_spans() -> Vec<Span> {
    let mut spans = Vec::new();
    for trace in 0..200u64 {
        // The 56 bits of randomness are the low ones; their highest decides at a share of half.
        let low = (trace % 2) << 55 | (trace + 1);
        let id = u128::from(trace + 1) << 64 | u128::from(low);
        for part in 0..2 {
            let mut one = span(id, trace * 2 + part + 1);
            one.start_time_unix_nano -= 10 * DAY_NS;
            one.end_time_unix_nano -= 10 * DAY_NS;
            if trace.is_multiple_of(4) {
                one.status = Some(Status {
                    code: 2,
                    ..Status::default()
                });
            }
            spans.push(one);
        }
    }
    spans
}

/// What of them stays in the cold tier.
fn stays(trace: u64) -> bool {
    trace % 2 == 1 || trace.is_multiple_of(4)
}

fn policy(dir: &Path, url: &str, cold: &str) -> PathBuf {
    let path = dir.join("policy.yaml");
    let text = format!(
        "trace_storage:\n  warm: {{sampling: 0.5}}\n  cold: {{duration: {cold}, sampling: 0.5, backend: s3, url: \"{url}\", \
         compression: zstd}}\n  errors: {cold}\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn start(dir: &Path, policy: &Path) -> Collector {
    let policy = policy.to_str().unwrap();
    let credentials = [
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
    ];
    Collector::start_with(
        dir,
        &["--generation-age", "0", "--policy", policy],
        &credentials,
    )
}

fn count(collector: &Collector, query: &str) -> u64 {
    collector.sql(query)[0]["n"].as_u64().unwrap()
}

const ALL: &str = "SELECT COUNT(*) AS n FROM spans";

#[test]
fn old_spans_live_in_s3_and_a_lost_server_stops_only_those_who_ask_for_them() {
    let dir = tempfile::tempdir().unwrap();
    // A server that is not there yet.
    let port = common::spare_port();
    let policy_file = policy(dir.path(), &url(port), "30d");
    let collector = start(dir.path(), &policy_file);
    let fresh = span(0xf00d << 64 | 1, 9_999);
    assert_eq!(
        collector.send(&encoded("old", old_spans())).unwrap().status,
        200
    );
    assert_eq!(
        collector.send(&encoded("new", vec![fresh])).unwrap().status,
        200
    );
    let kept = 2 * (0..200).filter(|trace| stays(*trace)).count() as u64;

    // Retention and queries do not wait for it.
    wait_for("a failed transfer", || {
        (collector.metric("tracemeter_collector_tier_failures_total") > 0).then_some(())
    });
    assert_eq!(count(&collector, ALL), kept + 1);

    let server = S3Server::start(dir.path(), port);
    wait_for("the move", || {
        (collector.metric("tracemeter_collector_tier_moves_total") > 0).then_some(())
    });
    assert_eq!(server.objects().len(), 1);
    let costs = "SELECT CAST(SUM(cost_usd) AS VARCHAR) AS n FROM spans WHERE service_name = 'old'";
    let sum: u64 = (0..200)
        .filter(|trace| stays(*trace))
        .map(|trace| 4 * trace + 3)
        .sum();
    assert_eq!(count(&collector, ALL), kept + 1);
    assert_eq!(collector.sql(costs)[0]["n"], format!("0.{sum:09}").as_str());
    let trace_one = format!("/api/traces/{:032x}", 2u128 << 64 | 1 << 55 | 2);
    let reply = get(collector.http, &trace_one).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());

    drop(server);
    let failed = post(collector.http, "/api/sql", &[], costs.as_bytes()).unwrap();
    assert_eq!(failed.status, 500);
    let place = "s3://traces/t/";
    assert!(failed.text().contains(place), "{}", failed.text());
    let recent = format!("{ALL} WHERE timestamp > NOW() - INTERVAL '1 hour'");
    assert_eq!(count(&collector, &recent), 1);
    assert_eq!(
        count(&collector, "SELECT COUNT(*) AS n FROM trace_metadata"),
        kept / 2 + 1
    );
    let local = format!("/api/traces/{:032x}", 0xf00du128 << 64 | 1);
    assert_eq!(get(collector.http, &local).unwrap().status, 200);
    assert_eq!(get(collector.http, &trace_one).unwrap().status, 500);

    // Back again; and everything survives a restart.
    let server = S3Server::start(dir.path(), port);
    assert_eq!(collector.sql(costs).len(), 1);
    collector.kill();
    let collector = start(dir.path(), &policy_file);
    assert_eq!(count(&collector, ALL), kept + 1);
    collector.kill();

    // A shorter tier: what has run out goes, objects included.
    let collector = start(dir.path(), &policy(dir.path(), &url(port), "8d"));
    wait_for("expiry", || (count(&collector, ALL) == 1).then_some(()));
    wait_for("the objects' deletion", || {
        server.objects().is_empty().then_some(())
    });
}

/// Passes requests on to the server; kills a process instead of passing on the answer to an
/// upload, while it is told to.
fn treacherous_proxy(server: u16) -> (u16, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let victim = Arc::new(AtomicU32::new(0));
    let shared = victim.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, victim) = (client.unwrap(), shared.clone());
            std::thread::spawn(move || pass_on(client, server, &victim));
        }
    });
    (port, victim)
}

fn read_message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    let mut chunk = [0; 64 << 10];
    loop {
        let end = message.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&message[..end]).to_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .map_or(0, |length| length.trim().parse().unwrap());
            if message.len() >= end + 4 + length {
                return Some(message);
            }
        }
        let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
        message.extend_from_slice(&chunk[..read]);
    }
}

fn pass_on(mut client: TcpStream, server: u16, victim: &AtomicU32) -> Option<()> {
    loop {
        let request = read_message(&mut client)?;
        let is_upload = request.starts_with(b"PUT ");
        // The signature covers the host that the client named, so the bytes stay as they are.
        let mut upstream = TcpStream::connect(("127.0.0.1", server)).ok()?;
        upstream.write_all(&request).ok()?;
        let answer = read_message(&mut upstream)?;
        let pid = victim.load(Ordering::SeqCst);
        if is_upload && pid != 0 {
            assert!(answer.starts_with(b"HTTP/1.1 200"));
            let killed = std::process::Command::new("kill")
                .args(["-9", &pid.to_string()])
                .status();
            assert!(killed.unwrap().success());
            victim.store(0, Ordering::SeqCst);
            return None;
        }
        client.write_all(&answer).ok()?;
    }
}

#[test]
fn a_crash_between_upload_and_commit_loses_nothing_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = S3Server::start(dir.path(), 0);
    let (proxy, victim) = treacherous_proxy(server.port);
    let policy_file = policy(dir.path(), &url(proxy), "30d");
    let collector = start(dir.path(), &policy_file);
    victim.store(collector.pid(), Ordering::SeqCst);
    assert_eq!(
        collector.send(&encoded("old", old_spans())).unwrap().status,
        200
    );
    let _ = collector.wait();
    assert_eq!(server.objects().len(), 1, "uploaded, not committed");
    let catalog = || {
        let path = dir.path().join("data/catalog.json");
        let text = std::fs::read_to_string(path).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    assert_eq!(catalog()["garbage"].as_array().unwrap().len(), 1);

    let kept = 2 * (0..200).filter(|trace| stays(*trace)).count() as u64;
    let collector = start(dir.path(), &policy_file);
    assert_eq!(count(&collector, ALL), kept);
    wait_for("the move", || {
        (collector.metric("tracemeter_collector_tier_moves_total") > 0).then_some(())
    });
    assert_eq!(count(&collector, ALL), kept);
    wait_for("an empty list of garbage", || {
        let state = catalog();
        state["garbage"]
            .as_array()
            .unwrap()
            .is_empty()
            .then_some(())
    });
    let named: Vec<String> = catalog()["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|partition| partition["place"].is_string())
        .map(|partition| format!("{}.spans.parquet", partition["stem"].as_str().unwrap()))
        .collect();
    let objects = server.objects();
    assert_eq!(objects.len(), named.len(), "{objects:?} {named:?}");
    assert!(objects[0].ends_with(&named[0]), "{objects:?} {named:?}");
}

#[test]
fn a_tier_that_cannot_be_used_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    for (url, credentials, message) in [
        ("http://x", true, "is not an address of the form"),
        ("s3://b", false, "`AWS_ACCESS_KEY_ID` is not set"),
    ] {
        let policy_file = policy(dir.path(), url, "30d");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_collector"));
        command
            .args(["serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .args(["--policy", policy_file.to_str().unwrap(), "--data"])
            .arg(dir.path().join("data"))
            .env_remove("AWS_ACCESS_KEY_ID");
        if credentials {
            command.env("AWS_ACCESS_KEY_ID", KEY);
        }
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(message), "{text}");
    }
}
