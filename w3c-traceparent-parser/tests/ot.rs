//! OpenTelemetry's `ot` member and consistent probability sampling: one test per rule, each a
//! table. Vectors: the specification, its 1-in-N table, and the public vector sets of the other
//! implementations.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use w3c_traceparent_parser::otel::{
    self, OtState, OtelErrorReason as Reason, Randomness, Threshold,
};
use w3c_traceparent_parser::tracestate::{Member, TraceState};
use w3c_traceparent_parser::{TraceId, WriteError};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn th(text: &str) -> Threshold {
    Threshold::parse(text.as_bytes()).unwrap()
}

fn rv(text: &str) -> Randomness {
    Randomness::parse(text.as_bytes()).unwrap()
}

/// A trace id whose right-most 56 bits are the given digits; the rest must not matter.
fn trace_id(randomness: &str) -> TraceId {
    TraceId::from_hex(format!("eeeeeeeeeeeeeeeeee{randomness}").as_bytes()).unwrap()
}

fn write(state: &OtState<'_>, th: Option<Threshold>, rv: Option<Randomness>) -> String {
    let mut out = [0; otel::MAX_LEN];
    let len = state.write(th, rv, &mut out).unwrap();
    String::from_utf8(out[..len].to_vec()).unwrap()
}

/// Reads a value and writes what was read.
fn rewritten(value: &str) -> String {
    let state = OtState::parse(value.as_bytes());
    write(&state, state.threshold(), state.randomness())
}

#[test]
fn probabilities_become_thresholds_of_four_digits_after_the_leading_fs() {
    for (probability, short, exact) in [
        (1.0, "0", "0"),
        (1.0 / 2.0, "8", "8"),
        (1.0 / 3.0, "aaab", "aaaaaaaaaaaaac"),
        (1.0 / 4.0, "c", "c"),
        (1.0 / 5.0, "cccd", "cccccccccccccc"),
        (1.0 / 8.0, "e", "e"),
        (1.0 / 10.0, "e666", "e6666666666666"),
        (1.0 / 16.0, "f", "f"),
        (1.0 / 100.0, "fd70a", "fd70a3d70a3d71"),
        (1.0 / 1000.0, "ffbe77", "ffbe76c8b43958"),
        (1.0 / 10000.0, "fff9724", "fff972474538ef"),
        (2.0 / 3.0, "5555", "55555555555558"),
        (3.0 / 4.0, "4", "4"),
        (1.0 - 1.0 / 256.0, "01", "01"),
        (0.999, "0042", "004189374bc6a8"),
        (1.0 / 65536.0, "ffff", "ffff"),
        (256.0 / RANGE, "ffffffffffff", "ffffffffffff"),
        (1.5 / RANGE, "fffffffffffffe", "fffffffffffffe"),
        (1.0 / RANGE, "ffffffffffffff", "ffffffffffffff"),
        (1.0 - 16.0 / RANGE, "0", "0000000000001"),
    ] {
        let rounded = Threshold::from_probability(probability).unwrap();
        assert_eq!(rounded.to_string(), short, "{probability}");
        let nearest = Threshold::from_probability_exact(probability).unwrap();
        assert_eq!(nearest.to_string(), exact, "{probability}");
    }
}

const RANGE: f64 = (1u64 << 56) as f64;

#[test]
fn a_probability_of_zero_has_no_threshold_and_one_or_more_is_always() {
    for never in [
        0.0,
        -0.0,
        -1.0,
        0.5 / RANGE,
        f64::MIN_POSITIVE,
        f64::NAN,
        f64::NEG_INFINITY,
    ] {
        assert_eq!(Threshold::from_probability(never), None, "{never}");
        assert_eq!(Threshold::from_probability_exact(never), None, "{never}");
    }
    for always in [1.0, 1.0 + f64::EPSILON, 100.0, f64::INFINITY] {
        assert_eq!(Threshold::from_probability(always), Some(Threshold::ALWAYS));
    }
}

#[test]
fn rounding_never_moves_a_threshold_by_more_than_half_of_its_last_digit() {
    for step in 1..4096u32 {
        let probability = f64::from(step) / 4096.0 / 7.0;
        let exact = Threshold::from_probability_exact(probability).unwrap();
        let rounded = Threshold::from_probability(probability).unwrap();
        let relative = rounded.probability() / exact.probability() - 1.0;
        // Half of the fourth digit, over a probability of at least one unit of the first.
        assert!(relative.abs() <= 1.0 / 8192.0, "{probability}: {relative}");
        assert!(rounded.to_string().trim_start_matches('f').len() <= 4);
    }
}

#[test]
fn th_has_1_to_14_lowercase_digits_and_is_padded_at_the_right() {
    for (text, value) in [
        ("0", 0),
        ("00000000000000", 0),
        ("8", 0x80_0000_0000_0000),
        ("08", 0x08_0000_0000_0000),
        ("abcdefabcdefab", 0xab_cdef_abcd_efab),
        ("1000", 0x10_0000_0000_0000),
        ("ffffffffffffff", 0xff_ffff_ffff_ffff),
    ] {
        assert_eq!(th(text).value(), value, "`{text}`");
        assert_eq!(Threshold::new(value), Some(th(text)));
    }
    for (text, offset, reason) in [
        ("", 0, Reason::TooShort),
        ("g", 0, Reason::InvalidHex),
        ("A", 0, Reason::InvalidHex),
        ("8 ", 1, Reason::InvalidHex),
        ("-1", 0, Reason::InvalidHex),
        ("14.5", 2, Reason::InvalidHex),
        ("0x1p+3", 1, Reason::InvalidHex),
        ("100000000000000", 14, Reason::TooLong),
        ("ffffffffffffffff", 14, Reason::TooLong),
    ] {
        let error = Threshold::parse(text.as_bytes()).unwrap_err();
        assert_eq!(
            (error.offset(), error.reason()),
            (offset, reason),
            "`{text}`"
        );
    }
    assert_eq!(Threshold::new(1 << 56), None);
}

#[test]
fn th_is_written_without_zeros_at_the_right_but_with_those_at_the_left() {
    for (text, written) in [
        ("0", "0"),
        ("000", "0"),
        ("1000", "1"),
        ("08", "08"),
        ("00000000000001", "00000000000001"),
        ("50", "5"),
    ] {
        assert_eq!(th(text).to_string(), written);
    }
    assert!((th("08").probability() - 0.96875).abs() < 1e-12);
}

#[test]
fn rv_has_exactly_14_lowercase_digits() {
    for text in ["00000000000000", "12341234123412", "ffffffffffffff"] {
        assert_eq!(rv(text).to_string(), text);
        assert_eq!(Randomness::new(rv(text).value()), Some(rv(text)));
    }
    for (text, offset, reason) in [
        ("", 0, Reason::TooShort),
        ("1234123412341", 13, Reason::TooShort),
        ("123412341234120", 14, Reason::TooLong),
        ("abcdefgabcdefg", 6, Reason::InvalidHex),
        ("ABCDEFABCDEFAB", 0, Reason::InvalidHex),
    ] {
        let error = Randomness::parse(text.as_bytes()).unwrap_err();
        assert_eq!(
            (error.offset(), error.reason()),
            (offset, reason),
            "`{text}`"
        );
    }
    assert_eq!(Randomness::new(1 << 56), None);
}

#[test]
fn randomness_is_the_valid_rv_or_else_the_low_56_bits_of_the_trace_id() {
    let id = trace_id("123456789abcde");
    for (value, expected) in [
        ("rv:d29d6a7215ced0", "d29d6a7215ced0"),
        ("th:8", "123456789abcde"),
        ("rv:123", "123456789abcde"),
        ("rv:D29D6A7215CED0", "123456789abcde"),
    ] {
        let state = OtState::parse(value.as_bytes());
        assert_eq!(state.randomness_or(id), rv(expected), "`{value}`");
    }
    assert_eq!(Randomness::from_trace_id(id), rv("123456789abcde"));
}

#[test]
fn sampled_if_and_only_if_r_is_at_least_t() {
    for (threshold, randomness, kept) in [
        ("8", "00000000000000", false),
        ("8", "7fffffffffffff", false),
        ("8", "80000000000000", true),
        ("8", "ffffffffffffff", true),
        ("0", "00000000000000", true),
        ("ffffffffffffff", "ffffffffffffff", true),
        ("ffffffffffffff", "fffffffffffffe", false),
        ("cccd", "cccd0000000000", true),
        ("cccd", "cccccfffffffff", false),
    ] {
        let id = trace_id(randomness);
        assert_eq!(
            th(threshold).keeps(rv(randomness)),
            kept,
            "{threshold} {randomness}"
        );
        assert_eq!(th(threshold).keeps(Randomness::from_trace_id(id)), kept);
    }
}

#[test]
fn what_a_lower_rate_keeps_a_higher_rate_keeps_too() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..1000 {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let r = Randomness::new(random >> 8).unwrap();
        let mut kept_before = false;
        for percent in 1..=100 {
            let t = Threshold::from_probability(f64::from(percent) / 100.0).unwrap();
            assert!(t.keeps(r) || !kept_before);
            kept_before = t.keeps(r);
        }
        assert!(kept_before);
    }
}

#[test]
fn probability_and_adjusted_count_are_reciprocal() {
    for (text, probability, count) in [
        ("0", 1.0, 1.0),
        ("8", 0.5, 2.0),
        ("c", 0.25, 4.0),
        ("e", 0.125, 8.0),
        ("f", 0.0625, 16.0),
        (
            "444",
            1.0 - f64::from(0x444) / 4096.0,
            1.0 / (1.0 - f64::from(0x444) / 4096.0),
        ),
        ("ffffffffffffff", 1.0 / RANGE, RANGE),
    ] {
        assert_eq!(th(text).probability(), probability, "{text}");
        assert_eq!(th(text).adjusted_count(), count, "{text}");
    }
}

#[test]
fn thresholds_order_by_value_not_by_text() {
    assert!(th("5") > th("4"));
    assert!(th("4") > th("04"));
    assert!(th("4") > th("234"));
    assert_eq!(th("4"), th("4000"));
}

#[test]
fn sub_members_are_read_in_any_order_and_unknown_ones_stay() {
    for (value, expected) in [
        ("th:2", "th:2"),
        ("th:ab", "th:ab"),
        ("th:1000", "th:1"),
        ("e100:1", "e100:1"),
        ("e1:1;e2:2", "e1:1;e2:2"),
        ("extra:stuff;th:2", "th:2;extra:stuff"),
        ("e100:100;th:1;e101:101", "th:1;e100:100;e101:101"),
        (
            "a:b;rv:12341234123412;th:1234",
            "th:1234;rv:12341234123412;a:b",
        ),
        ("x:1;u:V", "x:1;u:V"),
        ("x:", "x:"),
        ("x:0X1FFF;y:.-_-.;z:", "x:0X1FFF;y:.-_-.;z:"),
        (
            "x1y2z3:1-2-3;y1:y_1;xy:-;th:50",
            "th:5;x1y2z3:1-2-3;y1:y_1;xy:-",
        ),
    ] {
        assert_eq!(rewritten(value), expected, "`{value}`");
    }
}

#[test]
fn archived_p_and_r_values_pass_through_as_unknown() {
    assert_eq!(rewritten("p:8;r:62"), "p:8;r:62");
    let state = OtState::parse(b"p:8;r:62");
    assert_eq!((state.threshold(), state.randomness()), (None, None));
    assert_eq!(write(&state, Some(th("c")), None), "th:c;p:8;r:62");
}

#[test]
fn malformed_th_and_rv_are_absent_and_not_written_again() {
    for (value, expected) in [
        ("", ""),
        ("th:", ""),
        ("th:$", ""),
        ("th:0x1p+3;a:1", "a:1"),
        ("th:14.5", ""),
        ("th:-1", ""),
        ("th:ffffffffffffffff;a:1", "a:1"),
        ("rv:3;p:2", "p:2"),
        ("rv:100000000000000;a:1", "a:1"),
        ("th:G;rv:22222222222222", "rv:22222222222222"),
    ] {
        assert_eq!(rewritten(value), expected, "`{value}`");
    }
}

#[test]
fn other_malformed_sub_members_are_not_written_again() {
    for (value, expected) in [
        ("th:1;", "th:1"),
        ("x:1;", "x:1"),
        (":;:", ""),
        (":1;u:V", "u:V"),
        ("1:1;u:V", "u:V"),
        ("X:1;u:V", "u:V"),
        ("a;u:V", "u:V"),
        ("th:;p=1", ""),
        ("a:b c;u:V", "u:V"),
        ("a:b:c;u:V", "u:V"),
    ] {
        assert_eq!(rewritten(value), expected, "`{value}`");
    }
}

#[test]
fn of_several_th_the_first_well_formed_one_counts_and_one_goes_out() {
    assert_eq!(rewritten("th:8;th:4"), "th:8");
    assert_eq!(rewritten("th:x;th:4"), "th:4");
}

#[test]
fn sub_members_that_are_not_written_again_are_counted() {
    for (value, malformed) in [
        ("", 0),
        ("th:8;rv:00000000000000;a:b", 0),
        ("th:8;", 0),
        ("th:", 1),
        ("rv:3;p:2", 1),
        ("th:8;th:4", 1),
        ("th:x;th:4", 1),
        (":;:;X:1;a", 4),
    ] {
        let state = OtState::parse(value.as_bytes());
        assert_eq!(state.malformed(), malformed, "`{value}`");
    }
    assert_eq!(OtState::parse(&[b'a'; 257]).malformed(), 1);
}

#[test]
fn dropped_or_forced_spans_lose_th_and_keep_rv() {
    let state = OtState::parse(b"rv:abcdefabcdefab;th:3;a:b");
    assert_eq!(
        write(&state, None, state.randomness()),
        "rv:abcdefabcdefab;a:b"
    );
    let only_th = OtState::parse(b"th:3");
    assert_eq!(write(&only_th, None, only_th.randomness()), "");
}

#[test]
fn an_independent_sampler_overwrites_th_and_a_root_sets_rv() {
    let state = OtState::parse(b"th:8;rv:abcdefabcdefab");
    assert_eq!(
        write(&state, Some(th("3")), state.randomness()),
        "th:3;rv:abcdefabcdefab"
    );
    let root = OtState::empty();
    let randomness = Some(rv("00000000000003"));
    assert_eq!(
        write(&root, Some(th("0")), randomness),
        "th:0;rv:00000000000003"
    );
}

#[test]
fn a_continued_trace_never_gains_rv() {
    let state = OtState::parse(b"th:8");
    assert_eq!(state.randomness(), None);
    assert_eq!(write(&state, Some(th("c")), state.randomness()), "th:c");
}

#[test]
fn a_parent_based_sampler_keeps_th_only_if_it_agrees_with_the_sampled_flag() {
    let (low, high) = (trace_id("7fffffffffffff"), trace_id("80000000000000"));
    for (value, sampled, id, expected) in [
        ("th:8", true, high, Some("8")),
        ("th:8", false, low, Some("8")),
        ("th:8", true, low, None),
        ("th:8", false, high, None),
        ("th:8;rv:80000000000000", true, low, Some("8")),
        ("th:8;rv:7fffffffffffff", true, high, None),
        ("rv:80000000000000", true, high, None),
        ("", true, high, None),
    ] {
        let state = OtState::parse(value.as_bytes());
        let kept = state.consistent_threshold(sampled, id);
        assert_eq!(kept, expected.map(th), "`{value}` {sampled}");
    }
}

#[test]
fn the_value_has_at_most_256_bytes() {
    let fill = |len: usize| format!("x:{}", "_".repeat(len - 2));
    let full = fill(256);
    assert_eq!(rewritten(&full), full);
    assert_eq!(rewritten(&fill(257)), "");

    let state_text = fill(252);
    let state = OtState::parse(state_text.as_bytes());
    let mut out = [0; 300];
    let error = state.write(Some(th("8")), None, &mut out);
    assert_eq!(error, Err(WriteError::LimitTooSmall { needed: 257 }));
    let state_text = fill(251);
    let state = OtState::parse(state_text.as_bytes());
    assert_eq!(state.write(Some(th("8")), None, &mut out), Ok(256));
}

#[test]
fn a_buffer_that_is_too_small_is_an_error_that_names_the_size() {
    let state = OtState::parse(b"a:b");
    let error = state.write(Some(th("8")), None, &mut [0; 7]);
    assert_eq!(error, Err(WriteError::BufferTooSmall { needed: 8 }));
}

#[test]
fn the_member_is_updated_inside_a_tracestate() {
    let state = TraceState::parse(b"rojo=1,ot=th:0;vendor:x,congo=2").unwrap();
    let ot = OtState::parse(state.get(otel::KEY).unwrap());
    let mut value = [0; otel::MAX_LEN];
    let len = ot
        .write(Some(th("8")), ot.randomness(), &mut value)
        .unwrap();
    let own = [Member::new(otel::KEY, &value[..len])];
    let mut out = [0; 512];
    let written = state.write_with(&own, &[], 512, &mut out).unwrap();
    assert_eq!(&out[..written.len], b"ot=th:8;vendor:x,rojo=1,congo=2");
}
