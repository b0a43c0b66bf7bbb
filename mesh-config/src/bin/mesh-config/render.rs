//! `mesh-config render`: the policy as something that runs.

mod envoy;
mod istio;

use mesh_config::Policy;

use crate::args::Args;
use crate::output::{self, Failure};

const HELP: &str = "\
usage: mesh-config render TARGET [OPTIONS]

targets:
  envoy    a complete Envoy configuration
  filter   the filter's configuration as a file that Envoy watches
  istio    Istio resources
  json     the filter's plugin configuration
`mesh-config render TARGET --help` lists the options of a target.
";

const JSON_HELP: &str = "\
usage: mesh-config render json [--policy FILE]

Prints the filter's plugin configuration: the policy as JSON, without what equals its default and
without what only the collector needs.
";

pub(crate) fn run(mut words: Vec<String>) -> Result<(), Failure> {
    if words.is_empty() {
        return Err(Failure::Usage(
            "no target given; see `mesh-config render --help`".to_owned(),
        ));
    }
    let target = words.remove(0);
    match target.as_str() {
        "envoy" => envoy::run(words),
        "filter" => envoy::run_filter(words),
        "istio" => istio::run(words),
        "json" => {
            let args = Args::parse(words, JSON_HELP, &["policy"], &[])?;
            args.no_rest()?;
            let policy = output::load_quietly(args.value("policy"))?;
            output::print(&format!("{}\n", policy.to_filter_json()))
        }
        "--help" | "-h" => output::print(HELP),
        other => Err(Failure::Usage(format!(
            "unknown target `{other}`; allowed: `envoy`, `filter`, `istio`, `json`"
        ))),
    }
}

/// A string in double quotes, which YAML reads like JSON.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for found in text.chars() {
        match found {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control.is_control() => {
                out.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// A string in single quotes, which keeps JSON readable.
pub(crate) fn single_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The plugin configuration for a service: export goes to `cluster` unless the policy names one.
pub(crate) fn filter_json(mut policy: Policy, cluster: &str) -> String {
    if policy.export.cluster.is_empty() {
        cluster.clone_into(&mut policy.export.cluster);
    }
    policy.to_filter_json()
}
