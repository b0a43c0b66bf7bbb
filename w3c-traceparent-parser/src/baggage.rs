//! The `baggage` header: a cheap view over the lines of a request, and a writer that leaves
//! foreign bytes alone.
//!
//! Percent encoding is kept as it came; [`percent_decode`] and [`percent_encode`] serve those who
//! want to read or produce values. A malformed member is skipped and counted, it never fails the
//! others. Baggage is independent of `traceparent`: it goes on when the trace restarts.
//!
//! It does not merge, sort or deduplicate: foreign members keep their order and their duplicates.
//!
//! Limits: [`MAX_LINES`] lines with well-formed members; what later lines hold is counted as
//! [`Baggage::overflowed`]. The limits of the standard for the output are [`MAX_MEMBERS`] and
//! [`MAX_BYTES`]; they are arguments of the writer. A view takes 132 words on the stack: 1,056
//! bytes on a 64-bit machine, 528 in WebAssembly.

mod member;
mod percent;
mod write;

use core::fmt;

use self::member::Pieces;
pub use self::member::{BaggageMember, Members, Properties, Property};
pub use self::percent::{percent_decode, percent_encode};
use crate::bytes;
use crate::write::Grammar;
pub use crate::write::{WriteError, Written};

/// Name of the header: written in lower case, received in any (`eq_ignore_ascii_case`).
pub const HEADER: &str = "baggage";
/// Members that everybody must be able to pass on.
pub const MAX_MEMBERS: usize = 64;
/// Bytes of all members, commas counted, that everybody must be able to pass on.
pub const MAX_BYTES: usize = 8192;
/// Header lines that a [`Baggage`] can hold; lines without a well-formed member take no place.
/// With one member per line it still holds [`MAX_MEMBERS`].
pub const MAX_LINES: usize = 64;

/// Own members.
const OWN: Grammar = Grammar {
    first: bytes::TOKEN,
    key: bytes::TOKEN,
    value: bytes::BAGGAGE_VALUE,
    min_value_len: 0,
    max_len: usize::MAX,
};

/// The baggage of one request.
///
/// ```
/// use w3c_traceparent_parser::baggage::Baggage;
///
/// let baggage = Baggage::parse_lines([&b"userId=alice;ttl=3, region = eu%20west"[..], b"oops"]);
/// assert_eq!(baggage.len(), 2);
/// assert_eq!(baggage.malformed(), 1);
/// let region = baggage.get(b"region").unwrap();
/// assert_eq!(region.value, b"eu%20west");
///
/// let mut out = [0; 8192];
/// let own: [(&[u8], &[u8]); 1] = [(b"data_tag", b"PII")];
/// let written = baggage.write_with(&own, &[b"region"], 64, 8192, &mut out)?;
/// assert_eq!(&out[..written.len], b"userId=alice;ttl=3,data_tag=PII");
/// # Ok::<(), w3c_traceparent_parser::WriteError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Baggage<'a> {
    /// Absent instead of empty: what is all zero is made and copied in one piece.
    lines: [Option<&'a [u8]>; MAX_LINES],
    line_count: usize,
    members: usize,
    malformed: usize,
    overflowed: usize,
}

impl<'a> Baggage<'a> {
    /// Baggage without members.
    #[inline]
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            lines: [None; MAX_LINES],
            line_count: 0,
            members: 0,
            malformed: 0,
            overflowed: 0,
        }
    }

    /// The value of the only line of a request.
    #[inline]
    #[must_use]
    pub fn parse(value: &'a [u8]) -> Self {
        Self::parse_lines([value])
    }

    /// All lines of a request, in order.
    #[must_use]
    pub fn parse_lines(lines: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut baggage = Self::empty();
        baggage.read_lines(lines, |_, _| {});
        baggage
    }

    /// Takes the lines of a request in place of what the view holds, and shows key and value of
    /// each member of the view to `seen`. For views that would be moved otherwise, which are large,
    /// and for those who would look at all members anyway.
    pub fn read_lines(
        &mut self,
        lines: impl IntoIterator<Item = &'a [u8]>,
        mut seen: impl FnMut(&'a [u8], &'a [u8]),
    ) {
        (self.line_count, self.members) = (0, 0);
        (self.malformed, self.overflowed) = (0, 0);
        for line in lines {
            let mut pieces = Pieces::new(line);
            let mut members = 0;
            let place = self.lines.get_mut(self.line_count);
            for member in pieces.by_ref() {
                members += 1;
                if place.is_some() {
                    seen(member.key, member.value);
                }
            }
            self.malformed += pieces.malformed;
            match place {
                Some(place) if members > 0 => {
                    *place = Some(line);
                    self.line_count += 1;
                    self.members += members;
                }
                _ => self.overflowed += members,
            }
        }
    }

    /// The well-formed members in order.
    #[inline]
    #[must_use]
    pub fn iter(&self) -> Members<'_, 'a> {
        Members::new(self.lines())
    }

    #[inline]
    fn lines(&self) -> &[Option<&'a [u8]>] {
        self.lines.get(..self.line_count).unwrap_or_default()
    }

    /// The first member with this key; keys are case-sensitive.
    #[inline]
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<BaggageMember<'a>> {
        self.iter().find(|member| member.key == key)
    }

    /// Number of well-formed members.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.members
    }

    /// Whether there is no well-formed member.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.members == 0
    }

    /// Number of malformed members that were skipped. Empty ones are not counted.
    #[inline]
    #[must_use]
    pub const fn malformed(&self) -> usize {
        self.malformed
    }

    /// Number of well-formed members in lines beyond [`MAX_LINES`]; they are not part of the view.
    #[inline]
    #[must_use]
    pub const fn overflowed(&self) -> usize {
        self.overflowed
    }
}

/// Whether the bytes are a key (an HTTP token).
#[must_use]
pub fn is_key(key: &[u8]) -> bool {
    OWN.is_key(key)
}

/// Whether the bytes may stand as a value without further encoding; the empty value may.
#[must_use]
pub fn is_value(value: &[u8]) -> bool {
    OWN.is_value(value)
}

impl Default for Baggage<'_> {
    fn default() -> Self {
        Self::empty()
    }
}

/// Prints counts only: baggage may hold personal data and must not reach a log by accident.
impl fmt::Debug for Baggage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Baggage")
            .field("members", &self.members)
            .field("malformed", &self.malformed)
            .field("overflowed", &self.overflowed)
            .finish_non_exhaustive()
    }
}
