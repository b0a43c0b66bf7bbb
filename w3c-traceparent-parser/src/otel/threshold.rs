//! Thresholds and randomness values of 56 bits.

use core::fmt;

use super::{OtelError, OtelErrorReason};
use crate::hex;
use crate::id::TraceId;

/// Hexadecimal digits of 56 bits.
const DIGITS: usize = 14;
/// 2^56: the number of different randomness values.
const RANGE: u64 = 1 << 56;
/// 2^56 as a float; exact.
const RANGE_F64: f64 = 72_057_594_037_927_936.0;
/// Significant digits of a threshold after its leading `f`s, unless asked otherwise.
const DEFAULT_PRECISION: u32 = 4;

/// A rejection threshold T: of the 2^56 equally likely traces the T lowest are dropped.
///
/// A probability of zero has no threshold. Ordering is that of T: a greater threshold keeps less.
///
/// ```
/// use w3c_traceparent_parser::otel::{Randomness, Threshold};
///
/// let tenth = Threshold::from_probability(0.1).unwrap();
/// assert_eq!(tenth.to_string(), "e666");
/// assert!(tenth.keeps(Randomness::parse(b"e6660000000000")?));
/// assert!(!tenth.keeps(Randomness::parse(b"e665ffffffffff")?));
/// # Ok::<(), w3c_traceparent_parser::otel::OtelError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Threshold(u64);

impl Threshold {
    /// Keeps everything: `th:0`.
    pub const ALWAYS: Self = Self(0);

    /// From T; `None` from 2^56 on.
    #[inline]
    #[must_use]
    pub const fn new(value: u64) -> Option<Self> {
        if value < RANGE {
            Some(Self(value))
        } else {
            None
        }
    }

    /// The threshold of a probability, rounded to four digits after the leading `f`s, so that it is
    /// short on the wire. `None` means never: below 2^-56, or not a number. From 1 on it is
    /// [`Threshold::ALWAYS`]; so it is just below 1 by rounding (within 2^-17).
    ///
    /// Decide with the threshold that is returned, not with the probability: then the decision
    /// equals what the header says.
    #[must_use]
    pub fn from_probability(probability: f64) -> Option<Self> {
        Some(Self::from_probability_exact(probability)?.rounded(DEFAULT_PRECISION))
    }

    /// The threshold nearest to a probability, with all 56 bits.
    #[must_use]
    pub fn from_probability_exact(probability: f64) -> Option<Self> {
        if probability >= 1.0 {
            return Some(Self::ALWAYS);
        }
        // The scaling is exact: it only changes the exponent.
        let scaled = probability * RANGE_F64;
        if scaled.is_nan() || scaled < 1.0 {
            return None;
        }
        let floor = scaled as u64;
        // From 2^53 on there is no fraction; below, the subtraction is exact.
        let accepted = floor + u64::from(scaled - floor as f64 >= 0.5);
        Some(Self(RANGE - accepted))
    }

    /// Rounded half up to this many digits after the leading `f`s. A rounding that would carry to
    /// 2^56 cannot happen: the first digit after the leading `f`s is not an `f`.
    #[must_use]
    const fn rounded(self, precision: u32) -> Self {
        let leading_ones = (self.0 << 8).leading_ones();
        let kept_bits = (leading_ones / 4 + precision) * 4;
        if kept_bits >= 56 {
            return self;
        }
        let shift = 56 - kept_bits;
        Self(((self.0 >> (shift - 1)) + 1) >> 1 << shift)
    }

    /// Parses the value of `th`: 1 to 14 lowercase hexadecimal digits, missing ones are zeros at
    /// the right.
    ///
    /// # Errors
    /// Another length or another character.
    #[inline]
    pub fn parse(text: &[u8]) -> Result<Self, OtelError> {
        if text.is_empty() {
            return Err(OtelError::new(0, OtelErrorReason::TooShort));
        }
        parse_digits(text).map(Self)
    }

    /// Writes the value of `th`, without zeros at the right, and returns its length, 1 to 14.
    #[inline]
    #[must_use = "only the first digits of the buffer are the value"]
    pub fn write_hex(&self, out: &mut [u8; DIGITS]) -> usize {
        write_digits(self.0, out);
        match self.0 {
            0 => 1,
            value => DIGITS - value.trailing_zeros() as usize / 4,
        }
    }

    /// T itself, below 2^56.
    #[inline]
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }

    /// Whether a trace of this randomness is kept: R >= T.
    #[inline]
    #[must_use]
    pub const fn keeps(self, randomness: Randomness) -> bool {
        randomness.0 >= self.0
    }

    /// The share of traces that is kept, between 2^-56 and 1.
    #[inline]
    #[must_use]
    pub fn probability(self) -> f64 {
        (RANGE - self.0) as f64 / RANGE_F64
    }

    /// How many traces a kept one stands for: the reciprocal of the probability.
    #[inline]
    #[must_use]
    pub fn adjusted_count(self) -> f64 {
        RANGE_F64 / (RANGE - self.0) as f64
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; DIGITS];
        let len = self.write_hex(&mut text);
        let text = text.get(..len).unwrap_or_default();
        f.pad(core::str::from_utf8(text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "th:{self}")
    }
}

/// The randomness R of a trace, below 2^56.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Randomness(u64);

impl Randomness {
    /// From R; `None` from 2^56 on.
    #[inline]
    #[must_use]
    pub const fn new(value: u64) -> Option<Self> {
        if value < RANGE {
            Some(Self(value))
        } else {
            None
        }
    }

    /// The right-most seven bytes of the trace id; presumed random even without the flag.
    #[inline]
    #[must_use]
    pub const fn from_trace_id(trace_id: TraceId) -> Self {
        Self(trace_id.to_u128() as u64 & (RANGE - 1))
    }

    /// Parses the value of `rv`: exactly 14 lowercase hexadecimal digits.
    ///
    /// # Errors
    /// Another length or another character.
    #[inline]
    pub fn parse(text: &[u8]) -> Result<Self, OtelError> {
        let value = parse_digits(text)?;
        if text.len() < DIGITS {
            return Err(OtelError::new(text.len(), OtelErrorReason::TooShort));
        }
        Ok(Self(value))
    }

    /// Writes the value of `rv`.
    #[inline]
    pub const fn write_hex(&self, out: &mut [u8; DIGITS]) {
        write_digits(self.0, out);
    }

    /// R itself, below 2^56.
    #[inline]
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Randomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; DIGITS];
        self.write_hex(&mut text);
        f.pad(core::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Randomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rv:{self}")
    }
}

const fn write_digits(value: u64, out: &mut [u8; DIGITS]) {
    let mut text = [0; 16];
    hex::encode_u64(value, &mut text);
    let [_, _, digits @ ..] = text;
    *out = digits;
}

/// Up to 14 digits, filled with zeros at the right.
#[inline]
fn parse_digits(text: &[u8]) -> Result<u64, OtelError> {
    let mut value = 0;
    for (offset, &byte) in text.iter().enumerate() {
        if offset == DIGITS {
            return Err(OtelError::new(offset, OtelErrorReason::TooLong));
        }
        let digit = hex::digit(byte).ok_or(OtelError::new(offset, OtelErrorReason::InvalidHex))?;
        value |= u64::from(digit) << (52 - 4 * offset);
    }
    Ok(value)
}
