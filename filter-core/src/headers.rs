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
        let count = number_at(self.bytes, 0).unwrap_or(0);
        let lengths = self.bytes.get(4..).unwrap_or_default();
        let (lengths, texts) = count
            .checked_mul(8)
            .and_then(|size| lengths.split_at_checked(size))
            .unwrap_or_default();
        Lines { lengths, texts }
    }
}

fn number_at(bytes: &[u8], at: usize) -> Option<usize> {
    let digits = bytes.get(at..)?.first_chunk::<4>()?;
    usize::try_from(u32::from_le_bytes(*digits)).ok()
}

/// Iterator over the lines of a [`HeaderBlock`].
#[derive(Debug, Clone)]
pub struct Lines<'a> {
    lengths: &'a [u8],
    texts: &'a [u8],
}

impl<'a> Lines<'a> {
    fn text(&mut self, length: usize) -> Option<&'a [u8]> {
        let (text, rest) = self.texts.split_at_checked(length)?;
        self.texts = rest.get(1..)?;
        Some(text)
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = (number_at(self.lengths, 0)?, number_at(self.lengths, 4)?);
        self.lengths = self.lengths.get(8..)?;
        Some((self.text(name)?, self.text(value)?))
    }
}

/// See the module documentation.
#[derive(Debug, Clone, Copy)]
pub struct RequestHeaders<'a> {
    block: HeaderBlock<'a>,
    /// `:method`
    pub method: &'a [u8],
    /// `:path` as it came, query included
    pub target: &'a [u8],
    /// `:authority`
    pub authority: &'a [u8],
    /// `:scheme`
    pub scheme: &'a [u8],
    /// `content-type`
    pub content_type: &'a [u8],
    /// `user-agent`
    pub user_agent: &'a [u8],
    /// `content-length`, when it is a number
    pub content_length: Option<u64>,
    /// First `traceparent` line
    pub traceparent: Option<&'a [u8]>,
    /// Number of `traceparent` lines
    pub traceparent_lines: usize,
    /// Number of `tracestate` lines
    pub tracestate_lines: usize,
    /// Number of `baggage` lines
    pub baggage_lines: usize,
}

impl<'a> RequestHeaders<'a> {
    /// Finds the common lines in one pass.
    #[must_use]
    pub fn new(block: HeaderBlock<'a>) -> Self {
        let mut found = Self {
            block,
            method: b"",
            target: b"",
            authority: b"",
            scheme: b"",
            content_type: b"",
            user_agent: b"",
            content_length: None,
            traceparent: None,
            traceparent_lines: 0,
            tracestate_lines: 0,
            baggage_lines: 0,
        };
        for (name, value) in block.lines() {
            match name {
                b":method" => found.method = value,
                b":path" => found.target = value,
                b":authority" => found.authority = value,
                b":scheme" => found.scheme = value,
                b"content-type" => found.content_type = value,
                b"user-agent" => found.user_agent = value,
                b"content-length" => found.content_length = decimal(value),
                b"traceparent" => {
                    found.traceparent_lines += 1;
                    found.traceparent.get_or_insert(value);
                }
                b"tracestate" => found.tracestate_lines += 1,
                b"baggage" => found.baggage_lines += 1,
                _ => {}
            }
        }
        found
    }

    /// All values of the lines called `name` (lower case), in order.
    pub fn all<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let lines = self.block.lines();
        lines.filter_map(move |(line, value)| (line == name.as_bytes()).then_some(value))
    }

    /// The first value of `name` (lower case).
    #[must_use]
    pub fn first(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The path without its query, and not beyond `?` or `#`.
    #[must_use]
    pub fn path(&self) -> &'a [u8] {
        let end = self
            .target
            .iter()
            .position(|byte| matches!(byte, b'?' | b'#'));
        end.and_then(|end| self.target.get(..end))
            .unwrap_or(self.target)
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
    let after_bracket = authority
        .iter()
        .rposition(|byte| *byte == b']')
        .unwrap_or(0);
    let colon = authority.iter().rposition(|byte| *byte == b':');
    match colon {
        Some(at) if at > after_bracket || after_bracket == 0 => {
            authority.get(..at).unwrap_or(authority)
        }
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
    value.iter().try_fold(0_u64, |sum, byte| match byte {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
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
        assert_eq!(
            headers.all("tracestate").collect::<Vec<_>>(),
            [b"a=1", b"b=2"]
        );
        assert_eq!(headers.traceparent, Some(b"x".as_slice()));
        let counts = (headers.traceparent_lines, headers.tracestate_lines);
        assert_eq!((counts, headers.baggage_lines), ((2, 2), 0));
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
