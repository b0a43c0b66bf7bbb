//! Assembly: order of arrival, orphans and their grace, bounds, memory, rules.

use std::sync::Arc;

use mesh_config::Policy;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::*;
use crate::testing::{decode, double, request, span, text};

const S: u64 = 1_000_000_000;

struct Fixture {
    assembly: Assembly,
    now_ns: u64,
}

fn rules(yaml: &str) -> Arc<Rules> {
    let policy = Policy::from_yaml(yaml, "test").unwrap().policy;
    Arc::new(Rules::compile(policy).unwrap())
}

impl Fixture {
    fn new(yaml: &str, limits: Limits) -> Self {
        let mut assembly = Assembly::default();
        assembly.configure(limits, rules(yaml));
        Self {
            assembly,
            now_ns: 1_800_000_000 * S,
        }
    }

    fn add(&mut self, spans: Vec<Span>) -> Vec<Observed> {
        let batch = decode(&request("a", spans));
        let rows = batch.spans.iter();
        rows.map(|row| self.assembly.observe(&batch, row, self.now_ns))
            .collect()
    }

    /// What the watches counted when `seconds` have passed.
    fn after(&mut self, seconds: u64) -> Vec<u64> {
        self.now_ns += seconds * S;
        let (signals, _) = self.assembly.look(self.now_ns);
        let mut counts: Vec<u64> = signals
            .counted
            .iter()
            .map(|counted| counted.count)
            .collect();
        for crossing in &signals.crossings {
            counts[crossing.watch] += 1;
        }
        counts
    }
}

fn costing(trace: u128, id: u64, parent: u64, usd: f64) -> Span {
    span(trace, id, parent, 0, vec![double("cost_usd", usd)])
}

#[test]
fn depth_and_orphans_end_the_same_in_every_order_of_arrival() {
    let mut random = fastrand::Rng::with_seed(11);
    // A chain of five, two leaves beside it, and one span whose parent never comes.
    let parents = [
        (1, 0),
        (2, 1),
        (3, 2),
        (4, 3),
        (5, 4),
        (6, 2),
        (7, 1),
        (8, 99),
    ];
    for _ in 0..50 {
        let mut order = parents;
        random.shuffle(&mut order);
        let mut fixture = Fixture::new("", Limits::default());
        let mut observed = Vec::new();
        for (id, parent) in order {
            observed.extend(fixture.add(vec![costing(1, id, parent, 0.001)]));
        }
        assert_eq!(observed.iter().map(|one| one.orphans).sum::<i64>(), 1);
        assert_eq!(observed.iter().map(|one| one.depth).max(), Some(5));
        assert_eq!(
            fixture.after(60),
            [1, 0, 0, 0],
            "after the grace: {order:?}"
        );
    }
}

#[test]
fn a_parent_within_the_grace_is_no_orphan_and_one_after_it_is_taken_back() {
    let mut fixture = Fixture::new("", Limits::default());
    fixture.add(vec![costing(1, 2, 1, 0.0), costing(2, 2, 1, 0.0)]);
    assert_eq!(fixture.after(59)[0], 0);
    fixture.add(vec![costing(1, 1, 0, 0.0)]);
    assert_eq!(fixture.after(1)[0], 1, "the other one");
    let counted_s = (fixture.now_ns / S) as u32;
    fixture.now_ns += 5 * S;
    fixture.add(vec![costing(2, 1, 0, 0.0)]);
    let (signals, _) = fixture.assembly.look(fixture.now_ns);
    assert_eq!(signals.counted[0].taken_back, [(counted_s, 1)]);
}

#[test]
fn the_grace_runs_from_the_youngest_span_that_names_the_parent() {
    let mut fixture = Fixture::new("", Limits::default());
    for id in 2..6 {
        fixture.add(vec![costing(1, id, 1, 0.0)]);
        assert_eq!(fixture.after(40)[0], 0);
    }
    assert_eq!(fixture.after(20)[0], 4);
    fixture.add(vec![costing(1, 7, 1, 0.0)]);
    assert_eq!(fixture.after(59)[0], 0);
    assert_eq!(fixture.after(1)[0], 1);
}

#[test]
fn a_trace_passes_a_cost_bound_once_and_to_the_nano_dollar() {
    let mut fixture = Fixture::new("", Limits::default());
    let spans = |from: u64, to: u64| (from..=to).map(|id| costing(1, id, 0, 0.001)).collect();
    fixture.add(spans(1, 100));
    assert_eq!(
        fixture.after(1)[1],
        0,
        "100 times 0.001 is not more than 0.1"
    );
    fixture.add(vec![costing(1, 200, 0, 0.000_000_001)]);
    assert_eq!(fixture.after(1)[1], 1);
    fixture.add(spans(300, 500));
    assert_eq!(fixture.after(1)[1], 0, "once per trace");
}

#[test]
fn depth_beyond_fifty_is_found_and_unpriced_spans_are_counted() {
    let mut fixture = Fixture::new("", Limits::default());
    let chain = |from: u64, to: u64| (from..=to).rev().map(|id| costing(1, id, id - 1, 0.0));
    fixture.add(chain(1, 50).collect());
    assert_eq!(fixture.after(1)[3], 0);
    fixture.add(chain(51, 51).collect());
    assert_eq!(fixture.after(1)[3], 1);
    let operation = |name| span(2, 1, 0, 0, vec![text("operation_type", name)]);
    fixture.add(vec![operation("database_query"), span(2, 2, 0, 0, vec![])]);
    assert_eq!(fixture.after(1)[2], 1, "the one that no price names");
}

#[test]
fn other_queries_count_what_they_say() {
    let queries = [
        "max(duration_ms) by trace_id >= 5",
        "count(span_id) by trace_id < 3",
        "spans where service.name = 'a' and span['tier'] = 'gold'",
        "spans without tier attribute",
        "avg(items) by trace_id > 2",
    ];
    let mut yaml = String::from("alerts:\n");
    for query in queries {
        yaml.push_str(&format!(
            "- {{name: \"{query}\", query: \"{query}\", threshold: 1, window: 1m}}\n"
        ));
    }
    let mut fixture = Fixture::new(&yaml, Limits::default());
    let tier = |id| {
        span(
            1,
            id,
            0,
            0,
            vec![text("tier", "gold"), double("items", id as f64)],
        )
    };
    fixture.add(vec![tier(1), tier(2), tier(3), span(2, 1, 0, 0, vec![])]);
    assert_eq!(
        fixture.after(1),
        [2, 0, 3, 1, 0],
        "before the traces are quiet"
    );
    fixture.add(vec![tier(4)]);
    assert_eq!(
        fixture.after(59),
        [0, 1, 1, 0, 0],
        "the trace of one span is quiet"
    );
    assert_eq!(fixture.after(1), [0, 0, 0, 0, 1], "the average of 1 to 4");
}

#[test]
fn memory_is_bounded_and_the_trace_that_was_quiet_longest_goes_first() {
    let limits = Limits {
        bytes: 256 << 10,
        grace_s: 60,
    };
    let mut fixture = Fixture::new("", limits);
    for trace in 1..=5_000u128 {
        fixture.add(vec![costing(trace, 1, 0, 0.06)]);
        // Trace 1 is heard of again and again, so it stays.
        if trace % 20 == 0 {
            fixture.add(vec![costing(1, 1_000 + trace as u64, 1, 0.0)]);
        }
        assert!(fixture.assembly.stats().bytes <= limits.bytes);
    }
    let stats = fixture.assembly.stats();
    assert!(stats.evicted > 3_000 && stats.traces > 100, "{stats:?}");
    fixture.add(vec![costing(1, 2, 1, 0.05), costing(2, 2, 1, 0.05)]);
    assert_eq!(
        fixture.after(1)[1],
        1,
        "trace 1 is known, trace 2 was forgotten"
    );
    fixture.after(u64::from(QUIET_S));
    assert_eq!(
        (
            fixture.assembly.stats().traces,
            fixture.assembly.stats().bytes
        ),
        (0, 0)
    );
}

#[test]
fn what_was_counted_before_a_restart_is_not_counted_again() {
    let mut fixture = Fixture::new("", Limits::default());
    let replayed = vec![costing(1, 2, 1, 0.06), span(1, 3, 0, 0, vec![])];
    fixture.assembly.counted_until(Until {
        arrived_ns: fixture.now_ns,
        judged_ns: fixture.now_ns,
    });
    fixture.add(replayed);
    assert_eq!(fixture.after(1), [0, 0, 0, 0]);
    fixture.add(vec![costing(1, 4, 0, 0.05), span(1, 5, 0, 0, vec![])]);
    assert_eq!(fixture.after(1), [0, 1, 1, 0], "the sum goes on");
    assert_eq!(fixture.after(60)[0], 1, "the grace was not over before");
}

#[test]
fn rules_about_spans_hold_for_the_trace_with_what_is_known_of_it() {
    let yaml = "sampling:
  priority_rules:
    - {name: whole, condition: error = true, sample_rate: 1.0}
    - {name: review, condition: hitl_required = true and cost_usd > 0.01, sample_rate: 0.5}
";
    let mut fixture = Fixture::new(yaml, Limits::default());
    let hitl = span(
        1,
        1,
        0,
        0,
        vec![text("hitl_required", "true"), double("cost_usd", 0.0)],
    );
    assert_eq!(fixture.add(vec![hitl])[0].keep, None);
    let keep = fixture.add(vec![costing(1, 2, 1, 0.02)])[0].keep;
    assert_eq!(keep.map(|threshold| threshold.adjusted_count()), Some(2.0));
}
