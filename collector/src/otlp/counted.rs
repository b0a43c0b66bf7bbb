//! How many spans a span stands for: 1 / probability from the `ot=th:..` of its trace state.
//!
//! The parser of trace states reads and checks everything, for people who pass it on. Here one
//! number is wanted of each span, so lists of the usual form are read by a walk over their bytes;
//! all others go to the parser, and both say the same.

use w3c_traceparent_parser::otel::OtState;
use w3c_traceparent_parser::tracestate::TraceState;

/// Longest key and value that are certainly right, and most members of a list.
const MAX_KEY: usize = 64;
const MAX_VALUE: usize = 256;
const MAX_MEMBERS: usize = 32;

/// The count, if the trace state has a threshold.
pub(super) fn adjusted_count(trace_state: &str) -> Option<f64> {
    if trace_state.is_empty() {
        return None;
    }
    let list = trace_state.as_bytes();
    let ot = match usual(list) {
        Some(ot) => ot,
        None => TraceState::parse(list).ok()?.get(b"ot"),
    }?;
    // The parser reads no longer one.
    if ot.len() > MAX_VALUE {
        return None;
    }
    // The first well-formed one counts; what stands beside it does not matter.
    let mut pieces = ot.split(|byte| *byte == b';');
    let threshold = pieces
        .by_ref()
        .filter(|piece| piece.starts_with(b"th:"))
        .find_map(|piece| OtState::parse(piece).threshold())?;
    Some(threshold.adjusted_count())
}

/// The value of the first `ot` in a list without anything unusual; `None` when the list needs the
/// parser.
fn usual(list: &[u8]) -> Option<Option<&[u8]>> {
    let (mut found, mut members, mut rest) = (None, 0, list);
    loop {
        let key_len = rest.iter().take_while(|byte| is_key(**byte)).count();
        let (key, after) = rest.split_at_checked(key_len)?;
        let [b'=', after @ ..] = after else {
            return None;
        };
        let value_len = after.iter().take_while(|byte| is_value(**byte)).count();
        let (value, after) = after.split_at_checked(value_len)?;
        let is_right = key.first()?.is_ascii_lowercase() && key_len <= MAX_KEY;
        members += 1;
        if !is_right || !(1..=MAX_VALUE).contains(&value_len) || members > MAX_MEMBERS {
            return None;
        }
        if key == b"ot" && found.is_none() {
            found = Some(value);
        }
        match after {
            [] => return Some(found),
            [b',', after @ ..] => rest = after,
            _ => return None,
        }
    }
}

fn is_key(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'
}

fn is_value(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b';' | b'_' | b'-' | b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the parser alone.
    fn parsed(trace_state: &str) -> Option<f64> {
        let state = TraceState::parse(trace_state.as_bytes()).ok()?;
        let threshold = OtState::parse(state.get(b"ot")?).threshold()?;
        Some(threshold.adjusted_count())
    }

    #[test]
    fn the_short_way_says_what_the_parser_says() {
        let pieces = [
            "ot",
            "=",
            ",",
            ";",
            ":",
            "th",
            "rv",
            "th:8",
            "th:c",
            "th:",
            "th:e66",
            "th:C",
            "rv:14bd29d6a7215c",
            "ot=th:8",
            "ot=rv:1;th:c;th:8",
            "cost_usd=0.5",
            "data_tag=PII",
            "v@x=1",
            " ",
            "\t",
            "a",
            "A",
            "é",
            "a=b=c",
            "x=",
            "=x",
            "th:123456789abcdef",
        ];
        let mut random = fastrand::Rng::with_seed(17);
        let (mut usual_ones, mut counted) = (0, 0);
        for _ in 0..200_000 {
            let mut list = String::new();
            for _ in 0..random.usize(1..9) {
                list.push_str(pieces[random.usize(0..pieces.len())]);
                if random.u8(0..3) == 0 {
                    list.push_str([",", "=", ";"][random.usize(0..3)]);
                }
            }
            let expected = parsed(&list);
            assert_eq!(adjusted_count(&list), expected, "{list:?}");
            usual_ones += usize::from(usual(list.as_bytes()).is_some());
            counted += usize::from(expected.is_some());
        }
        assert!(
            usual_ones > 1_000 && counted > 1_000,
            "{usual_ones} {counted}"
        );
        let long = |len| format!("ot={}", "th:8;".repeat(len));
        for list in [
            long(51),
            long(52),
            "a=1,".repeat(31) + "ot=th:8",
            "a=1,".repeat(32) + "ot=th:8",
        ] {
            assert_eq!(adjusted_count(&list), parsed(&list), "{list:?}");
        }
    }
}
