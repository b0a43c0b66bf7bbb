//! States, windows, single traces, restarts.

use mesh_config::Policy;

use super::*;
use crate::assembly::Counted;

const START_S: u64 = 1_800_000_000;

struct Clock {
    board: Board,
    now_s: u64,
}

/// The specification's alerts, which are the defaults.
fn clock() -> Clock {
    Clock {
        board: Board::new(Policy::default().alerts, Vec::new(), START_S),
        now_s: START_S,
    }
}

fn counted(alert: usize, count: u64) -> Signals {
    let mut signals = Signals {
        counted: vec![Counted::default(); 4],
        crossings: Vec::new(),
    };
    signals.counted[alert].count = count;
    signals.counted[alert].examples = vec![7];
    signals
}

fn crossing(watch: usize, trace: u128, value: f64) -> Signals {
    let mut signals = counted(0, 0);
    signals.counted[0].examples.clear();
    signals.crossings.push(Crossing {
        watch,
        trace,
        value,
        at_ns: START_S * NS_PER_S,
    });
    signals
}

impl Clock {
    fn after(&mut self, seconds: u64, signals: &Signals) -> Vec<Notice> {
        self.now_s += seconds;
        self.board.take(signals, self.now_s * NS_PER_S).0
    }

    fn states(&self) -> Vec<State> {
        self.board.memory.iter().map(|one| one.state).collect()
    }
}

#[test]
fn an_alert_fires_at_its_threshold_and_is_resolved_when_the_window_has_passed() {
    let mut clock = clock();
    assert_eq!(clock.after(0, &counted(0, 60)), []);
    assert_eq!(clock.states()[0], State::Pending);
    let fires = clock.after(200, &counted(0, 40));
    assert_eq!(
        (fires.len(), fires[0].is_firing, fires[0].value),
        (1, true, 100.0)
    );
    assert_eq!(clock.states()[0], State::Firing);
    assert_eq!(clock.after(30, &counted(0, 0)), [], "told once");
    assert!(
        clock.after(30, &counted(0, 0))[0].is_repeated,
        "and again a minute later"
    );
    // 60 of 100 leave the window of five minutes.
    let ends = clock.after(41, &counted(0, 0));
    assert_eq!((ends.len(), ends[0].is_firing), (1, false));
    assert_eq!(ends[0].starts_ns, fires[0].starts_ns, "the same alert");
    assert_eq!(
        (clock.states()[0], clock.board.values[0]),
        (State::Resolved, 40)
    );
    let fires = clock.after(10, &counted(0, 60));
    assert!(fires[0].starts_ns > ends[0].starts_ns, "another alert");
    clock.after(600, &counted(0, 0));
    assert_eq!(clock.states()[0], State::Resolved);
    clock.after(RESOLVED_S, &counted(0, 0));
    assert_eq!(clock.states()[0], State::Inactive);
}

#[test]
fn spans_whose_parent_came_after_all_are_taken_back() {
    let mut clock = clock();
    clock.after(0, &counted(0, 100));
    let mut late = counted(0, 0);
    late.counted[0].taken_back.push((START_S as u32, 1));
    let ends = clock.after(10, &late);
    assert_eq!((ends.len(), ends[0].is_firing), (1, false));
}

#[test]
fn every_trace_over_the_cost_bound_is_told_once_and_ends_with_the_window() {
    let mut clock = clock();
    let first = clock.after(0, &crossing(1, 1, 110_000_000.0));
    assert_eq!(
        (first[0].trace, first[0].value),
        (Some(1), 0.11),
        "in dollars"
    );
    let second = clock.after(30, &crossing(1, 2, 2e8));
    assert_eq!(
        second[0].trace,
        Some(2),
        "while the alert is firing already"
    );
    assert_eq!(clock.after(0, &crossing(1, 1, 3e8)), [], "known");
    let ends = clock.after(30, &crossing(1, 1, 3e8));
    assert_eq!((ends[0].trace, ends[0].is_firing), (Some(1), false));
    assert_eq!(clock.states()[1], State::Firing);
    let ends = clock.after(40, &counted(0, 0));
    assert_eq!((ends[0].trace, ends[0].is_firing), (Some(2), false));
    assert_eq!(clock.states()[1], State::Resolved);
    assert_eq!(clock.board.fired_total[1], 2);
}

#[test]
fn a_flood_of_traces_is_counted_and_the_number_of_notices_bounded() {
    let mut clock = clock();
    let mut flood = counted(0, 0);
    for trace in 0..5_000 {
        flood.crossings.extend(crossing(1, trace, 2e8).crossings);
    }
    assert_eq!(clock.after(0, &flood).len(), MAX_OPEN);
    assert_eq!(clock.board.values[1], 5_000);
    assert_eq!(clock.board.unnamed, 5_000 - MAX_OPEN as u64);
    assert_eq!(clock.board.memory[1].examples.len(), MAX_EXAMPLES);
}

#[test]
fn a_restart_goes_on_where_it_was_and_a_changed_query_begins_anew() {
    let mut clock = clock();
    clock.after(0, &counted(0, 100));
    clock.after(0, &crossing(1, 1, 2e8));
    let text = serde_json::to_string(&clock.board.memory).unwrap();
    let remembered: Vec<Memory> = serde_json::from_str(&text).unwrap();
    let mut alerts = Policy::default().alerts;
    let board = Board::new(alerts.clone(), remembered.clone(), clock.now_s);
    assert_eq!(board.values[..2], [100, 1], "before the first look, too");
    let late = Board::new(alerts.clone(), remembered.clone(), clock.now_s + 900);
    assert_eq!(late.values[..2], [0, 0], "the windows have passed");
    let mut again = Clock {
        board,
        now_s: clock.now_s,
    };
    assert_eq!(
        again.after(1, &crossing(1, 1, 2e8)),
        [],
        "nothing fires again"
    );
    assert_eq!(again.states()[..2], [State::Firing, State::Firing]);
    let ends = again.after(301, &counted(0, 0));
    assert_eq!(ends.len(), 2, "both end: {ends:?}");
    alerts[1].query = AlertQuery::parse("sum(cost_usd) by trace_id > 0.2").unwrap();
    let board = Board::new(alerts, remembered, clock.now_s);
    let mut other = Clock {
        board,
        now_s: clock.now_s,
    };
    assert_eq!(other.after(1, &crossing(1, 1, 3e8)).len(), 1);
}
