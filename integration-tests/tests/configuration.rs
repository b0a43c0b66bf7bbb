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

/// Starts a proxy with one listener per configuration, sends a request to each, and answers how
/// often a configuration was refused.
async fn refused(configurations: &[&str]) -> u64 {
    let module = artefacts::module().unwrap().canonicalize().unwrap();
    let module = module.to_string_lossy();
    let app = App::start(|_| Plan::default()).await.unwrap();
    let yaml = plain::with_plugin_configurations(app.address(), &module, configurations);
    let envoy = Envoy::start("by-hand", &yaml, 1).await.unwrap();
    for (number, configuration) in configurations.iter().enumerate() {
        let listener = envoy.listener(&format!("inbound-{number}")).unwrap();
        let call = Call::new(Protocol::Http1, "app", "/");
        let reply = Client::new(listener).send(call).await.unwrap();
        assert_eq!(reply.status, 200, "`{:.80}`", configuration);
        // The filter works on with its defaults.
        traceparent(&only(app.take_recorded()).headers);
    }
    // Every root context has ticked twice, so whatever was counted has reached the statistics.
    let ticks = 4 * configurations.len() as u64;
    let stat = |name: &str| format!("wasmcustom.tracemeter_{name}");
    wait::until(
        "the count of refused configurations",
        PATIENCE,
        async || {
            let stats = envoy.stats().await?;
            let value = |name: &str| stats.get(&stat(name)).copied().unwrap_or(0);
            Ok((value("heartbeat_total") >= ticks).then(|| value("config_errors_total")))
        },
    )
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_configuration_means_the_defaults() {
    let valid = ["", "{}", r#"{"sampling": {"default_rate": 1.0}}"#];
    assert_eq!(refused(&valid).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_configuration_is_counted_and_does_not_take_its_listener_down() {
    let deep = "[".repeat(100_000);
    let wrong = [
        "{",
        "sampling:\n  default_rate: 1.0\n",
        "\u{1f600}{}",
        "[1,2]",
        &deep,
        r#"{"sampling": {"default_rate": 7}}"#,
        r#"{"sampling": {"default_rat": 0.5}}"#,
        r#"{"sampling": {"priority_rules": [{"name": "x", "condition": "((", "sample_rate": 1}]}}"#,
        r#"{"export": {"queue_bytes": "lots"}}"#,
    ];
    // Each is read by the worker and by the main thread.
    assert_eq!(refused(&wrong).await, 2 * wrong.len() as u64);
}
