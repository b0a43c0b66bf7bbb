//! Checks of the sections that only the collector reads.

use std::time::Duration;

use super::Checker;
use crate::DataTag;
use crate::policy::Policy;
use crate::units::{self, Probability, TIME_UNITS};

const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn check(policy: &Policy, checker: &mut Checker<'_>) {
    storage(policy, checker);
    urls(policy, checker);
    alerts(policy, checker);
    if !checker.context.has_errors() {
        retention(policy, checker);
    }
}

/// Addresses that the collector calls.
fn urls(policy: &Policy, checker: &mut Checker<'_>) {
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
            let message = format!("rate `{}` contradicts `full_fidelity: true`", tier.sampling);
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
                tier.sampling, first.sampling
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
