//! The real binary: classified values reach neither disk nor queries, and their class stays.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod common;

use std::path::Path;

use common::{Collector, attribute, encoded, request, span, wait_for};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message as _;

const SECRET: &str = "ana@example.com";

/// Whether any file below a folder holds the secret, compressed or not.
fn holds(dir: &Path, secret: &str) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, secret);
        }
        let bytes = std::fs::read(&path).unwrap();
        let found = |bytes: &[u8]| {
            bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes())
        };
        // Payloads of the log are zstd frames.
        let frames = bytes.windows(4).enumerate();
        let starts = frames.filter(|(_, window)| *window == [0x28, 0xb5, 0x2f, 0xfd]);
        found(&bytes)
            || starts.map(|(at, _)| &bytes[at..]).any(|frame| {
                let mut decoder = zstd::stream::read::Decoder::new(frame).unwrap();
                let mut out = Vec::new();
                // What follows the frame is no frame.
                drop(std::io::Read::read_to_end(&mut decoder, &mut out));
                found(&out)
            })
    })
}

#[test]
fn a_classified_value_is_on_no_disk_and_in_no_answer_but_its_class_is() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut telling = span(1, 1);
    let note = format!("to {SECRET}, please");
    telling
        .attributes
        .push(attribute("note", Value::StringValue(note.clone())));
    // A span that is refused is in the same request; the other one is stored.
    let mut bad = telling.clone();
    bad.trace_id = vec![0; 16];
    let body = encoded("shop", vec![telling.clone(), bad]);
    for (mode, expected) in [("mask", "to ***, please"), ("off", note.as_str())] {
        let policy = dir.path().join("policy.yaml");
        let text = format!("classification: {{redaction: {{mode: {mode}}}}}\n");
        std::fs::write(&policy, text).unwrap();
        let args = ["--policy", policy.to_str().unwrap(), "--generation-age"];
        let start = |age: &str| {
            let args: Vec<_> = args.into_iter().chain([age]).collect();
            Collector::start(dir.path(), &args)
        };
        drop(std::fs::remove_dir_all(&data));
        let collector = start("600");
        let reply = collector.send(&body).unwrap();
        let reply = ExportTraceServiceResponse::decode(&*reply.body).unwrap();
        assert_eq!(reply.partial_success.unwrap().rejected_spans, 1);
        let json = serde_json::to_vec(&request("json", vec![telling.clone()])).unwrap();
        let headers = [("content-type", "application/json")];
        let reply = common::post(collector.http, "/v1/traces", &headers, &json).unwrap();
        assert_eq!(reply.status, 200);
        let rows = || collector.sql("SELECT attributes, data_tag, retention_days FROM spans");
        assert_eq!(rows()[0]["data_tag"], "PII");
        assert_eq!(rows()[0]["retention_days"], 30);
        assert!(rows()[0].to_string().contains(expected), "{:?}", rows());
        assert_eq!(
            holds(&data, SECRET),
            mode == "off",
            "in the log, mode {mode}"
        );
        // Killed: the log is read back, then written as a partition.
        collector.kill();
        let collector = start("0");
        wait_for("compaction", || {
            (collector.metric("tracemeter_collector_hot_spans") == 0).then_some(())
        });
        let row = &collector.sql("SELECT attributes, data_tag FROM spans")[0];
        assert!(
            row.to_string().contains(expected) && row["data_tag"] == "PII",
            "{row}"
        );
        assert_eq!(
            holds(&data, SECRET),
            mode == "off",
            "in a partition, mode {mode}"
        );
    }
}
