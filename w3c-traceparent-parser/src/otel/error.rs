//! Why text is not a threshold or a randomness value, and where.

use core::fmt;

/// Why text is not a threshold or a randomness value, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtelError {
    offset: usize,
    reason: OtelErrorReason,
}

impl OtelError {
    pub(crate) const fn new(offset: usize, reason: OtelErrorReason) -> Self {
        Self { offset, reason }
    }

    /// Offset of the first byte that is wrong or missing.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// What is wrong there.
    #[must_use]
    pub const fn reason(&self) -> OtelErrorReason {
        self.reason
    }
}

impl fmt::Display for OtelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.reason.as_str();
        write!(
            f,
            "invalid sampling state: {reason} at byte {}",
            self.offset
        )
    }
}

impl core::error::Error for OtelError {}

/// The reasons of an [`OtelError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OtelErrorReason {
    /// A character is not a lowercase hexadecimal digit.
    InvalidHex,
    /// More digits than 14.
    TooLong,
    /// No digit, or fewer than the 14 of a randomness value.
    TooShort,
}

impl OtelErrorReason {
    /// A stable label for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidHex => "invalid_hex",
            Self::TooLong => "too_long",
            Self::TooShort => "too_short",
        }
    }
}
