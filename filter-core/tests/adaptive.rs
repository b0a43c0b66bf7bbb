//! Adaptive rates in the engine: where they hold, what is counted, and that none splits a trace.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

mod support;

use filter_core::Direction;
use filter_core::rates::Answer;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Text;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use prost::Message as _;
use support::{Bench, HIGH_TRACE, LOW_TRACE, traceparent};

const NO_FLOOR: &str = r#""low_volume":{"traces_per_minute":0},"error_classes":{"rate":0}"#;

fn adaptive(further: &str) -> String {
    format!(
        r#"{{"sampling":{{"default_rate":0,{NO_FLOOR},"adaptive":{{"enabled":true}}{further}}},
            "export":{{"ledger_interval":"1s"}}}}"#
    )
}

/// Gives the engine a table in which unlisted routes have this threshold.
fn answer(bench: &mut Bench, unlisted: &str, routes: &str) {
    let body = format!(
        r#"{{"version":1,"service":"shop","unlisted":"{unlisted}","routes":{{{routes}}}}}"#
    );
    let answer = Answer {
        status: 200,
        etag: b"",
        body: Some(body.as_bytes()),
    };
    let now = bench.now;
    assert!(bench.engine.rates_answer(&answer, now, 0).is_some());
}

/// The traces decided per route in all deltas so far.
fn decided(bench: &mut Bench) -> Vec<(String, i64)> {
    let now = bench.now;
    bench.engine.tick(now);
    for _ in 0..2 {
        bench.batches();
    }
    let mut found = Vec::new();
    for delta in bench.deltas.drain(..) {
        let delta = ExportMetricsServiceRequest::decode(&delta[..]).unwrap();
        let scopes = delta.resource_metrics.into_iter();
        let metrics = scopes
            .flat_map(|resource| resource.scope_metrics)
            .flat_map(|scope| scope.metrics);
        for metric in metrics.filter(|metric| metric.name == "tracemeter.traces.decided") {
            assert_eq!(metric.unit, "{trace}");
            let Some(Data::Sum(sum)) = metric.data else {
                panic!("no sum")
            };
            assert!(sum.is_monotonic && sum.aggregation_temporality == 1);
            for point in sum.data_points {
                assert_eq!(point.attributes.len(), 1);
                assert_eq!(point.attributes[0].key, "http.route");
                let route = point.attributes[0].value.as_ref().unwrap().value.as_ref();
                let Some(Text::StringValue(route)) = route else {
                    panic!("no text")
                };
                let Some(Value::AsInt(traces)) = point.value else {
                    panic!("no integer")
                };
                found.push((route.clone(), traces));
            }
        }
    }
    found
}

#[test]
fn a_table_decides_traces_that_begin_here_by_their_route() {
    let mut bench = Bench::new(&adaptive(""));
    let dropped = bench.get("/cart", &[]);
    assert_eq!(dropped.flags(), "02", "static until there is a table");
    answer(&mut bench, "0", r#""/none":"ffffffffffffff""#);
    let kept = bench.get("/cart", &[]);
    assert_eq!((kept.flags(), kept.th()), ("03", Some("0")));
    assert_eq!(bench.get("/none", &[]).flags(), "02");
    assert_eq!(bench.count("reason_adaptive_rate"), 1);
    assert_eq!(bench.count("reason_not_sampled"), 1);
}

#[test]
fn a_hop_behind_a_decision_follows_it_whatever_its_table_says() {
    let mut bench = Bench::new(&adaptive(""));
    answer(&mut bench, "0", "");
    for (trace, flags) in [(HIGH_TRACE, "00"), (LOW_TRACE, "00"), (LOW_TRACE, "01")] {
        let parent = traceparent(trace, flags);
        let left = bench.get("/cart", &[("traceparent", &parent)]);
        assert_eq!(left.flags(), flags, "{trace}");
    }
    assert_eq!(bench.count("reason_parent_sampled"), 1);
    assert_eq!(bench.count("reason_not_sampled"), 2);
    assert_eq!(decided(&mut bench), [], "none of them began here");
}

#[test]
fn rules_hold_beside_the_table_and_traces_that_they_force_are_not_counted() {
    let rule = r#","critical_flows":["url.path = \"/pay\""],"priority_rules":[
        {"name":"half","condition":"url.path = \"/half\"","sample_rate":0.5}]"#;
    let mut bench = Bench::new(&adaptive(rule));
    answer(&mut bench, "ffffffffffffff", "");
    for (path, traces) in [("/pay", 3), ("/half", 2), ("/cart", 4)] {
        for _ in 0..traces {
            let left = bench.get(path, &[]);
            assert!(path != "/pay" || left.flags() == "03");
            bench.answer(left, 200);
        }
    }
    let counts = [("/cart".to_owned(), 4), ("/half".to_owned(), 2)];
    assert_eq!(decided(&mut bench), counts);
    let counts = decided(&mut bench);
    assert_eq!(counts, [], "each trace once");
}

#[test]
fn exempt_services_keep_their_static_rates_and_count_nothing() {
    for exempt in [
        r#","service_rates":{"shop":1}"#,
        r#","environments":{"production":1}"#,
    ] {
        let json = adaptive(exempt);
        let json = json.replacen('{', r#"{"service":{"environment":"production"},"#, 1);
        let mut bench = Bench::new(&json);
        assert_eq!(bench.get("/cart", &[]).flags(), "03", "{exempt}");
        assert_eq!(bench.engine.rates_version(), None, "it asks for nothing");
        assert_eq!(decided(&mut bench), []);
    }
    let json = adaptive("").replace("\"enabled\"", "\"exempt\":[\"shop\"],\"enabled\"");
    assert_eq!(Bench::new(&json).engine.rates_version(), None);
}

#[test]
fn a_changed_policy_keeps_the_table_and_loses_no_count() {
    let mut bench = Bench::new(&adaptive(""));
    answer(&mut bench, "0", "");
    let left = bench.get("/cart", &[]);
    bench.answer(left, 200);
    let json = adaptive(r#","error_flood":{"kept_per_minute":1}"#);
    let next = Bench::new(&json).engine;
    let previous = std::mem::replace(&mut bench.engine, next);
    assert!(!previous.is_drained());
    bench.engine.take_over(previous);
    assert_eq!(
        bench.get("/cart", &[]).flags(),
        "03",
        "the table still holds"
    );
    let counts = decided(&mut bench);
    assert_eq!(counts, [("/cart".to_owned(), 1), ("/cart".to_owned(), 1)]);
}

#[test]
fn switched_off_nothing_differs_from_the_static_rates() {
    let json = |adaptive: &str| {
        format!(
            r#"{{"sampling":{{"default_rate":0.3{adaptive}}},"export":{{"ledger_interval":"1s"}}}}"#
        )
    };
    let run = |json: &str| {
        let mut bench = Bench::new(json);
        let mut left = Vec::new();
        for number in 0..500 {
            let now = bench.now;
            bench.engine.tick(now);
            bench.engine.adopt_rates(b"anything", now, 1);
            assert!(bench.engine.poll_rates(now).is_none());
            let parent = traceparent(HIGH_TRACE, "00");
            let further: &[(&str, &str)] = if number % 3 == 0 {
                &[("traceparent", &parent)]
            } else {
                &[]
            };
            let request = bench.get(&format!("/r{}", number % 7), further);
            left.push((request.traceparent.clone(), request.tracestate.clone()));
            bench.answer(request, if number % 11 == 0 { 500 } else { 200 });
        }
        let spans = bench.spans();
        (left, spans, bench.deltas)
    };
    let off = json(r#","adaptive":{"enabled":false,"target_traces_per_second":1}"#);
    assert_eq!(run(&json("")), run(&off));
}

#[test]
fn a_table_that_changes_between_the_hops_splits_no_trace() {
    let hop = |direction| Bench::at(&adaptive(""), direction);
    let mut hops = [
        hop(Direction::Gateway),
        hop(Direction::Inbound),
        hop(Direction::Outbound),
    ];
    let mut rng = fastrand::Rng::with_seed(5);
    let (mut kept, mut whole) = (0, 0);
    for _ in 0..5_000 {
        let mut lines: Vec<(String, String)> = Vec::new();
        let mut flags = Vec::new();
        for bench in &mut hops {
            // Each hop has another table at each moment.
            let unlisted = ["0", "8", "c", "f", "ffffffffffffff"][rng.usize(..5)];
            answer(bench, unlisted, "");
            let further: Vec<(&str, &str)> = lines
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            let left = bench.get("/cart", &further);
            flags.push(left.flags().to_owned());
            lines = vec![
                ("traceparent".to_owned(), left.traceparent.clone().unwrap()),
                ("tracestate".to_owned(), left.state().to_owned()),
            ];
            bench.answer(left, 200);
        }
        kept += usize::from(flags[0] == "03");
        whole += usize::from(flags.iter().all(|flag| *flag == flags[0]));
    }
    assert_eq!(whole, 5_000);
    assert!((1_000..4_000).contains(&kept), "{kept}");
}
