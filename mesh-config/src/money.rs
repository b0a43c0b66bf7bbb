//! Money as an integer count of nano-dollars.
//!
//! Costs in a mesh are tiny (the cheapest operation of the default price table costs one
//! micro-dollar) and are summed billions of times, so money never passes through binary floating
//! point: it is a `u64` of nano-USD from the price table to the ledger, and decimal text only on a
//! wire. The one exception is an attribute that another program sent as a double; it is converted
//! exactly once, by [`NanoUsd::from_f64`].
//!
//! What this module is not: a currency library. There is one currency, no negative amount, and no
//! formatting by locale.
//!
//! Limits: an amount is 0 ..= 18,446,744,073.709551615 USD. Additions that pass the end stop there
//! ([`NanoUsd::saturating_add`], [`core::iter::Sum`]): a total that is too large must stay large,
//! never wrap to a small one. Where saturating would hide a fault the `checked_*` forms report it.
//! Text is at most [`MAX_DECIMAL_BYTES`] long. No function here allocates.

use core::fmt;
use core::iter::Sum;
use core::str::FromStr;

/// Nano-dollars in one dollar.
pub const NANOS_PER_USD: u64 = 1_000_000_000;

/// Longest decimal text that is read. The exact decimal expansion of any double that a sane
/// program prints fits; a longer text is an attack or a mistake.
pub const MAX_DECIMAL_BYTES: usize = 64;

/// Digits after the decimal point that an amount can carry.
const FRACTION_DIGITS: usize = 9;

/// A non-negative amount of money in units of 10^-9 USD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NanoUsd(u64);

impl NanoUsd {
    /// No money.
    pub const ZERO: Self = Self(0);
    /// The largest amount, 18,446,744,073.709551615 USD; where saturating additions stop.
    pub const MAX: Self = Self(u64::MAX);

    /// The amount of `nanos` nano-dollars.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// This amount in nano-dollars.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// True for no money at all.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The amount of `nanos`, or [`NanoUsd::MAX`] when that does not fit. For results of `u128`
    /// arithmetic.
    #[must_use]
    pub const fn from_nanos_saturating(nanos: u128) -> Self {
        if nanos > u64::MAX as u128 {
            Self::MAX
        } else {
            Self(nanos as u64)
        }
    }

    /// Sum; stops at [`NanoUsd::MAX`].
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Difference; stops at zero, since an amount cannot be negative.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Product with a count; stops at [`NanoUsd::MAX`].
    #[must_use]
    pub const fn saturating_mul(self, count: u64) -> Self {
        Self(self.0.saturating_mul(count))
    }

    /// Sum, or `None` when it does not fit.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(nanos) => Some(Self(nanos)),
            None => None,
        }
    }

    /// Difference, or `None` when `other` is the larger amount.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(nanos) => Some(Self(nanos)),
            None => None,
        }
    }

    /// Product with a count, or `None` when it does not fit.
    #[must_use]
    pub const fn checked_mul(self, count: u64) -> Option<Self> {
        match self.0.checked_mul(count) {
            Some(nanos) => Some(Self(nanos)),
            None => None,
        }
    }

    /// This amount rounded half up to whole micro-dollars: the six decimals of the specification's
    /// `round(total_cost, 6)`. Stops at the largest whole micro-dollar.
    #[must_use]
    pub const fn round_to_micros(self) -> Self {
        let micros = self.0 / 1_000;
        if self.0 % 1_000 < 500 || micros == u64::MAX / 1_000 {
            Self(micros * 1_000)
        } else {
            Self((micros + 1) * 1_000)
        }
    }

    /// Reads a plain non-negative decimal such as `0.0001`.
    ///
    /// Digits, then optionally a point and more digits. Nine decimals are kept; what follows is
    /// rounded half up. A sign, an exponent, blanks, a missing digit on either side of the point,
    /// an empty or an over-long text and an amount above [`NanoUsd::MAX`] are refused.
    ///
    /// # Errors
    /// The first reason found, from left to right.
    pub fn parse_decimal(text: &[u8]) -> Result<Self, MoneyError> {
        if text.is_empty() {
            return Err(MoneyError::Empty);
        }
        if text.len() > MAX_DECIMAL_BYTES {
            return Err(MoneyError::TooLong);
        }
        let mut nanos: u64 = 0;
        // What stands behind the point, if there is one, and what a whole dollar is worth by the
        // digits so far.
        let mut fraction_at = 0;
        let mut scale = NANOS_PER_USD;
        let mut round_up = 0;
        for (offset, &byte) in text.iter().enumerate() {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                if byte != b'.' || fraction_at > 0 || offset == 0 {
                    return Err(MoneyError::InvalidByte { offset });
                }
                fraction_at = offset.wrapping_add(1);
                continue;
            }
            if fraction_at > 0 {
                if scale == 1 {
                    let is_next = offset == fraction_at.wrapping_add(FRACTION_DIGITS);
                    round_up |= u64::from(is_next && digit >= 5);
                    continue;
                }
                scale /= 10;
            }
            nanos = push_digit(nanos, digit).ok_or(MoneyError::TooLarge)?;
        }
        if fraction_at == text.len() {
            return Err(MoneyError::MissingDigits);
        }
        // A checked multiplication asks for 128 bits in WebAssembly.
        let fits = u64::MAX
            .checked_div(scale)
            .is_some_and(|most| nanos <= most);
        let scaled = fits.then_some(nanos.wrapping_mul(scale));
        scaled
            .and_then(|nanos| nanos.checked_add(round_up))
            .map(Self)
            .ok_or(MoneyError::TooLarge)
    }

    /// Writes this amount as the shortest plain decimal (`0`, `12`, `0.0001`) to the front of `out`
    /// and returns that part. The result is read back by [`NanoUsd::parse_decimal`] unchanged.
    pub fn write_decimal(self, out: &mut [u8; 24]) -> &[u8] {
        let (mut rest, mut places) = (self.0, FRACTION_DIGITS);
        while places > 0 && rest.is_multiple_of(10) {
            rest /= 10;
            places -= 1;
        }
        // Filled from the right, since the number of digits is not known yet.
        let (mut start, mut written) = (out.len(), 0);
        while rest > 0 || written <= places {
            if written == places && places > 0 {
                start = put(out, start, b'.');
            }
            start = put(out, start, b'0' + (rest % 10) as u8);
            rest /= 10;
            written += 1;
        }
        let len = out.len().saturating_sub(start);
        out.copy_within(start.., 0);
        out.get(..len).unwrap_or_default()
    }

    /// Converts a double, as carried by a span attribute, to the nearest nano-dollar (half up).
    ///
    /// The double's exact binary value is rounded, in integers, so the result does not depend on
    /// the platform. A negative zero is zero.
    ///
    /// # Errors
    /// [`MoneyError::NotFinite`], [`MoneyError::Negative`] or [`MoneyError::TooLarge`].
    pub fn from_f64(usd: f64) -> Result<Self, MoneyError> {
        if !usd.is_finite() {
            return Err(MoneyError::NotFinite);
        }
        if usd < 0.0 {
            return Err(MoneyError::Negative);
        }
        let bits = usd.to_bits() & !(1 << 63);
        let exponent = (bits >> 52) as i32;
        let fraction = bits & ((1 << 52) - 1);
        // Subnormal doubles lie far below a nano-dollar; their implicit bit does not matter.
        let mantissa = u128::from(fraction | (1 << 52)) * u128::from(NANOS_PER_USD);
        // The value is mantissa * 2^-shift nano-dollars, and the mantissa has at most 83 bits.
        match 1075 - exponent {
            shift @ 1..=100 => {
                let nanos = (mantissa + (1_u128 << (shift - 1))) >> shift;
                u64::try_from(nanos)
                    .map(Self)
                    .map_err(|_| MoneyError::TooLarge)
            }
            101.. => Ok(Self::ZERO),
            // 2^53 USD or more.
            _ => Err(MoneyError::TooLarge),
        }
    }

    /// This amount as a double in dollars, for attributes and displays. Below 2^23 (8.3 million)
    /// dollars it is the double nearest to the decimal, and [`NanoUsd::from_f64`] undoes it.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / NANOS_PER_USD as f64
    }
}

/// `value * 10 + digit`, if it fits.
fn push_digit(value: u64, digit: u8) -> Option<u64> {
    // A checked multiplication asks for 128 bits in WebAssembly.
    if value > u64::MAX / 10 {
        return None;
    }
    value.wrapping_mul(10).checked_add(u64::from(digit))
}

/// Puts a byte before those already written and returns where it stands. The 21 bytes of the
/// longest amount always fit.
fn put(out: &mut [u8; 24], start: usize, byte: u8) -> usize {
    let at = start.wrapping_sub(1);
    if let Some(place) = out.get_mut(at) {
        *place = byte;
    }
    at
}

impl fmt::Display for NanoUsd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buffer = [0; 24];
        let text = core::str::from_utf8(self.write_decimal(&mut buffer)).unwrap_or("");
        formatter.pad_integral(true, "", text)
    }
}

impl FromStr for NanoUsd {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        Self::parse_decimal(text.as_bytes())
    }
}

impl Sum for NanoUsd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::saturating_add)
    }
}

/// Why something is not an amount of money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MoneyError {
    /// The text is empty.
    Empty,
    /// A byte that cannot stand at this place: a sign, a blank, an exponent, a second point.
    InvalidByte {
        /// Index of the byte in the text.
        offset: usize,
    },
    /// Nothing follows the decimal point.
    MissingDigits,
    /// A double below zero.
    Negative,
    /// A double that is infinite or not a number.
    NotFinite,
    /// The amount is above [`NanoUsd::MAX`].
    TooLarge,
    /// The text is longer than [`MAX_DECIMAL_BYTES`].
    TooLong,
}

impl MoneyError {
    /// A stable label for metrics and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::InvalidByte { .. } => "invalid_byte",
            Self::MissingDigits => "missing_digits",
            Self::Negative => "negative",
            Self::NotFinite => "not_finite",
            Self::TooLarge => "too_large",
            Self::TooLong => "too_long",
        }
    }
}

impl fmt::Display for MoneyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => formatter.write_str("amount is empty"),
            Self::InvalidByte { offset } => {
                write!(formatter, "amount has an invalid byte at offset `{offset}`")
            }
            Self::MissingDigits => formatter.write_str("amount has no digits after its point"),
            Self::Negative => formatter.write_str("amount is negative"),
            Self::NotFinite => formatter.write_str("amount is not a finite number"),
            Self::TooLarge => write!(formatter, "amount is above `{}` USD", NanoUsd::MAX),
            Self::TooLong => write!(
                formatter,
                "amount is longer than `{MAX_DECIMAL_BYTES}` bytes"
            ),
        }
    }
}

impl core::error::Error for MoneyError {}
