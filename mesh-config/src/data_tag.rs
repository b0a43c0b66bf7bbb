//! The three data classes. They are ordered by strictness: a tag is only ever raised.

/// The class of the data that a request touches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DataTag {
    /// May be exported; the default class.
    #[default]
    ExportOk,
    /// Confidential, but not about a person.
    Sensitive,
    /// Personal data; the strictest class.
    Pii,
}

impl DataTag {
    /// Every class, ascending in strictness.
    pub const ALL: [Self; 3] = [Self::ExportOk, Self::Sensitive, Self::Pii];

    /// The name on the wire: in headers, span attributes and the policy.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExportOk => "EXPORT_OK",
            Self::Sensitive => "SENSITIVE",
            Self::Pii => "PII",
        }
    }

    /// Reads the exact name; anything else is `None`, and the policy says what that means.
    pub fn parse(text: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|tag| tag.as_str().as_bytes() == text)
    }

    /// Days that data of this class may be kept unless the policy says otherwise.
    pub const fn default_retention_days(self) -> u32 {
        match self {
            Self::ExportOk => 365,
            Self::Sensitive => 90,
            Self::Pii => 30,
        }
    }
}

impl std::fmt::Display for DataTag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
