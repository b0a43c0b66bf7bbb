//! The collector's page in a real browser: what it says, by keyboard, on narrow screens, in light
//! and dark, and that hostile names stay text. Screenshots are left in `page-screenshots` of the
//! target folder.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::Method;
use integration_tests::artefacts;
use integration_tests::client::{Call, Client, Protocol};
use integration_tests::collector::Collector;
use integration_tests::headers::HeaderLines;
use serde_json::{Value, json};

const LOOK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/look.mjs");
const HOSTILE: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><b>";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
/// Its root is missing.
const ROOTLESS: &str = "0af7651916cd43dd8448eb211c80319d";

fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_nanos()).unwrap()
}

/// Waits while a day ends, for tests of what the page says of today.
fn not_around_midnight() {
    const DAY_S: u64 = 86_400;
    // Longer than a test takes, on a busy machine.
    const LAST_S: u64 = 120;
    while (now_ns() / 1_000_000_000 + LAST_S) % DAY_S <= LAST_S {
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn attribute(key: &str, value: Value) -> Value {
    json!({"key": key, "value": value})
}

fn text(key: &str, value: &str) -> Value {
    attribute(key, json!({"stringValue": value}))
}

async fn post(collector: &Collector, path: &str, body: &Value) {
    let mut call = Call::new(Protocol::Http1, "collector", path);
    call.method = Method::POST;
    call.headers = HeaderLines::from([("content-type", "application/json")]);
    call.body = Bytes::from(body.to_string());
    let reply = Client::new(collector.http()).send(call).await.unwrap();
    let answer = String::from_utf8_lossy(&reply.body).into_owned();
    assert_eq!((reply.status, answer.as_str()), (200, "{}"), "{path}");
}

fn span(trace: &str, id: u64, parent: u64, name: &str, age_ms: u64, cost: f64) -> Value {
    let start = now_ns() - age_ms * 1_000_000;
    let parent = if parent == 0 {
        String::new()
    } else {
        format!("{parent:016x}")
    };
    json!({
        "traceId": trace, "spanId": format!("{id:016x}"), "parentSpanId": parent,
        "name": name, "kind": 2,
        "startTimeUnixNano": start.to_string(), "endTimeUnixNano": (start + 3_000_000).to_string(),
        "traceState": "ot=th:8",
        "attributes": [attribute("cost_usd", json!({"doubleValue": cost})),
            text("data_tag", "PII"), text("sampling.reason", "default_rate"), text("note", HOSTILE)],
    })
}

async fn send_spans(collector: &Collector) {
    let resource = json!({"attributes": [text("service.name", HOSTILE)]});
    let spans = json!([
        span(TRACE, 1, 0, HOSTILE, 300, 0.0025),
        span(TRACE, 2, 1, "charge", 250, 0.000_000_001),
        span(ROOTLESS, 3, 99, "first seen", 200, 0.0001),
        span(ROOTLESS, 4, 99, "second", 100, 0.0001),
    ]);
    let body = json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]});
    post(collector, "/v1/traces", &body).await;
}

/// 1,234 requests and 12.345678901 USD.
async fn send_ledger(collector: &Collector) {
    let key = json!([
        text("tracemeter.direction", "inbound"),
        text("http.route", HOSTILE),
        text("data_tag", "PII"),
        text("tracemeter.charge_side", "server")
    ]);
    let time = now_ns().to_string();
    let cost = json!({"name": "tracemeter.cost", "sum": {"aggregationTemporality": 1, "isMonotonic": true,
        "dataPoints": [{"attributes": key, "timeUnixNano": time, "asInt": "12345678901"}]}});
    let requests = json!({"name": "tracemeter.requests.duration", "exponentialHistogram": {
        "aggregationTemporality": 1, "dataPoints": [{"attributes": key, "timeUnixNano": time,
            "count": "1234", "sum": 5e6, "scale": 2, "zeroCount": "0",
            "positive": {"offset": 80, "bucketCounts": ["1234"]}}]}});
    let scope = json!({"name": "tracemeter", "attributes": [
        attribute("tracemeter.sequence", json!({"intValue": "1"}))]});
    let resource = json!({"attributes": [text("service.name", "payment"),
        text("service.instance.id", "one")]});
    let body = json!({"resourceMetrics": [{"resource": resource, "scopeMetrics": [
        {"scope": scope, "metrics": [cost, requests]}]}]});
    post(collector, "/v1/metrics", &body).await;
}

fn look(collector: &Collector, pages: &[(&str, &str)]) -> Value {
    let target = std::env::current_exe().unwrap();
    let folder: PathBuf = target.ancestors().nth(3).unwrap().join("page-screenshots");
    std::fs::create_dir_all(&folder).unwrap();
    let mut command = Command::new("node");
    command
        .arg(LOOK)
        .arg(artefacts::node_modules().unwrap())
        .arg(artefacts::chromium().unwrap())
        .arg(&folder);
    for (name, path) in pages {
        command.arg(format!("{name}=http://{}{path}", collector.http()));
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What holds for every page on every screen.
fn holds_everywhere(name: &str, page: &Value) {
    assert_eq!(page["complaints"], json!([]), "{name}: of the browser");
    assert_eq!(page["dialogs"], 0, "{name}: scripts ran");
    for screen in ["wide", "dark", "narrow"] {
        let seen = &page[screen];
        assert!(
            seen["overflow"].as_i64().unwrap() <= 0,
            "{name} {screen}: {}",
            seen["overflow"]
        );
        assert_eq!(
            (&seen["misaligned"], &seen["foreign"]),
            (&json!(0), &json!(0)),
            "{name} {screen}"
        );
    }
    assert_ne!(
        page["wide"]["background"], page["dark"]["background"],
        "{name}"
    );
    assert_ne!(page["wide"]["ink"], page["dark"]["ink"], "{name}");
    for place in page["focus"].as_array().unwrap() {
        assert!(
            place["visible"].as_bool().unwrap(),
            "{name}: focus cannot be seen: {place}"
        );
    }
}

fn names(focus: &Value) -> Vec<&str> {
    let places = focus.as_array().unwrap().iter();
    places
        .map(|place| place["name"].as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_says_what_sql_says_and_hostile_names_stay_text() {
    not_around_midnight();
    let collector = Collector::start(None).await.unwrap();
    send_spans(&collector).await;
    send_ledger(&collector).await;
    let trace = format!("/traces/{TRACE}");
    let rootless = format!("/traces/{ROOTLESS}");
    let found = look(
        &collector,
        &[
            ("overview", "/"),
            ("trace", &trace),
            ("rootless", &rootless),
        ],
    );
    for (name, page) in found.as_object().unwrap() {
        holds_everywhere(name, page);
    }

    let exact = collector
        .sql("SELECT SUM(cost_usd) AS cost FROM cost_by_route WHERE basis = 'ledger'")
        .await
        .unwrap();
    assert_eq!(
        exact[0]["cost"].to_string().trim_matches('"'),
        "12.345678901"
    );
    let overview = &found["overview"]["wide"];
    says_the_totals(overview);
    says_the_tables(&overview["tables"]);

    let waterfall = &found["trace"]["wide"]["tables"]["Spans"];
    assert_eq!(waterfall[1][1], "0.0025");
    assert_eq!(waterfall[2][1], "0.000000001");
    assert_eq!(
        found["trace"]["wide"]["totals"]["Cost"][0],
        "0.002500001 USD"
    );
    assert_eq!(
        found["rootless"]["wide"]["totals"]["Begins at"][1],
        "first seen (the root has not come)"
    );
}

fn says_the_totals(overview: &Value) {
    let headings = overview["headings"].as_array().unwrap();
    for heading in [
        "Today",
        "Cost by service",
        "Cost by route",
        "Cost by data class",
        "Most expensive traces of the last hour",
        "Newest traces",
        "Alerts",
        "Rates now",
        "Kept and dropped today",
        "Storage",
    ] {
        assert!(
            headings.contains(&json!(heading)),
            "{heading}: {headings:?}"
        );
    }
    // Exact, and what four spans that stand for two each would say.
    assert_eq!(overview["totals"]["Cost"][0], "12.345678901 USD");
    let estimate = overview["totals"]["Cost"][1].as_str().unwrap();
    assert!(estimate.starts_with("estimate 0.0054 USD (-"), "{estimate}");
    assert_eq!(overview["totals"]["Requests"][0], "1,234");
    assert!(
        overview["totals"]["Requests"][1]
            .as_str()
            .unwrap()
            .starts_with("estimate 8 (-")
    );
}

fn says_the_tables(tables: &Value) {
    assert_eq!(tables["Cost by service"][1][0], "payment");
    assert_eq!(tables["Cost by route"][1][0], format!("payment\n{HOSTILE}"));
    let newest = tables["Newest traces"].as_array().unwrap();
    let begins: Vec<&str> = newest[1..]
        .iter()
        .map(|row| row[1].as_str().unwrap())
        .collect();
    assert!(
        begins.contains(&format!("{HOSTILE}\n{HOSTILE}").as_str()),
        "{begins:?}"
    );
    assert!(
        begins.contains(&format!("{HOSTILE}\nfirst seen (the root has not come)").as_str()),
        "{begins:?}"
    );
    let kept = tables["Kept and dropped today"].as_array().unwrap();
    assert!(
        kept.contains(&json!(["kept", "default_rate", "4"])),
        "{kept:?}"
    );
    assert!(
        kept.contains(&json!(["dropped", "not sampled", "1,230"])),
        "{kept:?}"
    );
    assert_eq!(tables["Storage"][1][2], "4");
    assert!(
        tables["Alerts"].as_array().unwrap().len() > 1,
        "the policy's alerts"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_is_walked_by_keyboard_and_an_empty_collector_says_so() {
    let collector = Collector::start(None).await.unwrap();
    let found = look(&collector, &[("empty", "/")]);
    let page = &found["empty"];
    holds_everywhere("empty", page);
    assert_eq!(
        names(&page["focus"])[..7],
        [
            "Skip to content",
            "Tracemeter",
            "Cost",
            "Traces",
            "Alerts",
            "Sampling",
            "Storage"
        ]
    );
    let empty = page["wide"]["empty"].as_array().unwrap();
    assert!(
        empty.contains(&json!("No trace has been received yet.")),
        "{empty:?}"
    );
    assert_eq!(page["wide"]["totals"]["Cost"][0], "no ledger yet");

    send_spans(&collector).await;
    let found = look(&collector, &[("walked", "/")]);
    let order = names(&found["walked"]["focus"]).join(" > ");
    // After the sections come the tables, which scroll, and in them the traces.
    assert!(order.contains("Storage > Cost by service > Cost by data class > Most expensive traces of the last hour > 0af7651916cd…"), "{order}");
}
