//! The demo mesh under a real Prometheus, and what the files of monitoring/ ask it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use integration_tests::artefacts;
use integration_tests::client::{Call, Client, Protocol};
use integration_tests::headers::HeaderLines;
use integration_tests::process::Process;
use integration_tests::wait::{self, PATIENCE};
use serde_json::Value;
use tempfile::TempDir;

/// The folder with dashboard and rules.
pub(crate) fn monitoring() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../monitoring")
}

/// One endpoint with metrics, and the name that the scrape gives it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) service: Option<String>,
    pub(crate) address: SocketAddr,
    pub(crate) path: &'static str,
}

/// The demo as `make demo` runs it.
pub(crate) struct Demo {
    pub(crate) targets: Vec<Target>,
    _process: Process,
    _folder: TempDir,
}

impl Demo {
    /// Starts it and reads from its output where everything is.
    pub(crate) async fn start() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("tracemeter-demo-")
            .tempdir()?;
        let program = Path::new(env!("CARGO_BIN_EXE_demo"));
        let mut process = Process::start("demo", program, [""; 0], folder.path())?;
        let limit = PATIENCE * 3;
        let targets = wait::until("the demo's addresses", limit, async || {
            process.check_alive()?;
            targets(&process.output())
        })
        .await?;
        Ok(Self {
            targets,
            _process: process,
            _folder: folder,
        })
    }
}

/// The collector and six proxies, once all of them are printed.
fn targets(output: &str) -> Result<Option<Vec<Target>>> {
    let mut found = Vec::new();
    for line in output.lines() {
        let address = |url: &str| -> Result<SocketAddr> {
            let rest = url.trim_start_matches("http://");
            let address = rest.split('/').next().unwrap_or_default();
            address
                .parse()
                .with_context(|| format!("address in `{line}`"))
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["page", url] => found.push(Target {
                service: None,
                address: address(url)?,
                path: "/metrics",
            }),
            [service, url] if url.contains("/stats?filter=") => found.push(Target {
                service: Some((*service).to_owned()),
                address: address(url)?,
                path: "/stats/prometheus",
            }),
            _ => {}
        }
    }
    Ok((found.len() == 7).then_some(found))
}

/// Fetches a page.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut call = Call::new(Protocol::Http1, "monitoring", path);
    call.headers = HeaderLines::new();
    let reply = Client::new(address).send(call).await?;
    anyhow::ensure!(reply.status == 200, "`{path}` answered {}", reply.status);
    Ok(String::from_utf8_lossy(&reply.body).into_owned())
}

/// Names of metrics and of labels in Prometheus text.
pub(crate) fn names(text: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut metrics, mut labels) = (BTreeSet::new(), BTreeSet::new());
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let end = line.find(['{', ' ']).unwrap_or(line.len());
        metrics.insert(line[..end].to_owned());
        for part in line[end..].split("=\"") {
            let start = part.rfind(['{', ',']).map_or(part.len(), |at| at + 1);
            labels.insert(part[start..].to_owned());
        }
    }
    (metrics, labels)
}

/// A Prometheus that scrapes every second; its data goes with it.
pub(crate) struct Prometheus {
    _process: Process,
    address: SocketAddr,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts it with the rules of monitoring/.
    pub(crate) async fn start(targets: &[Target]) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("tracemeter-prometheus-")
            .tempdir()?;
        let configuration = folder.path().join("prometheus.yaml");
        fs::write(&configuration, scrape(targets))?;
        let arguments = [
            format!("--config.file={}", configuration.display()),
            format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ),
            "--web.listen-address=127.0.0.1:0".to_owned(),
        ];
        let program = artefacts::debian_tool("prometheus")?;
        let mut process = Process::start("prometheus", &program, arguments, folder.path())?;
        // It listens before it answers.
        let address = wait::until("a Prometheus that is ready", PATIENCE, async || {
            process.check_alive()?;
            let output = process.output();
            let rest = output.split("msg=\"Listening on\" address=").nth(1);
            let address = rest.and_then(|rest| rest.split_whitespace().next());
            let Some(address) = address.and_then(|text| text.parse().ok()) else {
                return Ok(None);
            };
            Ok(get(address, "/-/ready").await.ok().map(|_| address))
        })
        .await?;
        Ok(Self {
            _process: process,
            address,
            _folder: folder,
        })
    }

    /// The series that an expression gives now.
    pub(crate) async fn query(&self, expression: &str) -> Result<usize> {
        let path = format!("/api/v1/query?query={}", percent(expression));
        let json: Value = serde_json::from_str(&get(self.address, &path).await?)?;
        let result = json.pointer("/data/result").and_then(Value::as_array);
        Ok(result.context("no result")?.len())
    }

    /// Waits until an expression gives something.
    pub(crate) async fn wait_for(&self, expression: &str, limit: Duration) -> Result<usize> {
        wait::until(expression, limit, async || {
            let series = self.query(expression).await?;
            Ok((series > 0).then_some(series))
        })
        .await
    }

    /// Every rule as Prometheus sees it: name, health, the last error.
    pub(crate) async fn rules(&self) -> Result<Vec<(String, String, String)>> {
        let json: Value = serde_json::from_str(&get(self.address, "/api/v1/rules").await?)?;
        let text = |rule: &Value, key: &str| {
            rule.get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let groups = json.pointer("/data/groups").and_then(Value::as_array);
        let rules = groups
            .into_iter()
            .flatten()
            .filter_map(|group| group["rules"].as_array());
        Ok(rules
            .flatten()
            .map(|rule| {
                (
                    text(rule, "name"),
                    text(rule, "health"),
                    text(rule, "lastError"),
                )
            })
            .collect())
    }
}

fn scrape(targets: &[Target]) -> String {
    let rules = monitoring().join("rules.yaml");
    let mut text = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         rule_files: [\"{}\"]\nscrape_configs:\n",
        rules.display()
    );
    for (at, target) in targets.iter().enumerate() {
        let labels = match &target.service {
            Some(service) => format!("{{service_name: \"{service}\"}}"),
            None => "{}".to_owned(),
        };
        let _ = writeln!(
            text,
            "- job_name: target-{at}\n  metrics_path: {}\n  static_configs:\n  \
             - {{targets: [\"{}\"], labels: {labels}}}",
            target.path, target.address
        );
    }
    text
}

fn percent(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        let _ = write!(encoded, "%{byte:02X}");
    }
    encoded
}
