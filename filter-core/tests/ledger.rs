//! The ledger through the engine: totals are exact at any sampling rate and survive changes of the
//! policy, retries and a collector that is away.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use filter_core::export::{Dispatch, Outcome, Signal};
use filter_core::identity::Node;
use filter_core::{Direction, Engine, StreamEnd};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use prost::Message as _;
use support::{Bench, SECOND, policy, status_end};

/// Sums by metric and by the key's attributes, as a receiver adds them up: a delta counts once.
#[derive(Debug, Default)]
struct Receiver {
    seen: BTreeSet<(String, i64)>,
    sums: BTreeMap<(String, String), u64>,
}

fn text(value: &KeyValue) -> String {
    match value.value.as_ref().unwrap().value.as_ref().unwrap() {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

fn find(pairs: &[KeyValue], key: &str) -> String {
    let found = pairs.iter().find(|pair| pair.key == key);
    text(found.unwrap_or_else(|| panic!("no `{key}`")))
}

fn key(pairs: &[KeyValue]) -> String {
    let parts = pairs
        .iter()
        .map(|pair| format!("{}={}", pair.key, text(pair)));
    parts.collect::<Vec<_>>().join(" ")
}

impl Receiver {
    fn take(&mut self, body: &[u8]) {
        let request = ExportMetricsServiceRequest::decode(body).unwrap();
        for resource in request.resource_metrics {
            let instance = find(
                &resource.resource.unwrap().attributes,
                "service.instance.id",
            );
            for scope in resource.scope_metrics {
                let number = find(&scope.scope.unwrap().attributes, "tracemeter.sequence");
                if !self
                    .seen
                    .insert((instance.clone(), number.parse().unwrap()))
                {
                    continue;
                }
                for metric in scope.metrics {
                    match metric.data.unwrap() {
                        Data::Sum(sum) => {
                            assert_eq!(sum.aggregation_temporality, 1);
                            for point in sum.data_points {
                                let Some(number_data_point::Value::AsInt(value)) = point.value
                                else {
                                    panic!("{point:?}")
                                };
                                self.add(&metric.name, key(&point.attributes), value as u64);
                            }
                        }
                        Data::ExponentialHistogram(histogram) => {
                            for point in histogram.data_points {
                                self.add(&metric.name, key(&point.attributes), point.count);
                            }
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
    }

    fn add(&mut self, metric: &str, key: String, value: u64) {
        *self.sums.entry((metric.to_owned(), key)).or_default() += value;
    }

    fn total(&self, metric: &str) -> u64 {
        let of = self.sums.iter().filter(|((name, _), _)| name == metric);
        of.map(|(_, value)| value).sum()
    }

    fn with(&self, part: &str) -> u64 {
        let requests = "tracemeter.requests.duration";
        let of = self.sums.iter();
        let of = of.filter(|((name, key), _)| name == requests && key.contains(part));
        of.map(|(_, value)| value).sum()
    }
}

fn deltas(bench: &mut Bench) -> Receiver {
    bench.now += 10 * SECOND;
    let _ = bench.batches();
    bench.now += 10 * SECOND;
    let _ = bench.batches();
    let mut receiver = Receiver::default();
    for delta in &bench.deltas {
        receiver.take(delta);
    }
    receiver
}

#[test]
fn totals_are_exact_at_any_sampling_rate() {
    for rate in ["0", "0.01", "1"] {
        let mut bench = Bench::new(&format!(r#"{{"sampling":{{"default_rate":{rate}}}}}"#));
        let mut bytes = 0;
        for number in 0..1_000_u64 {
            let status = [200, 200, 200, 404, 503][number as usize % 5];
            let left = bench.get(if number % 2 == 0 { "/a" } else { "/b/17" }, &[]);
            let end = StreamEnd {
                request_bytes: number,
                response_bytes: 2 * number,
                ..status_end(status)
            };
            bytes += number;
            bench.end(left, 0, end);
        }
        let receiver = deltas(&mut bench);
        assert_eq!(
            receiver.total("tracemeter.requests.duration"),
            1_000,
            "{rate}"
        );
        assert_eq!(receiver.total("tracemeter.requests.errors"), 400);
        assert_eq!(receiver.total("tracemeter.request.bytes"), bytes);
        assert_eq!(receiver.total("tracemeter.response.bytes"), 2 * bytes);
        assert_eq!(receiver.with("http.route=/a"), 500);
        assert_eq!(receiver.with("http.route=/b/{id}"), 500);
        assert_eq!(receiver.with("tracemeter.status_class=5xx"), 200);
        // 10,000 n$ each, and what the bytes add, rounded per request
        let cost = receiver.total("tracemeter.cost");
        assert!((10_000_000..10_000_000 + 200_000).contains(&cost), "{cost}");
    }
}

#[test]
fn every_ending_counts_once_and_what_is_excluded_does_not() {
    let mut bench = Bench::new("{}");
    bench.exchange("/", &[], 200);
    let left = bench.get("/", &[]);
    let gone = StreamEnd {
        response_flags: 0x4000,
        ..StreamEnd::default()
    };
    bench.end(left, 5, gone);
    let refused = StreamEnd {
        response_bytes: 16,
        ..status_end(400)
    };
    bench.engine.end_malformed(Direction::Inbound, &refused);
    let export = [
        (":method", "POST"),
        (":path", "/v1/traces"),
        ("user-agent", "tracemeter/1"),
    ];
    assert!(bench.send(&export).is_none());
    bench.engine.end_excluded();
    let receiver = deltas(&mut bench);
    assert_eq!(receiver.total("tracemeter.requests.duration"), 3);
    assert_eq!(receiver.total("tracemeter.response.bytes"), 16);
    assert_eq!(receiver.with("tracemeter.status_class=client_left"), 1);
    assert_eq!(receiver.with("tracemeter.status_class=4xx"), 1);
}

#[test]
fn companions_count_too() {
    let mut bench = Bench::new(r#"{"propagation":{"mode":"companion"}}"#);
    bench.exchange("/", &[], 200);
    assert_eq!(deltas(&mut bench).total("tracemeter.requests.duration"), 1);
}

#[test]
fn outbound_requests_are_counted_by_peer_and_charged_where_the_policy_says() {
    let json = r#"{"cost":{"unmetered_destinations":["s3.*"]}}"#;
    let mut bench = Bench::at(json, Direction::Outbound);
    for host in ["pay:80", "s3.example.com"] {
        let left = bench
            .send(&[(":method", "GET"), (":path", "/"), (":authority", host)])
            .unwrap();
        bench.end(left, 0, status_end(200));
    }
    let receiver = deltas(&mut bench);
    assert_eq!(receiver.with("server.address=pay"), 1);
    assert_eq!(receiver.with("tracemeter.charge_side=this_side"), 1);
    assert_eq!(receiver.total("tracemeter.cost"), 10_000);
}

#[test]
fn tenants_are_counted_apart_up_to_their_cap() {
    let json =
        r#"{"attributes":{"tenant":{"header":"x-tenant","baggage":"tenant","max_values":2}}}"#;
    let mut bench = Bench::new(json);
    for headers in [
        &[("x-tenant", "a")][..],
        &[("baggage", "tenant=b")],
        &[("x-tenant", "c")],
        &[("x-tenant", "a"), ("baggage", "tenant=z")],
        &[],
    ] {
        bench.exchange("/", headers, 200);
    }
    let receiver = deltas(&mut bench);
    let counts =
        ["tenant=a", "tenant=b", "tenant=other", "tenant="].map(|part| receiver.with(part));
    assert_eq!(counts, [2, 1, 1, 4]);
}

fn poll(bench: &mut Bench, signal: Signal) -> Option<Dispatch> {
    let mut found = None;
    while let Some(dispatch) = bench.engine.poll_export(bench.now) {
        if dispatch.signal == signal {
            found = Some(dispatch);
        }
    }
    found
}

#[test]
fn a_change_of_policy_neither_loses_nor_doubles_a_count() {
    let mut bench = Bench::new("{}");
    let mut receiver = Receiver::default();
    bench.exchange("/", &[], 200);
    bench.now += 10 * SECOND;
    assert!(
        poll(&mut bench, Signal::Metrics).is_none(),
        "the window begins"
    );
    bench.now += 10 * SECOND;
    let first = poll(&mut bench, Signal::Metrics).unwrap();
    receiver.take(&first.body);
    bench.exchange("/", &[], 200);

    let next = Engine::new(&policy("{}"), &Node::default(), "worker-2");
    let previous = std::mem::replace(&mut bench.engine, next);
    bench.engine.take_over(previous);
    bench.exchange("/", &[], 200);

    // The answer to the first one is lost; it comes again with its number, unchanged.
    for _ in 0..20 {
        bench.now += 10 * SECOND;
        while let Some(dispatch) = bench.engine.poll_export(bench.now) {
            if dispatch.signal == Signal::Metrics {
                receiver.take(&dispatch.body);
            }
            let accepted = Outcome::Accepted;
            bench
                .engine
                .export_outcome(dispatch.id, accepted, bench.now, 0);
        }
        bench.engine.tick(bench.now);
    }
    assert_eq!(receiver.total("tracemeter.requests.duration"), 3);
    assert!(bench.engine.is_drained());
}
