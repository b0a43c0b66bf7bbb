//! Reading one member of a list: an ordinary one in one pass, any other with care.

use super::TraceStateErrorReason as Reason;
use super::{MAX_KEY_LEN, MAX_VALUE_LEN};
use crate::bytes::{self, Pair};

/// Offset and reason.
pub(super) type Failure = (usize, Reason);

/// Reads the member at the start if it has no white space around it and is right; returns what
/// follows it.
#[inline]
pub(super) fn plain(from: &[u8]) -> Option<Pair<'_>> {
    let pair = bytes::pair(from, bytes::STATE_KEY, bytes::STATE_VALUE)?;
    let right = bytes::is(*pair.key.first()?, bytes::LOWER_OR_DIGIT)
        && *pair.value.last()? != b' '
        && pair.key.len() <= MAX_KEY_LEN
        && pair.value.len() <= MAX_VALUE_LEN;
    right.then_some(pair)
}

/// Reads any member at the start, which has no leading white space and is not empty, and returns
/// what follows its comma.
#[cold]
#[inline(never)]
pub(super) fn member(from: &[u8]) -> Result<Pair<'_>, Failure> {
    let (key_len, value_part) = key(from)?;
    let value_at = key_len + 1;
    let (value_len, after) = value(value_part).map_err(|(at, why)| (value_at + at, why))?;
    Ok(Pair {
        key: from.get(..key_len).unwrap_or_default(),
        value: value_part.get(..value_len).unwrap_or_default(),
        raw: from.get(..value_at + value_len).unwrap_or_default(),
        after,
    })
}

/// Reads a key and its equals sign; returns the length of the key and what follows the sign.
#[inline]
fn key(from: &[u8]) -> Result<(usize, &[u8]), Failure> {
    let len = bytes::span(from, bytes::STATE_KEY);
    let (key, after) = from.split_at_checked(len).unwrap_or((from, &[]));
    let [b'=', value_part @ ..] = after else {
        // White space before the end of the member does not change that the sign is missing.
        return Err(match bytes::trim_start(after).first() {
            None | Some(b',') => (len, Reason::MissingEquals),
            Some(_) => (len, Reason::InvalidKey),
        });
    };
    match key.first() {
        None => Err((0, Reason::EmptyKey)),
        Some(&first) if !bytes::is(first, bytes::LOWER_OR_DIGIT) => Err((0, Reason::InvalidKey)),
        Some(_) if len > MAX_KEY_LEN => Err((MAX_KEY_LEN, Reason::KeyTooLong)),
        Some(_) => Ok((len, value_part)),
    }
}

/// Reads a value up to the end of the member; returns its length and what follows the comma.
#[inline]
fn value(from: &[u8]) -> Result<(usize, &[u8]), Failure> {
    let span = bytes::span(from, bytes::STATE_VALUE);
    let (spaced, after) = from.split_at_checked(span).unwrap_or((from, &[]));
    // Trailing white space belongs to the list. A tab is not a value character, so it ends the
    // span; it is right only if nothing but white space follows up to the comma.
    let rest = match bytes::trim_start(after) {
        [] => &[],
        [b',', rest @ ..] => rest,
        _ => return Err((span, Reason::InvalidValue)),
    };
    match bytes::trim_end(spaced).len() {
        0 => Err((0, Reason::EmptyValue)),
        len @ 1..=MAX_VALUE_LEN => Ok((len, rest)),
        _ => Err((MAX_VALUE_LEN, Reason::ValueTooLong)),
    }
}
