//! `mesh-config explain` says what the filter does: 100,000 trace ids on the wire of a real proxy,
//! the same ids through the command, for rates of every kind.
//!
//! Where the outcome is a plain rate, the consistent-sampling rule itself (R >= T) is asked as a
//! third, so that command and filter cannot be wrong together.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use integration_tests::artefacts;
use integration_tests::envoy::Envoy;
use serde_json::{Value, json};
use w3c_traceparent_parser::TraceId;
use w3c_traceparent_parser::otel::{Randomness, Threshold};

mod proxies;
mod wire;
use proxies::{Listener, with};
use wire::{Echo, Seen};

/// Trace ids in all.
const IDS: usize = 100_000;

/// Ids of each case for which the filter's reason is compared too; asking costs a long header.
const EXPLAINED: usize = 200;

const CONNECTIONS: usize = 8;

/// One kind of request under one policy.
struct Case {
    name: &'static str,
    direction: &'static str,
    policy: Value,
    path: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    parent_flags: &'static str,
    /// The same request for the command.
    options: Vec<&'static str>,
    /// The probability, where it is one.
    rate: Option<f64>,
}

impl Case {
    fn new(name: &'static str, sampling: Value, rate: f64) -> Self {
        let policy = json!({
            "sampling": {"priority_rules": [], "low_volume": {"traces_per_minute": 0}},
            "debug": {"explain": true},
        });
        Self {
            name,
            direction: "INBOUND",
            policy: with(policy, json!({ "sampling": sampling })),
            path: "/",
            headers: Vec::new(),
            parent_flags: "00",
            options: Vec::new(),
            rate: Some(rate),
        }
    }

    fn policy(mut self, more: Value) -> Self {
        self.policy = with(self.policy, more);
        self
    }

    fn path(mut self, path: &'static str) -> Self {
        self.path = path;
        self.options.extend(["--path", path]);
        self
    }

    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    fn option(mut self, name: &'static str, value: &'static str) -> Self {
        self.options.extend([name, value]);
        self
    }
}

/// The specification's rates and rules, as they stand there.
fn specification() -> Value {
    let rule = |name: &str, condition: &str, rate: f64| json!({"name": name, "condition": condition, "sample_rate": rate});
    json!({
        "default_rate": 0.1,
        "service_rates":
            {"payment_service": 1.0, "analytics_service": 0.01, "robot_control": 1.0},
        "priority_rules": [
            rule("error_traces", "error = true", 1.0),
            rule("high_cost_traces", "cost_usd > 0.01", 1.0),
            rule("hitl_traces", "hitl_required = true", 1.0),
            rule("sensitive_data", "data_tag = PII", 1.0),
            rule("slow_traces", "duration_ms > 1000", 0.5),
        ],
    })
}

fn service(name: &str) -> Value {
    json!({"service": {"name": name}})
}

fn cases() -> Vec<Case> {
    let plain = |name, rate: f64| Case::new(name, json!({"default_rate": rate}), rate);
    let vip = json!({
        "default_rate": 0.1,
        "priority_rules": [
            {"name": "some", "condition": "url.path = \"/vip/*\"", "sample_rate": 0.2},
            {"name": "vip", "condition": "request.header[\"x-vip\"] = yes", "sample_rate": 0.3},
        ],
    });
    let classes = json!({
        "default_rate": 0.1,
        "route_classes": [
            {"name": "read", "when": "http.request.method = GET and url.path = \"/r/*\"", "rate": 0.4},
        ],
    });
    let environments = json!({"default_rate": 0.1, "environments": {"test": 0.6, "load": 0.02}});
    let pii = json!({"attributes": {
        "data_tag": [{"when": "url.path = \"/users/*\"", "value": "PII"}],
    }});
    let spec = |name, rate| Case::new(name, specification(), rate);
    let mut parent = plain("sampled_parent", 0.1).option("--direction", "inbound");
    parent.parent_flags = "01";
    parent.options.push("--parent-sampled");
    let mut outbound = plain("outbound", 0.35).option("--direction", "outbound");
    outbound.direction = "OUTBOUND";
    vec![
        plain("tenth", 0.1),
        plain("hundredth", 0.01),
        plain("half", 0.5),
        plain("odd", 0.123_456_789),
        plain("rare", 0.000_5),
        plain("none", 0.0),
        outbound,
        parent,
        Case::new(
            "service",
            json!({"default_rate": 0.1, "service_rates": {"proxied": 0.25}}),
            0.25,
        )
        .policy(service("proxied")),
        spec("analytics", 0.01).policy(service("analytics-service")),
        spec("payment", 1.0).policy(service("payment-service")),
        spec("other_service", 0.1).policy(service("frontend")),
        spec("expensive_path", 1.0)
            .policy(service("analytics-service"))
            .header("tracestate", "cost_usd=0.0101,rojo=1")
            .option("--path-cost", "0.0101"),
        spec("cheap_path", 0.01)
            .policy(service("analytics-service"))
            .header("tracestate", "cost_usd=0.0099")
            .option("--path-cost", "0.0099"),
        spec("personal_data", 1.0).policy(pii).path("/users/7"),
        Case::new("rule", vip.clone(), 0.3)
            .header("x-vip", "yes")
            .option("--header", "x-vip=yes"),
        Case::new("largest_rule", vip.clone(), 0.2).path("/vip/1"),
        Case::new("no_rule", vip, 0.1)
            .header("x-vip", "no")
            .option("--header", "x-vip=no"),
        Case::new("route_class", classes, 0.4).path("/r/1"),
        Case::new("environment", environments, 0.6)
            .policy(json!({"service": {"name": "proxied", "environment": "test"}})),
    ]
}

/// What the command says of each id, in order: kept or not, and why.
fn explain(folder: &Path, case: &Case, ids: &[String]) -> Vec<(bool, String)> {
    let file = |kind: &str| folder.join(format!("{}.{kind}", case.name));
    fs::write(file("json"), case.policy.to_string()).unwrap();
    fs::write(file("ids"), ids.join("\n")).unwrap();
    let output = Command::new(artefacts::mesh_config().unwrap())
        .arg("explain")
        .arg("--policy")
        .arg(file("json"))
        .args(&case.options)
        .arg("--ids")
        .arg(file("ids"))
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {complaints}", case.name);
    let text = String::from_utf8(output.stdout).unwrap();
    let read = |(line, id): (&str, &String)| {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[0], id, "{}: {line}", case.name);
        assert!(
            matches!(words[1], "kept" | "dropped"),
            "{}: {line}",
            case.name
        );
        (words[1] == "kept", words[2].to_owned())
    };
    assert_eq!(text.lines().count(), ids.len(), "{}", case.name);
    text.lines().zip(ids).map(read).collect()
}

fn requests(case: &Case, ids: &[String]) -> Vec<Vec<u8>> {
    let request = |(index, id): (usize, &String)| {
        let parent = format!("00-{id}-00f067aa0ba902b7-{}", case.parent_flags);
        let mut headers = case.headers.clone();
        headers.push(("traceparent", &parent));
        if index < EXPLAINED {
            headers.push(("x-tracemeter-debug", "1"));
        }
        wire::get(case.path, &headers)
    };
    ids.iter().enumerate().map(request).collect()
}

/// A word of the filter's own explanation.
fn word<'s>(seen: &'s Seen, key: &str) -> &'s str {
    let mut parts = seen.explanation.split("; ");
    let found = parts.find_map(|part| part.strip_prefix(key)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no `{key}` in `{}`", seen.explanation))
}

/// Compares one case; gives the number of ids that were kept.
fn compare(case: &Case, ids: &[String], seen: &[Seen], said: &[(bool, String)]) -> usize {
    let name = case.name;
    assert_eq!(seen.len(), ids.len());
    let threshold = case.rate.and_then(Threshold::from_probability);
    let mut kept = 0;
    for (index, ((id, seen), (says_kept, reason))) in ids.iter().zip(seen).zip(said).enumerate() {
        assert_eq!((seen.status, seen.trace_id()), (200, id.as_str()), "{name}");
        let sampled = seen.is_sampled();
        assert_eq!(
            *says_kept, sampled,
            "{name}: {id}: the command against the wire"
        );
        if index < EXPLAINED {
            assert_eq!(word(seen, "sampled"), sampled.to_string(), "{name}: {id}");
            assert_eq!(word(seen, "reason"), reason, "{name}: {id}");
        }
        if case.parent_flags == "00" && case.rate.is_some() {
            let trace = TraceId::from_hex(id.as_bytes()).unwrap();
            let rule = threshold.is_some_and(|t| t.keeps(Randomness::from_trace_id(trace)));
            assert_eq!(rule, sampled, "{name}: {id}: R >= T against the wire");
        }
        kept += usize::from(sampled);
    }
    kept
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_and_the_filter_agree_on_a_hundred_thousand_random_ids() {
    let cases = cases();
    let per_case = IDS / cases.len();
    let echo = Echo::start().await;
    let listener = |case: &Case| Listener::new(case.name, case.direction, case.policy.clone());
    let listeners: Vec<_> = cases.iter().map(listener).collect();
    let config = proxies::config(&listeners, echo.address(), echo.address());
    let envoy = Envoy::start("explained", &config, 2).await.unwrap();
    let folder = tempfile::tempdir().unwrap();

    let (mut on_the_wire, mut in_the_command) = (0.0, 0.0);
    let mut shares = Vec::new();
    for case in &cases {
        let ids: Vec<String> = (0..per_case)
            .map(|_| format!("{:032x}", fastrand::u128(1..)))
            .collect();
        let address = envoy.listener(case.name).unwrap();
        let started = Instant::now();
        let seen = wire::send_all(address, CONNECTIONS, requests(case, &ids)).await;
        on_the_wire += started.elapsed().as_secs_f64();
        let started = Instant::now();
        let said = explain(folder.path(), case, &ids);
        in_the_command += started.elapsed().as_secs_f64();
        let kept = compare(case, &ids, &seen, &said);
        shares.push(format!(
            "{} {:.4}",
            case.name,
            kept as f64 / per_case as f64
        ));
    }
    println!("{IDS} ids: {on_the_wire:.1} s on the wire, {in_the_command:.1} s in the command");
    println!("kept shares: {}", shares.join(", "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_foretells_new_traces_once_their_ids_are_known() {
    const TRACES: usize = 5_000;
    let case = Case::new("new", json!({"default_rate": 0.1}), 0.1);
    let echo = Echo::start().await;
    let listener = Listener::new(case.name, case.direction, case.policy.clone());
    let config = proxies::config(&[listener], echo.address(), echo.address());
    let envoy = Envoy::start("new", &config, 2).await.unwrap();
    let requests = vec![wire::get("/", &[("x-tracemeter-debug", "1")]); TRACES];
    let seen = wire::send_all(envoy.listener("new").unwrap(), CONNECTIONS, requests).await;
    let ids: Vec<String> = seen.iter().map(|seen| seen.trace_id().to_owned()).collect();
    let folder = tempfile::tempdir().unwrap();
    let said = explain(folder.path(), &case, &ids);
    let kept = compare(&case, &ids, &seen, &said);
    assert!(
        (400..=600).contains(&kept),
        "{kept} of {TRACES} at rate 0.1"
    );
}
