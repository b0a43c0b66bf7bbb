use mesh_config::Policy;
use mesh_config::adaptive::Held;

use super::*;
use crate::otlp::metrics::Delta;
use crate::policy::Rules;

const POLICY: &str = "sampling:
  service_rates: {pinned: 1.0}
  adaptive:
    enabled: true
    target_traces_per_second: 10
    adjustment_interval: 60s
    exempt: [left_alone]
";

const START_MS: u64 = 60_000_000;

fn rules(policy: &str) -> Arc<Rules> {
    let loaded = Policy::from_yaml(policy, "policy.yaml").unwrap();
    Arc::new(Rules::compile(loaded.policy).unwrap())
}

fn open(dir: &std::path::Path, policy: &str, now_ms: u64) -> Control {
    Control::open(dir, &rules(policy), now_ms).unwrap()
}

fn send(control: &Control, service: &str, route: &str, decided: u64, at_ms: u64) {
    let delta = Delta {
        service: service.into(),
        instance: format!("{service}{route}"),
        from_ns: 0,
        until_ns: 5_000_000_000,
        decided: [(route.to_owned(), decided)].into(),
        ..Delta::default()
    };
    control.intake.observe(&delta, at_ms);
}

/// One window of traffic; returns when it ended.
fn window(control: &Control, from_ms: u64, decided: u64) -> u64 {
    send(control, "shop", "/cart", decided, from_ms + 10);
    send(control, "pinned", "/", 600, from_ms + 10);
    let end_ms = control.window_end_ms(from_ms);
    control.update(&control.intake.close(end_ms), &[]);
    end_ms
}

#[test]
fn windows_end_at_multiples_of_the_interval_and_are_at_least_half_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let control = open(dir.path(), POLICY, START_MS);
    assert_eq!(control.window_end_ms(START_MS), START_MS + 60_000);
    assert_eq!(control.window_end_ms(START_MS + 30_000), START_MS + 60_000);
    assert_eq!(control.window_end_ms(START_MS + 30_001), START_MS + 120_000);
}

#[test]
fn the_table_keeps_the_target_and_leaves_exempt_services_alone() {
    let dir = tempfile::tempdir().unwrap();
    let control = open(dir.path(), POLICY, START_MS);
    assert!(control.table(START_MS).is_none(), "no window yet");
    let mut now_ms = START_MS;
    for _ in 0..3 {
        now_ms = window(&control, now_ms, 60_000);
    }
    let table = control.table(now_ms).unwrap();
    let (body, _) = table.slice("shop").answer("shop");
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let threshold = json["routes"]["/cart"].as_str().unwrap();
    let rate = w3c_traceparent_parser::otel::Threshold::parse(threshold.as_bytes()).unwrap();
    let kept_per_second = rate.probability() * 1_000.0;
    assert!((9.9..10.1).contains(&kept_per_second), "{kept_per_second}");
    assert!(control.is_adaptive("shop"));
    assert!(!control.is_adaptive("pinned") && !control.is_adaptive("left-alone"));
    let status = control.status();
    assert_eq!((status.updates, status.proxies), (3, (2, 2)));
    assert_eq!(status.summary.exempt_per_second, 10.0);
}

#[test]
fn a_long_first_window_counts_as_one_of_the_usual_length() {
    let dir = tempfile::tempdir().unwrap();
    let control = open(dir.path(), POLICY, START_MS + 30_001);
    send(&control, "shop", "/cart", 9_000, START_MS + 40_000);
    control.update(&control.intake.close(START_MS + 120_000), &[]);
    let observed = control.status().summary.observed_per_second;
    assert!((99.0..101.0).contains(&observed), "{observed}");
}

#[test]
fn a_window_of_an_impossible_length_or_without_reports_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let control = open(dir.path(), POLICY, START_MS);
    let now_ms = window(&control, START_MS, 60_000);
    let before = control.table(now_ms).unwrap();
    control.update(&control.intake.close(now_ms + 60_000), &[]);
    assert_eq!(control.status().summary.held, Some(Held::NoReports));
    send(&control, "shop", "/cart", 60_000, now_ms + 60_100);
    control.update(&control.intake.close(now_ms + 60_000 * 1_000), &[]);
    assert_eq!(control.status().summary.held, Some(Held::EmptyWindow));
    send(&control, "shop", "/cart", 60_000, now_ms);
    control.update(&control.intake.close(now_ms), &[]);
    assert_eq!(control.status().summary.held, Some(Held::EmptyWindow));
    assert_eq!(control.table(now_ms).unwrap(), before);
}

#[test]
fn a_restart_gives_out_the_same_table_and_an_old_one_is_kept_back() {
    let dir = tempfile::tempdir().unwrap();
    let control = open(dir.path(), POLICY, START_MS);
    let now_ms = window(&control, START_MS, 60_000);
    let before = control.table(now_ms).unwrap();
    drop(control);
    let control = open(dir.path(), POLICY, now_ms + 5_000);
    assert_eq!(control.table(now_ms + 5_000).unwrap(), before);
    assert!(control.table(now_ms + 600_001).is_none(), "ten windows old");
    let disabled = POLICY.replace("enabled: true", "enabled: false");
    assert!(open(dir.path(), &disabled, now_ms).table(now_ms).is_none());
}

#[test]
fn a_damaged_state_is_counted_and_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let control = open(dir.path(), POLICY, START_MS);
    let now_ms = window(&control, START_MS, 60_000);
    std::fs::write(dir.path().join("control.v1.json"), "{}").unwrap();
    let control = open(dir.path(), POLICY, now_ms);
    assert_eq!(control.status().damaged, 1);
    assert!(control.table(now_ms).is_none());
    let now_ms = window(&control, now_ms, 60_000);
    drop(control);
    let control = open(dir.path(), POLICY, now_ms);
    assert_eq!(
        (control.status().damaged, control.table(now_ms).is_some()),
        (0, true)
    );
}
