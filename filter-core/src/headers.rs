//! Request headers as bytes, read once.
//!
//! What it is: a borrowed view over the (name, value) lines of one request, in order, with the few
//! lines that every request needs found in one pass.
//! What it is not: a parser of values. Names are lower case (Envoy guarantees it); values may hold
//! any byte except CR, LF and NUL.

/// One header line: name and value.
pub type Line = (String, Vec<u8>);

/// See the module documentation.
#[derive(Debug, Clone, Copy)]
pub struct RequestHeaders<'a> {
    lines: &'a [Line],
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
    /// `content-length`, when it is a number
    pub content_length: Option<u64>,
    /// First `traceparent` line
    pub traceparent: Option<&'a [u8]>,
    /// Number of `traceparent` lines
    pub traceparent_lines: usize,
}

impl<'a> RequestHeaders<'a> {
    /// Finds the common lines in one pass.
    #[must_use]
    pub fn new(lines: &'a [Line]) -> Self {
        let mut found = Self {
            lines,
            method: b"",
            target: b"",
            authority: b"",
            scheme: b"",
            content_type: b"",
            content_length: None,
            traceparent: None,
            traceparent_lines: 0,
        };
        for (name, value) in lines {
            let value = value.as_slice();
            match name.as_bytes() {
                b":method" => found.method = value,
                b":path" => found.target = value,
                b":authority" => found.authority = value,
                b":scheme" => found.scheme = value,
                b"content-type" => found.content_type = value,
                b"content-length" => found.content_length = decimal(value),
                b"traceparent" => {
                    found.traceparent_lines += 1;
                    found.traceparent.get_or_insert(value);
                }
                _ => {}
            }
        }
        found
    }

    /// All values of the lines called `name` (lower case), in order.
    pub fn all<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let lines = self.lines.iter().filter(move |(line, _)| line == name);
        lines.map(|(_, value)| value.as_slice())
    }

    /// The first value of `name` (lower case).
    #[must_use]
    pub fn first(&self, name: &str) -> Option<&'a [u8]> {
        let line = self.lines.iter().find(|(line, _)| line == name);
        line.map(|(_, value)| value.as_slice())
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

    fn lines(pairs: &[(&str, &[u8])]) -> Vec<Line> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.to_vec()))
            .collect()
    }

    #[test]
    fn repeated_lines_keep_their_order_and_repeated_traceparents_are_counted() {
        let lines = lines(&[
            ("tracestate", b"a=1"),
            ("traceparent", b"x"),
            ("tracestate", b"b=2"),
            ("traceparent", b"y"),
        ]);
        let headers = RequestHeaders::new(&lines);
        assert_eq!(
            headers.all("tracestate").collect::<Vec<_>>(),
            [b"a=1", b"b=2"]
        );
        assert_eq!(
            (headers.traceparent, headers.traceparent_lines),
            (Some(b"x".as_slice()), 2)
        );
    }

    #[test]
    fn path_and_host_lose_query_and_port() {
        let lines = lines(&[(":path", b"/pay?card=1"), (":authority", b"pay.svc:8080")]);
        let headers = RequestHeaders::new(&lines);
        assert_eq!(headers.path(), b"/pay");
        assert_eq!(headers.host(), b"pay.svc");
        assert_eq!(host_of(b"[::1]:80"), b"[::1]");
        assert_eq!(host_of(b"[::1]"), b"[::1]");
        assert_eq!(host_of(b"pay"), b"pay");
        assert_eq!(host_of(b""), b"");
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
            let lines = lines(&[("content-type", value.as_bytes())]);
            assert_eq!(RequestHeaders::new(&lines).is_grpc(), wanted, "{value}");
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
            let lines = lines(&[("content-length", value.as_bytes())]);
            assert_eq!(RequestHeaders::new(&lines).content_length, wanted);
        }
    }
}
