//! Metering of calls to language models: what is charged, what the span says, and what happens when
//! the usage cannot be read or priced.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod support;

use filter_core::{Direction, StreamEnd};
use support::spans::{double, int, text};
use support::{Bench, status_end};

const POLICY: &str = r#"{"sampling":{"default_rate":1},
    "attributes":{"llm":{"upstreams":[
        {"host":"api.openai.com","provider":"openai"},
        {"host":"*.anthropic.com","provider":"anthropic"}]}},
    "cost":{"settle":"response","llm":[
        {"provider":"openai","model":"gpt-4o*","input_usd_per_million":2.5,
         "output_usd_per_million":10,"cached_usd_per_million":1.25}]}}"#;

fn call(bench: &mut Bench, host: &str) -> support::Left {
    let lines = [
        (":method", "POST"),
        (":path", "/v1/chat/completions"),
        (":authority", host),
        ("content-length", "321"),
    ];
    bench.send(&lines).unwrap()
}

/// One call whose response has this body, in two parts.
fn answered(host: &str, body: &str) -> Bench {
    let mut bench = Bench::at(POLICY, Direction::Outbound);
    let mut left = call(&mut bench, host);
    if left.state.reads_body() {
        let (first, second) = body.as_bytes().split_at(body.len() / 2);
        bench.engine.response_body(&mut left.state, first);
        bench.engine.response_body(&mut left.state, second);
    }
    let end = StreamEnd {
        request_bytes: 321,
        response_bytes: body.len() as u64,
        ..status_end(200)
    };
    bench.end(left, 100, end);
    bench
}

const USAGE: &str = r#"{"model":"gpt-4o-mini","choices":[],"usage":{"prompt_tokens":1000,
    "completion_tokens":200,"prompt_tokens_details":{"cached_tokens":400}}}"#;

#[test]
fn tokens_are_priced_by_provider_and_model_and_charged_at_the_caller() {
    let mut bench = answered("api.openai.com:443", USAGE);
    let span = bench.span();
    // 600 x 2.5 + 400 x 1.25 + 200 x 10 dollars per million.
    assert_eq!(double(&span, "cost_usd"), Some(0.004));
    assert_eq!(text(&span, "cost.source"), Some("token_price"));
    assert_eq!(text(&span, "gen_ai.provider.name"), Some("openai"));
    assert_eq!(text(&span, "gen_ai.response.model"), Some("gpt-4o-mini"));
    assert_eq!(int(&span, "gen_ai.usage.input_tokens"), Some(1000));
    assert_eq!(int(&span, "gen_ai.usage.output_tokens"), Some(200));
    assert_eq!(
        int(&span, "gen_ai.usage.cache_read.input_tokens"),
        Some(400)
    );
    // The specification's own names.
    assert_eq!(text(&span, "provider"), Some("openai"));
    assert_eq!(text(&span, "model"), Some("gpt-4o-mini"));
    assert_eq!(int(&span, "input_tokens"), Some(1000));
    assert_eq!(int(&span, "output_tokens"), Some(200));
    assert_eq!(int(&span, "prompt_length"), Some(321));
    assert_eq!(int(&span, "response_length"), Some(USAGE.len() as i64));
    assert_eq!(bench.count("llm_metered"), 1);
}

#[test]
fn a_model_without_a_price_costs_what_its_operation_costs_and_is_counted() {
    let body = USAGE.replace("gpt-4o-mini", "o9");
    let mut bench = answered("api.openai.com", &body);
    let span = bench.span();
    assert_eq!(text(&span, "cost.source"), Some("mesh_estimate"));
    assert!(double(&span, "cost_usd").unwrap() > 0.0);
    assert_eq!(int(&span, "input_tokens"), Some(1000));
    assert_eq!(bench.count("llm_unpriced"), 1);
}

#[test]
fn a_response_without_usage_is_counted_as_unread() {
    let mut bench = answered("eu.anthropic.com", "\x1f\x08 compressed after all");
    let span = bench.span();
    assert_eq!(text(&span, "provider"), Some("anthropic"));
    assert_eq!(int(&span, "input_tokens"), None);
    assert_eq!(text(&span, "cost.source"), Some("mesh_estimate"));
    assert_eq!(bench.count("llm_unread"), 1);
}

#[test]
fn other_hosts_and_other_directions_are_left_alone() {
    let mut bench = answered("orders.shop.svc", USAGE);
    assert_eq!(int(&bench.span(), "input_tokens"), None);
    let mut inbound = Bench::at(POLICY, Direction::Inbound);
    let left = call(&mut inbound, "api.openai.com");
    assert!(!left.state.reads_body());
    assert!(!inbound.engine.wants_plain_response(&left.state));
    let mut outbound = Bench::at(POLICY, Direction::Outbound);
    let left = call(&mut outbound, "API.OPENAI.COM");
    assert!(left.state.reads_body(), "hosts match in any case");
    assert!(outbound.engine.wants_plain_response(&left.state));
    let companion = POLICY.replace(
        r#"{"sampling""#,
        r#"{"propagation":{"mode":"companion"},"sampling""#,
    );
    let mut companion = Bench::at(&companion, Direction::Outbound);
    assert!(
        !call(&mut companion, "api.openai.com").state.reads_body(),
        "the span is not ours"
    );
}

#[test]
fn the_ledger_has_the_same_cost_as_the_span() {
    let mut bench = answered("api.openai.com", USAGE);
    for _ in 0..2 {
        bench.now += 10 * support::SECOND;
        let _ = bench.batches();
    }
    let delta: Vec<u8> = bench.deltas.concat();
    // as_int (sfixed64) of 4,000,000 nano-USD.
    let nanos = 4_000_000_u64.to_le_bytes();
    assert!(delta.windows(8).any(|bytes| bytes == nanos));
}
