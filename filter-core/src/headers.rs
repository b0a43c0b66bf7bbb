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
            lengths: lengths.as_chunks().0,
            texts,
            at: 0,
        }
    }
}

/// Iterator over the lines of a [`HeaderBlock`].
#[derive(Debug, Clone, Copy)]
pub struct Lines<'a> {
    /// Lengths of name and value of the lines to come.
    lengths: &'a [[u8; 8]],
    /// Texts of all lines, each followed by a NUL.
    texts: &'a [u8],
    /// Where those of the lines to come begin.
    at: usize,
}

impl<'a> Lines<'a> {
    /// The next line with a name of one of these lengths, a bit each. Most lines concern nobody
    /// here, and nothing but their lengths is looked at.
    #[inline(always)]
    fn next_of(&mut self, name_lengths: u64) -> Option<(&'a [u8], &'a [u8])> {
        while let Some((lengths, rest)) = self.lengths.split_first() {
            let lengths = u64::from_le_bytes(*lengths);
            let (name_len, value_len) = (lengths as u32 as usize, (lengths >> 32) as usize);
            let name_at = self.at;
            // A block that lies may wrap around: the texts are asked with care below.
            let value_at = name_at.wrapping_add(name_len).wrapping_add(1);
            self.at = value_at.wrapping_add(value_len).wrapping_add(1);
            self.lengths = rest;
            if name_len < 64 && name_lengths >> name_len & 1 != 0 {
                return Some((
                    self.text(name_at, name_len)?,
                    self.text(value_at, value_len)?,
                ));
            }
        }
        None
    }

    #[inline(always)]
    fn text(&self, at: usize, length: usize) -> Option<&'a [u8]> {
        self.texts.get(at..)?.get(..length)
    }

    /// The value of the next line called `name`.
    fn next_called(&mut self, name: &[u8]) -> Option<&'a [u8]> {
        if name.len() >= 64 {
            return self.find(|(line, _)| *line == name).map(|(_, value)| value);
        }
        let mut lines = *self;
        loop {
            let (line, value) = lines.next_of(1 << name.len())?;
            if line == name {
                *self = lines;
                return Some(value);
            }
        }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (lengths, rest) = self.lengths.split_first()?;
        let lengths = u64::from_le_bytes(*lengths);
        let (name, texts) = self
            .texts
            .get(self.at..)?
            .split_at_checked(lengths as u32 as usize)?;
        let (value, texts) = texts.get(1..)?.split_at_checked((lengths >> 32) as usize)?;
        let texts = texts.get(1..)?;
        self.lengths = rest;
        self.at = self.texts.len() - texts.len();
        Some((name, value))
    }
}

/// The values of all lines of one name, in order; see [`RequestHeaders::tracestate`].
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    name: &'static str,
    first: Option<&'a [u8]>,
    /// The lines after the first one, and how many of them have the name.
    rest: Lines<'a>,
    more: usize,
}

impl<'a> Values<'a> {
    const fn none(name: &'static str) -> Self {
        Self {
            name,
            first: None,
            rest: Lines {
                lengths: &[],
                texts: &[],
                at: 0,
            },
            more: 0,
        }
    }

    fn add(&mut self, value: &'a [u8], rest: Lines<'a>) {
        if self.first.is_some() {
            self.more = self.more.saturating_add(1);
        } else {
            (self.first, self.rest) = (Some(value), rest);
        }
    }

    /// Whether there is exactly one line of the name, and it says just this.
    #[must_use]
    pub fn is_just(&self, value: &[u8]) -> bool {
        self.more == 0 && self.first == Some(value)
    }

    /// Whether there is no line of the name.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        self.more = self.more.checked_sub(1)?;
        self.rest.next_called(self.name.as_bytes())
    }
}

/// Lengths of the names that [`RequestHeaders::new`] looks for, a bit each.
const FIXED_LENGTHS: u64 = 1 << 5 | 1 << 7 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 14;

/// See the module documentation.
#[derive(Debug, Clone, Copy)]
pub struct RequestHeaders<'a> {
    block: HeaderBlock<'a>,
    /// `:method`
    pub method: &'a [u8],
    /// `:path` as it came, query included
    pub target: &'a [u8],
    path_len: usize,
    /// `:authority`
    pub authority: &'a [u8],
    /// `:scheme`
    pub scheme: &'a [u8],
    /// `content-type`
    pub content_type: &'a [u8],
    /// `user-agent`
    pub user_agent: &'a [u8],
    /// `content-length`
    pub content_length: Option<u64>,
    /// First `traceparent` line
    pub traceparent: Option<&'a [u8]>,
    /// Number of `traceparent` lines
    pub traceparent_lines: usize,
    /// Lines of `tracestate`
    pub tracestate: Values<'a>,
    /// Lines of `baggage`
    pub baggage: Values<'a>,
}

impl<'a> RequestHeaders<'a> {
    /// Finds the common lines in one pass.
    #[must_use]
    pub fn new(block: HeaderBlock<'a>) -> Self {
        let mut found = Self {
            block,
            method: b"",
            target: b"",
            path_len: 0,
            authority: b"",
            scheme: b"",
            content_type: b"",
            user_agent: b"",
            content_length: None,
            traceparent: None,
            traceparent_lines: 0,
            tracestate: Values::none("tracestate"),
            baggage: Values::none("baggage"),
        };
        let mut lines = block.lines();
        while let Some((name, value)) = lines.next_of(FIXED_LENGTHS) {
            found.take(name, value, lines);
        }
        let end = found
            .target
            .iter()
            .position(|byte| matches!(byte, b'?' | b'#'));
        found.path_len = end.unwrap_or(found.target.len());
        found
    }

    /// Takes a line that may be one of the common ones; `rest` follows it.
    fn take(&mut self, name: &[u8], value: &'a [u8], rest: Lines<'a>) {
        match name {
            b":method" => self.method = value,
            b":path" => self.target = value,
            b":authority" => self.authority = value,
            b":scheme" => self.scheme = value,
            b"content-type" => self.content_type = value,
            b"user-agent" => self.user_agent = value,
            b"content-length" => self.content_length = decimal(value),
            b"traceparent" => {
                self.traceparent_lines += 1;
                self.traceparent.get_or_insert(value);
            }
            b"tracestate" => self.tracestate.add(value, rest),
            b"baggage" => self.baggage.add(value, rest),
            _ => {}
        }
    }

    /// The first value of `name` (lower case).
    #[must_use]
    pub fn first(&self, name: &str) -> Option<&'a [u8]> {
        self.block.lines().next_called(name.as_bytes())
    }

    /// The path without its query, and not beyond `?` or `#`.
    #[must_use]
    pub fn path(&self) -> &'a [u8] {
        self.target.get(..self.path_len).unwrap_or_default()
    }

    /// The query without its question mark.
    #[must_use]
    pub fn query(&self) -> Option<&'a [u8]> {
        let at = self.target.iter().position(|byte| *byte == b'?')?;
        let query = self.target.get(at + 1..)?;
        query.split(|byte| *byte == b'#').next()
    }

    /// Whether the request is gRPC: its content type is `application/grpc`, alone or followed by
    /// `+` (a codec) or `;` (gRPC over HTTP/2, "Content-Type").
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        match self.content_type.strip_prefix(b"application/grpc") {
            Some(rest) => matches!(rest.first(), None | Some(b'+' | b';')),
            None => false,
        }
    }

    /// Host without its port; brackets of an IPv6 address stay.
    #[must_use]
    pub fn host(&self) -> &'a [u8] {
        host_of(self.authority)
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
mod tests {
    use super::*;

    fn block(pairs: &[(&str, &[u8])]) -> Vec<u8> {
        HeaderBlock::encode(pairs)
    }

    #[test]
    fn a_block_yields_its_lines_and_a_damaged_one_those_before_the_damage() {
        let whole = block(&[(":path", b"/"), ("x", b""), ("", b"\xff")]);
        fn lines(bytes: &[u8]) -> usize {
            HeaderBlock::new(bytes).lines().count()
        }
        let read: Vec<_> = HeaderBlock::new(&whole).lines().collect();
        assert_eq!(
            read,
            [(&b":path"[..], &b"/"[..]), (b"x", b""), (b"", b"\xff")]
        );
        assert_eq!(lines(b""), 0);
        for cut in 0..whole.len() {
            assert!(lines(&whole[..cut]) < 3);
        }
        for lie in 0..whole.len() {
            let mut block = whole.clone();
            block[lie] = 0xff;
            assert!(lines(&block) <= 3);
        }
    }

    #[test]
    fn repeated_lines_keep_their_order_and_are_counted() {
        let block = block(&[
            ("tracestate", b"a=1"),
            ("traceparent", b"x"),
            ("tracestate", b"b=2"),
            ("traceparent", b"y"),
        ]);
        let headers = RequestHeaders::new(HeaderBlock::new(&block));
        assert_eq!(headers.tracestate.collect::<Vec<_>>(), [b"a=1", b"b=2"]);
        assert_eq!(headers.traceparent, Some(b"x".as_slice()));
        assert_eq!(headers.traceparent_lines, 2);
        assert!(headers.baggage.is_empty());
        for name in ["tracestate", "traceparent"] {
            assert!(headers.first(name).is_some());
        }
        assert_eq!(headers.first("baggage"), None);
    }

    #[test]
    fn path_and_host_lose_query_and_port() {
        let block = block(&[(":path", b"/pay?card=1"), (":authority", b"pay.svc:8080")]);
        let headers = RequestHeaders::new(HeaderBlock::new(&block));
        assert_eq!(headers.path(), b"/pay");
        assert_eq!(headers.host(), b"pay.svc");
        assert_eq!(host_of(b"[::1]:80"), b"[::1]");
        assert_eq!(host_of(b"[::1]"), b"[::1]");
        assert_eq!(host_of(b"pay"), b"pay");
        assert_eq!(host_of(b""), b"");
        assert_eq!(port_of(b"pay:80"), Some(80));
        assert_eq!(port_of(b"[::1]:80"), Some(80));
        for none in [&b"pay"[..], b"pay:", b"pay:x", b"pay:99999", b"[::1]"] {
            assert_eq!(port_of(none), None);
        }
    }

    #[test]
    fn only_real_grpc_content_types_are_grpc() {
        for (value, wanted) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
            ("", false),
        ] {
            let block = block(&[("content-type", value.as_bytes())]);
            let headers = RequestHeaders::new(HeaderBlock::new(&block));
            assert_eq!(headers.is_grpc(), wanted, "{value}");
        }
    }

    #[test]
    fn a_content_length_that_is_no_number_is_ignored() {
        for (value, wanted) in [
            ("12", Some(12)),
            ("-1", None),
            ("99999999999999999999", None),
            ("", None),
        ] {
            let block = block(&[("content-length", value.as_bytes())]);
            let headers = RequestHeaders::new(HeaderBlock::new(&block));
            assert_eq!(headers.content_length, wanted);
        }
    }
}
