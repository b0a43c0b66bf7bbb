//! EnvoyFilter: through ECDS, where Istio's agent fetches the module, or inline in the listener.

use mesh_config::Policy;

use super::resource::{Resource, Role};
use super::usage;
use crate::output::Failure;
use crate::render::{quoted, single_quoted};

const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";

pub(super) fn render(resource: &Resource) -> Result<String, Failure> {
    let mut out = resource.head("networking.istio.io/v1alpha3", "");
    // A priority silences the analyzer's warning about relative positions.
    out.push_str("  priority: 10\n");
    out.push_str(&resource.labels("workloadSelector", "labels"));
    out.push_str("  configPatches:\n");
    let code = code(resource)?;
    for (suffix, policy) in resource.variants() {
        let name = format!("{}{suffix}", resource.name);
        let filter = filter(resource, &name, &policy, &code);
        let value = if resource.inline {
            format!("        name: {name}\n{filter}")
        } else {
            out.push_str(&format!(
                "  - applyTo: EXTENSION_CONFIG\n    match:\n      context: ANY\n    patch:\n      \
                 operation: ADD\n      value:\n        name: {name}\n{filter}"
            ));
            discovery(&name)
        };
        for context in contexts(resource.role, suffix) {
            out.push_str(&insertion(context, &value));
        }
    }
    Ok(out)
}

fn contexts(role: Role, suffix: &str) -> &'static [&'static str] {
    match (role, suffix) {
        (Role::Gateway, _) => &["GATEWAY"],
        (Role::Mesh, _) => &["SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY"],
        (_, "-inbound") => &["SIDECAR_INBOUND"],
        (_, "-outbound") => &["SIDECAR_OUTBOUND"],
        _ => &["SIDECAR_INBOUND", "SIDECAR_OUTBOUND"],
    }
}

fn filter(resource: &Resource, name: &str, policy: &Policy, code: &str) -> String {
    let failure = match resource.strategy.as_str() {
        "FAIL_CLOSE" => "FAIL_CLOSED",
        other => other,
    };
    let reload = if failure == "FAIL_RELOAD" {
        "            reload_config: {backoff: {base_interval: 0.05s}}\n"
    } else {
        ""
    };
    format!(
        r#"        typed_config:
          "@type": {WASM}
          config:
            name: {name}
            root_id: tracemeter
            failure_policy: {failure}
{reload}            configuration:
              "@type": type.googleapis.com/google.protobuf.StringValue
              value: {json}
            vm_config:
              vm_id: {vm}
              runtime: envoy.wasm.runtime.v8
              code:
{code}"#,
        json = single_quoted(&policy.to_filter_json()),
        vm = resource.name,
    )
}

fn code(resource: &Resource) -> Result<String, Failure> {
    if let Some(path) = resource.url.strip_prefix("file://") {
        return Ok(format!(
            "                local:\n                  filename: {}\n",
            quoted(path)
        ));
    }
    let (cluster, digest) = if resource.inline {
        fetched_by_envoy(resource)?
    } else {
        // The agent fetches: it looks at no cluster and takes `nil` for "do not check".
        (
            "_".to_owned(),
            resource.sha256.as_deref().unwrap_or("nil").to_owned(),
        )
    };
    Ok(format!(
        r"                remote:
                  http_uri:
                    uri: {}
                    cluster: {cluster}
                    timeout: 30s
                  sha256: {}
",
        quoted(&resource.url),
        quoted(&digest)
    ))
}

fn fetched_by_envoy(resource: &Resource) -> Result<(String, String), Failure> {
    if !resource.url.starts_with("http") {
        return usage(format!(
            "Envoy itself cannot fetch `{}`: `--inline` wants file:// or http(s)://",
            resource.url
        ));
    }
    match (&resource.module_cluster, &resource.sha256) {
        (Some(cluster), Some(digest)) => Ok((quoted(cluster), digest.clone())),
        _ => usage("`--inline` with a remote module needs `--module-cluster` and `--sha256`"),
    }
}

/// The second type is what the agent sends after a failed download.
fn discovery(name: &str) -> String {
    format!(
        r"        name: {name}
        config_discovery:
          config_source:
            ads: {{}}
            initial_fetch_timeout: 0s
            resource_api_version: V3
          type_urls:
          - {WASM}
          - type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
"
    )
}

/// Puts a filter before the router.
fn insertion(context: &str, value: &str) -> String {
    format!(
        r"  - applyTo: HTTP_FILTER
    match:
      context: {context}
      listener:
        filterChain:
          filter:
            name: envoy.filters.network.http_connection_manager
            subFilter:
              name: envoy.filters.http.router
    patch:
      operation: INSERT_BEFORE
      value:
{value}"
    )
}
