//! Sends spans to a running collector as fast as it acknowledges them.
//!
//! `cargo run --release -p collector --example load -- 127.0.0.1:4318 SPANS [CONNECTIONS]`
//!
//! Batches of 500 spans of about 400 bytes over plain OTLP/HTTP; ids are patched into one encoded
//! request, so that the client costs almost nothing. Prints spans per second as acknowledged.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

const BATCH: u64 = 500;
/// Spans of one trace.
const TRACE: u64 = 5;
const MARK: [u8; 12] = *b"LOADTESTMARK";

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// A trace id of mark and number, a span id of number and mark.
fn span(index: u64) -> Span {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_nanos()) as u64;
    let mut trace_id = MARK.to_vec();
    trace_id.extend_from_slice(&[1; 4]);
    Span {
        trace_id,
        span_id: b"SPANMARK".to_vec(),
        parent_span_id: if index.is_multiple_of(TRACE) {
            Vec::new()
        } else {
            vec![7; 8]
        },
        name: format!("GET /orders/{}", index % 20),
        kind: 2 + (index % 2) as i32,
        start_time_unix_nano: now - 50_000_000 - index * 1_000,
        end_time_unix_nano: now - index * 900,
        trace_state: "cost_usd=0.0001,data_tag=EXPORT_OK,ot=th:e666".into(),
        attributes: vec![
            attribute("cost_usd", Value::DoubleValue(1e-5 * (index % 50) as f64)),
            text("data_tag", "EXPORT_OK"),
            text("operation_type", "api_call"),
            text("http.request.method", "GET"),
            text("http.route", "/orders/{id}"),
            text("url.path", "/orders/4711"),
            text("server.address", "orders.shop.svc.cluster.local"),
            attribute("http.response.status_code", Value::IntValue(200)),
            attribute(
                "http.response.body.size",
                Value::IntValue(512 + index as i64),
            ),
        ],
        ..Span::default()
    }
}

fn body() -> Vec<u8> {
    let resource = Resource {
        attributes: vec![
            text("service.name", "orders"),
            text("k8s.pod.name", "orders-5f7c"),
        ],
        ..Resource::default()
    };
    let scope = InstrumentationScope {
        name: "load".into(),
        ..InstrumentationScope::default()
    };
    let scope_spans = ScopeSpans {
        scope: Some(scope),
        spans: (0..BATCH).map(span).collect(),
        ..ScopeSpans::default()
    };
    let resource_spans = ResourceSpans {
        resource: Some(resource),
        scope_spans: vec![scope_spans],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![resource_spans],
    }
    .encode_to_vec()
}

/// Writes fresh ids over the marks.
fn patch(body: &mut [u8], places: &[usize], next: &AtomicU64, seed: u32) {
    let first = next.fetch_add(BATCH, Ordering::Relaxed);
    for (index, place) in places.iter().enumerate() {
        let number = first + index as u64;
        if let Some(trace) = body.get_mut(*place..*place + 16) {
            let trace_number =
                u128::from(number / TRACE).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            trace.copy_from_slice(&(trace_number ^ u128::from(seed)).to_be_bytes());
        }
        // The span id follows its tag and length.
        if let Some(span) = body.get_mut(*place + 18..*place + 26) {
            span.copy_from_slice(&(number + 1).to_be_bytes());
        }
    }
}

fn send(address: &str, total: u64, next: &AtomicU64, seed: u32) -> std::io::Result<u64> {
    let mut body = body();
    let places: Vec<usize> = body
        .windows(MARK.len())
        .enumerate()
        .filter(|(_, window)| *window == MARK)
        .map(|(place, _)| place)
        .collect();
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut answer = [0u8; 4096];
    let mut refused = 0;
    while next.load(Ordering::Relaxed) < total {
        patch(&mut body, &places, next, seed);
        loop {
            stream.write_all(head.as_bytes())?;
            stream.write_all(&body)?;
            let len = stream.read(&mut answer)?;
            if answer.get(9..12).is_some_and(|status| status == b"200") {
                break;
            }
            if len == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            refused += 1;
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
    Ok(refused)
}

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:4318".to_owned());
    let total = arguments
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1_000_000);
    let connections = arguments
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(8);
    let next = AtomicU64::new(0);
    let seed = std::process::id();
    let bytes = body().len() as u64 / BATCH;
    let start = Instant::now();
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections)
            .map(|_| scope.spawn(|| send(&address, total, &next, seed)))
            .collect();
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    let mut refused = 0;
    for result in results {
        refused += result.map_err(|_| std::io::Error::other("a sender panicked"))??;
    }
    let spans = next.load(Ordering::Relaxed);
    let seconds = start.elapsed().as_secs_f64();
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{spans} spans of {bytes} B in {seconds:.2} s: {:.0} spans/s acknowledged, {refused} refusals",
        spans as f64 / seconds
    )
}
