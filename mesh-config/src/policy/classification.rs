//! Section `classification`: data classes, detectors, redaction.

use crate::choice::choice;
use crate::section::section;
use crate::{DataTag, Secret};

section! {
    /// Data classes, how they are detected and how long they may be kept.
    Classification {
        /// Whether data that no rule or detector classifies counts as `SENSITIVE` instead of
        /// `EXPORT_OK`.
        strict: bool = false;
        /// Class of a tag that is none of the three names.
        unknown_tag: DataTag = DataTag::Pii;
        /// Days that data may be kept, by class; a cap on every storage tier.
        retention_days: RetentionDays = RetentionDays::default();
        /// Further attribute and header names that mark `PII`; `*` matches any text.
        pii_names: Vec<String> = Vec::new();
        /// Further attribute and header names that mark `SENSITIVE`; `*` matches any text.
        sensitive_names: Vec<String> = Vec::new();
        /// Names that mark nothing although a detector thinks so; `*` matches any text.
        ignored_names: Vec<String> = Vec::new();
        /// Detectors by value.
        detectors: Detectors = Detectors::default();
        /// What happens to classified values: in the filter before attributes of spans, routes and
        /// tenants are exported, in the collector before anything is stored.
        redaction: Redaction = Redaction::default();
    }
}

section! {
    /// Days that data may be kept, by class.
    RetentionDays {
        /// Days for `EXPORT_OK`.
        export_ok: u32 = DataTag::ExportOk.default_retention_days(), in 1..=36500;
        /// Days for `SENSITIVE`.
        sensitive: u32 = DataTag::Sensitive.default_retention_days(), in 1..=36500;
        /// Days for `PII`.
        pii: u32 = DataTag::Pii.default_retention_days(), in 1..=36500;
    }
}

impl RetentionDays {
    /// Days for a class.
    pub const fn of(&self, tag: DataTag) -> u32 {
        match tag {
            DataTag::ExportOk => self.export_ok,
            DataTag::Sensitive => self.sensitive,
            DataTag::Pii => self.pii,
        }
    }
}

section! {
    /// Detectors that look at values.
    Detectors {
        /// Whether well-known names (`user.email`, `authorization`, ..) mark a class.
        names: bool = true;
        /// E-mail addresses (`PII`).
        email: bool = true;
        /// Payment card numbers with a right check digit (`PII`).
        card: bool = true;
        /// Telephone numbers in international form (`PII`).
        phone: bool = true;
        /// National identity numbers with a right check digit (`PII`).
        national_id: bool = true;
        /// Tokens and keys (`SENSITIVE`).
        token: bool = true;
    }
}

choice! {
    /// What happens to a classified value.
    RedactionMode {
        /// the found part is overwritten
        Mask = "mask",
        /// the attribute is left out
        Drop = "drop",
        /// the value is replaced by a keyed hash, so that equal values stay equal
        Hash = "hash",
        /// nothing
        Off = "off",
    }
}

section! {
    /// What happens to classified values. The collector treats them before anything is written, so
    /// they are neither in its log and partitions nor in queries, nor do they leave it; the class
    /// stays on the span.
    Redaction {
        /// The treatment.
        mode: RedactionMode = RedactionMode::Mask;
        /// The least strict class that is treated.
        from: DataTag = DataTag::Sensitive;
        /// Key for `hash`; required by it, at least 16 characters.
        hash_key: Secret = Secret::default();
    }
}
