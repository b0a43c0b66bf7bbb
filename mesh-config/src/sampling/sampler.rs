//! The policy's rates, compiled for one service in one environment.

use super::{Reason, Threshold};
use crate::policy::{ErrorClasses, Policy, Table};
use crate::rule::{Attribute, Attributes, Condition, Phase, Tri};
use crate::units::Probability;

/// What the policy says about a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Keep iff the trace's randomness is at least this; `None` keeps nothing.
    pub threshold: Option<Threshold>,
    /// Where the largest probability comes from; for `threshold` `None` why there is none.
    pub reason: Reason,
    /// Index of the priority rule that gave the probability.
    pub rule: Option<u16>,
    /// Whether a rule could still raise the probability when more is known.
    pub pending: bool,
    /// Whether a rule keeps the trace whatever the base rate is: then no controller has a say.
    pub forced: bool,
}

/// Where the probability that holds without any rule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseRate {
    /// The static rates of the policy.
    Policy,
    /// The controller's threshold for this request's key, where the policy lets it have a say.
    Adaptive(Threshold),
    /// None: another hop has decided by the controller's rates, and asking again with the rates of
    /// another time or place would keep a part of a trace. Where the policy exempts the service
    /// from the controller, its static rates hold.
    Decided,
}

impl Verdict {
    /// Nothing keeps the trace.
    pub const NOTHING: Self = Self {
        threshold: None,
        reason: Reason::NotSampled,
        rule: None,
        pending: false,
        forced: false,
    };

    /// Takes over a candidate that keeps more; on a tie what stands first stays.
    #[inline(never)]
    fn offer(&mut self, rate: Rate, reason: Reason, rule: Option<u16>) {
        let Some(threshold) = rate.threshold else {
            return;
        };
        if self
            .threshold
            .is_none_or(|held| threshold.value() < held.value())
        {
            self.threshold = Some(threshold);
            self.reason = reason;
            self.rule = rule;
        }
    }
}

/// A probability with its threshold, computed once.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rate {
    threshold: Option<Threshold>,
}

impl Rate {
    fn new(rate: Probability) -> Self {
        Self {
            threshold: Threshold::from_probability(rate.get()),
        }
    }
}

#[derive(Clone, Debug)]
struct Rule {
    condition: Condition,
    rate: Rate,
    reason: Reason,
    index: Option<u16>,
    phase: Phase,
}

/// The policy's rates, compiled for one service in one environment.
#[derive(Clone, Debug)]
pub struct Sampler {
    base: Rate,
    base_reason: Reason,
    /// Rates below the environment's are raised to it.
    floor: Option<Rate>,
    adaptive: bool,
    classes: Vec<(Condition, Rate)>,
    rules: Vec<Rule>,
    /// Those of them that can be open until the response has ended.
    late: Vec<Rule>,
    /// Whether each of those compares a measure.
    late_measured: bool,
    head: Vec<Attribute>,
    end: Vec<Attribute>,
}

impl Sampler {
    /// Compiles `policy` for `service` in `environment` (either may be empty).
    pub fn new(policy: &Policy, service: &str, environment: &str) -> Self {
        let sampling = &policy.sampling;
        let environment_rate = sampling.environments.get(environment).copied();
        let raises = environment_rate.filter(|rate| *rate >= sampling.default_rate);
        let service_rate = service_rate(&sampling.service_rates, service);
        let (base, base_reason) = match (service_rate, environment_rate) {
            (Some(rate), _) => (rate, Reason::ServiceRate),
            (None, Some(rate)) => (rate, Reason::EnvironmentRate),
            (None, None) => (sampling.default_rate, Reason::DefaultRate),
        };
        // A service with a rate of its own has no route classes: its rate is the more special.
        let classes = match service_rate {
            Some(_) => Vec::new(),
            None => sampling
                .route_classes
                .iter()
                .map(|class| (class.when.clone(), Rate::new(class.rate)))
                .collect(),
        };
        let exempt = raises.is_some()
            || service_rate.is_some_and(|rate| rate >= Probability::ONE)
            || sampling
                .adaptive
                .exempt
                .iter()
                .any(|name| same_service(name, service));
        let rules = rules(policy);
        let (head, end) = needs(&classes, &rules);
        let late: Vec<Rule> = rules
            .iter()
            .filter(|rule| rule.phase > Phase::Request)
            .cloned()
            .collect();
        Self {
            base: Rate::new(base),
            base_reason,
            floor: raises.map(Rate::new),
            adaptive: sampling.adaptive.enabled && !exempt,
            classes,
            late_measured: late.iter().all(|rule| rule.condition.compares_measure()),
            late,
            rules,
            head,
            end,
        }
    }

    /// Whether the controller's rate takes the place of the base rate.
    pub const fn is_adaptive(&self) -> bool {
        self.adaptive
    }

    /// The attributes that [`Sampler::head`] can ask for, each once.
    pub fn head_attributes(&self) -> &[Attribute] {
        &self.head
    }

    /// The attributes that [`Sampler::end`] can ask for, each once.
    pub fn end_attributes(&self) -> &[Attribute] {
        &self.end
    }

    /// The verdict when the request's headers have arrived. `adaptive` is the controller's
    /// threshold for this request's key, if it has given one.
    pub fn head(&self, attributes: &impl Attributes, adaptive: Option<Threshold>) -> Verdict {
        let base = adaptive.map_or(BaseRate::Policy, BaseRate::Adaptive);
        self.head_with(attributes, base)
    }

    /// [`Sampler::head`] where another hop may have decided already.
    pub fn head_with(&self, attributes: &impl Attributes, base: BaseRate) -> Verdict {
        let mut verdict = Verdict::NOTHING;
        self.head_into(attributes, base, &mut verdict);
        verdict
    }

    /// [`Sampler::head_with`] in place: `verdict` is [`Verdict::NOTHING`] before.
    pub fn head_into(&self, attributes: &impl Attributes, base: BaseRate, verdict: &mut Verdict) {
        let base = if self.adaptive {
            base
        } else {
            BaseRate::Policy
        };
        match base {
            BaseRate::Policy => self.offer_base(attributes, verdict),
            BaseRate::Adaptive(threshold) => {
                let threshold = Some(threshold);
                verdict.offer(Rate { threshold }, Reason::AdaptiveRate, None);
            }
            BaseRate::Decided => {}
        }
        offer_rules(&self.rules, attributes, verdict);
        if verdict.threshold.is_none() && base != BaseRate::Decided {
            verdict.reason = Reason::RateZero;
        }
    }

    /// Whether [`Measures`](crate::rule::Measures) are all that [`Sampler::end`] asks for.
    pub const fn end_compares_measures(&self) -> bool {
        self.late_measured
    }

    /// The verdict of what became known when the response has ended: only rules that could be
    /// open until then. It is to be combined with the head's; alone it keeps nothing.
    pub fn end(&self, attributes: &impl Attributes) -> Verdict {
        let mut verdict = Verdict::NOTHING;
        self.end_into(attributes, &mut verdict);
        verdict
    }

    /// [`Sampler::end`] in place: `verdict` is [`Verdict::NOTHING`] before.
    pub fn end_into(&self, attributes: &impl Attributes, verdict: &mut Verdict) {
        offer_rules(&self.late, attributes, verdict);
    }

    fn offer_base(&self, attributes: &impl Attributes, verdict: &mut Verdict) {
        let class = self
            .classes
            .iter()
            .find(|(when, _)| when.eval(attributes).is_true());
        match class {
            Some((_, rate)) => verdict.offer(*rate, Reason::RouteRate, None),
            None => verdict.offer(self.base, self.base_reason, None),
        }
        if let Some(floor) = self.floor {
            verdict.offer(floor, Reason::EnvironmentRate, None);
        }
    }
}

/// One loop for the head and the end: what runs with every request is there once.
#[inline(never)]
fn offer_rules(rules: &[Rule], attributes: &dyn Attributes, verdict: &mut Verdict) {
    let measures = attributes.measures();
    for rule in rules {
        match rule.condition.eval_with(measures, attributes) {
            Tri::True => {
                verdict.forced |= rule.rate.threshold == Some(Threshold::ALWAYS);
                verdict.offer(rule.rate, rule.reason, rule.index);
            }
            Tri::Unknown => verdict.pending = true,
            Tri::False => {}
        }
    }
}

/// Critical flows, priority rules and error classes as one list.
fn rules(policy: &Policy) -> Vec<Rule> {
    let sampling = &policy.sampling;
    let mut rules = Vec::new();
    for condition in &sampling.critical_flows {
        rules.push(Rule {
            phase: condition.phase(),
            condition: condition.clone(),
            rate: Rate::new(Probability::ONE),
            reason: Reason::CriticalFlow,
            index: None,
        });
    }
    for (index, rule) in sampling.priority_rules.iter().enumerate() {
        rules.push(Rule {
            phase: rule.condition.phase(),
            condition: rule.condition.clone(),
            rate: Rate::new(rule.sample_rate),
            reason: rule_reason(&rule.condition),
            index: u16::try_from(index).ok(),
        });
    }
    let ErrorClasses {
        http_4xx,
        http_5xx,
        grpc,
        reset,
        rate,
    } = sampling.error_classes;
    if (http_4xx || http_5xx || grpc || reset) && rate > Probability::ZERO {
        let condition = Condition::constant("error = true");
        rules.push(Rule {
            phase: condition.phase(),
            condition,
            rate: Rate::new(rate),
            reason: Reason::Error,
            index: None,
        });
    }
    rules
}

/// What a priority rule is about, by the most telling attribute it asks for.
fn rule_reason(condition: &Condition) -> Reason {
    let about: [(&[Attribute], Reason); 5] = [
        (&[Attribute::Error], Reason::Error),
        (
            &[Attribute::CostUsd, Attribute::TraceCostUsd],
            Reason::Expensive,
        ),
        (
            &[Attribute::DurationMs, Attribute::TraceDurationMs],
            Reason::Slow,
        ),
        (&[Attribute::DataTag], Reason::DataClass),
        (&[Attribute::HitlRequired], Reason::HumanReview),
    ];
    for (attributes, reason) in about {
        if attributes.iter().any(|attribute| condition.uses(attribute)) {
            return reason;
        }
    }
    Reason::PriorityRule
}

/// The attributes that head and end ask for.
fn needs(classes: &[(Condition, Rate)], rules: &[Rule]) -> (Vec<Attribute>, Vec<Attribute>) {
    let mut head = Vec::new();
    let mut end = Vec::new();
    for (condition, _) in classes {
        add(&mut head, condition);
    }
    for rule in rules {
        add(&mut head, &rule.condition);
        if rule.phase > Phase::Request {
            add(&mut end, &rule.condition);
        }
    }
    (head, end)
}

fn add(list: &mut Vec<Attribute>, condition: &Condition) {
    for attribute in condition.attributes() {
        if !list.contains(attribute) {
            list.push(attribute.clone());
        }
    }
}

fn service_rate(rates: &Table<Probability>, service: &str) -> Option<Probability> {
    let exact = rates.get(service).copied();
    exact.or_else(|| {
        rates
            .iter()
            .find(|(name, _)| same_service(name, service))
            .map(|(_, rate)| *rate)
    })
}

/// Kubernetes names have `-` where the specification writes `_`.
fn same_service(left: &str, right: &str) -> bool {
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte };
    !right.is_empty() && left.bytes().map(plain).eq(right.bytes().map(plain))
}
