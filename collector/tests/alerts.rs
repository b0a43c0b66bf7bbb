//! The real binary: the specification's alerts fire and are resolved, by spans sent over OTLP.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod common;
mod receiver;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Collector, attribute, encoded, get, span, wait_for};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use receiver::{Mood, Receiver};

/// The specification's file as it stands.
const TRACE_ALERTS: &str = include_str!("../../mesh-config/tests/spec/trace_alerts.yaml");

const NAMES: [&str; 4] = [
    "Orphaned Spans",
    "Trace Cost Anomaly",
    "Missing Cost Attribution",
    "Trace Depth Exceeded",
];

fn policy(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("trace_alerts.yaml");
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

/// The specification's alerts with other windows.
fn with_windows(length: &str) -> String {
    let mut text = TRACE_ALERTS.to_owned();
    for window in ["5m", "1m", "10m"] {
        text = text.replace(
            &format!("window: {window}\n"),
            &format!("window: {length}\n"),
        );
    }
    assert_eq!(text.matches(&format!("window: {length}\n")).count(), 4);
    text
}

fn start(dir: &Path, policy: &Path, extra: &[&str]) -> Collector {
    let mut args = vec!["--policy", policy.to_str().unwrap()];
    args.extend(extra);
    Collector::start(dir, &args)
}

fn send(collector: &Collector, spans: Vec<Span>) {
    let reply = collector.send(&encoded("shop", spans)).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
}

fn costing(trace: u128, id: u64, parent: u64, usd: f64) -> Span {
    Span {
        parent_span_id: match parent {
            0 => Vec::new(),
            parent => parent.to_be_bytes().to_vec(),
        },
        attributes: vec![attribute("cost_usd", Value::DoubleValue(usd))],
        ..span(trace, id)
    }
}

fn api(collector: &Collector, name: &str) -> serde_json::Value {
    let reply = get(collector.http, "/api/alerts").unwrap();
    let json: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    let alerts = json["alerts"].as_array().unwrap();
    let found = alerts.iter().find(|alert| alert["name"] == name);
    found.unwrap_or_else(|| panic!("{json}")).clone()
}

fn wait_for_state(collector: &Collector, name: &str, state: &str) -> serde_json::Value {
    wait_for(&format!("`{name}` to be {state}"), || {
        let alert = api(collector, name);
        (alert["state"] == state).then_some(alert)
    })
}

fn hex(trace: u128) -> String {
    format!("{trace:032x}")
}

/// Elements of one alert: trace (if any), start, whether it ends by itself later.
fn told(receiver: &Receiver, name: &str) -> Vec<serde_json::Value> {
    let elements = receiver.elements().into_iter();
    elements
        .filter(|(path, element)| {
            assert_eq!(path, "/api/v2/alerts");
            element["labels"]["alertname"] == name
        })
        .map(|(_, element)| element)
        .collect()
}

/// Second and millisecond since when an alert is in its state, as a notice ends with them.
fn end_of(alert: &serde_json::Value) -> String {
    let since_ms = alert["since_unix_nanos"].as_u64().unwrap() / 1_000_000;
    format!(":{:02}.{:03}Z", since_ms / 1_000 % 60, since_ms % 1_000)
}

/// Spans that make one alert of the specification fire, and a trace among them.
fn spans_for(name: &str) -> (Vec<Span>, u128) {
    let spans = match name {
        "Orphaned Spans" => (1..=100)
            .map(|id| costing(0x0a, id, 1_000_000 + id, 0.0))
            .collect(),
        // The span that passes the bound comes late, after its parent.
        "Trace Cost Anomaly" => vec![costing(0x0b, 1, 0, 0.06), costing(0x0b, 2, 1, 0.05)],
        "Missing Cost Attribution" => (1..=1_000u64)
            .map(|id| Span {
                attributes: Vec::new(),
                ..span(0x0c, id)
            })
            .collect(),
        _ => (1..=51)
            .rev()
            .map(|id| costing(0x0d, id, id - 1, 0.0))
            .collect(),
    };
    let index = NAMES.iter().position(|known| *known == name).unwrap();
    (spans, 0x0a + index as u128)
}

#[test]
fn each_alert_of_the_specification_fires_and_is_resolved() {
    let dir = tempfile::tempdir().unwrap();
    // The receiver is down at first: it hangs up, then it fails.
    let receiver = Receiver::start(&[Mood::Hangs, Mood::Answers(503)]);
    // Windows that a test can wait for; a look may be a second late on a busy machine, and two looks
    // have to fit.
    let policy = policy(dir.path(), &with_windows("3s"));
    let webhook = ["--alert-webhook", &receiver.url(), "--orphan-grace", "1"];
    let collector = start(dir.path(), &policy, &webhook);
    for name in NAMES {
        assert_eq!(api(&collector, name)["state"], "inactive", "{name}");
    }
    for name in NAMES {
        let (mut spans, trace) = spans_for(name);
        // One span too few, then the last one.
        let last = spans.pop().unwrap();
        send(&collector, spans);
        assert_ne!(api(&collector, name)["state"], "firing", "{name}");
        send(&collector, vec![last]);
        let firing = wait_for_state(&collector, name, "firing");
        assert!(firing["value"].as_u64() >= firing["threshold"].as_u64());
        assert_eq!(firing["examples"][0], hex(trace), "{firing}");
        let begins = wait_for("the receiver to hear of it", || {
            told(&receiver, name).into_iter().next()
        });
        assert!(begins["endsAt"].as_str() > begins["startsAt"].as_str());
        assert_eq!(begins["annotations"]["trace_ids"], hex(trace));
        let resolved = wait_for_state(&collector, name, "resolved");
        assert!(resolved["value"].as_u64() < resolved["threshold"].as_u64());
        let ends = wait_for("the receiver to hear of the end", || {
            told(&receiver, name).into_iter().nth(1)
        });
        assert_eq!(ends["labels"], begins["labels"], "the same alert");
        assert_eq!(ends["startsAt"], begins["startsAt"]);
        assert!(
            ends["endsAt"]
                .as_str()
                .unwrap()
                .ends_with(&end_of(&resolved)),
            "it ends when it was resolved: {ends} {resolved}"
        );
    }
    let log = collector.log();
    for name in NAMES {
        let line = |what: &str| {
            log.lines()
                .filter(|l| l.contains(what) && l.contains(name))
                .count()
        };
        assert_eq!(
            (line("alert fires"), line("alert is resolved")),
            (1, 1),
            "{name}: {log}"
        );
    }
    let metric = |name: &str| collector.metric(&format!("tracemeter_collector_{name}"));
    assert_eq!(
        metric("alerts_fired_total{alert=\"Orphaned Spans\",severity=\"warning\"}"),
        1
    );
    assert_eq!(
        metric("alerts_firing{alert=\"Orphaned Spans\",severity=\"warning\"}"),
        0
    );
    // The receiver has it before the collector has the receiver's answer.
    wait_for("the last notice to be settled", || {
        (metric("alert_notices_waiting") == 0).then_some(())
    });
    assert!(
        metric("alert_send_failures_total") >= 2,
        "it was down at first"
    );
}

#[test]
fn the_specifications_file_runs_verbatim_and_tells_every_costly_trace_once() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&[]);
    let policy = policy(dir.path(), TRACE_ALERTS);
    let receiver_url = receiver.url();
    let args = ["--alert-webhook", &receiver_url, "--generation-age", "0"];
    let collector = start(dir.path(), &policy, &args);
    let queries: Vec<_> = NAMES
        .map(|name| api(&collector, name)["query"].clone())
        .into();
    assert_eq!(
        queries,
        [
            "traces without parent_id and not root",
            "sum(cost_usd) by trace_id > 0.1",
            "spans without cost_usd attribute",
            "trace depth > 50"
        ]
    );
    let name = "Trace Cost Anomaly";
    // Exactly the bound is not above it, however many spans add up to it.
    send(
        &collector,
        (1..=100).map(|id| costing(1, id, 0, 0.001)).collect(),
    );
    send(&collector, vec![costing(2, 1, 0, 0.2)]);
    wait_for_state(&collector, name, "firing");
    wait_for("the receiver", || told(&receiver, name).first().cloned());
    assert_eq!(api(&collector, name)["value"], 1);
    // The first trace is in a partition by now; the collector dies.
    wait_for("compaction", || {
        (collector.metric("tracemeter_collector_hot_spans") == 0).then_some(())
    });
    collector.kill();
    let collector = start(dir.path(), &policy, &args);
    let firing = api(&collector, name);
    assert_eq!(
        (&firing["state"], &firing["value"]),
        (&"firing".into(), &1.into())
    );
    // A late span of the trace that fired, and one that takes the other above the bound.
    send(
        &collector,
        vec![costing(2, 2, 1, 0.3), costing(1, 101, 1, 0.000_000_001)],
    );
    let firing = wait_for("the other trace", || {
        let alert = api(&collector, name);
        (alert["value"] == 2).then_some(alert)
    });
    assert_eq!(firing["traces"][0]["trace_id"], hex(1));
    assert_eq!(firing["examples"].as_array().unwrap().len(), 2);
    // What was on its way when the collector died is told again, as the same alert.
    let heard = || -> std::collections::BTreeSet<(String, String)> {
        let told = told(&receiver, name).into_iter();
        told.map(|one| (one["labels"].to_string(), one["startsAt"].to_string()))
            .collect()
    };
    wait_for("the receiver to hear of both", || {
        (heard().len() >= 2).then_some(())
    });
    assert_eq!(heard().len(), 2, "each once: {:?}", heard());
    // And again: nothing is new.
    collector.terminate();
    assert!(collector.wait().success());
    let collector = start(dir.path(), &policy, &args);
    send(&collector, vec![costing(2, 3, 1, 0.3)]);
    wait_for("the look at the late span", || {
        (collector.sql("SELECT COUNT(*) AS n FROM spans")[0]["n"] == 104).then_some(())
    });
    let log = collector.log();
    let fired = log
        .lines()
        .filter(|line| line.contains("alert fires"))
        .count();
    assert_eq!(fired, 2, "{log}");
    assert!(log.contains(&format!("trace_id=\"{}\"", hex(2))), "{log}");
}

#[test]
fn an_alert_that_was_not_looked_at_before_a_crash_fires_after_it() {
    let dir = tempfile::tempdir().unwrap();
    // Six starts may take longer than the minute of the specification.
    let policy = policy(dir.path(), &with_windows("1h"));
    for round in 1..=5u128 {
        let collector = start(dir.path(), &policy, &[]);
        send(&collector, vec![costing(round, 1, 0, 0.2)]);
        collector.kill();
    }
    let collector = start(dir.path(), &policy, &[]);
    wait_for("all five", || {
        (api(&collector, "Trace Cost Anomaly")["value"] == 5).then_some(())
    });
    let log = collector.log();
    for round in 1..=5 {
        let lines = log
            .lines()
            .filter(|line| line.contains("alert fires") && line.contains(&hex(round)));
        // A look may have ended just before the kill, before its line was written.
        assert!(lines.count() <= 1, "{log}");
    }
}

#[test]
fn trace_metadata_has_depth_orphans_and_costs_by_source_and_links_are_joined() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path(), &["--generation-age", "0"]);
    let spans = vec![
        costing(1, 3, 2, 0.001),
        costing(1, 2, 1, 0.002),
        costing(1, 9, 8, 0.0),
    ];
    send(&collector, spans);
    let priced = Span {
        attributes: vec![attribute(
            "operation_type",
            Value::StringValue("database_query".into()),
        )],
        ..span(1, 1)
    };
    let linked = Span {
        links: vec![opentelemetry_proto::tonic::trace::v1::span::Link {
            trace_id: 1u128.to_be_bytes().to_vec(),
            span_id: 1u64.to_be_bytes().to_vec(),
            ..Default::default()
        }],
        attributes: Vec::new(),
        ..span(2, 1)
    };
    send(&collector, vec![priced, linked]);
    let check = |collector: &Collector| {
        let row = &collector.sql(
            "SELECT depth, orphan_count, app_cost, priced_cost, default_cost, unpriced_spans, \
             app_cost + mesh_cost + priced_cost + default_cost = recorded_cost AS adds_up \
             FROM trace_metadata ORDER BY trace_id LIMIT 1",
        )[0];
        assert_eq!(
            (&row["depth"], &row["orphan_count"]),
            (&3.into(), &1.into()),
            "{row}"
        );
        assert_eq!(
            (&row["unpriced_spans"], &row["adds_up"]),
            (&0.into(), &true.into())
        );
        assert_eq!(row["app_cost"].to_string(), "0.003");
        let links = collector.sql("SELECT * FROM trace_links");
        assert_eq!(links.len(), 1, "{links:?}");
        assert_eq!(links[0]["trace_id"], hex(2));
        assert_eq!(links[0]["linked_trace_id"], hex(1));
        assert_eq!(links[0]["linked_service"], "shop");
        assert!(links[0]["linked_cost"].as_f64() > Some(0.003));
    };
    check(&collector);
    wait_for("compaction", || {
        (collector.metric("tracemeter_collector_hot_spans") == 0).then_some(())
    });
    check(&collector);
    collector.kill();
    let collector = Collector::start(dir.path(), &[]);
    check(&collector);
    // The missing parent comes after the restart.
    send(&collector, vec![costing(1, 8, 3, 0.0)]);
    let row = &collector.sql("SELECT depth, orphan_count FROM trace_metadata ORDER BY trace_id")[0];
    assert_eq!(
        (&row["depth"], &row["orphan_count"]),
        (&5.into(), &0.into())
    );
}

#[test]
fn a_bad_query_is_refused_with_path_value_and_what_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let text = TRACE_ALERTS.replace("trace depth > 50", "trace width > 50");
    let policy = policy(dir.path(), &text);
    let output = Command::new(env!("CARGO_BIN_EXE_collector"))
        .args(["serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .arg("--data")
        .arg(dir.path().join("data"))
        .arg("--policy")
        .arg(&policy)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    for part in [
        "alerts[3].query",
        "`trace width > 50`",
        "allowed: ",
        "`trace depth > N`",
    ] {
        assert!(error.contains(part), "{error}");
    }
}
