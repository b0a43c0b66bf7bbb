//! Why a value is not a `tracestate`, and where.

use core::fmt;

/// Why a value is not a `tracestate`, and where.
///
/// ```
/// use w3c_traceparent_parser::tracestate::{TraceState, TraceStateErrorReason};
///
/// let error = TraceState::parse(b"a=1, B=2").unwrap_err();
/// assert_eq!((error.line(), error.offset()), (0, 5));
/// assert_eq!(error.reason(), TraceStateErrorReason::InvalidKey);
/// assert_eq!(error.to_string(), "invalid tracestate: invalid_key at line 0, byte 5");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceStateError {
    line: usize,
    offset: usize,
    reason: TraceStateErrorReason,
}

impl TraceStateError {
    pub(crate) const fn new(line: usize, offset: usize, reason: TraceStateErrorReason) -> Self {
        Self {
            line,
            offset,
            reason,
        }
    }

    /// Index of the header line.
    #[must_use]
    pub const fn line(&self) -> usize {
        self.line
    }

    /// Offset in that line of the first byte that is wrong or missing; for a member too many its
    /// first byte.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// What is wrong there.
    #[must_use]
    pub const fn reason(&self) -> TraceStateErrorReason {
        self.reason
    }
}

impl fmt::Display for TraceStateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invalid tracestate: {} at line {}, byte {}",
            self.reason.as_str(),
            self.line,
            self.offset
        )
    }
}

impl core::error::Error for TraceStateError {}

/// The reasons of a [`TraceStateError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TraceStateErrorReason {
    /// Nothing before the equals sign.
    EmptyKey,
    /// Nothing but spaces after the equals sign.
    EmptyValue,
    /// A character that a key may not have there.
    InvalidKey,
    /// A character that a value may not have.
    InvalidValue,
    /// A key of more than 256 bytes.
    KeyTooLong,
    /// A member without an equals sign.
    MissingEquals,
    /// More than 32 members.
    TooManyMembers,
    /// A value of more than 256 bytes.
    ValueTooLong,
}

impl TraceStateErrorReason {
    /// All reasons, for the registration of counters.
    pub const ALL: [Self; 8] = [
        Self::EmptyKey,
        Self::EmptyValue,
        Self::InvalidKey,
        Self::InvalidValue,
        Self::KeyTooLong,
        Self::MissingEquals,
        Self::TooManyMembers,
        Self::ValueTooLong,
    ];

    /// A stable label for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EmptyKey => "empty_key",
            Self::EmptyValue => "empty_value",
            Self::InvalidKey => "invalid_key",
            Self::InvalidValue => "invalid_value",
            Self::KeyTooLong => "key_too_long",
            Self::MissingEquals => "missing_equals",
            Self::TooManyMembers => "too_many_members",
            Self::ValueTooLong => "value_too_long",
        }
    }
}
