//! What outlives a request: batches, retries, a change of the policy, companion mode.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

mod support;

use filter_core::counters::Counter;
use filter_core::export::{Dispatch, Outcome, Signal};
use filter_core::identity::Node;
use filter_core::{Direction, Engine, Progress, companion};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use support::{Bench, HIGH_TRACE, MILLISECOND, SECOND, policy, rate, traceparent};

fn engine(json: &str, instance: &str) -> Engine {
    Engine::new(&policy(json), &Node::default(), instance)
}

fn change_policy(bench: &mut Bench, json: &str) {
    let previous = std::mem::replace(&mut bench.engine, engine(json, "worker-2"));
    bench.engine.take_over(previous);
}

/// The next batch of spans; counts that come before it are acknowledged.
fn next_batch(bench: &mut Bench) -> Dispatch {
    bench.now += 2 * SECOND;
    loop {
        let dispatch = bench.engine.poll_export(bench.now).unwrap();
        match dispatch.signal {
            Signal::Traces => return dispatch,
            Signal::Metrics => {
                let accepted = Outcome::Accepted;
                bench
                    .engine
                    .export_outcome(dispatch.id, accepted, bench.now, 0);
            }
        }
    }
}

fn spans_of(body: &[u8]) -> usize {
    let batch = ExportTraceServiceRequest::decode(body).unwrap();
    batch.resource_spans[0].scope_spans[0].spans.len()
}

#[test]
fn a_change_of_policy_loses_neither_spans_nor_counts() {
    let mut bench = Bench::new(&rate("1"));
    for _ in 0..3 {
        bench.exchange("/", &[], 200);
    }
    change_policy(&mut bench, &rate("1"));
    bench.exchange("/", &[], 200);
    change_policy(&mut bench, &rate("0"));
    bench.exchange("/", &[], 200);
    assert_eq!(bench.spans().len(), 4);
    assert_eq!(bench.count("requests"), 5);
    assert_eq!(bench.count("spans_exported"), 4);
    assert_eq!(bench.engine.buffered_bytes(), 0);
}

#[test]
fn batches_under_way_are_sent_again_by_the_successor_and_old_answers_are_nobodys() {
    let mut bench = Bench::new(&rate("1"));
    bench.exchange("/", &[], 200);
    let first = next_batch(&mut bench);
    change_policy(&mut bench, &rate("1"));
    bench.exchange("/", &[], 200);
    bench.exchange("/", &[], 200);
    let again = next_batch(&mut bench);
    assert_eq!(again.body, first.body, "the old one goes first");
    assert_ne!(again.id, first.id);
    let second = next_batch(&mut bench);
    assert_eq!([&again, &second].map(|call| spans_of(&call.body)), [1, 2]);
    change_policy(&mut bench, &rate("1"));

    let now = bench.now;
    for stale in [&first, &again, &second] {
        bench
            .engine
            .export_outcome(stale.id, Outcome::Accepted, now, 0);
    }
    assert_eq!(
        bench.count("spans_exported"),
        0,
        "not somebody else's batch"
    );
    let mut bodies = vec![next_batch(&mut bench), next_batch(&mut bench)];
    for call in &bodies {
        bench
            .engine
            .export_outcome(call.id, Outcome::Accepted, bench.now, 0);
    }
    bodies.sort_by_key(|call| call.body.len());
    assert_eq!(
        [&bodies[0].body, &bodies[1].body],
        [&first.body, &second.body]
    );
    assert_eq!(bench.count("spans_exported"), 3);
    assert_eq!(bench.engine.buffered_bytes(), 0);
}

#[test]
fn many_changes_of_policy_stay_within_one_more_byte_limit() {
    let json = r#"{"sampling":{"default_rate":1},"export":{"queue_bytes":"64KiB"}}"#;
    let mut bench = Bench::new(json);
    for _ in 0..20 {
        for _ in 0..50 {
            bench.exchange("/", &[], 200);
        }
        change_policy(&mut bench, json);
        assert!(bench.engine.buffered_bytes() <= 64 << 10);
    }
    let dropped = bench.count("spans_dropped_queue_full");
    let kept = bench.spans().len() as u64;
    assert!(dropped > 0);
    assert_eq!(kept + dropped, 1_000, "every span is accounted for");
}

#[test]
fn an_unknown_outcome_changes_nothing() {
    let mut bench = Bench::new(&rate("1"));
    bench.exchange("/", &[], 200);
    bench
        .engine
        .export_outcome(77, Outcome::Accepted, bench.now, 0);
    assert_eq!(bench.spans().len(), 1);
}

#[test]
fn without_a_collector_spans_are_counted_and_not_built() {
    let mut bench = Bench::new("{}");
    let mut off = policy(&rate("1"));
    off.export.cluster.clear();
    bench.engine = Engine::new(&off, &Node::default(), "i");
    let left = bench.get("/", &[]);
    assert_eq!(left.flags(), "03");
    bench.answer(left, 200);
    assert_eq!(bench.count("spans_dropped_export_off"), 1);
    assert_eq!(bench.engine.buffered_bytes(), 0);
    bench.now += 2 * SECOND;
    assert!(bench.engine.poll_export(bench.now).is_none());
}

#[test]
fn a_collector_that_is_gone_bounds_memory_and_counts_the_loss() {
    let json =
        r#"{"sampling":{"default_rate":1},"export":{"queue_bytes":"256KiB","batch_spans":100}}"#;
    let mut bench = Bench::new(json);
    for number in 0..2_000 {
        bench.exchange("/", &[], 200);
        if number % 50 == 0 {
            bench.now += SECOND;
            while let Some(call) = bench.engine.poll_export(bench.now) {
                let refused = Outcome::from_status(503, None);
                bench
                    .engine
                    .export_outcome(call.id, refused, bench.now, number);
            }
        }
        assert!(bench.engine.buffered_bytes() <= 256 << 10);
    }
    let dropped = bench.count("spans_dropped_queue_full");
    assert!(dropped > 0);
    bench.now += 60 * SECOND;
    let kept = bench.spans().len() as u64;
    assert_eq!(kept + dropped, 2_000);
    assert_eq!(bench.count("spans_exported"), kept);
}

#[test]
fn malformed_requests_are_counted_as_ended() {
    let mut bench = Bench::new("{}");
    bench
        .engine
        .end_malformed(Direction::Inbound, &support::status_end(400));
    assert_eq!(bench.count("requests_ended"), 1);
    assert_eq!(bench.count("requests_malformed"), 1);
    assert_eq!(bench.count("requests_error"), 1, "as in the ledger");
    assert_eq!(bench.count("requests"), 0);
}

#[test]
fn the_heart_beats_and_host_side_counts_are_taken() {
    let mut bench = Bench::new("{}");
    bench.engine.tick(bench.now);
    bench.engine.count(Counter::ConfigErrors, 2);
    assert_eq!(
        (bench.count("heartbeat"), bench.count("config_errors")),
        (1, 2)
    );
}

#[test]
fn overwriting_is_looked_for_at_first_and_then_rarely() {
    let mut bench = Bench::new("{}");
    let checks = (0..10_240).filter(|_| bench.engine.should_check_overwriting(1024));
    assert_eq!(checks.count(), 32 + 10);
}

const COMPANION: &str = r#"{"propagation":{"mode":"companion"},"sampling":{"default_rate":1},
    "attributes":{"data_tag":[{"when":"url.path = \"/people\"","value":"PII"}]}}"#;

#[test]
fn a_companion_leaves_the_context_to_envoy_and_writes_baggage() {
    let mut bench = Bench::new(COMPANION);
    assert!(bench.engine.is_companion());
    let incoming = traceparent(HIGH_TRACE, "01");
    let headers = [("traceparent", incoming.as_str()), ("baggage", "user=1")];
    let left = bench.get("/people", &headers);
    assert_eq!(left.traceparent, None);
    assert_eq!(left.baggage(), "user=1,cost_usd=0.00001,data_tag=PII");
    bench.answer(left, 500);
    assert!(bench.spans().is_empty(), "the span is Envoy's");
    assert_eq!(bench.count("spans_dropped_export_off"), 0);
    assert_eq!(bench.count("requests_error"), 1);
    assert_eq!(
        (bench.count("kept"), bench.count("promoted")),
        (0, 0),
        "nor is the decision ours"
    );
}

#[test]
fn a_companion_behind_envoys_tracer_adds_to_its_tracestate_and_follows_its_flag() {
    // (flag of Envoy, list in, list out)
    let table = [
        (
            "01",
            "a=1,ot=th:8",
            "cost_usd=0.00001,data_tag=EXPORT_OK,a=1,ot=th:8",
        ),
        (
            "01",
            "a=1,ot=th:f8",
            "cost_usd=0.00001,data_tag=EXPORT_OK,a=1",
        ),
        (
            "00",
            "a=1,ot=th:8",
            "cost_usd=0.00001,data_tag=EXPORT_OK,a=1",
        ),
        ("01", "", "cost_usd=0.00001,data_tag=EXPORT_OK"),
    ];
    for (flag, list, wanted) in table {
        let mut bench = Bench::new(COMPANION);
        let incoming = traceparent(HIGH_TRACE, flag);
        let headers = [("traceparent", incoming.as_str()), ("tracestate", list)];
        assert_eq!(bench.get("/", &headers).state(), wanted, "{flag} {list}");
    }
    let left = Bench::new(COMPANION).get("/", &[("tracestate", "a=1")]);
    assert_eq!(left.state(), "a=1", "without a context nothing is added");
}

#[test]
fn a_companion_puts_the_own_final_cost_on_envoys_span() {
    let mut bench = Bench::new(COMPANION);
    let incoming = traceparent(HIGH_TRACE, "01");
    let headers = [
        ("traceparent", incoming.as_str()),
        ("tracestate", "cost_usd=0.5"),
    ];
    let left = bench.get("/people", &headers);
    let text = |(name, value): (&'static str, Vec<u8>)| (name, String::from_utf8(value).unwrap());
    let head = bench.engine.filter_state_at_head(&left.state).map(text);
    let wanted = [
        (companion::COST_STATE, "0.00001"),
        (companion::PATH_COST_STATE, "0.5"),
        (companion::TAG_STATE, "PII"),
        (companion::RETENTION_STATE, "30"),
    ];
    assert_eq!(head, wanted.map(|(name, value)| (name, value.to_owned())));
    let progress = Progress {
        now_unix_nanos: bench.now + 100 * MILLISECOND,
        request_bytes: 1 << 20,
        response_bytes: 1 << 20,
    };
    let (name, value) = text(bench.engine.filter_state_at_end(&left.state, &progress));
    // 0.00001 x (1 + 0.1 + 0.02)
    assert_eq!((name, value.as_str()), (companion::COST_STATE, "0.0000112"));
}

#[test]
fn the_explanation_is_given_only_where_policy_and_request_ask_and_repeats_no_client_byte() {
    let on = r#"{"debug":{"explain":true},"sampling":{"default_rate":0.1,
        "low_volume":{"traces_per_minute":0}}}"#;
    let ask = ("x-tracemeter-debug", "1");
    assert!(
        Bench::new("{}")
            .get("/", &[ask])
            .state
            .explanation()
            .is_none()
    );
    assert!(Bench::new(on).get("/", &[]).state.explanation().is_none());
    let hostile = "<script>\u{7f}";
    let headers = [
        ask,
        ("traceparent", hostile),
        ("baggage", "bad value"),
        ("x-evil", hostile),
    ];
    let left = Bench::new(on).get("/<script>", &headers);
    let (name, line) = left.state.explanation().unwrap();
    assert_eq!(name, "x-tracemeter-explain");
    assert!(!line.contains("script") && line.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
    for part in [
        "traceparent=invalid(",
        "p=0.1000",
        "T=e666",
        "data_tag=EXPORT_OK",
        "R=",
    ] {
        assert!(line.contains(part), "`{part}` in {line}");
    }
    let trace = format!("trace_id={}", left.parent().trace_id);
    assert!(line.starts_with(&trace), "{line}");
}
