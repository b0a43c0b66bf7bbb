//! A complete Envoy 1.40 configuration: one sidecar with an inbound and an outbound listener, or
//! one ingress, with the filter, and nothing that a running mesh would have to add.
//!
//! Choices that keep requests safe: the module's VM id is unique to the service (VMs with the
//! default id share their data with every other plugin), a trapped VM is reloaded after 50 ms,
//! HTTP/1 trailers are on, and the route timeout is off because the callers have one.

mod clusters;
mod tracing;

use mesh_config::Policy;
use mesh_config::policy::{Direction, Mode};

use self::clusters::{cluster, collector_cluster, tracer_cluster};

use super::{filter_json, quoted, single_quoted};
use crate::args::Args;
use crate::output::{self, Failure};

const HELP: &str = "\
usage: mesh-config render envoy --wasm PATH --service NAME [OPTIONS]

Prints a complete Envoy configuration. Ports may be 0: ask the admin page for the real ones.

  --policy FILE            the policy; without it every default holds
  --wasm PATH              path of tracemeter.wasm as Envoy sees it
  --service NAME           the service that the proxy stands beside
  --namespace NS           its namespace (default: default)
  --environment NAME       its environment, such as staging
  --collector HOST:PORT    the collector's OTLP/HTTP address; without it export is off
  --role sidecar|ingress   default: sidecar
  --inbound LISTEN=APP     sidecar: address of the listener and of the application, HOST:PORT each
  --inbound LISTEN         ingress: address of the listener
  --outbound LISTEN        sidecar: address of the listener for calls of the application
  --route HOST=HOST:PORT   where requests for a host go (repeatable; `*` for all others)
  --tracer HOST:PORT       switch Envoy's own OpenTelemetry tracer on as well and send its spans to
                           this OTLP/gRPC address: beside the filter's in mode `owner`, instead of
                           them and with cost and class as tags in mode `companion`
  --admin HOST:PORT        admin page (default: 127.0.0.1:0)
  --node-id ID             default: SERVICE.NAMESPACE
  --access-log PATH        one line per request, kept or not, with its trace id in `traceparent=`
                           (`/dev/stdout` works)
  --filter-file PATH       the filter's configuration is read from this file and followed when it
                           changes; `mesh-config render filter` prints its content
  --per-direction          one configuration for the inbound and one for the outbound listener, so
                           that the filter need not ask for the direction of each request; each has
                           its own queue, ledger and local rate control then
";

const FILTER_HELP: &str = "\
usage: mesh-config render filter --wasm PATH --service NAME [OPTIONS]

Prints the filter's configuration as a file that a proxy rendered with `--filter-file` watches.
Replace the file by moving a new one over it: Envoy then takes the new policy over without
dropping a request. --role, --policy, --service, --namespace, --environment, --wasm and --collector
have to be those of the proxy.
";

const OPTIONS: &[&str] = &[
    "policy",
    "wasm",
    "service",
    "namespace",
    "environment",
    "collector",
    "role",
    "inbound",
    "outbound",
    "route",
    "admin",
    "node-id",
    "filter-file",
    "access-log",
    "tracer",
];

/// The cluster of the collector, unless the policy names it.
const COLLECTOR: &str = "tracemeter_collector";
/// The cluster of Envoy's own tracer.
const TRACER: &str = "tracemeter_tracer";

struct Address {
    host: String,
    port: u16,
}

impl Address {
    fn parse(text: &str) -> Result<Self, Failure> {
        let split = text.rsplit_once(':');
        let parsed = split.and_then(|(host, port)| Some((host, port.parse().ok()?)));
        match parsed {
            Some((host, port)) if !host.is_empty() => Ok(Self {
                host: host.trim_matches(['[', ']']).to_owned(),
                port,
            }),
            _ => Err(Failure::Usage(format!("`{text}` is not HOST:PORT"))),
        }
    }

    fn yaml(&self) -> String {
        let Self { host, port } = self;
        format!(
            "{{socket_address: {{address: {}, port_value: {port}}}}}",
            quoted(host)
        )
    }

    fn is_ip(&self) -> bool {
        self.host.parse::<std::net::IpAddr>().is_ok()
    }
}

/// Everything the templates need.
struct Proxy {
    service: String,
    namespace: String,
    node_id: String,
    admin: Address,
    collector: Option<Address>,
    /// The collector's cluster: what the filter exports to is what is rendered.
    collector_cluster: String,
    tracer: Option<Address>,
    mode: Mode,
    inbound: Option<(Address, Option<Address>)>,
    outbound: Option<Address>,
    routes: Vec<(String, Address)>,
    ingress: bool,
    filter_file: Option<String>,
    access_log: Option<String>,
    wasm: String,
    json: String,
    /// The configurations of the inbound and the outbound listener where they differ.
    per_direction: Option<[String; 2]>,
}

pub(super) fn run(words: Vec<String>) -> Result<(), Failure> {
    let args = Args::parse(words, HELP, OPTIONS, &["per-direction"])?;
    let proxy = Proxy::new(&args)?;
    if args.has("per-direction") && (proxy.ingress || proxy.filter_file.is_some()) {
        return Err(Failure::Usage(
            "`--per-direction` is for sidecars without `--filter-file`".to_owned(),
        ));
    }
    if proxy.inbound.is_none() && proxy.outbound.is_none() {
        return Err(Failure::Usage(
            "neither `--inbound` nor `--outbound` is given".to_owned(),
        ));
    }
    output::print(&proxy.config())
}

pub(super) fn run_filter(words: Vec<String>) -> Result<(), Failure> {
    let args = Args::parse(words, FILTER_HELP, OPTIONS, &[])?;
    let proxy = Proxy::new(&args)?;
    output::print(&proxy.filter_resource())
}

impl Proxy {
    fn new(args: &Args) -> Result<Self, Failure> {
        args.no_rest()?;
        let service = args.required("service")?.to_owned();
        let ingress = match args.value("role").unwrap_or("sidecar") {
            "sidecar" => false,
            "ingress" => true,
            other => {
                let message = format!("role `{other}` is not one of `sidecar`, `ingress`");
                return Err(Failure::Usage(message));
            }
        };
        let namespace = args.value("namespace").unwrap_or("default").to_owned();
        let collector = args.value("collector").map(Address::parse).transpose()?;
        let mut policy = output::load_quietly(args.value("policy"))?;
        own_service(
            &mut policy,
            &service,
            &namespace,
            args.value("environment"),
            ingress,
        );
        let mode = policy.propagation.mode;
        let collector_cluster = match policy.export.cluster.as_str() {
            "" => COLLECTOR.to_owned(),
            named => named.to_owned(),
        };
        let exported = |policy: Policy| match &collector {
            Some(_) => filter_json(policy, COLLECTOR),
            None => policy.to_filter_json(),
        };
        let per_direction = args.has("per-direction").then(|| {
            [Direction::Inbound, Direction::Outbound].map(|direction| {
                let mut policy = policy.clone();
                policy.service.direction = direction;
                exported(policy)
            })
        });
        let json = exported(policy);
        let node_id = args
            .value("node-id")
            .map_or_else(|| format!("{service}.{namespace}"), str::to_owned);
        Ok(Self {
            inbound: args
                .value("inbound")
                .map(|text| inbound(text, ingress))
                .transpose()?,
            outbound: args.value("outbound").map(Address::parse).transpose()?,
            routes: args.all("route").map(route).collect::<Result<_, _>>()?,
            admin: Address::parse(args.value("admin").unwrap_or("127.0.0.1:0"))?,
            filter_file: args.value("filter-file").map(str::to_owned),
            access_log: args.value("access-log").map(str::to_owned),
            wasm: args.required("wasm")?.to_owned(),
            service,
            namespace,
            node_id,
            collector,
            collector_cluster,
            tracer: args.value("tracer").map(Address::parse).transpose()?,
            mode,
            ingress,
            json,
            per_direction,
        })
    }

    fn config(&self) -> String {
        let mut listeners = String::new();
        let mut clusters = String::new();
        if let Some((listen, application)) = &self.inbound {
            let (name, direction) = if self.ingress {
                ("ingress", "UNSPECIFIED")
            } else {
                ("inbound", "INBOUND")
            };
            let hosts = match application {
                Some(address) => {
                    clusters.push_str(&cluster("application", address));
                    virtual_host("*", "application")
                }
                None => self.route_hosts(),
            };
            listeners.push_str(&self.listener(name, direction, listen, &hosts));
        }
        if let Some(listen) = &self.outbound {
            listeners.push_str(&self.listener("outbound", "OUTBOUND", listen, &self.route_hosts()));
        }
        for (host, address) in &self.routes {
            clusters.push_str(&cluster(&cluster_name(host), address));
        }
        if let Some(address) = &self.collector {
            clusters.push_str(&collector_cluster(&self.collector_cluster, address));
        }
        if let Some(address) = &self.tracer {
            clusters.push_str(&tracer_cluster(address));
        }
        let clusters = if clusters.is_empty() {
            "    []\n".to_owned()
        } else {
            clusters
        };
        format!(
            "# Generated by `mesh-config render envoy`. Run it with:\n\
             #   envoy --disable-hot-restart -c FILE\n\
             node:\n  id: {id}\n  cluster: {service}\n  metadata:\n    NAMESPACE: {namespace}\n    \
             WORKLOAD_NAME: {service}\n    LABELS: {{app: {service}}}\n\
             admin:\n  address: {admin}\n\
             static_resources:\n  listeners:\n{listeners}  clusters:\n{clusters}",
            id = quoted(&self.node_id),
            service = quoted(&self.service),
            namespace = quoted(&self.namespace),
            admin = self.admin.yaml(),
        )
    }

    fn route_hosts(&self) -> String {
        self.routes
            .iter()
            .map(|(host, _)| virtual_host(host, &cluster_name(host)))
            .collect()
    }

    fn listener(&self, name: &str, direction: &str, address: &Address, hosts: &str) -> String {
        let hosts = if hosts.is_empty() {
            "                []\n"
        } else {
            hosts
        };
        format!(
            r#"  - name: {name}
    traffic_direction: {direction}
    address: {address}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {name}
          codec_type: AUTO
          http_protocol_options: {{enable_trailers: true}}
{log}{tracing}          http_filters:
{filter}          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
          route_config:
            name: {name}
            ignore_port_in_host_matching: true
            virtual_hosts:
{hosts}"#,
            address = address.yaml(),
            filter = self.http_filter(direction),
            log = self.access_log(),
            tracing = self.tracer.as_ref().map_or(String::new(), |_| {
                tracing::block(self.mode, &self.service)
            }),
        )
    }

    /// The log sees the request headers as the filter left them, so the trace id is always there.
    fn access_log(&self) -> String {
        let Some(path) = &self.access_log else {
            return String::new();
        };
        let line = "[%START_TIME%] %REQ(:METHOD)% %REQ(:AUTHORITY)%%REQ(:PATH)% %RESPONSE_CODE% \
            %RESPONSE_FLAGS% %DURATION%ms traceparent=%REQ(TRACEPARENT)%\n";
        format!(
            r#"          access_log:
          - name: envoy.access_loggers.file
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: {path}
              log_format: {{text_format_source: {{inline_string: {line}}}}}
"#,
            path = quoted(path),
            line = quoted(line),
        )
    }

    /// The filter within a listener: its configuration, or the file to read it from.
    fn http_filter(&self, direction: &str) -> String {
        let json = match (&self.per_direction, direction) {
            (Some([inbound, _]), "INBOUND") => inbound,
            (Some([_, outbound]), "OUTBOUND") => outbound,
            _ => &self.json,
        };
        match &self.filter_file {
            None => format!(
                "          - name: tracemeter\n            typed_config:\n{}",
                indent(&self.wasm_filter(json), 14)
            ),
            Some(path) => format!(
                r#"          - name: tracemeter
            config_discovery:
              config_source:
                path_config_source: {{path: {}}}
                resource_api_version: V3
                initial_fetch_timeout: 0s
              type_urls: [type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm]
"#,
                quoted(path)
            ),
        }
    }

    fn wasm_filter(&self, json: &str) -> String {
        format!(
            r#""@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
config:
  name: tracemeter
  root_id: tracemeter
  failure_policy: FAIL_RELOAD
  reload_config: {{backoff: {{base_interval: 0.05s}}}}
  vm_config:
    vm_id: {vm}
    runtime: envoy.wasm.runtime.v8
    code: {{local: {{filename: {wasm}}}}}
  configuration:
    "@type": type.googleapis.com/google.protobuf.StringValue
    value: {json}
"#,
            vm = quoted(&format!("tracemeter.{}.{}", self.service, self.namespace)),
            wasm = quoted(&self.wasm),
            json = single_quoted(json),
        )
    }

    fn filter_resource(&self) -> String {
        format!(
            "# Generated by `mesh-config render filter`.\n\
             resources:\n\
             - \"@type\": type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig\n  \
               name: tracemeter\n  typed_config:\n{}",
            indent(&self.wasm_filter(&self.json), 4)
        )
    }
}

/// Writes what the command line says about the service into the policy, where it says nothing.
fn own_service(
    policy: &mut Policy,
    service: &str,
    namespace: &str,
    environment: Option<&str>,
    ingress: bool,
) {
    service.clone_into(&mut policy.service.name);
    namespace.clone_into(&mut policy.service.namespace);
    if let Some(environment) = environment {
        environment.clone_into(&mut policy.service.environment);
    }
    if ingress && policy.service.direction == Direction::Auto {
        policy.service.direction = Direction::Gateway;
    }
}

fn inbound(text: &str, ingress: bool) -> Result<(Address, Option<Address>), Failure> {
    match (text.split_once('='), ingress) {
        (None, true) => Ok((Address::parse(text)?, None)),
        (Some((listen, application)), false) => {
            Ok((Address::parse(listen)?, Some(Address::parse(application)?)))
        }
        (Some(_), true) => Err(Failure::Usage(
            "`--inbound` of an ingress is HOST:PORT; see `--route`".to_owned(),
        )),
        (None, false) => Err(Failure::Usage(
            "`--inbound` of a sidecar is HOST:PORT=HOST:PORT".to_owned(),
        )),
    }
}

fn route(text: &str) -> Result<(String, Address), Failure> {
    let Some((host, address)) = text.split_once('=') else {
        return Err(Failure::Usage(format!(
            "route `{text}` is not HOST=HOST:PORT"
        )));
    };
    Ok((host.to_owned(), Address::parse(address)?))
}

fn cluster_name(host: &str) -> String {
    if host == "*" {
        "default_route".to_owned()
    } else {
        format!("to_{host}")
    }
}

fn virtual_host(host: &str, cluster: &str) -> String {
    let (domain, cluster) = (quoted(host), quoted(cluster));
    format!(
        "            - name: {cluster}\n              domains: [{domain}]\n              routes:\n              \
         - match: {{prefix: \"/\"}}\n                route: {{cluster: {cluster}, timeout: 0s}}\n"
    )
}

fn indent(text: &str, by: usize) -> String {
    text.lines()
        .map(|line| format!("{}{line}\n", " ".repeat(by)))
        .collect()
}
