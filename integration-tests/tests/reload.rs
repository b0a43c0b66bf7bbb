//! A policy that changes on a running proxy: the new one counts from some request on, and nothing
//! else happens. No request fails, no span is lost, no counter starts again, and a broken policy
//! leaves the last good one in force.
//!
//! The proxy watches a file (extension discovery), as `mesh-config render envoy --filter-file`
//! sets it up; a new policy is moved over it. One test changes the whole listener instead, as an
//! EnvoyFilter does: its old connections go on under the old policy while they drain.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use integration_tests::artefacts;
use integration_tests::envoy::Envoy;
use integration_tests::wait;
use serde_json::{Value, json};
use tempfile::TempDir;

mod proxies;
mod receiver;
mod traffic;
mod wire;
use proxies::Listener;
use receiver::Receiver;
use traffic::{CONNECTIONS, LIMIT, Traffic, by};
use wire::{Echo, Seen};

const WORKERS: u32 = 2;

/// Everything is kept; the form of our tracestate members tells which policy wrote them.
fn policy(form: &str) -> String {
    format!(
        "sampling:\n  default_rate: 1.0\n  priority_rules: []\n\
         export: {{ gzip: false, ledger_interval: 1s }}\npropagation: {{ tracestate: {form} }}\n"
    )
}

/// A proxy whose filter's configuration is a watched file.
struct Proxy {
    echo: Echo,
    receiver: Receiver,
    envoy: Envoy,
    folder: TempDir,
    module: PathBuf,
}

impl Proxy {
    async fn start(form: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (echo, receiver) = (Echo::start().await, Receiver::start().await);
        let module = artefacts::module().unwrap().canonicalize().unwrap();
        let collector = receiver.address();
        let file = folder.path().join("filter.yaml");
        let rendered = render(&folder, "filter", &policy(form), &module, collector, &[]);
        fs::write(&file, rendered).unwrap();
        let inbound = format!("127.0.0.1:0={}", echo.address());
        let further = [
            "--inbound",
            &inbound,
            "--filter-file",
            &file.to_string_lossy(),
        ];
        let config = render(
            &folder,
            "envoy",
            &policy(form),
            &module,
            collector,
            &further,
        );
        let envoy = Envoy::start("watching", &config, WORKERS).await.unwrap();
        Self {
            echo,
            receiver,
            envoy,
            folder,
            module,
        }
    }

    /// A proxy that watches its listeners instead of the filter's configuration.
    async fn start_with_watched_listener(form: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (echo, receiver) = (Echo::start().await, Receiver::start().await);
        let (config, listeners) = listener_files(&folder, form, &echo, &receiver);
        fs::write(folder.path().join("filter.yaml"), listeners).unwrap();
        let envoy = Envoy::start("watching", &config, WORKERS).await.unwrap();
        Self {
            echo,
            receiver,
            envoy,
            folder,
            module: PathBuf::new(),
        }
    }

    /// The watched file's content for a policy.
    fn rendered(&self, form: &str) -> String {
        let collector = self.receiver.address();
        render(
            &self.folder,
            "filter",
            &policy(form),
            &self.module,
            collector,
            &[],
        )
    }

    /// Moves a new content over the watched file, as a whole.
    fn install(&self, content: &str) {
        let new = self.folder.path().join("filter.yaml.new");
        fs::write(&new, content).unwrap();
        fs::rename(&new, self.folder.path().join("filter.yaml")).unwrap();
    }

    /// The filter's own statistics, names without their prefix.
    async fn counters(&self) -> BTreeMap<String, u64> {
        let stats = self.envoy.stats().await.unwrap();
        let own = stats.into_iter().filter_map(|(name, value)| {
            Some((
                name.strip_prefix("wasmcustom.tracemeter_")?.to_owned(),
                value,
            ))
        });
        own.collect()
    }

    async fn counted(&self, name: &str) -> u64 {
        self.counters().await.get(name).copied().unwrap_or(0)
    }
}

/// A configuration without listeners, and the file that it takes them from.
fn listener_files(
    folder: &TempDir,
    form: &str,
    echo: &Echo,
    receiver: &Receiver,
) -> (String, String) {
    let policy = proxies::with(
        proxies::keep_all(),
        json!({"propagation": {"tracestate": form}, "export": {"ledger_interval": "1s"}}),
    );
    let listener = Listener::new("inbound", "INBOUND", policy);
    let text = proxies::config(&[listener], echo.address(), receiver.address());
    let mut config: Value = serde_json::from_str(&text).unwrap();
    let resources = config["static_resources"].as_object_mut().unwrap();
    let mut listeners = resources.remove("listeners").unwrap();
    listeners[0]["@type"] = "type.googleapis.com/envoy.config.listener.v3.Listener".into();
    let file = folder.path().join("filter.yaml");
    config["dynamic_resources"] = json!({"lds_config": {
        "resource_api_version": "V3",
        "path_config_source": {"path": file.to_string_lossy()},
    }});
    (
        config.to_string(),
        json!({ "resources": listeners }).to_string(),
    )
}

fn render(
    folder: &TempDir,
    target: &str,
    policy: &str,
    module: &std::path::Path,
    collector: SocketAddr,
    further: &[&str],
) -> String {
    let file = folder.path().join("policy.yaml");
    fs::write(&file, policy).unwrap();
    let output = Command::new(artefacts::mesh_config().unwrap())
        .args([
            "render",
            target,
            "--service",
            "reloaded",
            "--collector",
            &collector.to_string(),
        ])
        .arg("--policy")
        .arg(&file)
        .arg("--wasm")
        .arg(module)
        .args(further)
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    String::from_utf8(output.stdout).unwrap()
}

/// Reads the statistics all the time: the names of counters that went back.
async fn watch(proxy: &Proxy, stop: &AtomicBool) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut last = BTreeMap::<String, u64>::new();
    while !stop.load(Ordering::Relaxed) {
        let now = proxy.counters().await;
        for (name, value) in &last {
            let newer = now.get(name).copied().unwrap_or(0);
            if name.ends_with("_total") && newer < *value {
                wrong.push(format!("{name}: {value}, then {newer}"));
            }
        }
        last = now;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    wrong
}

/// Every request has to end up as one exported span.
async fn settle(proxy: &Proxy, requests: &[Seen]) {
    let traces: BTreeSet<&str> = requests.iter().map(Seen::trace_id).collect();
    assert_eq!(traces.len(), requests.len());
    let count = requests.len() as u64;
    let settled = wait::until("every span exported", LIMIT, async || {
        let counters = proxy.counters().await;
        let of = |name: &str| counters.get(name).copied().unwrap_or(0);
        let all = of("requests_ended_total") >= count && of("spans_exported_total") >= count;
        Ok((all && of("queue_bytes") == 0).then_some(()))
    });
    let settled = settled.await;
    let counters = proxy.counters().await;
    eprintln!(
        "{count} requests, {} spans arrived, {} different",
        proxy.receiver.len(),
        proxy.receiver.distinct()
    );
    assert!(settled.is_ok(), "{settled:?} {counters:#?}");
    for name in ["requests_total", "requests_ended_total", "kept_total"] {
        assert_eq!(counters[name], count, "{name}");
    }
    assert_eq!(counters["spans_buffered_total"], count, "{counters:#?}");
    assert_eq!(counters["spans_exported_total"], count, "{counters:#?}");
    let arrived: BTreeSet<String> = proxy
        .receiver
        .spans()
        .into_iter()
        .map(|span| span.trace_id)
        .collect();
    let missing = traces
        .iter()
        .filter(|trace| !arrived.contains(**trace))
        .count();
    assert_eq!(missing, 0, "requests without a span");
    assert_eq!(proxy.receiver.distinct(), requests.len());

    // The ledger: not one request more or less, and to the nano-dollar what the spans say.
    let ledger = wait::until("the ledger to be complete", LIMIT, async || {
        let ledger = proxy.receiver.ledger();
        Ok((ledger.requests >= count).then_some(ledger))
    });
    let ledger = ledger.await;
    let counters = proxy.counters().await;
    let so_far = proxy.receiver.ledger();
    assert!(ledger.is_ok(), "{so_far:?} of {count}: {counters:#?}");
    let ledger = ledger.unwrap();
    assert_eq!(
        ledger.requests, count,
        "the ledger counts each request once"
    );
    let mut costs = BTreeMap::new();
    for span in proxy.receiver.spans() {
        let cost: f64 = span.attribute("cost_usd").parse().unwrap();
        costs.insert(span.id, (cost * 1e9).round() as u64);
    }
    assert_eq!(ledger.cost_nanos, costs.values().sum::<u64>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_policy_takes_effect_under_load_and_nothing_is_lost() {
    let proxy = Proxy::start("members").await;
    let traffic = Traffic::start(proxy.envoy.listener("inbound").unwrap());
    let watching = AtomicBool::new(false);
    let change = async {
        traffic.all_by("members").await;
        traffic.more(20).await;
        let contents = [
            ("compact", proxy.rendered("compact")),
            ("members", proxy.rendered("members")),
        ];
        let mut times = Vec::new();
        for _ in 0..4 {
            for (form, content) in &contents {
                proxy.install(content);
                times.push(traffic.all_by(form).await.as_millis());
                let seen = traffic.more(10).await;
                assert!(
                    seen.iter().all(|seen| by(seen, form)),
                    "back to an older policy"
                );
            }
        }
        // Faster than any tick: several generations hold spans at the same time.
        for _ in 0..10 {
            for (form, content) in &contents {
                proxy.install(content);
                wait::until(form, LIMIT, async || {
                    let seen = traffic.seen.lock().unwrap();
                    Ok(seen
                        .iter()
                        .any(|seen| by(seen.last().unwrap(), form))
                        .then_some(()))
                })
                .await
                .unwrap();
            }
        }
        println!("milliseconds until every connection saw the change: {times:?}");
        watching.store(true, Ordering::Relaxed);
    };
    let ((), went_back) = tokio::join!(change, watch(&proxy, &watching));
    assert_eq!(went_back, Vec::<String>::new(), "counters start again");
    let requests = traffic.end().await;
    assert!(
        requests.iter().all(|seen| !seen.closes),
        "connections live on"
    );
    settle(&proxy, &requests).await;
    assert_eq!(proxy.counted("config_errors_total").await, 0);
    drop(proxy.echo);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_policy_leaves_the_last_good_one_in_force() {
    let proxy = Proxy::start("members").await;
    let traffic = Traffic::start(proxy.envoy.listener("inbound").unwrap());
    traffic.all_by("members").await;
    let good = proxy.rendered("compact");
    proxy.install(&good);
    traffic.all_by("compact").await;

    let mut errors = 0;
    for (what, breaks) in [
        ("a rate of 7", ("\"default_rate\":1", "\"default_rate\":7")),
        ("an unknown key", ("\"sampling\":", "\"sampling_\":")),
        ("no JSON", ("\"sampling\":", "\"sampling\"")),
    ] {
        let broken = good.replace(breaks.0, breaks.1);
        assert_ne!(broken, good, "{what}: {good}");
        proxy.install(&broken);
        wait::until("the refused policy to be counted", LIMIT, async || {
            let counted = proxy.counted("config_errors_total").await;
            Ok((counted > errors).then_some(()))
        })
        .await
        .unwrap();
        // Both workers and the main thread read it; the next one has to be told apart.
        traffic.more(60).await;
        errors = proxy.counted("config_errors_total").await;
        let seen = traffic.more(20).await;
        let kept = |seen: &Seen| by(seen, "compact") && seen.is_sampled();
        let other: Vec<_> = seen.iter().filter(|seen| !kept(seen)).collect();
        assert!(
            other.is_empty(),
            "{what}: {} of {}: {:?}",
            other.len(),
            seen.len(),
            other[0]
        );
    }
    println!("{errors} refusals counted");

    proxy.install(&proxy.rendered("members"));
    traffic.all_by("members").await;
    assert!(traffic.count() > CONNECTIONS * 200);
    let requests = traffic.end().await;
    settle(&proxy, &requests).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_listener_serves_both_policies_until_it_has_drained_and_loses_nothing() {
    let proxy = Proxy::start_with_watched_listener("members").await;
    let address = proxy.envoy.listener("inbound").unwrap();
    let old = Traffic::start(address);
    old.all_by("members").await;
    let (_, changed) = listener_files(&proxy.folder, "compact", &proxy.echo, &proxy.receiver);
    proxy.install(&changed);
    // New connections go by the new policy, at once and always.
    wait::until("a connection under the new policy", LIMIT, async || {
        let answers = wire::send_all(address, 1, vec![wire::get("/probe", &[])]).await;
        old.seen.lock().unwrap()[0].extend(answers.clone());
        Ok(by(&answers[0], "compact").then_some(()))
    })
    .await
    .unwrap();
    // Old ones are served on; a few are asked to leave in the first seconds of ten minutes.
    let seen = old.more(2).await;
    let by_old_policy = seen.iter().filter(|seen| by(seen, "members")).count();
    println!(
        "{by_old_policy} of {} on old connections by the old policy",
        seen.len()
    );
    assert!(by_old_policy > 0);
    let new = Traffic::start(address);
    let seen = new.more(100).await;
    assert!(seen.iter().all(|seen| by(seen, "compact")), "{:?}", seen[0]);

    let mut requests = old.end().await;
    requests.extend(new.end().await);
    settle(&proxy, &requests).await;
}

/// The module with a custom section more: the same code as another file.
fn other_build(module: &std::path::Path) -> Vec<u8> {
    let mut bytes = fs::read(module).unwrap();
    // Section 0, six bytes: a name of five.
    bytes.extend_from_slice(b"\x00\x06\x05build");
    bytes
}

/// Another module means another VM, and a VM that ends cannot send any more: up to two ticks of
/// spans go with it. Requests and counters do not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_build_of_the_module_takes_over_without_a_failed_request() {
    let mut proxy = Proxy::start("members").await;
    let traffic = Traffic::start(proxy.envoy.listener("inbound").unwrap());
    traffic.all_by("members").await;
    // Until spans of the first module have arrived.
    wait::until("spans", LIMIT, async || {
        Ok((proxy.receiver.len() > 100).then_some(()))
    })
    .await
    .unwrap();
    let module = proxy.folder.path().join("other.wasm");
    fs::write(&module, other_build(&proxy.module)).unwrap();
    proxy.module = module;
    proxy.install(&proxy.rendered("compact"));
    traffic.all_by("compact").await;
    let arrived = proxy.receiver.len();
    wait::until("spans of the new module", LIMIT, async || {
        traffic.more(20).await;
        Ok((proxy.receiver.len() > arrived + 500).then_some(()))
    })
    .await
    .unwrap();
    let requests = traffic.end().await;
    assert!(requests.iter().all(|seen| !seen.closes));

    let count = requests.len() as u64;
    let settled = wait::until("all requests counted", LIMIT, async || {
        let counted = proxy.counted("requests_total").await;
        Ok((counted >= count && proxy.counted("queue_bytes").await == 0).then_some(counted))
    });
    assert_eq!(settled.await.unwrap(), count);
    let spans: BTreeSet<String> = proxy
        .receiver
        .spans()
        .into_iter()
        .map(|span| span.trace_id)
        .collect();
    let under = |form| -> Vec<&Seen> { requests.iter().filter(|seen| by(seen, form)).collect() };
    let lost = |form| {
        let missing = |seen: &&&Seen| !spans.contains(seen.trace_id());
        under(form).iter().filter(missing).count()
    };
    println!(
        "{} of {} spans went with the old VM",
        lost("members"),
        under("members").len()
    );
    assert_eq!(lost("compact"), 0, "spans of the new module");
}
