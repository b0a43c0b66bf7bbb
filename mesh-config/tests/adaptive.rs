//! The controller's defined behaviour: the fill, new and silent keys, caps, steps, odd settings.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use mesh_config::adaptive::{Controller, Held, MAX_REPORTED_KEYS, Settings, Table, Window};
use w3c_traceparent_parser::otel::Threshold;

const MINUTE_NS: u64 = 60_000_000_000;

fn window<'a, K>(counts: &'a [(K, u64)]) -> Window<'a, K> {
    Window {
        duration_ns: MINUTE_NS,
        counts,
        overflow: 0,
        reported: 1,
        expected: 1,
    }
}

/// A controller that has seen the same window several times.
fn after(
    windows: usize,
    counts: &[(&'static str, u64)],
    settings: &Settings,
) -> Controller<&'static str> {
    let mut controller = Controller::new(settings);
    for _ in 0..windows {
        let summary = controller.update(&window(counts), settings, |_| false);
        assert_eq!(summary.held, None);
    }
    controller
}

fn rate(controller: &Controller<&'static str>, key: &'static str) -> f64 {
    controller.table().threshold(&key).probability()
}

fn assert_near(value: f64, expected: f64) {
    assert!(
        (value / expected - 1.0).abs() < 0.001,
        "{value} instead of {expected}"
    );
}

#[test]
fn small_keys_keep_everything_and_the_others_share_the_rest_equally() {
    // 600 per minute: 60 + 40 for the small ones, 250 for each of the busy ones.
    let settings = Settings {
        target_per_second: 10.0,
        ..Settings::default()
    };
    let counts = [("a", 100_000), ("b", 60), ("c", 2_500), ("d", 40)];
    let controller = after(3, &counts, &settings);
    assert_eq!(controller.table().threshold(&"b"), Threshold::ALWAYS);
    assert_eq!(controller.table().threshold(&"d"), Threshold::ALWAYS);
    assert_near(rate(&controller, "a"), 250.0 / 100_000.0);
    assert_near(rate(&controller, "c"), 250.0 / 2_500.0);
}

#[test]
fn the_summary_tells_what_to_expect() {
    let settings = Settings {
        target_per_second: 10.0,
        ..Settings::default()
    };
    let mut controller = after(2, &[("a", 60_000), ("b", 60)], &settings);
    let counts = [("a", 60_000), ("b", 60), ("exempt", 6_000)];
    let summary = controller.update(&window(&counts), &settings, |key| *key == "exempt");
    assert_near(summary.observed_per_second, 1_101.0);
    assert_near(summary.exempt_per_second, 100.0);
    assert_near(summary.expected_per_second, 10.0);
    assert_near(summary.level_per_second, 9.0);
    assert!(!summary.overshoot);
    assert_eq!(
        (summary.new_keys, summary.forgotten, summary.evicted),
        (1, 0, 0)
    );
}

#[test]
fn with_room_for_all_traffic_everything_is_kept() {
    let controller = after(3, &[("a", 3_000), ("b", 2_000)], &Settings::default());
    assert_eq!(controller.table().entries().len(), 0);
    assert_eq!(controller.table().unlisted(), Threshold::ALWAYS);
}

#[test]
fn limits_hold_even_if_the_target_does_not() {
    let settings = Settings {
        target_per_second: 1.0,
        min_rate: 0.01,
        max_rate: 0.5,
        floor_per_minute: 0.0,
        ..Settings::default()
    };
    let counts = [("a", 1_000_000), ("b", 10)];
    let mut controller = after(3, &counts, &settings);
    let summary = controller.update(&window(&counts), &settings, |_| false);
    assert!(summary.overshoot && summary.level_per_second == 0.0);
    assert_near(rate(&controller, "a"), 0.01);
    assert_near(rate(&controller, "b"), 0.01);
    let controller = after(3, &[("a", 10), ("b", 10)], &settings);
    assert_near(rate(&controller, "a"), 0.5);
}

#[test]
fn every_key_keeps_its_floor_even_if_the_target_does_not_allow_it() {
    let settings = Settings {
        target_per_second: 0.1,
        floor_per_minute: 5.0,
        min_rate: 1e-6,
        ..Settings::default()
    };
    let counts = [("a", 100_000), ("b", 50), ("c", 4)];
    let mut controller = after(3, &counts, &settings);
    assert_near(rate(&controller, "a"), 5.0 / 100_000.0);
    assert_near(rate(&controller, "b"), 0.1);
    assert_near(rate(&controller, "c"), 1.0);
    assert!(
        controller
            .update(&window(&counts), &settings, |_| false)
            .overshoot
    );
}

#[test]
fn exempt_keys_are_always_kept_and_take_a_part_of_the_target_only_on_request() {
    for (count_exempt, expected) in [(false, 600.0 / 60_000.0), (true, 540.0 / 60_000.0)] {
        let settings = Settings {
            target_per_second: 10.0,
            count_exempt,
            ..Settings::default()
        };
        let mut controller = Controller::new(&settings);
        for _ in 0..3 {
            let counts = [("a", 60_000), ("robot", 60)];
            let _ = controller.update(&window(&counts), &settings, |key| *key == "robot");
        }
        assert_near(rate(&controller, "a"), expected);
        assert_eq!(controller.table().threshold(&"robot"), Threshold::ALWAYS);
    }
}

#[test]
fn before_the_first_window_every_key_has_the_initial_rate() {
    let controller = Controller::<&str>::new(&Settings {
        initial_rate: 0.25,
        ..Settings::default()
    });
    assert_eq!(controller.table().version(), 0);
    assert_near(rate(&controller, "anything"), 0.25);
}

#[test]
fn new_keys_have_the_rate_of_those_that_came_before_them() {
    let settings = Settings {
        target_per_second: 10.0,
        ..Settings::default()
    };
    // After one window nothing is known of arrivals.
    let mut controller = after(1, &[("a", 60_000)], &settings);
    assert_near(rate(&controller, "new"), 0.1);
    // Nothing new arrived: room for whatever comes, reached in bounded steps.
    let _ = controller.update(&window(&[("a", 60_000)]), &settings, |_| false);
    assert_near(rate(&controller, "new"), 1.0);
    // A busy key arrived; the next one may be as busy.
    let counts = [("a", 60_000), ("b", 60_000)];
    let _ = controller.update(&window(&counts), &settings, |_| false);
    // Its own rate falls by a hundred at most.
    assert_near(rate(&controller, "b"), 0.01);
    assert!(
        rate(&controller, "new") <= 0.02,
        "{}",
        rate(&controller, "new")
    );
}

#[test]
fn a_silent_key_keeps_its_rate_frees_its_part_and_is_forgotten() {
    let settings = Settings {
        target_per_second: 10.0,
        forget_after: 4,
        ..Settings::default()
    };
    let mut controller = after(3, &[("a", 60_000), ("b", 60_000)], &settings);
    assert_near(rate(&controller, "a"), 300.0 / 60_000.0);
    let mut update = || {
        let summary = controller.update(&window(&[("a", 60_000)]), &settings, |_| false);
        (
            summary.forgotten,
            rate(&controller, "a"),
            rate(&controller, "b"),
        )
    };
    // Half of what is remembered each window, at the level that the others have.
    for expected in [0.02, 0.04, 0.08] {
        let (forgotten, busy, silent) = update();
        assert_eq!(forgotten, 0);
        assert_near(busy, 600.0 / 60_000.0);
        assert_near(silent, expected);
    }
    assert_eq!(update().0, 1);
    assert_eq!(controller.tracked_keys(), 1);
}

#[test]
fn rates_change_by_bounded_factors_per_window() {
    let settings = Settings {
        max_increase: 4.0,
        max_decrease: 16.0,
        ..Settings::default()
    };
    let mut controller = after(4, &[("a", 6_000)], &settings);
    assert_near(rate(&controller, "a"), 1.0);
    let mut rates = Vec::new();
    for count in [
        6_000_000_000,
        6_000_000_000,
        6_000_000_000,
        6_000,
        6_000,
        6_000,
        6_000,
        6_000,
    ] {
        let _ = controller.update(&window(&[("a", count)]), &settings, |_| false);
        rates.push(rate(&controller, "a"));
    }
    let expected = [
        1.0 / 16.0,
        1.0 / 256.0,
        0.001,
        0.004,
        0.016,
        0.064,
        0.256,
        1.0,
    ];
    for (rate, expected) in rates.iter().zip(expected) {
        assert_near(*rate, expected);
    }
}

#[test]
fn of_too_many_keys_the_busiest_are_listed() {
    let settings = Settings {
        max_keys: 3,
        target_per_second: 1.0,
        ..Settings::default()
    };
    let counts: Vec<(u32, u64)> = (0..10).map(|key| (key, 1_000 + u64::from(key))).collect();
    let mut controller = Controller::new(&settings);
    for step in 0..3 {
        let summary = controller.update(&window(&counts), &settings, |key| *key == 0);
        assert_eq!(summary.evicted, 7, "window {step}");
        assert_eq!(controller.tracked_keys(), 3);
    }
    // The exempt key stays although it is the smallest.
    let listed: Vec<u32> = controller.table().entries().map(|(key, _)| *key).collect();
    assert_eq!(listed, [0, 8, 9]);
    assert!(controller.table().unlisted().probability() < 0.02);
}

#[test]
fn more_keys_than_are_looked_at_count_as_one_unlisted_key() {
    let counts: Vec<(u32, u64)> = (0..MAX_REPORTED_KEYS as u32 + 1_000)
        .map(|key| (key, 1))
        .collect();
    let settings = Settings {
        max_keys: 10,
        ..Settings::default()
    };
    let mut controller = Controller::new(&settings);
    let summary = controller.update(&window(&counts), &settings, |_| false);
    assert_eq!(summary.new_keys, MAX_REPORTED_KEYS);
    assert_near(
        summary.observed_per_second,
        (MAX_REPORTED_KEYS as f64 + 1_000.0) / 60.0,
    );
}

#[test]
fn windows_that_say_too_little_hold_the_table() {
    let settings = Settings::default();
    let mut controller = after(3, &[("a", 60_000)], &settings);
    let before = controller.table().clone();
    let counts = [("a", 6)];
    let windows = [
        (
            Window {
                duration_ns: 0,
                ..window(&counts)
            },
            Held::EmptyWindow,
        ),
        (
            Window {
                reported: 0,
                ..window(&counts)
            },
            Held::NoReports,
        ),
        (
            Window {
                reported: 4,
                expected: 10,
                ..window(&counts)
            },
            Held::TooFewReports,
        ),
    ];
    for (number, (window, held)) in (1..).zip(windows) {
        let summary = controller.update(&window, &settings, |_| false);
        assert_eq!((summary.held, summary.held_in_a_row), (Some(held), number));
        assert_eq!(*controller.table(), before);
    }
    let summary = controller.update(&window(&[("a", 60_000)]), &settings, |_| false);
    assert_eq!((summary.held, summary.held_in_a_row), (None, 0));
}

#[test]
fn the_version_grows_only_when_a_rate_changed() {
    let settings = Settings::default();
    let mut controller = after(5, &[("a", 60_000), ("b", 100)], &settings);
    let version = controller.table().version();
    let _ = controller.update(&window(&[("b", 100), ("a", 60_000)]), &settings, |_| false);
    assert_eq!(controller.table().version(), version);
    let _ = controller.update(&window(&[("b", 100), ("a", 90_000)]), &settings, |_| false);
    assert_eq!(controller.table().version(), version + 1);
}

#[test]
fn the_same_inputs_in_any_order_give_the_same_table() {
    let settings = Settings::default();
    let forward: Vec<(u32, u64)> = (0..500)
        .map(|key| (key, u64::from(key) * 37 % 4_001))
        .collect();
    let backward: Vec<(u32, u64)> = forward.iter().rev().copied().collect();
    let halves: Vec<(u32, u64)> = forward
        .iter()
        .flat_map(|&(key, count)| [(key, count / 2), (key, count - count / 2)])
        .collect();
    let run = |counts: &[(u32, u64)]| {
        let mut controller = Controller::new(&settings);
        for _ in 0..4 {
            let _ = controller.update(&window(counts), &settings, |_| false);
        }
        controller
    };
    assert_eq!(run(&forward), run(&backward));
    assert_eq!(run(&forward), run(&halves));
}

#[test]
fn a_table_can_be_sent_and_built_again() {
    let controller = after(
        3,
        &[("a", 60_000), ("b", 9_000), ("c", 1)],
        &Settings::default(),
    );
    let table = controller.table();
    let entries = table.entries().copied().collect();
    assert_eq!(
        Table::from_entries(table.version(), entries, table.unlisted()),
        *table
    );
    let (low, high) = (Threshold::new(1).unwrap(), Threshold::new(2).unwrap());
    let twice = vec![("a", high), ("a", low), ("b", Threshold::ALWAYS)];
    let table = Table::from_entries(7, twice, Threshold::ALWAYS);
    assert_eq!(table.entries().collect::<Vec<_>>(), [&("a", low)]);
}

#[test]
fn owned_keys_are_looked_up_by_reference() {
    let settings = Settings {
        target_per_second: 1.0,
        ..Settings::default()
    };
    let mut controller: Controller<Box<str>> = Controller::new(&settings);
    let counts = [(Box::from("shop /cart"), 6_000_000)];
    let _ = controller.update(&window(&counts), &settings, |_| false);
    assert_near(
        controller.table().threshold("shop /cart").probability(),
        0.001,
    );
    assert_eq!(
        controller.table().threshold("shop"),
        controller.table().unlisted()
    );
}

#[test]
fn absurd_settings_and_counts_never_panic_and_rates_stay_rates() {
    let odd = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        -1.0,
        0.0,
        1e-300,
        1e300,
        0.5,
        7.0,
    ];
    let mut number = 0_usize;
    let mut pick = || {
        number += 1;
        odd[number * 7 % odd.len()]
    };
    for round in 0..300_u64 {
        let settings = Settings {
            target_per_second: pick(),
            min_rate: pick(),
            max_rate: pick(),
            initial_rate: pick(),
            floor_per_minute: pick(),
            smoothing: pick(),
            max_increase: pick(),
            max_decrease: pick(),
            forget_after: round as u32 % 3,
            max_keys: round as usize % 4,
            min_coverage: pick(),
            count_exempt: round % 2 == 0,
        };
        let mut controller = Controller::new(&settings.with_share(pick()));
        for count in [0, 1, u64::MAX, 5, u64::MAX / 2] {
            let counts = [(1, count), (2, u64::MAX - count), (3, 1), (1, u64::MAX)];
            let report = Window {
                duration_ns: [1, MINUTE_NS, u64::MAX][round as usize % 3],
                overflow: count,
                reported: 1 + round as u32,
                expected: [0, 1, u32::MAX][round as usize % 3],
                ..window(&counts)
            };
            let summary = controller.update(&report, &settings, |key| *key == 3);
            assert!(!summary.expected_per_second.is_nan(), "{settings:?}");
            for key in 0..5 {
                let rate = controller.table().threshold(&key).probability();
                assert!((0.9e-6..=1.0).contains(&rate), "{rate} {settings:?}");
            }
        }
    }
}

#[test]
fn the_defaults_of_the_policy_are_the_defaults_of_the_controller() {
    let policy = mesh_config::Policy::default();
    assert_eq!(Settings::from(&policy.sampling), Settings::default());
}

#[test]
fn a_restored_controller_goes_on_as_if_it_had_never_stopped() {
    let settings = Settings {
        target_per_second: 10.0,
        max_keys: 3,
        ..Settings::default()
    };
    let windows: [&[(&str, u64)]; 5] = [
        &[("a", 9_000), ("b", 400), ("c", 3), ("d", 70)],
        &[("a", 90_000), ("b", 0), ("e", 3)],
        &[("a", 80_000), ("b", 500), ("c", 30), ("f", 7)],
        &[("b", 500)],
        &[("a", 10), ("g", 5_000)],
    ];
    for stop in 0..windows.len() {
        let mut through = Controller::new(&settings);
        let mut restored = Controller::new(&settings);
        for (index, counts) in windows.iter().enumerate() {
            if index == stop {
                restored = Controller::restore(restored.snapshot());
                assert_eq!(restored, through, "restored before window {index}");
            }
            let expected = through.update(&window(counts), &settings, |key| *key == "d");
            let summary = restored.update(&window(counts), &settings, |key| *key == "d");
            assert_eq!(summary, expected);
            assert_eq!(restored.table(), through.table());
        }
    }
}

#[test]
fn a_damaged_snapshot_never_makes_a_rate_that_is_no_rate() {
    let settings = Settings::default();
    let mut snapshot = after(3, &[("a", 9_000), ("b", 4)], &settings).snapshot();
    for key in &mut snapshot.keys {
        key.per_second = f64::NAN;
        key.windows = f64::NEG_INFINITY;
        key.idle_windows = u32::MAX;
    }
    snapshot.version = u64::MAX;
    snapshot.last_new = Some((f64::INFINITY, -1.0));
    snapshot.arrival_per_second = Some(f64::NAN);
    let mut controller = Controller::restore(snapshot);
    for _ in 0..3 {
        let summary = controller.update(&window(&[("a", 9_000)]), &settings, |_| false);
        assert!(summary.expected_per_second.is_finite());
    }
    assert!(rate(&controller, "a") > 0.1, "learned anew");
}
