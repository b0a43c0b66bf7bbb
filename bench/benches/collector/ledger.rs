//! A day of the filters' ledger: one delta per service, pod and minute.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum, number_data_point,
};
use prost::Message as _;

use crate::load::Client;
use crate::shape::{ROUTES, SERVICES, attribute, resource, text};

const MINUTES: u64 = 1_440;
const MINUTE_NS: u64 = 60_000_000_000;
/// Delta temporality.
const DELTA: i32 = 1;

/// Sends the deltas of 24 hours from `start_ns` on.
pub(crate) fn send(client: &mut Client, start_ns: u64) {
    for minute in 0..MINUTES {
        let time_ns = start_ns + minute * MINUTE_NS;
        let resource_metrics = SERVICES
            .iter()
            .enumerate()
            .map(|(index, service)| delta(service, index as u32, minute + 1, time_ns))
            .collect();
        client.post(
            "/v1/metrics",
            &ExportMetricsServiceRequest { resource_metrics }.encode_to_vec(),
        );
    }
}

fn delta(service: &str, pod: u32, sequence: u64, time_ns: u64) -> ResourceMetrics {
    let keys: Vec<Vec<KeyValue>> = ROUTES
        .iter()
        .flat_map(|route| ["2xx", "5xx"].map(|class| (route, class)))
        .map(|(route, class)| {
            vec![
                text("tracemeter.direction", "inbound"),
                text("tracemeter.status_class", class),
                text("tracemeter.charge_side", "server"),
                text("data_tag", "EXPORT_OK"),
                text("http.route", *route),
            ]
        })
        .collect();
    let sum = |name: &str, number: i64| Metric {
        name: name.into(),
        data: Some(Data::Sum(Sum {
            data_points: keys
                .iter()
                .map(|key| NumberDataPoint {
                    attributes: key.clone(),
                    time_unix_nano: time_ns,
                    value: Some(number_data_point::Value::AsInt(number)),
                    ..NumberDataPoint::default()
                })
                .collect(),
            aggregation_temporality: DELTA,
            is_monotonic: true,
        })),
        ..Metric::default()
    };
    let histogram = Metric {
        name: "tracemeter.requests.duration".into(),
        data: Some(Data::ExponentialHistogram(ExponentialHistogram {
            data_points: keys.iter().map(|key| point(key, time_ns)).collect(),
            aggregation_temporality: DELTA,
        })),
        ..Metric::default()
    };
    let scope = InstrumentationScope {
        name: "tracemeter".into(),
        attributes: vec![attribute(
            "tracemeter.sequence",
            Value::IntValue(sequence as i64),
        )],
        ..InstrumentationScope::default()
    };
    ResourceMetrics {
        resource: Some(resource(service, pod)),
        scope_metrics: vec![ScopeMetrics {
            scope: Some(scope),
            metrics: vec![
                histogram,
                sum("tracemeter.requests.errors", 3),
                sum("tracemeter.cost", 1_234_567),
                sum("tracemeter.request.bytes", 40_000),
                sum("tracemeter.response.bytes", 900_000),
            ],
            ..ScopeMetrics::default()
        }],
        ..ResourceMetrics::default()
    }
}

fn point(key: &[KeyValue], time_ns: u64) -> ExponentialHistogramDataPoint {
    ExponentialHistogramDataPoint {
        attributes: key.to_vec(),
        time_unix_nano: time_ns,
        count: 900,
        sum: Some(2.5e9),
        scale: 2,
        positive: Some(Buckets {
            offset: 80,
            bucket_counts: vec![20, 100, 200, 300, 200, 50, 20, 10],
        }),
        ..ExponentialHistogramDataPoint::default()
    }
}
