//! One `POST` of a batch to a receiver: HTTP/1.1, no TLS, a connection per request.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::outbox::{Batch, Outcome};

/// Time of one request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read; they are only logged.
const MAX_ANSWER: usize = 4 << 10;
/// The path of Alertmanager, for addresses that name none.
const DEFAULT_PATH: &str = "/api/v2/alerts";

/// Sends a batch and says what became of it.
pub(super) async fn send(batch: &Batch) -> Outcome {
    let answer = tokio::time::timeout(TIMEOUT, post(&batch.address, batch.body.to_string())).await;
    let (status, text) = match answer {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            tracing::warn!(address = batch.address, %error, "cannot tell a receiver of alerts");
            return Outcome::Failed;
        }
        Err(_) => {
            tracing::warn!(
                address = batch.address,
                "a receiver of alerts does not answer"
            );
            return Outcome::Failed;
        }
    };
    let is_for_good = status.is_client_error()
        && status != StatusCode::REQUEST_TIMEOUT
        && status != StatusCode::TOO_MANY_REQUESTS;
    if status.is_success() {
        return Outcome::Taken;
    }
    tracing::warn!(address = batch.address, %status, text, "a receiver of alerts refused");
    if is_for_good {
        Outcome::Refused
    } else {
        Outcome::Failed
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn post(address: &str, body: String) -> Result<(StatusCode, String), Failure> {
    let uri: Uri = address.parse()?;
    let authority = uri.authority().ok_or("address has no host")?.clone();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let path = if path == "/" { DEFAULT_PATH } else { path };
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::post(path)
        .header("host", authority.as_str())
        .header("content-type", "application/json")
        .body(Full::new(bytes::Bytes::from(body)))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await;
    let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned());
    connection.abort();
    Ok((status, text.unwrap_or_default()))
}
