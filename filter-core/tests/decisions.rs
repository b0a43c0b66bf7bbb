//! Labels, rates, priority rules at the head and at the end, floors, caps and charging.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

mod support;

use filter_core::{Direction, Protocol, StreamEnd};
use support::spans::{double, text};
use support::{Bench, HIGH_TRACE, LOW_TRACE, Pairs, SECOND, status_end, traceparent};

/// A policy without floors and error classes, and with this `sampling` and further sections.
fn quiet(sampling: &str, further: &str) -> String {
    let comma = |part: &str| {
        if part.is_empty() {
            String::new()
        } else {
            format!(",{part}")
        }
    };
    format!(
        r#"{{"sampling":{{"low_volume":{{"traces_per_minute":0}}{}}}{}}}"#,
        comma(sampling),
        comma(further)
    )
}

const NO_ERRORS: &str = r#""error_classes":{"rate":0}"#;

fn rules(default_rate: &str, rules: &str) -> String {
    quiet(
        &format!(r#""default_rate":{default_rate},{NO_ERRORS},"priority_rules":[{rules}]"#),
        "",
    )
}

fn rule(condition: &str, rate: &str) -> String {
    let condition = condition.replace('"', "\\\"");
    format!(r#"{{"name":"r","condition":"{condition}","sample_rate":{rate}}}"#)
}

#[test]
fn labels_come_from_the_first_operation_and_the_strictest_class() {
    let json = r#"{"attributes":{
        "operation_type":[
            {"when":"url.path ^= \"/db\"","value":"database_query"},
            {"when":"http.request.method = POST","value":"storage_write"},
            {"when":"url.path = \"*\"","value":"api_call"}],
        "data_tag":[
            {"when":"url.path = \"/db/people\"","value":"SENSITIVE"},
            {"when":"operation_type = storage_write","value":"SENSITIVE"},
            {"when":"request.header[\"x-pii\"] exists","value":"PII"}]},
        "sampling":{"default_rate":1}}"#;
    let table: [(&str, &str, Pairs<'_>, &str, &str); 5] = [
        ("GET", "/", &[], "api_call", "EXPORT_OK"),
        ("POST", "/db/x", &[], "database_query", "EXPORT_OK"),
        ("POST", "/x", &[], "storage_write", "SENSITIVE"),
        ("GET", "/db/people", &[], "database_query", "SENSITIVE"),
        (
            "GET",
            "/db/people",
            &[("x-pii", "")],
            "database_query",
            "PII",
        ),
    ];
    for (method, path, further, operation, tag) in table {
        let mut bench = Bench::new(json);
        let mut lines = vec![(":method", method), (":path", path), (":authority", "a")];
        lines.extend_from_slice(further);
        let left = bench.send(&lines).unwrap();
        assert_eq!(left.member("data_tag"), Some(tag), "{method} {path}");
        bench.answer(left, 200);
        let span = bench.span();
        assert_eq!(
            text(&span, "operation_type"),
            Some(operation),
            "{method} {path}"
        );
        assert_eq!(text(&span, "data_tag"), Some(tag));
    }
}

#[test]
fn strict_policies_take_the_unclassified_as_sensitive_and_the_classified_as_it_is() {
    let json = r#"{"classification":{"strict":true},"attributes":{"data_tag":[
        {"when":"url.path = \"/public\"","value":"EXPORT_OK"}]}}"#;
    let table = [
        ("/", "", "SENSITIVE"),
        ("/public", "", "EXPORT_OK"),
        ("/", "data_tag=EXPORT_OK", "EXPORT_OK"),
        ("/public", "data_tag=PII", "PII"),
    ];
    for (path, baggage, wanted) in table {
        let left = Bench::new(json).get(path, &[("baggage", baggage)]);
        assert_eq!(left.member("data_tag"), Some(wanted), "{path} {baggage}");
    }
}

#[test]
fn human_review_is_read_from_header_and_baggage() {
    let json = rules("0", &rule("hitl_required = true", "1"));
    for (headers, kept) in [
        (&[("x-hitl-required", "true")][..], true),
        (&[("x-hitl-required", "1")], true),
        (&[("baggage", "hitl_required=true")], true),
        (&[("baggage", "hitl_required=%74rue")], true),
        (&[("x-hitl-required", "false")], false),
        (&[], false),
    ] {
        let mut bench = Bench::new(&json);
        let left = bench.get("/", headers);
        assert_eq!(left.parent().flags.is_sampled(), kept, "{headers:?}");
        assert_eq!(bench.count("reason_human_review"), u64::from(kept));
    }
}

#[test]
fn baggage_is_compared_percent_decoded_at_both_ends() {
    let json = rules("0", &rule("baggage[\"city\"] = \"Köln\"", "1"));
    let left = Bench::new(&json).get("/", &[("baggage", "city=K%C3%B6ln")]);
    assert!(left.parent().flags.is_sampled());
    let at_end = rules(
        "0",
        &rule("baggage[\"city\"] = \"Köln\" and duration_ms > 1", "1"),
    );
    let mut bench = Bench::new(&at_end);
    bench.exchange("/", &[("baggage", "city=K%C3%B6ln")], 200);
    assert_eq!(bench.spans().len(), 1);
}

#[test]
fn the_largest_probability_wins_and_says_why() {
    // (sampling, service, path, threshold, reason)
    let table = [
        (r#""default_rate":0.1"#, "/", "e666", "default_rate"),
        (
            r#""default_rate":0.1,"service_rates":{"shop":0.5}"#,
            "/",
            "8",
            "service_rate",
        ),
        (
            r#""default_rate":0.1,"route_classes":[{"name":"c","when":"url.path = \"/c\"","rate":0.25}]"#,
            "/c",
            "c",
            "route_rate",
        ),
        (
            r#""default_rate":0.1,"critical_flows":["url.path = \"/pay\""]"#,
            "/pay",
            "0",
            "critical_flow",
        ),
        (
            r#""default_rate":0.5,"priority_rules":[{"name":"a","condition":"url.path = \"/\"","sample_rate":0.1}]"#,
            "/",
            "8",
            "default_rate",
        ),
        (
            r#""default_rate":0,"priority_rules":[{"name":"a","condition":"url.path = \"/\"","sample_rate":0.1},
               {"name":"b","condition":"http.request.method = GET","sample_rate":0.5}]"#,
            "/",
            "8",
            "priority_rule",
        ),
    ];
    for (sampling, path, threshold, reason) in table {
        let mut bench = Bench::new(&quiet(&format!("{sampling},{NO_ERRORS}"), ""));
        let incoming = traceparent(HIGH_TRACE, "00");
        let left = bench.get(path, &[("traceparent", &incoming)]);
        assert_eq!(left.th(), Some(threshold), "{sampling}");
        bench.answer(left, 200);
        let span = bench.span();
        assert_eq!(text(&span, "sampling.reason"), Some(reason), "{sampling}");
        assert_eq!(text(&span, "sampling.threshold"), Some(threshold));
        assert_eq!(bench.count(&format!("reason_{reason}")), 1);
    }
}

#[test]
fn what_is_dropped_says_why() {
    let incoming = traceparent(LOW_TRACE, "00");
    for (rate, reason) in [("0.1", "not_sampled"), ("0", "rate_zero")] {
        let mut bench = Bench::new(&support::rate(rate));
        bench.exchange("/", &[("traceparent", &incoming)], 200);
        assert_eq!(bench.count(&format!("reason_{reason}")), 1, "{rate}");
        assert_eq!((bench.count("dropped"), bench.count("kept")), (1, 0));
        assert!(bench.spans().is_empty());
    }
}

type EndRow = (
    &'static str,
    &'static str,
    StreamEnd,
    u64,
    Option<&'static str>,
);

/// (condition, rate, end of the stream, milliseconds, kept as)
fn end_table() -> Vec<EndRow> {
    let error = "error = true";
    let reset = StreamEnd {
        response_flags: 0x80_0000,
        ..status_end(200)
    };
    let large = StreamEnd {
        response_bytes: 3 << 20,
        ..status_end(200)
    };
    let grpc = |status| StreamEnd {
        grpc_status: Some(status),
        ..status_end(200)
    };
    let gone = StreamEnd {
        response_flags: 0x4000,
        ..StreamEnd::default()
    };
    vec![
        (error, "1", status_end(200), 5, None),
        (error, "1", status_end(302), 5, None),
        (error, "1", status_end(404), 5, Some("error")),
        (error, "1", status_end(503), 5, Some("error")),
        (error, "1", reset, 5, Some("error")),
        (error, "1", grpc(0), 5, None),
        (error, "1", grpc(5), 5, Some("error")),
        (error, "1", gone, 5, None),
        (
            "duration_ms > 1000",
            "1",
            status_end(200),
            1_001,
            Some("slow"),
        ),
        ("duration_ms > 1000", "1", status_end(200), 1_000, None),
        // half of the slow ones, by the trace's own randomness: this one is not in that half
        ("duration_ms > 1000", "0.5", status_end(200), 2_000, None),
        (
            "cost_usd > 0.00001",
            "1",
            status_end(200),
            5,
            Some("expensive"),
        ),
        ("cost_usd > 0.0001", "1", status_end(200), 5, None),
        (
            "http.response.body.size > 1MiB",
            "1",
            large,
            5,
            Some("priority_rule"),
        ),
        (
            "http.response.status_code = 200 and duration_ms > 1",
            "1",
            status_end(200),
            5,
            Some("slow"),
        ),
        ("http.response.status_code exists", "1", gone, 5, None),
    ]
}

#[test]
fn rules_that_the_end_decides_keep_this_hops_span() {
    for (condition, rate, end, milliseconds, wanted) in end_table() {
        let mut bench = Bench::new(&rules("0", &rule(condition, rate)));
        let incoming = traceparent(LOW_TRACE, "00");
        let left = bench.get("/", &[("traceparent", &incoming)]);
        assert_eq!(left.flags(), "00", "nobody knows at the head: {condition}");
        bench.end(left, milliseconds, end);
        let kept = bench.spans();
        let reason = kept.first().and_then(|span| text(span, "sampling.reason"));
        assert_eq!(reason, wanted, "{condition} at {rate}");
        assert_eq!(bench.count("promoted"), u64::from(wanted.is_some()));
    }
}

#[test]
fn half_of_the_slow_requests_means_the_same_half_on_every_hop() {
    let json = rules("0", &rule("duration_ms > 1000", "0.5"));
    let (mut first, mut second) = (Bench::new(&json), Bench::new(&json));
    let mut kept = 0;
    for number in 0..1_000_u64 {
        let low = fastrand::Rng::with_seed(number).u64(..);
        let incoming = format!("00-4bf92f3577b34da6{low:016x}-00f067aa0ba902b7-00");
        let mut counts = Vec::new();
        for bench in [&mut first, &mut second] {
            let left = bench.get("/", &[("traceparent", &incoming)]);
            bench.end(left, 2_000, status_end(200));
            counts.push(bench.spans().len());
        }
        assert_eq!(counts[0], counts[1], "{incoming}");
        kept += counts[0];
    }
    assert!((420..=580).contains(&kept), "{kept} of 1000 at one half");
}

#[test]
fn rules_on_incoming_cost_and_class_decide_at_the_head() {
    let table = [
        ("cost_usd > 0.01", "cost_usd=0.02", Some("expensive")),
        ("cost_usd > 0.01", "cost_usd=0.005", None),
        ("data_tag = PII", "data_tag=PII", Some("data_class")),
        ("data_tag = PII", "data_tag=SENSITIVE", None),
        (
            "data_tag >= SENSITIVE",
            "data_tag=SENSITIVE",
            Some("data_class"),
        ),
    ];
    for (condition, state, wanted) in table {
        let mut bench = Bench::new(&rules("0", &rule(condition, "1")));
        let incoming = traceparent(LOW_TRACE, "00");
        let left = bench.get("/", &[("traceparent", &incoming), ("tracestate", state)]);
        assert_eq!(
            left.parent().flags.is_sampled(),
            wanted.is_some(),
            "{condition} {state}"
        );
        assert_eq!(left.th(), wanted.map(|_| "0"));
        if let Some(reason) = wanted {
            assert_eq!(bench.count(&format!("reason_{reason}")), 1);
        }
    }
}

#[test]
fn the_threshold_of_a_span_is_that_of_all_spans_like_it() {
    let slow_and_errors = rules(
        "0.1",
        &format!(
            "{},{}",
            rule("duration_ms > 1000", "0.5"),
            rule("error = true", "1")
        ),
    );
    // (trace, flags and ot in, ms, status, th of the span)
    let middle = "4bf92f3577b34da6a3a0000000000001";
    let table = [
        // kept at the head, not slow: one in ten
        (HIGH_TRACE, "00", "", 5, 200, Some("e666")),
        // kept at the head and slow: slow ones are kept one in two
        (HIGH_TRACE, "00", "", 2_000, 200, Some("8")),
        (HIGH_TRACE, "00", "", 5, 500, Some("0")),
        // promoted
        (middle, "00", "", 2_000, 200, Some("8")),
        (middle, "00", "", 2_000, 500, Some("0")),
        // kept by a parent at an unknown rate: only a rule that keeps all says more
        (middle, "01", "", 5, 200, None),
        (middle, "01", "", 2_000, 200, None),
        (middle, "01", "", 5, 500, Some("0")),
    ];
    for (trace, flags, state, milliseconds, status, wanted) in table {
        let mut bench = Bench::new(&slow_and_errors);
        let incoming = traceparent(trace, flags);
        let left = bench.get("/", &[("traceparent", &incoming), ("tracestate", state)]);
        bench.end(left, milliseconds, status_end(status));
        let span = bench.span();
        let row = format!(
            "{trace} {flags} {milliseconds} {status}: {}",
            span.trace_state
        );
        assert_eq!(text(&span, "sampling.threshold"), wanted, "{row}");
        let mut members = span.trace_state.split(',');
        let ot = members.find_map(|member| member.strip_prefix("ot=th:"));
        assert_eq!(ot, wanted, "{row}");
    }
}

#[test]
fn a_promoted_span_keeps_the_explicit_randomness_beside_its_threshold() {
    let mut bench = Bench::new(&rules("0", &rule("error = true", "1")));
    let incoming = traceparent(HIGH_TRACE, "00");
    let headers = [
        ("traceparent", incoming.as_str()),
        ("tracestate", "ot=rv:10000000000000"),
    ];
    bench.exchange("/", &headers, 500);
    assert_eq!(bench.span().trace_state, "ot=th:0;rv:10000000000000");
}

#[test]
fn the_floor_keeps_the_first_traces_of_a_quiet_route_and_counts_the_kept_ones() {
    let json = format!(
        r#"{{"sampling":{{"default_rate":0,{NO_ERRORS},"low_volume":{{"traces_per_minute":2}}}}}}"#
    );
    let mut bench = Bench::new(&json);
    let flags: Vec<String> = (0..4)
        .map(|_| bench.get("/a", &[]).flags().to_owned())
        .collect();
    assert_eq!(flags, ["03", "03", "02", "02"]);
    assert_eq!(bench.count("reason_low_volume_floor"), 2);
    assert_eq!(bench.get("/b", &[]).flags(), "03", "each route has its own");
    bench.now += 60 * SECOND;
    let left = bench.get("/a", &[]);
    assert_eq!(
        (left.flags(), left.th()),
        ("03", None),
        "an unknown probability has no th"
    );
    // Those that a rate keeps count as well.
    let mut bench = Bench::new(&json.replace(r#""default_rate":0,"#, r#""default_rate":1,"#));
    for _ in 0..3 {
        let _ = bench.get("/a", &[]);
    }
    assert_eq!(bench.count("reason_low_volume_floor"), 0);
}

#[test]
fn the_floor_holds_only_where_nobody_trusted_has_decided() {
    let json = format!(r#"{{"sampling":{{"default_rate":0,{NO_ERRORS}}}}}"#);
    let incoming = traceparent(LOW_TRACE, "00");
    let headers = [("traceparent", incoming.as_str())];
    assert_eq!(Bench::new(&json).get("/", &headers).flags(), "00");
    let mut edge = Bench::at(&json, Direction::Gateway);
    assert_eq!(
        edge.get("/", &headers).flags(),
        "01",
        "outside decisions do not count"
    );
}

#[test]
fn a_flood_of_client_errors_keeps_its_allowance_and_server_errors_all() {
    let json = quiet(
        r#""default_rate":0,"error_flood":{"kept_per_minute":3}"#,
        "",
    );
    let mut bench = Bench::new(&json);
    for _ in 0..10 {
        bench.exchange("/nothing", &[], 404);
        bench.exchange("/nothing", &[], 500);
    }
    let spans = bench.spans();
    let with = |status| {
        let of = spans
            .iter()
            .filter(|span| support::spans::int(span, "http.response.status_code") == Some(status));
        of.count()
    };
    assert_eq!((with(404), with(500)), (3, 10));
    assert_eq!(bench.count("reason_error_flood"), 7);
    assert_eq!(bench.count("requests_error"), 20, "all of them are errors");
    bench.now += 60 * SECOND;
    bench.exchange("/nothing", &[], 404);
    assert_eq!(bench.spans().len(), 1, "a new minute");
}

#[test]
fn a_client_error_above_the_cap_is_kept_by_the_rules_that_hold_for_any_request() {
    let json = quiet(
        r#""default_rate":0,"error_flood":{"kept_per_minute":1},
           "priority_rules":[{"name":"slow","condition":"duration_ms > 1000","sample_rate":1}]"#,
        "",
    );
    let mut bench = Bench::new(&json);
    for _ in 0..3 {
        let left = bench.get("/", &[]);
        bench.end(left, 2_000, status_end(404));
    }
    assert_eq!(bench.spans().len(), 3);
    assert_eq!(bench.count("reason_error_flood"), 0);
    assert_eq!(bench.count("reason_slow"), 3);
}

#[test]
fn a_call_is_charged_once() {
    let server = r#"{"sampling":{"default_rate":1}}"#;
    let unmetered = r#"{"sampling":{"default_rate":1},
        "cost":{"unmetered_destinations":["*.amazonaws.com"]}}"#;
    let client = r#"{"sampling":{"default_rate":1},"cost":{"charge":"client"}}"#;
    let table = [
        (server, Direction::Inbound, "pay", true),
        (server, Direction::Gateway, "pay", true),
        (server, Direction::Outbound, "pay", false),
        (unmetered, Direction::Outbound, "s3.AMAZONAWS.com:443", true),
        (unmetered, Direction::Outbound, "pay", false),
        (client, Direction::Inbound, "pay", false),
        (client, Direction::Outbound, "pay", true),
        (client, Direction::Gateway, "pay", true),
    ];
    for (json, direction, host, charged) in table {
        let mut bench = Bench::at(json, direction);
        let lines = [(":method", "GET"), (":path", "/"), (":authority", host)];
        let left = bench.send(&lines).unwrap();
        bench.end(left, 100, status_end(200));
        let span = bench.span();
        // 0.00001 x (1 + 100 / 100 x 0.1)
        let wanted = if charged { 0.000_011 } else { 0.0 };
        assert_eq!(
            double(&span, "cost_usd"),
            Some(wanted),
            "{json} {direction:?} {host}"
        );
        let source = if charged {
            "mesh_estimate"
        } else {
            "charged_by_callee"
        };
        assert_eq!(text(&span, "cost.source"), Some(source));
    }
}

#[test]
fn own_cost_and_accumulated_cost_are_never_added_in_a_span() {
    let mut bench = Bench::new(&support::rate("1"));
    let incoming = traceparent(HIGH_TRACE, "01");
    let headers = [
        ("traceparent", incoming.as_str()),
        ("tracestate", "cost_usd=0.5"),
    ];
    let left = bench.get("/", &headers);
    bench.end(left, 1_000, status_end(200));
    let span = bench.span();
    assert_eq!(double(&span, "cost_usd"), Some(0.000_02));
    assert_eq!(double(&span, "cost_usd.path"), Some(0.5));
}

#[test]
fn an_announced_body_counts_in_the_estimate_only_up_to_its_cap() {
    let estimate = |length: &str| {
        let left = Bench::new(&support::rate("0")).get("/", &[("content-length", length)]);
        left.member("cost_usd").unwrap().to_owned()
    };
    assert_eq!(estimate("1048576"), "0.0000101");
    assert_eq!(estimate("67108864"), "0.0000164");
    assert_eq!(
        estimate("9000000000000000000"),
        "0.0000164",
        "nobody sends that"
    );
    assert_eq!(estimate("many"), "0.00001");
}

#[test]
fn the_http_version_is_asked_for_only_when_a_condition_needs_it() {
    assert!(!Bench::new("{}").engine.needs_protocol());
    let json = rules("0", &rule("network.protocol.version = 2", "1"));
    let mut bench = Bench::new(&json);
    assert!(bench.engine.needs_protocol());
    assert!(!bench.get("/", &[]).parent().flags.is_sampled());
    bench.protocol = Some(Protocol::Http2);
    assert!(bench.get("/", &[]).parent().flags.is_sampled());
}

#[test]
fn unknown_routes_beyond_the_cap_share_one_name() {
    let json =
        r#"{"sampling":{"default_rate":1},"attributes":{"max_routes":2,"routes":["/u/{name}"]}}"#;
    let mut bench = Bench::new(json);
    let mut routes = Vec::new();
    for path in ["/u/alice", "/u/bob", "/orders/1234", "/third", "/u/eve"] {
        bench.exchange(path, &[], 200);
        routes.push(text(&bench.span(), "http.route").unwrap().to_owned());
    }
    assert_eq!(
        routes,
        [
            "/u/{name}",
            "/u/{name}",
            "/orders/{id}",
            "other",
            "/u/{name}"
        ]
    );
}
