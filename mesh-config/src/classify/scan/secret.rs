//! Tokens, keys and passwords.

mod issued;
mod random;

use super::text::{at, is_word, part};
use super::{Possible, pii, run, sensitive};
use crate::DataTag;
use crate::classify::{Detectors, Finding, Kind, names};

/// Bytes of the longest token that is looked for; a web token with many claims is 2 to 4 kB.
const MAX_TOKEN_BYTES: usize = 8192;
/// Bytes of the longest header of a web token; with key ids and certificate hashes it has up to 300.
const MAX_TOKEN_HEADER_BYTES: usize = 512;
/// Bytes of the longest name that may stand before `=`.
const MAX_INLINE_NAME_BYTES: usize = 64;
/// Bytes of the shortest value behind a name that is worth hiding.
const MIN_NAMED_BYTES: usize = 3;
/// Values that say that there is no secret.
const NO_SECRET: [&[u8]; 10] = [
    b"true",
    b"false",
    b"null",
    b"none",
    b"nil",
    b"undefined",
    b"redacted",
    b"masked",
    b"required",
    b"missing",
];

/// The secret that begins with the word at `start`.
pub(super) fn begin(
    value: &[u8],
    start: usize,
    possible: Possible,
    on: &Detectors,
) -> Option<Finding> {
    let web_token = if possible.tokens() && at(value, start) == b'e' {
        json_web_token(value, start)
    } else {
        None
    };
    let only = |possible: bool| possible.then_some(());
    web_token
        .or_else(|| only(possible.tokens()).and_then(|()| issued::begin(value, start)))
        .or_else(|| only(possible.credentials()).and_then(|()| authorization(value, start)))
        .or_else(|| only(possible.marks()).and_then(|()| named_value(value, start, on)))
        .or_else(|| only(possible.tokens()).and_then(|()| random::begin(value, start)))
}

/// Bytes of base64url.
fn is_base64_url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// `eyJ..` + `.` + `eyJ..` + `.` + signature: two JSON objects in base64url. An encrypted token has
/// five parts of which only the first is JSON. The first part is short in both, so that many false
/// beginnings cost little.
#[inline(never)]
fn json_web_token(value: &[u8], start: usize) -> Option<Finding> {
    let before = start.checked_sub(1).map_or(0, |before| at(value, before));
    if part(value, start, start + 3) != b"eyJ" || is_base64_url(before) {
        return None;
    }
    let mut end = start;
    let mut parts = 0;
    let mut second_is_json = false;
    while parts < 5 {
        let from = if parts == 0 { start } else { end + 1 };
        let limit = if parts == 0 {
            MAX_TOKEN_HEADER_BYTES
        } else {
            MAX_TOKEN_BYTES
        };
        end = run(value, from, limit, is_base64_url);
        if parts == 1 {
            second_is_json = part(value, from, from + 3) == b"eyJ";
        }
        parts += 1;
        if at(value, end) != b'.' {
            break;
        }
    }
    let long_enough = end - start >= 30;
    let complete = parts == 3 && second_is_json || parts == 5;
    (complete && long_enough).then(|| sensitive(Kind::Jwt, start, end))
}

/// `-----BEGIN .. PRIVATE KEY-----` to the matching end, or to the end of what is scanned.
#[inline(never)]
pub(super) fn private_key(value: &[u8], start: usize) -> Option<Finding> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    const KIND: &[u8] = b"PRIVATE KEY";
    if part(value, start, start + BEGIN.len()) != BEGIN {
        return None;
    }
    let label_end = start + BEGIN.len() + 32;
    let label = part(value, start + BEGIN.len(), label_end);
    if !label.windows(KIND.len()).any(|window| window == KIND) {
        return None;
    }
    let rest = part(value, start + BEGIN.len(), value.len());
    let closing = rest.windows(9).position(|window| window == b"-----END ");
    let end = closing.map_or(value.len(), |offset| {
        let footer = start + BEGIN.len() + offset + 9;
        let line = run(value, footer, 40, |byte| byte != b'-');
        run(value, line, 5, |byte| byte == b'-')
    });
    Some(sensitive(Kind::PrivateKey, start, end))
}

/// `Bearer <token>`, or `Basic <base64 of user:password>`.
#[inline(never)]
fn authorization(value: &[u8], start: usize) -> Option<Finding> {
    if !at(value, start).eq_ignore_ascii_case(&b'b') {
        return None;
    }
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    let credentials = |scheme: &[u8]| {
        let after = start + scheme.len();
        let matches = part(value, start, after).eq_ignore_ascii_case(scheme);
        let from = run(value, after, 4, |byte| byte == b' ');
        (matches && from > after).then(|| (from, run(value, from, MAX_TOKEN_BYTES, is_token)))
    };
    if let Some((from, end)) = credentials(b"bearer") {
        let token = part(value, from, end);
        // `bearer token required` is prose; a token holds digits.
        let random = token.len() >= 12 && token.iter().any(u8::is_ascii_digit);
        return random.then(|| sensitive(Kind::AuthorizationValue, from, end));
    }
    let (from, end) = credentials(b"basic")?;
    let pair = part(value, from, end);
    (pair.len() >= 4 && decodes_to_pair(pair))
        .then(|| sensitive(Kind::AuthorizationValue, from, end))
}

/// Whether base64 decodes to text with a colon.
fn decodes_to_pair(encoded: &[u8]) -> bool {
    let (mut bits, mut filled, mut colon) = (0_u32, 0, false);
    for byte in encoded.iter().take_while(|byte| **byte != b'=') {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return false,
        };
        bits = bits << 6 | u32::from(digit);
        filled += 6;
        if filled >= 8 {
            filled -= 8;
            let decoded = (bits >> filled) as u8;
            if decoded < b' ' || decoded == 0x7f {
                return false;
            }
            colon |= decoded == b':';
        }
        bits &= (1 << filled) - 1;
    }
    colon
}

/// `name=value`, `"name":"value"` or `name: value` (the last only for passwords), when the name is
/// that of a secret.
#[inline(never)]
fn named_value(value: &[u8], start: usize, on: &Detectors) -> Option<Finding> {
    let in_name = |byte: u8| is_word(byte) || byte == b'-' || byte == b'.';
    let name_end = run(value, start, MAX_INLINE_NAME_BYTES, in_name);
    let quoted = matches!(at(value, name_end), b'"' | b'\'');
    let mark = name_end + usize::from(quoted);
    let spaced = run(value, mark, 1, |byte| byte == b' ');
    let prose = match at(value, spaced) {
        b'=' => false,
        b':' => !quoted,
        _ => return None,
    };
    let name = part(value, start, name_end);
    let tag = on.names.then(|| names::classify_inline(name)).flatten()?;
    if prose && !ends_with(name, b"password") {
        return None;
    }
    let mut from = run(value, spaced + 1, 2, |byte| byte == b' ');
    from = run(value, from, 2, |byte| {
        byte == b'"' || byte == b'\'' || byte == b'\\'
    });
    if b"*<[{$%".contains(&at(value, from)) {
        return None;
    }
    let is_value = |byte: u8| byte > b' ' && !b"&;,\"'<>}])|\\".contains(&byte);
    let end = run(value, from, MAX_TOKEN_BYTES, is_value);
    let found = part(value, from, end);
    if found.len() < MIN_NAMED_BYTES
        || NO_SECRET
            .iter()
            .any(|word| word.eq_ignore_ascii_case(found))
    {
        return None;
    }
    Some(match tag {
        DataTag::Pii => pii(Kind::NamedValue, from, end),
        _ => sensitive(Kind::NamedValue, from, end),
    })
}

/// Whether a name ends with a lower-case word, in any case.
fn ends_with(name: &[u8], lower: &[u8]) -> bool {
    let tail = name
        .len()
        .checked_sub(lower.len())
        .and_then(|from| name.get(from..));
    tail.is_some_and(|tail| tail.eq_ignore_ascii_case(lower))
}
