//! Checks of the other sections.

use std::time::Duration;

use super::Checker;
use crate::DataTag;
use crate::policy::{ChargeSide, Policy, RedactionMode};
use crate::rule::Attribute;
use crate::units::{self, Probability, TIME_UNITS};

/// A shorter key for hashes could be guessed.
const MIN_HASH_KEY: usize = 16;
const DAY: Duration = Duration::from_secs(86_400);

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
    storage(policy, checker);
    collector_urls(policy, checker);
    alerts(policy, checker);
    if !checker.context.has_errors() {
        retention(policy, checker);
    }
}

/// Addresses that the collector calls.
fn collector_urls(policy: &Policy, checker: &mut Checker<'_>) {
    for (path, url) in [
        ("control.leader", &policy.control.leader),
        ("forward.endpoint", &policy.forward.endpoint),
    ] {
        let scheme = ["http://", "https://"].iter();
        let rest = scheme.filter_map(|scheme| url.strip_prefix(scheme)).next();
        let authority = rest.map(|rest| rest.trim_end_matches('/'));
        let is_valid = authority.is_some_and(|authority| {
            !authority.is_empty()
                && authority
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && !b"/?#@".contains(&byte))
        });
        if !url.is_empty() && !is_valid {
            let message = format!(
                "address `{url}` is not of the form `http://host:port` or `https://host:port`"
            );
            checker.error(path, message, "");
        }
    }
}

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

fn propagation(policy: &Policy, checker: &mut Checker<'_>) {
    for (index, key) in policy.propagation.baggage.iter().enumerate() {
        if !matches!(key.as_str(), "cost_usd" | "data_tag") {
            let message = format!("value `{key}` is not one of `cost_usd`, `data_tag`");
            let help = "baggage of others is always carried on unchanged";
            checker.error(&format!("propagation.baggage[{index}]"), message, help);
        }
    }
}

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

/// Tiers are nested: each ends after the one before and keeps no more of the traces.
fn storage(policy: &Policy, checker: &mut Checker<'_>) {
    let storage = &policy.trace_storage;
    let tiers = [
        ("hot", &storage.hot),
        ("warm", &storage.warm),
        ("cold", &storage.cold),
    ];
    for (name, tier) in tiers {
        if tier.full_fidelity && tier.sampling < Probability::ONE {
            let message = format!(
                "rate `{}` contradicts `full_fidelity: true`",
                tier.sampling.get()
            );
            checker.error(&format!("trace_storage.{name}.sampling"), message, "");
        }
    }
    for ((before, first), (name, tier)) in tiers.iter().zip(tiers.iter().skip(1)) {
        if tier.duration < first.duration {
            let message = format!(
                "tier ends after `{}`, before tier `{before}`, which ends after `{}`",
                print(tier.duration),
                print(first.duration)
            );
            checker.error(&format!("trace_storage.{name}.duration"), message, "");
        }
        if tier.sampling > first.sampling {
            let message = format!(
                "tier keeps `{}` of the traces, more than tier `{before}`, which keeps `{}`",
                tier.sampling.get(),
                first.sampling.get()
            );
            checker.error(&format!("trace_storage.{name}.sampling"), message, "");
        }
    }
}

fn print(duration: Duration) -> String {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    units::print_quantity(nanos, &TIME_UNITS)
}

/// A class cap that no tier reaches means nothing (ruling K7); said only about what was written.
fn retention(policy: &Policy, checker: &mut Checker<'_>) {
    let storage = &policy.trace_storage;
    let last = storage
        .hot
        .duration
        .max(storage.warm.duration)
        .max(storage.cold.duration);
    let last = last.max(storage.errors);
    for tag in DataTag::ALL {
        let days = policy.classification.retention_days.of(tag);
        let key = tag.as_str().to_ascii_lowercase();
        let path = format!("classification.retention_days.{key}");
        let written = checker.is_written(&path);
        if DAY * days <= last || !(written || checker.is_written("trace_storage")) {
            continue;
        }
        let message = format!(
            "cap of {days} days for `{tag}` is never reached: the last tier ends after `{}`",
            print(last)
        );
        checker.warn(if written { &path } else { "trace_storage" }, message, "");
    }
}

/// One bit per alert says what a trace has met.
const MAX_ALERTS: usize = 64;

fn alerts(policy: &Policy, checker: &mut Checker<'_>) {
    if policy.alerts.len() > MAX_ALERTS {
        checker.error(
            "alerts",
            format!("there are `{}` alerts", policy.alerts.len()),
            "allowed: 64",
        );
    }
    for (index, alert) in policy.alerts.iter().enumerate() {
        let path = format!("alerts[{index}]");
        if alert.threshold == 0 {
            checker.error(
                &format!("{path}.threshold"),
                "threshold `0` always fires".to_owned(),
                "",
            );
        }
        if alert.window.is_zero() || alert.window > DAY * 7 {
            let message = "window is not between `1s` and `7d`".to_owned();
            checker.error(&format!("{path}.window"), message, "");
        }
        let hook = &alert.webhook;
        if !hook.is_empty() && !hook.starts_with("http://") {
            let message = format!("address `{}` is not `http://..`", hook.escape_debug());
            checker.error(
                &format!("{path}.webhook"),
                message,
                "allowed: `http://HOST`, `http://HOST:PORT`, `http://HOST:PORT/PATH`; there is no TLS here",
            );
        }
        if policy
            .alerts
            .iter()
            .take(index)
            .any(|other| other.name == alert.name)
        {
            let message = format!("name `{}` is used twice", alert.name);
            checker.error(
                &format!("{path}.name"),
                message,
                "alerts are told apart by their name",
            );
        }
    }
}
