//! The collector binary with a data folder of its own.
//!
//! Looked at only through what it offers to everyone: SQL over HTTP, `/metrics`, its log. It can
//! be killed and started again on the same ports and data, which is what the failure tests need.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::Method;
use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::artefacts;
use crate::client::{Call, Client, Protocol};
use crate::headers::HeaderLines;
use crate::process::Process;
use crate::wait::{self, PATIENCE};

/// How long the collector may take from SIGTERM to its end (it flushes).
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A row of an SQL answer: column name to value.
pub type Row = Map<String, Value>;

/// A collector; killed when dropped.
#[derive(Debug)]
pub struct Collector {
    process: Option<Process>,
    grpc: SocketAddr,
    http: SocketAddr,
    policy: Option<PathBuf>,
    folder: TempDir,
}

impl Collector {
    /// Starts a collector on free ports with an empty data folder.
    pub async fn start(policy: Option<&str>) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("tracemeter-collector-")
            .tempdir()?;
        let policy = match policy {
            Some(text) => {
                let file = folder.path().join("policy.yaml");
                fs::write(&file, text)?;
                Some(file)
            }
            None => None,
        };
        let free: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut collector = Self {
            process: None,
            grpc: free,
            http: free,
            policy,
            folder,
        };
        collector.restart().await?;
        Ok(collector)
    }

    /// OTLP/HTTP, the page and the API.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// OTLP/gRPC.
    #[must_use]
    pub fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// The process, while there is one.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// Ends the process at once, as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill(),
            None => Ok(()),
        }
    }

    /// Asks the process to end and waits for it.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(STOP_LIMIT)?;
        }
        Ok(())
    }

    /// Starts the process again, on the same ports and the same data.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill()?;
        let folder = self.folder.path();
        let addresses = folder.join("addresses.json");
        let _ = fs::remove_file(&addresses);
        let data = folder.join("data");
        fs::create_dir_all(&data)?;
        let mut arguments = vec!["serve".to_owned()];
        let mut option = |name: &str, value: &str| {
            arguments.extend([name.to_owned(), value.to_owned()]);
        };
        option("--data", &data.to_string_lossy());
        option("--grpc", &self.grpc.to_string());
        option("--http", &self.http.to_string());
        option("--addresses-file", &addresses.to_string_lossy());
        if let Some(policy) = &self.policy {
            option("--policy", &policy.to_string_lossy());
        }
        let mut process = Process::start("collector", &artefacts::collector()?, arguments, folder)?;
        let (grpc, http) = wait::until("the collector's addresses", PATIENCE, async || {
            process.check_alive()?;
            read_addresses(&addresses)
        })
        .await?;
        (self.grpc, self.http, self.process) = (grpc, http, Some(process));
        Ok(())
    }

    /// Runs one SQL query; the rows as the HTTP interface gives them.
    pub async fn sql(&self, query: &str) -> Result<Vec<Row>> {
        let mut call = Call::new(Protocol::Http1, "collector", "/api/sql");
        call.method = Method::POST;
        call.headers = HeaderLines::from([("content-type", "text/plain")]);
        call.body = Bytes::from(query.to_owned());
        let reply = Client::new(self.http).send(call).await?;
        let text = String::from_utf8_lossy(&reply.body);
        if reply.status != 200 {
            bail!("`{query}` answered {}: {text}", reply.status);
        }
        let json: Value =
            serde_json::from_str(&text).with_context(|| format!("answer `{text}`"))?;
        rows(&json).with_context(|| format!("no rows in the answer `{text}`"))
    }

    /// One number: the first column of the first row; 0 when there is no row or it is null.
    pub async fn sql_number(&self, query: &str) -> Result<f64> {
        let rows = self.sql(query).await?;
        let value = rows.first().and_then(|row| row.values().next());
        Ok(value.and_then(number).unwrap_or(0.0))
    }

    /// Waits until a query's number satisfies `enough`.
    pub async fn wait_for_number(
        &self,
        query: &str,
        limit: Duration,
        enough: impl Fn(f64) -> bool,
    ) -> Result<f64> {
        wait::until(query, limit, async || {
            let number = self.sql_number(query).await?;
            Ok(enough(number).then_some(number))
        })
        .await
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> Result<String> {
        let call = Call::new(Protocol::Http1, "collector", "/metrics");
        let reply = Client::new(self.http).send(call).await?;
        Ok(String::from_utf8_lossy(&reply.body).into_owned())
    }
}

/// A JSON number, or a number written as a string (how decimals keep their digits).
#[must_use]
pub fn number(value: &Value) -> Option<f64> {
    value
        .as_f64()
        .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
}

/// Either `[{..}, ..]` or `{"rows": [{..}, ..]}`.
fn rows(json: &Value) -> Option<Vec<Row>> {
    let list = json
        .as_array()
        .or_else(|| json.get("rows").and_then(Value::as_array))?;
    list.iter().map(|row| row.as_object().cloned()).collect()
}

/// The file appears at once as a whole, so a file that is there is complete.
fn read_addresses(file: &Path) -> Result<Option<(SocketAddr, SocketAddr)>> {
    let Ok(text) = fs::read_to_string(file) else {
        return Ok(None);
    };
    let json: Value = serde_json::from_str(&text).with_context(|| format!("addresses `{text}`"))?;
    let address = |name: &str| -> Result<SocketAddr> {
        let text = json
            .get(name)
            .and_then(Value::as_str)
            .with_context(|| format!("no `{name}`"))?;
        Ok(text.parse()?)
    };
    Ok(Some((address("grpc")?, address("http")?)))
}
