//! W3C Trace Context Level 2, section `tracestate`: one test per rule, each a table.
//! The cases follow those of the official test suite and the text of the standard.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use w3c_traceparent_parser::WriteError;
use w3c_traceparent_parser::baggage::Baggage;
use w3c_traceparent_parser::tracestate::{
    self, Member, TraceState, TraceStateErrorReason as Reason, Written,
};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn text(state: &TraceState<'_>) -> String {
    let members: Vec<String> = state.iter().map(|member| format!("{member:?}")).collect();
    members.join(",")
}

fn parsed(line: &str) -> String {
    let state = TraceState::parse(line.as_bytes());
    text(&state.unwrap_or_else(|error| panic!("`{line}`: {error}")))
}

fn invalid(line: &str, offset: usize, reason: Reason) {
    let Err(error) = TraceState::parse(line.as_bytes()) else {
        panic!("`{line}` was accepted");
    };
    assert_eq!(
        (error.offset(), error.reason()),
        (offset, reason),
        "`{line}`"
    );
}

fn write(line: &str, own: &[(&str, &str)], remove: &[&[u8]], limit: usize) -> (String, Written) {
    let own: Vec<Member<'_>> = own
        .iter()
        .map(|(key, value)| Member::new(key.as_bytes(), value.as_bytes()))
        .collect();
    let mut out = vec![0; limit];
    let state = TraceState::parse(line.as_bytes()).unwrap();
    let written = state.write_with(&own, remove, limit, &mut out).unwrap();
    let line = String::from_utf8(out[..written.len].to_vec()).unwrap();
    (line, written)
}

fn numbered(range: std::ops::Range<usize>) -> String {
    let members: Vec<String> = range.map(|n| format!("bar{n:02}={n:02}")).collect();
    members.join(",")
}

#[test]
fn several_lines_are_one_list_in_order_and_go_out_as_one() {
    let lines: [&[u8]; 4] = [b"foo=1,bar=2", b"", b" rojo=1 ", b"congo=2,,baz=3"];
    let state = TraceState::parse_lines(lines).unwrap();
    assert_eq!(text(&state), "foo=1,bar=2,rojo=1,congo=2,baz=3");
    let mut out = [0; 64];
    let written = state.write_with(&[], &[], 512, &mut out).unwrap();
    assert_eq!(&out[..written.len], b"foo=1,bar=2,rojo=1,congo=2,baz=3");
}

#[test]
fn an_error_names_the_line() {
    let lines: [&[u8]; 3] = [b"foo=1", b"bar=2", b"baz=3, BAD=4"];
    let error = TraceState::parse_lines(lines).unwrap_err();
    assert_eq!((error.line(), error.offset()), (2, 7));
}

#[test]
fn space_and_tab_around_commas_are_ignored() {
    for line in [
        "foo=1,bar=2",
        "foo=1 \t , \t bar=2",
        "foo=1\t \t,\t \tbar=2",
        " foo=1,bar=2",
        "\tfoo=1,bar=2",
        "foo=1,bar=2 ",
        "foo=1,bar=2\t",
        "\t foo=1,bar=2 \t",
    ] {
        assert_eq!(parsed(line), "foo=1,bar=2", "`{line}`");
    }
}

#[test]
fn empty_members_and_empty_headers_are_accepted() {
    for (line, expected) in [
        ("", ""),
        (" \t", ""),
        (",", ""),
        (", \t,,", ""),
        ("foo=1,", "foo=1"),
        (",foo=1", "foo=1"),
        ("foo=1,,bar=2", "foo=1,bar=2"),
        ("foo=1, \t ,bar=2", "foo=1,bar=2"),
    ] {
        assert_eq!(parsed(line), expected, "`{line}`");
    }
    let state = TraceState::parse(b",").unwrap();
    assert!(state.is_empty());
    assert_eq!(state, TraceState::empty());
    let written = state.write_with(&[], &[], 512, &mut []).unwrap();
    assert_eq!((written.len, written.members), (0, 0));
}

#[test]
fn empty_members_are_not_counted_to_the_32() {
    let line = numbered(0..32).replace(',', ",,, ,");
    assert_eq!(parsed(&line), numbered(0..32));
}

#[test]
fn keys_follow_level_2() {
    let longest = "z".repeat(256);
    for key in [
        "a",
        "0",
        "9a",
        "a-b_c*d/e",
        "tenant@system",
        "0tenant@9system",
        "a@b@c",
        "foo@",
        "abcdefghijklmnopqrstuvwxyz0123456789_-*/@",
        &longest,
    ] {
        let line = format!("{key}=1,bar=2");
        assert_eq!(parsed(&line), line);
    }
    for (key, offset) in [
        ("FOO", 0),
        ("fOO", 1),
        ("foo.bar", 3),
        ("@foo", 0),
        ("_foo", 0),
        ("-foo", 0),
        ("*foo", 0),
        ("/foo", 0),
        ("f\"o", 1),
        ("foo\u{e9}", 3),
    ] {
        invalid(&format!("{key}=1"), offset, Reason::InvalidKey);
    }
    let too_long = "z".repeat(257);
    invalid(&format!("{too_long}=1"), 256, Reason::KeyTooLong);
    invalid("=1", 0, Reason::EmptyKey);
    invalid("foo=1, =2", 7, Reason::EmptyKey);
}

#[test]
fn white_space_before_the_equals_sign_is_invalid() {
    invalid("foo =1", 3, Reason::InvalidKey);
    invalid("foo\t=1", 3, Reason::InvalidKey);
    invalid("foo bar=1", 3, Reason::InvalidKey);
}

#[test]
fn a_member_without_equals_sign_is_invalid() {
    invalid("foo", 3, Reason::MissingEquals);
    invalid("foo,bar=2", 3, Reason::MissingEquals);
    invalid("foo \t,bar=2", 3, Reason::MissingEquals);
    invalid("bar=2,foo", 9, Reason::MissingEquals);
}

#[test]
fn values_are_printable_without_comma_and_equals_sign() {
    let all: String = (b' '..=b'~')
        .map(char::from)
        .filter(|c| !",=".contains(*c))
        .collect();
    let longest = "v".repeat(256);
    for value in [
        all.as_str(),
        "0",
        "a b",
        "a:b;c:d",
        "\"\\",
        longest.as_str(),
    ] {
        assert_eq!(
            TraceState::parse(format!("foo={value},bar=2").as_bytes())
                .unwrap()
                .get(b"foo"),
            Some(value.as_bytes())
        );
    }
    invalid("foo=bar=baz", 7, Reason::InvalidValue);
    invalid("foo=a\tb", 5, Reason::InvalidValue);
    invalid("foo=\tb", 4, Reason::InvalidValue);
    invalid("foo=a\u{7f}", 5, Reason::InvalidValue);
    invalid("foo=\u{e9}", 4, Reason::InvalidValue);
    invalid("foo=a\0", 5, Reason::InvalidValue);
    invalid("foo=a\r\nx: y", 5, Reason::InvalidValue);
    let too_long = "v".repeat(257);
    invalid(&format!("foo={too_long}"), 260, Reason::ValueTooLong);
}

#[test]
fn an_empty_value_is_invalid() {
    invalid("foo=", 4, Reason::EmptyValue);
    invalid("foo=,bar=3", 4, Reason::EmptyValue);
    invalid("foo=   ,bar=3", 4, Reason::EmptyValue);
}

#[test]
fn leading_spaces_belong_to_the_value_and_trailing_ones_do_not() {
    let state = TraceState::parse(b"foo=  a b  ,bar= 2").unwrap();
    assert_eq!(state.get(b"foo"), Some(&b"  a b"[..]));
    assert_eq!(state.get(b"bar"), Some(&b" 2"[..]));
    let (line, _) = write("foo=  a b  ,bar= 2", &[("ot", "th:0")], &[], 512);
    assert_eq!(line, "ot=th:0,foo=  a b,bar= 2");
}

#[test]
fn more_than_32_members_drop_the_whole_list() {
    assert_eq!(parsed(&numbered(0..32)), numbered(0..32));
    invalid(&numbered(0..33), 32 * 9, Reason::TooManyMembers);
    let (first, second) = (numbered(0..30), numbered(30..33));
    let error = TraceState::parse_lines([first.as_bytes(), second.as_bytes()]).unwrap_err();
    assert_eq!((error.line(), error.offset()), (1, 18));
    assert_eq!(error.reason(), Reason::TooManyMembers);
}

#[test]
fn adding_to_a_full_list_removes_the_right_most() {
    let own = [("cost_usd", "0.0001"), ("data_tag", "PII")];
    let (line, written) = write(&numbered(0..32), &own, &[], 512);
    let expected = format!("cost_usd=0.0001,data_tag=PII,{}", numbered(0..30));
    assert_eq!(line, expected);
    assert_eq!((written.members, written.dropped), (32, 2));
}

#[test]
fn updating_an_own_entry_of_a_full_list_loses_nobody() {
    let list = format!("{},ot=th:8", numbered(0..31));
    let (line, written) = write(&list, &[("ot", "th:c")], &[], 512);
    assert_eq!(line, format!("ot=th:c,{}", numbered(0..31)));
    assert_eq!(written.dropped, 0);
}

#[test]
fn own_entries_move_to_the_far_left_and_foreign_ones_keep_order_and_bytes() {
    let own = [("ot", "th:8"), ("cost_usd", "0.1")];
    for (list, expected) in [
        ("", "ot=th:8,cost_usd=0.1"),
        ("a= x ,b=2", "ot=th:8,cost_usd=0.1,a= x,b=2"),
        ("a=1,ot=th:0;rv:1,b=2", "ot=th:8,cost_usd=0.1,a=1,b=2"),
        ("cost_usd=0.05,a=1,ot=p:8", "ot=th:8,cost_usd=0.1,a=1"),
        ("ot=1,a=1,ot=2,ot=3", "ot=th:8,cost_usd=0.1,a=1"),
    ] {
        assert_eq!(write(list, &own, &[], 512).0, expected, "`{list}`");
    }
}

#[test]
fn own_entries_do_not_pile_up_over_many_hops() {
    let mut line = "a=1,b=2".to_owned();
    for hop in 0..50 {
        let value = format!("0.{hop}");
        line = write(&line, &[("cost_usd", &value)], &[], 512).0;
    }
    assert_eq!(line, "cost_usd=0.49,a=1,b=2");
}

#[test]
fn foreign_duplicates_are_kept_as_they_came() {
    let (line, written) = write("foo=1,bar=2,foo=1,foo=3", &[], &[], 512);
    assert_eq!(line, "foo=1,bar=2,foo=1,foo=3");
    assert_eq!(written.members, 4);
    let state = TraceState::parse(b"foo=1,foo=3").unwrap();
    assert_eq!(state.get(b"foo"), Some(&b"1"[..]));
}

#[test]
fn a_list_of_512_bytes_is_passed_on() {
    let head = format!("a={},b={}", "x".repeat(200), "y".repeat(200));
    let list = format!("{head},c={}", "z".repeat(512 - head.len() - 3));
    assert_eq!(list.len(), 512);
    let (line, written) = write(&list, &[], &[], tracestate::MIN_LIMIT_BYTES);
    assert_eq!((line, written.dropped), (list, 0));
}

#[test]
fn truncation_removes_whole_members_above_128_bytes_first_and_then_from_the_right() {
    let entry = |key: &str, len: usize| format!("{key}={}", "x".repeat(len - key.len() - 1));
    let (a, b, c, d) = (
        entry("a", 100),
        entry("b", 129),
        entry("c", 128),
        entry("d", 129),
    );
    let list = [a.clone(), b.clone(), c.clone(), d.clone()].join(",");
    let own = [("ot", "th:8")];
    let with_own = |rest: &[&String]| {
        let rest: Vec<&str> = rest.iter().map(|member| member.as_str()).collect();
        format!("ot=th:8,{}", rest.join(","))
    };
    for (limit, expected) in [
        (497, with_own(&[&a, &b, &c, &d])),
        (496, with_own(&[&a, &b, &c])),
        (367, with_own(&[&a, &b, &c])),
        (366, with_own(&[&a, &c])),
        (237, with_own(&[&a, &c])),
        (236, with_own(&[&a])),
        (108, with_own(&[&a])),
        (107, "ot=th:8".to_owned()),
        (7, "ot=th:8".to_owned()),
    ] {
        let (line, written) = write(&list, &own, &[], limit);
        assert_eq!(line, expected, "limit {limit}");
        assert_eq!(written.members + written.dropped, 5);
    }
}

#[test]
fn limits_apply_after_the_own_entries_are_in() {
    // The incoming list has 520 bytes, but 20 of them are the old own entry.
    let list = format!(
        "a={},ot=th:0000000000001,b={}",
        "x".repeat(126),
        "y".repeat(126)
    );
    let own = [("ot", "th:8")];
    let limit = list.len() - "000000000000".len();
    let (line, written) = write(&list, &own, &[], limit);
    assert_eq!((line.len(), written.dropped), (limit, 0));
}

#[test]
fn members_are_removed_on_request_and_not_counted_as_dropped() {
    let list = "cost_usd=1,a=1,data_tag=PII,b=2,cost_usd=2";
    let (line, written) = write(list, &[], &[b"cost_usd", b"data_tag"], 512);
    assert_eq!(line, "a=1,b=2");
    assert_eq!((written.members, written.dropped), (2, 0));
}

#[test]
fn own_keys_must_be_valid_in_level_1_and_2() {
    let state = TraceState::empty();
    let mut out = [0; 512];
    for key in ["", "0a", "tenant@system", "A", "a b", "a=", "a,b", "_a"] {
        let own = [Member::new(b"ok", b"1"), Member::new(key.as_bytes(), b"1")];
        let error = state.write_with(&own, &[], 512, &mut out);
        assert_eq!(error, Err(WriteError::InvalidKey { index: 1 }), "`{key}`");
    }
    let long = [b'a'; 257];
    let error = state.write_with(&[Member::new(&long, b"1")], &[], 512, &mut out);
    assert_eq!(error, Err(WriteError::InvalidKey { index: 0 }));
}

#[test]
fn own_values_cannot_inject_members_or_headers() {
    let state = TraceState::empty();
    let mut out = [0; 512];
    for value in [
        "",
        " ",
        "a ",
        "a,b=c",
        "a=b",
        "a\r\nx: y",
        "a\n",
        "\t",
        "a\0",
        "\u{e9}",
    ] {
        let own = [Member::new(b"ok", value.as_bytes())];
        let error = state.write_with(&own, &[], 512, &mut out);
        assert_eq!(
            error,
            Err(WriteError::InvalidValue { index: 0 }),
            "{value:?}"
        );
    }
    let long = [b'a'; 257];
    let error = state.write_with(&[Member::new(b"a", &long)], &[], 512, &mut out);
    assert_eq!(error, Err(WriteError::InvalidValue { index: 0 }));
}

#[test]
fn own_keys_occur_once_and_own_members_fit_the_limits() {
    let state = TraceState::parse(b"a=1").unwrap();
    let mut out = [0; 1024];
    let twice = [Member::new(b"x", b"1"), Member::new(b"x", b"2")];
    let error = state.write_with(&twice, &[], 512, &mut out);
    assert_eq!(error, Err(WriteError::DuplicateKey { index: 1 }));

    let keys: Vec<String> = (0..33).map(|n| format!("k{n}")).collect();
    let own: Vec<Member<'_>> = keys
        .iter()
        .map(|k| Member::new(k.as_bytes(), b"1"))
        .collect();
    let error = state.write_with(&own, &[], 512, &mut out);
    assert_eq!(error, Err(WriteError::TooManyMembers));
    let written = state.write_with(&own[..32], &[], 512, &mut out).unwrap();
    assert_eq!((written.members, written.dropped), (32, 1));

    let error = state.write_with(&own[..1], &[], 3, &mut out);
    assert_eq!(error, Err(WriteError::LimitTooSmall { needed: 4 }));
}

#[test]
fn a_buffer_that_is_too_small_is_an_error_that_names_the_size() {
    let state = TraceState::parse(b"a=1,b=2").unwrap();
    for len in 0..7 {
        let error = state.write_with(&[], &[], 512, &mut vec![0; len]);
        assert_eq!(error, Err(WriteError::BufferTooSmall { needed: 7 }));
    }
}

#[test]
fn a_view_takes_three_words_per_member_and_one_for_the_length() {
    let words = 3 * tracestate::MAX_MEMBERS + 1;
    assert_eq!(size_of::<TraceState<'_>>(), words * size_of::<usize>());
}

#[test]
fn labels_of_reasons_are_stable_and_unique() {
    let labels = Reason::ALL.map(Reason::as_str);
    let expected = [
        "empty_key",
        "empty_value",
        "invalid_key",
        "invalid_value",
        "key_too_long",
        "missing_equals",
        "too_many_members",
        "value_too_long",
    ];
    assert_eq!(labels, expected);
}

#[test]
fn a_list_is_read_anew_and_empty_after_an_error() {
    let mut state = TraceState::parse(b"old=1").unwrap();
    let mut seen = Vec::new();
    let lines = [&b"a=1 "[..], b"b=2"];
    state
        .read_lines(lines, |key, value| seen.push((key, value)))
        .unwrap();
    assert_eq!(seen, [(&b"a"[..], &b"1"[..]), (b"b", b"2")]);
    assert_eq!(state, TraceState::parse(b"a=1,b=2").unwrap());
    let error = state
        .read_lines([&b"c=3"[..], b"D=4"], |_, _| {})
        .unwrap_err();
    assert_eq!((error.line(), error.offset()), (1, 0));
    assert!(state.is_empty());
}

#[test]
fn own_members_of_known_keys_are_written_or_taken_out() {
    let state = TraceState::parse(b"a=1,b=2,c=3,d=4").unwrap();
    let keys: [&[u8]; 3] = [b"d", b"b", b"x"];
    let values: [Option<&[u8]>; 3] = [Some(b"9"), None, Some(b"7")];
    let mut out = [0; 64];
    let written = state.write_valid(&keys, &values, 64, &mut out).unwrap();
    assert_eq!(&out[..written.len], b"d=9,x=7,a=1,c=3");
    assert_eq!((written.members, written.dropped), (4, 0));
    let written = state.write_valid(&keys, &values, 11, &mut out).unwrap();
    assert_eq!(&out[..written.len], b"d=9,x=7,a=1");
    assert_eq!((written.members, written.dropped), (3, 1));
    let baggage = Baggage::parse(b"a=1,b=2,c=3,d=4");
    let written = baggage
        .write_valid(&keys, &values, 4, 64, &mut out)
        .unwrap();
    assert_eq!(&out[..written.len], b"a=1,c=3,d=9,x=7");
    let written = baggage
        .write_valid(&keys, &values, 3, 64, &mut out)
        .unwrap();
    assert_eq!(&out[..written.len], b"a=1,d=9,x=7");
    assert_eq!((written.members, written.dropped), (3, 1));
}
