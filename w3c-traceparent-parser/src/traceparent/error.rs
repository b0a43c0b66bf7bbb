//! Why a value is not a `traceparent`, and where.

use core::fmt;

/// Why a value is not a `traceparent`, and where.
///
/// ```
/// use w3c_traceparent_parser::{TraceParent, TraceParentErrorReason};
///
/// let error = TraceParent::parse(b"00-4BF92F").unwrap_err();
/// assert_eq!(error.offset(), 4);
/// assert_eq!(error.reason(), TraceParentErrorReason::UppercaseHex);
/// assert_eq!(error.to_string(), "invalid traceparent: uppercase_hex at byte 4");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParentError {
    offset: usize,
    reason: TraceParentErrorReason,
}

impl TraceParentError {
    pub(crate) const fn new(offset: usize, reason: TraceParentErrorReason) -> Self {
        Self { offset, reason }
    }

    /// Offset in the given value (before trimming) of the first byte that is wrong or missing;
    /// for an id of zeros and a forbidden version the start of the field.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// What is wrong there.
    #[must_use]
    pub const fn reason(&self) -> TraceParentErrorReason {
        self.reason
    }
}

impl fmt::Display for TraceParentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.reason.as_str();
        write!(f, "invalid traceparent: {reason} at byte {}", self.offset)
    }
}

impl core::error::Error for TraceParentError {}

/// The reasons of a [`TraceParentError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TraceParentErrorReason {
    /// Nothing but white space.
    Empty,
    /// Another character where a dash must stand (in later versions also after the flags).
    ExpectedDash,
    /// A character that is not a hexadecimal digit.
    InvalidHex,
    /// More than one header line.
    Repeated,
    /// The value ends inside the first four fields.
    TooShort,
    /// Version 00 goes on after the flags; a comma-joined pair of headers ends here too.
    TrailingData,
    /// A hexadecimal digit in upper case.
    UppercaseHex,
    /// Version ff.
    VersionForbidden,
    /// A parent id of zeros.
    ZeroParentId,
    /// A trace id of zeros.
    ZeroTraceId,
}

impl TraceParentErrorReason {
    /// All reasons, for the registration of counters.
    pub const ALL: [Self; 10] = [
        Self::Empty,
        Self::ExpectedDash,
        Self::InvalidHex,
        Self::Repeated,
        Self::TooShort,
        Self::TrailingData,
        Self::UppercaseHex,
        Self::VersionForbidden,
        Self::ZeroParentId,
        Self::ZeroTraceId,
    ];

    /// A stable label for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::ExpectedDash => "expected_dash",
            Self::InvalidHex => "invalid_hex",
            Self::Repeated => "repeated",
            Self::TooShort => "too_short",
            Self::TrailingData => "trailing_data",
            Self::UppercaseHex => "uppercase_hex",
            Self::VersionForbidden => "version_forbidden",
            Self::ZeroParentId => "zero_parent_id",
            Self::ZeroTraceId => "zero_trace_id",
        }
    }
}
