//! The configurations of `istio/envoy/` as they stand, in a real Envoy with real traffic: static ones
//! and the one that watches a file. Only addresses and the places of files are other ones.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use integration_tests::app::{App, Plan};
use integration_tests::artefacts;
use integration_tests::client::{Call, Client, Protocol};
use integration_tests::collector::Collector;
use integration_tests::envoy::Envoy;
use integration_tests::wait::PATIENCE;

mod support;
use support::traceparent;

/// Requests to each listener.
const REQUESTS: usize = 10;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn example(name: &str) -> String {
    fs::read_to_string(repository("istio/envoy").join(name)).unwrap()
}

/// Replaces a text that has to be there.
fn put(text: &mut String, known: &str, other: &str) {
    assert!(text.contains(known), "no `{known}` in {text}");
    *text = text.replace(known, other);
}

fn put_address(text: &mut String, host: &str, port: u16, other: SocketAddr) {
    let address = |host: &str, port| format!(r#"address: "{host}", port_value: {port}}}"#);
    let other = address(&other.ip().to_string(), other.port());
    put(text, &address(host, port), &other);
}

/// What an example needs around it.
struct World {
    folder: tempfile::TempDir,
    app: App,
    orders: App,
    collector: Collector,
}

impl World {
    async fn start() -> Self {
        let policy = fs::read_to_string(repository("mesh-config/samples/tracemeter.yaml"));
        Self {
            folder: tempfile::tempdir().unwrap(),
            app: App::start(|_| Plan::default()).await.unwrap(),
            orders: App::start(|_| Plan::default()).await.unwrap(),
            collector: Collector::start(Some(&policy.unwrap())).await.unwrap(),
        }
    }

    fn with_module(text: &mut String) {
        let module = artefacts::module().unwrap().canonicalize().unwrap();
        put(
            text,
            "/etc/tracemeter/tracemeter.wasm",
            &module.to_string_lossy(),
        );
    }

    /// The example's configuration, at home on this machine.
    fn localised(&self, name: &str) -> String {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut text = example(name);
        put_address(&mut text, "127.0.0.1", 9901, any);
        put_address(&mut text, "0.0.0.0", 8080, any);
        put_address(&mut text, "collector.internal", 4318, self.collector.http());
        if name == "ingress.yaml" {
            put_address(&mut text, "payment.internal", 8080, self.app.address());
        } else {
            put_address(&mut text, "127.0.0.1", 15001, any);
            put_address(&mut text, "127.0.0.1", 9000, self.app.address());
            put_address(&mut text, "orders.internal", 8080, self.orders.address());
        }
        if name == "watching.yaml" {
            let mut watched = example("watched-filter.yaml");
            Self::with_module(&mut watched);
            let file = self.folder.path().join("watched-filter.yaml");
            fs::write(&file, watched).unwrap();
            let known = "/etc/tracemeter/watched-filter.yaml";
            put(&mut text, known, &file.to_string_lossy());
        } else {
            Self::with_module(&mut text);
        }
        text
    }

    async fn assert_counted(&self, direction: &str, requests: usize) {
        let query = format!(
            "SELECT COALESCE(SUM(requests), 0) FROM ledger WHERE direction = '{direction}'"
        );
        let all = |count: f64| count >= requests as f64;
        let counted = self.collector.wait_for_number(&query, PATIENCE, all).await;
        assert_eq!(counted.unwrap() as usize, requests, "{direction}");
    }
}

/// Sends requests to a listener; each reaches the application with a context and its cost.
async fn assert_rewritten(envoy: &Envoy, listener: &str, app: &App) {
    let client = Client::new(envoy.listener(listener).unwrap());
    for _ in 0..REQUESTS {
        let call = Call::new(Protocol::Http1, "orders", "/pay/1");
        let reply = client.send(call).await.unwrap();
        assert!(reply.is_ok(), "{listener}: {reply:?}");
    }
    let recorded = app.take_recorded();
    assert_eq!(recorded.len(), REQUESTS, "{listener}");
    for request in recorded {
        traceparent(&request.headers);
        let state = request.headers.text("tracestate");
        assert!(state.contains("cost_usd="), "{listener}: {state}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_example_for_plain_envoy_serves_traffic_as_it_stands() {
    let world = World::start().await;
    let mut running = Vec::new();
    for name in ["sidecar.yaml", "per-direction.yaml", "watching.yaml"] {
        let config = world.localised(name);
        let envoy = Envoy::start("example", &config, 1).await.unwrap();
        assert_rewritten(&envoy, "inbound", &world.app).await;
        assert_rewritten(&envoy, "outbound", &world.orders).await;
        // Its counts leave a few seconds later.
        running.push(envoy);
    }
    let config = world.localised("ingress.yaml");
    let ingress = Envoy::start("ingress", &config, 1).await.unwrap();
    assert_rewritten(&ingress, "ingress", &world.app).await;
    world.assert_counted("inbound", 3 * REQUESTS).await;
    world.assert_counted("outbound", 3 * REQUESTS).await;
    world.assert_counted("gateway", REQUESTS).await;
}
