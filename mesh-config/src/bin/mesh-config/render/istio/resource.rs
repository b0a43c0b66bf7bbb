//! What all kinds of resources have in common, as the command line gives it.

use mesh_config::Policy;
use mesh_config::policy::Direction;

use super::usage;
use crate::args::Args;
use crate::output::{self, Failure};
use crate::render::quoted;

const COLLECTOR: &str = "tracemeter-collector.tracemeter.svc.cluster.local:4318";
const STRATEGIES: [&str; 3] = ["FAIL_OPEN", "FAIL_RELOAD", "FAIL_CLOSE"];
/// What Istio accepts.
const MAX_TARGETS: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    EnvoyExtensionPolicy,
    EnvoyFilter,
    Telemetry,
    TrafficExtension,
    WasmPlugin,
}

impl Kind {
    fn parse(text: &str) -> Result<Self, Failure> {
        Ok(match text {
            "EnvoyExtensionPolicy" => Self::EnvoyExtensionPolicy,
            "EnvoyFilter" => Self::EnvoyFilter,
            "Telemetry" => Self::Telemetry,
            "TrafficExtension" => Self::TrafficExtension,
            "WasmPlugin" => Self::WasmPlugin,
            other => {
                return usage(format!(
                    "kind `{other}` is not one of `TrafficExtension`, `WasmPlugin`, `EnvoyFilter`, \
                     `EnvoyExtensionPolicy`, `Telemetry`"
                ));
            }
        })
    }
}

/// Which proxies the resource is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Gateway,
    Mesh,
    Sidecar,
    Waypoint,
}

impl Role {
    fn read(args: &Args) -> Result<Self, Failure> {
        match (args.value("role"), args.has("gateway")) {
            (None, false) | (Some("sidecar"), false) => Ok(Self::Sidecar),
            (None | Some("gateway"), _) => Ok(Self::Gateway),
            (Some("mesh"), false) => Ok(Self::Mesh),
            (Some("waypoint"), false) => Ok(Self::Waypoint),
            (Some(role), true) => usage(format!("`--gateway` contradicts `--role {role}`")),
            (Some(other), false) => usage(format!(
                "role `{other}` is not one of `sidecar`, `gateway`, `mesh`, `waypoint`"
            )),
        }
    }
}

pub(super) struct Resource {
    pub(super) kind: Kind,
    pub(super) role: Role,
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) url: String,
    pub(super) sha256: Option<String>,
    pub(super) selectors: Vec<(String, String)>,
    pub(super) targets: Vec<(String, String)>,
    pub(super) strategy: String,
    pub(super) per_direction: bool,
    pub(super) inline: bool,
    pub(super) module_cluster: Option<String>,
    /// `NAMESPACE/HOST` of the collector's service, when the resource has to name it.
    pub(super) reference: Option<String>,
    pub(super) policy: Policy,
}

impl Resource {
    pub(super) fn read(args: &Args) -> Result<Self, Failure> {
        args.no_rest()?;
        let kind = Kind::parse(args.value("kind").unwrap_or("WasmPlugin"))?;
        let role = if kind == Kind::EnvoyExtensionPolicy {
            Role::Gateway
        } else {
            Role::read(args)?
        };
        let (host, port) = pair(
            args.value("collector").unwrap_or(COLLECTOR),
            ':',
            "HOST:PORT",
        )?;
        let reference = if args.has("reference-collector") {
            Some(reference(&host)?)
        } else {
            None
        };
        let inline = args.has("inline");
        let default_url = concat!(
            "oci://registry.example/tracemeter:",
            env!("CARGO_PKG_VERSION")
        );
        let url = args.value("url").unwrap_or(default_url).to_owned();
        let resource = Self {
            kind,
            role,
            name: dns_name(args.value("name").unwrap_or("tracemeter"))?,
            namespace: dns_name(args.value("namespace").unwrap_or("istio-system"))?,
            strategy: strategy(args, inline && url.starts_with("file://"))?,
            url,
            sha256: args.value("sha256").map(digest).transpose()?,
            selectors: args
                .all("selector")
                .map(|text| pair(text, '=', "KEY=VALUE"))
                .collect::<Result<_, _>>()?,
            targets: args
                .all("target")
                .map(|text| pair(text, '/', "KIND/NAME"))
                .collect::<Result<_, _>>()?,
            per_direction: args.has("per-direction"),
            inline,
            module_cluster: args.value("module-cluster").map(str::to_owned),
            reference,
            policy: policy(args, role, &host, &port)?,
        };
        resource.check()?;
        Ok(resource)
    }

    /// Refuses what Istio would accept and silently not apply.
    fn check(&self) -> Result<(), Failure> {
        if !self.targets.is_empty() && !self.selectors.is_empty() {
            return usage("`--selector` and `--target` exclude each other");
        }
        if self.targets.len() > MAX_TARGETS {
            return usage(format!("more than {MAX_TARGETS} targets"));
        }
        let envoy_filter = self.kind == Kind::EnvoyFilter;
        if envoy_filter && (!self.targets.is_empty() || self.role == Role::Waypoint) {
            return usage(
                "Istio has no EnvoyFilter for waypoints: use TrafficExtension or WasmPlugin",
            );
        }
        if self.role == Role::Waypoint && self.targets.is_empty() && self.kind != Kind::Telemetry {
            return usage("a waypoint is selected by `--target` only, such as `Gateway/waypoint`");
        }
        if !envoy_filter && (self.inline || self.reference.is_some()) {
            return usage("`--inline` and `--reference-collector` are for `--kind EnvoyFilter`");
        }
        if self.per_direction && self.role != Role::Sidecar {
            return usage("`--per-direction` is for `--role sidecar`: others have one direction");
        }
        Ok(())
    }

    /// Kind, name and labels; `spec:` follows.
    pub(super) fn head(&self, version: &str, suffix: &str) -> String {
        let annotations = self.reference.as_ref().map_or(String::new(), |reference| {
            format!("  annotations:\n    envoyfilter.istio.io/referenced-services: {reference}\n")
        });
        format!(
            "apiVersion: {version}\nkind: {:?}\nmetadata:\n  name: {}{suffix}\n  namespace: {}\n  \
             labels:\n    app.kubernetes.io/name: tracemeter\n{annotations}spec:\n",
            self.kind, self.name, self.namespace
        )
    }

    pub(super) fn labels(&self, key: &str, inner: &str) -> String {
        if self.selectors.is_empty() {
            return String::new();
        }
        let mut out = format!("  {key}:\n    {inner}:\n");
        for (label, value) in &self.selectors {
            out.push_str(&format!("      {}: {}\n", quoted(label), quoted(value)));
        }
        out
    }

    pub(super) fn target_refs(&self) -> Result<String, Failure> {
        if self.targets.is_empty() {
            return Ok(String::new());
        }
        let mut out = "  targetRefs:\n".to_owned();
        for (kind, name) in &self.targets {
            let group = match kind.as_str() {
                "Gateway" | "GatewayClass" | "HTTPRoute" => "gateway.networking.k8s.io",
                "ServiceEntry" => "networking.istio.io",
                "Service" => "\"\"",
                other => {
                    return usage(format!(
                        "target kind `{other}` is not one of `Gateway`, `GatewayClass`, `Service`, \
                         `ServiceEntry`, `HTTPRoute`"
                    ));
                }
            };
            out.push_str(&format!(
                "  - kind: {kind}\n    group: {group}\n    name: {}\n",
                quoted(name)
            ));
        }
        Ok(out)
    }

    /// The policy for each resource or listener to be made, with what tells their names apart.
    pub(super) fn variants(&self) -> Vec<(&'static str, Policy)> {
        if !self.per_direction {
            return vec![("", self.policy.clone())];
        }
        [
            ("-inbound", Direction::Inbound),
            ("-outbound", Direction::Outbound),
        ]
        .map(|(suffix, direction)| {
            let mut policy = self.policy.clone();
            policy.service.direction = direction;
            (suffix, policy)
        })
        .into()
    }
}

fn policy(args: &Args, role: Role, host: &str, port: &str) -> Result<Policy, Failure> {
    let mut policy = output::load_quietly(args.value("policy"))?;
    if let Some(cluster) = args.value("collector-cluster") {
        cluster.clone_into(&mut policy.export.cluster);
        host.clone_into(&mut policy.export.authority);
    } else if policy.export.cluster.is_empty() {
        policy.export.cluster = format!("outbound|{port}||{host}");
        host.clone_into(&mut policy.export.authority);
    }
    if policy.service.direction == Direction::Auto {
        policy.service.direction = match role {
            // Istio's gateways have listeners of direction outbound.
            Role::Gateway => Direction::Gateway,
            // It stands before the services that it serves.
            Role::Waypoint => Direction::Inbound,
            Role::Mesh | Role::Sidecar => Direction::Auto,
        };
    }
    Ok(policy)
}

fn strategy(args: &Args, local_file: bool) -> Result<String, Failure> {
    let default = if local_file {
        "FAIL_RELOAD"
    } else {
        "FAIL_OPEN"
    };
    let strategy = args.value("fail-strategy").unwrap_or(default);
    if STRATEGIES.contains(&strategy) {
        return Ok(strategy.to_owned());
    }
    usage(format!(
        "strategy `{strategy}` is not one of {}",
        STRATEGIES.join(", ")
    ))
}

fn pair(text: &str, sign: char, wanted: &str) -> Result<(String, String), Failure> {
    match text.split_once(sign) {
        Some((left, right)) if !left.is_empty() && !right.is_empty() => {
            Ok((left.to_owned(), right.to_owned()))
        }
        _ => usage(format!("`{text}` is not {wanted}")),
    }
}

fn digest(text: &str) -> Result<String, Failure> {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() == 64 && text.bytes().all(hex) {
        return Ok(text.to_owned());
    }
    usage(format!(
        "sha256 `{text}` is not 64 lower-case hexadecimal digits"
    ))
}

/// `NAMESPACE/HOST` of a service by its name in the cluster.
fn reference(host: &str) -> Result<String, Failure> {
    let mut parts = host.split('.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(namespace), Some("svc")) => Ok(format!("{namespace}/{host}")),
        _ => usage(format!("`{host}` is not NAME.NAMESPACE.svc.DOMAIN")),
    }
}

/// A name that Kubernetes accepts, so that nothing needs quotes.
fn dns_name(text: &str) -> Result<String, Failure> {
    let fine = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.'
    };
    if !text.is_empty() && text.bytes().all(fine) {
        return Ok(text.to_owned());
    }
    usage(format!("`{text}` is not a Kubernetes name"))
}
