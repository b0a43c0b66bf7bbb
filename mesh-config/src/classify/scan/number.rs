//! Payment cards, social security numbers and telephone numbers: digits in groups.

use super::pii;
use super::text::{at, begins, encoded, ends, is_word, part};
use crate::classify::{Detectors, Finding, Kind};

/// Digits of the longest number that is looked for.
const MAX_DIGITS: usize = 19;
/// Digits of the longest telephone number, country code included.
const MAX_PHONE_DIGITS: usize = 15;
/// Groups of the most divided number: a telephone number in pairs.
const MAX_GROUPS: usize = 8;

/// Groups of digits with one separator between two of them.
#[derive(Clone, Copy)]
struct Digits {
    digits: [u8; MAX_DIGITS],
    len: usize,
    /// Lengths of the groups.
    groups: [usize; MAX_GROUPS],
    group_count: usize,
    /// The separator when all are the same byte; zero without any or with different ones.
    separator: u8,
    end: usize,
}

impl Digits {
    /// Reads groups of digits from `start`. `None` when there are more than any number has.
    fn read(value: &[u8], start: usize, separators: &[u8]) -> Option<Self> {
        let mut digits = [0; MAX_DIGITS];
        let mut groups = [0; MAX_GROUPS];
        let (mut len, mut group, mut separator) = (0, 0, None);
        let mut index = start;
        loop {
            let byte = at(value, index);
            if byte.is_ascii_digit() {
                *digits.get_mut(len)? = byte - b'0';
                *groups.get_mut(group)? += 1;
                len += 1;
            } else if separators.contains(&byte)
                && at(value, index + 1).is_ascii_digit()
                && at(value, index.saturating_sub(1)).is_ascii_digit()
            {
                separator = match separator {
                    None => Some(byte),
                    Some(same) if same == byte => Some(same),
                    Some(_) => Some(0),
                };
                group += 1;
            } else {
                break;
            }
            index += 1;
        }
        let separator = separator.unwrap_or(0);
        Some(Self {
            digits,
            len,
            groups,
            group_count: group + 1,
            separator,
            end: index,
        })
    }

    fn digits(&self) -> &[u8] {
        self.digits.get(..self.len).unwrap_or_default()
    }

    fn groups(&self) -> &[usize] {
        self.groups.get(..self.group_count).unwrap_or_default()
    }

    /// The first `count` digits as a number.
    fn prefix(&self, count: usize) -> u32 {
        self.digits()
            .iter()
            .take(count)
            .fold(0, |sum, digit| sum * 10 + u32::from(*digit))
    }
}

/// The number that begins with the digit at `start`.
#[inline(never)]
pub(super) fn begin(value: &[u8], start: usize, on: &Detectors) -> Option<Finding> {
    if !begins(value, start) {
        return None;
    }
    let digits = Digits::read(value, start, b" -")?;
    if on.card && ends(value, digits.end) && is_card(&digits) {
        return Some(pii(Kind::PaymentCard, start, digits.end));
    }
    if on.national_id && ends(value, digits.end) && is_ssn(&digits) {
        return Some(pii(Kind::UsSsn, start, digits.end));
    }
    if on.phone {
        north_american(value, start, start)
    } else {
        None
    }
}

/// A card number: lengths and prefixes of the issuers, the usual groups, and the check digit.
fn is_card(digits: &Digits) -> bool {
    let (two, three, four) = (digits.prefix(2), digits.prefix(3), digits.prefix(4));
    let issued = match digits.len {
        14 => matches!(three, 300..=305 | 309) || matches!(two, 36 | 38 | 39),
        15 => matches!(two, 34 | 37),
        16 => {
            matches!(digits.prefix(1), 4)
                || matches!(two, 51..=55 | 62 | 65)
                || matches!(three, 644..=649)
                || matches!(four, 2221..=2720 | 3528..=3589 | 6011)
                || matches!(four, 5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763)
        }
        17..=19 => matches!(two, 62),
        _ => false,
    };
    let grouped = matches!(
        digits.groups(),
        [_] | [4, 6, 4 | 5] | [4, 4, 4, 1..=4] | [4, 4, 4, 4, 1..=3]
    );
    // One digit all the way through has a right check digit for some digits, and is filler.
    let varied = digits
        .digits()
        .windows(2)
        .any(|pair| pair.first() != pair.last());
    issued
        && grouped
        && (digits.group_count == 1 || digits.separator != 0)
        && varied
        && has_luhn_digit(digits.digits())
}

/// The check of ISO/IEC 7812: every second digit from the right counts twice.
fn has_luhn_digit(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .zip([false, true].into_iter().cycle())
        .map(|(digit, twice)| match (u32::from(*digit), twice) {
            (digit, false) => digit,
            (digit, true) if digit >= 5 => 2 * digit - 9,
            (digit, true) => 2 * digit,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// `AAA-GG-SSSS`, without the areas, groups and serials that are never issued.
fn is_ssn(digits: &Digits) -> bool {
    let area = digits.prefix(3);
    let group = digits.prefix(5) % 100;
    let serial = digits.prefix(9) % 10_000;
    digits.groups() == [3, 2, 4]
        && digits.separator != 0
        && !matches!(area, 0 | 666 | 900..)
        && group != 0
        && serial != 0
}

/// The telephone number that begins with `+`, its percent-encoded form, or a bracket.
#[inline(never)]
pub(super) fn phone(value: &[u8], start: usize) -> Option<Finding> {
    let before = start.checked_sub(1).map_or(0, |before| at(value, before));
    if before.is_ascii_alphanumeric() || before == b'+' {
        return None;
    }
    if at(value, start) == b'(' {
        return north_american(value, start + 1, start);
    }
    let plus = encoded(value, start, b'+', b"2b");
    if plus == 0 {
        return None;
    }
    // E.164: a country code that does not begin with zero, 8 to 15 digits in all.
    if !matches!(at(value, start + plus), b'1'..=b'9') {
        return None;
    }
    let (mut digits, mut gap, mut end) = (0, 0, 0);
    // Where the number ends if other digits follow it: at the first gap behind enough digits.
    let mut group_end = None;
    for index in start + plus..value.len() {
        match at(value, index) {
            b'0'..=b'9' if digits == MAX_PHONE_DIGITS => {
                return group_end.map(|end| pii(Kind::Phone, start, end));
            }
            b'0'..=b'9' => {
                digits += 1;
                gap = 0;
                end = index + 1;
            }
            b' ' if digits >= 8 && digits == index - start - plus => break,
            b' ' | b'-' | b'.' | b'(' | b')' if gap < 2 => {
                if gap == 0 && digits >= 10 {
                    group_end = group_end.or(Some(index));
                }
                gap += 1;
            }
            _ => break,
        }
    }
    let fraction = at(value, end) == b'.' && at(value, end + 1).is_ascii_digit();
    let over = !is_word(at(value, end)) && !fraction;
    (digits >= 8 && over).then(|| pii(Kind::Phone, start, end))
}

/// `NXX-NXX-XXXX`, `NXX.NXX.XXXX` or `(NXX) NXX-XXXX`; the area code begins at `area`.
fn north_american(value: &[u8], area: usize, start: usize) -> Option<Finding> {
    let three = |index: usize| {
        let digits = part(value, index, index + 3);
        digits.len() == 3
            && digits.iter().all(u8::is_ascii_digit)
            && matches!(digits.first(), Some(b'2'..=b'9'))
    };
    let bracketed = start < area;
    let (exchange, separator) = if bracketed {
        let space = usize::from(at(value, area + 4) == b' ');
        let exchange = area + 4 + space;
        (
            (at(value, area + 3) == b')').then_some(exchange)?,
            at(value, exchange + 3),
        )
    } else {
        (area + 4, at(value, area + 3))
    };
    let separated = matches!(separator, b'-' | b'.') && at(value, exchange + 3) == separator;
    let line = part(value, exchange + 4, exchange + 8);
    let end = exchange + 8;
    let number = three(area)
        && three(exchange)
        && separated
        && line.len() == 4
        && line.iter().all(u8::is_ascii_digit);
    // `N11` are services such as 911, not area codes.
    let service = part(value, area + 1, area + 3) == b"11";
    (number && !service && ends(value, end)).then(|| pii(Kind::Phone, start, end))
}
