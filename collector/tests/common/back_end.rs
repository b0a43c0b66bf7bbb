//! A back end for OTLP/HTTP whose answers a test chooses.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::Sender;
use std::time::Instant;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message as _;

/// What it got.
pub(crate) struct Received {
    pub(crate) at: Instant,
    pub(crate) head: String,
    pub(crate) spans: usize,
}

pub(crate) struct BackEnd {
    pub(crate) address: String,
}

impl BackEnd {
    /// Gives these answers in turn, then 200. Ends with the test's process.
    pub(crate) fn start(requests: Sender<Received>, answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let mut answers = answers.into_iter();
            for stream in listener.incoming() {
                let Some(received) = read(&mut stream.as_ref().unwrap()) else {
                    continue;
                };
                let answer = answers.next().unwrap_or_else(|| Self::status(200, ""));
                stream.unwrap().write_all(&answer).unwrap();
                if requests.send(received).is_err() {
                    return;
                }
            }
        });
        Self { address }
    }

    /// An answer without a body.
    pub(crate) fn status(status: u16, headers: &str) -> Vec<u8> {
        format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: 0\r\n{headers}\r\n")
            .into_bytes()
    }

    /// 200 with a partial success.
    pub(crate) fn partial(rejected_spans: i64, message: &str) -> Vec<u8> {
        let body = ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess {
                rejected_spans,
                error_message: message.to_owned(),
            }),
        }
        .encode_to_vec();
        let head = format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        [head.into_bytes(), body].concat()
    }
}

fn read(stream: &mut &TcpStream) -> Option<Received> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
    let spans = request.resource_spans.iter().flat_map(|of| &of.scope_spans);
    Some(Received {
        at: Instant::now(),
        head,
        spans: spans.map(|of| of.spans.len()).sum(),
    })
}
