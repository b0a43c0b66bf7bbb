//! What all writers share: the cursor over the caller's buffer, the result and the error.

use core::fmt;

/// What a writer produced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Written {
    /// Bytes written to the start of the buffer.
    pub len: usize,
    /// Members written, own ones included.
    pub members: usize,
    /// Foreign members left out because of a limit. Members that were removed or replaced on
    /// request are not counted.
    pub dropped: usize,
}

/// Why nothing usable was written. The content of the buffer is unspecified then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError {
    /// The buffer has fewer bytes than the result.
    BufferTooSmall {
        /// Bytes that the result takes.
        needed: usize,
    },
    /// The same key occurs twice among the own members.
    DuplicateKey {
        /// Index of the second one.
        index: usize,
    },
    /// The key of an own member may not be written.
    InvalidKey {
        /// Index of the own member.
        index: usize,
    },
    /// The value of an own member may not be written.
    InvalidValue {
        /// Index of the own member.
        index: usize,
    },
    /// What must not be dropped already exceeds the byte limit.
    LimitTooSmall {
        /// Bytes that it takes.
        needed: usize,
    },
    /// More own members than a list may have.
    TooManyMembers,
}

impl WriteError {
    /// A stable label for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BufferTooSmall { .. } => "buffer_too_small",
            Self::DuplicateKey { .. } => "duplicate_key",
            Self::InvalidKey { .. } => "invalid_key",
            Self::InvalidValue { .. } => "invalid_value",
            Self::LimitTooSmall { .. } => "limit_too_small",
            Self::TooManyMembers => "too_many_members",
        }
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BufferTooSmall { needed } => {
                write!(f, "buffer too small, `{needed}` bytes needed")
            }
            Self::DuplicateKey { index } => write!(f, "key of own member `{index}` occurs twice"),
            Self::InvalidKey { index } => write!(f, "key of own member `{index}` is not allowed"),
            Self::InvalidValue { index } => {
                write!(f, "value of own member `{index}` is not allowed")
            }
            Self::LimitTooSmall { needed } => {
                write!(f, "limit too small, `{needed}` bytes cannot be dropped")
            }
            Self::TooManyMembers => f.write_str("too many own members"),
        }
    }
}

impl core::error::Error for WriteError {}

/// A cursor over the caller's buffer that keeps counting when the buffer is full, so that the
/// error can say how many bytes were needed.
pub(crate) struct Cursor<'o> {
    free: &'o mut [u8],
    capacity: usize,
    len: usize,
}

impl<'o> Cursor<'o> {
    #[inline]
    pub(crate) const fn new(out: &'o mut [u8]) -> Self {
        Self {
            capacity: out.len(),
            free: out,
            len: 0,
        }
    }

    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.len = self.len.saturating_add(bytes.len());
        // After a piece that does not fit `free` stays empty, so nothing follows it.
        if let Some((head, tail)) =
            core::mem::take(&mut self.free).split_at_mut_checked(bytes.len())
        {
            head.copy_from_slice(bytes);
            self.free = tail;
        }
    }

    /// [`Cursor::push`] for one byte: separators are every other piece.
    #[inline]
    pub(crate) fn push_byte(&mut self, byte: u8) {
        self.len = self.len.saturating_add(1);
        if let Some((place, tail)) = core::mem::take(&mut self.free).split_first_mut() {
            *place = byte;
            self.free = tail;
        }
    }

    /// The number of bytes written.
    #[inline]
    pub(crate) const fn finish(self) -> Result<usize, WriteError> {
        if self.len <= self.capacity {
            Ok(self.len)
        } else {
            Err(WriteError::BufferTooSmall { needed: self.len })
        }
    }
}
