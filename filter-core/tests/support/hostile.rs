//! What must hold for any header set, checked by the random test and by the fuzz target alike.

use std::collections::BTreeSet;

use filter_core::Direction;
use filter_core::headers::HeaderBlock;
use w3c_traceparent_parser::TraceParent;
use w3c_traceparent_parser::baggage::Baggage;
use w3c_traceparent_parser::otel::OtState;
use w3c_traceparent_parser::tracestate::TraceState;

use super::{Bench, StreamEnd};

/// Policies that take different paths through the engine.
const POLICIES: [(&str, Direction); 6] = [
    ("{}", Direction::Inbound),
    (r#"{"sampling":{"default_rate":0.5}}"#, Direction::Gateway),
    (
        r#"{"trust":{"trace_id":"restart","sampled_flag":"accept"},"sampling":{"default_rate":0},
            "propagation":{"tracestate":"compact","random_flag":false}}"#,
        Direction::Gateway,
    ),
    (
        r#"{"propagation":{"tracestate":"off","baggage":[]}}"#,
        Direction::Outbound,
    ),
    (
        r#"{"propagation":{"tracestate_max_bytes":128,"baggage_max_bytes":256},"debug":{"explain":true},
            "sampling":{"priority_rules":[{"name":"r","sample_rate":0.5,
            "condition":"baggage[\"a\"] = \"x*\" or request.header[\"b\"] exists or duration_ms > 3"}]}}"#,
        Direction::Outbound,
    ),
    (
        r#"{"propagation":{"mode":"companion"}}"#,
        Direction::Inbound,
    ),
];

/// Sends one header set through an engine of policy number `policy` and checks what leaves.
pub(crate) fn check(policy: usize, block: &[u8]) {
    let (json, direction) = POLICIES[policy % POLICIES.len()];
    let mut bench = Bench::at(json, direction);
    let lines: Vec<(&[u8], &[u8])> = HeaderBlock::new(block).lines().collect();
    let Some(left) = bench.send(&lines) else {
        return;
    };
    let limit = |name: &str| match (json.contains("tracestate_max_bytes"), name) {
        (true, "tracestate") => 128,
        (true, _) => 256,
        (false, "tracestate") => 512,
        (false, _) => 8192,
    };
    let parent = left.traceparent.as_ref().map(|text| {
        assert_eq!((text.len(), &text[..3]), (55, "00-"), "{text}");
        TraceParent::parse(text.as_bytes()).expect("what leaves is valid")
    });
    assert_eq!(parent.is_none(), json.contains("companion"));
    if let (Some(list), Some(parent)) = (&left.tracestate, parent) {
        assert!(
            !list.is_empty() && list.len() <= limit("tracestate"),
            "{}",
            left.state()
        );
        let state = TraceState::parse(list).expect("what leaves is valid");
        let keys: Vec<&[u8]> = state.iter().map(|member| member.key).collect();
        for own in [&b"cost_usd"[..], b"data_tag", b"tm", b"ot"] {
            assert!(keys.iter().filter(|key| **key == own).count() <= 1);
        }
        let ot = state.get(b"ot").map(OtState::parse).unwrap_or_default();
        if let Some(threshold) = ot.threshold() {
            let keeps = threshold.keeps(ot.randomness_or(parent.trace_id));
            assert!(
                keeps && parent.flags.is_sampled(),
                "{parent:?} {}",
                left.state()
            );
        }
    }
    if let Some(list) = &left.baggage
        && !json.contains("companion")
    {
        assert!(!list.is_empty() && list.len() <= limit("baggage"));
        let baggage = Baggage::parse(list);
        assert_eq!((baggage.malformed(), baggage.len() <= 64), (0, true));
        let own: Vec<_> = baggage.iter().map(|member| member.key).collect();
        let unique: BTreeSet<_> = own.iter().filter(|key| **key == b"data_tag").collect();
        assert!(unique.len() <= 1);
    }
    if let Some((_, line)) = left.state.explanation() {
        assert!(
            line.bytes().all(|byte| (0x20..0x7f).contains(&byte)),
            "{line}"
        );
    }
    let end = StreamEnd {
        http_status: Some(500),
        ..StreamEnd::default()
    };
    bench.end(left, 5, end);
    // Decoding fails loudly if a span is not valid protobuf with UTF-8 strings.
    assert!(bench.spans().len() <= 1);
}
