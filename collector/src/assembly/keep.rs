//! Which rules of the policy a whole trace meets: they decide what stays in which tier.
//!
//! `sampling.critical_flows` and `sampling.priority_rules` are asked again once the collector
//! has the trace. A tier then keeps the trace with the larger of its own share and the rule's
//! rate, by the trace's own randomness, so tiers stay nested and estimates unbiased.
//!
//! Rules about the trace alone (its cost, time, class, errors, size) are judged when retention
//! looks at it, by everything that is stored of it. Rules that ask for attributes of spans are
//! judged as spans arrive, with what is known of the trace by then; they hold for the trace as
//! soon as they hold with any of its spans.

use mesh_config::money::NanoUsd;
use mesh_config::rule::{Attribute, Attributes, Condition, Lookup, Value};
use mesh_config::sampling::Threshold;
use mesh_config::{DataTag, Policy};

use super::facts::SpanFacts;
use super::traces::Trace;

#[derive(Debug)]
struct Rule {
    condition: Condition,
    threshold: Threshold,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct KeepRules {
    whole: Vec<Rule>,
    spans: Vec<Rule>,
}

/// What is stored of a trace.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct WholeTrace {
    /// Sum of own costs.
    pub(crate) cost_nanos: u64,
    /// Spans.
    pub(crate) spans: u64,
    /// Spans on the longest chain.
    pub(crate) depth: u32,
    /// True when any span is in the error class.
    pub(crate) error: bool,
    /// The strictest class.
    pub(crate) class: DataTag,
    /// Earliest start.
    pub(crate) first_ns: i64,
    /// Latest end.
    pub(crate) last_ns: i64,
}

impl WholeTrace {
    fn value(&self, attribute: &Attribute) -> Option<Value<'static>> {
        let duration = self.last_ns.saturating_sub(self.first_ns).max(0);
        Some(match attribute {
            Attribute::Error => Value::Bool(self.error),
            Attribute::CostUsd | Attribute::TraceCostUsd => {
                Value::Money(NanoUsd::from_nanos_saturating(self.cost_nanos.into()))
            }
            Attribute::DurationMs | Attribute::TraceDurationMs => {
                Value::Nanos(duration.unsigned_abs())
            }
            Attribute::DataTag => Value::Tag(self.class),
            Attribute::TraceSpans => Value::Number(self.spans as f64),
            Attribute::TraceDepth => Value::Number(self.depth.into()),
            _ => return None,
        })
    }
}

impl Attributes for WholeTrace {
    fn get(&self, attribute: &Attribute) -> Lookup<'_> {
        self.value(attribute).map_or(Lookup::Unknown, Lookup::Value)
    }
}

/// A span and what is known of its trace so far.
struct SoFar<'a> {
    span: &'a SpanFacts<'a>,
    trace: WholeTrace,
    hitl: bool,
}

impl Attributes for SoFar<'_> {
    fn get(&self, attribute: &Attribute) -> Lookup<'_> {
        match attribute {
            Attribute::HitlRequired if self.hitl => Lookup::Value(Value::Bool(true)),
            // A later span may still bring it.
            Attribute::HitlRequired => Lookup::Unknown,
            Attribute::Error if !self.trace.error => Lookup::Unknown,
            attribute => match self.trace.value(attribute) {
                Some(value) if attribute.only_grows() => Lookup::AtLeast(value),
                Some(value) => Lookup::Value(value),
                None => self.span.get(attribute),
            },
        }
    }
}

impl KeepRules {
    /// Compiles the rules of a policy.
    pub(crate) fn new(policy: &Policy) -> Self {
        let flows = policy.sampling.critical_flows.iter();
        let flows = flows.map(|condition| (condition, 1.0));
        let rules = policy.sampling.priority_rules.iter();
        let rules = rules.map(|rule| (&rule.condition, rule.sample_rate.get()));
        let mut compiled = Self::default();
        for (condition, rate) in flows.chain(rules) {
            // A rate so small that nothing is kept raises nothing.
            let Some(threshold) = Threshold::from_probability(rate) else {
                continue;
            };
            let whole = WholeTrace::default();
            let asked = condition.attributes();
            let list = if asked.iter().all(|asked| whole.value(asked).is_some()) {
                &mut compiled.whole
            } else {
                &mut compiled.spans
            };
            list.push(Rule {
                condition: condition.clone(),
                threshold,
            });
        }
        compiled
    }

    /// The threshold of the rules that hold for a trace as a whole.
    pub(crate) fn of_trace(&self, trace: &WholeTrace) -> Option<Threshold> {
        lowest(&self.whole, trace)
    }

    /// The threshold of the rules that hold since this span.
    pub(super) fn of_span(&self, trace: &mut Trace, span: &SpanFacts<'_>) -> Option<Threshold> {
        if self.spans.is_empty() {
            return None;
        }
        trace.hitl = trace.hitl || is_true(span.get(&Attribute::HitlRequired));
        let so_far = SoFar {
            span,
            trace: WholeTrace {
                cost_nanos: trace.cost_nanos,
                spans: trace.spans.into(),
                depth: trace.graph.depth(),
                error: trace.error,
                class: trace.class,
                first_ns: trace.first_ns,
                last_ns: trace.last_ns,
            },
            hitl: trace.hitl,
        };
        lowest(&self.spans, &so_far)
    }
}

fn is_true(found: Lookup<'_>) -> bool {
    match found {
        Lookup::Value(Value::Bool(flag)) => flag,
        Lookup::Value(Value::Bytes(text)) => text.eq_ignore_ascii_case(b"true") || text == b"1",
        _ => false,
    }
}

fn lowest(rules: &[Rule], attributes: &impl Attributes) -> Option<Threshold> {
    let holding = rules
        .iter()
        .filter(|rule| rule.condition.eval(attributes).is_true());
    holding
        .map(|rule| rule.threshold)
        .min_by_key(|threshold| threshold.value())
}
