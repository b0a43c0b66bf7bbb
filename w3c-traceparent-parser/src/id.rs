//! Trace and span identifiers. All-zero ones cannot be built.

use core::fmt;
use core::num::{NonZeroU64, NonZeroU128};
use core::str::FromStr;

use crate::hex;

/// Identifier of a whole trace: 16 bytes, never all zero.
///
/// ```
/// use w3c_traceparent_parser::TraceId;
///
/// let id = TraceId::from_hex(b"4bf92f3577b34da6a3ce929d0e0e4736")?;
/// assert_eq!(id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
/// assert_eq!(TraceId::from_bytes([0; 16]), None);
/// # Ok::<(), w3c_traceparent_parser::IdError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(NonZeroU128);

impl TraceId {
    /// The smallest identifier, one: what stands in where nothing random is to be had.
    pub const MIN: Self = Self(NonZeroU128::MIN);

    /// From the sixteen bytes in wire order; `None` if all are zero.
    #[inline]
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        Self::from_u128(u128::from_be_bytes(bytes))
    }

    /// From the number whose hexadecimal form is the identifier; `None` for zero.
    #[inline]
    #[must_use]
    pub const fn from_u128(value: u128) -> Option<Self> {
        match NonZeroU128::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// From exactly 32 lowercase hexadecimal digits.
    ///
    /// # Errors
    /// Another length, another character, or all zeros.
    pub fn from_hex(text: &[u8]) -> Result<Self, IdError> {
        let value = decode(text, 32)?;
        Self::from_u128(value).ok_or(IdError::ZERO)
    }

    /// The sixteen bytes in wire order.
    #[inline]
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.get().to_be_bytes()
    }

    /// The number whose hexadecimal form is the identifier.
    #[inline]
    #[must_use]
    pub const fn to_u128(self) -> u128 {
        self.0.get()
    }

    /// Writes 32 lowercase hexadecimal digits.
    #[inline]
    pub fn write_hex(&self, out: &mut [u8; 32]) {
        let value = self.0.get();
        let (halves, _) = out.as_chunks_mut::<16>();
        if let [high, low] = halves {
            hex::encode_u64((value >> 64) as u64, high);
            hex::encode_u64(value as u64, low);
        }
    }
}

/// Identifier of one span: 8 bytes, never all zero.
///
/// ```
/// use w3c_traceparent_parser::SpanId;
///
/// let id = SpanId::from_bytes([0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]).unwrap();
/// assert_eq!(id.to_string(), "00f067aa0ba902b7");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(NonZeroU64);

impl SpanId {
    /// The smallest identifier, one: what stands in where nothing random is to be had.
    pub const MIN: Self = Self(NonZeroU64::MIN);

    /// From the eight bytes in wire order; `None` if all are zero.
    #[inline]
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Option<Self> {
        Self::from_u64(u64::from_be_bytes(bytes))
    }

    /// From the number whose hexadecimal form is the identifier; `None` for zero.
    #[inline]
    #[must_use]
    pub const fn from_u64(value: u64) -> Option<Self> {
        match NonZeroU64::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// From exactly 16 lowercase hexadecimal digits.
    ///
    /// # Errors
    /// Another length, another character, or all zeros.
    pub fn from_hex(text: &[u8]) -> Result<Self, IdError> {
        let value = decode(text, 16)?;
        Self::from_u64(value as u64).ok_or(IdError::ZERO)
    }

    /// The eight bytes in wire order.
    #[inline]
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }

    /// The number whose hexadecimal form is the identifier.
    #[inline]
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        self.0.get()
    }

    /// Writes 16 lowercase hexadecimal digits.
    #[inline]
    pub const fn write_hex(&self, out: &mut [u8; 16]) {
        hex::encode_u64(self.0.get(), out);
    }
}

fn decode(text: &[u8], expected_len: usize) -> Result<u128, IdError> {
    let mut value = 0;
    for (offset, &byte) in text.iter().enumerate().take(expected_len) {
        let Some(digit) = hex::digit(byte) else {
            return Err(IdError {
                offset,
                reason: IdErrorReason::InvalidHex,
            });
        };
        value = value << 4 | u128::from(digit);
    }
    if text.len() == expected_len {
        Ok(value)
    } else {
        Err(IdError {
            offset: text.len().min(expected_len),
            reason: IdErrorReason::Length,
        })
    }
}

/// Why text is not an identifier, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdError {
    offset: usize,
    reason: IdErrorReason,
}

impl IdError {
    const ZERO: Self = Self {
        offset: 0,
        reason: IdErrorReason::Zero,
    };

    /// Offset of the first byte that is wrong or missing.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// What is wrong there.
    #[must_use]
    pub const fn reason(&self) -> IdErrorReason {
        self.reason
    }
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invalid id: {} at byte {}",
            self.reason.as_str(),
            self.offset
        )
    }
}

impl core::error::Error for IdError {}

/// The reasons of an [`IdError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IdErrorReason {
    /// A character is not a lowercase hexadecimal digit.
    InvalidHex,
    /// Too few or too many digits.
    Length,
    /// All digits are zero.
    Zero,
}

impl IdErrorReason {
    /// A stable label for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidHex => "invalid_hex",
            Self::Length => "length",
            Self::Zero => "zero",
        }
    }
}

macro_rules! text_form {
    ($id:ident, $len:literal) => {
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0; $len];
                self.write_hex(&mut text);
                f.pad(core::str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $id {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::from_hex(text.as_bytes())
            }
        }
    };
}

text_form!(TraceId, 32);
text_form!(SpanId, 16);
