//! Generated files are what the code says, and the sample policy is a good one.
//! To renew them: `mesh-config docs > docs/config-reference.md` and
//! `mesh-config schema > docs/tracemeter.schema.json`.

#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use mesh_config::{Policy, docs};

const SAMPLE: &str = include_str!("../samples/tracemeter.yaml");

fn same(generated: &str, committed: &str, name: &str) {
    let different = generated
        .lines()
        .zip(committed.lines())
        .position(|(new, old)| new != old);
    assert!(
        generated == committed,
        "{name} differs from line {:?} (0-based) on",
        different
    );
}

#[test]
fn reference_page_is_what_the_definitions_say() {
    let committed = include_str!("../../docs/config-reference.md");
    same(&docs::reference(), committed, "docs/config-reference.md");
}

#[test]
fn json_schema_is_what_the_definitions_say() {
    let committed = include_str!("../../docs/tracemeter.schema.json");
    same(&docs::schema(), committed, "docs/tracemeter.schema.json");
    let parsed: serde_json::Value = serde_json::from_str(committed).unwrap();
    assert_eq!(
        parsed["properties"]["sampling"]["additionalProperties"],
        false
    );
    assert_eq!(
        parsed["properties"]["trace_storage"]["properties"]["cold"]["properties"]["sampling"]["default"],
        0.01
    );
}

#[test]
fn sample_policy_loads_without_a_warning() {
    let loaded = Policy::from_yaml(SAMPLE, "samples/tracemeter.yaml").unwrap();
    assert_eq!(loaded.warnings, []);
}

#[test]
fn filter_json_reads_back_as_the_same_policy() {
    let specification = include_str!("spec/sampling_rules.yaml");
    for text in [SAMPLE, specification, ""] {
        let policy = Policy::from_yaml(text, "").unwrap().policy;
        let mut read = Policy::from_json(policy.to_filter_json().as_bytes())
            .unwrap()
            .policy;
        read.trace_storage = policy.trace_storage.clone();
        read.control = policy.control.clone();
        read.forward = policy.forward.clone();
        read.alerts = policy.alerts.clone();
        assert_eq!(read, policy);
    }
}

#[test]
fn filter_json_of_the_defaults_is_empty() {
    assert_eq!(Policy::default().to_filter_json(), "{}");
}

#[test]
fn no_bytes_and_empty_documents_mean_the_defaults() {
    for bytes in [
        b"".as_slice(),
        b" \n",
        b"{}",
        b"null",
        br#"{"sampling":{}}"#,
    ] {
        let loaded = Policy::from_json(bytes).unwrap();
        assert_eq!(
            (loaded.policy, loaded.warnings),
            (Policy::default(), Vec::new())
        );
    }
}

/// The documented defaults that the specification and the rulings fix.
#[test]
fn defaults_are_those_of_the_specification() {
    let policy = Policy::default();
    assert_eq!(policy.sampling.default_rate.get(), 0.1);
    assert_eq!(
        policy
            .sampling
            .environments
            .get("staging")
            .map(|rate| rate.get()),
        Some(1.0)
    );
    assert!(!policy.sampling.adaptive.enabled);
    let classes = &policy.sampling.error_classes;
    assert!(classes.is_error(Some(404), None, false) && classes.is_error(Some(500), None, false));
    assert!(classes.is_error(Some(200), Some(14), false) && classes.is_error(None, None, true));
    assert!(
        !classes.is_error(Some(200), Some(0), false) && !classes.is_error(Some(302), None, false)
    );
    let retention = policy.classification.retention_days;
    assert_eq!(
        (retention.pii, retention.sensitive, retention.export_ok),
        (30, 90, 365)
    );
    assert_eq!(policy.propagation.baggage, ["cost_usd", "data_tag"]);
    assert_eq!(policy.propagation.tracestate_max_bytes, 512);
    assert_eq!(policy.export.batch_spans, 512);
    assert_eq!(policy.export.cluster, "", "export is off");
    assert!(!policy.debug.explain);
    let storage = policy.trace_storage;
    assert_eq!(
        (storage.warm.sampling.get(), storage.cold.sampling.get()),
        (0.1, 0.01)
    );
}

#[test]
fn egress_strips_outside_hosts_only() {
    let egress = &Policy::default().trust.egress;
    for inside in [
        "payment",
        "payment:8080",
        "payment.shop.svc",
        "PAYMENT.shop.svc.cluster.local:80",
        "127.0.0.1:9000",
        "10.1.2.3",
        "192.168.0.7:80",
        "[::1]:80",
        "[fd00::1]",
        "db.internal",
    ] {
        assert!(!egress.strips(inside.as_bytes()), "{inside}");
    }
    for outside in [
        "api.openai.com",
        "api.openai.com:443",
        "8.8.8.8",
        "[2001:db8::1]:443",
        "svc.evil.com",
        "payment.svc.evil.com",
        "\u{0}",
        "",
        "172.15.0.1",
    ] {
        assert!(egress.strips(outside.as_bytes()), "{outside:?}");
    }
    assert!(egress.strips(b"\xff\xfe.example.com"));
}
