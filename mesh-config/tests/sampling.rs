//! Rates: precedence, environments, rules, and what waits for the end of the response.

#![cfg(feature = "yaml")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use mesh_config::rule::{Attribute, Attributes, Lookup, Value};
use mesh_config::sampling::{Reason, Sampler, Threshold};
use mesh_config::{DataTag, Policy};

const SAMPLING: &str = include_str!("spec/sampling_rules.yaml");

/// A request as a list of what is known; the rest is unknown until the end, then absent.
struct Request(Vec<(Attribute, Lookup<'static>)>, bool);

impl Attributes for Request {
    fn get(&self, attribute: &Attribute) -> Lookup<'_> {
        let found = self.0.iter().find(|(name, _)| name == attribute);
        match found {
            Some((_, lookup)) => *lookup,
            None if self.1 => Lookup::Absent,
            None => Lookup::Unknown,
        }
    }
}

fn policy(text: &str) -> Policy {
    Policy::from_yaml(text, "test.yaml")
        .unwrap_or_else(|errors| panic!("{errors}"))
        .policy
}

fn head(text: &str, service: &str, environment: &str) -> (Option<f64>, Reason) {
    let sampler = Sampler::new(&policy(text), service, environment);
    let verdict = sampler.head(&Request(Vec::new(), false), None);
    (
        verdict.threshold.map(Threshold::probability),
        verdict.reason,
    )
}

fn close(found: (Option<f64>, Reason), rate: f64, reason: Reason) {
    assert!(
        (found.0.unwrap_or(0.0) - rate).abs() < 1e-4,
        "{found:?} instead of {rate}"
    );
    assert_eq!(found.1, reason);
}

#[test]
fn base_rate_is_service_then_route_class_then_default() {
    close(head(SAMPLING, "checkout", ""), 0.1, Reason::DefaultRate);
    close(
        head(SAMPLING, "analytics_service", ""),
        0.01,
        Reason::ServiceRate,
    );
    close(
        head(SAMPLING, "payment_service", ""),
        1.0,
        Reason::ServiceRate,
    );
    let classes = "sampling: {route_classes: [{name: busy, when: 'url.path = /ping', rate: 0.01}]}";
    let sampler = Sampler::new(&policy(classes), "any", "");
    let ping = Request(
        vec![(Attribute::UrlPath, Lookup::Value(Value::Bytes(b"/ping")))],
        false,
    );
    assert_eq!(sampler.head(&ping, None).reason, Reason::RouteRate);
}

#[test]
fn kubernetes_names_match_the_specification_names() {
    close(
        head(SAMPLING, "payment-service", ""),
        1.0,
        Reason::ServiceRate,
    );
}

#[test]
fn environment_above_default_is_a_floor_and_below_replaces_default() {
    close(
        head(SAMPLING, "analytics_service", "staging"),
        1.0,
        Reason::EnvironmentRate,
    );
    let production = format!("{SAMPLING}\n  environments: {{production: 0.05}}");
    close(
        head(&production, "checkout", "production"),
        0.05,
        Reason::EnvironmentRate,
    );
    close(
        head(&production, "analytics_service", "production"),
        0.01,
        Reason::ServiceRate,
    );
    close(
        head(&production, "payment_service", "production"),
        1.0,
        Reason::ServiceRate,
    );
}

#[test]
fn rate_zero_keeps_nothing_and_says_so() {
    close(
        head("sampling: {default_rate: 0}", "any", ""),
        0.0,
        Reason::RateZero,
    );
}

#[test]
fn matching_rules_combine_as_the_largest_probability() {
    let sampler = Sampler::new(&policy(SAMPLING), "checkout", "");
    let costly = vec![
        (Attribute::CostUsd, Lookup::AtLeast(Value::Number(0.02))),
        (
            Attribute::DataTag,
            Lookup::AtLeast(Value::Tag(DataTag::ExportOk)),
        ),
        (Attribute::HitlRequired, Lookup::Value(Value::Bool(false))),
    ];
    let verdict = sampler.head(&Request(costly, false), None);
    assert_eq!(verdict.threshold, Some(Threshold::ALWAYS));
    assert_eq!((verdict.reason, verdict.rule), (Reason::Expensive, Some(1)));
    assert!(verdict.pending, "errors and duration are not known yet");
}

#[test]
fn end_decides_only_what_was_open() {
    let sampler = Sampler::new(&policy(SAMPLING), "checkout", "");
    let end = |error, ms| {
        let known = vec![
            (Attribute::Error, Lookup::Value(Value::Bool(error))),
            (Attribute::DurationMs, Lookup::Value(Value::Number(ms))),
            (Attribute::HitlRequired, Lookup::Value(Value::Bool(true))),
        ];
        sampler.end(&Request(known, true))
    };
    assert_eq!(end(false, 10.0).threshold, None);
    assert_eq!(end(false, 10.0).reason, Reason::NotSampled);
    let slow = end(false, 1500.0);
    assert_eq!(slow.reason, Reason::Slow);
    assert_eq!(slow.threshold.map(Threshold::probability), Some(0.5));
    let failed = end(true, 1500.0);
    assert_eq!(
        (failed.reason, failed.threshold),
        (Reason::Error, Some(Threshold::ALWAYS))
    );
}

#[test]
fn adaptive_rate_takes_the_place_of_the_base_rate_only() {
    let adaptive = Threshold::from_probability(0.25);
    let open = Request(Vec::new(), false);
    let sampler = |service, environment| Sampler::new(&policy(SAMPLING), service, environment);
    let verdict = sampler("checkout", "").head(&open, adaptive);
    assert_eq!(
        (verdict.threshold, verdict.reason),
        (adaptive, Reason::AdaptiveRate)
    );
    let exempt = sampler("robot_control", "").head(&open, adaptive);
    assert_eq!(exempt.reason, Reason::ServiceRate);
    let staging = sampler("checkout", "staging").head(&open, adaptive);
    assert_eq!(staging.reason, Reason::EnvironmentRate);
    let hitl = vec![(Attribute::HitlRequired, Lookup::Value(Value::Bool(true)))];
    let rule = sampler("checkout", "").head(&Request(hitl, false), adaptive);
    assert_eq!(
        (rule.reason, rule.threshold),
        (Reason::HumanReview, Some(Threshold::ALWAYS))
    );
}

#[test]
fn sampler_names_exactly_the_attributes_it_needs() {
    let sampler = Sampler::new(&policy("{}"), "checkout", "");
    assert_eq!(sampler.head_attributes(), [Attribute::Error]);
    let quiet = "sampling: {error_classes: {rate: 0}}";
    let sampler = Sampler::new(&policy(quiet), "checkout", "");
    assert!(sampler.head_attributes().is_empty() && sampler.end_attributes().is_empty());
}

#[test]
fn reasons_have_distinct_labels_in_order() {
    for (index, reason) in Reason::ALL.iter().enumerate() {
        assert_eq!(reason.index(), index);
        let same = Reason::ALL
            .iter()
            .filter(|other| other.as_str() == reason.as_str());
        assert_eq!(same.count(), 1, "{reason}");
        assert!(
            reason
                .as_str()
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        );
    }
}
