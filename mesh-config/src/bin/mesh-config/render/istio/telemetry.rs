//! What has to be said about Istio's own tracer, which writes trace headers after all filters.

use mesh_config::policy::Mode;

use super::resource::{Kind, Resource};
use super::usage;
use crate::args::Args;
use crate::output::Failure;

/// Tags on Istio's own spans, and the filter state that the filter writes them to.
const TAGS: [&str; 4] = ["cost_usd", "cost_usd.path", "data_tag", "retention_days"];

pub(super) enum Telemetry {
    /// Istio's spans go on beside the filter's; its headers end.
    Beside { provider: String },
    /// Istio's tracer keeps the headers and tags its spans with cost and class.
    Companion { provider: String },
    /// Istio's spans end.
    Owner,
}

impl Telemetry {
    pub(super) fn read(args: &Args, resource: &Resource) -> Result<Option<Self>, Failure> {
        let mode = resource.policy.propagation.mode;
        let alone = resource.kind == Kind::Telemetry;
        let word = match (args.value("telemetry"), args.has("with-telemetry") || alone) {
            (Some(word), _) => word,
            (None, true) if mode == Mode::Companion => "companion",
            (None, true) => "owner",
            (None, false) => return Ok(None),
        };
        let provider = || match args.value("provider") {
            Some(name) => Ok(name.to_owned()),
            None => usage(format!("telemetry `{word}` needs `--provider NAME`")),
        };
        let telemetry = match word {
            "owner" => Self::Owner,
            "beside" => Self::Beside {
                provider: provider()?,
            },
            "companion" => Self::Companion {
                provider: provider()?,
            },
            other => {
                return usage(format!(
                    "telemetry `{other}` is not one of `owner`, `beside`, `companion`"
                ));
            }
        };
        let companion = matches!(telemetry, Self::Companion { .. });
        if !alone && companion != (mode == Mode::Companion) {
            return usage(format!(
                "telemetry `{word}` contradicts the policy's `propagation.mode`"
            ));
        }
        Ok(Some(telemetry))
    }

    pub(super) fn render(&self, resource: &Resource) -> String {
        let selector = resource.labels("selector", "matchLabels");
        let tracing = match self {
            Self::Beside { provider } => format!(
                "  - providers:\n    - name: {provider}\n    disableContextPropagation: true\n"
            ),
            Self::Companion { provider } => {
                let tag = |name: &&str| {
                    format!(
                        "      {name}:\n        formatter:\n          \
                         value: \"%FILTER_STATE(wasm.tracemeter.{name}:PLAIN)%\"\n"
                    )
                };
                let tags: String = TAGS.iter().map(tag).collect();
                format!("  - providers:\n    - name: {provider}\n    customTags:\n{tags}")
            }
            Self::Owner => "  - disableSpanReporting: true\n".to_owned(),
        };
        format!(
            "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata:\n  name: {}\n  \
             namespace: {}\n  labels:\n    app.kubernetes.io/name: tracemeter\nspec:\n{selector}  \
             tracing:\n{tracing}",
            resource.name, resource.namespace
        )
    }
}
