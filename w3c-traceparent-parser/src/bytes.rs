//! Character classes of the four grammars, and trimming.
//!
//! One table of 256 entries answers all questions with one load per byte. Everything outside
//! ASCII belongs to no class.

/// `tracestate` key after its first character: a-z 0-9 _ - * / @.
pub(crate) const STATE_KEY: u8 = 1;
/// `tracestate` value: 0x20 to 0x7e without comma and equals sign.
pub(crate) const STATE_VALUE: u8 = 1 << 1;
/// HTTP token (baggage and property keys).
pub(crate) const TOKEN: u8 = 1 << 2;
/// Baggage value: 0x21 to 0x7e without double quote, comma, semicolon and backslash.
pub(crate) const BAGGAGE_VALUE: u8 = 1 << 3;
/// First character of an `ot` sub-key: a-z.
pub(crate) const LOWER: u8 = 1 << 4;
/// Further characters of an `ot` sub-key, and first of a `tracestate` key: a-z 0-9.
pub(crate) const LOWER_OR_DIGIT: u8 = 1 << 5;
/// Value of an `ot` sub-member: letters of both cases, digits, `.`, `_`, `-`.
pub(crate) const OT_VALUE: u8 = 1 << 6;
/// `tracestate` key that may be written: [`STATE_KEY`] without `@`.
pub(crate) const OWN_STATE_KEY: u8 = 1 << 7;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0u8;
    while byte < 0x80 {
        #[expect(
            clippy::indexing_slicing,
            reason = "evaluated at compile time, the index is below 128"
        )]
        {
            table[byte as usize] = class_of(byte);
        }
        byte += 1;
    }
    table
}

const fn class_of(byte: u8) -> u8 {
    let mut class = 0;
    let lower = byte.is_ascii_lowercase();
    let digit = byte.is_ascii_digit();
    if lower {
        class |= LOWER;
    }
    if lower || digit {
        class |= LOWER_OR_DIGIT;
    }
    if lower || digit || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@') {
        class |= STATE_KEY;
    }
    if class & STATE_KEY != 0 && byte != b'@' {
        class |= OWN_STATE_KEY;
    }
    if matches!(byte, 0x20..=0x7e) && !matches!(byte, b',' | b'=') {
        class |= STATE_VALUE;
    }
    if byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_'
        )
        || matches!(byte, b'`' | b'|' | b'~')
    {
        class |= TOKEN;
    }
    if matches!(byte, 0x21..=0x7e) && !matches!(byte, b'"' | b',' | b';' | b'\\') {
        class |= BAGGAGE_VALUE;
    }
    if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
        class |= OT_VALUE;
    }
    class
}

/// Whether the byte belongs to one of the classes in the mask.
#[inline(always)]
pub(crate) fn is(byte: u8, class: u8) -> bool {
    // The lookup cannot miss: the table has an entry per byte value, and the compiler knows it.
    CLASSES
        .get(usize::from(byte))
        .is_some_and(|found| found & class != 0)
}

/// Number of leading bytes that belong to the class.
///
/// As all that is shared by the grammars it is one function in WebAssembly: a proxy does much else
/// between two requests, so the bytes of code that run cost more there than calls do.
#[cfg_attr(target_family = "wasm", inline(never))]
#[cfg_attr(not(target_family = "wasm"), inline)]
pub(crate) fn span(bytes: &[u8], class: u8) -> usize {
    bytes
        .iter()
        .position(|&byte| !is(byte, class))
        .unwrap_or(bytes.len())
}

/// A member of a list.
pub(crate) struct Pair<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    /// The whole of it, without white space around it.
    pub(crate) raw: &'a [u8],
    /// What follows it: nothing, or a comma first.
    pub(crate) after: &'a [u8],
}

/// Reads `key=value` without white space, up to a comma or the end: nearly every member is like
/// that. Anything else is `None`.
#[cfg_attr(target_family = "wasm", inline(never))]
#[cfg_attr(not(target_family = "wasm"), inline)]
pub(crate) fn pair(from: &[u8], key: u8, value: u8) -> Option<Pair<'_>> {
    let (key, rest) = from.split_at_checked(span(from, key))?;
    let [b'=', rest @ ..] = rest else {
        return None;
    };
    let (value, after) = rest.split_at_checked(span(rest, value))?;
    if key.is_empty() || !matches!(after, [] | [b',', ..]) {
        return None;
    }
    let raw = from.get(..from.len().wrapping_sub(after.len()))?;
    Some(Pair {
        key,
        value,
        raw,
        after,
    })
}

/// Passes over empty members: commas, and optional white space around them.
#[cfg_attr(target_family = "wasm", inline(never))]
#[cfg_attr(not(target_family = "wasm"), inline)]
pub(crate) fn skip_empty(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b',', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

/// Whether all bytes belong to the class (true for none).
#[inline]
pub(crate) fn all(bytes: &[u8], class: u8) -> bool {
    span(bytes, class) == bytes.len()
}

/// Optional white space of HTTP: space and tab.
#[inline(always)]
pub(crate) const fn is_ows(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Without optional white space at the start.
#[inline]
pub(crate) fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes {
        if !is_ows(*first) {
            break;
        }
        bytes = rest;
    }
    bytes
}

/// Without optional white space at the end.
#[inline]
pub(crate) fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., last] = bytes {
        if !is_ows(*last) {
            break;
        }
        bytes = rest;
    }
    bytes
}

/// Without optional white space at both ends.
#[inline]
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    trim_end(trim_start(bytes))
}

/// Cuts at the first separator: what stands before it, and what stands after it if there is one.
#[inline]
pub(crate) fn cut(bytes: &[u8], separator: u8) -> (&[u8], Option<&[u8]>) {
    let at = bytes.iter().position(|&byte| byte == separator);
    match at.and_then(|at| bytes.split_at_checked(at)) {
        Some((head, [_, tail @ ..])) => (head, Some(tail)),
        _ => (bytes, None),
    }
}
