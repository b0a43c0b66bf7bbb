//! The return channel in the shim: which host calls it makes on which side, that the internal header
//! is taken away, and that news finds a request on this worker and on another one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod fake_host;

use fake_host::{Headers, NOW, Root, calls, host, http_calls, start};
use filter as _;

const HEADER: &str = "x-tracemeter-return";
const TRACE: &str = "4bf92f3577b34da6a310000000000001";

fn policy(direction: &str, carries: &str) -> String {
    format!(
        r#"{{"service":{{"direction":"{direction}"}},
            "sampling":{{"default_rate":0,"low_volume":{{"traces_per_minute":0}}}},
            "propagation":{{"return_channel":{{"carries":"{carries}","client_header":"x-cost",
                "client_header_when":"request.header[\"x-who\"] = 'us'"}}}},
            "export":{{"cluster":"collector","linger":"1s"}}}}"#
    )
}

fn request(parent: &str, state: &str) -> Vec<(&'static str, String)> {
    vec![
        (":method", "GET".to_owned()),
        (":path", "/".to_owned()),
        (":authority", "orders.svc".to_owned()),
        ("x-who", "us".to_owned()),
        ("traceparent", format!("00-{TRACE}-{parent}-00")),
        ("tracestate", state.to_owned()),
    ]
}

fn line<'h>(headers: &'h Headers, name: &str) -> Option<&'h str> {
    let mut found = headers.iter().filter(|(line, _)| line == name);
    let value = found.next()?;
    assert!(found.next().is_none(), "`{name}` stands twice");
    Some(std::str::from_utf8(&value.1).unwrap())
}

fn ends(stream: fake_host::Stream, status: i64) {
    host(|host| {
        host.integer("response/code", status);
        host.integer("response/flags", 0);
        host.integer("request/size", 0);
        host.text("request/protocol", "HTTP/1.1");
        // Another stream has ended meanwhile, and the host here has one place for headers.
        host.request_headers.get_or_insert_default();
    });
    stream.log();
}

/// The span id that the filter gave to a request.
fn span_id(left: &Headers) -> String {
    line(left, "traceparent").unwrap()[36..52].to_owned()
}

/// Exported span batches so far, as searchable text.
fn exported(root: Root) -> String {
    root.tick(2);
    let calls = http_calls();
    let bodies = calls.iter().map(|call| String::from_utf8_lossy(&call.body));
    bodies.collect()
}

#[test]
fn a_call_hands_its_news_to_the_request_that_caused_it_and_the_header_disappears() {
    let inbound = start(&policy("inbound", "marks"));
    let outbound = Root::configured(2, &policy("outbound", "marks"));
    let serving = inbound.stream(10);
    let left = serving.request(&request("00f067aa0ba902b7", "tm=r:1"));
    let calling = outbound.stream(20);
    let call = calling.request(&request(&span_id(&left), "a=1"));
    assert!(line(&call, "tracestate").unwrap().contains("tm=r:1"));
    let seen = calling.response(&[(":status", "200"), (HEADER, "1-e-c-0")], true);
    assert_eq!(line(&seen, HEADER), None, "the application does not see it");
    ends(calling, 200);
    let answered = serving.response(&[(":status", "200")], true);
    assert_eq!(line(&answered, HEADER), Some("1-e-c-0"));
    ends(serving, 200);
    assert!(exported(inbound).contains("descendant"));
}

#[test]
fn news_reaches_a_request_on_another_worker_through_the_boxes() {
    let inbound = start(&policy("inbound", "costs"));
    let serving = inbound.stream(10);
    let left = serving.request(&request("00f067aa0ba902b7", "tm=r:1"));
    let (metrics, values, shared, versions) = host(|host| {
        (
            host.metric_names.clone(),
            host.metric_values.clone(),
            host.shared.clone(),
            host.versions.clone(),
        )
    });
    let parent = span_id(&left);
    // Another worker: a VM of its own in another thread, the same store and statistics.
    let other = std::thread::spawn(move || {
        let outbound = {
            host(|host| {
                host.metric_names = metrics;
                host.metric_values = values;
                host.shared = shared;
                host.versions = versions;
            });
            start(&policy("outbound", "costs"))
        };
        let calling = outbound.stream(20);
        calling.request(&request(&parent, "a=1"));
        calling.response(&[(":status", "200"), (HEADER, "1-s-c-3e8")], true);
        ends(calling, 200);
        outbound.tick(1);
        host(|host| {
            assert_eq!(host.metric("return_undelivered_total"), 0);
            (host.metric_values.clone(), host.shared.clone())
        })
    });
    let (values, shared) = other.join().unwrap();
    host(|host| {
        host.metric_values = values;
        host.shared = shared;
    });
    let answered = serving.response(&[(":status", "200")], true);
    // 0x3e8 of the call, and 10,000 nano-USD (0x2710) of this hop.
    assert_eq!(line(&answered, HEADER), Some("1-s-c-2af8"));
    ends(serving, 200);
    assert!(exported(inbound).contains("descendant"));
}

#[test]
fn without_another_worker_undeliverable_news_is_counted() {
    let outbound = start(&policy("outbound", "marks"));
    let calling = outbound.stream(20);
    calling.request(&request("00f067aa0ba902b7", "a=1"));
    calling.response(&[(":status", "200"), (HEADER, "1-e-c-0")], true);
    ends(calling, 200);
    outbound.tick(1);
    let undelivered = host(|host| host.metric("return_undelivered_total"));
    assert!(undelivered >= 1);
}

#[test]
fn an_application_that_forges_the_header_has_it_removed() {
    for (state, announced) in [("a=1", false), ("tm=r:1", true)] {
        std::thread::spawn(move || {
            let inbound = start(&policy("inbound", "marks"));
            let serving = inbound.stream(10);
            serving.request(&request("00f067aa0ba902b7", state));
            let lines = [(":status", "200"), (HEADER, "1-e-c-ffff")];
            let answered = serving.response(&lines, true);
            assert_eq!(line(&answered, HEADER), None, "announced: {announced}");
            ends(serving, 200);
            inbound.tick(1);
            assert_eq!(host(|host| host.metric("return_refused_total")), 1);
        })
        .join()
        .unwrap();
    }
}

#[test]
fn a_gateway_tells_the_trusted_client_and_the_access_log_but_passes_nothing_on() {
    let gateway = start(&policy("gateway", "costs"));
    let stream = gateway.stream(10);
    stream.request(&request("00f067aa0ba902b7", "tm=r:1"));
    host(|host| host.now = NOW);
    let lines = [(":status", "200"), (HEADER, "1-x-c-2710")];
    let answered = stream.response(&lines, true);
    assert_eq!(line(&answered, HEADER), None);
    let told = line(&answered, "x-cost").unwrap();
    assert_eq!(told, "cost_usd=0.00002;keep=expensive");
    let state = host(|host| host.filter_state.get("tracemeter.trace_cost_usd").cloned());
    assert_eq!(state.as_deref(), Some(&b"0.00002"[..]));
    ends(stream, 200);
    assert!(exported(gateway).contains("descendant"));
}

#[test]
fn switched_off_it_makes_no_host_call() {
    let inbound = start(&policy("inbound", "off"));
    let serving = inbound.stream(10);
    serving.request(&request("00f067aa0ba902b7", "tm=r:1"));
    for context in 100..140 {
        let other = inbound.stream(context);
        other.request(&request("00f067aa0ba902b7", "tm=r:1"));
        other.response(&[(":status", "200")], true);
        ends(other, 200);
    }
    let serving = inbound.stream(200);
    serving.request(&request("00f067aa0ba902b7", "tm=r:1"));
    calls();
    serving.response(&[(":status", "500")], true);
    assert_eq!(calls(), [""; 0]);
    ends(serving, 500);
}

#[test]
fn a_request_over_budget_is_answered_by_the_proxy() {
    for (content_type, wanted) in [("text/plain", (429, -1)), ("application/grpc", (200, 8))] {
        std::thread::spawn(move || {
            let root = start(
                r#"{"service":{"direction":"inbound"},"cost":{"budget":{"over_budget":"deny"}}}"#,
            );
            let mut lines = request("00f067aa0ba902b7", "a=1");
            lines.push(("content-type", content_type.to_owned()));
            lines.push(("baggage", "cost_budget_usd=0".to_owned()));
            let stream = root.stream(10);
            stream.request(&lines);
            let replies = host(|host| host.local_replies.clone());
            let (status, grpc, message) = &replies[0];
            assert_eq!((*status, *grpc), wanted);
            assert!(message.contains("used up"), "{message}");
            stream.response(&[(":status", "429")], true);
            ends(stream, 429);
            root.tick(1);
            assert_eq!(host(|host| host.metric("budget_denied_total")), 1);
        })
        .join()
        .unwrap();
    }
}
