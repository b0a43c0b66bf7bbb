//! Envoy Gateway's EnvoyExtensionPolicy. Experimental: rendered and checked against its schema,
//! never run under Envoy Gateway.

use mesh_config::docs;

use super::resource::Resource;
use super::usage;
use crate::output::Failure;
use crate::render::quoted;

pub(super) fn render(resource: &Resource) -> Result<String, Failure> {
    if resource.targets.is_empty() {
        return usage("an EnvoyExtensionPolicy needs `--target Gateway/NAME`");
    }
    if resource.policy.export.cluster.starts_with("outbound|") {
        return usage(
            "Envoy Gateway names clusters in its own way: give `--collector-cluster` the one that \
             its configuration has for the collector",
        );
    }
    let mut out = resource.head("gateway.envoyproxy.io/v1alpha1", "");
    out.push_str(&resource.target_refs()?);
    out.push_str(&format!(
        "  wasm:\n  - name: {}\n    rootID: tracemeter\n    failOpen: {}\n{}    config:\n",
        resource.name,
        resource.strategy == "FAIL_OPEN",
        code(resource)
    ));
    out.push_str(&docs::filter_yaml(&resource.policy, 6));
    Ok(out)
}

fn code(resource: &Resource) -> String {
    let (kind, key, url) = match resource.url.strip_prefix("oci://") {
        Some(image) => ("Image", "image", image),
        None => ("HTTP", "http", resource.url.as_str()),
    };
    let mut out = format!(
        "    code:\n      type: {kind}\n      pullPolicy: IfNotPresent\n      {key}:\n        url: {}\n",
        quoted(url)
    );
    if let Some(digest) = &resource.sha256 {
        out.push_str(&format!("        sha256: {}\n", quoted(digest)));
    }
    out
}
