//! `collector sql`: ask a running collector over HTTP, or read a data folder.

use std::io::Write as _;
use std::path::Path;

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;

use crate::cli::SqlArgs;
use crate::engine::{self, OpenError};
use crate::policy::{PolicyError, Rules};
use crate::query::{Format, Limits, QueryEngine, QueryError, render};

/// How often a folder that changes underneath is read.
const READ_ATTEMPTS: usize = 5;

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum SqlError {
    /// Not an address of a collector.
    #[error("`{0}` is not a URL of the form http://host:port")]
    Url(String),
    /// The collector cannot be reached.
    #[error("cannot ask `{url}`: {message}")]
    Http {
        /// The address.
        url: String,
        /// The cause.
        message: String,
    },
    /// The collector refused.
    #[error("{0}")]
    Refused(String),
    /// The data folder cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The policy is wrong.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The query failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The answer cannot be written.
    #[error("cannot write the answer: {0}")]
    Output(#[from] std::io::Error),
}

/// Prints the answer to standard output.
pub(crate) async fn run(args: SqlArgs) -> Result<(), SqlError> {
    let answer = match &args.data {
        Some(dir) => from_folder(dir, &args).await?,
        None => from_server(&args).await?,
    };
    std::io::stdout().write_all(&answer)?;
    Ok(())
}

async fn from_folder(dir: &Path, args: &SqlArgs) -> Result<Vec<u8>, SqlError> {
    let rules = std::sync::Arc::new(Rules::load(args.policy.as_deref())?);
    let limits = Limits {
        rows: usize::MAX,
        ..Limits::default()
    };
    let queries = QueryEngine::new(limits, &std::env::temp_dir())?;
    let mut attempts = READ_ATTEMPTS;
    let answer = loop {
        attempts -= 1;
        let snapshot = engine::read_only(dir, &rules)?;
        let answer = queries.sql(&snapshot, &args.query).await;
        // A collector that runs on the folder may have merged partitions meanwhile.
        if attempts == 0
            || snapshot
                .partitions
                .iter()
                .all(|partition| partition.exists())
        {
            break answer?;
        }
    };
    let format = Format::parse(&args.format).unwrap_or(Format::Table);
    render(&answer, format).map_err(|error| QueryError::Failed(error.to_string()).into())
}

async fn from_server(args: &SqlArgs) -> Result<Vec<u8>, SqlError> {
    let authority = args
        .url
        .strip_prefix("http://")
        .map(|rest| rest.trim_end_matches('/'))
        .filter(|rest| !rest.is_empty() && !rest.contains('/'))
        .ok_or_else(|| SqlError::Url(args.url.clone()))?;
    let failed = |message: String| SqlError::Http {
        url: args.url.clone(),
        message,
    };
    let address = if authority.contains(':') {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    };
    let stream = TcpStream::connect(&address)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(error.to_string()))?;
    tokio::spawn(connection);
    let request = Request::post(format!("/api/sql?format={}", args.format))
        .header("host", authority)
        .header("content-type", "text/plain; charset=utf-8")
        .body(Full::new(bytes::Bytes::from(args.query.clone())))
        .map_err(|error| failed(error.to_string()))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let status = response.status();
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|error| failed(error.to_string()))?
        .to_bytes();
    if status.is_success() {
        return Ok(body.to_vec());
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    let message = serde_json::from_str::<serde_json::Value>(&text)
        .ok()
        .and_then(|value| value.get("message")?.as_str().map(str::to_owned));
    Err(SqlError::Refused(message.unwrap_or(text)))
}
