//! One member of a list, and its properties.

use core::fmt;

use crate::bytes::{self, Pair};

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

/// Iterator over the well-formed members of all lines.
#[derive(Clone)]
pub struct Members<'b, 'a> {
    lines: core::slice::Iter<'b, Option<&'a [u8]>>,
    pieces: Pieces<'a>,
}

impl<'b, 'a> Members<'b, 'a> {
    pub(super) fn new(lines: &'b [Option<&'a [u8]>]) -> Self {
        Self {
            lines: lines.iter(),
            pieces: Pieces::new(b""),
        }
    }
}

impl<'a> Iterator for Members<'_, 'a> {
    type Item = BaggageMember<'a>;

    #[inline]
    fn next(&mut self) -> Option<BaggageMember<'a>> {
        loop {
            if let Some(Pair {
                key, value, raw, ..
            }) = self.pieces.next()
            {
                // Neither key nor value holds a semicolon.
                let properties = bytes::cut(raw, b';').1.unwrap_or_default();
                return Some(BaggageMember {
                    key,
                    value,
                    properties: bytes::trim(properties),
                    raw,
                });
            }
            self.pieces = Pieces::new((*self.lines.next()?)?);
        }
    }
}

impl fmt::Debug for Members<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

/// Iterator over the well-formed members of one line.
#[derive(Clone)]
pub(super) struct Pieces<'a> {
    rest: &'a [u8],
    /// Members so far that were passed over. Empty ones are not counted.
    pub(super) malformed: usize,
}

impl<'a> Pieces<'a> {
    pub(super) const fn new(line: &'a [u8]) -> Self {
        Self {
            rest: line,
            malformed: 0,
        }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Pair<'a>;

    #[cfg_attr(target_family = "wasm", inline(never))]
    #[cfg_attr(not(target_family = "wasm"), inline)]
    fn next(&mut self) -> Option<Pair<'a>> {
        loop {
            let from = bytes::skip_empty(self.rest);
            self.rest = b"";
            if from.is_empty() {
                return None;
            }
            let plain = bytes::pair(from, bytes::TOKEN, bytes::BAGGAGE_VALUE);
            if let Some(pair) = plain.or_else(|| self.unusual(from)) {
                self.rest = pair.after;
                return Some(pair);
            }
        }
    }
}

impl<'a> Pieces<'a> {
    /// The member at the start of `from` if it is one with white space or properties; one that is
    /// malformed is counted, and `rest` moves behind its comma.
    #[cold]
    #[inline(never)]
    fn unusual(&mut self, from: &'a [u8]) -> Option<Pair<'a>> {
        match member(from) {
            (Some((key, value, raw)), after @ ([] | [b',', ..])) => Some(Pair {
                key,
                value,
                raw,
                after,
            }),
            (_, after) => {
                self.malformed += 1;
                self.rest = bytes::cut(after, b',').1.unwrap_or_default();
                None
            }
        }
    }
}

/// Key, value, and the whole without white space around it.
type Member<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Reads a member as far as it is well formed, and returns what follows it. Neither part holds
/// a comma, so a malformed member ends at the next one.
fn member(from: &[u8]) -> (Option<Member<'_>>, &[u8]) {
    let (key, Some(value), mut after) = pair(from) else {
        return (None, from);
    };
    if key.is_empty() {
        return (None, from);
    }
    while let [b';', property @ ..] = after {
        let (key, _, behind) = pair(property);
        if key.is_empty() {
            return (None, property);
        }
        after = behind;
    }
    let raw = from.get(..from.len() - after.len()).unwrap_or_default();
    (Some((key, value, bytes::trim_end(raw))), after)
}

/// Reads `OWS token OWS [ "=" OWS value OWS ]` and returns what follows it; a missing token is
/// empty.
#[inline]
fn pair(from: &[u8]) -> (&[u8], Option<&[u8]>, &[u8]) {
    let from = bytes::trim_start(from);
    let (key, after) = take(from, bytes::span(from, bytes::TOKEN));
    match after {
        [b'=', after @ ..] => {
            let from = bytes::trim_start(after);
            let (value, after) = take(from, bytes::span(from, bytes::BAGGAGE_VALUE));
            (key, Some(value), after)
        }
        _ => (key, None, after),
    }
}

/// The first bytes, and what follows them without leading white space.
#[inline]
fn take(from: &[u8], len: usize) -> (&[u8], &[u8]) {
    let (found, after) = from.split_at_checked(len).unwrap_or((from, &[]));
    (found, bytes::trim_start(after))
}
