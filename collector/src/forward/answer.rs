//! What a back end's answer means.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tonic::{Code, Status};

use crate::client::Answer;

/// Longest time that a back end may ask for.
const MAX_WAIT: Duration = Duration::from_secs(300);
/// Bytes before a message of gRPC: compressed or not, and its length.
const PREFIX: usize = 5;

/// What became of a batch.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    /// Taken, but for these spans, with the back end's words.
    Taken(u64, String),
    /// May succeed later; not before the time that the back end named.
    Retry(Option<Duration>, String),
    /// Will never succeed.
    Refused(String),
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Span>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// An answer over OTLP/HTTP.
pub(super) fn http(answer: &Answer) -> Outcome {
    match answer.status.as_u16() {
        200..=299 => taken(&answer.body),
        429 | 502 | 503 | 504 => {
            Outcome::Retry(retry_after(&answer.headers), answer.status.to_string())
        }
        _ => Outcome::Refused(answer.status.to_string()),
    }
}

/// An answer over OTLP/gRPC: the status is in the trailers, or in the headers of an answer without
/// a message.
pub(super) fn grpc(answer: &Answer) -> Outcome {
    let status = Status::from_header_map(&answer.trailers)
        .or_else(|| Status::from_header_map(&answer.headers));
    let Some(status) = status else {
        return match answer.status {
            StatusCode::OK => Outcome::Retry(None, "an answer without a status".to_owned()),
            // A proxy in between.
            _ => http(answer),
        };
    };
    let text = format!("{:?}: {}", status.code(), status.message());
    let wait = retry_info(status.details());
    match status.code() {
        Code::Ok => taken(answer.body.get(PREFIX..).unwrap_or_default()),
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Outcome::Retry(wait, text),
        Code::ResourceExhausted if wait.is_some() => Outcome::Retry(wait, text),
        _ => Outcome::Refused(text),
    }
}

fn taken(body: &[u8]) -> Outcome {
    // An answer that cannot be read does not undo that it was taken.
    let partial = ExportTraceServiceResponse::decode(body)
        .ok()
        .and_then(|response| response.partial_success);
    match partial {
        Some(partial) => Outcome::Taken(
            u64::try_from(partial.rejected_spans).unwrap_or(0),
            partial.error_message,
        ),
        None => Outcome::Taken(0, String::new()),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    let wait = Duration::from_secs(seconds.trim().parse().ok()?);
    Some(wait.min(MAX_WAIT))
}

fn retry_info(details: &[u8]) -> Option<Duration> {
    let status = RpcStatus::decode(details).ok()?;
    let any = status
        .details
        .iter()
        .find(|any| any.type_url.ends_with("google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(any.value.as_slice())
        .ok()?
        .retry_delay
        .unwrap_or_default();
    let wait = Duration::new(
        u64::try_from(delay.seconds).unwrap_or(0),
        u32::try_from(delay.nanos).unwrap_or(0).min(999_999_999),
    );
    Some(wait.min(MAX_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::reply;

    fn answer(status: u16) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            trailers: HeaderMap::new(),
            body: bytes::Bytes::new(),
        }
    }

    #[test]
    fn http_statuses_mean_what_the_otlp_specification_says() {
        assert_eq!(http(&answer(200)), Outcome::Taken(0, String::new()));
        for status in [429, 502, 503, 504] {
            assert!(
                matches!(http(&answer(status)), Outcome::Retry(None, _)),
                "{status}"
            );
        }
        for status in [301, 400, 401, 404, 413, 500, 501] {
            assert!(
                matches!(http(&answer(status)), Outcome::Refused(_)),
                "{status}"
            );
        }
        let mut partial = answer(200);
        partial.body = reply::partial_success(3, "no room").into();
        assert_eq!(http(&partial), Outcome::Taken(3, "no room".to_owned()));
        let mut later = answer(503);
        for (text, wait) in [("7", Some(7)), ("soon", None), ("9999999", Some(300))] {
            later
                .headers
                .insert(header::RETRY_AFTER, text.parse().unwrap());
            let Outcome::Retry(found, _) = http(&later) else {
                panic!("not to be retried");
            };
            assert_eq!(found, wait.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn grpc_codes_mean_what_the_otlp_specification_says() {
        let with = |code: u8, details: Vec<u8>| {
            let status = Status::with_details(Code::from(i32::from(code)), "why", details.into());
            let mut answer = answer(200);
            status.add_header(&mut answer.trailers).unwrap();
            grpc(&answer)
        };
        assert_eq!(with(0, Vec::new()), Outcome::Taken(0, String::new()));
        for code in 1..17 {
            let retried = matches!(with(code, Vec::new()), Outcome::Retry(None, _));
            assert_eq!(retried, [1, 4, 10, 11, 14, 15].contains(&code), "{code}");
        }
        let wait = reply::status(8, "full", Some(2));
        let expected = Some(Duration::from_secs(2));
        assert!(matches!(with(8, wait), Outcome::Retry(found, _) if found == expected));
        assert!(
            matches!(grpc(&answer(503)), Outcome::Retry(..)),
            "a proxy's answer"
        );
        assert!(matches!(grpc(&answer(404)), Outcome::Refused(_)));
    }
}
