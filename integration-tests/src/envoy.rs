//! A real Envoy with a configuration given as text.
//!
//! All listeners may ask for port 0; the admin interface tells the real ports. Statistics are
//! read from the admin interface too: they are what the filter says about itself.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Call, Client, Protocol};
use crate::process::Process;
use crate::wait::{self, PATIENCE};
use crate::{artefacts, headers::HeaderLines};

/// How long Envoy may take from SIGTERM to its end.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A running Envoy; killed when dropped.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    admin: Client,
    admin_address: SocketAddr,
    listeners: BTreeMap<String, SocketAddr>,
    /// Holds the configuration and the log as long as the process lives.
    _folder: TempDir,
}

impl Envoy {
    /// Starts Envoy with `workers` worker threads and waits until it serves.
    ///
    /// # Errors
    /// A missing artefact, a configuration Envoy refuses (with its log), or no readiness in time.
    pub async fn start(name: &str, configuration: &str, workers: u32) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("tracemeter-envoy-")
            .tempdir()?;
        let file = folder.path().join("envoy.yaml");
        let admin_file = folder.path().join("admin.address");
        fs::write(&file, configuration)?;
        let workers = workers.to_string();
        let arguments = [
            "--config-path".as_ref(),
            file.as_os_str(),
            "--admin-address-path".as_ref(),
            admin_file.as_os_str(),
            "--concurrency".as_ref(),
            workers.as_ref(),
            "--disable-hot-restart".as_ref(),
            "--log-level".as_ref(),
            "warning".as_ref(),
        ];
        let mut process = Process::start(name, &artefacts::envoy()?, arguments, folder.path())?;
        let what = format!("the admin address of Envoy `{name}`");
        let admin_address: SocketAddr = wait::until(&what, PATIENCE, async || {
            process.check_alive()?;
            Ok(fs::read_to_string(&admin_file)
                .ok()
                .and_then(|text| text.trim().parse().ok()))
        })
        .await?;
        let admin = Client::new(admin_address);
        let what = format!("readiness of Envoy `{name}`");
        wait::until(&what, PATIENCE, async || {
            process.check_alive()?;
            let reply = admin
                .send(Call::new(Protocol::Http1, "admin", "/ready"))
                .await;
            Ok(reply.is_ok_and(|reply| reply.status == 200).then_some(()))
        })
        .await?;
        let listeners = listeners(&admin).await?;
        Ok(Self {
            process,
            admin,
            admin_address,
            listeners,
            _folder: folder,
        })
    }

    /// The address of the listener called `name`.
    pub fn listener(&self, name: &str) -> Result<SocketAddr> {
        self.listeners.get(name).copied().with_context(|| {
            format!(
                "no listener `{name}` in `{}`: {:?}",
                self.process.name(),
                self.listeners
            )
        })
    }

    /// The admin interface's address.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// The process itself: its log, its memory, whether it lives.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// All counters and gauges.
    pub async fn stats(&self) -> Result<BTreeMap<String, u64>> {
        let text = self.admin_get("/stats").await?;
        Ok(text
            .lines()
            .filter_map(|line| line.rsplit_once(": "))
            .filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?)))
            .collect())
    }

    /// The sum of all counters and gauges whose name contains `part`; 0 when there is none.
    pub async fn stat_sum(&self, part: &str) -> Result<u64> {
        let stats = self.stats().await?;
        Ok(stats
            .iter()
            .filter(|(name, _)| name.contains(part))
            .map(|(_, value)| value)
            .sum())
    }

    /// A page of the admin interface as text.
    pub async fn admin_get(&self, path: &str) -> Result<String> {
        let reply = self
            .admin
            .send(Call::new(Protocol::Http1, "admin", path))
            .await?;
        if reply.status != 200 {
            bail!("admin page `{path}` answered {}", reply.status);
        }
        Ok(String::from_utf8_lossy(&reply.body).into_owned())
    }

    /// Asks Envoy to end and waits for it.
    pub fn stop(mut self) -> Result<()> {
        self.process.stop(STOP_LIMIT)?;
        Ok(())
    }
}

async fn listeners(admin: &Client) -> Result<BTreeMap<String, SocketAddr>> {
    let call = Call::new(Protocol::Http1, "admin", "/listeners?format=json");
    let reply = admin.send(call.headers(HeaderLines::new())).await?;
    let json: Value =
        serde_json::from_slice(&reply.body).context("the admin's list of listeners")?;
    let statuses = json.get("listener_statuses").and_then(Value::as_array);
    let mut found = BTreeMap::new();
    for status in statuses.into_iter().flatten() {
        let socket = status.pointer("/local_address/socket_address");
        let name = status.get("name").and_then(Value::as_str);
        let address = socket
            .and_then(|socket| socket.get("address"))
            .and_then(Value::as_str);
        let port = socket
            .and_then(|socket| socket.get("port_value"))
            .and_then(Value::as_u64);
        if let (Some(name), Some(address), Some(port)) = (name, address, port) {
            found.insert(name.to_owned(), format!("{address}:{port}").parse()?);
        }
    }
    Ok(found)
}
