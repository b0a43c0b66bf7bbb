//! Istio resources that put the filter beside workloads, with the policy inside.
//!
//! Choices: `phase: STATS` stands behind authentication, so that denied requests cost nothing.
//! `FAIL_OPEN` because Istio's agent answers a failed download with "deny everything" otherwise;
//! where Envoy reads a local file there is no download, and `FAIL_RELOAD` brings a trapped VM back.
//! An EnvoyFilter holds the policy as a JSON string: Envoy hands a protobuf Struct to the filter
//! as raw bytes.

mod envoy_filter;
mod envoy_gateway;
mod plugin;
mod resource;
mod telemetry;

use self::resource::{Kind, Resource};
use self::telemetry::Telemetry;
use crate::args::Args;
use crate::output::{self, Failure};

const HELP: &str = "\
usage: mesh-config render istio [OPTIONS]

Prints a resource that puts the filter beside workloads, with the policy inside.

  --policy FILE          the policy; without it every default holds
  --kind KIND            TrafficExtension (Istio >= 1.30), WasmPlugin (default), EnvoyFilter,
                         EnvoyExtensionPolicy (Envoy Gateway, experimental), or Telemetry alone
  --role ROLE            sidecar (default), gateway, mesh (both) or waypoint. A WasmPlugin without
                         selector in the root namespace reaches gateways too, whatever the role
  --gateway              the same as `--role gateway`: edge trust, SERVER spans
  --url URL              the module: oci://.., https://.. or file://..
                         (default: oci://registry.example/tracemeter:VERSION)
  --sha256 HEX           digest of the OCI manifest, or of the module for other addresses
  --name NAME            name of the resource (default: tracemeter)
  --namespace NS         namespace (default: istio-system, which means the whole mesh)
  --selector KEY=VALUE   only workloads with this label (repeatable)
  --target KIND/NAME     instead of a selector: a Gateway, GatewayClass, Service or ServiceEntry, as
                         ambient mode and Envoy Gateway want it (repeatable, at most 16; not for
                         EnvoyFilter)
  --collector HOST:PORT  the collector's service for OTLP/HTTP
                         (default: tracemeter-collector.tracemeter.svc.cluster.local:4318)
  --collector-cluster C  Envoy's name of the collector's cluster (default: outbound|PORT||HOST)
  --fail-strategy WORD   FAIL_OPEN, FAIL_RELOAD or FAIL_CLOSE (default: FAIL_OPEN; FAIL_RELOAD for
                         `--inline` with a file)
  --per-direction        one configuration for the inbound and one for the outbound listener, so
                         that the filter need not ask for the direction of each request; each has
                         its own queue, ledger and local rate control then. Not for gateways
  --inline               EnvoyFilter: the filter stands in the listener instead of being fetched by
                         Istio's agent. Wants `--url file://..`, or an http(s) address together
                         with `--sha256` and `--module-cluster`
  --module-cluster C     the cluster from which Envoy itself fetches the module
  --reference-collector  EnvoyFilter: name the collector's service in an annotation, so that
                         gateways that get only referenced clusters get this one
  --telemetry WORD       also print a Telemetry resource: owner (Istio's own spans end: its tracer
                         overwrites the filter's trace headers otherwise), beside (Istio >= 1.30:
                         its spans go on, its headers end) or companion (its tracer keeps the
                         headers and gets cost and class as tags)
  --provider NAME        the tracing provider that `beside` and `companion` name
  --with-telemetry       `--telemetry owner`, or `companion` when the policy says so

The collector's pod must not have the filter: label it `sidecar.istio.io/inject: \"false\"`.
";

const OPTIONS: &[&str] = &[
    "policy",
    "kind",
    "role",
    "url",
    "sha256",
    "name",
    "namespace",
    "selector",
    "target",
    "collector",
    "collector-cluster",
    "fail-strategy",
    "module-cluster",
    "telemetry",
    "provider",
];

const SWITCHES: &[&str] = &[
    "gateway",
    "per-direction",
    "inline",
    "reference-collector",
    "with-telemetry",
];

pub(super) fn run(words: Vec<String>) -> Result<(), Failure> {
    let args = Args::parse(words, HELP, OPTIONS, SWITCHES)?;
    let resource = Resource::read(&args)?;
    let telemetry = Telemetry::read(&args, &resource)?;
    let mut documents = match resource.kind {
        Kind::TrafficExtension | Kind::WasmPlugin => plugin::render(&resource)?,
        Kind::EnvoyFilter => vec![envoy_filter::render(&resource)?],
        Kind::EnvoyExtensionPolicy => vec![envoy_gateway::render(&resource)?],
        Kind::Telemetry => Vec::new(),
    };
    documents.extend(telemetry.map(|telemetry| telemetry.render(&resource)));
    let body = documents.join("---\n");
    output::print(&format!(
        "# Generated by `mesh-config render istio`.\n{body}"
    ))
}

fn usage<T>(message: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Usage(message.into()))
}
