//! A filter's ledger deltas with decided traces.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

use super::{Collector, attribute, now_ns, post};

/// Traces decided for one route in one delta.
#[derive(Clone)]
pub(crate) struct Decided(String, i64);

pub(crate) fn decided(route: &str, count: i64) -> Decided {
    Decided(route.to_owned(), count)
}

/// One filter instance.
pub(crate) struct Filter {
    service: String,
    instance: String,
    /// Deltas sent so far.
    pub(crate) sent: i64,
    last_ns: u64,
}

impl Filter {
    pub(crate) fn new(service: &str, instance: &str) -> Self {
        Self {
            service: service.to_owned(),
            instance: instance.to_owned(),
            sent: 0,
            last_ns: now_ns() - 1_000_000,
        }
    }

    /// Sends the next delta.
    pub(crate) fn send(&mut self, collector: &Collector, counts: &[Decided]) {
        self.send_again(collector, counts, 1);
    }

    /// Sends the next delta several times, as after lost answers.
    pub(crate) fn send_again(&mut self, collector: &Collector, counts: &[Decided], times: usize) {
        self.sent += 1;
        let until_ns = now_ns();
        let body = self.delta(counts, until_ns).encode_to_vec();
        self.last_ns = until_ns;
        let headers = [("content-type", "application/x-protobuf")];
        for _ in 0..times {
            let reply = post(collector.http, "/v1/metrics", &headers, &body).unwrap();
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
    }

    fn delta(&self, counts: &[Decided], until_ns: u64) -> ExportMetricsServiceRequest {
        let text = |key: &str, value: &str| attribute(key, Value::StringValue(value.into()));
        let points = counts.iter().map(|Decided(route, count)| NumberDataPoint {
            attributes: vec![text("http.route", route)],
            start_time_unix_nano: self.last_ns,
            time_unix_nano: until_ns,
            value: Some(number_data_point::Value::AsInt(*count)),
            ..NumberDataPoint::default()
        });
        let metric = Metric {
            name: "tracemeter.traces.decided".into(),
            unit: "{trace}".into(),
            data: Some(Data::Sum(Sum {
                data_points: points.collect(),
                aggregation_temporality: 1,
                is_monotonic: true,
            })),
            ..Metric::default()
        };
        let scope = InstrumentationScope {
            name: "tracemeter".into(),
            attributes: vec![attribute("tracemeter.sequence", Value::IntValue(self.sent))],
            ..InstrumentationScope::default()
        };
        ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(Resource {
                    attributes: vec![
                        text("service.name", &self.service),
                        text("service.instance.id", &self.instance),
                    ],
                    ..Resource::default()
                }),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(scope),
                    metrics: vec![metric],
                    ..ScopeMetrics::default()
                }],
                ..ResourceMetrics::default()
            }],
        }
    }
}
