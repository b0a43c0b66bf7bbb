//! What the collector asks the policy: prices, classes, errors, retention.
//!
//! The rules are pure. A change of the policy takes effect for what is received afterwards;
//! spans that are still in the log only (not yet in a partition) are judged again by the new
//! policy when the collector restarts.

use std::path::{Path, PathBuf};

use mesh_config::classify::{Classifier, ClassifyError, Named, Redacted};
use mesh_config::money::NanoUsd;
use mesh_config::policy::{Alert, Classification, RedactionMode, TraceStorage};
use mesh_config::price::{PriceBook, PriceError};
use mesh_config::{DataTag, Diagnostics, Policy};
use thiserror::Error;

use crate::assembly::{KeepRules, Watches};
use crate::otlp::any::Any;
use crate::otlp::batch::CostSource;
use crate::otlp::keys::Key;

/// The scope name of the filter's spans. They bring their own cost or are not charged.
pub(crate) const FILTER_SCOPE: &str = "tracemeter";

/// The operation of database client spans that name none.
const DATABASE_OPERATION: &str = "database_query";

/// Why a policy cannot be used.
#[derive(Debug, Error)]
pub(crate) enum PolicyError {
    /// The file cannot be read.
    #[error("cannot read policy `{path}`: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The document is refused.
    #[error("policy is refused:\n{0}")]
    Refused(Diagnostics),
    /// The prices contradict each other.
    #[error("prices are refused: {0}")]
    Prices(#[from] PriceError),
    /// The classification cannot be compiled.
    #[error("classification is refused: {0}")]
    Classes(#[from] ClassifyError),
}

/// One policy, compiled.
#[derive(Debug)]
pub(crate) struct Rules {
    policy: Policy,
    prices: PriceBook,
    classifier: Classifier,
    watches: Watches,
    keep_rules: KeepRules,
}

/// What the price of a span depends on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Facts<'a> {
    /// `operation_type`, empty when there is none.
    pub(crate) operation_type: &'a str,
    /// `data_size_bytes`.
    data_bytes: Option<u64>,
    request_bytes: u64,
    response_bytes: u64,
    is_database: bool,
    provider: &'a str,
    model: &'a str,
    input_tokens: u64,
    output_tokens: u64,
    cached_tokens: u64,
}

impl<'a> Facts<'a> {
    /// Remembers an attribute if it matters for the price.
    pub(crate) fn note(&mut self, key: Key, any: Any<'a>) {
        let count = || any.as_int().and_then(|count| u64::try_from(count).ok());
        match key {
            Key::DataBytes => self.data_bytes = count(),
            Key::RequestBytes => self.request_bytes = count().unwrap_or(0),
            Key::ResponseBytes => self.response_bytes = count().unwrap_or(0),
            Key::Database => self.is_database = true,
            Key::Provider => self.provider = any.as_str().unwrap_or_default(),
            Key::Model => self.model = any.as_str().unwrap_or_default(),
            Key::InputTokens => self.input_tokens = count().unwrap_or(0),
            Key::OutputTokens => self.output_tokens = count().unwrap_or(0),
            Key::CachedTokens => self.cached_tokens = count().unwrap_or(0),
            _ => {}
        }
    }

    fn bytes(&self) -> u64 {
        self.data_bytes
            .unwrap_or_else(|| self.request_bytes.saturating_add(self.response_bytes))
    }
}

impl Rules {
    /// Reads a policy (JSON when the file's name says so, else YAML); without a file the
    /// documented defaults hold.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, PolicyError> {
        let Some(path) = file else {
            return Self::compile(Policy::default());
        };
        let text = std::fs::read_to_string(path).map_err(|source| PolicyError::Read {
            path: path.to_owned(),
            source,
        })?;
        let loaded = if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            Policy::from_json(text.as_bytes())
        } else {
            Policy::from_yaml(&text, &path.to_string_lossy())
        }
        .map_err(PolicyError::Refused)?;
        for warning in &loaded.warnings {
            tracing::warn!(%warning, "policy");
        }
        Self::compile(loaded.policy)
    }

    /// Compiles a policy.
    pub(crate) fn compile(policy: Policy) -> Result<Self, PolicyError> {
        Ok(Self {
            prices: policy.cost.price_book()?,
            classifier: Classifier::from_policy(&policy.classification)?,
            watches: Watches::new(&policy),
            keep_rules: KeepRules::new(&policy),
            policy,
        })
    }

    /// The cost of a span that carries none, what it was derived from, and the version of the
    /// prices.
    pub(crate) fn price(
        &self,
        facts: &Facts<'_>,
        start_ns: u64,
        duration_ns: u64,
    ) -> (u64, CostSource, &str) {
        let (table, _) = self.prices.at(start_ns);
        let tokens = facts.input_tokens > 0 || facts.output_tokens > 0;
        if tokens
            && let Some(cost) = table.tokens(
                facts.provider,
                facts.model,
                facts.input_tokens,
                facts.output_tokens,
                facts.cached_tokens,
            )
        {
            return (cost.as_nanos(), CostSource::TokenPrice, table.version());
        }
        let operation = match facts.operation_type {
            "" if facts.is_database => DATABASE_OPERATION,
            named => named,
        };
        let id = table.operation(operation);
        let source = if id.is_known() {
            CostSource::PriceTable
        } else {
            CostSource::DefaultPrice
        };
        (
            table.cost_of(id, duration_ns, facts.bytes()).as_nanos(),
            source,
            table.version(),
        )
    }

    fn classification(&self) -> &Classification {
        &self.policy.classification
    }

    /// What an attribute's name says of every value.
    pub(crate) fn named(&self, name: &str) -> Named {
        self.classifier.named(name.as_bytes())
    }

    /// The class that an attribute's name and value point to.
    pub(crate) fn class_of(&self, named: Named, value: &str) -> Option<DataTag> {
        self.classifier
            .classify_named(named, value.as_bytes())
            .map(|(tag, _)| tag)
    }

    /// The class that a text without a name points to.
    pub(crate) fn class_of_text(&self, text: &str) -> Option<DataTag> {
        self.class_of(self.named(""), text)
    }

    /// The least strict class whose values are treated; `None` when nothing is.
    pub(crate) fn redacts_from(&self) -> Option<DataTag> {
        let redaction = &self.classification().redaction;
        (redaction.mode != RedactionMode::Off).then_some(redaction.from)
    }

    /// Whether values are replaced by their hash.
    pub(crate) fn hashes_values(&self) -> bool {
        self.classification().redaction.mode == RedactionMode::Hash
    }

    /// Classifies a value and treats it as the policy says; `out` has the replacement.
    pub(crate) fn redact(
        &self,
        name: &str,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> (Option<DataTag>, Redacted) {
        let (found, redacted) = self.classifier.redact(name.as_bytes(), value, out);
        (found.map(|(tag, _)| tag), redacted)
    }

    /// The class of a tag as a sender wrote it.
    pub(crate) fn class_of_tag(&self, tag: &str) -> DataTag {
        DataTag::parse(tag.as_bytes()).unwrap_or(self.classification().unknown_tag)
    }

    /// The class of a span that neither its sender nor a detector classified.
    pub(crate) fn default_class(&self) -> DataTag {
        if self.classification().strict {
            DataTag::Sensitive
        } else {
            DataTag::ExportOk
        }
    }

    /// Whether HTTP or gRPC status put a span into the error class.
    pub(crate) fn is_error(&self, http: Option<u16>, grpc: Option<u32>) -> bool {
        self.policy
            .sampling
            .error_classes
            .is_error(http, grpc, false)
    }

    /// The policy itself.
    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What the alerts count.
    pub(crate) fn watches(&self) -> &Watches {
        &self.watches
    }

    /// Rules about whole traces.
    pub(crate) fn keep_rules(&self) -> &KeepRules {
        &self.keep_rules
    }

    /// The alerts, in the order of the watches.
    pub(crate) fn alerts(&self) -> &[Alert] {
        &self.policy.alerts
    }

    /// How long tiers, errors and aggregates last.
    pub(crate) fn storage(&self) -> &TraceStorage {
        &self.policy.trace_storage
    }

    /// Days that spans of a class may be kept.
    pub(crate) fn retention_days(&self, class: DataTag) -> u16 {
        u16::try_from(self.classification().retention_days.of(class)).unwrap_or(u16::MAX)
    }
}

/// A sender's `cost_usd` as nano-USD: not negative, finite, in range; else it does not count.
pub(crate) fn nanos_from_usd(usd: f64) -> Option<u64> {
    NanoUsd::from_f64(usd).ok().map(NanoUsd::as_nanos)
}
