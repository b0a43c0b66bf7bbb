//! A proxy that watches a file for its filter's configuration, or for its whole listener.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use integration_tests::artefacts;
use integration_tests::envoy::Envoy;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::proxies::{self, Listener};
use crate::receiver::Receiver;
use crate::wire::Echo;

const WORKERS: u32 = 2;

/// Everything is kept; the form of our tracestate members tells which policy wrote them.
fn policy(form: &str) -> String {
    format!(
        "sampling:\n  default_rate: 1.0\n  priority_rules: []\n\
         export: {{ gzip: false, ledger_interval: 1s }}\npropagation: {{ tracestate: {form} }}\n"
    )
}

/// A proxy whose filter's configuration is a watched file.
pub(crate) struct Proxy {
    pub(crate) echo: Echo,
    pub(crate) receiver: Receiver,
    pub(crate) envoy: Envoy,
    pub(crate) folder: TempDir,
    pub(crate) module: PathBuf,
}

impl Proxy {
    pub(crate) async fn start(form: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (echo, receiver) = (Echo::start().await, Receiver::start().await);
        let module = artefacts::module().unwrap().canonicalize().unwrap();
        let collector = receiver.address();
        let file = folder.path().join("filter.yaml");
        let rendered = render(&folder, "filter", &policy(form), &module, collector, &[]);
        fs::write(&file, rendered).unwrap();
        let inbound = format!("127.0.0.1:0={}", echo.address());
        let further = [
            "--inbound",
            &inbound,
            "--filter-file",
            &file.to_string_lossy(),
        ];
        let config = render(
            &folder,
            "envoy",
            &policy(form),
            &module,
            collector,
            &further,
        );
        let envoy = Envoy::start("watching", &config, WORKERS).await.unwrap();
        Self {
            echo,
            receiver,
            envoy,
            folder,
            module,
        }
    }

    /// A proxy that watches its listeners instead of the filter's configuration.
    pub(crate) async fn start_with_watched_listener(form: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (echo, receiver) = (Echo::start().await, Receiver::start().await);
        let (config, listeners) = listener_files(&folder, form, &echo, &receiver);
        fs::write(folder.path().join("filter.yaml"), listeners).unwrap();
        let envoy = Envoy::start("watching", &config, WORKERS).await.unwrap();
        Self {
            echo,
            receiver,
            envoy,
            folder,
            module: PathBuf::new(),
        }
    }

    /// The watched file's content for a policy.
    pub(crate) fn rendered(&self, form: &str) -> String {
        let collector = self.receiver.address();
        render(
            &self.folder,
            "filter",
            &policy(form),
            &self.module,
            collector,
            &[],
        )
    }

    /// Moves a new content over the watched file, as a whole.
    pub(crate) fn install(&self, content: &str) {
        let new = self.folder.path().join("filter.yaml.new");
        fs::write(&new, content).unwrap();
        fs::rename(&new, self.folder.path().join("filter.yaml")).unwrap();
    }

    /// The filter's own statistics, names without their prefix.
    pub(crate) async fn counters(&self) -> BTreeMap<String, u64> {
        let stats = self.envoy.stats().await.unwrap();
        let own = stats.into_iter().filter_map(|(name, value)| {
            Some((
                name.strip_prefix("wasmcustom.tracemeter_")?.to_owned(),
                value,
            ))
        });
        own.collect()
    }

    pub(crate) async fn counted(&self, name: &str) -> u64 {
        self.counters().await.get(name).copied().unwrap_or(0)
    }
}

/// A configuration without listeners, and the file that it takes them from.
pub(crate) fn listener_files(
    folder: &TempDir,
    form: &str,
    echo: &Echo,
    receiver: &Receiver,
) -> (String, String) {
    let policy = proxies::with(
        proxies::keep_all(),
        json!({"propagation": {"tracestate": form}, "export": {"ledger_interval": "1s"}}),
    );
    let listener = Listener::new("inbound", "INBOUND", policy);
    let text = proxies::config(&[listener], echo.address(), receiver.address());
    let mut config: Value = serde_json::from_str(&text).unwrap();
    let resources = config["static_resources"].as_object_mut().unwrap();
    let mut listeners = resources.remove("listeners").unwrap();
    listeners[0]["@type"] = "type.googleapis.com/envoy.config.listener.v3.Listener".into();
    let file = folder.path().join("filter.yaml");
    config["dynamic_resources"] = json!({"lds_config": {
        "resource_api_version": "V3",
        "path_config_source": {"path": file.to_string_lossy()},
    }});
    (
        config.to_string(),
        json!({ "resources": listeners }).to_string(),
    )
}

fn render(
    folder: &TempDir,
    target: &str,
    policy: &str,
    module: &Path,
    collector: SocketAddr,
    further: &[&str],
) -> String {
    let file = folder.path().join("policy.yaml");
    fs::write(&file, policy).unwrap();
    let output = Command::new(artefacts::mesh_config().unwrap())
        .args([
            "render",
            target,
            "--service",
            "reloaded",
            "--collector",
            &collector.to_string(),
        ])
        .arg("--policy")
        .arg(&file)
        .arg("--wasm")
        .arg(module)
        .args(further)
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    String::from_utf8(output.stdout).unwrap()
}

/// The module with a custom section more: the same code as another file.
pub(crate) fn other_build(module: &Path) -> Vec<u8> {
    let mut bytes = fs::read(module).unwrap();
    // Section 0, six bytes: a name of five.
    bytes.extend_from_slice(b"\x00\x06\x05build");
    bytes
}
