//! What is remembered of a request's headers until the stream ends.
//!
//! Header maps are gone or expensive later, and a whole header map per request in flight would be
//! memory that clients control. So the few values that the span and the end-of-stream rules need
//! are copied once, into one buffer.
//!
//! Limits: each value is cut at [`MAX_VALUE_BYTES`]; the headers and baggage keys kept for rules
//! are named by the policy, at most [`MAX_KEPT`] of them.

use crate::headers::RequestHeaders;
use crate::route::Route;

/// Longest value kept; a longer path or header is cut (it only feeds attributes and rules).
pub const MAX_VALUE_BYTES: usize = 1024;

/// Most values kept for rules beside the fixed ones.
pub const MAX_KEPT: usize = 16;

/// HTTP versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
    /// HTTP/3
    Http3,
}

impl Protocol {
    /// Reads Envoy's name of the version.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        match name {
            b"HTTP/1.0" => Some(Self::Http10),
            b"HTTP/1.1" => Some(Self::Http11),
            b"HTTP/2" => Some(Self::Http2),
            b"HTTP/3" => Some(Self::Http3),
            _ => None,
        }
    }

    /// The value of `network.protocol.version`.
    #[must_use]
    pub const fn version(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
            Self::Http3 => "3",
        }
    }
}

/// A piece of the buffer, which never holds more than [`MAX_KEPT`] and a few values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Piece {
    start: u16,
    len: u16,
}

const _: () = assert!((MAX_KEPT + FIXED) * MAX_VALUE_BYTES <= u16::MAX as usize);

/// Room for method, scheme, authority and what collapsed identifiers add to a route.
const SHORT_TEXTS_BYTES: usize = 80;

/// Pieces of every request: method, path, scheme, authority, route.
const FIXED: usize = 5;
const METHOD: usize = 0;
const PATH: usize = 1;
const SCHEME: usize = 2;
const AUTHORITY: usize = 3;
const ROUTE: usize = 4;

/// See the module documentation.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    buffer: Vec<u8>,
    fixed: [Piece; FIXED],
    /// Number of the route.
    pub(crate) route_number: u16,
    /// Whether the request is gRPC.
    pub grpc: bool,
    /// `content-length` of the request.
    pub content_length: Option<u64>,
    /// HTTP version, where a rule needs it or the span is kept.
    pub protocol: Option<Protocol>,
    kept: Vec<Option<Piece>>,
}

impl Facts {
    /// Of no request; takes no memory.
    pub(crate) const NONE: Self = Self {
        buffer: Vec::new(),
        fixed: [Piece { start: 0, len: 0 }; FIXED],
        route_number: 0,
        grpc: false,
        content_length: None,
        protocol: None,
        kept: Vec::new(),
    };

    /// Copies the fixed values, and the values that the policy's rules need at the end.
    #[must_use]
    pub fn copy<'a>(
        headers: &RequestHeaders<'a>,
        kept: impl Iterator<Item = Option<&'a [u8]>>,
    ) -> Self {
        let mut facts = Self::NONE;
        facts.copy_fixed(headers);
        for value in kept {
            facts.keep(value);
        }
        facts
    }

    /// Copies the fixed values; once.
    pub(crate) fn copy_fixed(&mut self, headers: &RequestHeaders<'_>) {
        let path = headers.path();
        // The path twice: its route is at most a little longer. The others are short; what does not
        // fit makes it grow.
        let room = path.len().wrapping_mul(2).wrapping_add(SHORT_TEXTS_BYTES);
        self.buffer = Vec::with_capacity(room.min(4 * MAX_VALUE_BYTES));
        self.grpc = headers.is_grpc();
        self.content_length = headers.content_length();
        self.set(METHOD, headers.method());
        self.set(PATH, path);
        self.set(SCHEME, headers.scheme());
        self.set(AUTHORITY, headers.authority());
    }

    /// Copies the next value that the policy's rules need at the end.
    pub(crate) fn keep(&mut self, value: Option<&[u8]>) {
        if self.kept.len() < MAX_KEPT {
            let piece = value.map(|value| self.push(value));
            self.kept.push(piece);
        }
    }

    fn push(&mut self, value: &[u8]) -> Piece {
        let cut = value.get(..MAX_VALUE_BYTES).unwrap_or(value);
        let piece = Piece {
            start: self.buffer.len() as u16,
            len: cut.len() as u16,
        };
        self.buffer.extend_from_slice(cut);
        piece
    }

    #[inline(never)]
    fn set(&mut self, index: usize, value: &[u8]) {
        let piece = self.push(value);
        if let Some(place) = self.fixed.get_mut(index) {
            *place = piece;
        }
    }

    fn piece(&self, piece: Piece) -> &[u8] {
        let start = usize::from(piece.start);
        self.buffer
            .get(start..start + usize::from(piece.len))
            .unwrap_or_default()
    }

    #[inline(never)]
    fn fixed(&self, index: usize) -> &[u8] {
        self.piece(self.fixed.get(index).copied().unwrap_or_default())
    }

    /// `:method`
    #[must_use]
    pub fn method(&self) -> &[u8] {
        self.fixed(METHOD)
    }

    /// `:path` without its query
    #[must_use]
    pub fn path(&self) -> &[u8] {
        self.fixed(PATH)
    }

    /// `:scheme`
    #[must_use]
    pub fn scheme(&self) -> &[u8] {
        self.fixed(SCHEME)
    }

    /// `:authority`
    #[must_use]
    pub fn authority(&self) -> &[u8] {
        self.fixed(AUTHORITY)
    }

    /// The route found for the path; empty before [`Facts::set_route`].
    #[must_use]
    pub fn route(&self) -> &[u8] {
        self.fixed(ROUTE)
    }

    /// Remembers the route.
    pub fn set_route(&mut self, route: Route<'_>) {
        self.route_number = route.number;
        self.set(ROUTE, route.name);
    }

    /// gRPC service: the part of the path between the first and the last slash.
    #[must_use]
    pub fn rpc_service(&self) -> Option<&[u8]> {
        self.rpc().map(|(service, _)| service)
    }

    /// gRPC method: the part of the path after the last slash.
    #[must_use]
    pub fn rpc_method(&self) -> Option<&[u8]> {
        self.rpc().map(|(_, method)| method)
    }

    fn rpc(&self) -> Option<(&[u8], &[u8])> {
        self.grpc.then(|| rpc_of(self.path())).flatten()
    }

    /// The value kept at `index` of the policy's list; `None` when the request had none.
    #[must_use]
    pub fn kept(&self, index: usize) -> Option<&[u8]> {
        let piece = self.kept.get(index).copied().flatten()?;
        Some(self.piece(piece))
    }

    /// Bytes that one request in flight holds here.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.buffer.capacity() + self.kept.capacity() * size_of::<Option<Piece>>()
    }
}

/// gRPC service and method of a path: what stands before and after its last slash.
pub(crate) fn rpc_of(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let path = path.strip_prefix(b"/")?;
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    Some((path.get(..slash)?, path.get(slash + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::HeaderBlock;

    fn facts(pairs: &[(&str, &str)]) -> Facts {
        let block = HeaderBlock::encode(pairs);
        let headers = RequestHeaders::new(HeaderBlock::new(&block));
        Facts::copy(
            &headers,
            [headers.first("x-a"), headers.first("x-b")].into_iter(),
        )
    }

    #[test]
    fn values_survive_their_header_map() {
        let facts = facts(&[
            (":method", "GET"),
            (":path", "/a?b"),
            (":authority", "h:1"),
            ("x-b", "v"),
        ]);
        assert_eq!(
            (facts.method(), facts.path(), facts.authority()),
            (&b"GET"[..], &b"/a"[..], &b"h:1"[..])
        );
        assert_eq!(
            (facts.kept(0), facts.kept(1), facts.kept(2)),
            (None, Some(&b"v"[..]), None)
        );
    }

    #[test]
    fn a_grpc_path_splits_at_its_last_slash() {
        let grpc = facts(&[
            (":path", "/shop.v1.Pay/Charge"),
            ("content-type", "application/grpc"),
        ]);
        assert_eq!(grpc.rpc_service(), Some(&b"shop.v1.Pay"[..]));
        assert_eq!(grpc.rpc_method(), Some(&b"Charge"[..]));
        assert_eq!(
            facts(&[(":path", "/shop.v1.Pay/Charge")]).rpc_service(),
            None
        );
        assert_eq!(
            facts(&[(":path", "x"), ("content-type", "application/grpc")]).rpc_method(),
            None
        );
    }

    #[test]
    fn a_huge_path_does_not_hold_its_memory() {
        let path = format!("/{}", "x".repeat(60_000));
        let facts = facts(&[(":path", &path)]);
        assert_eq!(facts.path().len(), MAX_VALUE_BYTES);
        assert!(facts.heap_bytes() < 5 * MAX_VALUE_BYTES);
    }
}
