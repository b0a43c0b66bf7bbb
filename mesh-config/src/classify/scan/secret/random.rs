//! Keys without any mark, told from words by how random they look.
//!
//! A random key in base64 changes between capitals, small letters and digits at three of five
//! bytes, and repeats few bytes. Names made of words (`OrderServiceV2Factory`) change rarely and are
//! mostly small letters in a row.
//! Hexadecimal text is never taken for a secret: in traces it is an id or a digest.

use super::super::text::{at, part};
use super::super::{run, sensitive};
use crate::classify::{Finding, Kind};

/// Bytes of the shortest key that is looked for: 128 bits in base64 without padding have 22, but at
/// that length random ids of 21 and 22 bytes are as common as keys.
const MIN_BYTES: usize = 24;
/// Bytes of the longest key; longer base64 is data.
const MAX_BYTES: usize = 128;

/// Of a hundred bytes of a random key about 20 lie in words, of a name made of words 60 and more.
const MAX_WORDS_PERCENT: usize = 45;

/// The key that begins at `start`.
pub(super) fn begin(value: &[u8], start: usize) -> Option<Finding> {
    let in_segment = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let in_key = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    let in_either = |byte: u8| in_segment(byte) || in_key(byte);
    if run(value, start, MIN_BYTES, in_either) < start + MIN_BYTES {
        return None;
    }
    let before = start.checked_sub(1).map_or(0, |before| at(value, before));
    if in_segment(before) {
        // Behind a hyphen of a compound only letters and digits are looked at, so that a long
        // compound is not read again from each of its parts.
        let end = run(value, start, MAX_BYTES + 1, |byte| {
            byte.is_ascii_alphanumeric()
        });
        return if looks_random(part(value, start, end), 35) {
            finding(value, start, end)
        } else {
            None
        };
    }
    if !in_key(before) {
        let end = run(value, start, MAX_BYTES + 1, in_key);
        let key = part(value, start, end);
        // A path looks like base64 with slashes; it takes more to be a key.
        let mixed = key.contains(&b'/') || key.contains(&b'+');
        if mixed && key.len() >= 40 && looks_random(key, 45) {
            return finding(value, start, end);
        }
    }
    let end = run(value, start, MAX_BYTES + 1, in_segment);
    if looks_random(part(value, start, end), 35) {
        finding(value, start, end)
    } else {
        None
    }
}

/// A finding with the padding of base64.
fn finding(value: &[u8], start: usize, end: usize) -> Option<Finding> {
    Some(sensitive(
        Kind::RandomSecret,
        start,
        run(value, end, 2, |byte| byte == b'='),
    ))
}

/// The class of a byte for counting changes.
fn class(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' => 1,
        b'A'..=b'Z' => 2,
        b'0'..=b'9' => 3,
        _ => 4,
    }
}

/// Whether a text has the length, the mixture and the variety of a random key. `changes_percent` is
/// how many of a hundred neighbours must differ in class; random base64 has 62.
fn looks_random(key: &[u8], changes_percent: usize) -> bool {
    if !(MIN_BYTES..=MAX_BYTES).contains(&key.len()) {
        return false;
    }
    let count = |wanted: u8| key.iter().filter(|byte| class(**byte) == wanted).count();
    let (small, capital, digits, other) = (count(1), count(2), count(3), count(4));
    let least = key.len() / 12;
    // Separators all through it make a compound name.
    if small.min(capital) < least.max(3) || digits < 2 || other > key.len() / 10 {
        return false;
    }
    let pairs = key.iter().zip(key.iter().skip(1));
    let changes = pairs.filter(|(a, b)| class(**a) != class(**b)).count();
    changes * 100 >= changes_percent * (key.len() - 1)
        && distinct(key) * 100 >= 50 * key.len().min(40)
        && in_words(key) * 100 <= MAX_WORDS_PERCENT * key.len()
}

/// How many different bytes there are.
fn distinct(key: &[u8]) -> usize {
    let mut seen = [false; 256];
    let mut distinct = 0;
    for byte in key {
        if let Some(place) = seen.get_mut(usize::from(*byte)) {
            distinct += usize::from(!*place);
            *place = true;
        }
    }
    distinct
}

/// How many bytes lie in three or more small letters in a row.
fn in_words(key: &[u8]) -> usize {
    let runs = key.split(|byte| !byte.is_ascii_lowercase());
    runs.map(<[u8]>::len).filter(|length| *length >= 3).sum()
}
