//! A plugin configuration that is wrong must never take a listener down.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use integration_tests::app::{App, Plan};
use integration_tests::artefacts;
use integration_tests::client::{Call, Client, Protocol};
use integration_tests::envoy::Envoy;
use integration_tests::wait::{self, PATIENCE};

mod support;
use support::{only, plain, traceparent};

async fn serves_with(configuration: &str, errors: u64) {
    let module = artefacts::module().unwrap().canonicalize().unwrap();
    let app = App::start(|_| Plan::default()).await.unwrap();
    let yaml =
        plain::with_plugin_configuration(app.address(), &module.to_string_lossy(), configuration);
    let envoy = Envoy::start("by-hand", &yaml, 1).await.unwrap();
    let client = Client::new(envoy.listener("inbound").unwrap());
    let reply = client
        .send(Call::new(Protocol::Http1, "app", "/"))
        .await
        .unwrap();
    assert_eq!(reply.status, 200, "`{configuration}`");
    // The filter works on with its defaults.
    traceparent(&only(app.take_recorded()).headers);
    let name = "wasmcustom.tracemeter_config_errors_total";
    let counted = wait::until(
        "the count of refused configurations",
        PATIENCE,
        async || {
            let stats = envoy.stats().await?;
            let heartbeat = stats
                .get("wasmcustom.tracemeter_heartbeat_total")
                .copied()
                .unwrap_or(0);
            Ok((heartbeat > 0).then(|| stats.get(name).copied().unwrap_or(0)))
        },
    )
    .await
    .unwrap();
    if errors == 0 {
        assert_eq!(counted, 0, "`{configuration}` is valid");
    } else {
        // Each worker and the main thread read it.
        assert!(
            counted >= errors,
            "`{configuration}` was refused without being counted"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_configuration_means_the_defaults() {
    serves_with("", 0).await;
    serves_with("{}", 0).await;
    serves_with(r#"{"sampling": {"default_rate": 1.0}}"#, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_that_is_not_json_does_not_take_the_listener_down() {
    for configuration in [
        "{",
        "sampling:\n  default_rate: 1.0\n",
        "\u{1f600}{}",
        "[1,2]",
    ] {
        serves_with(configuration, 1).await;
    }
    let deep = "[".repeat(100_000);
    serves_with(&deep, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_that_are_wrong_do_not_take_the_listener_down() {
    for configuration in [
        r#"{"sampling": {"default_rate": 7}}"#,
        r#"{"sampling": {"default_rat": 0.5}}"#,
        r#"{"sampling": {"priority_rules": [{"name": "x", "condition": "((", "sample_rate": 1}]}}"#,
        r#"{"export": {"queue_bytes": "lots"}}"#,
    ] {
        serves_with(configuration, 1).await;
    }
}
