//! W3C Baggage: one test per rule, each a table.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use w3c_traceparent_parser::WriteError;
use w3c_traceparent_parser::baggage::{self, Baggage, Written, percent_decode, percent_encode};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

type Own<'a> = &'a [(&'a [u8], &'a [u8])];

fn well_formed(line: &str, key: &str, value: &str, properties: &str) {
    let baggage = Baggage::parse(line.as_bytes());
    assert_eq!((baggage.len(), baggage.malformed()), (1, 0), "`{line}`");
    let member = baggage.get(key.as_bytes()).expect(line);
    assert_eq!(member.value, value.as_bytes(), "`{line}`");
    assert_eq!(member.properties, properties.as_bytes(), "`{line}`");
}

fn write_limited(
    baggage: &Baggage<'_>,
    own: Own<'_>,
    remove: &[&[u8]],
    (max_members, max_bytes): (usize, usize),
) -> (String, Written) {
    let mut out = vec![0; max_bytes];
    let written = baggage
        .write_with(own, remove, max_members, max_bytes, &mut out)
        .unwrap();
    let line = String::from_utf8(out[..written.len].to_vec()).unwrap();
    (line, written)
}

fn write(line: &str, own: Own<'_>, remove: &[&[u8]]) -> String {
    let baggage = Baggage::parse(line.as_bytes());
    write_limited(&baggage, own, remove, (64, 8192)).0
}

fn decode(value: &str) -> String {
    let mut out = [0; 256];
    let decoded = percent_decode(value.as_bytes(), &mut out).unwrap();
    String::from_utf8(decoded.to_vec()).unwrap()
}

fn encode(value: &str) -> String {
    let mut out = [0; 256];
    let encoded = percent_encode(value.as_bytes(), &mut out).unwrap();
    String::from_utf8(encoded.to_vec()).unwrap()
}

#[test]
fn members_have_a_token_a_value_and_properties_with_white_space_between() {
    well_formed("key=value", "key", "value", "");
    well_formed(" key\t=  value ", "key", "value", "");
    well_formed("key=", "key", "", "");
    well_formed("key = ;p", "key", "", "p");
    well_formed("key=value;p1;p2=v2", "key", "value", "p1;p2=v2");
    well_formed(
        "key=value ; p1 ;\tp2 = v2 ",
        "key",
        "value",
        "p1 ;\tp2 = v2",
    );
    well_formed("key=value;p=", "key", "value", "p=");
    well_formed("key=value;p=a=b", "key", "value", "p=a=b");
}

#[test]
fn keys_are_http_tokens() {
    let all: String = (b'!'..=b'~')
        .map(char::from)
        .filter(|c| !"\"(),/:;<=>?@[\\]{}".contains(*c))
        .collect();
    well_formed(&format!("{all}=1"), &all, "1", "");
    for bad in "\"(),/:<>?@[\\]{} \t\u{7f}\u{e9}\0\r\n".chars() {
        let line = format!("a{bad}b=1");
        let baggage = Baggage::parse(line.as_bytes());
        assert_eq!(baggage.malformed(), 1, "`{bad:?}`");
    }
}

#[test]
fn keys_are_case_sensitive() {
    let baggage = Baggage::parse(b"userId=1,userid=2");
    assert_eq!(baggage.get(b"userId").unwrap().value, b"1");
    assert_eq!(baggage.get(b"userid").unwrap().value, b"2");
    assert!(baggage.get(b"USERID").is_none());
    assert_eq!(
        write("userId=1,userid=2", &[(b"userid", b"3")], &[]),
        "userId=1,userid=3"
    );
}

#[test]
fn values_are_printable_without_quote_comma_semicolon_and_backslash() {
    let all: String = (b'!'..=b'~')
        .map(char::from)
        .filter(|c| !"\",;\\".contains(*c))
        .collect();
    well_formed(&format!("k={all}"), "k", &all, "");
    for bad in ['"', '\\', ' ', '\t', '\u{7f}', '\u{e9}', '\0', '\r', '\n'] {
        let line = format!("k=a{bad}b");
        assert_eq!(Baggage::parse(line.as_bytes()).malformed(), 1, "`{bad:?}`");
    }
}

#[test]
fn an_equals_sign_may_stand_in_a_value() {
    well_formed("k==", "k", "=", "");
    well_formed("k=a=b==", "k", "a=b==", "");
}

#[test]
fn percent_encoding_is_kept_as_it_came() {
    let line = "k=%20%c3%A9%zz%;p=%2C,a=!'()*+";
    assert_eq!(write(line, &[], &[]), line);
    assert_eq!(
        Baggage::parse(line.as_bytes()).get(b"k").unwrap().value,
        b"%20%c3%A9%zz%"
    );
}

#[test]
fn decoding_replaces_what_is_not_utf_8_and_leaves_plus_alone() {
    for (value, expected) in [
        ("", ""),
        ("plain", "plain"),
        ("a%20b", "a b"),
        ("a+b", "a+b"),
        ("%25", "%"),
        ("caf%C3%A9", "caf\u{e9}"),
        ("caf%c3%a9", "caf\u{e9}"),
        ("%F0%9F%98%80", "\u{1f600}"),
        ("%FF", "\u{fffd}"),
        ("%C3", "\u{fffd}"),
        ("%C3(", "\u{fffd}("),
        ("%E2%82x", "\u{fffd}x"),
        ("%ED%A0%80", "\u{fffd}\u{fffd}\u{fffd}"),
        ("%C0%AF", "\u{fffd}\u{fffd}"),
        ("%F4%90%80%80", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
        ("%", "%"),
        ("%4", "%4"),
        ("%4G", "%4G"),
        ("%%34", "%4"),
    ] {
        assert_eq!(decode(value), expected, "`{value}`");
    }
}

#[test]
fn keys_are_not_decoded() {
    let baggage = Baggage::parse(b"a%20b=1");
    assert_eq!(baggage.iter().next().unwrap().key, b"a%20b");
    assert!(baggage.get(b"a b").is_none());
}

#[test]
fn encoding_covers_everything_outside_the_value_characters_and_percent() {
    for (value, expected) in [
        ("", ""),
        ("a b", "a%20b"),
        ("50%", "50%25"),
        ("a,b;c\\d\"e", "a%2Cb%3Bc%5Cd%22e"),
        ("\u{e9}\u{1f600}", "%C3%A9%F0%9F%98%80"),
        ("\r\n\0", "%0D%0A%00"),
        ("!#$&'()*+-./:<=>?@[]^_`{|}~", "!#$&'()*+-./:<=>?@[]^_`{|}~"),
    ] {
        assert_eq!(encode(value), expected);
        assert_eq!(decode(expected), value);
    }
}

#[test]
fn coding_into_a_buffer_that_is_too_small_is_an_error_that_names_the_size() {
    let small = |needed| Err(WriteError::BufferTooSmall { needed });
    assert_eq!(percent_encode(b"a b", &mut [0; 4]), small(5));
    assert_eq!(percent_decode(b"%FF", &mut [0; 2]), small(3));
}

#[test]
fn all_lines_together_are_one_list_in_order() {
    let baggage = Baggage::parse_lines([&b"a=1, b=2"[..], b"", b"c=3,", b"a=4"]);
    assert_eq!((baggage.len(), baggage.malformed()), (4, 0));
    assert_eq!(
        write_limited(&baggage, &[], &[], (64, 8192)).0,
        "a=1,b=2,c=3,a=4"
    );
}

#[test]
fn malformed_members_are_dropped_and_counted_and_never_fail_the_others() {
    for (line, expected, malformed) in [
        ("novalue", "", 1),
        ("=1", "", 1),
        ("a=1,oops,b=2", "a=1,b=2", 1),
        ("a=1,b c=2,d=3", "a=1,d=3", 1),
        ("a=1,b=\"x\",c=3", "a=1,c=3", 1),
        ("a=1;,b=2", "b=2", 1),
        ("a=1;;p,b=2", "b=2", 1),
        ("a=1;=v,b=2", "b=2", 1),
        ("a=1;p=\",b=2", "b=2", 1),
        ("a=1;p q,b=2", "b=2", 1),
        (",,a=1, ,", "a=1", 0),
        ("\0,\u{ff}=1,a=1", "a=1", 2),
    ] {
        let baggage = Baggage::parse(line.as_bytes());
        assert_eq!(baggage.malformed(), malformed, "`{line}`");
        assert_eq!(write(line, &[], &[]), expected, "`{line}`");
    }
}

#[test]
fn foreign_members_keep_bytes_order_and_duplicates() {
    let line = "b=2 ; p = x;q,a=%31,b=1,c=!";
    assert_eq!(write(line, &[], &[]), line);
    assert_eq!(
        Baggage::parse(line.as_bytes()).get(b"b").unwrap().value,
        b"2"
    );
}

#[test]
fn own_members_are_appended_and_replace_older_ones() {
    let own: Own<'_> = &[(b"cost_usd", b"0.2"), (b"data_tag", b"PII")];
    for (line, expected) in [
        ("", "cost_usd=0.2,data_tag=PII"),
        ("a=1", "a=1,cost_usd=0.2,data_tag=PII"),
        (
            "cost_usd=0.1;x,a=1,cost_usd=9,b=2",
            "a=1,b=2,cost_usd=0.2,data_tag=PII",
        ),
    ] {
        assert_eq!(write(line, own, &[]), expected, "`{line}`");
    }
}

#[test]
fn own_members_do_not_pile_up_over_many_hops() {
    let mut line = "a=1".to_owned();
    for hop in 0..50 {
        line = write(&line, &[(b"cost_usd", format!("0.{hop}").as_bytes())], &[]);
    }
    assert_eq!(line, "a=1,cost_usd=0.49");
}

#[test]
fn members_are_removed_on_request_and_not_counted_as_dropped() {
    let baggage = Baggage::parse(b"cost_usd=1;p,a=1,data_tag=PII,b=2");
    let remove: [&[u8]; 2] = [b"cost_usd", b"data_tag"];
    let (line, written) = write_limited(&baggage, &[], &remove, (64, 8192));
    assert_eq!(line, "a=1,b=2");
    assert_eq!((written.members, written.dropped), (2, 0));
}

#[test]
fn everything_is_passed_on_at_64_members_own_ones_counted() {
    let members: Vec<String> = (0..64).map(|n| format!("k{n}=v")).collect();
    let lines: Vec<&[u8]> = members.iter().map(String::as_bytes).collect();
    let baggage = Baggage::parse_lines(lines);
    let (line, written) = write_limited(&baggage, &[], &[], (64, 8192));
    assert_eq!((line, written.dropped), (members.join(","), 0));

    let (line, written) = write_limited(&baggage, &[(b"own", b"1")], &[], (64, 8192));
    assert_eq!(line, format!("{},own=1", members[..63].join(",")));
    assert_eq!((written.members, written.dropped), (64, 1));
}

#[test]
fn everything_is_passed_on_at_8192_bytes_own_ones_counted() {
    let fill = |len: usize| format!("a={},b=2", "x".repeat(len - "a=,b=2".len()));
    for own in [&[][..], &[(&b"own"[..], &b"1"[..])]] {
        let own_len = own.len() * ",own=1".len();
        let full = fill(8192 - own_len);
        let (line, written) = write_limited(&Baggage::parse(full.as_bytes()), own, &[], (64, 8192));
        assert_eq!((line.len(), written.dropped), (8192, 0));

        let over = fill(8193 - own_len);
        let (line, written) = write_limited(&Baggage::parse(over.as_bytes()), own, &[], (64, 8192));
        assert_eq!((line.len(), written.dropped), (8193 - 4, 1));
    }
}

#[test]
fn above_the_limits_whole_members_are_dropped_from_the_right() {
    let baggage = Baggage::parse(b"a=1,long=0123456789,b=2,c=3");
    let own: Own<'_> = &[(b"own", b"1")];
    for (limits, expected, dropped) in [
        ((64, 29), "a=1,long=0123456789,b=2,own=1", 1),
        ((64, 28), "a=1,long=0123456789,own=1", 2),
        ((64, 24), "a=1,own=1", 3),
        ((64, 8), "own=1", 4),
        ((3, 99), "a=1,long=0123456789,own=1", 2),
        ((1, 99), "own=1", 4),
    ] {
        let (line, written) = write_limited(&baggage, own, &[], limits);
        assert_eq!(
            (line.as_str(), written.dropped),
            (expected, dropped),
            "{limits:?}"
        );
    }
}

#[test]
fn the_grammar_s_180_members_fit_into_the_view() {
    let members: Vec<String> = (0..180).map(|n| format!("k{n}=v")).collect();
    let baggage_line = members.join(",");
    let baggage = Baggage::parse(baggage_line.as_bytes());
    assert_eq!(baggage.len(), 180);
    assert_eq!(
        write_limited(&baggage, &[], &[], (180, 8192)).0,
        baggage_line
    );
}

#[test]
fn lines_beyond_the_limit_are_counted_and_lines_without_members_take_no_place() {
    let mut lines: Vec<&[u8]> = vec![b"", b"oops", b" , "];
    lines.extend([&b"a=1,b=2"[..]; baggage::MAX_LINES + 2]);
    let baggage = Baggage::parse_lines(lines);
    assert_eq!((baggage.len(), baggage.overflowed()), (128, 4));
    assert_eq!(baggage.malformed(), 1);
    let (_, written) = write_limited(&baggage, &[], &[], (180, 8192));
    assert_eq!((written.members, written.dropped), (128, 4));
}

#[test]
fn own_members_cannot_inject_members_or_headers() {
    let baggage = Baggage::empty();
    let mut out = [0; 64];
    for key in ["", "a b", "a=", "a,b", "a;b", "a\r\n", "\u{e9}"] {
        let own: Own<'_> = &[(b"ok", b"1"), (key.as_bytes(), b"1")];
        let error = baggage.write_with(own, &[], 64, 8192, &mut out);
        assert_eq!(error, Err(WriteError::InvalidKey { index: 1 }), "{key:?}");
    }
    for value in ["a b", "a,b", "a;b", "a\r\nx: y", "\"", "\\", "\u{e9}"] {
        let own: Own<'_> = &[(b"ok", value.as_bytes())];
        let error = baggage.write_with(own, &[], 64, 8192, &mut out);
        assert_eq!(
            error,
            Err(WriteError::InvalidValue { index: 0 }),
            "{value:?}"
        );
    }
}

#[test]
fn own_keys_occur_once_and_own_members_fit_the_limits() {
    let baggage = Baggage::parse(b"z=1");
    let mut out = [0; 64];
    let twice: Own<'_> = &[(b"a", b"1"), (b"a", b"2")];
    for (own, limits, expected) in [
        (twice, (64, 64), WriteError::DuplicateKey { index: 1 }),
        (twice, (1, 64), WriteError::TooManyMembers),
        (
            &twice[..1],
            (64, 2),
            WriteError::LimitTooSmall { needed: 3 },
        ),
    ] {
        let error = baggage.write_with(own, &[], limits.0, limits.1, &mut out);
        assert_eq!(error, Err(expected));
    }
    let error = baggage.write_with(&twice[..1], &[], 64, 64, &mut out[..6]);
    assert_eq!(error, Err(WriteError::BufferTooSmall { needed: 7 }));
}

#[test]
fn a_view_takes_two_words_per_line_and_four_for_the_counts() {
    let words = 2 * baggage::MAX_LINES + 4;
    assert_eq!(size_of::<Baggage<'_>>(), words * size_of::<usize>());
}

#[test]
fn values_do_not_reach_a_log_by_debug() {
    let baggage = Baggage::parse(b"user=alice;p=secret");
    let member = baggage.get(b"user").unwrap();
    let printed = format!("{baggage:?} {member:?}");
    assert!(
        !printed.contains("alice") && !printed.contains("secret"),
        "{printed}"
    );
}

#[test]
fn a_view_is_read_anew_and_shows_its_members() {
    let mut view = Baggage::parse(b"old=1,bad");
    let mut seen = Vec::new();
    view.read_lines([&b"a=1, b = 2;p"[..], b"", b"a=3"], |key, value| {
        seen.push((key, value));
    });
    let wanted: [(&[u8], &[u8]); 3] = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")];
    assert_eq!(seen, wanted);
    let members = view.iter().map(|member| (member.key, member.value));
    assert!(members.eq(wanted));
    assert_eq!((view.len(), view.malformed()), (3, 0));

    // Members beyond the view are counted, not shown.
    let lines = [&b"a=1"[..]; baggage::MAX_LINES + 1];
    let mut shown = 0;
    view.read_lines(lines, |_, _| shown += 1);
    assert_eq!((shown, view.overflowed()), (baggage::MAX_LINES, 1));
}
