//! Dashboard, rules and monitors of monitoring/ work with what filters and collector really show:
//! promtool runs the rules' own tests, a real Prometheus scrapes the demo and answers every query of
//! the dashboard, and the resources are valid for the Prometheus operator.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod scrape;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use integration_tests::artefacts;
use integration_tests::wait::{self, PATIENCE};
use serde_json::Value;

use scrape::{Demo, Prometheus, get, monitoring, names};

fn promtool(arguments: &[&str]) -> Output {
    Command::new(artefacts::debian_tool("promtool").unwrap())
        .args(arguments)
        .current_dir(monitoring())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    let (out, error) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(error)
    )
}

#[test]
fn rules_fire_when_they_must_and_stay_quiet_otherwise() {
    for arguments in [
        ["check", "config", "prometheus.yaml"],
        ["test", "rules", "rules.test.yaml"],
    ] {
        let output = promtool(&arguments);
        assert!(output.status.success(), "{}", said(&output));
    }
    // Every alert has its test.
    let rules = fs::read_to_string(monitoring().join("rules.yaml")).unwrap();
    let tests = fs::read_to_string(monitoring().join("rules.test.yaml")).unwrap();
    let alerts: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in alerts {
        let name = alert.trim_matches('"');
        assert!(
            tests.contains(&format!("alertname=\"{name}\"")),
            "`{name}` has no test"
        );
    }
}

#[test]
fn generated_files_are_what_the_script_writes() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/monitoring.py");
    let output = Command::new("python3")
        .arg(script)
        .arg("--check")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

/// Validates one YAML text; the validator's complaint is the error.
fn validate(text: &str) -> Result<(), String> {
    let script = "import { readFileSync } from 'node:fs';\n\
        const from = (name) => import(`file://${process.env.MODULES}/${name}`);\n\
        const { parse } = (await from('yaml/dist/index.js')).default;\n\
        const object = parse(readFileSync(0, 'utf8'));\n\
        const [group, version] = object.apiVersion.split('/');\n\
        const name = `@kubernetes-models/prometheus-operator/${group}/${version}/${object.kind}.js`;\n\
        new (await from(name))[object.kind](object).validate();";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resource.yaml");
    fs::write(&file, text).unwrap();
    let output = Command::new("node")
        .args(["--input-type=module", "--eval", script])
        .env("MODULES", artefacts::node_modules().unwrap())
        .stdin(fs::File::open(&file).unwrap())
        .output()
        .unwrap();
    if output.status.success() {
        Ok(())
    } else {
        Err(said(&output))
    }
}

#[test]
fn resources_are_valid_for_the_prometheus_operator() {
    for name in [
        "prometheus-rule.yaml",
        "pod-monitor.yaml",
        "service-monitor.yaml",
    ] {
        let text = fs::read_to_string(monitoring().join(name)).unwrap();
        validate(&text).unwrap_or_else(|error| panic!("`{name}`: {error}"));
    }
    // The validator does look: a duration that is none is refused.
    let text = fs::read_to_string(monitoring().join("pod-monitor.yaml")).unwrap();
    let broken = text.replace("interval: 15s", "interval: soon");
    let error = validate(&broken).unwrap_err();
    assert!(error.contains("interval"), "{error}");
}

/// Title and expression of every query of the dashboard, as Grafana sends it.
fn dashboard() -> Vec<(String, String)> {
    let text = fs::read_to_string(monitoring().join("dashboard.json")).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let mut queries = Vec::new();
    for panel in json["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            let expression = expression
                .replace("$__rate_interval", "10s")
                .replace("$service_name", ".*");
            assert!(!expression.contains('$'), "{expression}");
            queries.push((panel["title"].as_str().unwrap().to_owned(), expression));
        }
    }
    queries
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

/// The names of metrics in an expression, patterns of names left out: an answer proves those.
fn metrics_in(expression: &str) -> BTreeSet<String> {
    let unquoted = expression.split('"').step_by(2).flat_map(words);
    let ours =
        unquoted.filter(|word| word.starts_with("tracemeter_") || word.starts_with("envoy_server"));
    ours.map(str::to_owned).collect()
}

/// The labels that an expression groups by or selects.
fn labels_in(expression: &str) -> BTreeSet<String> {
    let groups = expression.split(" by (").skip(1);
    let grouped = groups.filter_map(|rest| rest.split(')').next());
    let selectors = expression.split('{').skip(1);
    let selected = selectors.filter_map(|rest| rest.split('}').next());
    let grouped = grouped.flat_map(|list| list.split(',').map(str::trim));
    let selected = selected.flat_map(|list| {
        list.split(',')
            .filter_map(|pair| pair.split(['=', '!']).next())
            .map(str::trim)
    });
    grouped
        .chain(selected)
        .filter(|name| *name != "__name__")
        .map(str::to_owned)
        .collect()
}

/// The expressions of the rules; folded ones span lines.
fn rules() -> Vec<String> {
    let text = fs::read_to_string(monitoring().join("rules.yaml")).unwrap();
    let after = text.split("    expr: ").skip(1);
    after
        .map(|rest| {
            let next = ["\n    for:", "\n    labels:", "\n    annotations:"];
            let end = next.iter().filter_map(|key| rest.find(key)).min();
            rest[..end.unwrap()].replace('\n', " ")
        })
        .collect()
}

/// What Prometheus itself adds to every series.
const SCRAPE_LABELS: [&str; 3] = ["instance", "job", "service_name"];

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_that_scrapes_the_demo_answers_every_query() {
    let demo = Demo::start().await.unwrap();
    let prometheus = Prometheus::start(&demo.targets).await.unwrap();
    let charged = "sum(tracemeter_ledger_cost_usd_total) > 0";
    prometheus.wait_for(charged, PATIENCE * 2).await.unwrap();

    let mut metrics = BTreeSet::new();
    let mut labels: BTreeSet<String> = SCRAPE_LABELS.map(str::to_owned).into();
    for target in &demo.targets {
        let (more_metrics, more_labels) = names(&get(target.address, target.path).await.unwrap());
        metrics.extend(more_metrics);
        labels.extend(more_labels);
    }
    let queries = dashboard();
    let rules = rules();
    assert!(queries.len() > 40 && rules.len() > 10);
    let expressions = queries.iter().map(|(_, query)| query).chain(&rules);
    for expression in expressions {
        for name in metrics_in(expression) {
            assert!(
                metrics.contains(&name),
                "`{name}` of `{expression}` is not scraped"
            );
        }
        for name in labels_in(expression) {
            assert!(
                labels.contains(&name),
                "label `{name}` of `{expression}` is not scraped"
            );
        }
    }
    for (title, query) in &queries {
        let answer = prometheus.wait_for(query, PATIENCE).await;
        answer.unwrap_or_else(|error| panic!("`{title}`: {error}"));
    }
    let rules = wait::until("the rules' first evaluation", PATIENCE, async || {
        let rules = prometheus.rules().await?;
        let done = rules.iter().all(|(_, health, _)| health != "unknown");
        Ok((done && !rules.is_empty()).then_some(rules))
    });
    for (name, health, error) in rules.await.unwrap() {
        assert_eq!(health, "ok", "`{name}`: {error}");
    }
}

#[test]
fn names_in_expressions_are_found() {
    let expression = "sum by (a, b) (rate(tracemeter_x_total{c=~\".*\",d!=\"1\"}[5m])) / up";
    let expected = ["a", "b", "c", "d"].map(str::to_owned);
    assert_eq!(labels_in(expression), expected.into());
    assert_eq!(
        metrics_in(expression),
        ["tracemeter_x_total".to_owned()].into()
    );
    let (metrics, labels) = names("# HELP x\nx_total{a=\"1\",b=\"}\"} 3\ny 4\n");
    assert_eq!(metrics, ["x_total", "y"].map(str::to_owned).into());
    assert!(labels.contains("a") && labels.contains("b"), "{labels:?}");
}
