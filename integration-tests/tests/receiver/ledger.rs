//! The ledger's deltas as OTLP metrics, read by field number, and their exact totals.
//!
//! A delta is named by its instance and its number; one that comes again is ignored, as the
//! collector does.

use std::collections::BTreeMap;

use prost::Message as _;

use super::messages::{Resource, Scope, find};

#[derive(Clone, PartialEq, prost::Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<OfResource>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OfResource {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<OfScope>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OfScope {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Metric {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "7")]
    sum: Option<Sum>,
    #[prost(message, optional, tag = "10")]
    exponential_histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Sum {
    #[prost(message, repeated, tag = "1")]
    points: Vec<NumberPoint>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NumberPoint {
    #[prost(sfixed64, tag = "6")]
    integer: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Histogram {
    #[prost(message, repeated, tag = "1")]
    points: Vec<HistogramPoint>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HistogramPoint {
    #[prost(fixed64, tag = "4")]
    count: u64,
}

/// Sums over everything that was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) requests: u64,
    pub(crate) cost_nanos: u64,
    /// Traces that the adaptive rates decided where they began.
    pub(crate) decided: u64,
}

/// All deltas by instance and number.
#[derive(Debug, Default)]
pub(crate) struct Deltas(BTreeMap<(String, String), Totals>);

impl Deltas {
    /// Takes the body of one export request; false when it cannot be read.
    pub(super) fn take(&mut self, body: &[u8]) -> bool {
        let Ok(export) = Export::decode(body) else {
            return false;
        };
        for group in export.resources {
            let instance = group.resource.unwrap_or_default();
            let instance = instance.text("service.instance.id");
            for scope in group.scopes {
                let number = scope.scope.clone().unwrap_or_default();
                let number = number.text("tracemeter.sequence");
                assert!(
                    !number.is_empty() && !instance.is_empty(),
                    "a delta without a name"
                );
                let key = (instance.clone(), number);
                self.0.insert(key, totals(&scope.metrics));
            }
        }
        true
    }

    pub(super) fn totals(&self) -> Totals {
        let add = |sum: Totals, delta: &Totals| Totals {
            requests: sum.requests + delta.requests,
            cost_nanos: sum.cost_nanos + delta.cost_nanos,
            decided: sum.decided + delta.decided,
        };
        self.0.values().fold(Totals::default(), add)
    }
}

fn totals(metrics: &[Metric]) -> Totals {
    let mut totals = Totals::default();
    for metric in metrics {
        if metric.name == "tracemeter.requests.duration" {
            let points = metric
                .exponential_histogram
                .iter()
                .flat_map(|data| &data.points);
            totals.requests += points.map(|point| point.count).sum::<u64>();
            continue;
        }
        let points = metric.sum.iter().flat_map(|data| &data.points);
        let sum = points.map(|point| point.integer as u64).sum::<u64>();
        match metric.name.as_str() {
            "tracemeter.cost" => totals.cost_nanos += sum,
            "tracemeter.traces.decided" => totals.decided += sum,
            _ => {}
        }
    }
    totals
}

impl Resource {
    fn text(&self, key: &str) -> String {
        find(&self.attributes, key)
    }
}

impl Scope {
    fn text(&self, key: &str) -> String {
        find(&self.attributes, key)
    }
}
