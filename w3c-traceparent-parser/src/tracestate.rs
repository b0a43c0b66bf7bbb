//! The `tracestate` header: a borrowed list of members, and a writer that puts own members first.
//!
//! The grammar is that of Trace Context Level 2. All lines of a request are one list. Members are
//! kept as they came, byte by byte; nothing is unescaped, sorted or deduplicated.
//!
//! Readings where the standard leaves room: empty members are accepted and not counted; a list of
//! more than 32 members, or one with a single bad member, is an error as a whole. Such an error
//! never affects `traceparent`; a caller that did not get a valid `traceparent` must not parse
//! `tracestate` at all.
//!
//! Limits: 32 members per list, 256 bytes per key and per value. A list takes 97 words on the
//! stack: 776 bytes on a 64-bit machine, 388 in WebAssembly.

mod error;
mod parse;
mod write;

use core::fmt;

pub use self::error::{TraceStateError, TraceStateErrorReason};
use self::parse::Failure;
use crate::bytes;
use crate::write::Grammar;
pub use crate::write::{WriteError, Written};

/// Name of the header: written in lower case, received in any (`eq_ignore_ascii_case`).
pub const HEADER: &str = "tracestate";
/// Members that a list may have.
pub const MAX_MEMBERS: usize = 32;
/// Bytes that a key may have.
pub const MAX_KEY_LEN: usize = 256;
/// Bytes that a value may have.
pub const MAX_VALUE_LEN: usize = 256;
/// Bytes of a whole list that everybody should be able to pass on.
pub const MIN_LIMIT_BYTES: usize = 512;

/// Own members: valid in Level 1 and Level 2 alike.
const OWN: Grammar = Grammar {
    first: bytes::LOWER,
    key: bytes::OWN_STATE_KEY,
    value: bytes::STATE_VALUE,
    min_value_len: 1,
    max_len: MAX_VALUE_LEN,
};

/// One member: a key and its value, without white space around them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Member<'a> {
    /// 1 to 256 of a-z 0-9 _ - * / @, the first one a-z or 0-9.
    pub key: &'a [u8],
    /// 1 to 256 of 0x20 to 0x7e without comma and equals sign, the last one not a space. Leading
    /// spaces belong to the value.
    pub value: &'a [u8],
}

impl<'a> Member<'a> {
    /// A member from its parts, unchecked: the writer checks it.
    #[must_use]
    pub const fn new(key: &'a [u8], value: &'a [u8]) -> Self {
        Self { key, value }
    }
}

impl fmt::Debug for Member<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}={}",
            self.key.escape_ascii(),
            self.value.escape_ascii()
        )
    }
}

/// A `tracestate` list: borrowed members in order.
///
/// ```
/// use w3c_traceparent_parser::tracestate::{Member, TraceState};
///
/// let state = TraceState::parse(b"congo=t61rcWkgMzE, ,rojo=00f067aa0ba902b7")?;
/// assert_eq!(state.len(), 2);
/// assert_eq!(state.get(b"rojo"), Some(&b"00f067aa0ba902b7"[..]));
///
/// let mut out = [0; 512];
/// let own = [Member::new(b"ot", b"th:8")];
/// let written = state.write_with(&own, &[b"rojo"], 512, &mut out)?;
/// assert_eq!(&out[..written.len], b"ot=th:8,congo=t61rcWkgMzE");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct TraceState<'a> {
    entries: [Entry<'a>; MAX_MEMBERS],
    len: usize,
}

/// One member as it came. Half the size of a [`Member`], and copied in one piece.
#[derive(Clone, Copy)]
struct Entry<'a> {
    /// `key=value`; absent instead of empty: what is all zero is made and copied in one piece.
    raw: Option<&'a [u8]>,
    key_len: u16,
}

impl<'a> Entry<'a> {
    const NONE: Self = Self {
        raw: None,
        key_len: 0,
    };

    #[inline]
    fn raw(&self) -> &'a [u8] {
        self.raw.unwrap_or_default()
    }

    #[inline]
    fn key(&self) -> &'a [u8] {
        self.raw()
            .get(..usize::from(self.key_len))
            .unwrap_or_default()
    }

    #[inline]
    fn value(&self) -> &'a [u8] {
        let from = usize::from(self.key_len) + 1;
        self.raw().get(from..).unwrap_or_default()
    }
}

impl<'a> TraceState<'a> {
    /// A list without members.
    #[inline]
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            entries: [Entry::NONE; MAX_MEMBERS],
            len: 0,
        }
    }

    /// Parses the value of the only line of a request.
    ///
    /// # Errors
    /// A member is bad, or there are more than 32.
    #[inline]
    pub fn parse(value: &'a [u8]) -> Result<Self, TraceStateError> {
        Self::parse_lines([value])
    }

    /// Parses all lines of a request as one list, in order.
    ///
    /// # Errors
    /// A member is bad, or there are more than 32 in all lines together.
    pub fn parse_lines(lines: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, TraceStateError> {
        let mut state = Self::empty();
        state.read_lines(lines, |_, _| {})?;
        Ok(state)
    }

    /// Takes the lines of a request in place of what the list holds, and shows key and value of each
    /// member to `seen`. For lists that would be moved otherwise, which are large, and for those
    /// who would look at all members anyway.
    ///
    /// # Errors
    /// As [`TraceState::parse_lines`]; the list is empty then, although `seen` saw the members before
    /// the bad one.
    pub fn read_lines(
        &mut self,
        lines: impl IntoIterator<Item = &'a [u8]>,
        mut seen: impl FnMut(&'a [u8], &'a [u8]),
    ) -> Result<(), TraceStateError> {
        self.len = 0;
        for (index, line) in lines.into_iter().enumerate() {
            if let Err((offset, reason)) = self.read_line(line, &mut seen) {
                self.len = 0;
                return Err(TraceStateError::new(index, offset, reason));
            }
        }
        Ok(())
    }

    #[inline]
    fn read_line(
        &mut self,
        line: &'a [u8],
        seen: &mut impl FnMut(&'a [u8], &'a [u8]),
    ) -> Result<(), Failure> {
        let mut rest = line;
        loop {
            let from = bytes::skip_empty(rest);
            if from.is_empty() {
                return Ok(());
            }
            let offset = line.len() - from.len();
            let pair = match parse::plain(from) {
                Some(found) => found,
                None => parse::member(from).map_err(|(at, why)| (offset + at, why))?,
            };
            let place = self.entries.get_mut(self.len);
            *place.ok_or((offset, TraceStateErrorReason::TooManyMembers))? = Entry {
                raw: Some(pair.raw),
                // At most 256.
                key_len: pair.key.len() as u16,
            };
            seen(pair.key, pair.value);
            self.len += 1;
            rest = pair.after;
        }
    }

    /// Number of members.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no member.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The members in order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = Member<'a>> + Clone + '_ {
        self.entries()
            .iter()
            .map(|entry| Member::new(entry.key(), entry.value()))
    }

    /// The value of the first (most recent) member with this key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&'a [u8]> {
        self.entries()
            .iter()
            .find(|entry| entry.key() == key)
            .map(Entry::value)
    }

    #[inline]
    fn entries(&self) -> &[Entry<'a>] {
        self.entries.get(..self.len).unwrap_or_default()
    }
}

/// Whether the key may be written by us: valid in Level 1 and Level 2 alike, so it starts with a
/// letter and holds no `@`.
#[must_use]
pub fn is_own_key(key: &[u8]) -> bool {
    OWN.is_key(key)
}

/// Whether the value may stand in a member.
#[must_use]
pub fn is_value(value: &[u8]) -> bool {
    OWN.is_value(value)
}

impl Default for TraceState<'_> {
    fn default() -> Self {
        Self::empty()
    }
}

impl PartialEq for TraceState<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for TraceState<'_> {}

impl fmt::Debug for TraceState<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
