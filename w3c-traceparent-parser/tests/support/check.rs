//! What must hold for every input. The property tests, the fuzz targets and the replay of the
//! corpus call the same four functions.

#[path = "oracle.rs"]
mod oracle;

use oracle::Pair;
use w3c_traceparent_parser::baggage::{self, Baggage};
use w3c_traceparent_parser::otel::{OtState, Randomness, Threshold};
use w3c_traceparent_parser::tracestate::{Member, TraceState};
use w3c_traceparent_parser::{TraceParent, TraceParentErrorReason as Reason, WriteError};

pub(crate) fn traceparent(value: &[u8]) {
    let parsed = TraceParent::parse(value);
    let seen = parsed
        .map(|p| (p.trace_id.to_u128(), p.parent_id.to_u64(), p.flags.bits()))
        .map_err(|error| error.offset());
    assert_eq!(seen, oracle::traceparent(value), "{}", value.escape_ascii());

    match parsed {
        Ok(parsed) => {
            let written = parsed.to_bytes();
            assert_eq!(TraceParent::parse(&written), Ok(parsed));
            assert_eq!(&written[..3], b"00-");
            assert_eq!(parsed.to_string().as_bytes(), written);
        }
        Err(error) => match error.reason() {
            Reason::Empty | Reason::TooShort => {
                assert!(value[error.offset()..].iter().all(|b| b" \t".contains(b)));
            }
            _ => assert!(error.offset() < value.len()),
        },
    }
}

const STATE_KEYS: [&[u8]; 4] = [b"ot", b"cost_usd", b"data_tag", b"a"];

/// The first byte chooses own members and limit, the rest is the lines, separated by line feeds.
pub(crate) fn tracestate(data: &[u8]) {
    let (&choice, data) = data.split_first().unwrap_or((&0, &[]));
    let lines: Vec<&[u8]> = data.split(|&byte| byte == b'\n').collect();
    let parsed = TraceState::parse_lines(lines.iter().copied());
    let expected = oracle::tracestate(&lines);
    assert_eq!(
        parsed.is_ok(),
        expected.is_some(),
        "{}",
        data.escape_ascii()
    );
    let (state, expected) = match (parsed, expected) {
        (Ok(state), Some(expected)) => (state, expected),
        (Err(error), _) => {
            assert!(error.offset() <= lines[error.line()].len());
            return;
        }
        _ => return,
    };
    let seen: Vec<Pair> = state
        .iter()
        .map(|member| (member.key.to_vec(), member.value.to_vec()))
        .collect();
    assert_eq!(seen, expected);
    for (key, _) in &expected {
        let first = expected.iter().find(|other| other.0 == *key).unwrap();
        assert_eq!(state.get(key), Some(first.1.as_slice()));
    }

    let own: Vec<Member<'_>> = STATE_KEYS[..usize::from(choice % 5)]
        .iter()
        .map(|key| Member::new(key, b"0.0001"))
        .collect();
    let remove: &[&[u8]] = if choice & 0x40 == 0 {
        &[]
    } else {
        &[b"b", b"rojo"]
    };
    let limit = if choice & 0x80 == 0 { 512 } else { 64 };
    write_tracestate(&state, &expected, &own, remove, limit);
}

fn write_tracestate(
    state: &TraceState<'_>,
    foreign: &[Pair],
    own: &[Member<'_>],
    remove: &[&[u8]],
    limit: usize,
) {
    let own_pairs: Vec<Pair> = own
        .iter()
        .map(|member| (member.key.to_vec(), member.value.to_vec()))
        .collect();
    let (line, dropped) = oracle::write_tracestate(foreign, &own_pairs, remove, limit);
    let mut out = [0; 512];
    let written = state.write_with(own, remove, limit, &mut out).unwrap();
    assert_eq!(
        out[..written.len].escape_ascii().to_string(),
        line.escape_ascii().to_string()
    );
    assert_eq!(written.dropped, dropped);

    let again = TraceState::parse(&line).unwrap();
    assert_eq!(again.len(), written.members);
    // A second hop with the same own members changes nothing: they do not pile up.
    let mut second = [0; 512];
    let rewritten = again.write_with(own, remove, limit, &mut second).unwrap();
    assert_eq!(second[..rewritten.len], line);

    if let Some(short) = written.len.checked_sub(1) {
        let error = state.write_with(own, remove, limit, &mut out[..short]);
        let needed = written.len;
        assert_eq!(error, Err(WriteError::BufferTooSmall { needed }));
    }
}

const BAGGAGE_KEYS: [&[u8]; 3] = [b"cost_usd", b"data_tag", b"a"];

/// The first byte chooses own members and limits, the rest is the lines, separated by line feeds.
pub(crate) fn baggage(data: &[u8]) {
    let (&choice, data) = data.split_first().unwrap_or((&0, &[]));
    let lines: Vec<&[u8]> = data
        .split(|&byte| byte == b'\n')
        .take(baggage::MAX_LINES)
        .collect();
    let seen = Baggage::parse_lines(lines.iter().copied());
    let (members, malformed) = oracle::baggage(&lines);
    assert_eq!(seen.len(), members.len(), "{}", data.escape_ascii());
    assert_eq!((seen.malformed(), seen.overflowed()), (malformed, 0));
    for (seen, expected) in seen.iter().zip(&members) {
        assert_eq!(
            (seen.key, seen.value),
            (&expected.key[..], &expected.value[..])
        );
        assert_eq!(seen.raw, expected.raw);
        let properties: Vec<_> = seen
            .iter_properties()
            .map(|property| (property.key.to_vec(), property.value.map(<[u8]>::to_vec)))
            .collect();
        assert_eq!(properties, expected.properties);
        percent(seen.value);
    }
    percent(data);

    let own: Vec<(&[u8], &[u8])> = BAGGAGE_KEYS[..usize::from(choice % 4)]
        .iter()
        .map(|&key| (key, &b"x%20y"[..]))
        .collect();
    let own_pairs: Vec<Pair> = own
        .iter()
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect();
    let remove: &[&[u8]] = if choice & 0x40 == 0 {
        &[]
    } else {
        &[b"b", b"userId"]
    };
    let (max_members, max_bytes) = if choice & 0x80 == 0 {
        (64, 8192)
    } else {
        (4, 60)
    };
    let (line, dropped) =
        oracle::write_baggage(&members, &own_pairs, remove, max_members, max_bytes);
    let mut out = vec![0; max_bytes];
    let written = seen
        .write_with(&own, remove, max_members, max_bytes, &mut out)
        .unwrap();
    assert_eq!(
        out[..written.len].escape_ascii().to_string(),
        line.escape_ascii().to_string()
    );
    assert_eq!(written.dropped, dropped);
    let again = Baggage::parse(&line);
    assert_eq!((again.len(), again.malformed()), (written.members, 0));
}

fn percent(value: &[u8]) {
    let mut decoded = vec![0; value.len() * 3];
    let decoded = baggage::percent_decode(value, &mut decoded).unwrap();
    assert_eq!(
        str::from_utf8(decoded).unwrap(),
        oracle::percent_decode(value)
    );

    let mut encoded = vec![0; decoded.len() * 3];
    let encoded = baggage::percent_encode(decoded, &mut encoded).unwrap();
    assert!(baggage::is_value(encoded));
    let mut back = vec![0; encoded.len() * 3];
    assert_eq!(
        baggage::percent_decode(encoded, &mut back).unwrap(),
        decoded
    );
}

pub(crate) fn ot(value: &[u8]) {
    let state = OtState::parse(value);
    let expected = oracle::ot(value);
    assert_eq!(state.threshold().map(Threshold::value), expected.threshold);
    assert_eq!(
        state.randomness().map(Randomness::value),
        expected.randomness
    );
    assert_eq!(state.malformed(), expected.malformed);
    let unknown: Vec<Pair> = state
        .unknown()
        .map(|member| (member.key.to_vec(), member.value.to_vec()))
        .collect();
    assert_eq!(unknown, expected.unknown, "{}", value.escape_ascii());

    let mut out = [0; 256];
    let threshold = state.threshold().or(Threshold::new(1));
    let Ok(len) = state.write(threshold, state.randomness(), &mut out) else {
        // Only a value that is nearly full cannot take a threshold.
        assert!(value.len() > 256 - "th:00000000000001;".len());
        return;
    };
    let written = OtState::parse(&out[..len]);
    assert_eq!(written.threshold(), threshold);
    assert_eq!(written.randomness(), state.randomness());
    assert!(written.unknown().eq(state.unknown()));
    if let Some(threshold) = threshold {
        let again = Threshold::parse(threshold.to_string().as_bytes());
        assert_eq!(again, Ok(threshold));
        let count = threshold.adjusted_count() * threshold.probability();
        assert!((count - 1.0).abs() < 1e-12);
    }
}
