//! An explanation as text for a person.

use std::fmt::Write as _;

use mesh_config::policy::Direction;
use mesh_config::rule::{Attribute, Condition, Tri};
use mesh_config::sampling::{Randomness, Reason, Sampler, Threshold, Verdict};

use super::Explanation;
use super::request::View;

/// The whole explanation.
pub(super) fn write(
    explanation: &Explanation<'_>,
    sampler: &Sampler,
    randomness: Option<Randomness>,
) -> String {
    let mut out = String::new();
    request(explanation, &mut out);
    rules(explanation, &mut out);
    verdicts(explanation, sampler, randomness, &mut out);
    price(explanation, &mut out);
    out
}

fn line(out: &mut String, name: &str, text: &str) {
    // Writing to a string cannot fail.
    let _infallible = writeln!(out, "{name:<10}{text}");
}

fn request(explanation: &Explanation<'_>, out: &mut String) {
    let request = explanation.request;
    let direction = match request.direction {
        Direction::Auto => "inbound",
        other => other.as_str(),
    };
    let or = |text: &str, other: &str| {
        if text.is_empty() {
            other.to_owned()
        } else {
            text.to_owned()
        }
    };
    let place = format!(
        "{} {} at service {} ({direction}), namespace {}, environment {}",
        request.method,
        request.path,
        or(&request.service, "(unnamed)"),
        or(&request.namespace, "(none)"),
        or(&request.environment, "(none)")
    );
    line(out, "request", &place);
    let operation = match &request.operation {
        Some((name, Some(index))) => format!("{name}, by attributes.operation_type[{index}]"),
        Some((name, None)) => format!("{name}, as given"),
        None => "none: no mapping matches, the default price holds".to_owned(),
    };
    line(out, "", &format!("operation_type = {operation}"));
    let (tag, index) = request.data_tag;
    let source = index.map_or(String::new(), |index| {
        format!(", by attributes.data_tag[{index}]")
    });
    line(out, "", &format!("data_tag = {tag}{source}"));
    line(
        out,
        "",
        &format!("hitl_required = {}", request.hitl_required),
    );
}

/// Critical flows, priority rules and the error class, each with its state.
fn rules(explanation: &Explanation<'_>, out: &mut String) {
    let sampling = &explanation.policy.sampling;
    for (index, condition) in sampling.critical_flows.iter().enumerate() {
        rule(
            explanation,
            &format!("critical_flows[{index}]"),
            "",
            condition,
            1.0,
            out,
        );
    }
    for (index, found) in sampling.priority_rules.iter().enumerate() {
        let path = format!("priority_rules[{index}]");
        rule(
            explanation,
            &path,
            &found.name,
            &found.condition,
            found.sample_rate.get(),
            out,
        );
    }
    let rate = sampling.error_classes.rate.get();
    if let Ok(error) = Condition::parse("error = true") {
        rule(explanation, "error_classes", "", &error, rate, out);
    }
}

fn rule(
    explanation: &Explanation<'_>,
    path: &str,
    name: &str,
    condition: &Condition,
    rate: f64,
    out: &mut String,
) {
    let view = |at_end| View {
        request: explanation.request,
        at_end,
    };
    let name = if name.is_empty() {
        String::new()
    } else {
        format!(" \"{name}\"")
    };
    line(out, "rule", &format!("{path}{name}: {condition} @ {rate}"));
    let start = condition.eval(&view(false));
    let state = match start {
        Tri::True => "matches at the request".to_owned(),
        Tri::False => "does not match, known at the request".to_owned(),
        Tri::Unknown => format!("open at the request, waits for {}", waits_for(condition)),
    };
    line(out, "", &format!("  {state}"));
    if start.is_unknown()
        && let Some(parts) = condition.parts()
        && parts.known.len() > 1
    {
        for (phase, text) in &parts.known {
            line(out, "", &format!("  known at {}: {text}", phase.as_str()));
        }
    }
    if start.is_unknown() && explanation.request.has_end() {
        let state = match condition.eval(&view(true)) {
            Tri::True => "matches at the end",
            Tri::False => "does not match at the end",
            Tri::Unknown => "open at the end: the collector decides it for the whole trace",
        };
        line(out, "", &format!("  {state}"));
    }
}

fn waits_for(condition: &Condition) -> String {
    let late = |attribute: &&Attribute| attribute.phase() > mesh_config::rule::Phase::Request;
    let names: Vec<String> = condition
        .attributes()
        .iter()
        .filter(late)
        .map(|attribute| format!("{attribute} ({})", attribute.phase().as_str()))
        .collect();
    names.join(", ")
}

fn verdicts(
    explanation: &Explanation<'_>,
    sampler: &Sampler,
    randomness: Option<Randomness>,
    out: &mut String,
) {
    line(out, "start", &verdict(&explanation.head, randomness));
    if sampler.is_adaptive() && explanation.head.reason != Reason::AdaptiveRate {
        line(
            out,
            "",
            "the adaptive controller may put another rate in the base rate's place",
        );
    }
    if explanation.parent_keeps {
        line(out, "", "the parent was sampled and is believed: kept");
    }
    match &explanation.end {
        Some(end) => line(out, "end", &verdict(end, randomness)),
        None if explanation.head.pending => line(out, "end", "not described: see `--help`"),
        None => {}
    }
    let Some(randomness) = randomness else {
        line(out, "verdict", "give `--trace-id` for a verdict");
        return;
    };
    let outcome = explanation.outcome(randomness);
    let word = if outcome.kept { "kept" } else { "dropped" };
    let when = match (
        outcome.kept,
        outcome.late,
        explanation.head.pending,
        explanation.end,
    ) {
        (true, true, ..) => " when the response had ended",
        (false, _, true, None) => " so far: open rules may still keep it",
        _ => "",
    };
    line(
        out,
        "verdict",
        &format!("{word}{when}, sampling.reason = {}", outcome.reason),
    );
}

fn verdict(verdict: &Verdict, randomness: Option<Randomness>) -> String {
    let Some(threshold) = verdict.threshold else {
        return format!("p = 0, by {}", verdict.reason);
    };
    let rule = verdict
        .rule
        .map_or(String::new(), |index| format!(" (priority_rules[{index}])"));
    let compared = randomness.map_or(String::new(), |randomness| {
        let sign = if threshold.keeps(randomness) {
            ">="
        } else {
            "<"
        };
        format!(", R = {:014x} {sign} T", randomness.value())
    });
    let mut hex = [0; 14];
    let length = threshold.write_hex(&mut hex);
    let digits = String::from_utf8_lossy(hex.get(..length).unwrap_or_default());
    let p = significant(threshold);
    format!(
        "p = {p}, T = {digits}{compared}, by {}{rule}",
        verdict.reason
    )
}

/// The probability without the digits that its rounding to a short threshold adds.
fn significant(threshold: Threshold) -> String {
    let p = threshold.probability();
    let text = if p < 0.01 {
        format!("{p:.8}")
    } else {
        format!("{p:.4}")
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn price(explanation: &Explanation<'_>, out: &mut String) {
    let request = explanation.request;
    let operation = request
        .operation
        .as_ref()
        .map_or("", |(name, _)| name.as_str());
    let base = explanation.prices.base(operation);
    let version = explanation.prices.version();
    if !request.has_end() {
        line(
            out,
            "price",
            &format!("{base} USD at the request (base price), version {version}"),
        );
        return;
    }
    let bytes = request
        .request_bytes
        .unwrap_or(0)
        .saturating_add(request.response_bytes);
    let ms = request.duration_ns.unwrap_or(0) as f64 / 1e6;
    let cost = &explanation.policy.cost;
    let formula = format!(
        "{} USD = {base} x (1 + {ms} ms / 100 x {} + {bytes} bytes / 2^20 x {}), version {version}",
        request.own_cost, cost.duration_factor_per_100ms, cost.size_factor_per_mib
    );
    line(out, "price", &formula);
    let path = request.path_cost.saturating_add(request.own_cost);
    line(out, "", &format!("{path} USD with the path before it"));
}
