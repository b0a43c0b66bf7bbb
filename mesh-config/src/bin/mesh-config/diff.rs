//! `mesh-config diff`: which options differ, and what that changes for which traffic.

use std::collections::BTreeSet;

use mesh_config::rule::{Attribute, Attributes, Lookup};
use mesh_config::sampling::{Sampler, Threshold};
use mesh_config::{Policy, docs};

use crate::args::Args;
use crate::output::{self, Failure};

pub(crate) const HELP: &str = "\
usage: mesh-config diff OLD NEW

Says which options differ between two policies, defaults included, and what that changes: the base
rate of each service and environment that either of them names, and the price of each operation.
Exit code 0: nothing differs; 1: something does.
";

pub(crate) const OPTIONS: &[&str] = &[];

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let [old, new] = args.rest.as_slice() else {
        return Err(Failure::Usage(
            "two files are needed; see `mesh-config diff --help`".to_owned(),
        ));
    };
    let (old, new) = (output::load(old)?.policy, output::load(new)?.policy);
    let mut out = String::new();
    options(&old, &new, &mut out);
    rates(&old, &new, &mut out);
    prices(&old, &new, &mut out);
    if out.is_empty() {
        return output::print("nothing differs\n");
    }
    output::print(&out)?;
    Err(Failure::Policy)
}

/// Options in the order of the reference. List items that only one side has are one line.
fn options(old: &Policy, new: &Policy, out: &mut String) {
    let (old, new) = (docs::flatten(old), docs::flatten(new));
    let mut lines = String::new();
    for (path, value) in &old {
        match new.iter().find(|(found, _)| found == path) {
            Some((_, other)) if other == value => {}
            Some((_, other)) => lines.push_str(&format!("  {path}: {value} -> {other}\n")),
            None => once(&mut lines, path, value, &old, &new, "gone"),
        }
    }
    for (path, value) in &new {
        if !old.iter().any(|(found, _)| found == path) {
            once(&mut lines, path, value, &new, &old, "new");
        }
    }
    if !lines.is_empty() {
        out.push_str("options\n");
        out.push_str(&lines);
    }
}

/// A line for an option that `there` does not have; for an option of a list item that it does not
/// have, one line for the whole item, at its first option.
fn once(
    lines: &mut String,
    path: &str,
    value: &str,
    here: &[(String, String)],
    there: &[(String, String)],
    word: &str,
) {
    let item = path.rfind(']').and_then(|end| path.get(..=end));
    let Some(item) = item.filter(|item| !there.iter().any(|(found, _)| found.starts_with(*item)))
    else {
        lines.push_str(&format!("  {path}: {word}, {value}\n"));
        return;
    };
    let mut fields = here.iter().filter(|(found, _)| found.starts_with(item));
    if fields
        .clone()
        .next()
        .is_some_and(|(first, _)| first != path)
    {
        return;
    }
    let text: Vec<String> = fields
        .by_ref()
        .filter_map(|(found, value)| {
            let key = found.get(item.len() + 1..)?;
            (key != "name" && value != "\"\"").then(|| format!("{key} {value}"))
        })
        .collect();
    lines.push_str(&format!("  {item}: {word}: {}\n", text.join(", ")));
}

/// A request of which nothing is known: only the base rate counts.
struct Nothing;

impl Attributes for Nothing {
    fn get(&self, _: &Attribute) -> Lookup<'_> {
        Lookup::Unknown
    }
}

fn base(policy: &Policy, service: &str, environment: &str) -> (f64, &'static str) {
    let verdict = Sampler::new(policy, service, environment).head(&Nothing, None);
    (
        verdict.threshold.map_or(0.0, Threshold::probability),
        verdict.reason.as_str(),
    )
}

fn rates(old: &Policy, new: &Policy, out: &mut String) {
    let both = [old, new];
    let services: BTreeSet<&str> = both
        .iter()
        .flat_map(|policy| policy.sampling.service_rates.iter().map(|(name, _)| name))
        .chain([""])
        .collect();
    let environments: BTreeSet<&str> = both
        .iter()
        .flat_map(|policy| policy.sampling.environments.iter().map(|(name, _)| name))
        .chain([""])
        .collect();
    let mut lines = String::new();
    for service in services {
        for environment in &environments {
            let (before, after) = (
                base(old, service, environment),
                base(new, service, environment),
            );
            if before == after {
                continue;
            }
            let service = if service.is_empty() {
                "any other service"
            } else {
                service
            };
            let environment = if environment.is_empty() {
                "any other"
            } else {
                environment
            };
            lines.push_str(&format!(
                "  {service}, environment {environment}: {} by {} -> {} by {}\n",
                percent(before.0),
                before.1,
                percent(after.0),
                after.1
            ));
        }
    }
    if !lines.is_empty() {
        out.push_str("base rates (rules and route classes apart)\n");
        out.push_str(&lines);
    }
}

/// Rounded like the thresholds, which have four digits.
fn percent(share: f64) -> String {
    let text = if share < 0.001 {
        format!("{:.6}", share * 100.0)
    } else {
        format!("{:.2}", share * 100.0)
    };
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// What a call of 100 ms without a body costs, by operation.
fn prices(old: &Policy, new: &Policy, out: &mut String) {
    let (Ok(old), Ok(new)) = (old.cost.price_book(), new.cost.price_book()) else {
        return;
    };
    let (Some(old), Some(new)) = (old.tables().last(), new.tables().last()) else {
        return;
    };
    let names: BTreeSet<&str> = old
        .operations()
        .chain(new.operations())
        .map(|(_, name)| name)
        .chain([""])
        .collect();
    let mut lines = String::new();
    for name in names {
        let cost = |table: &mesh_config::price::PriceTable| table.cost(name, 100_000_000, 0);
        let (before, after) = (cost(old), cost(new));
        if before == after {
            continue;
        }
        let name = if name.is_empty() {
            "any other operation"
        } else {
            name
        };
        let change = (after.to_f64() / before.to_f64() - 1.0) * 100.0;
        let change = if change.is_finite() {
            format!(" ({change:+.1} %)")
        } else {
            String::new()
        };
        lines.push_str(&format!("  {name}: {before} -> {after} USD{change}\n"));
    }
    if !lines.is_empty() {
        out.push_str("prices (a call of 100 ms without a body)\n");
        out.push_str(&lines);
    }
}
