//! What a client sends leaves the proxy as the policy's `classification` section says, or not.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

mod support;

use filter_core::Direction;
use prost::Message as _;
use support::spans::{int, keys, text};
use support::{Bench, SECOND};

const MAIL: &str = "alice@example.com";
const CARD: &str = "4111-1111-1111-1111";

fn keep_all(further: &str) -> String {
    format!(r#"{{"sampling":{{"default_rate":1}},"export":{{"ledger_interval":"1s"}}{further}}}"#)
}

/// Everything that leaves with a request that carries personal data wherever a client can put it.
fn sent(json: &str) -> Vec<u8> {
    let mut bench = Bench::at(json, Direction::Gateway);
    bench.batches();
    for (method, path, grpc) in [
        ("GET", format!("/users/{MAIL}/cards/{CARD}?q={MAIL}"), false),
        (MAIL, "/x".to_owned(), false),
        ("POST", format!("/{MAIL}/Charge"), true),
    ] {
        let authority = format!("{MAIL}:80");
        let mut lines = vec![
            (":method", method),
            (":path", &path),
            (":authority", &authority),
            (":scheme", "http"),
            ("x-mail", MAIL),
            ("x-tenant", MAIL),
            ("user-agent", MAIL),
            ("baggage", "mail=alice@example.com"),
            (
                "traceparent",
                "00-4bf92f3577b34da6a3f0000000000001-00f067aa0ba902b7-01",
            ),
            ("tracestate", "vendor=alice@example.com"),
        ];
        if grpc {
            lines.push(("content-type", "application/grpc"));
        }
        let left = bench.send(&lines).unwrap();
        bench.answer(left, 200);
    }
    let mut all = Vec::new();
    for _ in 0..2 {
        bench.now += 2 * SECOND;
        for batch in bench.batches() {
            batch.encode(&mut all).unwrap();
        }
    }
    for delta in &bench.deltas {
        all.extend_from_slice(delta);
    }
    assert!(all.len() > 1_000);
    all
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

#[test]
fn nothing_personal_leaves_in_a_span_a_route_or_a_count() {
    let tenant = r#""attributes":{"user_agent":true,"tenant":{"header":"x-tenant"}}"#;
    let key = "0123456789abcdef";
    for redaction in [
        "{}".to_owned(),
        r#"{"mode":"drop"}"#.to_owned(),
        format!(r#"{{"mode":"hash","hash_key":"{key}"}}"#),
    ] {
        let json = keep_all(&format!(
            r#",{tenant},"classification":{{"redaction":{redaction}}}"#
        ));
        let bytes = sent(&json);
        for secret in [MAIL, "example.com", CARD, key] {
            assert!(!holds(&bytes, secret), "`{secret}` left with {redaction}");
        }
    }
}

#[test]
fn switched_off_all_but_the_query_leaves_as_it_came() {
    let bytes = sent(&keep_all(
        r#","classification":{"redaction":{"mode":"off"}}"#,
    ));
    assert!(holds(&bytes, &format!("/users/{MAIL}/cards/{CARD}")));
    assert!(!holds(&bytes, "q="), "a query is never recorded");
}

#[test]
fn masks_stand_where_something_was_found_and_the_rest_stays() {
    let mut bench = Bench::new(&keep_all(r#","attributes":{"collapse_identifiers":false}"#));
    bench.exchange(&format!("/users/{MAIL}/cards"), &[], 200);
    let span = bench.span();
    assert_eq!(text(&span, "url.path"), Some("/users/***/cards"));
    assert_eq!(text(&span, "http.route"), Some("/users/***/cards"));
    assert_eq!(span.name, "GET /users/***/cards");
}

#[test]
fn the_operators_names_count_too() {
    let names =
        r#","classification":{"pii_names":["server.address"],"ignored_names":["url.path"]}"#;
    let mut bench = Bench::new(&keep_all(names));
    bench.exchange(&format!("/users/{MAIL}"), &[], 200);
    let span = bench.span();
    assert_eq!(text(&span, "server.address"), Some("***"));
    assert_eq!(text(&span, "url.path"), Some(&*format!("/users/{MAIL}")));
}

#[test]
fn a_span_names_peer_and_user_agent_only_where_the_policy_asks() {
    let mut bench = Bench::new(&keep_all(""));
    bench.exchange("/a", &[], 200);
    let span = bench.span();
    for key in keys(&span) {
        assert!(!key.starts_with("network.peer") && key != "user_agent.original");
    }
    let asked = r#","attributes":{"network_peer":true,"user_agent":true}"#;
    let mut bench = Bench::new(&keep_all(asked));
    bench.exchange("/a", &[], 200);
    let span = bench.span();
    assert_eq!(text(&span, "network.peer.address"), Some("10.0.0.7"));
    assert_eq!(int(&span, "network.peer.port"), Some(4711));
    assert_eq!(text(&span, "user_agent.original"), Some("curl/8 ***"));
}

#[test]
fn a_hashed_tenant_is_the_same_for_every_worker_and_unreadable() {
    let json = keep_all(
        r#","attributes":{"tenant":{"header":"x-tenant","hash":true}},
            "classification":{"redaction":{"hash_key":"0123456789abcdef"}}"#,
    );
    let tenant = || {
        let mut bench = Bench::new(&json);
        bench.batches();
        bench.exchange("/a", &[("x-tenant", "acme")], 200);
        bench.batches();
        let delta = bench.deltas.concat();
        assert!(!holds(&delta, "acme"));
        let at = delta.windows(6).position(|part| part == b"tenant").unwrap();
        delta[at..at + 44].to_vec()
    };
    assert_eq!(tenant(), tenant());
}
