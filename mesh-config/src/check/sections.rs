//! Checks of the other sections that the filter reads.

use std::time::Duration;

use super::Checker;
use crate::policy::{ChargeSide, Policy, RedactionMode};
use crate::rule::Attribute;
use crate::units;

/// A shorter key for hashes could be guessed.
const MIN_HASH_KEY: usize = 16;

pub(super) fn check(policy: &Policy, checker: &mut Checker<'_>) {
    cost(policy, checker);
    attributes(policy, checker);
    classification(policy, checker);
    #[cfg(feature = "yaml")]
    if !checker.context.has_errors() {
        classifier(policy, checker);
    }
    propagation(policy, checker);
    export(policy, checker);
    debug(policy, checker);
    return_channel(policy, checker);
    budget(policy, checker);
}

#[inline(never)]
fn cost(policy: &Policy, checker: &mut Checker<'_>) {
    for (index, version) in policy.cost.versions.iter().enumerate() {
        for (key, text) in [
            ("valid_from", &version.valid_from),
            ("valid_until", &version.valid_until),
        ] {
            if !text.is_empty() && units::day_ns(text).is_none() {
                let path = format!("cost.versions[{index}].{key}");
                let message = format!("value `{text}` is not a day such as `2026-01-31`");
                checker.error(&path, message, "");
                return;
            }
        }
    }
    if let Err(error) = policy.cost.price_book() {
        let path = if policy.cost.versions.is_empty() {
            "cost"
        } else {
            "cost.versions"
        };
        checker.error(path, error.to_string(), "");
    }
    if policy.cost.charge == ChargeSide::Client && !policy.cost.unmetered_destinations.is_empty() {
        let message =
            "list has no effect: `cost.charge` is `client` for every destination".to_owned();
        checker.warn("cost.unmetered_destinations", message, "");
    }
}

/// Operation type is read first, then the data class, then human review.
#[inline(never)]
fn attributes(policy: &Policy, checker: &mut Checker<'_>) {
    let attributes = &policy.attributes;
    let later = [
        Attribute::OperationType,
        Attribute::DataTag,
        Attribute::HitlRequired,
        Attribute::CostUsd,
    ];
    for (index, mapping) in attributes.operation_type.iter().enumerate() {
        let path = format!("attributes.operation_type[{index}].when");
        checker.only_at_request(&path, &mapping.when, &later);
    }
    for (index, mapping) in attributes.data_tag.iter().enumerate() {
        let path = format!("attributes.data_tag[{index}].when");
        checker.only_at_request(&path, &mapping.when, later.get(1..).unwrap_or_default());
    }
    for (index, condition) in attributes.hitl_required.iter().enumerate() {
        let path = format!("attributes.hitl_required[{index}]");
        checker.only_at_request(&path, condition, later.get(2..).unwrap_or_default());
    }
    for (index, route) in attributes.routes.iter().enumerate() {
        if !route.starts_with('/') {
            let message = format!("route template `{route}` does not begin with `/`");
            checker.error(&format!("attributes.routes[{index}]"), message, "");
        }
    }
}

#[inline(never)]
fn classification(policy: &Policy, checker: &mut Checker<'_>) {
    let redaction = &policy.classification.redaction;
    let hashes = redaction.mode == RedactionMode::Hash || policy.attributes.tenant.hash;
    if hashes && redaction.hash_key.expose().len() < MIN_HASH_KEY {
        let message = format!("key for hashes has fewer than {MIN_HASH_KEY} characters");
        checker.error("classification.redaction.hash_key", message, "");
    }
}

/// What the classifier itself refuses, such as patterns that are too long. Only where policies are
/// written: the filter would have to carry the detectors for it.
#[cfg(feature = "yaml")]
fn classifier(policy: &Policy, checker: &mut Checker<'_>) {
    if let Err(error) = crate::classify::Classifier::from_policy(&policy.classification) {
        checker.error("classification", error.to_string(), "");
    }
}

#[inline(never)]
fn propagation(policy: &Policy, checker: &mut Checker<'_>) {
    for (index, key) in policy.propagation.baggage.iter().enumerate() {
        if !matches!(key.as_str(), "cost_usd" | "data_tag") {
            let message = format!("value `{key}` is not one of `cost_usd`, `data_tag`");
            let help = "baggage of others is always carried on unchanged";
            checker.error(&format!("propagation.baggage[{index}]"), message, help);
        }
    }
}

#[inline(never)]
fn export(policy: &Policy, checker: &mut Checker<'_>) {
    let export = &policy.export;
    for (key, path) in [
        ("path", &export.path),
        ("metrics_path", &export.metrics_path),
        ("rates_path", &export.rates_path),
    ] {
        if !path.starts_with('/') || path.bytes().any(|byte| !byte.is_ascii_graphic()) {
            let message = format!(
                "path `{}` does not begin with `/` or has blanks",
                path.escape_debug()
            );
            checker.error(&format!("export.{key}"), message, "");
        }
    }
    for (key, value) in [
        ("timeout", export.timeout),
        ("ledger_interval", export.ledger_interval),
    ] {
        if value < Duration::from_millis(100) {
            checker.error(
                &format!("export.{key}"),
                "duration is shorter than `100ms`".to_owned(),
                "",
            );
        }
    }
    let queue = export.queue_bytes.bytes();
    if !(65_536..=268_435_456).contains(&queue) {
        let message = "size is not between `64KiB` and `256MiB`".to_owned();
        checker.error("export.queue_bytes", message, "");
    }
    for (name, value) in export.headers.iter() {
        if !is_header_name(name) {
            let message = format!(
                "name `{}` is not a header name in lower case",
                name.escape_debug()
            );
            checker.error("export.headers", message, "");
        }
        if value
            .expose()
            .bytes()
            .any(|byte| !(b' '..0x7f).contains(&byte))
        {
            let message = format!(
                "value of header `{}` is not visible ASCII",
                name.escape_debug()
            );
            checker.error("export.headers", message, "");
        }
    }
}

/// A token in lower case, as HTTP/2 wants it; pseudo headers are the exporter's business.
fn is_header_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
        })
}

#[inline(never)]
fn debug(policy: &Policy, checker: &mut Checker<'_>) {
    let name = &policy.debug.explain_header;
    if !is_header_name(name) {
        let message = format!(
            "name `{}` is not a header name in lower case",
            name.escape_debug()
        );
        checker.error("debug.explain_header", message, "");
    }
    checker.only_at_request("debug.explain_when", &policy.debug.explain_when, &[]);
}

#[inline(never)]
fn budget(policy: &Policy, checker: &mut Checker<'_>) {
    for (index, grant) in policy.cost.budget.grants.iter().enumerate() {
        let path = format!("cost.budget.grants[{index}]");
        if grant.usd.is_zero() {
            let message = "a budget of `0` leaves nothing for any request".to_owned();
            checker.error(&format!("{path}.usd"), message, "");
        }
        checker.only_at_request(&format!("{path}.when"), &grant.when, &[]);
    }
}

#[inline(never)]
fn return_channel(policy: &Policy, checker: &mut Checker<'_>) {
    let channel = &policy.propagation.return_channel;
    let name = &channel.client_header;
    if !name.is_empty() && !is_header_name(name) {
        let message = format!(
            "name `{}` is not a header name in lower case",
            name.escape_debug()
        );
        checker.error("propagation.return_channel.client_header", message, "");
    }
    checker.only_at_request(
        "propagation.return_channel.client_header_when",
        &channel.client_header_when,
        &[],
    );
}
