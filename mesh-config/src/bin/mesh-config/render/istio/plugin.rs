//! WasmPlugin, and TrafficExtension, in which the same keys stand under `wasm`.

use mesh_config::{Policy, docs};

use super::resource::{Kind, Resource};
use crate::output::Failure;
use crate::render::quoted;

pub(super) fn render(resource: &Resource) -> Result<Vec<String>, Failure> {
    resource
        .variants()
        .iter()
        .map(|(suffix, policy)| one(resource, suffix, policy))
        .collect()
}

fn one(resource: &Resource, suffix: &str, policy: &Policy) -> Result<String, Failure> {
    let mut out = resource.head("extensions.istio.io/v1alpha1", suffix);
    out.push_str(&resource.labels("selector", "matchLabels"));
    out.push_str(&resource.target_refs()?);
    // A gateway counts as a client here, so neither variant must be meant for one.
    out.push_str(match suffix {
        "-inbound" => "  match:\n  - mode: SERVER\n",
        "-outbound" => "  match:\n  - mode: CLIENT\n",
        _ => "",
    });
    out.push_str("  phase: STATS\n  priority: 10\n");
    let pad = if resource.kind == Kind::TrafficExtension {
        out.push_str("  wasm:\n");
        "    "
    } else {
        "  "
    };
    out.push_str(&format!("{pad}url: {}\n", quoted(&resource.url)));
    if let Some(digest) = &resource.sha256 {
        out.push_str(&format!("{pad}sha256: {}\n", quoted(digest)));
    }
    out.push_str(&format!(
        "{pad}imagePullPolicy: IfNotPresent\n{pad}pluginName: tracemeter\n\
         {pad}failStrategy: {}\n{pad}pluginConfig:\n",
        resource.strategy
    ));
    out.push_str(&docs::filter_yaml(policy, pad.len() + 2));
    Ok(out)
}
