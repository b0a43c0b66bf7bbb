//! Request headers as bytes, read once.
//!
//! What it is: a borrowed view over the (name, value) lines of one request, in order, with the few
//! lines that every request needs found in one pass.
//! What it is not: a parser of values. Names are lower case (Envoy guarantees it); values may hold
//! any byte except CR, LF and NUL.

/// The header lines of one request as a proxy hands them over: the number of lines, the length of
/// each name and value (all 32-bit little-endian), then the names and values, each followed by a
/// NUL (the pairs encoding of the proxy-wasm ABI). Nothing is copied.
///
/// A block that is cut or lies about its lengths yields the lines up to there.
#[derive(Clone, Copy, Default)]
pub struct HeaderBlock<'a> {
    bytes: &'a [u8],
}

/// Prints the size only: header values may be secrets.
impl std::fmt::Debug for HeaderBlock<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeaderBlock")
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

impl<'a> HeaderBlock<'a> {
    /// A view over an encoded block; no bytes at all are no lines.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Encodes lines, for tests and benchmarks.
    #[must_use]
    pub fn encode<N: AsRef<[u8]>, V: AsRef<[u8]>>(lines: &[(N, V)]) -> Vec<u8> {
        let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        let mut block = number(lines.len()).to_vec();
        for (name, value) in lines {
            block.extend_from_slice(&number(name.as_ref().len()));
            block.extend_from_slice(&number(value.as_ref().len()));
        }
        for (name, value) in lines {
            for text in [name.as_ref(), value.as_ref()] {
                block.extend_from_slice(text);
                block.push(0);
            }
        }
        block
    }

    /// Names and values in order.
    #[must_use]
    #[inline(never)]
    pub fn lines(&self) -> Lines<'a> {
        let (count, rest) = self
            .bytes
            .split_first_chunk::<4>()
            .unwrap_or((&[0; 4], &[]));
        let count = u32::from_le_bytes(*count) as usize;
        let (lengths, texts) = count
            .checked_mul(8)
            .and_then(|size| rest.split_at_checked(size))
            .unwrap_or_default();
        Lines {
            lengths: lengths.as_chunks().0.iter(),
            texts,
            at: 0,
        }
    }
}

/// Lengths of a line's name and value.
const fn split(lengths: &[u8; 8]) -> (usize, usize) {
    let [n0, n1, n2, n3, v0, v1, v2, v3] = *lengths;
    let name = u32::from_le_bytes([n0, n1, n2, n3]);
    let value = u32::from_le_bytes([v0, v1, v2, v3]);
    (name as usize, value as usize)
}

/// Iterator over the lines of a [`HeaderBlock`].
#[derive(Debug, Clone)]
pub struct Lines<'a> {
    /// Lengths of name and value of the lines to come.
    lengths: std::slice::Iter<'a, [u8; 8]>,
    /// Texts of all lines, each followed by a NUL.
    texts: &'a [u8],
    /// Where those of the lines to come begin.
    at: usize,
}

impl<'a> Lines<'a> {
    /// The next line with a name of one of these lengths (below 32), a bit each, or perhaps a longer
    /// one. Most lines concern nobody here, and nothing but their lengths is looked at.
    #[inline(never)]
    fn next_of(&mut self, name_lengths: u32) -> Option<(&'a [u8], &'a [u8])> {
        for lengths in self.lengths.by_ref() {
            let (name_len, value_len) = split(lengths);
            let name_at = self.at;
            // A block that lies may wrap around: the texts are asked with care below.
            let value_at = name_at.wrapping_add(name_len).wrapping_add(1);
            self.at = value_at.wrapping_add(value_len).wrapping_add(1);
            // Names that are 32 bytes longer, and so on, are not told apart: there are hardly any.
            if name_lengths.wrapping_shr(name_len as u32) & 1 != 0 {
                let (name, value) = self
                    .texts
                    .get(name_at..self.at)?
                    .split_at_checked(name_len)?;
                return Some((name, value.get(1..)?.get(..value_len)?));
            }
        }
        None
    }

    /// The value of the next line called `name`.
    fn next_called(&mut self, name: &[u8]) -> Option<&'a [u8]> {
        loop {
            let (line, value) = self.next_of(1_u32.wrapping_shl(name.len() as u32))?;
            if line == name {
                return Some(value);
            }
        }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = self.lengths.clone();
        let (name_len, value_len) = split(rest.next()?);
        let (name, texts) = self.texts.get(self.at..)?.split_at_checked(name_len)?;
        let (value, texts) = texts.get(1..)?.split_at_checked(value_len)?;
        let texts = texts.get(1..)?;
        self.lengths = rest;
        self.at = self.texts.len() - texts.len();
        Some((name, value))
    }
}

/// The values of all lines of one name, in order; see [`RequestHeaders::tracestate`].
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    block: HeaderBlock<'a>,
    name: &'static [u8],
    first: &'a [u8],
    count: usize,
}

impl<'a> Values<'a> {
    /// The values in order.
    #[must_use]
    pub fn iter(&self) -> ValuesIter<'a> {
        ValuesIter {
            values: *self,
            left: self.count,
            further: None,
        }
    }

    /// The value of the first line; nothing without a line.
    #[must_use]
    pub const fn first(&self) -> &'a [u8] {
        self.first
    }

    /// The number of lines.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is exactly one line of the name, and it says just this.
    #[must_use]
    pub fn is_just(&self, value: &[u8]) -> bool {
        self.count == 1 && self.first == value
    }

    /// Whether there is no line of the name.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Iterator over [`Values`]. A name has nearly always one line.
#[derive(Debug, Clone)]
pub struct ValuesIter<'a> {
    values: Values<'a>,
    left: usize,
    /// The lines after the first one of the name, once they are asked for.
    further: Option<Lines<'a>>,
}

impl<'a> Iterator for ValuesIter<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let left = self.left;
        self.left = left.checked_sub(1)?;
        if left == self.values.count {
            return Some(self.values.first);
        }
        self.further()
    }
}

impl<'a> ValuesIter<'a> {
    #[cold]
    #[inline(never)]
    fn further(&mut self) -> Option<&'a [u8]> {
        let Values { block, name, .. } = self.values;
        let lines = self.further.get_or_insert_with(|| {
            let mut lines = block.lines();
            let _first = lines.next_called(name);
            lines
        });
        lines.next_called(name)
    }
}

/// The lines that [`RequestHeaders::new`] looks for.
#[derive(Clone, Copy)]
enum Known {
    Path,
    Method,
    Scheme,
    Baggage,
    Authority,
    UserAgent,
    Tracestate,
    Traceparent,
    ContentType,
    ContentLength,
}

/// Their names in this order, which is that of their lengths.
const NAMES: [&[u8]; 10] = [
    b":path",
    b":method",
    b":scheme",
    b"baggage",
    b":authority",
    b"user-agent",
    b"tracestate",
    b"traceparent",
    b"content-type",
    b"content-length",
];

/// Their lengths, a bit each.
const LENGTHS: u32 = 1 << 5 | 1 << 7 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 14;

/// How many names are shorter, by the length of a name.
static SHORTER: [u8; 16] = [0, 0, 0, 0, 0, 0, 1, 1, 4, 4, 4, 7, 8, 9, 9, 10];

/// Most names of one length.
const SAME_LENGTH: usize = 3;

/// Which of the known lines has this name.
#[inline]
fn known(name: &[u8]) -> Option<usize> {
    let from = usize::from(*SHORTER.get(name.len())?);
    let names = NAMES.get(from..)?;
    let names = names.get(..SAME_LENGTH).unwrap_or(names);
    let at = position(names, name);
    (at < names.len()).then_some(from + at)
}

/// Where `name` stands among `names`; their number if it does not.
#[inline(never)]
pub(crate) fn position(names: &[&[u8]], name: &[u8]) -> usize {
    // Names of the same length mostly differ in their first byte: a comparison costs a call.
    let is_it = |known: &&[u8]| {
        known.len() == name.len() && known.first() == name.first() && *known == name
    };
    names.iter().position(is_it).unwrap_or(names.len())
}

/// See the module documentation.
#[derive(Debug, Clone, Copy)]
pub struct RequestHeaders<'a> {
    block: HeaderBlock<'a>,
    /// First values of lists, last values of others, and the numbers of lines.
    values: [&'a [u8]; NAMES.len()],
    counts: [usize; NAMES.len()],
    path_len: usize,
}

impl<'a> RequestHeaders<'a> {
    /// Finds the common lines in one pass.
    #[must_use]
    pub fn new(block: HeaderBlock<'a>) -> Self {
        let mut found = Self {
            block,
            // Constants are copied in one piece.
            values: const { [b""; NAMES.len()] },
            counts: [0; NAMES.len()],
            path_len: 0,
        };
        let mut lines = block.lines();
        while let Some((name, value)) = lines.next_of(LENGTHS) {
            if let Some(index) = known(name) {
                found.take(index, value);
            }
        }
        let mut path = found.target().iter();
        let end = path.position(|byte| matches!(byte, b'?' | b'#'));
        found.path_len = end.unwrap_or(found.target().len());
        found
    }

    #[inline]
    fn take(&mut self, index: usize, value: &'a [u8]) {
        const LISTS: u32 = 1 << Known::Traceparent as u32
            | 1 << Known::Tracestate as u32
            | 1 << Known::Baggage as u32;

        let (Some(place), Some(count)) = (self.values.get_mut(index), self.counts.get_mut(index))
        else {
            return;
        };
        if *count == 0 || LISTS >> index & 1 == 0 {
            *place = value;
        }
        *count = count.wrapping_add(1);
    }

    #[inline]
    fn value(&self, known: Known) -> &'a [u8] {
        self.values.get(known as usize).copied().unwrap_or_default()
    }

    #[inline]
    fn list(&self, known: Known) -> Values<'a> {
        Values {
            block: self.block,
            name: NAMES.get(known as usize).copied().unwrap_or_default(),
            first: self.value(known),
            count: self.counts.get(known as usize).copied().unwrap_or_default(),
        }
    }

    /// `:method`
    #[must_use]
    pub fn method(&self) -> &'a [u8] {
        self.value(Known::Method)
    }

    /// `:path` as it came, query included
    #[must_use]
    pub fn target(&self) -> &'a [u8] {
        self.value(Known::Path)
    }

    /// `:authority`
    #[must_use]
    pub fn authority(&self) -> &'a [u8] {
        self.value(Known::Authority)
    }

    /// `:scheme`
    #[must_use]
    pub fn scheme(&self) -> &'a [u8] {
        self.value(Known::Scheme)
    }

    /// `user-agent`
    #[must_use]
    pub fn user_agent(&self) -> &'a [u8] {
        self.value(Known::UserAgent)
    }

    /// `content-length`, if it is a number
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        decimal(self.value(Known::ContentLength))
    }

    /// Lines of `traceparent`
    #[must_use]
    pub fn traceparent(&self) -> Values<'a> {
        self.list(Known::Traceparent)
    }

    /// Lines of `tracestate`
    #[must_use]
    pub fn tracestate(&self) -> Values<'a> {
        self.list(Known::Tracestate)
    }

    /// Lines of `baggage`
    #[must_use]
    pub fn baggage(&self) -> Values<'a> {
        self.list(Known::Baggage)
    }

    /// The first value of `name` (lower case).
    #[must_use]
    pub fn first(&self, name: &str) -> Option<&'a [u8]> {
        self.block.lines().next_called(name.as_bytes())
    }

    /// The path without its query, and not beyond `?` or `#`.
    #[must_use]
    pub fn path(&self) -> &'a [u8] {
        self.target().get(..self.path_len).unwrap_or_default()
    }

    /// The query without its question mark.
    #[must_use]
    pub fn query(&self) -> Option<&'a [u8]> {
        let at = self.target().iter().position(|byte| *byte == b'?')?;
        let query = self.target().get(at + 1..)?;
        query.split(|byte| *byte == b'#').next()
    }

    /// Whether the request is gRPC: its content type is `application/grpc`, alone or followed by
    /// `+` (a codec) or `;` (gRPC over HTTP/2, "Content-Type").
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        match self
            .value(Known::ContentType)
            .strip_prefix(b"application/grpc")
        {
            Some(rest) => matches!(rest.first(), None | Some(b'+' | b';')),
            None => false,
        }
    }

    /// Host without its port; brackets of an IPv6 address stay.
    #[must_use]
    pub fn host(&self) -> &'a [u8] {
        host_of(self.authority())
    }
}

/// The host part of `host[:port]`.
#[must_use]
pub fn host_of(authority: &[u8]) -> &[u8] {
    let last = authority
        .iter()
        .rposition(|byte| matches!(byte, b':' | b']'));
    let port = last.and_then(|at| authority.split_at_checked(at));
    match port {
        Some((host, [b':', ..])) => host,
        _ => authority,
    }
}

/// The port of `host[:port]`, when it is a number.
#[must_use]
pub fn port_of(authority: &[u8]) -> Option<u16> {
    let port = authority.get(host_of(authority).len()..)?;
    decimal(port.strip_prefix(b":")?).and_then(|port| u16::try_from(port).ok())
}

/// A plain decimal number of at most 19 digits.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 {
        return None;
    }
    // Nineteen digits always fit.
    value.iter().try_fold(0_u64, |sum, byte| match byte {
        b'0'..=b'9' => Some(sum.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'))),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
