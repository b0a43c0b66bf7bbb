//! The data classes and their order.

use core::fmt;

/// Class of the data that a request or a span touches. A greater tag is the stricter one, and along
/// a path a tag may only grow: the class of several things together is their `max`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DataTag {
    /// Nothing that needs protection was found.
    #[default]
    ExportOk,
    /// Secrets, and data that harms a business or a person when it leaks.
    Sensitive,
    /// Data that identifies a person.
    Pii,
}

impl DataTag {
    /// Every tag, from the least to the most strict.
    pub const ALL: [Self; 3] = [Self::ExportOk, Self::Sensitive, Self::Pii];

    /// The text on every wire: `EXPORT_OK`, `SENSITIVE` or `PII`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExportOk => "EXPORT_OK",
            Self::Sensitive => "SENSITIVE",
            Self::Pii => "PII",
        }
    }

    /// Reads exactly one of the three texts; letters in any case, since configuration and headers
    /// are also written by hand. Anything else is `None`, and what that means is the caller's
    /// policy (a trust boundary takes the strictest configured tag).
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|tag| tag.as_str().as_bytes().eq_ignore_ascii_case(text))
    }

    /// Days that data of this class may be kept when the policy does not say: 365, 90, 30.
    #[must_use]
    pub const fn default_retention_days(self) -> u16 {
        match self {
            Self::ExportOk => 365,
            Self::Sensitive => 90,
            Self::Pii => 30,
        }
    }
}

impl fmt::Display for DataTag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}
