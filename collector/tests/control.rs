//! The real binary: rates for filters and SDKs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod common;

use std::path::{Path, PathBuf};

use common::deltas::{Filter, decided};
use common::{Collector, Reply, get, request_with, wait_for};

const ADAPTIVE: &str = "sampling:
  default_rate: 0.25
  service_rates: {pinned: 1.0}
  adaptive:
    enabled: true
    target_traces_per_second: 5
    adjustment_interval: 1s
";

fn policy(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("policy.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

fn start(dir: &Path, text: &str) -> Collector {
    let policy = policy(dir, text);
    Collector::start(dir, &["--policy", policy.to_str().unwrap()])
}

fn rates(collector: &Collector, service: &str) -> Reply {
    get(collector.http, &format!("/v1/rates?service={service}")).unwrap()
}

fn header(reply: &Reply, name: &str) -> String {
    let prefix = format!("{name}: ");
    let line = reply
        .head
        .lines()
        .find_map(|line| line.strip_prefix(&prefix));
    line.unwrap_or_default().trim().to_owned()
}

fn json(reply: &Reply) -> serde_json::Value {
    serde_json::from_slice(&reply.body).unwrap()
}

fn rate(threshold: &serde_json::Value) -> f64 {
    let text = threshold.as_str().unwrap();
    let parsed = w3c_traceparent_parser::otel::Threshold::parse(text.as_bytes());
    parsed.unwrap().probability()
}

#[test]
fn filters_get_a_table_that_keeps_the_target_and_ask_for_changes_only() {
    let dir = tempfile::tempdir().unwrap();
    let collector = start(dir.path(), ADAPTIVE);
    assert_eq!(rates(&collector, "shop").status, 204, "no window yet");
    assert_eq!(get(collector.http, "/v1/rates").unwrap().status, 400);
    let mut filter = Filter::new("shop", "i1");
    let reply = wait_for("a table with the route", || {
        filter.send(
            &collector,
            &[decided("/cart", 40), decided("/über \"x\"", 1)],
        );
        Some(rates(&collector, "shop")).filter(|reply| reply.text().contains("/cart"))
    });
    assert_eq!(reply.status, 200);
    assert_eq!(header(&reply, "content-type"), "application/json");
    assert_eq!(header(&reply, "cache-control"), "no-cache");
    let table = json(&reply);
    assert_eq!(table["service"], "shop");
    assert!(table["version"].as_u64().unwrap() >= 1);
    let (cart, unlisted) = (rate(&table["routes"]["/cart"]), rate(&table["unlisted"]));
    assert!(cart < 0.25 && unlisted > cart, "{table}");
    assert_eq!(rates(&collector, "pinned").status, 204, "exempt");

    // The filter stops; the table holds.
    wait_for_a_hold(&collector);
    let reply = rates(&collector, "shop");
    let tag = header(&reply, "etag");
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    for (known, status) in [
        (tag.clone(), 304),
        (format!("\"other\", W/{tag}"), 304),
        ("*".to_owned(), 304),
        ("\"other\"".to_owned(), 200),
    ] {
        let headers = [("if-none-match", known.as_str())];
        let path = "/v1/rates?service=shop";
        let again = request_with(collector.http, "GET", path, &headers).unwrap();
        assert_eq!(
            (again.status, header(&again, "etag")),
            (status, tag.clone())
        );
        assert_eq!(again.body.is_empty(), status == 304);
    }
}

#[test]
fn a_delta_that_is_sent_again_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let collector = start(dir.path(), ADAPTIVE);
    let mut filter = Filter::new("shop", "i1");
    wait_for("a window with the filter's decisions", || {
        filter.send_again(&collector, &[decided("/cart", 100)], 5);
        let observed = "tracemeter_collector_rates_observed_traces_per_second";
        let page = get(collector.http, "/metrics").unwrap().text();
        let line = page.lines().find_map(|line| line.strip_prefix(observed));
        let observed: f64 = line.unwrap().trim().parse().unwrap();
        // A window of half the interval counts double; five times would be seen.
        assert!(observed <= filter.sent as f64 * 200.0, "{observed}");
        (observed > 0.0).then_some(())
    });
}

#[test]
fn a_table_survives_kill_9_and_a_damaged_state_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    // A table is given out for ten windows; a restart on a busy machine takes seconds.
    let slow = ADAPTIVE.replace("1s", "2s");
    let collector = start(dir.path(), &slow);
    let mut filter = Filter::new("shop", "i1");
    wait_for("a table", || {
        filter.send(&collector, &[decided("/cart", 40)]);
        rates(&collector, "shop")
            .text()
            .contains("/cart")
            .then_some(())
    });
    wait_for_a_hold(&collector);
    let before = rates(&collector, "shop");
    collector.kill();
    let collector = start(dir.path(), &slow);
    let after = rates(&collector, "shop");
    assert_eq!((after.status, &after.body), (200, &before.body));
    assert_eq!(header(&after, "etag"), header(&before, "etag"));
    collector.kill();

    let state = dir.path().join("data/control.v1.json");
    let mut bytes = std::fs::read(&state).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&state, bytes).unwrap();
    let collector = start(dir.path(), &slow);
    assert_eq!(rates(&collector, "shop").status, 204);
    let damaged = "tracemeter_collector_rates_state_damaged_total";
    assert_eq!(collector.metric(damaged), 1);
    assert!(collector.log().contains("its checksum is wrong"));
}

#[test]
fn without_adaptive_rates_there_is_no_table_and_sdks_get_the_static_rates() {
    let dir = tempfile::tempdir().unwrap();
    let collector = start(
        dir.path(),
        &ADAPTIVE.replace("enabled: true", "enabled: false"),
    );
    Filter::new("shop", "i1").send(&collector, &[decided("/cart", 40)]);
    assert_eq!(rates(&collector, "shop").status, 204);
    for (service, rate) in [("shop", 0.25), ("pinned", 1.0)] {
        let reply = get(collector.http, &format!("/sampling?service={service}")).unwrap();
        let strategy = json(&reply);
        assert_eq!(strategy["strategyType"], "PROBABILISTIC");
        assert_eq!(strategy["probabilisticSampling"]["samplingRate"], rate);
        let operations = &strategy["operationSampling"];
        assert_eq!(operations["defaultSamplingProbability"], rate);
        assert_eq!(operations["perOperationStrategies"], serde_json::json!([]));
    }
}

/// Waits for a window without reports that ends after this call: every window with some was closed
/// before it, and the table does not change any more. (There may be held windows from before the
/// first report, too.)
fn wait_for_a_hold(collector: &Collector) {
    let held = || collector.metric("tracemeter_collector_rates_held_total{reason=\"no_reports\"}");
    let before = held();
    wait_for("a held window", || (held() > before).then_some(()));
}

#[test]
fn two_collectors_give_out_one_table_made_from_the_counts_of_both() {
    let dir = tempfile::tempdir().unwrap();
    // A collector has to know the leader's address before the leader runs.
    let address = format!("127.0.0.1:{}", common::spare_port());
    let text = format!(
        "{}control: {{leader: \"http://{address}\"}}\n",
        ADAPTIVE.replace("1s", "2s")
    );
    let policy = policy(dir.path(), &text);
    let arguments = ["--policy", policy.to_str().unwrap()];
    let leader = Collector::start_at(&dir.path().join("a"), &address, &arguments);
    let follower = Collector::start(&dir.path().join("b"), &arguments);
    let role = |collector: &Collector, role: &str| {
        collector.metric(&format!(
            "tracemeter_collector_rates_role{{role=\"{role}\"}}"
        ))
    };
    wait_for("both to know their part", || {
        (role(&leader, "leads") == 1 && role(&follower, "follows") == 1).then_some(())
    });
    let mut here = Filter::new("shop", "i1");
    let mut there = Filter::new("shop", "i2");
    // Each sees one route only. Twice the traffic, half the rate: both are counted in full. A first
    // or last window has only a part of one of them, so it is the table under way that counts. (Much
    // more traffic would put both routes on the least rate.)
    wait_for("a table with the routes of both", || {
        here.send(&leader, &[decided("/cart", 1)]);
        there.send(&follower, &[decided("/pay", 2)]);
        let reply = rates(&leader, "shop");
        let table = (reply.status == 200).then(|| json(&reply))?;
        let of = |route: &str| table["routes"].get(route).map(rate);
        let (cart, pay) = (of("/cart")?, of("/pay")?);
        (1.6..2.5).contains(&(cart / pay)).then_some(())
    });
    wait_for_a_hold(&leader);
    let expected = rates(&leader, "shop");
    let same = wait_for("the follower to have the leader's table", || {
        Some(rates(&follower, "shop")).filter(|reply| reply.body == expected.body)
    });
    assert_eq!(header(&same, "etag"), header(&expected, "etag"));

    // Without the leader the follower goes on with the table, also after a restart.
    leader.kill();
    follower.kill();
    let follower = Collector::start(&dir.path().join("b"), &arguments);
    assert_eq!(rates(&follower, "shop").body, expected.body);
    assert_eq!(role(&follower, "unknown"), 1);
    // And with the leader back they agree again on new counts.
    let leader = Collector::start_at(&dir.path().join("a"), &address, &arguments);
    wait_for("the follower to follow again", || {
        (role(&follower, "follows") == 1).then_some(())
    });
    let mut late = Filter::new("shop", "i3");
    wait_for("one table with the new route on both", || {
        late.send(&follower, &[decided("/new", 50)]);
        let (left, right) = (rates(&leader, "shop"), rates(&follower, "shop"));
        (left.text().contains("/new") && left.body == right.body).then_some(())
    });
}
