//! The `traceparent` header: parse every version, write version 00.
//!
//! The ordinary header (version 00, valid) takes one path without a branch on the data. Everything
//! else goes to a cold path that either finds a header of a later version or the first wrong byte.
//!
//! It does not decide what to do with an invalid header: the standard says to start a new trace
//! and to delete `tracestate`.

mod error;

use core::fmt;
use core::str::FromStr;

pub use self::error::{TraceParentError, TraceParentErrorReason};
use crate::bytes;
use crate::flags::TraceFlags;
use crate::hex;
use crate::id::{SpanId, TraceId};

/// Length of a version 00 header, and of the part of later versions that is read.
pub const TRACEPARENT_LEN: usize = 55;

/// A valid `traceparent`.
///
/// ```
/// use w3c_traceparent_parser::{SpanId, TraceParent};
///
/// let incoming = TraceParent::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")?;
/// assert!(incoming.flags.is_sampled());
///
/// // Each hop keeps the trace id and puts its own span id in.
/// let own = SpanId::from_u64(0xb7ad_6b71_6920_3331).unwrap();
/// let outgoing = TraceParent { parent_id: own, ..incoming };
/// assert_eq!(
///     &outgoing.to_bytes(),
///     b"00-4bf92f3577b34da6a3ce929d0e0e4736-b7ad6b7169203331-01",
/// );
/// # Ok::<(), w3c_traceparent_parser::TraceParentError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// The trace this request belongs to.
    pub trace_id: TraceId,
    /// The span of the caller.
    pub parent_id: SpanId,
    /// What the caller decided and promises.
    pub flags: TraceFlags,
}

/// What is written before the ids are put in.
const BLANK: [u8; TRACEPARENT_LEN] = *b"00-00000000000000000000000000000000-0000000000000000-00";

impl TraceParent {
    /// Name of the header: written in lower case, received in any (`eq_ignore_ascii_case`).
    pub const HEADER: &str = "traceparent";

    /// Parses one header value. Space and tab around it are ignored.
    ///
    /// Versions 01 to fe are accepted as the standard asks: the first four fields are read, what
    /// follows another dash is ignored.
    ///
    /// # Errors
    /// The value is not a `traceparent`; the error says where and why.
    #[inline]
    pub fn parse(value: &[u8]) -> Result<Self, TraceParentError> {
        if let Ok(fields) = <&[u8; TRACEPARENT_LEN]>::try_from(value)
            && let Some(parsed) = Self::parse_version_00(fields)
        {
            return Ok(parsed);
        }
        Self::parse_cold(value)
    }

    /// Parses all `traceparent` lines of one request: no line is `None`, more than one line is an
    /// error, even if they are equal.
    ///
    /// # Errors
    /// As [`TraceParent::parse`], and for a second line.
    pub fn parse_lines<'l>(
        lines: impl IntoIterator<Item = &'l [u8]>,
    ) -> Result<Option<Self>, TraceParentError> {
        let mut lines = lines.into_iter();
        let Some(line) = lines.next() else {
            return Ok(None);
        };
        if lines.next().is_some() {
            return Err(TraceParentError::new(0, TraceParentErrorReason::Repeated));
        }
        Self::parse(line).map(Some)
    }

    /// The version 00 header.
    #[inline]
    #[must_use]
    pub fn to_bytes(&self) -> [u8; TRACEPARENT_LEN] {
        let mut out = [0; TRACEPARENT_LEN];
        self.write(&mut out);
        out
    }

    /// Writes the version 00 header.
    #[inline]
    pub fn write(&self, out: &mut [u8; TRACEPARENT_LEN]) {
        *out = BLANK;
        let [_, _, _, rest @ .., flags] = out;
        if let Some((trace_id, [_, rest @ ..])) = rest.split_first_chunk_mut::<32>() {
            self.trace_id.write_hex(trace_id);
            if let Some((parent_id, _)) = rest.split_first_chunk_mut::<16>() {
                self.parent_id.write_hex(parent_id);
            }
        }
        // Only two bits can be set.
        *flags = b'0' | self.flags.bits();
    }

    /// The ordinary header without a branch on its bytes: the ids are decoded, every deviation is
    /// collected in one value, and one look at the end decides. Flags that nobody sends are left to
    /// the cold path.
    #[inline]
    fn parse_version_00(b: &[u8; TRACEPARENT_LEN]) -> Option<Self> {
        let [v0, v1, dash0, rest @ ..] = b;
        let (high, rest) = rest.split_first_chunk::<16>()?;
        let (low, [dash1, rest @ ..]) = rest.split_first_chunk::<16>()? else {
            return None;
        };
        let (parent, [dash2, f0, f1]) = rest.split_first_chunk::<16>()? else {
            return None;
        };
        let flags = f1 ^ b'0';
        let zeros = (v0 ^ b'0') | (v1 ^ b'0') | (f0 ^ b'0') | (flags & !3);
        let dashes = (dash0 ^ b'-') | (dash1 ^ b'-') | (dash2 ^ b'-');
        let mut error = u64::from(zeros | dashes);
        let high = hex::decode_u64(high, &mut error);
        let low = hex::decode_u64(low, &mut error);
        let parent = hex::decode_u64(parent, &mut error);
        if error != 0 {
            return None;
        }
        Some(Self {
            trace_id: TraceId::from_u128(u128::from(high) << 64 | u128::from(low))?,
            parent_id: SpanId::from_u64(parent)?,
            flags: TraceFlags::from_bits(flags),
        })
    }

    /// Everything that is not a valid version 00 header of exactly 55 bytes.
    #[cold]
    #[inline(never)]
    fn parse_cold(value: &[u8]) -> Result<Self, TraceParentError> {
        let unpadded = bytes::trim_start(value);
        let skipped = value.len() - unpadded.len();
        Self::parse_fields(bytes::trim_end(unpadded))
            .map_err(|(offset, reason)| TraceParentError::new(skipped + offset, reason))
    }

    fn parse_fields(value: &[u8]) -> Result<Self, (usize, TraceParentErrorReason)> {
        use TraceParentErrorReason as Reason;

        if value.is_empty() {
            return Err((0, Reason::Empty));
        }
        let mut reader = Reader { value, offset: 0 };
        let version = reader.hex_field(2)?;
        if version == 0xff {
            return Err((0, Reason::VersionForbidden));
        }
        reader.dash()?;
        let trace_id_at = reader.offset;
        let trace_id = reader.hex_field(32)?;
        reader.dash()?;
        let parent_id_at = reader.offset;
        let parent_id = reader.hex_field(16)?;
        reader.dash()?;
        let flags = reader.hex_field(2)?;
        match value.get(reader.offset) {
            None => {}
            Some(_) if version == 0 => return Err((reader.offset, Reason::TrailingData)),
            // Later versions may go on, but only with a further field.
            Some(_) => reader.dash()?,
        }
        let (parent_id, flags) = (parent_id as u64, flags as u8);
        Ok(Self {
            trace_id: TraceId::from_u128(trace_id).ok_or((trace_id_at, Reason::ZeroTraceId))?,
            parent_id: SpanId::from_u64(parent_id).ok_or((parent_id_at, Reason::ZeroParentId))?,
            flags: TraceFlags::from_bits(flags),
        })
    }
}

/// Reads field by field and knows where it stands; used by the cold path only.
struct Reader<'v> {
    value: &'v [u8],
    offset: usize,
}

impl Reader<'_> {
    fn hex_field(&mut self, digits: usize) -> Result<u128, (usize, TraceParentErrorReason)> {
        let mut field = 0;
        for _ in 0..digits {
            let byte = self.next()?;
            let digit = hex::digit(byte).ok_or_else(|| {
                let reason = match byte {
                    b'A'..=b'F' => TraceParentErrorReason::UppercaseHex,
                    _ => TraceParentErrorReason::InvalidHex,
                };
                (self.offset - 1, reason)
            })?;
            field = field << 4 | u128::from(digit);
        }
        Ok(field)
    }

    fn dash(&mut self) -> Result<(), (usize, TraceParentErrorReason)> {
        match self.next()? {
            b'-' => Ok(()),
            _ => Err((self.offset - 1, TraceParentErrorReason::ExpectedDash)),
        }
    }

    fn next(&mut self) -> Result<u8, (usize, TraceParentErrorReason)> {
        let byte = self.value.get(self.offset).copied();
        let byte = byte.ok_or((self.offset, TraceParentErrorReason::TooShort))?;
        self.offset += 1;
        Ok(byte)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(core::str::from_utf8(&self.to_bytes()).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceParent({self})")
    }
}

impl FromStr for TraceParent {
    type Err = TraceParentError;

    fn from_str(text: &str) -> Result<Self, TraceParentError> {
        Self::parse(text.as_bytes())
    }
}

impl TryFrom<&[u8]> for TraceParent {
    type Error = TraceParentError;

    fn try_from(value: &[u8]) -> Result<Self, TraceParentError> {
        Self::parse(value)
    }
}
