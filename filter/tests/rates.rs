//! The adaptive rates at the shim: what is asked of the collector, and what an answer does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod fake_host;

use fake_host::{BAD_ARGUMENT, HttpCall, INTERNAL_FAILURE, Root, host, http_calls, start};
use filter as _;

/// Nothing is kept but what a table says.
const POLICY: &str = r#"{"sampling":{"default_rate":0,"low_volume":{"traces_per_minute":0},
    "adaptive":{"enabled":true,"adjustment_interval":"20s"}},
    "export":{"cluster":"collector","headers":{"x-key":"secret"}},"service":{"name":"shop"}}"#;

const TABLE: &[u8] = br#"{"version":5,"service":"shop","unlisted":"0","routes":{}}"#;

const ROOT_REQUEST: &[(&str, &str)] = &[
    (":method", "GET"),
    (":path", "/cart"),
    (":authority", "shop"),
    (":scheme", "http"),
];

/// One request that begins a trace; whether it was kept.
fn begins(root: Root, context: u32) -> bool {
    let stream = root.stream(context);
    let left = stream.request(ROOT_REQUEST);
    stream.response_headers(true);
    host(|host| {
        host.integer("response/code", 200);
        host.integer("response/flags", 0);
    });
    stream.log();
    let traceparent = left.iter().find(|(name, _)| name == "traceparent");
    traceparent.unwrap().1.ends_with(b"-03")
}

fn header<'c>(call: &'c HttpCall, name: &str) -> Option<&'c str> {
    let found = call.headers.iter().find(|(line, _)| line == name)?;
    Some(std::str::from_utf8(&found.1).unwrap())
}

/// The requests for rates among the calls since the last look.
fn asked() -> Vec<HttpCall> {
    let calls = http_calls();
    let rates = |call: &HttpCall| header(call, ":path").unwrap().starts_with("/v1/rates");
    calls.into_iter().filter(rates).collect()
}

#[test]
fn the_collectors_table_decides_where_traces_begin() {
    let root = start(POLICY);
    root.tick(1);
    assert!(asked().is_empty(), "no trace has begun here");
    assert!(!begins(root, 10));
    root.tick(1);
    let call = asked().remove(0);
    assert_eq!(header(&call, ":method"), Some("GET"));
    assert_eq!(header(&call, ":path"), Some("/v1/rates?service=shop"));
    assert_eq!(header(&call, "x-key"), Some("secret"));
    assert_eq!(header(&call, "content-type"), None);
    assert_eq!(header(&call, "if-none-match"), None);
    let headers = [(":status", "200"), ("etag", "\"five\"")];
    root.answer_with(&call, &headers, TABLE);
    assert!(begins(root, 11), "the table keeps everything");
    root.tick(10);
    assert_eq!(host(|host| host.metric("rates_version")), 5);
    assert_eq!(host(|host| host.metric("rates_fetched_total")), 1);
    let again = asked().remove(0);
    assert_eq!(header(&again, "if-none-match"), Some("\"five\""));
    root.answer(&again, &[(":status", "304")]);
    assert!(begins(root, 12));
}

#[test]
fn a_new_root_context_finds_the_table_that_another_has_shared() {
    let first = start(POLICY);
    begins(first, 10);
    first.tick(1);
    let call = asked().remove(0);
    first.answer_with(&call, &[(":status", "200"), ("etag", "\"a\"")], TABLE);
    let second = Root::configured(2, POLICY);
    assert!(!begins(second, 11), "it has not looked yet");
    second.tick(1);
    assert!(asked().is_empty(), "it need not ask");
    assert!(begins(second, 12));
}

#[test]
fn an_answer_that_is_too_long_or_wrong_is_counted_and_changes_nothing() {
    let root = start(POLICY);
    begins(root, 10);
    let long = vec![b' '; (64 << 10) + 1];
    for (bad, refused) in [(&b"{"[..], 1), (&long, 2), (b"\xff", 3)] {
        root.tick(30);
        let call = asked().remove(0);
        root.answer_with(&call, &[(":status", "200")], bad);
        root.tick(0);
        assert_eq!(host(|host| host.metric("rates_refused_total")), refused);
    }
    for status in ["503", "200x", "404"] {
        root.tick(60);
        let call = asked().remove(0);
        root.answer(&call, &[(":status", status)]);
    }
    root.tick(1);
    assert_eq!(host(|host| host.metric("rates_failed_total")), 3);
    assert!(host(|host| host.logs.iter().all(|(level, _)| *level < 3)));
}

#[test]
fn a_host_that_does_not_send_is_asked_again_later() {
    for status in [BAD_ARGUMENT, INTERNAL_FAILURE] {
        std::thread::spawn(move || {
            let root = start(POLICY);
            begins(root, 10);
            host(|host| host.dispatch_status = status);
            root.tick(1);
            host(|host| host.dispatch_status = 0);
            root.tick(0);
            assert!(asked().is_empty(), "after a pause");
            root.tick(30);
            assert_eq!(asked().len(), 1);
        })
        .join()
        .unwrap();
    }
}

#[test]
fn the_table_costs_no_host_call_per_request() {
    let counted = |policy: &'static str| {
        std::thread::spawn(move || {
            let root = start(policy);
            begins(root, 10);
            fake_host::calls();
            root.stream(11).request(ROOT_REQUEST);
            fake_host::calls().len()
        })
        .join()
        .unwrap()
    };
    let off = r#"{"sampling":{"default_rate":0,"low_volume":{"traces_per_minute":0}},
        "export":{"cluster":"collector"},"service":{"name":"shop"}}"#;
    assert_eq!(counted(POLICY), counted(off));
}
