//! Every propagation rule that concerns the filter, as tables: W3C Trace Context Level 2, W3C
//! Baggage, and the OpenTelemetry `ot` member.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

mod support;

use filter_core::{Direction, Edit};
use support::{Bench, CALLER, HIGH_TRACE, LOW_TRACE, rate, traceparent};

fn keep_all() -> Bench {
    Bench::new(&rate("1"))
}

fn keep_none() -> Bench {
    Bench::new(&rate("0"))
}

/// What becomes of a traceparent: the flags that leave, or a restart.
#[test]
fn a_valid_traceparent_is_continued_and_an_invalid_one_restarts_the_trace() {
    let id = HIGH_TRACE;
    let table: &[(String, Option<&str>)] = &[
        (format!("00-{id}-{CALLER}-00"), Some("00")),
        (format!("00-{id}-{CALLER}-01"), Some("01")),
        // the random flag is carried, unknown flags are not
        (format!("00-{id}-{CALLER}-02"), Some("02")),
        (format!("00-{id}-{CALLER}-03"), Some("03")),
        (format!("00-{id}-{CALLER}-ff"), Some("03")),
        (format!("00-{id}-{CALLER}-fc"), Some("00")),
        (format!(" \t00-{id}-{CALLER}-01\t "), Some("01")),
        // higher versions are read like 00 and written as 00
        (format!("cc-{id}-{CALLER}-01"), Some("01")),
        (
            format!("cc-{id}-{CALLER}-01-what-the-future-holds"),
            Some("01"),
        ),
        (format!("fe-{id}-{CALLER}-03-"), Some("03")),
        (format!("01-{id}-{CALLER}-09"), Some("01")),
        (format!("ff-{id}-{CALLER}-01"), None),
        (format!("cc-{id}-{CALLER}-01."), None),
        (format!("cc-{id}-{CALLER}-011"), None),
        (format!("0-{id}-{CALLER}-01"), None),
        (format!("AA-{id}-{CALLER}-01"), None),
        (format!("00-{id}-{CALLER}-01-"), None),
        (format!("00-{id}-{CALLER}-1"), None),
        (format!("00-{id}-{CALLER}"), None),
        (format!("00-{}-{CALLER}-01", id.to_uppercase()), None),
        (format!("00-{id}-{}-01", CALLER.to_uppercase()), None),
        (format!("00-{id}-{CALLER}-0A"), None),
        (format!("00-{}-{CALLER}-01", "0".repeat(32)), None),
        (format!("00-{id}-{}-01", "0".repeat(16)), None),
        (format!("00-{}-{CALLER}-01", &id[1..]), None),
        (format!("00-{id}-{CALLER}-01,00-{id}-{CALLER}-01"), None),
        (String::new(), None),
        ("garbage".to_owned(), None),
    ];
    for (incoming, wanted) in table {
        let mut bench = keep_none();
        let left = bench.get("/", &[("traceparent", incoming)]);
        let parent = left.parent();
        assert_ne!(parent.parent_id.to_string(), CALLER, "`{incoming}`");
        match wanted {
            Some(flags) => {
                assert_eq!(parent.trace_id.to_string(), *id, "`{incoming}`");
                assert_eq!(left.flags(), *flags, "`{incoming}`");
                assert_eq!(bench.count("traces_continued"), 1);
            }
            None => {
                assert_ne!(parent.trace_id.to_string(), *id, "`{incoming}`");
                assert_eq!(left.flags(), "02", "a new trace is random: `{incoming}`");
                assert_eq!(bench.count("traces_restarted"), 1, "`{incoming}`");
                assert_eq!(bench.count("invalid_traceparent"), 1);
            }
        }
    }
}

#[test]
fn two_traceparent_lines_even_equal_ones_restart_the_trace() {
    for second in [traceparent(HIGH_TRACE, "01"), "x".to_owned()] {
        let mut bench = keep_none();
        let first = traceparent(HIGH_TRACE, "01");
        let left = bench.get("/", &[("traceparent", &first), ("traceparent", &second)]);
        assert_ne!(left.parent().trace_id.to_string(), HIGH_TRACE);
        assert_eq!(bench.count("invalid_traceparent"), 1);
    }
}

#[test]
fn without_a_traceparent_a_trace_starts_even_unsampled() {
    let mut bench = keep_none();
    let (first, second) = (bench.get("/", &[]), bench.get("/", &[]));
    assert_eq!((first.flags(), second.flags()), ("02", "02"));
    assert_ne!(first.parent().trace_id, second.parent().trace_id);
    assert_ne!(first.parent().parent_id, second.parent().parent_id);
    assert_eq!(bench.count("traces_started"), 2);
}

#[test]
fn each_request_of_one_trace_gets_its_own_parent_id() {
    let mut bench = keep_all();
    let incoming = traceparent(HIGH_TRACE, "01");
    let ids: std::collections::BTreeSet<_> = (0..100)
        .map(|_| bench.get("/", &[("traceparent", &incoming)]).parent())
        .map(|parent| parent.parent_id)
        .collect();
    assert_eq!(ids.len(), 100);
}

#[test]
fn the_random_flag_of_new_traces_is_an_option_and_of_continued_ones_is_not() {
    let off = r#"{"sampling":{"default_rate":0,"low_volume":{"traces_per_minute":0}},
        "propagation":{"random_flag":false}}"#;
    let mut bench = Bench::new(off);
    assert_eq!(bench.get("/", &[]).flags(), "00");
    let carried = traceparent(HIGH_TRACE, "02");
    assert_eq!(bench.get("/", &[("traceparent", &carried)]).flags(), "02");
    let restarted = bench.get("/", &[("traceparent", "invalid")]);
    assert_eq!(restarted.flags(), "00");
}

#[test]
fn new_trace_ids_use_all_their_low_56_bits() {
    let mut bench = keep_none();
    let mut ones = [0; 56];
    for _ in 0..2_000 {
        let bytes = bench.get("/", &[]).parent().trace_id.to_bytes();
        let low = u64::from_be_bytes(bytes[8..].try_into().unwrap());
        for (bit, ones) in ones.iter_mut().enumerate() {
            *ones += low >> bit & 1;
        }
    }
    // Six standard deviations of a fair bit.
    assert!(
        ones.iter().all(|ones| ones.abs_diff(1_000) < 135),
        "{ones:?}"
    );
}

#[test]
fn own_tracestate_members_come_first_and_foreign_ones_keep_order_and_bytes() {
    let table = [
        // (lines in, list out)
        (
            vec!["a=1,b=2"],
            "cost_usd=0.00001,data_tag=EXPORT_OK,a=1,b=2",
        ),
        (
            vec!["b=2", "a=1"],
            "cost_usd=0.00001,data_tag=EXPORT_OK,b=2,a=1",
        ),
        (
            vec![" a=1 , ,b=2\t"],
            "cost_usd=0.00001,data_tag=EXPORT_OK,a=1,b=2",
        ),
        (
            vec!["a=  x y"],
            "cost_usd=0.00001,data_tag=EXPORT_OK,a=  x y",
        ),
        (vec!["0t@v=1,*a=2"], "cost_usd=0.00001,data_tag=EXPORT_OK"),
        (vec!["0t@v=1"], "cost_usd=0.00001,data_tag=EXPORT_OK,0t@v=1"),
        (vec![""], "cost_usd=0.00001,data_tag=EXPORT_OK"),
        (
            vec!["a=1,cost_usd=0.5,b=2,data_tag=PII"],
            "cost_usd=0.50001,data_tag=PII,a=1,b=2",
        ),
        // a foreign duplicate is kept or dropped, never invented; one bad member drops the list
        (vec!["a=1,=2"], "cost_usd=0.00001,data_tag=EXPORT_OK"),
        (vec!["a=1", "b"], "cost_usd=0.00001,data_tag=EXPORT_OK"),
    ];
    for (lines, wanted) in table {
        let mut bench = keep_none();
        let incoming = traceparent(LOW_TRACE, "00");
        let mut headers = vec![("traceparent", incoming.as_str())];
        headers.extend(lines.iter().map(|line| ("tracestate", *line)));
        let left = bench.get("/", &headers);
        assert_eq!(left.state(), wanted, "{lines:?}");
        assert_eq!(left.parent().trace_id.to_string(), LOW_TRACE);
    }
}

#[test]
fn a_bad_tracestate_is_counted_and_never_touches_the_trace() {
    let mut bench = keep_none();
    let incoming = traceparent(LOW_TRACE, "02");
    let many: Vec<String> = (0..33).map(|n| format!("k{n}=v")).collect();
    for bad in ["A=1", "a=b=c", "a =1", "a=\u{7f}", &many.join(",")] {
        let left = bench.get("/", &[("traceparent", &incoming), ("tracestate", bad)]);
        assert_eq!(left.parent().trace_id.to_string(), LOW_TRACE, "`{bad}`");
        assert_eq!(left.state(), "cost_usd=0.00001,data_tag=EXPORT_OK");
    }
    assert_eq!(bench.count("invalid_tracestate"), 5);
}

#[test]
fn the_tracestate_of_a_restarted_or_new_trace_is_gone() {
    let mut bench = keep_none();
    let restarted = bench.get(
        "/",
        &[("traceparent", "x"), ("tracestate", "a=1,cost_usd=7")],
    );
    assert_eq!(restarted.state(), "cost_usd=0.00001,data_tag=EXPORT_OK");
    let started = bench.get("/", &[("tracestate", "a=1,cost_usd=7")]);
    assert_eq!(started.state(), "cost_usd=0.00001,data_tag=EXPORT_OK");
    assert_eq!(bench.count("invalid_tracestate"), 0, "it was not parsed");
    let off = r#"{"propagation":{"tracestate":"off"},"sampling":{"default_rate":0,
        "low_volume":{"traces_per_minute":0}}}"#;
    let removed = Bench::new(off).get("/", &[("tracestate", "a=1")]);
    assert_eq!(removed.tracestate, None, "no empty header is sent");
}

#[test]
fn a_full_list_loses_its_rightmost_members_to_ours() {
    let list: Vec<String> = (0..32).map(|n| format!("k{n}=v")).collect();
    for (form, own) in [("members", 2), ("compact", 1), ("off", 0)] {
        let json = format!(
            r#"{{"propagation":{{"tracestate":"{form}"}},"sampling":{{"default_rate":0,
                "low_volume":{{"traces_per_minute":0}}}}}}"#
        );
        let mut bench = Bench::new(&json);
        let incoming = traceparent(LOW_TRACE, "00");
        let left = bench.get(
            "/",
            &[("traceparent", &incoming), ("tracestate", &list.join(","))],
        );
        let members: Vec<&str> = left.state().split(',').collect();
        assert_eq!(members.len(), 32, "{form}");
        assert_eq!(members[own..], list[..32 - own], "{form}");
        assert_eq!(bench.count("tracestate_members_truncated"), own as u64);
    }
}

#[test]
fn a_long_list_loses_large_members_first_and_own_ones_never() {
    let large = format!("large={}", "x".repeat(200));
    let small = ["b", "c", "d"].map(|key| format!("{key}={}", key.repeat(120)));
    let list = format!("a=1,{large},{}", small.join(","));
    let mut bench = keep_none();
    let incoming = traceparent(LOW_TRACE, "00");
    let left = bench.get("/", &[("traceparent", &incoming), ("tracestate", &list)]);
    assert!(left.state().len() <= 512);
    assert!(
        left.state()
            .starts_with("cost_usd=0.00001,data_tag=EXPORT_OK,a=1,b=bb")
    );
    assert!(!left.state().contains("large"));
    assert!(left.state().ends_with(&small.join(",")));
    assert_eq!(bench.count("tracestate_members_truncated"), 1);
}

#[test]
fn every_form_is_read_and_the_configured_one_is_written() {
    let forms = [
        ("members", "cost_usd=0.50001,data_tag=PII,a=1"),
        ("compact", "tm=c:0.50001;d:PII,a=1"),
        ("off", "a=1"),
    ];
    let incoming = traceparent(LOW_TRACE, "00");
    for (form, wanted) in forms {
        let json = format!(
            r#"{{"propagation":{{"tracestate":"{form}"}},"sampling":{{"default_rate":0}}}}"#
        );
        for list in ["cost_usd=0.5,data_tag=PII,a=1", "a=1,tm=c:0.5;d:PII"] {
            let mut bench = Bench::new(&json);
            let left = bench.get("/", &[("traceparent", &incoming), ("tracestate", list)]);
            assert_eq!(left.state(), wanted, "{form} from {list}");
            assert_eq!(left.baggage(), "cost_usd=0.50001,data_tag=PII");
        }
        let mut bench = Bench::new(&json);
        let own = "cost_usd=0.5,data_tag=PII";
        let headers = [
            ("traceparent", incoming.as_str()),
            ("baggage", own),
            ("tracestate", "a=1"),
        ];
        assert_eq!(
            bench.get("/", &headers).state(),
            wanted,
            "{form} from baggage"
        );
    }
}

#[test]
fn two_hops_do_not_pile_up_own_members() {
    let mut first = keep_none();
    let left = first.get("/", &[("baggage", "user=1"), ("tracestate", "a=1")]);
    let mut second = keep_none();
    let (parent, state, baggage) = (
        left.traceparent.clone().unwrap(),
        left.state(),
        left.baggage(),
    );
    let headers = [
        ("traceparent", parent.as_str()),
        ("tracestate", state),
        ("baggage", baggage),
    ];
    let left = second.get("/", &headers);
    assert_eq!(left.state(), "cost_usd=0.00002,data_tag=EXPORT_OK");
    assert_eq!(left.baggage(), "user=1,cost_usd=0.00002,data_tag=EXPORT_OK");
}

/// (ot in, parent's flag, local rate, ot out, flag out) for R = 0xf0...
#[test]
fn the_ot_member_follows_the_sampling_rules() {
    let rv = "rv:f0000000000000";
    let low_rv = "rv:10000000000000";
    let table: &[(&str, &str, &str, Option<&str>, &str)] = &[
        // kept: consistent with the flag, byte for byte where it stood
        ("th:8", "01", "0", Some("th:8"), "01"),
        ("th:8;x:1", "01", "0", Some("th:8;x:1"), "01"),
        ("x:1;th:8", "01", "0", Some("x:1;th:8"), "01"),
        // the larger probability of both
        ("th:e666", "01", "0.5", Some("th:8"), "01"),
        ("th:8", "01", "0.1", Some("th:8"), "01"),
        ("th:8", "01", "1", Some("th:0"), "01"),
        // erased: sampled although R < T
        ("th:f8", "01", "0", None, "01"),
        ("th:f8;x:1", "01", "1", Some("x:1"), "01"),
        // a parent that was kept at an unknown rate: none goes out
        ("", "01", "0.5", None, "01"),
        ("x:1", "01", "0.5", Some("x:1"), "01"),
        // dropped: removed
        ("th:8", "00", "0", None, "00"),
        ("th:8;x:1", "00", "0", Some("x:1"), "00"),
        // kept here although the parent dropped it: the local threshold
        ("", "00", "0.5", Some("th:8"), "01"),
        ("th:f8", "00", "0.1", Some("th:e666"), "01"),
        // an explicit randomness decides and stays as it is
        (low_rv, "00", "0.5", Some(low_rv), "00"),
        (rv, "00", "0.5", Some("th:8;rv:f0000000000000"), "01"),
        ("th:8;rv:10000000000000", "01", "0", Some(low_rv), "01"),
        (
            "rv:f0000000000000;th:8",
            "01",
            "0",
            Some("rv:f0000000000000;th:8"),
            "01",
        ),
        // malformed parts count as absent and are not sent on
        ("th:xyz", "01", "0.5", None, "01"),
        ("th:", "01", "0.5", None, "01"),
        ("th:8;rv:123", "01", "0", Some("th:8"), "01"),
        ("th:123456789abcdef;x:1", "01", "0", Some("x:1"), "01"),
        // the archived form is somebody else's
        ("p:8;r:62", "01", "0", Some("p:8;r:62"), "01"),
    ];
    for (ot, flags, local, wanted, flag) in table {
        let mut bench = Bench::new(&rate(local));
        let list = format!("a=1,ot={ot},b=2");
        let list = if ot.is_empty() { "a=1,b=2" } else { &list };
        let incoming = traceparent(HIGH_TRACE, flags);
        let left = bench.get("/", &[("traceparent", &incoming), ("tracestate", list)]);
        let row = format!("ot `{ot}` flags {flags} local {local}: {}", left.state());
        assert_eq!(left.member("ot"), *wanted, "{row}");
        assert_eq!(left.flags(), *flag, "{row}");
        let foreign: Vec<&str> = left.state().split(',').filter(|m| m.len() == 3).collect();
        assert_eq!(foreign, ["a=1", "b=2"], "{row}");
    }
}

#[test]
fn an_untouched_ot_member_keeps_its_place_and_a_changed_one_moves_to_the_left() {
    let incoming = traceparent(HIGH_TRACE, "01");
    let list = "a=1,ot=th:e666";
    let headers = [("traceparent", incoming.as_str()), ("tracestate", list)];
    let untouched = Bench::new(&rate("0")).get("/", &headers);
    assert_eq!(
        untouched.state(),
        "cost_usd=0.00001,data_tag=EXPORT_OK,a=1,ot=th:e666"
    );
    let lowered = Bench::new(&rate("0.5")).get("/", &headers);
    assert_eq!(
        lowered.state(),
        "cost_usd=0.00001,data_tag=EXPORT_OK,ot=th:8,a=1"
    );
}

#[test]
fn malformed_ot_values_are_counted() {
    let mut bench = keep_none();
    let incoming = traceparent(HIGH_TRACE, "01");
    for ot in ["ot=th:G", "ot=rv:1", "ot=th:0;rv:"] {
        let _ = bench.get("/", &[("traceparent", &incoming), ("tracestate", ot)]);
    }
    let _ = bench.get(
        "/",
        &[("traceparent", &incoming), ("tracestate", "ot=th:0")],
    );
    assert_eq!(bench.count("invalid_ot"), 3);
}

#[test]
fn a_new_trace_never_gets_an_explicit_randomness() {
    let mut bench = Bench::new(&rate("0.5"));
    for _ in 0..100 {
        let left = bench.get("/", &[]);
        assert!(!left.state().contains("rv:"));
        assert_eq!(
            left.th().is_some(),
            left.flags() == "03",
            "{}",
            left.state()
        );
    }
}

#[test]
fn cost_accumulates_hop_by_hop_and_a_malformed_one_counts_as_absent() {
    let table = [
        ("cost_usd=0", "0.00001", 0),
        ("cost_usd=1.5", "1.50001", 0),
        ("cost_usd=0.000000001", "0.000010001", 0),
        ("cost_usd=-1", "0.00001", 1),
        ("cost_usd=1e3", "0.00001", 1),
        ("cost_usd=NaN", "0.00001", 1),
        ("cost_usd=$5", "0.00001", 1),
        ("cost_usd=99999999999999999999999", "0.00001", 1),
        ("tm=c:;d:PII", "0.00001", 1),
        // the compact form is a fallback of the plain one
        ("cost_usd=x,tm=c:0.5", "0.50001", 1),
    ];
    let incoming = traceparent(LOW_TRACE, "00");
    for (list, wanted, invalid) in table {
        let mut bench = keep_none();
        let left = bench.get("/", &[("traceparent", &incoming), ("tracestate", list)]);
        assert_eq!(left.member("cost_usd"), Some(wanted), "{list}");
        assert_eq!(bench.count("invalid_cost"), invalid, "{list}");
    }
}

#[test]
fn an_accumulated_cost_saturates_instead_of_wrapping() {
    let mut bench = keep_none();
    let incoming = traceparent(LOW_TRACE, "00");
    let most = mesh_config::money::NanoUsd::MAX.to_string();
    let list = format!("cost_usd={most}");
    let left = bench.get("/", &[("traceparent", &incoming), ("tracestate", &list)]);
    assert_eq!(left.member("cost_usd"), Some(most.as_str()));
}

#[test]
fn a_data_tag_only_escalates_from_whichever_header_says_more() {
    let table = [
        // (tracestate, baggage, out)
        ("", "", "EXPORT_OK"),
        ("data_tag=PII", "", "PII"),
        ("", "data_tag=PII", "PII"),
        ("data_tag=EXPORT_OK", "data_tag=SENSITIVE", "SENSITIVE"),
        ("data_tag=PII", "data_tag=EXPORT_OK", "PII"),
        ("tm=d:SENSITIVE", "", "SENSITIVE"),
        ("data_tag=EXPORT_OK,tm=d:PII", "", "PII"),
        // outside the three names: the strictest
        ("data_tag=secret", "", "PII"),
        ("", "data_tag=pii", "PII"),
    ];
    let incoming = traceparent(LOW_TRACE, "00");
    for (state, baggage, wanted) in table {
        let headers = [
            ("traceparent", incoming.as_str()),
            ("tracestate", state),
            ("baggage", baggage),
        ];
        let left = keep_none().get("/", &headers);
        assert_eq!(left.member("data_tag"), Some(wanted), "{state} {baggage}");
        assert!(left.baggage().ends_with(&format!("data_tag={wanted}")));
    }
}

#[test]
fn the_class_of_an_unknown_tag_is_the_policys() {
    let json = r#"{"classification":{"unknown_tag":"SENSITIVE"}}"#;
    let left = Bench::new(json).get("/", &[("baggage", "data_tag=secret")]);
    assert!(
        left.baggage().ends_with("data_tag=SENSITIVE"),
        "{}",
        left.baggage()
    );
}

#[test]
fn baggage_keeps_foreign_bytes_and_replaces_own_duplicates() {
    let own = "cost_usd=0.00001,data_tag=EXPORT_OK";
    let table = [
        (vec!["user=alice"], format!("user=alice,{own}")),
        (vec!["a=%20;p=1;q , b=2"], format!("a=%20;p=1;q,b=2,{own}")),
        (vec!["a=1", "b=2,a=3"], format!("a=1,b=2,a=3,{own}")),
        (
            vec!["data_tag=EXPORT_OK,a=1,data_tag=EXPORT_OK"],
            format!("a=1,{own}"),
        ),
        (vec!["bad value,a=1"], format!("a=1,{own}")),
        (vec!["\u{e9}=1"], own.to_owned()),
        (vec![], own.to_owned()),
    ];
    for (lines, wanted) in table {
        let headers: Vec<(&str, &str)> = lines.iter().map(|line| ("baggage", *line)).collect();
        assert_eq!(
            keep_none().get("/", &headers).baggage(),
            wanted,
            "{lines:?}"
        );
    }
}

#[test]
fn baggage_passes_on_when_the_trace_restarts() {
    let headers = [("traceparent", "invalid"), ("baggage", "user=alice")];
    let left = keep_none().get("/", &headers);
    assert!(left.baggage().starts_with("user=alice,"));
}

#[test]
fn baggage_stays_within_its_limits_by_whole_members() {
    let members: Vec<String> = (0..80).map(|n| format!("k{n}=v")).collect();
    let mut bench = keep_none();
    let left = bench.get("/", &[("baggage", &members.join(","))]);
    let out: Vec<&str> = left.baggage().split(',').collect();
    assert_eq!(out.len(), 64);
    assert_eq!(out[..62], members[..62]);
    assert_eq!(bench.count("baggage_members_truncated"), 18);

    let members: Vec<String> = (0..20)
        .map(|n| format!("k{n}={}", "x".repeat(1_000)))
        .collect();
    let left = bench.get("/", &[("baggage", &members.join(","))]);
    assert!(left.baggage().len() <= 8192);
    let out: Vec<&str> = left.baggage().split(',').collect();
    assert_eq!(
        out[..out.len() - 2],
        members[..out.len() - 2],
        "whole, and from the left"
    );
}

#[test]
fn malformed_baggage_members_are_counted() {
    let mut bench = keep_none();
    let _ = bench.get("/", &[("baggage", "a=1,b c=2,=3,d"), ("baggage", "\"")]);
    assert_eq!(bench.count("invalid_baggage"), 4);
}

#[test]
fn the_baggage_list_of_the_policy_says_what_it_carries() {
    for (list, wanted) in [
        (r#"["cost_usd"]"#, Some("cost_usd=0.00001")),
        (r#"["data_tag"]"#, Some("data_tag=EXPORT_OK")),
        ("[]", None),
    ] {
        let json = format!(r#"{{"propagation":{{"baggage":{list}}}}}"#);
        let left = Bench::new(&json).get("/", &[("baggage", "cost_usd=9,data_tag=EXPORT_OK")]);
        assert_eq!(left.baggage.as_deref(), wanted.map(str::as_bytes), "{list}");
    }
}

#[test]
fn what_leaves_as_it_came_is_not_written_again() {
    // A call of the service: the other side charges it, so nothing is added here.
    let mut bench = Bench::at(&rate("0"), Direction::Outbound);
    let context = traceparent(HIGH_TRACE, "00");
    let first = bench.get(
        "/",
        &[
            ("traceparent", &context),
            ("tracestate", "vendor=1"),
            ("baggage", "user=al"),
        ],
    );
    let edits = bench.engine.edits(&first.state);
    assert!(matches!(edits.tracestate, Edit::Set(_)));
    assert!(matches!(edits.baggage, Edit::Set(_)));
    let text = |value: &Option<Vec<u8>>| String::from_utf8(value.clone().unwrap()).unwrap();
    let (state, baggage) = (text(&first.tracestate), text(&first.baggage));
    let lines = [
        ("traceparent", context.as_str()),
        ("tracestate", state.as_str()),
        ("baggage", baggage.as_str()),
    ];
    let second = bench.get("/", &lines);
    let edits = bench.engine.edits(&second.state);
    assert_eq!((edits.tracestate, edits.baggage), (Edit::Keep, Edit::Keep));
    // Two lines have to become one.
    let third = bench.get("/", &[lines[0], ("baggage", "a=1"), lines[2], lines[1]]);
    let edits = bench.engine.edits(&third.state);
    assert_eq!(edits.tracestate, Edit::Keep);
    assert!(matches!(edits.baggage, Edit::Set(_)));
}
