//! The splice test: what each EnvoyFilter of `istio/` would put into a proxy is put into an
//! Istio-shaped configuration (names of listeners and clusters, directions, neighbouring filters as
//! istiod makes them), and a real Envoy validates it and serves traffic with it.
//!
//! Not istiod: which chains a patch matches is done here by its context and by the router it names.
//! Changed in the patch are only the place of the module and, for ECDS, who serves the resource: both
//! as Istio's agent rewrites them. Istio's own filters (metadata exchange, stats) are not in the stock
//! Envoy and left out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use integration_tests::app::{App, Plan, Recorded};
use integration_tests::artefacts;
use integration_tests::client::{Call, Client, Protocol};
use integration_tests::collector::Collector;
use integration_tests::envoy::Envoy;
use serde_json::{Value, json};
use tempfile::TempDir;

const COLLECTOR: &str = "outbound|4318||tracemeter-collector.tracemeter.svc.cluster.local";
const ORDERS: &str = "outbound|9000||orders.shop.svc.cluster.local";
const APPLICATION: &str = "inbound|8080||";
const ROUTER: &str = "envoy.filters.http.router";
const REQUESTS: usize = 20;

fn root() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.parent().unwrap().to_owned()
}

fn envoy_filter(path: &str) -> Value {
    let tools = artefacts::manifest_tools().unwrap();
    let script = root().join("integration-tests/tests/manifests/read_yaml.mjs");
    let file = std::fs::File::open(root().join("istio/filter").join(path)).unwrap();
    let output = Command::new("node")
        .arg(script)
        .arg(tools)
        .stdin(Stdio::from(file))
        .output()
        .unwrap();
    assert!(output.status.success());
    let documents: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let found = documents.into_iter().find(|it| it["kind"] == "EnvoyFilter");
    found.expect("an EnvoyFilter")
}

fn extension(name: &str, kind: &str, fields: Value) -> Value {
    let mut config = fields;
    config["@type"] = json!(format!("type.googleapis.com/envoy.extensions.{kind}"));
    json!({"name": name, "typed_config": config})
}

/// The HTTP filters that istiod puts around, as far as the stock Envoy has them.
fn neighbours() -> Vec<Value> {
    vec![
        extension(
            "istio.stats.grpc",
            "filters.http.grpc_stats.v3.FilterConfig",
            json!({"emit_filter_state": true, "stats_for_all_methods": false}),
        ),
        extension(
            "envoy.filters.http.fault",
            "filters.http.fault.v3.HTTPFault",
            json!({}),
        ),
        extension(
            "envoy.filters.http.cors",
            "filters.http.cors.v3.Cors",
            json!({}),
        ),
        extension(ROUTER, "filters.http.router.v3.Router", json!({})),
    ]
}

fn listener(name: &str, direction: &str, cluster: &str, filters: &[Value]) -> Value {
    let manager = extension(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": name,
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]}]},
            "http_filters": filters,
        }),
    );
    json!({
        "name": name, "traffic_direction": direction,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [manager]}],
    })
}

fn cluster(name: &str, at: SocketAddr) -> Value {
    json!({
        "name": name, "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint":
            {"address": {"socket_address": {"address": at.ip().to_string(),
                "port_value": at.port()}}}}]}]},
    })
}

/// What the agent does to a resource with a remote module: a local file.
fn with_local_module(typed_config: &mut Value) {
    let module = artefacts::module().unwrap();
    let code = json!({"local": {"filename": module}});
    typed_config["config"]["vm_config"]["code"] = code;
}

/// A proxy that one EnvoyFilter was applied to.
struct Spliced {
    filter: Value,
    folder: TempDir,
}

impl Spliced {
    fn patches(&self, apply_to: &str) -> impl Iterator<Item = &Value> {
        let patches = self.filter["spec"]["configPatches"].as_array().unwrap();
        let apply_to = apply_to.to_owned();
        patches
            .iter()
            .filter(move |it| it["applyTo"] == apply_to.as_str())
    }

    /// The filters of a listener of this context; how many came from the patches.
    fn filters(&self, context: &str) -> (Vec<Value>, usize) {
        let mut filters = neighbours();
        let mut added = 0;
        for patch in self.patches("HTTP_FILTER") {
            let matched = &patch["match"];
            if matched["context"] != context && matched["context"] != "ANY" {
                continue;
            }
            let router = "/listener/filterChain/filter/subFilter/name";
            assert_eq!(matched.pointer(router).unwrap(), ROUTER);
            assert_eq!(patch["patch"]["operation"], "INSERT_BEFORE");
            let mut value = patch["patch"]["value"].clone();
            if value["config_discovery"].is_object() {
                let source = &mut value["config_discovery"]["config_source"];
                source.as_object_mut().unwrap().remove("ads");
                source["path_config_source"] = json!({"path": self.resource_file()});
            } else {
                with_local_module(&mut value["typed_config"]);
            }
            let at = filters.iter().position(|it| it["name"] == ROUTER).unwrap();
            filters.insert(at, value);
            added += 1;
        }
        (filters, added)
    }

    fn resource_file(&self) -> PathBuf {
        self.folder.path().join("ecds.json")
    }

    /// The resource that istiod would push by ECDS.
    fn write_resource(&self) {
        for patch in self.patches("EXTENSION_CONFIG") {
            let mut resource = patch["patch"]["value"].clone();
            with_local_module(&mut resource["typed_config"]);
            resource["@type"] =
                json!("type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig");
            let response = json!({"version_info": "1", "resources": [resource]});
            std::fs::write(self.resource_file(), response.to_string()).unwrap();
        }
    }
}

fn proxy(gateway: bool, listeners: &[Value], clusters: &[Value]) -> String {
    let (kind, name) = if gateway {
        ("router", "istio-ingressgateway")
    } else {
        ("sidecar", "payment")
    };
    let labels = json!({"service.istio.io/canonical-name": name, "app": name});
    json!({
        "node": {
            "id": format!("{kind}~127.0.0.1~{name}-1.shop~shop.svc.cluster.local"),
            "cluster": format!("{name}.shop"),
            "metadata": {"NAME": format!("{name}-1"), "NAMESPACE": "shop",
                "WORKLOAD_NAME": name, "CLUSTER_ID": "Kubernetes", "LABELS": labels},
        },
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
    .to_string()
}

async fn send(at: SocketAddr) {
    let client = Client::new(at);
    for _ in 0..REQUESTS {
        let call = Call::new(Protocol::Http1, "orders.shop.svc.cluster.local", "/pay/1");
        let reply = client.send(call).await.unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
    }
}

fn assert_rewritten(app: &App) {
    let recorded: Vec<Recorded> = app.take_recorded();
    assert_eq!(recorded.len(), REQUESTS);
    for request in recorded {
        assert_eq!(request.headers.lines("traceparent").count(), 1);
        let state = request.headers.text("tracestate");
        assert!(state.contains("cost_usd="), "{state}");
    }
}

async fn assert_counted(collector: &Collector, direction: &str) {
    let query =
        format!("SELECT COALESCE(SUM(requests), 0) FROM ledger WHERE direction = '{direction}'");
    let all = |count: f64| count >= REQUESTS as f64;
    let counted = collector.wait_for_number(&query, Duration::from_secs(60), all);
    assert_eq!(counted.await.unwrap() as usize, REQUESTS, "{direction}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_envoy_filter_serves_traffic_in_an_istio_shaped_proxy() {
    let sample = std::fs::read_to_string(root().join("mesh-config/samples/tracemeter.yaml"));
    let sample = sample.unwrap();
    for path in [
        "mesh/envoyfilter/filter.yaml",
        "mesh/envoyfilter-inline/filter.yaml",
        "opt-in/envoyfilter/filter.yaml",
        "opt-in/envoyfilter-inline/filter.yaml",
        "gateway/envoyfilter/filter.yaml",
        "gateway/envoyfilter-inline/filter.yaml",
    ] {
        let spliced = Spliced {
            filter: envoy_filter(path),
            folder: tempfile::tempdir().unwrap(),
        };
        spliced.write_resource();
        let answer = |_: &Recorded| Plan::default();
        let (app, orders) = (
            App::start(answer).await.unwrap(),
            App::start(answer).await.unwrap(),
        );
        let collector = Collector::start(Some(&sample)).await.unwrap();
        let clusters = [
            cluster(COLLECTOR, collector.http()),
            cluster(ORDERS, orders.address()),
            cluster(APPLICATION, app.address()),
        ];
        let (inbound, serving) = spliced.filters("SIDECAR_INBOUND");
        let (outbound, calling) = spliced.filters("SIDECAR_OUTBOUND");
        let (edge, gateway) = spliced.filters("GATEWAY");
        assert!(serving + calling + gateway > 0, "{path} changes nothing");
        if serving > 0 {
            let listeners = [
                listener("virtualInbound", "INBOUND", APPLICATION, &inbound),
                listener("virtualOutbound", "OUTBOUND", ORDERS, &outbound),
            ];
            let config = proxy(false, &listeners, &clusters);
            let envoy = Envoy::start("sidecar", &config, 1).await.unwrap();
            send(envoy.listener("virtualInbound").unwrap()).await;
            assert_rewritten(&app);
            send(envoy.listener("virtualOutbound").unwrap()).await;
            assert_rewritten(&orders);
            assert_counted(&collector, "inbound").await;
            assert_counted(&collector, "outbound").await;
        }
        if gateway > 0 {
            let listeners = [listener("0.0.0.0_8080", "OUTBOUND", ORDERS, &edge)];
            let config = proxy(true, &listeners, &clusters);
            let envoy = Envoy::start("gateway", &config, 1).await.unwrap();
            send(envoy.listener("0.0.0.0_8080").unwrap()).await;
            assert_rewritten(&orders);
            assert_counted(&collector, "gateway").await;
        }
        println!("{path}: {serving} inbound, {calling} outbound, {gateway} at the gateway");
    }
}
