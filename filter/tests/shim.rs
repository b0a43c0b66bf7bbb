//! The shim under a fake host: budgets of host calls, reloads, failures of host and collector, and
//! bytes that no client should send.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod fake_host;

use fake_host::{
    BAD_ARGUMENT, Headers, INTERNAL_FAILURE, NOT_FOUND, Root, calls, host, http_calls, start,
};
// The module under test; its callbacks are reached by their exported names.
use filter as _;

const EXPORT: &str = r#""export":{"cluster":"collector","linger":"1s"}"#;

/// The parts that a policy is made of here, with export on.
fn policy(default_rate: &str, further: &str) -> String {
    format!(
        r#"{{"sampling":{{"default_rate":{default_rate},"low_volume":{{"traces_per_minute":0}}}},{EXPORT}{further}}}"#
    )
}

/// A usual request: fifteen headers and a context.
const REQUEST: &[(&str, &str)] = &[
    (":method", "GET"),
    (":path", "/api/orders/42?page=1"),
    (":authority", "shop.svc:8080"),
    (":scheme", "http"),
    ("user-agent", "curl/8"),
    ("accept", "*/*"),
    ("x-request-id", "0a1b2c3d-0000-4000-8000-000000000000"),
    ("x-forwarded-proto", "http"),
    (
        "traceparent",
        "00-4bf92f3577b34da6a310000000000001-00f067aa0ba902b7-00",
    ),
    ("tracestate", "vendor=1"),
    ("baggage", "user=1"),
];

/// The same from a proxy that takes replies.
const ANSWERED: &[(&str, &str)] = &[
    (":method", "GET"),
    (":path", "/api/orders/42?page=1"),
    (":authority", "shop.svc:8080"),
    ("traceparent", TRACEPARENT),
    ("tracestate", "cost_usd=0.1,data_tag=EXPORT_OK,tm=r:1"),
];

const TRACEPARENT: &str = "00-4bf92f3577b34da6a310000000000001-00f067aa0ba902b7-00";

fn value<'h>(headers: &'h Headers, name: &str) -> Option<&'h [u8]> {
    let mut found = headers.iter().filter(|(line, _)| line == name);
    let value = found.next()?;
    assert!(found.next().is_none(), "`{name}` stands twice");
    Some(&value.1)
}

fn ended(status: i64) {
    host(|host| {
        host.integer("response/code", status);
        host.integer("response/flags", 0);
        host.integer("response/size", 10);
        host.integer("request/size", 0);
        host.text("request/protocol", "HTTP/1.1");
    });
}

/// One whole request with its phases as a host makes them.
fn exchange(root: Root, context: u32, lines: &[(&str, &str)], status: i64) -> Headers {
    let stream = root.stream(context);
    let left = stream.request(lines);
    stream.response_headers(false);
    stream.response_body(10, true);
    ended(status);
    stream.log();
    left
}

// === budgets ===

/// Host calls of one request by phase. Committed: a change that needs more has to say so here.
struct Budget {
    name: &'static str,
    configuration: fn() -> String,
    lines: &'static [(&'static str, &'static str)],
    status: i64,
    request: usize,
    response: usize,
    log: usize,
}

const BUDGETS: [Budget; 7] = [
    Budget {
        name: "unsampled, direction of the listener",
        configuration: || policy("0", ""),
        lines: REQUEST,
        status: 200,
        request: 6,
        response: 1,
        log: 3,
    },
    Budget {
        name: "unsampled, direction of the policy",
        configuration: || policy("0", r#","service":{"direction":"inbound"}"#),
        lines: REQUEST,
        status: 200,
        request: 5,
        response: 1,
        log: 3,
    },
    Budget {
        name: "sampled at the head",
        configuration: || policy("1", ""),
        lines: REQUEST,
        status: 200,
        request: 6,
        response: 1,
        log: 3,
    },
    Budget {
        name: "kept at the end as an error",
        configuration: || policy("0", ""),
        lines: REQUEST,
        status: 500,
        request: 6,
        response: 1,
        log: 5,
    },
    Budget {
        name: "unsampled, the caller takes replies",
        configuration: || policy("0", r#","service":{"direction":"inbound"}"#),
        lines: ANSWERED,
        status: 200,
        request: 5,
        // an internal header of the application, status, time, and the number of workers
        response: 4,
        log: 3,
    },
    Budget {
        name: "unsampled, a call of the service",
        configuration: || policy("0", r#","service":{"direction":"outbound"}"#),
        lines: REQUEST,
        status: 200,
        request: 5,
        response: 1,
        log: 2,
    },
    Budget {
        name: "companion",
        configuration: || policy("0", r#","propagation":{"mode":"companion"}"#),
        lines: REQUEST,
        status: 200,
        // the tracestate and the baggage, and four values of filter state
        request: 9,
        response: 2,
        log: 2,
    },
];

#[test]
fn each_kind_of_request_stays_within_its_budget_of_host_calls() {
    for (number, budget) in (1..).zip(BUDGETS) {
        std::thread::spawn(move || {
            let root = start(&(budget.configuration)());
            // The first requests of a configuration are looked at for an overwritten context, and
            // random bytes come in blocks: neither is part of the steady state.
            for context in 100..140 {
                exchange(root, context, budget.lines, 200);
            }
            let stream = root.stream(number + 1_000);
            calls();
            stream.request(budget.lines);
            let request = calls();
            stream.response_headers(false);
            stream.response_body(10, true);
            let response = calls();
            ended(budget.status);
            stream.log();
            let log = calls();
            let name = budget.name;
            println!(
                "{name}: {} + {} + {}",
                request.len(),
                response.len(),
                log.len()
            );
            assert!(request.len() <= budget.request, "{name}: {request:?}");
            assert!(response.len() <= budget.response, "{name}: {response:?}");
            assert!(log.len() <= budget.log, "{name}: {log:?}");
        })
        .join()
        .unwrap();
    }
}

#[test]
fn a_tick_with_nothing_to_do_makes_few_host_calls() {
    let root = start(&policy("0", ""));
    root.tick(1);
    calls();
    root.tick(1);
    let made = calls();
    assert_eq!(
        made,
        ["get_current_time", "get_shared_data", "increment_metric"],
        "the heart-beat, and what another VM may have left"
    );
}

// === what leaves ===

#[test]
fn one_part_of_a_request_in_many_is_timed() {
    let root = start(&policy("0", ""));
    for context in 10..10 + 510 {
        exchange(root, context, REQUEST, 200);
    }
    root.tick(1);
    assert_eq!(host(|host| host.metric("self_time_parts_total")), 4);
}

#[test]
fn the_three_headers_are_rewritten_as_single_lines() {
    let root = start(&policy("0", ""));
    let mut lines = REQUEST.to_vec();
    lines.push(("tracestate", "second=2"));
    lines.push(("baggage", "b=2"));
    let left = exchange(root, 10, &lines, 200);
    let parent = value(&left, "traceparent").unwrap();
    assert!(
        parent.starts_with(b"00-4bf92f3577b34da6a310000000000001-") && parent.ends_with(b"-00")
    );
    assert_ne!(parent, REQUEST[8].1.as_bytes());
    let state = b"cost_usd=0.00001,data_tag=EXPORT_OK,vendor=1,second=2";
    assert_eq!(value(&left, "tracestate"), Some(&state[..]));
    let baggage = b"user=1,b=2,cost_usd=0.00001,data_tag=EXPORT_OK";
    assert_eq!(value(&left, "baggage"), Some(&baggage[..]));
}

#[test]
fn bytes_that_are_not_utf8_pass_without_a_panic() {
    let root = start(&policy("1", ""));
    for (context, name) in (10..).zip(["traceparent", "tracestate", "baggage", ":path", "x"]) {
        let hostile: Vec<u8> = (0x80..=0xff).chain(1..0x20).chain([0xc3]).collect();
        let hostile: Vec<u8> = hostile
            .into_iter()
            .filter(|byte| !b"\r\n".contains(byte))
            .collect();
        let stream = root.stream(context);
        let left = stream.request(&[(":method", b"GET".to_vec()), (name, hostile)]);
        assert_eq!(value(&left, "traceparent").unwrap().len(), 55);
        ended(200);
        stream.log();
    }
    root.tick(2);
    assert_eq!(host(|host| host.metric("requests_total")), 5);
    assert_eq!(host(|host| host.metric("invalid_traceparent_total")), 1);
}

#[test]
fn the_explain_header_is_set_on_the_response_when_asked() {
    let root = start(&policy("0", r#","debug":{"explain":true}"#));
    let mut lines = REQUEST.to_vec();
    lines.push(("x-tracemeter-debug", "1"));
    let stream = root.stream(10);
    stream.request(&lines);
    stream.response_headers(true);
    let headers = host(|host| host.response_headers.clone().unwrap());
    let line = value(&headers, "x-tracemeter-explain").unwrap();
    assert!(line.starts_with(b"trace_id=4bf92f3577b34da6a310000000000001;"));
    stream.log();
}

#[test]
fn an_excluded_request_is_left_as_it_came() {
    let root = start(&policy("1", ""));
    let lines = [
        (":method", "CONNECT"),
        (":authority", "example.com:443"),
        ("baggage", "a=1"),
    ];
    let left = exchange(root, 10, &lines, 200);
    assert_eq!(left.len(), 3);
    root.tick(2);
    assert_eq!(host(|host| host.metric("reason_excluded_total")), 1);
    assert_eq!(host(|host| host.metric("requests_ended_total")), 1);
}

#[test]
fn a_companion_writes_the_final_cost_with_the_last_byte_of_the_response() {
    let json = policy("0", r#","propagation":{"mode":"companion"}"#);
    let root = start(&json);
    let cost = || {
        let value = host(|host| host.filter_state.get("tracemeter.cost_usd").cloned());
        String::from_utf8(value.unwrap()).unwrap()
    };
    // (how the response ends, cost: 0.00001 x (1 + 1000 / 100 x 0.1 + MiB x 0.01))
    for (context, kind) in (10..).zip(["headers", "body", "trailers"]) {
        let stream = root.stream(context);
        let left = stream.request(REQUEST);
        assert_eq!(
            value(&left, "traceparent"),
            Some(REQUEST[8].1.as_bytes()),
            "Envoy's"
        );
        assert_eq!(cost(), "0.00001");
        host(|host| {
            host.now += 1_000_000_000;
            host.integer("request/size", 0);
        });
        match kind {
            "headers" => stream.response_headers(true),
            "body" => {
                stream.response_headers(false);
                stream.response_body(1 << 19, false);
                stream.response_body(1 << 19, false);
                stream.response_body(0, true);
            }
            _ => {
                stream.response_headers(false);
                stream.response_body(1 << 20, false);
                stream.response_trailers();
            }
        }
        let wanted = if kind == "headers" {
            "0.00002"
        } else {
            "0.0000201"
        };
        assert_eq!(cost(), wanted, "{kind}");
        ended(200);
        stream.log();
    }
}

#[test]
fn what_the_callbacks_have_told_is_not_asked_for_and_the_rest_is() {
    // (kind, status, flags that the host would tell, reset)
    for (kind, flags, reset) in [
        ("complete", 0x80_0000, false),
        ("cut off", 0x80_0000, true),
        ("complete", 0, false),
    ] {
        let root = std::thread::spawn(move || {
            let root = start(&policy("0", ""));
            let stream = root.stream(10);
            stream.request_with_body(REQUEST);
            stream.response_headers(false);
            stream.response_body(7, kind == "complete");
            ended(200);
            host(|host| {
                host.integer("response/flags", flags);
                host.integer("request/size", 5);
            });
            stream.log();
            root.tick(1);
            host(|host| host.metric("requests_error_total"))
        });
        assert_eq!(root.join().unwrap() == 1, reset, "{kind}");
    }
}

#[test]
fn an_aborted_upload_counts_what_arrived_and_not_what_was_announced() {
    let root = start(&policy("1", ""));
    let stream = root.stream(10);
    stream.request_with_body(REQUEST);
    ended(0);
    host(|host| {
        host.integer("request/size", 1 << 40);
        host.integer("request/total_size", 1_000);
    });
    stream.log();
    root.tick(2);
    let call = http_calls().remove(0);
    let wanted = b"http.request.body.size\x12\x03\x18\xe8\x07";
    assert!(
        call.body
            .windows(wanted.len())
            .any(|window| window == wanted),
        "1000 bytes"
    );
}

// === endings ===

#[test]
fn a_malformed_request_that_only_reaches_the_log_is_counted() {
    let root = start(&policy("1", ""));
    ended(400);
    root.stream(10).log();
    root.tick(1);
    assert_eq!(host(|host| host.metric("requests_malformed_total")), 1);
    assert_eq!(host(|host| host.metric("requests_ended_total")), 1);
    assert_eq!(host(|host| host.metric("requests_total")), 0);
}

#[test]
fn a_stream_that_is_only_done_ends_once_and_one_that_never_began_counts_nothing() {
    let root = start(&policy("1", ""));
    let stream = root.stream(10);
    stream.request(REQUEST);
    ended(200);
    stream.finish();
    root.stream(11).finish();
    root.tick(2);
    assert_eq!(host(|host| host.metric("requests_ended_total")), 1);
    assert_eq!(host(|host| host.metric("spans_buffered_total")), 1);
}

#[test]
fn a_tracer_that_overwrites_the_context_is_reported_once_and_counted() {
    let root = start(&policy("0", ""));
    for context in 10..13 {
        let stream = root.stream(context);
        stream.request(REQUEST);
        host(|host| {
            let lines = host.request_headers.as_mut().unwrap();
            lines.retain(|(name, _)| name != "traceparent");
            lines.push(("traceparent".to_owned(), b"somebody else's".to_vec()));
        });
        ended(200);
        stream.log();
    }
    root.tick(1);
    assert_eq!(host(|host| host.metric("context_overwritten_total")), 3);
    let warnings = host(|host| {
        let logs = host.logs.iter();
        logs.filter(|(_, line)| line.contains("overwrites traceparent"))
            .count()
    });
    assert_eq!(warnings, 1);
}

// === configuration ===

#[test]
fn a_bad_configuration_is_counted_and_the_defaults_go_on() {
    for bad in [
        "{",
        "null null",
        "[1]",
        r#"{"sampling":{"default_rate":7}}"#,
        "\u{feff}",
    ] {
        std::thread::spawn(move || {
            let root = start(bad);
            let left = exchange(root, 10, REQUEST, 200);
            assert_eq!(value(&left, "traceparent").unwrap().len(), 55);
            root.tick(1);
            assert_eq!(
                host(|host| host.metric("config_errors_total")),
                1,
                "`{bad}`"
            );
            assert!(host(|host| host.logs.iter().any(|(level, _)| *level == 4)));
            assert!(http_calls().is_empty(), "no collector is named");
        })
        .join()
        .unwrap();
    }
}

#[test]
fn an_empty_configuration_means_the_defaults_with_export_off() {
    let root = start("");
    exchange(root, 10, REQUEST, 500);
    root.tick(10);
    assert_eq!(host(|host| host.metric("config_errors_total")), 0);
    assert_eq!(
        host(|host| host.metric("spans_dropped_export_off_total")),
        1
    );
    assert!(http_calls().is_empty());
}

#[test]
fn a_refused_reload_keeps_the_last_good_policy() {
    start(&policy("1", ""));
    let second = Root::configured(2, "{ this is no policy");
    let left = exchange(second, 10, REQUEST, 200);
    assert!(
        value(&left, "traceparent").unwrap().ends_with(b"-01"),
        "rate 1 holds"
    );
    second.tick(2);
    assert_eq!(host(|host| host.metric("config_errors_total")), 1);
    assert_eq!(http_calls().len(), 1, "and so does its collector");
}

#[test]
fn a_reload_exports_what_the_old_root_context_still_holds() {
    let first = start(&policy("1", ""));
    exchange(first, 10, REQUEST, 200);
    let second = Root::configured(2, &policy("0", ""));
    exchange(second, 11, REQUEST, 200);
    first.tick(2);
    let lost = http_calls();
    assert_eq!(
        lost.len(),
        1,
        "spans; no answer will come to a root context that is gone"
    );
    assert!(
        first.on_done(),
        "it must not wait: the host would forget it"
    );
    second.tick(1);
    let made = http_calls();
    assert!(made.iter().all(|call| call.root == 2));
    assert!(
        made.iter().any(|call| call.body == lost[0].body),
        "sent again, unchanged"
    );
    for call in &made {
        second.answer(call, &[(":status", "200")]);
    }
    second.tick(1);
    assert_eq!(host(|host| host.metric("spans_exported_total")), 1);
    assert_eq!(host(|host| host.metric("requests_ended_total")), 2);
    assert_eq!(host(|host| host.metric("queue_bytes")), 0);
}

#[test]
fn quick_changes_lose_nothing_until_somebody_takes_over() {
    let mut root = start(&policy("1", ""));
    for number in 2..12 {
        exchange(root, 100 + number, REQUEST, 200);
        let next = Root::configured(number, &policy("1", ""));
        assert!(root.on_done());
        root = next;
    }
    for _ in 0..20 {
        root.tick(2);
        for call in http_calls() {
            root.answer(&call, &[(":status", "200")]);
        }
    }
    assert_eq!(host(|host| host.metric("spans_exported_total")), 10);
    assert_eq!(host(|host| host.metric("requests_total")), 10);
}

#[test]
fn a_vm_that_ends_leaves_its_spans_and_counts_to_the_next_one() {
    let first = start(&policy("1", ""));
    first.tick(1);
    exchange(first, 10, REQUEST, 200);
    assert!(first.on_done());
    assert!(http_calls().is_empty(), "it cannot send any more");
    let second = Root::configured(2, &policy("0", ""));
    exchange(second, 11, REQUEST, 200);
    let mut sent = Vec::new();
    for _ in 0..10 {
        second.tick(2);
        for call in http_calls() {
            second.answer(&call, &[(":status", "200")]);
            sent.push(header(&call.headers, ":path").to_owned());
        }
    }
    sent.sort();
    assert_eq!(sent, ["/v1/metrics", "/v1/metrics", "/v1/traces"]);
    assert_eq!(host(|host| host.metric("parcels_taken_over_total")), 2);
    assert_eq!(host(|host| host.metric("spans_exported_total")), 1);
    assert_eq!(host(|host| host.metric("requests_ended_total")), 2);
    assert_eq!(host(|host| host.metric("queue_bytes")), 0);
    second.tick(2);
    assert!(http_calls().is_empty(), "taken once");
}

// === export ===

fn header<'c>(headers: &'c Headers, name: &str) -> &'c str {
    std::str::from_utf8(value(headers, name).unwrap()).unwrap()
}

#[test]
fn spans_and_counts_go_to_their_paths_with_the_headers_of_the_policy() {
    let json = r#"{"sampling":{"default_rate":1},"export":{"cluster":"collector","authority":"tm",
        "path":"/t","metrics_path":"/m","ledger_interval":"1s","headers":{"x-key":"secret"}}}"#;
    let root = start(json);
    exchange(root, 10, REQUEST, 200);
    root.tick(2);
    root.tick(2);
    let made = http_calls();
    assert_eq!(made.len(), 2);
    for (call, path) in made.iter().zip(["/t", "/m"]) {
        assert_eq!(call.cluster, "collector");
        assert_eq!(header(&call.headers, ":path"), path);
        assert_eq!(header(&call.headers, ":method"), "POST");
        assert_eq!(header(&call.headers, ":authority"), "tm");
        assert_eq!(
            header(&call.headers, "content-type"),
            "application/x-protobuf"
        );
        assert_eq!(header(&call.headers, "x-key"), "secret");
        assert!(header(&call.headers, "user-agent").starts_with(filter_core::USER_AGENT));
    }
}

#[test]
fn a_body_is_compressed_where_the_host_makes_it_smaller_and_the_policy_allows() {
    let zlib = b"\x78\x9cdeflated1234".to_vec();
    let large = vec![7; 100_000];
    for (gzip, answer, wanted) in [
        ("true", Some(zlib.clone()), true),
        ("false", Some(zlib), false),
        ("true", None, false),
        ("true", Some(b"no zlib stream".to_vec()), false),
        ("true", Some(large), false),
    ] {
        std::thread::spawn(move || {
            let json = format!(
                r#"{{"sampling":{{"default_rate":1}},"export":{{"cluster":"collector","gzip":{gzip}}}}}"#
            );
            let root = start(&json);
            host(|host| host.compressed = answer);
            exchange(root, 10, REQUEST, 200);
            root.tick(2);
            let call = http_calls().remove(0);
            let encoding = call.headers.iter().find(|(name, _)| name == "content-encoding");
            assert_eq!(encoding.is_some(), wanted);
            assert_eq!(call.body.starts_with(b"\x1f\x8b"), wanted);
            root.answer(&call, &[(":status", "200")]);
            root.tick(1);
            let (sent, plain) = host(|host| {
                (
                    host.metric("export_bytes_total"),
                    host.metric("export_uncompressed_bytes_total"),
                )
            });
            assert_eq!(sent < plain, wanted, "{sent} {plain}");
            assert_eq!(host(|host| host.metric("spans_exported_total")), 1);
        })
        .join()
        .unwrap();
    }
}

#[test]
fn a_failed_export_is_sent_again_unchanged() {
    for (status, answer) in [
        ("503", &[(":status", "503")][..]),
        ("504", &[(":status", "504")]),
        ("none", &[]),
        ("not a number", &[(":status", "ok")]),
    ] {
        std::thread::spawn(move || {
            let root = start(&policy("1", ""));
            exchange(root, 10, REQUEST, 200);
            root.tick(2);
            let first = http_calls().remove(0);
            root.answer(&first, answer);
            root.tick(2);
            let second = http_calls().remove(0);
            assert_eq!(first.body, second.body, "{status}");
            root.answer(&second, &[(":status", "200")]);
            root.tick(1);
            assert_eq!(
                host(|host| host.metric("spans_exported_total")),
                1,
                "{status}"
            );
            assert_eq!(
                host(|host| host.metric("export_retries_total")),
                1,
                "{status}"
            );
            assert_eq!(host(|host| host.metric("queue_bytes")), 0, "{status}");
        })
        .join()
        .unwrap();
    }
}

#[test]
fn a_host_that_does_not_send_is_asked_again_later() {
    for (status, counter) in [
        (BAD_ARGUMENT, "export_no_cluster_total"),
        (INTERNAL_FAILURE, "export_retries_total"),
    ] {
        std::thread::spawn(move || {
            let root = start(&policy("1", ""));
            exchange(root, 10, REQUEST, 200);
            host(|host| host.dispatch_status = status);
            root.tick(2);
            assert_eq!(host(|host| host.metric(counter)), 1);
            host(|host| host.dispatch_status = 0);
            root.tick(2);
            assert_eq!(http_calls().len(), 1);
        })
        .join()
        .unwrap();
    }
}

#[test]
fn an_accepted_batch_makes_room_for_the_next_one_at_once() {
    let json = r#"{"sampling":{"default_rate":1},"export":{"cluster":"collector",
        "batch_spans":100,"max_in_flight":2}}"#;
    let root = start(json);
    for context in 100..1_100 {
        exchange(root, context, REQUEST, 200);
    }
    root.tick(1);
    let mut waiting = http_calls();
    assert_eq!(waiting.len(), 2, "the window");
    let mut batches = 0;
    while let Some(call) = waiting.pop() {
        batches += 1;
        root.answer(&call, &[(":status", "200")]);
        waiting.extend(http_calls());
    }
    assert_eq!(batches, 10, "without a further tick");
}

#[test]
fn retry_after_is_honoured() {
    let root = start(&policy("1", ""));
    exchange(root, 10, REQUEST, 200);
    root.tick(2);
    let spans = http_calls().remove(0);
    root.answer(&spans, &[(":status", "429"), ("retry-after", "30")]);
    root.tick(25);
    let sent = |path: &str| {
        http_calls()
            .iter()
            .any(|call| header(&call.headers, ":path") == path)
    };
    assert!(!sent("/v1/traces"));
    root.tick(6);
    assert!(sent("/v1/traces"));
}

// === a host that fails ===

#[test]
fn calls_that_may_fail_do_not_take_the_module_down() {
    let table: [(&'static str, u32); 7] = [
        ("get_header_map_pairs", BAD_ARGUMENT),
        ("get_header_map_pairs", NOT_FOUND),
        ("get_property", NOT_FOUND),
        ("get_property", INTERNAL_FAILURE),
        ("get_property", BAD_ARGUMENT),
        ("get_shared_data", NOT_FOUND),
        ("increment_metric", BAD_ARGUMENT),
    ];
    for (name, status) in table {
        std::thread::spawn(move || {
            let root = start(&policy("1", ""));
            host(|host| host.statuses.insert(name, status));
            let stream = root.stream(10);
            let left = stream.request(REQUEST);
            assert_eq!(value(&left, "traceparent").unwrap().len(), 55, "{name}");
            stream.response_headers(false);
            stream.response_body(1, true);
            stream.log();
            let _bad = Root::configured(2, "{");
            root.tick(2);
        })
        .join()
        .unwrap_or_else(|_| panic!("{name} answers {status}"));
    }
}
