//! Budgets of traces: who gives one, what travels on, and what happens when nothing is left.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod support;

use filter_core::Direction;
use support::spans::{double, flag, text};
use support::{Bench, LOW_TRACE, traceparent};

/// Each hop costs 0.00001.
fn policy(over_budget: &str, usd: &str) -> String {
    format!(
        r#"{{"sampling":{{"default_rate":0,"low_volume":{{"traces_per_minute":0}},
                "error_classes":{{"rate":0}}}},
            "cost":{{"budget":{{"over_budget":"{over_budget}",
                "grants":[{{"when":"url.path starts_with '/agent'","usd":{usd}}}]}}}}}}"#
    )
}

fn left(left: &support::Left) -> Option<String> {
    let members = left.baggage().split(',');
    let mut found = members.filter_map(|member| member.strip_prefix("cost_budget_usd="));
    let value = found.next().map(str::to_owned);
    assert!(found.next().is_none());
    value
}

#[test]
fn a_gateway_gives_the_budget_and_each_hop_takes_its_cost_off() {
    let json = policy("record", "0.00003");
    let mut gateway = Bench::at(&json, Direction::Gateway);
    let sent = gateway.get("/agent/run", &[]);
    assert_eq!(left(&sent).as_deref(), Some("0.00002"));
    assert_eq!(left(&gateway.get("/other", &[])), None, "no grant");

    let mut service = Bench::at(&json, Direction::Inbound);
    let incoming = traceparent(LOW_TRACE, "00");
    let headers = [
        ("traceparent", incoming.as_str()),
        ("baggage", sent.baggage()),
    ];
    let received = service.get("/step", &headers);
    assert_eq!(left(&received).as_deref(), Some("0.00001"));
    assert_eq!(
        left(&service.get("/agent/run", &[])),
        None,
        "only a gateway gives one"
    );
}

#[test]
fn a_budget_from_outside_is_dropped() {
    let mut gateway = Bench::at(&policy("record", "1"), Direction::Gateway);
    let sent = gateway.get("/other", &[("baggage", "cost_budget_usd=1000,user=1")]);
    assert_eq!(left(&sent), None);
    assert!(sent.baggage().contains("user=1"));
    assert_eq!(gateway.count("untrusted_members_dropped"), 1);
}

fn arrives(over_budget: &str, budget: &str) -> (Bench, support::Left) {
    let mut service = Bench::new(&policy(over_budget, "1"));
    let incoming = traceparent(LOW_TRACE, "00");
    let baggage = format!("cost_budget_usd={budget}");
    let headers = [
        ("traceparent", incoming.as_str()),
        ("baggage", baggage.as_str()),
    ];
    let received = service.get("/step", &headers);
    (service, received)
}

#[test]
fn over_budget_is_counted_kept_or_denied_as_the_policy_says() {
    for (over_budget, kept, denied) in [
        ("record", false, false),
        ("keep", true, false),
        ("deny", true, true),
    ] {
        for budget in ["0", "0.000009"] {
            let (mut service, received) = arrives(over_budget, budget);
            assert_eq!(left(&received).as_deref(), Some("0"));
            assert_eq!(service.engine.denial(&received.state).is_some(), denied);
            service.answer(received, if denied { 429 } else { 200 });
            assert_eq!(service.count("budget_exceeded"), 1);
            assert_eq!(service.count("budget_denied"), u64::from(denied));
            let spans = service.spans();
            assert_eq!(spans.len(), usize::from(kept), "{over_budget}");
            if let Some(span) = spans.first() {
                assert_eq!(text(span, "sampling.reason"), Some("over_budget"));
                assert_eq!(flag(span, "cost_budget.exceeded"), Some(true));
                assert_eq!(text(span, "sampling.threshold"), None);
                let cost = double(span, "cost_usd").unwrap();
                assert_eq!(cost > 0.0, !denied, "a denied request does no work");
            }
        }
    }
}

#[test]
fn within_the_budget_nothing_is_different() {
    let (mut service, received) = arrives("deny", "0.00001");
    assert_eq!(left(&received).as_deref(), Some("0"), "all of it");
    assert!(service.engine.denial(&received.state).is_none());
    assert_eq!(service.count("budget_exceeded"), 0);
}

#[test]
fn a_denial_says_what_is_left_and_for_grpc_so_too() {
    let (service, received) = arrives("deny", "0.000009");
    let denial = service.engine.denial(&received.state).unwrap();
    assert!(!denial.grpc);
    let wanted = format!("the budget of trace `{LOW_TRACE}` is used up: `0.000009` USD are left");
    assert_eq!(denial.message, wanted);
}

#[test]
fn a_budget_that_is_no_number_is_none_and_counted() {
    let (mut service, received) = arrives("deny", "much");
    assert_eq!(left(&received), None);
    assert_eq!(service.count("invalid_cost"), 1);
    assert!(service.engine.denial(&received.state).is_none());
}
