//! The policy's alert queries, compiled to what the assembly counts.

use mesh_config::Policy;
use mesh_config::policy::{Aggregate, AlertQuery, Comparison};
use mesh_config::rule::Condition;

use super::traces::{Total, Trace};

/// Nano-USD of a dollar.
const NANOS: f64 = 1e9;

/// One alert query.
#[derive(Debug)]
pub(super) enum Counts {
    /// Spans whose parent has not arrived within the grace.
    Orphans,
    /// Spans that no price of the policy names an operation for, and that bring no cost.
    Unpriced,
    /// Spans without an attribute.
    Without(String),
    /// Spans that meet a condition.
    Where(Condition),
    /// Traces, once each, when a number of theirs passes a bound.
    Traces(Measure, Comparison, f64),
}

/// A number of a trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Measure {
    /// Spans on the longest chain.
    Depth,
    /// Exact sum of own costs, in nano-USD.
    Cost,
    /// A combination of an attribute's values, by number in [`Watches::attributes`].
    Combined(Aggregate, usize),
}

impl Measure {
    /// The number, if the trace has it.
    pub(super) fn of(self, trace: &Trace) -> Option<f64> {
        match self {
            Self::Depth => Some(f64::from(trace.graph.depth())),
            // Exact up to nine million dollars.
            Self::Cost => Some(trace.cost_nanos as f64),
            Self::Combined(aggregate, at) => {
                let total = trace.totals.get(at).filter(|total| total.count > 0)?;
                Some(combined(aggregate, total))
            }
        }
    }
}

fn combined(aggregate: Aggregate, total: &Total) -> f64 {
    match aggregate {
        Aggregate::Sum => total.sum,
        Aggregate::Max => total.max,
        Aggregate::Avg => total.sum / f64::from(total.count),
        Aggregate::Count => f64::from(total.count),
    }
}

/// The queries of all alerts, in their order.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    pub(super) list: Vec<Counts>,
    /// Attributes that are combined by trace.
    pub(super) attributes: Vec<String>,
    /// True when some condition can only be judged once a trace is quiet.
    pub(super) settles: bool,
}

impl Watches {
    /// Compiles the alerts of a policy.
    pub(crate) fn new(policy: &Policy) -> Self {
        let mut watches = Self::default();
        for alert in &policy.alerts {
            let counts = match &alert.query {
                AlertQuery::OrphanedSpans => Counts::Orphans,
                AlertQuery::SpansWithout { attribute } if attribute == "cost_usd" => {
                    Counts::Unpriced
                }
                AlertQuery::SpansWithout { attribute } => Counts::Without(attribute.clone()),
                AlertQuery::SpansWhere(condition) => Counts::Where(condition.clone()),
                AlertQuery::TraceDepth { comparison, value } => {
                    Counts::Traces(Measure::Depth, *comparison, *value)
                }
                AlertQuery::ByTrace {
                    aggregate,
                    attribute,
                    comparison,
                    value,
                } => watches.by_trace(*aggregate, attribute, *comparison, *value),
            };
            watches.settles |= counts.settles();
            watches.list.push(counts);
        }
        watches
    }

    fn by_trace(
        &mut self,
        aggregate: Aggregate,
        attribute: &str,
        comparison: Comparison,
        value: f64,
    ) -> Counts {
        // Money is compared in whole nano-USD: 100 spans of 0.001 are not more than 0.1.
        let bound = if attribute == "cost_usd" && aggregate != Aggregate::Count {
            (value * NANOS).round()
        } else {
            value
        };
        if (aggregate, attribute) == (Aggregate::Sum, "cost_usd") {
            return Counts::Traces(Measure::Cost, comparison, bound);
        }
        let known = self.attributes.iter().position(|name| name == attribute);
        let at = known.unwrap_or_else(|| {
            self.attributes.push(attribute.to_owned());
            self.attributes.len() - 1
        });
        Counts::Traces(Measure::Combined(aggregate, at), comparison, bound)
    }
}

impl Counts {
    /// True for queries whose answer could be taken back by a later span: they are judged when
    /// the trace is quiet.
    pub(super) fn settles(&self) -> bool {
        match self {
            Self::Traces(measure, comparison, _) => {
                let rises = !matches!(measure, Measure::Combined(Aggregate::Avg, _));
                let above = matches!(comparison, Comparison::Greater | Comparison::GreaterOrEqual);
                !(rises && above)
            }
            _ => false,
        }
    }
}
