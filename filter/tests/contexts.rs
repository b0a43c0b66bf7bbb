//! Contexts of the host: whatever numbers it names, and in whatever order, nothing traps, and each
//! stream is served by its own root context.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod fake_host;

use fake_host::{Root, Stream, calls, host, start};
use filter as _;

fn policy(rate: &str) -> String {
    format!(
        r#"{{"sampling":{{"default_rate":{rate},"low_volume":{{"traces_per_minute":0}}}},
            "export":{{"cluster":"collector","linger":"1s"}}}}"#
    )
}

const REQUEST: &[(&str, &str)] = &[
    (":method", "GET"),
    (":path", "/"),
    (":authority", "orders.svc"),
];

/// Every callback of a stream after its creation.
fn run(stream: Stream) {
    stream.request(REQUEST);
    stream.response_headers(false);
    stream.response_body(10, false);
    stream.response_trailers();
    host(|host| {
        host.integer("response/code", 200);
        host.integer("response/flags", 0);
        host.text("request/protocol", "HTTP/1.1");
    });
    stream.log();
}

fn count(name: &str) -> i64 {
    host(|host| host.metric(name))
}

#[test]
fn streams_that_nobody_knows_are_left_alone() {
    let root = start(&policy("1"));
    calls();
    // Never created, of a root context that never was, and gone already.
    run(Stream(7));
    run(Root(99).stream(8));
    assert!(calls().is_empty(), "nothing was asked for");
    let stream = root.stream(9);
    run(stream);
    calls();
    run(stream);
    assert!(calls().is_empty());
    root.tick(1);
    assert_eq!(count("requests_total"), 1);
    assert_eq!(count("requests_ended_total"), 1);
}

#[test]
fn a_root_context_without_a_configuration_serves_nothing() {
    let root = start(&policy("1"));
    let other = Root::created(2);
    calls();
    run(other.stream(10));
    assert!(calls().is_empty());
    assert!(other.on_done());
    run(root.stream(11));
    root.tick(1);
    assert_eq!(count("requests_total"), 1);
}

#[test]
fn a_root_context_that_is_created_or_done_twice_does_no_harm() {
    let root = start(&policy("1"));
    let again = Root::created(1);
    run(again.stream(10));
    root.tick(1);
    assert_eq!(count("requests_total"), 1);
    assert!(root.on_done());
    assert!(root.on_done());
    assert!(Root(50).on_done());
}

#[test]
fn streams_of_a_root_context_that_is_gone_are_left_alone_and_its_number_may_come_again() {
    let first = start(&policy("1"));
    let second = Root::configured(2, &policy("0"));
    let (left, kept) = (first.stream(10), second.stream(11));
    left.request(REQUEST);
    kept.request(REQUEST);
    assert!(first.on_done());
    left.response_headers(false);
    left.log();
    kept.response_headers(true);
    kept.log();
    second.tick(1);
    assert_eq!(
        count("requests_total"),
        2,
        "the first one's count is taken over"
    );
    assert_eq!(count("requests_ended_total"), 1);
    let first = Root::configured(1, &policy("1"));
    run(first.stream(10));
    first.tick(1);
    assert_eq!(count("requests_ended_total"), 2);
}

#[test]
fn many_streams_at_once_and_their_places_again() {
    let root = start(&policy("1"));
    for round in 0..3_u32 {
        let numbers = (0..3_000).map(|number| 100 + round * 3_000 + number);
        let streams: Vec<Stream> = numbers.map(|number| root.stream(number)).collect();
        for stream in &streams {
            stream.request(REQUEST);
        }
        for stream in streams.iter().rev() {
            stream.log();
        }
    }
    root.tick(1);
    assert_eq!(count("requests_total"), 9_000);
    assert_eq!(count("requests_ended_total"), 9_000);
}
