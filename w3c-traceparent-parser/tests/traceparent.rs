//! W3C Trace Context Level 2, section `traceparent`: one test per rule, each a table.
//! The cases follow those of the official test suite and the text of the standard.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use w3c_traceparent_parser::{
    IdErrorReason, SpanId, TraceFlags, TraceId, TraceParent, TraceParentErrorReason as Reason,
};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn valid(header: &str) -> TraceParent {
    let parsed = TraceParent::parse(header.as_bytes());
    let parsed = parsed.unwrap_or_else(|error| panic!("`{header}`: {error}"));
    assert_eq!(parsed.trace_id.to_string(), TRACE, "`{header}`");
    assert_eq!(parsed.parent_id.to_string(), PARENT, "`{header}`");
    parsed
}

fn invalid(header: &str, offset: usize, reason: Reason) {
    let Err(error) = TraceParent::parse(header.as_bytes()) else {
        panic!("`{header}` was accepted");
    };
    assert_eq!(
        (error.offset(), error.reason()),
        (offset, reason),
        "`{header}`"
    );
}

#[test]
fn version_00_is_read_and_written_byte_for_byte() {
    for flags in ["00", "01", "02", "03"] {
        let header = format!("00-{TRACE}-{PARENT}-{flags}");
        assert_eq!(valid(&header).to_bytes().as_slice(), header.as_bytes());
    }
}

#[test]
fn no_line_is_absent_and_two_lines_are_invalid_even_if_equal() {
    let header = format!("00-{TRACE}-{PARENT}-01");
    let line = header.as_bytes();
    assert_eq!(TraceParent::parse_lines([]), Ok(None));
    assert_eq!(TraceParent::parse_lines([line]), Ok(Some(valid(&header))));
    for second in [line, b"", b"garbage"] {
        let error = TraceParent::parse_lines([line, second]).unwrap_err();
        assert_eq!(error.reason(), Reason::Repeated);
    }
    invalid(&format!("{header},{header}"), 55, Reason::TrailingData);
    invalid(&format!("{header}, {header}"), 55, Reason::TrailingData);
}

#[test]
fn outer_space_and_tab_are_trimmed_and_offsets_count_from_the_untrimmed_start() {
    let header = format!("00-{TRACE}-{PARENT}-01");
    for (before, after) in [(" ", ""), ("\t", ""), ("", " "), ("", "\t"), ("\t ", " \t")] {
        valid(&format!("{before}{header}{after}"));
    }
    invalid("  0x", 3, Reason::InvalidHex);
    for inner in [3, 20, 36, 53] {
        let mut spaced = header.clone();
        spaced.insert(inner, ' ');
        invalid(&spaced, inner, Reason::InvalidHex);
    }
    invalid(&format!("{header}\r\n"), 55, Reason::TrailingData);
    invalid(&format!("\n{header}"), 0, Reason::InvalidHex);
}

#[test]
fn version_00_ends_after_the_flags() {
    for tail in ["-", ".", "-what-the-future-will-be-like", "0", ";"] {
        let header = format!("00-{TRACE}-{PARENT}-01{tail}");
        invalid(&header, 55, Reason::TrailingData);
    }
}

#[test]
fn uppercase_digits_are_invalid_in_every_field() {
    invalid(&format!("0A-{TRACE}-{PARENT}-01"), 1, Reason::UppercaseHex);
    let upper = TRACE.to_uppercase();
    invalid(&format!("00-{upper}-{PARENT}-01"), 4, Reason::UppercaseHex);
    let upper = PARENT.to_uppercase();
    invalid(&format!("00-{TRACE}-{upper}-01"), 38, Reason::UppercaseHex);
    invalid(&format!("00-{TRACE}-{PARENT}-0A"), 54, Reason::UppercaseHex);
}

#[test]
fn other_characters_are_invalid_in_every_position() {
    let header = format!("00-{TRACE}-{PARENT}-01");
    for at in 0..header.len() {
        let dash = matches!(at, 2 | 35 | 52);
        let reason = if dash {
            Reason::ExpectedDash
        } else {
            Reason::InvalidHex
        };
        for byte in [
            b'.', b'g', b'/', b':', b'`', b'@', b'_', 0, 0x7f, 0x80, 0xb0, 0xff,
        ] {
            let mut bytes = header.clone().into_bytes();
            bytes[at] = byte;
            let error = TraceParent::parse(&bytes).unwrap_err();
            assert_eq!((error.offset(), error.reason()), (at, reason), "{byte:#x}");
        }
    }
}

#[test]
fn fields_of_wrong_length_are_invalid() {
    let (short_trace, short_parent) = (&TRACE[1..], &PARENT[1..]);
    invalid("", 0, Reason::Empty);
    invalid(" \t ", 3, Reason::Empty);
    invalid("0", 1, Reason::TooShort);
    invalid("00", 2, Reason::TooShort);
    invalid(&format!("0-{TRACE}-{PARENT}-01"), 1, Reason::InvalidHex);
    invalid(&format!("000-{TRACE}-{PARENT}-01"), 2, Reason::ExpectedDash);
    invalid(
        &format!("0000-{TRACE}-{PARENT}-01"),
        2,
        Reason::ExpectedDash,
    );
    invalid(
        &format!("00-{short_trace}-{PARENT}-01"),
        34,
        Reason::InvalidHex,
    );
    invalid(
        &format!("00-{TRACE}0-{PARENT}-01"),
        35,
        Reason::ExpectedDash,
    );
    invalid(
        &format!("00-{TRACE}-{short_parent}-01"),
        51,
        Reason::InvalidHex,
    );
    invalid(
        &format!("00-{TRACE}-{PARENT}0-01"),
        52,
        Reason::ExpectedDash,
    );
    invalid(&format!("00-{TRACE}-{PARENT}-1"), 54, Reason::TooShort);
    invalid(&format!("00-{TRACE}-{PARENT}-"), 53, Reason::TooShort);
    invalid(&format!("00-{TRACE}-{PARENT}"), 52, Reason::TooShort);
    invalid(
        &format!("00-{TRACE}-{PARENT}-001"),
        55,
        Reason::TrailingData,
    );
}

#[test]
fn version_ff_is_invalid() {
    invalid(
        &format!("ff-{TRACE}-{PARENT}-01"),
        0,
        Reason::VersionForbidden,
    );
    invalid(
        &format!("ff-{TRACE}-{PARENT}-01-more"),
        0,
        Reason::VersionForbidden,
    );
}

#[test]
fn a_version_that_is_not_two_lowercase_digits_and_a_dash_is_invalid() {
    for (version, offset, reason) in [
        (".0", 0, Reason::InvalidHex),
        ("0.", 1, Reason::InvalidHex),
        ("FF", 0, Reason::UppercaseHex),
        ("00.", 2, Reason::ExpectedDash),
        ("cc0", 2, Reason::ExpectedDash),
    ] {
        invalid(&format!("{version}-{TRACE}-{PARENT}-01"), offset, reason);
    }
}

#[test]
fn later_versions_are_read_up_to_the_flags_and_the_rest_is_ignored() {
    for version in 1..=0xfe {
        for tail in ["", "-", "-what-the-future-will-be-like", "--", "-,=\u{e9}"] {
            let parsed = valid(&format!("{version:02x}-{TRACE}-{PARENT}-01{tail}"));
            assert!(parsed.flags.is_sampled());
        }
    }
}

#[test]
fn later_versions_restart_when_too_short_or_when_the_flags_go_on() {
    for tail in [".", ".what-the-future-will-not-be-like", "1", " x", "_"] {
        let header = format!("cc-{TRACE}-{PARENT}-01{tail}");
        invalid(&header, 55, Reason::ExpectedDash);
    }
    invalid(&format!("cc-{TRACE}-{PARENT}-0"), 54, Reason::TooShort);
    invalid(&format!("01-{TRACE}-{PARENT}-0A"), 54, Reason::UppercaseHex);
}

#[test]
fn ids_of_zeros_are_invalid_in_every_version() {
    let (no_trace, no_parent) = ("0".repeat(32), "0".repeat(16));
    for version in ["00", "01", "cc", "fe"] {
        let header = format!("{version}-{no_trace}-{PARENT}-01");
        invalid(&header, 3, Reason::ZeroTraceId);
        let header = format!("{version}-{TRACE}-{no_parent}-01");
        invalid(&header, 36, Reason::ZeroParentId);
        let header = format!("{version}-{no_trace}-{no_parent}-01");
        invalid(&header, 3, Reason::ZeroTraceId);
    }
}

#[test]
fn always_version_00_is_written_without_the_fields_of_later_versions() {
    let parsed = valid(&format!("fe-{TRACE}-{PARENT}-ff-extra-fields"));
    let expected = format!("00-{TRACE}-{PARENT}-03");
    assert_eq!(parsed.to_bytes().as_slice(), expected.as_bytes());
    assert_eq!(parsed.to_string(), expected);
}

#[test]
fn flags_are_bits_and_unknown_ones_are_neither_invalid_nor_sent_on() {
    for version in ["00", "cc"] {
        for bits in 0..=255u8 {
            let parsed = valid(&format!("{version}-{TRACE}-{PARENT}-{bits:02x}"));
            assert_eq!(parsed.flags.is_sampled(), bits & 1 != 0);
            assert_eq!(parsed.flags.is_random(), bits & 2 != 0);
            let expected = format!("00-{TRACE}-{PARENT}-{:02x}", bits & 3);
            assert_eq!(parsed.to_bytes().as_slice(), expected.as_bytes());
        }
    }
}

#[test]
fn continuing_keeps_trace_id_and_random_flag_and_changes_only_parent_and_sampled() {
    for (bits, expected) in [(0, "01"), (1, "01"), (2, "03"), (3, "03")] {
        let incoming = valid(&format!("00-{TRACE}-{PARENT}-{bits:02x}"));
        let outgoing = TraceParent {
            parent_id: SpanId::from_u64(0xb7ad_6b71_6920_3331).unwrap(),
            flags: incoming.flags.with_sampled(true),
            ..incoming
        };
        let text = format!("00-{TRACE}-b7ad6b7169203331-{expected}");
        assert_eq!(outgoing.to_string(), text);
    }
}

#[test]
fn flags_set_and_clear_one_bit_each() {
    let none = TraceFlags::NONE;
    assert_eq!(none.with_sampled(true), TraceFlags::SAMPLED);
    assert_eq!(none.with_random(true), TraceFlags::RANDOM);
    let both = TraceFlags::SAMPLED | TraceFlags::RANDOM;
    assert_eq!(TraceFlags::from(0xff), both);
    assert_eq!(both.with_sampled(false), TraceFlags::RANDOM);
    assert_eq!(both.with_random(false), TraceFlags::SAMPLED);
    assert_eq!(u8::from(both), 3);
    assert_eq!(both.to_string(), "03");
}

#[test]
fn ids_of_zeros_cannot_be_built() {
    assert_eq!(TraceId::from_bytes([0; 16]), None);
    assert_eq!(SpanId::from_bytes([0; 8]), None);
    assert_eq!(TraceId::from_u128(0), None);
    assert_eq!(SpanId::from_u64(0), None);
    for zeros in ["0".repeat(32), "0".repeat(16)] {
        let reason = match zeros.len() {
            32 => TraceId::from_hex(zeros.as_bytes()).unwrap_err().reason(),
            _ => SpanId::from_hex(zeros.as_bytes()).unwrap_err().reason(),
        };
        assert_eq!(reason, IdErrorReason::Zero);
    }
}

#[test]
fn ids_convert_between_bytes_numbers_and_text() {
    let trace_id: TraceId = TRACE.parse().unwrap();
    assert_eq!(TraceId::from_bytes(trace_id.to_bytes()), Some(trace_id));
    assert_eq!(TraceId::from_u128(trace_id.to_u128()), Some(trace_id));
    assert_eq!(trace_id.to_bytes()[..2], [0x4b, 0xf9]);
    assert_eq!(
        format!("{trace_id} {trace_id:?}"),
        format!("{TRACE} {TRACE}")
    );
    let span_id: SpanId = PARENT.parse().unwrap();
    assert_eq!(SpanId::from_bytes(span_id.to_bytes()), Some(span_id));
    assert_eq!(SpanId::from_u64(span_id.to_u64()), Some(span_id));
    assert_eq!(
        format!("{span_id} {span_id:?}"),
        format!("{PARENT} {PARENT}")
    );
}

#[test]
fn ids_in_text_need_exactly_their_lowercase_digits() {
    for (text, offset, reason) in [
        ("", 0, IdErrorReason::Length),
        ("00f067aa0ba902b", 15, IdErrorReason::Length),
        ("00f067aa0ba902b70", 16, IdErrorReason::Length),
        ("00F067aa0ba902b7", 2, IdErrorReason::InvalidHex),
        ("00f067aa0ba902b-", 15, IdErrorReason::InvalidHex),
    ] {
        let error = SpanId::from_hex(text.as_bytes()).unwrap_err();
        assert_eq!(
            (error.offset(), error.reason()),
            (offset, reason),
            "`{text}`"
        );
    }
}

#[test]
fn header_names_are_written_in_lower_case() {
    use w3c_traceparent_parser::{baggage, tracestate};
    let names = [TraceParent::HEADER, tracestate::HEADER, baggage::HEADER];
    assert_eq!(names, ["traceparent", "tracestate", "baggage"]);
}

#[test]
fn labels_of_reasons_are_stable_and_unique() {
    let labels = Reason::ALL.map(Reason::as_str);
    let expected = [
        "empty",
        "expected_dash",
        "invalid_hex",
        "repeated",
        "too_short",
        "trailing_data",
        "uppercase_hex",
        "version_forbidden",
        "zero_parent_id",
        "zero_trace_id",
    ];
    assert_eq!(labels, expected);
}
