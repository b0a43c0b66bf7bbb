//! What several end-to-end tests share: policies, hand-written proxies, reading of headers.
#![allow(dead_code, reason = "each test binary uses a part")]

use integration_tests::app::Recorded;
use integration_tests::headers::HeaderLines;
use w3c_traceparent_parser::TraceParent;

pub(crate) mod plain;
pub(crate) mod spans;

/// Everything is kept, nothing else decides.
pub(crate) const KEEP_ALL: &str = "\
sampling:
  default_rate: 1.0
  priority_rules: []
  adaptive: { enabled: false }
  low_volume: { traces_per_minute: 0 }
";

/// One in ten traces is kept by its randomness, nothing else decides.
pub(crate) const KEEP_A_TENTH: &str = "\
sampling:
  default_rate: 0.1
  priority_rules: []
  adaptive: { enabled: false }
  low_volume: { traces_per_minute: 0 }
";

/// The context of a caller outside.
pub(crate) const CALLER_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The span id of a caller outside.
pub(crate) const CALLER_SPAN: &str = "00f067aa0ba902b7";

/// A valid, sampled traceparent.
pub(crate) fn caller_context() -> String {
    format!("00-{CALLER_TRACE}-{CALLER_SPAN}-01")
}

/// The traceparent of a request, which has to be exactly one valid line of version 00.
pub(crate) fn traceparent(headers: &HeaderLines) -> TraceParent {
    let lines: Vec<&[u8]> = headers.lines("traceparent").collect();
    assert_eq!(lines.len(), 1, "not one traceparent: {headers:?}");
    assert_eq!(lines[0].len(), 55, "{headers:?}");
    assert!(lines[0].starts_with(b"00-"), "{headers:?}");
    TraceParent::parse(lines[0]).unwrap_or_else(|error| panic!("{error}: {headers:?}"))
}

/// The only request an application recorded since the last look.
pub(crate) fn only(mut recorded: Vec<Recorded>) -> Recorded {
    assert_eq!(recorded.len(), 1, "{recorded:?}");
    recorded.remove(0)
}

/// The accumulated cost a header list carries, in USD.
pub(crate) fn cost_member(members: &[String]) -> f64 {
    let value = members
        .iter()
        .find_map(|member| member.strip_prefix("cost_usd="));
    value
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("no cost in {members:?}"))
}
