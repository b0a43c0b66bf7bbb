//! Every refused header is counted once, by the reason for which it was refused.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

mod support;

use support::{Bench, CALLER, HIGH_TRACE, rate, traceparent};

fn keep_none() -> Bench {
    Bench::new(&rate("0"))
}

#[test]
fn refused_headers_are_counted_by_reason() {
    let good = traceparent(HIGH_TRACE, "01");
    let zero = format!("00-{}-{CALLER}-01", "0".repeat(32));
    for (lines, wanted) in [
        (
            vec![("traceparent", zero.as_str())],
            "invalid_traceparent_zero_trace_id",
        ),
        (vec![("traceparent", "")], "invalid_traceparent_empty"),
        (
            vec![("traceparent", &good), ("traceparent", &good)],
            "invalid_traceparent_repeated",
        ),
        (
            vec![("traceparent", &good), ("tracestate", "A=1")],
            "invalid_tracestate_invalid_key",
        ),
        (
            vec![("traceparent", &good), ("tracestate", "a")],
            "invalid_tracestate_missing_equals",
        ),
    ] {
        let mut bench = keep_none();
        let _ = bench.get("/", &lines);
        assert_eq!(bench.count(wanted), 1, "{wanted}");
        let header = wanted.split('_').take(2).collect::<Vec<_>>().join("_");
        assert_eq!(bench.count(&header), 1, "the total of the header: {wanted}");
    }
}
