//! The specification's own files load as they stand, alone and as sections of one policy.

#![cfg(feature = "yaml")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::time::Duration;

use mesh_config::policy::{AlertQuery, Backend, Compression};
use mesh_config::rule::Phase;
use mesh_config::{Loaded, Policy};

const SAMPLING: &str = include_str!("spec/sampling_rules.yaml");
const STORAGE: &str = include_str!("spec/trace_storage.yaml");
const ALERTS: &str = include_str!("spec/trace_alerts.yaml");
const COSTS: &str = include_str!("spec/costs.yaml");
const ENVOY: &str = include_str!("spec/envoy_tracing_config.yaml");

fn load(text: &str) -> Loaded {
    Policy::from_yaml(text, "spec.yaml").unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn sampling_rules_load_with_every_number() {
    let sampling = load(SAMPLING).policy.sampling;
    assert_eq!(sampling.default_rate.get(), 0.1);
    let rates: Vec<(&str, f64)> = sampling
        .service_rates
        .iter()
        .map(|(name, rate)| (name, rate.get()))
        .collect();
    assert_eq!(
        rates,
        [
            ("payment_service", 1.0),
            ("analytics_service", 0.01),
            ("robot_control", 1.0)
        ]
    );
    let rules: Vec<(&str, &str, f64, Phase)> = sampling
        .priority_rules
        .iter()
        .map(|rule| {
            let condition = &rule.condition;
            (
                rule.name.as_str(),
                condition.source(),
                rule.sample_rate.get(),
                condition.phase(),
            )
        })
        .collect();
    assert_eq!(
        rules,
        [
            ("Error traces", "error = true", 1.0, Phase::StreamEnd),
            (
                "High cost operations",
                "cost_usd > 0.01",
                1.0,
                Phase::StreamEnd
            ),
            (
                "HITL operations",
                "hitl_required = true",
                1.0,
                Phase::Request
            ),
            ("PII data access", "data_tag = PII", 1.0, Phase::StreamEnd),
            ("Slow requests", "duration_ms > 1000", 0.5, Phase::StreamEnd),
        ]
    );
    let adaptive = sampling.adaptive;
    assert!(adaptive.enabled);
    assert_eq!(adaptive.target_traces_per_second, 100.0);
    assert_eq!(adaptive.min_sampling_rate.get(), 0.001);
    assert_eq!(adaptive.max_sampling_rate.get(), 1.0);
    assert_eq!(adaptive.adjustment_interval, Duration::from_secs(60));
}

#[test]
fn trace_storage_loads_with_every_tier() {
    let storage = load(STORAGE).policy.trace_storage;
    let hours = |count: u64| Duration::from_secs(count * 3600);
    assert_eq!(
        (storage.hot.duration, storage.hot.backend),
        (hours(24), Backend::Redis)
    );
    assert!(storage.hot.full_fidelity);
    assert_eq!(
        (storage.warm.duration, storage.warm.sampling.get()),
        (hours(168), 0.1)
    );
    assert_eq!(storage.warm.backend, Backend::Elasticsearch);
    assert_eq!(
        (storage.cold.duration, storage.cold.sampling.get()),
        (hours(720), 0.01)
    );
    assert_eq!(
        (storage.cold.backend, storage.cold.compression),
        (Backend::S3, Compression::Zstd)
    );
}

#[test]
fn trace_alerts_load_with_their_english_queries() {
    let alerts = load(ALERTS).policy.alerts;
    assert_eq!(
        alerts,
        Policy::default().alerts,
        "the defaults are the specification's alerts"
    );
    assert_eq!(alerts.len(), 4);
    assert_eq!(alerts[0].query, AlertQuery::OrphanedSpans);
    assert_eq!(
        alerts[1].query.to_string(),
        "sum(cost_usd) by trace_id > 0.1"
    );
    assert_eq!(alerts[2].threshold, 1000);
    assert_eq!(alerts[3].query.to_string(), "trace depth > 50");
}

#[test]
fn costs_load_from_the_dictionary_as_printed() {
    let cost = load(COSTS).policy.cost;
    assert_eq!(
        cost,
        Policy::default().cost,
        "the defaults are the specification's prices"
    );
    assert_eq!(
        cost.operations
            .get("storage_read")
            .map(|price| price.as_nanos()),
        Some(1_000)
    );
}

#[test]
fn envoy_tracing_block_gives_the_baggage_list() {
    let propagation = load(ENVOY).policy.propagation;
    assert_eq!(propagation.baggage, ["cost_usd", "data_tag"]);
}

#[test]
fn all_files_load_as_one_policy() {
    let text = format!("{SAMPLING}\n{STORAGE}\n{ALERTS}\n{COSTS}");
    let loaded = load(&text);
    assert_eq!(loaded.policy.sampling, load(SAMPLING).policy.sampling);
    assert_eq!(
        loaded.policy.trace_storage,
        load(STORAGE).policy.trace_storage
    );
}
