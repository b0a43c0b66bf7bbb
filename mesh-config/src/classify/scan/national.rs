//! International bank account numbers and British national insurance numbers.

use super::pii;
use super::text::{at, begins, ends, part};
use crate::classify::{Finding, Kind};

/// Lengths of the IBANs of the SWIFT registry, by country, sorted.
const IBAN_LENGTHS: [(&[u8; 2], usize); 78] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"XK", 20),
];

/// The number that begins with the capital at `start`.
#[inline(never)]
pub(super) fn begin(value: &[u8], start: usize) -> Option<Finding> {
    if !begins(value, start) {
        return None;
    }
    if let Some(end) = iban(value, start) {
        return Some(pii(Kind::Iban, start, end));
    }
    nino(value, start).map(|end| pii(Kind::UkNino, start, end))
}

/// The end of an IBAN: letters and digits of the country's length, plain or in groups of four, with
/// the remainder 1 by 97 (ISO 7064).
fn iban(value: &[u8], start: usize) -> Option<usize> {
    let country = part(value, start, start + 2);
    let found = IBAN_LENGTHS
        .binary_search_by(|(code, _)| code.as_slice().cmp(country))
        .ok()?;
    let (_, length) = IBAN_LENGTHS.get(found)?;
    let grouped = at(value, start + 4) == b' ';
    let (mut index, mut seen, mut head, mut remainder) = (start, 0, [0; 4], 0);
    while seen < *length {
        let byte = at(value, index);
        if grouped && byte == b' ' && seen > 0 && seen % 4 == 0 && at(value, index - 1) != b' ' {
            index += 1;
            continue;
        }
        let digit = base_36(byte)?;
        // The first four are taken last.
        match head.get_mut(seen) {
            Some(place) => *place = digit,
            None => remainder = shift_in(remainder, digit),
        }
        seen += 1;
        index += 1;
    }
    let [_, _, check_a, check_b] = head;
    let remainder = head.into_iter().fold(remainder, shift_in);
    (remainder == 1 && check_a < 10 && check_b < 10 && ends(value, index)).then_some(index)
}

/// 0 to 9, and 10 to 35 for capitals.
fn base_36(byte: u8) -> Option<u32> {
    match byte {
        b'0'..=b'9' => Some(u32::from(byte - b'0')),
        b'A'..=b'Z' => Some(u32::from(byte - b'A') + 10),
        _ => None,
    }
}

/// Appends one or two decimal digits to a number of which only the remainder by 97 is kept.
fn shift_in(remainder: u32, digit: u32) -> u32 {
    let shift = if digit < 10 { 10 } else { 100 };
    (remainder * shift + digit) % 97
}

/// The end of a national insurance number: `QQ 12 34 56 C`, plain or in pairs, with a prefix that is
/// issued.
fn nino(value: &[u8], start: usize) -> Option<usize> {
    let (first, second) = (at(value, start), at(value, start + 1));
    let letter = |byte: u8| byte.is_ascii_uppercase() && !b"DFIQUV".contains(&byte);
    if !letter(first) || !letter(second) || second == b'O' {
        return None;
    }
    if matches!(
        &[first, second],
        b"BG" | b"GB" | b"NK" | b"KN" | b"TN" | b"NT" | b"ZZ"
    ) {
        return None;
    }
    let gap = usize::from(at(value, start + 2) == b' ');
    let mut index = start + 2;
    for _ in 0..3 {
        index += gap;
        if gap == 1 && at(value, index - 1) != b' ' {
            return None;
        }
        if !part(value, index, index + 2).iter().all(u8::is_ascii_digit) {
            return None;
        }
        index += 2;
    }
    if gap == 1 && at(value, index) == b' ' {
        index += 1;
    }
    let end = index + 1;
    (matches!(at(value, index), b'A'..=b'D') && ends(value, end)).then_some(end)
}
