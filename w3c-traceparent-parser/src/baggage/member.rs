//! One member of a list, and its properties.

use core::fmt;

use crate::bytes;

/// One well-formed member, as it came.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BaggageMember<'a> {
    /// The key, an HTTP token.
    pub key: &'a [u8],
    /// The value, still percent-encoded; may be empty.
    pub value: &'a [u8],
    /// Everything after the first semicolon, or nothing.
    pub properties: &'a [u8],
    /// The whole member without white space around it: what a proxy passes on.
    pub raw: &'a [u8],
}

impl<'a> BaggageMember<'a> {
    pub(super) fn parse(raw: &'a [u8]) -> Option<Self> {
        let (pair, properties) = bytes::cut(raw, b';');
        let (key, value) = bytes::cut(pair, b'=');
        let (key, value) = (bytes::trim(key), bytes::trim(value?));
        if !super::is_key(key) || !super::is_value(value) {
            return None;
        }
        if let Some(properties) = properties
            && !(Properties {
                rest: Some(properties),
            })
            .all(|property| property.is_well_formed())
        {
            return None;
        }
        Some(Self {
            key,
            value,
            properties: properties.map(bytes::trim).unwrap_or_default(),
            raw,
        })
    }

    /// The properties in order.
    ///
    /// ```
    /// use w3c_traceparent_parser::baggage::Baggage;
    ///
    /// let baggage = Baggage::parse(b"key=value; internal ; ttl = 3");
    /// let member = baggage.get(b"key").unwrap();
    /// let mut properties = member.iter_properties();
    /// assert_eq!(properties.next().map(|p| (p.key, p.value)), Some((&b"internal"[..], None)));
    /// assert_eq!(properties.next().map(|p| (p.key, p.value)), Some((&b"ttl"[..], Some(&b"3"[..]))));
    /// assert!(properties.next().is_none());
    /// ```
    #[must_use]
    pub fn iter_properties(&self) -> Properties<'a> {
        let properties = self.properties;
        Properties {
            rest: (!properties.is_empty()).then_some(properties),
        }
    }
}

/// Prints the key and the length of the value: values may be personal data.
impl fmt::Debug for BaggageMember<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, len) = (self.key.escape_ascii(), self.value.len());
        write!(f, "{key}=<{len} bytes>")
    }
}

/// One property of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Property<'a> {
    /// The key, an HTTP token.
    pub key: &'a [u8],
    /// The value, still percent-encoded; `None` without an equals sign.
    pub value: Option<&'a [u8]>,
}

impl Property<'_> {
    fn is_well_formed(&self) -> bool {
        super::is_key(self.key) && self.value.is_none_or(super::is_value)
    }
}

/// Iterator over the properties of a member.
#[derive(Clone, Debug)]
pub struct Properties<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Properties<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Property<'a>> {
        let (property, rest) = bytes::cut(self.rest?, b';');
        self.rest = rest;
        let (key, value) = bytes::cut(property, b'=');
        Some(Property {
            key: bytes::trim(key),
            value: value.map(bytes::trim),
        })
    }
}

/// What stands between two commas.
pub(super) enum Piece<'a> {
    Member(BaggageMember<'a>),
    Malformed,
}

/// Iterator over one line; empty pieces are passed over.
#[derive(Clone)]
pub(super) struct Pieces<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Pieces<'a> {
    pub(super) const fn new(line: &'a [u8]) -> Self {
        Self { rest: Some(line) }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    #[inline]
    fn next(&mut self) -> Option<Piece<'a>> {
        loop {
            let (piece, rest) = bytes::cut(self.rest?, b',');
            self.rest = rest;
            let raw = bytes::trim(piece);
            if !raw.is_empty() {
                return Some(BaggageMember::parse(raw).map_or(Piece::Malformed, Piece::Member));
            }
        }
    }
}
