use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point};
use prost::Message;

use super::*;
use crate::counters::Counters;
use crate::export::Outcome;

const SECOND: u64 = 1_000_000_000;

fn key<'a>(route: &'a [u8], status: StatusClass) -> Key<'a> {
    Key {
        direction: Direction::Inbound,
        peer: b"",
        route,
        status,
        tag: DataTag::ExportOk,
        charged: true,
        tenant: b"",
    }
}

fn amounts(cost: u64) -> Amounts {
    Amounts {
        error: false,
        cost: NanoUsd::from_nanos(cost),
        request_bytes: 10,
        response_bytes: 100,
        duration_nanos: 5_000_000,
    }
}

fn flush() -> Flush {
    let settings = LedgerSettings {
        enabled: true,
        max_keys: 10,
        interval_nanos: 5 * SECOND,
        timeout_nanos: SECOND,
    };
    Flush::new(
        settings,
        &[("service.name", "pay"), ("service.instance.id", "i1")],
    )
}

/// (requests, nano-USD) of an encoded delta, and its number.
fn totals(body: &[u8]) -> (u64, u64, i64) {
    let request = ExportMetricsServiceRequest::decode(body).unwrap();
    let scope = &request.resource_metrics[0].scope_metrics[0];
    let number = scope
        .scope
        .as_ref()
        .unwrap()
        .attributes
        .iter()
        .find(|kv| kv.key == "tracemeter.sequence");
    let Some(Value::IntValue(sequence)) = number.unwrap().value.clone().unwrap().value else {
        panic!()
    };
    let (mut requests, mut cost) = (0, 0);
    for metric in &scope.metrics {
        match metric.data.as_ref().unwrap() {
            Data::ExponentialHistogram(histogram) => {
                assert_eq!(histogram.aggregation_temporality, 1);
                for point in &histogram.data_points {
                    let buckets = point.positive.as_ref().unwrap();
                    assert_eq!(buckets.bucket_counts.iter().sum::<u64>(), point.count);
                    assert_eq!(point.scale, 2);
                    requests += point.count;
                }
            }
            Data::Sum(sum) if metric.name == "tracemeter.cost" => {
                assert!(sum.is_monotonic && sum.aggregation_temporality == 1);
                for point in &sum.data_points {
                    let Some(number_data_point::Value::AsInt(value)) = point.value else {
                        panic!()
                    };
                    cost += value as u64;
                }
            }
            _ => {}
        }
    }
    (requests, cost, sequence)
}

#[test]
fn a_stock_decoder_reads_the_sums_and_dimensions_of_a_delta() {
    let mut ledger = Ledger::new(10);
    for _ in 0..3 {
        ledger.add(
            &key(b"/pay", StatusClass::Success),
            UNNUMBERED,
            &amounts(10_000),
        );
    }
    ledger.add(
        &key(b"/pay", StatusClass::ServerError),
        UNNUMBERED,
        &Amounts {
            error: true,
            ..amounts(7)
        },
    );
    let (mut flush, mut counters) = (flush(), Counters::default());
    assert!(
        flush.poll(0, &mut ledger, &mut counters).is_none(),
        "not due yet"
    );
    let (sequence, body) = flush.poll(5 * SECOND, &mut ledger, &mut counters).unwrap();
    assert_eq!((sequence, totals(&body)), (1, (4, 30_007, 1)));
    let request = ExportMetricsServiceRequest::decode(&*body).unwrap();
    let resource = request.resource_metrics[0].resource.as_ref().unwrap();
    assert!(
        resource
            .attributes
            .iter()
            .any(|kv| kv.key == "service.instance.id")
    );
    let text = format!("{request:?}");
    for wanted in [
        "http.route",
        "/pay",
        "2xx",
        "5xx",
        "EXPORT_OK",
        "this_side",
        "inbound",
    ] {
        assert!(text.contains(wanted), "{wanted}");
    }
}

#[test]
fn a_delta_is_sent_again_unchanged_until_it_is_acknowledged_and_nothing_is_dropped_meanwhile() {
    let mut ledger = Ledger::new(10);
    let (mut flush, mut counters) = (flush(), Counters::default());
    ledger.add(&key(b"/a", StatusClass::Success), UNNUMBERED, &amounts(1));
    assert!(flush.poll(0, &mut ledger, &mut counters).is_none());
    let (first, body) = flush.poll(5 * SECOND, &mut ledger, &mut counters).unwrap();
    for _ in 0..100 {
        ledger.add(&key(b"/a", StatusClass::Success), UNNUMBERED, &amounts(1));
    }
    assert!(
        flush.poll(6 * SECOND, &mut ledger, &mut counters).is_none(),
        "one at a time"
    );
    flush.on_outcome(
        first,
        Outcome::from_status(503, None),
        6 * SECOND,
        0,
        &mut counters,
    );
    let (again, same) = flush.poll(60 * SECOND, &mut ledger, &mut counters).unwrap();
    assert_eq!((first, &body), (again, &same));
    flush.on_outcome(again, Outcome::Accepted, 60 * SECOND, 0, &mut counters);
    let (second, rest) = flush.poll(61 * SECOND, &mut ledger, &mut counters).unwrap();
    assert_eq!((second, totals(&rest)), (2, (100, 100, 2)));
}

#[test]
fn a_delta_without_an_answer_is_sent_again() {
    let mut ledger = Ledger::new(10);
    let (mut flush, mut counters) = (flush(), Counters::default());
    ledger.add(&key(b"/a", StatusClass::Success), UNNUMBERED, &amounts(1));
    assert!(flush.poll(0, &mut ledger, &mut counters).is_none());
    let first = flush.poll(5 * SECOND, &mut ledger, &mut counters).unwrap();
    assert_eq!(
        flush.poll(8 * SECOND, &mut ledger, &mut counters),
        Some(first)
    );
}

#[test]
fn keys_beyond_the_limit_are_counted_together_and_the_totals_stay_exact() {
    let mut ledger = Ledger::new(3);
    for route in 0..1000_u32 {
        ledger.add(
            &key(route.to_string().as_bytes(), StatusClass::Success),
            UNNUMBERED,
            &amounts(1),
        );
    }
    let (mut flush, mut counters) = (flush(), Counters::default());
    assert!(flush.poll(0, &mut ledger, &mut counters).is_none());
    let (_, body) = flush.poll(5 * SECOND, &mut ledger, &mut counters).unwrap();
    assert_eq!(totals(&body), (1000, 1000, 1));
    assert!(body.len() < 4_000);
}

#[test]
fn numbered_keys_are_counted_like_the_texts_they_stand_for() {
    let mut rng = fastrand::Rng::with_seed(5);
    let (mut numbered, mut plain) = (Ledger::new(300), Ledger::new(300));
    for round in 0..3 {
        for _ in 0..20_000 {
            // More keys than places; two numbers of one text, as a text that was cut has them.
            let number = rng.u16(0..200);
            let route = format!("/r{}", number / 2).into_bytes();
            let texted = Key {
                charged: rng.bool(),
                tag: *rng.choice(&DataTag::ALL).unwrap(),
                ..key(&route, *rng.choice(&StatusClass::ALL).unwrap())
            };
            let numbers = Numbers {
                route: number,
                ..Numbers::default()
            };
            let packed = if rng.bool() {
                texted.packed(numbers)
            } else {
                UNNUMBERED
            };
            let added = amounts(rng.u64(0..1000));
            plain.add(&texted, UNNUMBERED, &added);
            if !numbered.add_packed(packed, &added) {
                numbered.add(&texted, packed, &added);
            }
        }
        assert_eq!(numbered.take_overflowed(), plain.take_overflowed());
        let (numbered, plain) = (numbered.take().sums, plain.take().sums);
        assert!(plain.len() > 300, "round {round} overflows");
        assert_eq!(numbered, plain);
    }
}

#[test]
fn hostile_texts_cannot_forge_another_key() {
    let mut ledger = Ledger::new(10);
    ledger.add(
        &key(b"/a\0evil", StatusClass::Success),
        UNNUMBERED,
        &amounts(1),
    );
    let sums = ledger.take();
    let (encoded, _) = sums.sums.first().unwrap();
    let parts: Vec<_> = attributes(encoded).collect();
    assert!(
        parts.contains(&("http.route", b"/a?evil".as_slice())),
        "{parts:?}"
    );
    assert!(!parts.iter().any(|(name, _)| *name == "server.address"));
}

#[test]
fn status_classes_follow_the_protocol() {
    use StatusClass as S;
    for (http, grpc, reset, wanted) in [
        (Some(101), None, false, S::Informational),
        (Some(204), None, false, S::Success),
        (Some(302), None, false, S::Redirection),
        (Some(404), None, false, S::ClientError),
        (Some(503), None, true, S::ServerError),
        (Some(200), Some(0), false, S::Success),
        (Some(200), Some(5), false, S::GrpcError),
        (None, None, true, S::Reset),
        (None, None, false, S::ClientLeft),
    ] {
        assert_eq!(S::of(http, grpc, reset), wanted);
    }
}
