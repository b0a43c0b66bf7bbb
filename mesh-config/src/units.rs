//! Quantities of the policy that carry their unit in the type, and how their text is read.
//!
//! Durations are [`std::time::Duration`] and money is [`crate::money::NanoUsd`]; this module adds
//! probabilities and byte sizes. The rule language reads the same units.

mod plain;

use std::time::Duration;

pub(crate) use plain::Plain;

/// A share between 0 and 1, both included.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Probability(f64);

impl Probability {
    /// Never.
    pub const ZERO: Self = Self(0.0);
    /// Always.
    pub const ONE: Self = Self(1.0);

    /// `None` when `value` is not a number from 0 to 1.
    pub fn new(value: f64) -> Option<Self> {
        (0.0..=1.0).contains(&value).then_some(Self(value))
    }

    /// A constant of this crate in parts per million; above one it is one.
    pub const fn ppm(parts: u32) -> Self {
        if parts >= 1_000_000 {
            Self::ONE
        } else {
            Self(parts as f64 / 1_000_000.0)
        }
    }

    /// The share as a number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl std::fmt::Display for Probability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Plain(self.0).fmt(f)
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    /// This many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// This many KiB.
    pub const fn kib(count: u64) -> Self {
        Self(count.saturating_mul(1024))
    }

    /// This many MiB.
    pub const fn mib(count: u64) -> Self {
        Self::kib(count.saturating_mul(1024))
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The number of bytes in memory; saturates on a 32-bit target.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Time units in nanoseconds, largest first, as documented for the rule language and durations.
pub(crate) const TIME_UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Size units in bytes, the written ones first and largest first; the decimal ones are read, never
/// written.
pub(crate) const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
];

/// Splits `text` after its leading digits and points.
fn split_number(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// `number` times `scale`, exactly: the number is plain decimal; what is below one unit, and
/// digits after the eighteenth of the fraction, are cut.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return None;
    }
    let fraction = fraction.get(..18).unwrap_or(fraction);
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse::<u64>().ok()?.into()
    };
    let power = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let parts: u128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse::<u64>().ok()?.into()
    };
    let scale = u128::from(scale);
    let total = whole
        .checked_mul(scale)?
        .checked_add(parts.checked_mul(scale)? / power)?;
    u64::try_from(total).ok()
}

/// Reads a size such as `4MiB`; a plain number is bytes.
pub fn size(text: &str) -> Option<ByteSize> {
    quantity(text, &SIZE_UNITS, Some(1)).map(ByteSize::new)
}

/// Reads a number with a unit; a plain number counts in `plain` units when that is given.
pub(crate) fn quantity(text: &str, units: &[(&str, u64)], plain: Option<u64>) -> Option<u64> {
    let (number, unit) = split_number(text);
    let scale = if unit.is_empty() {
        plain?
    } else {
        units
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, scale)| *scale)?
    };
    scaled(number, scale)
}

/// Reads `90s`, `1.5h` or `1h30m`; a bare `0` is accepted, any other number needs a unit.
pub fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0u64;
    while !rest.is_empty() {
        let (number, tail) = split_number(rest);
        let end = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, next) = tail.split_at_checked(end)?;
        let piece = rest.get(..number.len() + unit.len())?;
        total = total.checked_add(quantity(piece, &TIME_UNITS, None)?)?;
        rest = next;
    }
    if text.is_empty() {
        None
    } else {
        Some(Duration::from_nanos(total))
    }
}

/// Writes a quantity in the largest unit that divides it.
pub(crate) fn print_quantity(value: u64, units: &[(&str, u64)]) -> String {
    for (name, scale) in units {
        if value != 0 && value.is_multiple_of(*scale) {
            return format!("{}{name}", value / scale);
        }
    }
    "0".to_owned()
}

/// Reads a day such as `2026-01-31` as nanoseconds since the Unix epoch, at its begin in UTC.
pub(crate) fn day_ns(text: &str) -> Option<u64> {
    let mut parts = text.split('-');
    let mut part = |digits: usize| {
        let part = parts.next().filter(|part| part.len() == digits)?;
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            part.parse::<u64>().ok()
        } else {
            None
        }
    };
    let (year, month, day) = (part(4)?, part(2)?, part(2)?);
    if parts.next().is_some() || year < 1970 || !(1..=12).contains(&month) {
        return None;
    }
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let length = |month: u64| match month {
        2 => 28 + u64::from(leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !(1..=length(month)).contains(&day) {
        return None;
    }
    let years: u64 = (1970..year).map(|year| 365 + u64::from(leap(year))).sum();
    let months: u64 = (1..month).map(length).sum();
    (years + months + day - 1).checked_mul(86_400_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_exact_and_need_a_unit() {
        let nanos = |text| duration(text).map(|found| found.as_nanos());
        assert_eq!(nanos("60s"), Some(60_000_000_000));
        assert_eq!(nanos("1h30m"), Some(5_400_000_000_000));
        assert_eq!(nanos("1.5s"), Some(1_500_000_000));
        assert_eq!(nanos("0.1us"), Some(100));
        assert_eq!(nanos("0"), Some(0));
        for bad in [
            "",
            "60",
            "s",
            "1 s",
            "-1s",
            "1x",
            "1s2",
            "1e3s",
            "999999999999d",
            ".s",
        ] {
            assert_eq!(nanos(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_may_be_plain_bytes() {
        let bytes = |text| quantity(text, &SIZE_UNITS, Some(1));
        assert_eq!(bytes("4MiB"), Some(4 << 20));
        assert_eq!(bytes("1.5KiB"), Some(1536));
        assert_eq!(bytes("2KB"), Some(2000));
        assert_eq!(bytes("17"), Some(17));
        assert_eq!(bytes("4mib"), None);
        assert_eq!(bytes("99999999999GiB"), None);
    }

    #[test]
    fn quantities_print_in_the_largest_unit_that_divides_them() {
        for (text, nanos) in [
            ("1500ms", 1_500_000_000),
            ("7d", 604_800_000_000_000),
            ("0", 0),
        ] {
            assert_eq!(print_quantity(nanos, &TIME_UNITS), text);
            assert_eq!(
                duration(text).map(|found| found.as_nanos()),
                Some(nanos.into())
            );
        }
    }

    #[test]
    fn days_follow_the_gregorian_calendar() {
        let days = |text| day_ns(text).map(|nanos| nanos / 86_400_000_000_000);
        assert_eq!(days("1970-01-01"), Some(0));
        assert_eq!(days("2000-03-01"), Some(11_017));
        assert_eq!(days("2026-11-20"), Some(20_777));
        for bad in [
            "2026-02-29",
            "2026-13-01",
            "2026-1-01",
            "2026-01-01-01",
            "1969-12-31",
            "x",
        ] {
            assert_eq!(days(bad), None, "{bad}");
        }
    }
}
