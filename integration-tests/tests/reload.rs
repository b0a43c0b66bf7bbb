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
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use integration_tests::artefacts;
use integration_tests::wait;

mod proxies;
mod receiver;
mod traffic;
mod watching;
mod wire;
use traffic::{CONNECTIONS, LIMIT, Traffic, by};
use watching::{Proxy, listener_files, other_build};
use wire::Seen;

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
async fn changes_while_the_collector_is_away_lose_nothing_either() {
    let proxy = Proxy::start("members").await;
    let traffic = Traffic::start(proxy.envoy.listener("inbound").unwrap());
    traffic.all_by("members").await;
    traffic.more(20).await;
    proxy.receiver.be_away(true);
    for form in ["compact", "members", "compact"] {
        let refused = proxy.receiver.be_away(true);
        wait::until("a refused export", LIMIT, async || {
            Ok((proxy.receiver.be_away(true) > refused).then_some(()))
        })
        .await
        .unwrap();
        proxy.install(&proxy.rendered(form));
        traffic.all_by(form).await;
    }
    traffic.more(20).await;
    let arrived = proxy.receiver.len();
    let requests = traffic.end().await;
    let refused = proxy.receiver.be_away(false);
    println!(
        "{refused} exports refused, {arrived} of {} spans were there",
        requests.len()
    );
    assert!(arrived < requests.len() / 2, "the receiver was never away");
    settle(&proxy, &requests).await;
    assert!(proxy.counted("export_retries_total").await > 0);
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
    // Before 1.40 all of them have left by now; nothing may be lost then either.
    if artefacts::envoy_version().unwrap() >= (1, 40) {
        assert!(by_old_policy > 0);
    }
    let new = Traffic::start(address);
    let seen = new.more(100).await;
    assert!(seen.iter().all(|seen| by(seen, "compact")), "{:?}", seen[0]);

    let mut requests = old.end().await;
    requests.extend(new.end().await);
    settle(&proxy, &requests).await;
}

/// Another module means another VM, and a VM that ends cannot send any more: what it still holds
/// its successor sends.
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
    let missing = async || {
        let spans = proxy.receiver.spans().into_iter();
        let spans: BTreeSet<String> = spans.map(|span| span.trace_id).collect();
        let missing = requests
            .iter()
            .filter(|seen| !spans.contains(seen.trace_id()));
        Ok((missing.count() == 0).then_some(()))
    };
    let whole = wait::until("the spans of both modules", LIMIT, missing).await;
    let held = requests.iter().filter(|seen| by(seen, "members")).count();
    assert!(held > 0, "the old module had requests");
    whole.unwrap();
    let ledger = wait::until("the ledger to be complete", LIMIT, async || {
        let ledger = proxy.receiver.ledger();
        Ok((ledger.requests >= count).then_some(ledger))
    });
    assert_eq!(ledger.await.unwrap().requests, count, "each counted once");
    assert!(proxy.counted("parcels_taken_over_total").await > 0);
}
