//! Header lines as they are on the wire: names as text, values as bytes, repetitions kept.
//!
//! Not a map: two `tracestate` lines stay two lines in their order, which is what propagation is
//! about. The order between different names is not kept by the HTTP libraries and not promised.

use anyhow::{Context as _, Result};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The three headers a zero-code application copies from what it receives to what it sends.
pub const COPIED: [&str; 3] = ["traceparent", "tracestate", "baggage"];

/// A list of header lines.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HeaderLines(Vec<(String, Vec<u8>)>);

impl HeaderLines {
    /// No lines.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The same list with one line more.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.push(name, value);
        self
    }

    /// Appends a line.
    pub fn push(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.0.push((name.to_owned(), value.as_ref().to_vec()));
    }

    /// All lines in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// The values of all lines called `name`, in order.
    pub fn lines<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(move |(candidate, _)| candidate.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The values of all lines called `name` as the one list they are (RFC 9110): joined by a
    /// comma. `None` without such a line.
    #[must_use]
    pub fn joined(&self, name: &str) -> Option<Vec<u8>> {
        let lines: Vec<&[u8]> = self.lines(name).collect();
        (!lines.is_empty()).then(|| lines.join(&b","[..]))
    }

    /// Like [`Self::joined`], as text for assertions; empty without such a line.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(&self.joined(name).unwrap_or_default()).into_owned()
    }

    /// The members of a comma-separated list header, trimmed, empty ones left out.
    #[must_use]
    pub fn members(&self, name: &str) -> Vec<String> {
        self.text(name)
            .split(',')
            .map(|member| member.trim_matches([' ', '\t']).to_owned())
            .filter(|member| !member.is_empty())
            .collect()
    }

    /// Only the lines an application copies to its outgoing calls.
    #[must_use]
    pub fn copied(&self) -> Self {
        let copied = self.iter().filter(|(name, _)| {
            COPIED
                .iter()
                .any(|candidate| name.eq_ignore_ascii_case(candidate))
        });
        Self(
            copied
                .map(|(name, value)| (name.to_owned(), value.to_vec()))
                .collect(),
        )
    }

    /// From a library's map; order within one name is kept.
    #[must_use]
    pub fn from_map(map: &HeaderMap) -> Self {
        Self(
            map.iter()
                .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
                .collect(),
        )
    }

    /// Into a library's map.
    ///
    /// # Errors
    /// A name or value is not allowed by the library (control characters); send those with
    /// [`crate::raw`].
    pub fn to_map(&self) -> Result<HeaderMap> {
        let mut map = HeaderMap::with_capacity(self.0.len());
        for (name, value) in self.iter() {
            let name = HeaderName::from_bytes(name.as_bytes())
                .with_context(|| format!("header name `{name}`"))?;
            let value = HeaderValue::from_bytes(value)
                .with_context(|| format!("header value of `{name}`"))?;
            map.append(name, value);
        }
        Ok(map)
    }
}

impl std::fmt::Debug for HeaderLines {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut list = formatter.debug_list();
        for (name, value) in self.iter() {
            list.entry(&format_args!("{name}: {}", value.escape_ascii()));
        }
        list.finish()
    }
}

impl<const N: usize> From<[(&str, &str); N]> for HeaderLines {
    fn from(lines: [(&str, &str); N]) -> Self {
        Self(
            lines
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).into()))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_lines_stay_apart_and_join_in_order() {
        let lines = HeaderLines::from([("tracestate", "a=1"), ("x", "y"), ("Tracestate", "b=2,")]);
        let map = lines.to_map().unwrap();
        let back = HeaderLines::from_map(&map);
        assert_eq!(back.lines("tracestate").count(), 2);
        assert_eq!(back.members("tracestate"), ["a=1", "b=2"]);
        assert_eq!(back.copied().iter().count(), 2);
    }

    #[test]
    fn bytes_that_are_not_utf8_survive_the_library() {
        let lines = HeaderLines::new().with("baggage", b"k=\xff\x80");
        let back = HeaderLines::from_map(&lines.to_map().unwrap());
        assert_eq!(back.joined("baggage").unwrap(), b"k=\xff\x80");
    }
}
