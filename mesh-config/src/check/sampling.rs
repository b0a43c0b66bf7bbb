//! Checks of the sampling section: rates that contradict each other, rules without effect.

use super::Checker;
use crate::policy::{Policy, Sampling};
use crate::rule::Condition;
use crate::units::Probability;

pub(super) fn check(policy: &Policy, checker: &mut Checker<'_>) {
    let sampling = &policy.sampling;
    adaptive(sampling, checker);
    services(sampling, checker);
    route_classes(sampling, checker);
    rules(sampling, checker);
}

fn adaptive(sampling: &Sampling, checker: &mut Checker<'_>) {
    let adaptive = &sampling.adaptive;
    let (low, high) = (adaptive.min_sampling_rate, adaptive.max_sampling_rate);
    if low > high {
        let message = format!(
            "rate `{}` is above `max_sampling_rate`, which is `{}`",
            low, high
        );
        checker.error("sampling.adaptive.min_sampling_rate", message, "");
    }
    if adaptive.enabled && adaptive.target_traces_per_second <= 0.0 {
        let path = "sampling.adaptive.target_traces_per_second";
        checker.error(path, "target `0` would keep nothing".to_owned(), "");
    }
    if adaptive.adjustment_interval < std::time::Duration::from_secs(1) {
        let path = "sampling.adaptive.adjustment_interval";
        checker.error(path, "interval is shorter than `1s`".to_owned(), "");
    }
}

/// Two names that mean the same service would make the rate depend on their order.
fn services(sampling: &Sampling, checker: &mut Checker<'_>) {
    let names: Vec<&str> = sampling
        .service_rates
        .iter()
        .map(|(name, _)| name)
        .collect();
    for (index, name) in names.iter().enumerate() {
        let same = |other: &&&str| other.replace('_', "-") == name.replace('_', "-");
        if let Some(first) = names.iter().take(index).find(same) {
            let message = format!("service `{name}` is the same as `{first}`");
            checker.error(
                "sampling.service_rates",
                message,
                "`-` and `_` are taken as equal",
            );
        }
    }
}

fn route_classes(sampling: &Sampling, checker: &mut Checker<'_>) {
    let classes = &sampling.route_classes;
    for (index, class) in classes.iter().enumerate() {
        let path = format!("sampling.route_classes[{index}].when");
        checker.only_at_request(&path, &class.when, &[]);
        let earlier = classes
            .iter()
            .take(index)
            .find(|other| same(&other.when, &class.when));
        if let Some(earlier) = earlier {
            let message = format!(
                "class `{}` is never reached: `{}` has the same condition",
                class.name, earlier.name
            );
            checker.warn(
                &path,
                message,
                "the first class whose condition holds counts",
            );
        }
    }
}

fn rules(sampling: &Sampling, checker: &mut Checker<'_>) {
    let lowest = lowest_base(sampling);
    let rules = &sampling.priority_rules;
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("sampling.priority_rules[{index}]");
        if rule.sample_rate <= lowest {
            let message = format!(
                "rule `{}` has no effect: rate `{}` is not above any base rate",
                rule.name, rule.sample_rate
            );
            let help = "rates combine as the largest; a rule can only keep more";
            checker.warn(&format!("{path}.sample_rate"), message, help);
        }
        let twin = rules.iter().enumerate().find(|(other, twin)| {
            let wins = twin.sample_rate > rule.sample_rate
                || (twin.sample_rate == rule.sample_rate && *other < index);
            *other != index && wins && same(&twin.condition, &rule.condition)
        });
        if let Some((_, twin)) = twin {
            let message = format!(
                "rule `{}` is never decisive: `{}` has the same condition and rate `{}`",
                rule.name, twin.name, twin.sample_rate
            );
            checker.warn(&format!("{path}.condition"), message, "");
        }
        if rules
            .iter()
            .take(index)
            .any(|other| other.name == rule.name)
        {
            let message = format!("name `{}` is used twice", rule.name);
            checker.warn(&format!("{path}.name"), message, "");
        }
        if rule.condition.contradicts_itself() {
            let message = format!("condition of rule `{}` can never hold", rule.name);
            checker.warn(&format!("{path}.condition"), message, "");
        }
    }
}

/// The lowest rate that any request can have before rules.
fn lowest_base(sampling: &Sampling) -> Probability {
    let mut rates = vec![sampling.default_rate];
    rates.extend(sampling.service_rates.iter().map(|(_, rate)| *rate));
    rates.extend(sampling.route_classes.iter().map(|class| class.rate));
    rates.extend(sampling.environments.iter().map(|(_, rate)| *rate));
    if sampling.adaptive.enabled {
        rates.push(sampling.adaptive.min_sampling_rate);
    }
    rates.into_iter().fold(
        Probability::ONE,
        |low, rate| if rate < low { rate } else { low },
    )
}

/// Equal after parsing, whatever the blanks and quotes.
fn same(left: &Condition, right: &Condition) -> bool {
    left == right
        || left
            .canonical()
            .is_some_and(|text| Some(text) == right.canonical())
}
