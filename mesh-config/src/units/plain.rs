//! Numbers as plain decimal text.
//!
//! `core` has this as well, and better for numbers of seventeen digits, in 20 kB of code that would
//! be in the memory of every proxy.

use std::fmt;

/// Writes a number as plain decimals that read back as it: as few digits as do where fifteen are
/// enough, and otherwise as many as there are, at most [`MAX_PLACES`] after the point. Above
/// `u128::MAX` it stops there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain(pub(crate) f64);

/// Powers of ten that an `f64` holds exactly.
const EXACT_POWERS: u32 = 22;

/// Whole numbers below this are exact, and so are quotients of two of them rounded once.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Digits after the point of a number that has no short form.
const MAX_PLACES: usize = 30;

/// One in binary digits after the point: enough for every number that is not tiny, with room for a
/// decimal digit above.
const ONE: u128 = 1 << 120;

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0.abs();
        if self.0.is_nan() {
            return f.write_str("NaN");
        }
        if self.0 < 0.0 {
            f.write_str("-")?;
        }
        if value.is_infinite() {
            return f.write_str("inf");
        }
        if value >= EXACT {
            return write!(f, "{}", value as u128);
        }
        let whole = value as u64;
        write!(f, "{whole}")?;
        let digits = short(value).unwrap_or_else(|| long(value - whole as f64));
        if digits.is_empty() {
            return Ok(());
        }
        f.write_str(".")?;
        f.write_str(&digits)
    }
}

/// The digits after the point, when a whole number below [`EXACT`] over a power of ten is `value`.
fn short(value: f64) -> Option<String> {
    let mut power = 1.0;
    for places in 0..=EXACT_POWERS {
        let scaled = (value * power).round();
        if scaled >= EXACT {
            return None;
        }
        if scaled / power == value {
            let mut digits = Vec::new();
            let mut rest = scaled as u64;
            for _ in 0..places {
                digits.push(b'0' + (rest % 10) as u8);
                rest /= 10;
            }
            digits.reverse();
            return String::from_utf8(digits).ok();
        }
        power *= 10.0;
    }
    None
}

/// The digits of a number below one, exactly, cut after [`MAX_PLACES`].
fn long(fraction: f64) -> String {
    let mut rest = (fraction * ONE as f64) as u128;
    let mut digits = String::new();
    for _ in 0..MAX_PLACES {
        rest *= 10;
        digits.push(char::from(b'0' + (rest / ONE) as u8));
        rest %= ONE;
    }
    let length = digits.trim_end_matches('0').len();
    digits.truncate(length);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_core_writes_them() {
        for number in [
            0.0,
            0.1,
            0.01,
            0.000_001,
            0.000_000_001,
            1.0,
            1.5,
            5.0,
            100.0,
            2500.0,
            1.0 / 3.0,
            -0.25,
            -7.0,
            1e15,
            9_007_199_254_740_991.0,
            1e22,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
        ] {
            assert_eq!(Plain(number).to_string(), number.to_string());
        }
    }

    #[test]
    fn what_is_written_reads_back_as_the_same_number() {
        let mut random = fastrand::Rng::with_seed(5);
        for round in 0..200_000 {
            let number = match round % 4 {
                0 => random.f64(),
                1 => random.f64() * 1e-3,
                2 => random.f64() * 10f64.powi(random.i32(0..30)),
                _ => f64::from(random.u32(..)) / 10f64.powi(random.i32(0..12)),
            };
            let written = Plain(number).to_string();
            assert_eq!(written.parse::<f64>().unwrap(), number, "{written}");
        }
    }

    #[test]
    fn numbers_of_few_digits_stay_short() {
        let mut random = fastrand::Rng::with_seed(6);
        for _ in 0..100_000 {
            let digits = random.u64(1..1_000_000_000_000_000);
            let text = format!("{digits}e-{}", random.u32(0..15));
            let number: f64 = text.parse().unwrap();
            assert_eq!(Plain(number).to_string(), number.to_string());
        }
    }
}
