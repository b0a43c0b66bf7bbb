//! What all writers share: own members, the cursor over the caller's buffer, the result and the
//! error.

use core::fmt;

use crate::bytes;
use crate::tracestate::Member;

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

/// What the keys and values of own members of a header may be.
pub(crate) struct Grammar {
    /// Classes of a key's first byte and of all its bytes.
    pub(crate) first: u8,
    pub(crate) key: u8,
    /// Class of a value's bytes. A space is never the last one.
    pub(crate) value: u8,
    /// Lengths of keys (which are never empty) and values.
    pub(crate) min_value_len: usize,
    pub(crate) max_len: usize,
}

impl Grammar {
    pub(crate) fn is_key(&self, key: &[u8]) -> bool {
        key.len() <= self.max_len
            && key
                .first()
                .is_some_and(|&first| bytes::is(first, self.first))
            && bytes::all(key, self.key)
    }

    pub(crate) fn is_value(&self, value: &[u8]) -> bool {
        (self.min_value_len..=self.max_len).contains(&value.len())
            && value.last() != Some(&b' ')
            && bytes::all(value, self.value)
    }
}

/// Own members and the keys of foreign ones that go, as the writers of both headers take them.
pub(crate) trait Own: Copy {
    /// The number of own members, or more.
    fn len(self) -> usize;

    /// A key and the value of its own member, if it has one.
    fn get(&self, index: usize) -> Option<(&[u8], Option<&[u8]>)>;

    /// Keys of foreign members that go beside those of own members.
    fn remove(&self) -> &[&[u8]];

    /// How many keys come before this one: all if it is not among them.
    #[inline]
    fn position(self, key: &[u8]) -> usize {
        let mut index = 0;
        while self.get(index).is_some_and(|(own, _)| own != key) {
            index += 1;
        }
        index
    }

    /// Whether a foreign member goes: an own one replaces it, or it is to be removed.
    #[cfg_attr(target_family = "wasm", inline(never))]
    fn displaces(self, key: &[u8]) -> bool {
        self.position(key) < self.len() || self.remove().contains(&key)
    }

    /// Checks the members.
    fn check(self, grammar: &Grammar, max_members: usize) -> Result<(), WriteError> {
        if self.len() > max_members {
            return Err(WriteError::TooManyMembers);
        }
        let mut index = 0;
        while let Some((key, value)) = self.get(index) {
            if !grammar.is_key(key) {
                return Err(WriteError::InvalidKey { index });
            }
            if value.is_some_and(|value| !grammar.is_value(value)) {
                return Err(WriteError::InvalidValue { index });
            }
            if self.position(key) < index {
                return Err(WriteError::DuplicateKey { index });
            }
            index += 1;
        }
        Ok(())
    }

    /// The number of members and the bytes that they take, commas counted.
    fn size(self) -> (usize, usize) {
        let (mut count, mut bytes, mut index) = (0_usize, 0, 0);
        while let Some((key, value)) = self.get(index) {
            if let Some(value) = value {
                bytes += key.len() + 1 + value.len();
                count += 1;
            }
            index += 1;
        }
        (count, bytes + count.saturating_sub(1))
    }
}

/// Members of a tracestate, and keys to remove.
#[derive(Clone, Copy)]
pub(crate) struct OwnMembers<'a>(pub(crate) &'a [Member<'a>], pub(crate) &'a [&'a [u8]]);

impl Own for OwnMembers<'_> {
    fn len(self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Option<(&[u8], Option<&[u8]>)> {
        let own = self.0.get(index)?;
        Some((own.key, Some(own.value)))
    }

    fn remove(&self) -> &[&[u8]] {
        self.1
    }
}

/// Members of a baggage, and keys to remove.
#[derive(Clone, Copy)]
pub(crate) struct OwnPairs<'a>(
    pub(crate) &'a [(&'a [u8], &'a [u8])],
    pub(crate) &'a [&'a [u8]],
);

impl Own for OwnPairs<'_> {
    fn len(self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Option<(&[u8], Option<&[u8]>)> {
        let (key, value) = self.0.get(index)?;
        Some((key, Some(value)))
    }

    fn remove(&self) -> &[&[u8]] {
        self.1
    }
}

/// Keys whose foreign members go, and the own values of some.
#[derive(Clone, Copy)]
pub(crate) struct OwnValues<'a>(pub(crate) &'a [&'a [u8]], pub(crate) &'a [Option<&'a [u8]>]);

impl Own for OwnValues<'_> {
    #[inline]
    fn len(self) -> usize {
        self.0.len()
    }

    #[inline]
    fn get(&self, index: usize) -> Option<(&[u8], Option<&[u8]>)> {
        Some((self.0.get(index)?, self.1.get(index).copied().flatten()))
    }

    #[inline]
    fn remove(&self) -> &[&[u8]] {
        &[]
    }
}

/// A cursor over the caller's buffer that keeps counting when the buffer is full, so that the
/// error can say how many bytes were needed.
pub(crate) struct Cursor<'o> {
    out: &'o mut [u8],
    len: usize,
}

impl<'o> Cursor<'o> {
    #[inline]
    pub(crate) const fn new(out: &'o mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    #[cfg_attr(target_family = "wasm", inline(never))]
    #[cfg_attr(not(target_family = "wasm"), inline)]
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        // After a piece that does not fit nothing does: the length is beyond the buffer.
        if let Some(place) = self.out.get_mut(self.len..end) {
            place.copy_from_slice(bytes);
        }
        self.len = end;
    }

    /// A member after those before it.
    #[cfg_attr(target_family = "wasm", inline(never))]
    #[cfg_attr(not(target_family = "wasm"), inline)]
    pub(crate) fn push_member(&mut self, member: &[u8]) {
        if self.len > 0 {
            self.push(b",");
        }
        self.push(member);
    }

    /// Own members after those before them; returns their number.
    #[cfg_attr(target_family = "wasm", inline(never))]
    pub(crate) fn push_own(&mut self, own: impl Own) -> usize {
        let (mut count, mut index) = (0, 0);
        while let Some((key, value)) = own.get(index) {
            if let Some(value) = value {
                self.push_member(key);
                self.push(b"=");
                self.push(value);
                count += 1;
            }
            index += 1;
        }
        count
    }

    /// The number of bytes written.
    #[inline]
    pub(crate) const fn finish(self) -> Result<usize, WriteError> {
        if self.len <= self.out.len() {
            Ok(self.len)
        } else {
            Err(WriteError::BufferTooSmall { needed: self.len })
        }
    }
}
