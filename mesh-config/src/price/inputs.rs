//! The plain description of a price table, its defaults and its limits.

use super::TokenPrice;
use crate::adaptive::order::sort;
use crate::money::NanoUsd;
use core::fmt;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The version stamped when the policy names none: this crate's own table.
pub const DEFAULT_VERSION: &str = "builtin-1";

/// What a price configuration may not exceed. All are far above what an operator writes by hand;
/// they bound the memory of the filter, which holds the tables of every proxy.
pub mod limits {
    /// Tables in a book.
    pub const MAX_TABLES: usize = 64;
    /// Different operation names over all tables of a book.
    pub const MAX_OPERATIONS: usize = 4096;
    /// Bytes of an operation name, a provider pattern or a model pattern.
    pub const MAX_NAME_BYTES: usize = 128;
    /// Bytes of a version text.
    pub const MAX_VERSION_BYTES: usize = 64;
    /// Token prices in a table.
    pub const MAX_TOKEN_PRICES: usize = 1024;
}

/// Everything that defines one version of the prices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceInputs {
    /// Stamped on every span that this table priced: 1 to 64 visible ASCII bytes. Defaults to
    /// [`DEFAULT_VERSION`].
    pub version: String,
    /// First instant, in nanoseconds since the Unix epoch, at which this table is in force.
    /// Defaults to 0: always.
    pub valid_from_unix_ns: u64,
    /// First instant at which it no longer is. Defaults to `None`: for ever.
    pub valid_until_unix_ns: Option<u64>,
    /// Base price of an operation that is not listed. Defaults to 0.00001 USD.
    pub default_base: NanoUsd,
    /// Base price per operation name. Defaults to the six of the specification.
    pub operations: Vec<(String, NanoUsd)>,
    /// How much 100 ms of duration add to the base price, in millionths. Defaults to 100,000 (0.1).
    pub duration_ppm_per_100ms: u32,
    /// How much 1 MiB (2^20 bytes) adds to the base price, in millionths. Defaults to 10,000 (0.01).
    pub size_ppm_per_mib: u32,
    /// Prices of language model tokens. Defaults to none: such prices change too often to be built
    /// in.
    pub tokens: Vec<TokenPrice>,
}

impl Default for PriceInputs {
    fn default() -> Self {
        let operation = |name: &str, nanos| (name.to_owned(), NanoUsd::from_nanos(nanos));
        Self {
            version: DEFAULT_VERSION.to_owned(),
            valid_from_unix_ns: 0,
            valid_until_unix_ns: None,
            default_base: NanoUsd::from_nanos(10_000),
            operations: vec![
                operation("api_call", 10_000),
                operation("database_query", 20_000),
                operation("ml_inference", 100_000),
                operation("robot_actuation", 1_000_000),
                operation("storage_read", 1_000),
                operation("storage_write", 5_000),
            ],
            duration_ppm_per_100ms: 100_000,
            size_ppm_per_mib: 10_000,
            tokens: Vec::new(),
        }
    }
}

impl PriceInputs {
    /// Checks this table alone.
    pub(super) fn check(&self) -> Result<(), PriceError> {
        let visible = self.version.bytes().all(|byte| byte.is_ascii_graphic());
        if self.version.is_empty() || self.version.len() > limits::MAX_VERSION_BYTES || !visible {
            return Err(PriceError::Version {
                version: self.version.clone(),
            });
        }
        if self
            .valid_until_unix_ns
            .is_some_and(|until| until <= self.valid_from_unix_ns)
        {
            return Err(PriceError::NeverInForce {
                version: self.version.clone(),
            });
        }
        if self.operations.len() > limits::MAX_OPERATIONS {
            return Err(PriceError::TooManyOperations);
        }
        if self.tokens.len() > limits::MAX_TOKEN_PRICES {
            return Err(PriceError::TooManyTokenPrices);
        }
        let mut seen = BTreeSet::new();
        for (name, _) in &self.operations {
            check_name(name)?;
            if !seen.insert(name.as_str()) {
                return Err(PriceError::DuplicateOperation { name: name.clone() });
            }
        }
        let mut seen = BTreeSet::new();
        for price in &self.tokens {
            check_name(&price.provider)?;
            check_name(&price.model)?;
            if !seen.insert((price.provider.as_str(), price.model.as_str())) {
                let name = format!("{}/{}", price.provider, price.model);
                return Err(PriceError::DuplicateTokenPrice { name });
            }
        }
        Ok(())
    }
}

fn check_name(name: &str) -> Result<(), PriceError> {
    if name.is_empty() || name.len() > limits::MAX_NAME_BYTES {
        return Err(PriceError::Name {
            name: name.to_owned(),
        });
    }
    Ok(())
}

/// All operation names of some tables, sorted, each once.
pub(super) fn names_of<'a>(tables: impl IntoIterator<Item = &'a PriceInputs>) -> Arc<[Box<str>]> {
    let names = tables.into_iter().flat_map(|table| &table.operations);
    let mut sorted: Vec<&str> = names.map(|(name, _)| name.as_str()).collect();
    sort(&mut sorted, |left, right| left < right);
    sorted.dedup();
    sorted.into_iter().map(Box::from).collect()
}

/// Why a price configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PriceError {
    /// An operation name stands twice in one table.
    DuplicateOperation {
        /// The name.
        name: String,
    },
    /// A pair of provider and model pattern stands twice in one table.
    DuplicateTokenPrice {
        /// The pair as `provider/model`.
        name: String,
    },
    /// Two tables have the same version text.
    DuplicateVersion {
        /// The text.
        version: String,
    },
    /// A book without a table.
    Empty,
    /// A name or pattern is empty or longer than [`limits::MAX_NAME_BYTES`].
    Name {
        /// The name.
        name: String,
    },
    /// A table ends before it begins.
    NeverInForce {
        /// Its version.
        version: String,
    },
    /// Two tables are in force at the same time.
    Overlap {
        /// The version that begins first.
        first: String,
        /// The version that begins before the first one ends.
        second: String,
    },
    /// More than [`limits::MAX_OPERATIONS`] different names.
    TooManyOperations,
    /// More than [`limits::MAX_TABLES`] tables.
    TooManyTables,
    /// More than [`limits::MAX_TOKEN_PRICES`] token prices in a table.
    TooManyTokenPrices,
    /// A version text is empty, longer than [`limits::MAX_VERSION_BYTES`], or not visible ASCII.
    Version {
        /// The text.
        version: String,
    },
}

impl fmt::Display for PriceError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicateOperation { name } => {
                write!(formatter, "operation `{name}` is priced twice")
            }
            Self::DuplicateTokenPrice { name } => {
                write!(formatter, "tokens of `{name}` are priced twice")
            }
            Self::DuplicateVersion { version } => {
                write!(formatter, "two price tables have the version `{version}`")
            }
            Self::Empty => formatter.write_str("no price table is given"),
            Self::Name { name } => write!(
                formatter,
                "name `{name}` must have 1 to {} bytes",
                limits::MAX_NAME_BYTES
            ),
            Self::NeverInForce { version } => {
                write!(formatter, "price table `{version}` ends before it begins")
            }
            Self::Overlap { first, second } => write!(
                formatter,
                "price tables `{first}` and `{second}` are in force at the same time"
            ),
            Self::TooManyOperations => {
                write!(
                    formatter,
                    "more than `{}` operations are priced",
                    limits::MAX_OPERATIONS
                )
            }
            Self::TooManyTables => {
                write!(
                    formatter,
                    "more than `{}` price tables are given",
                    limits::MAX_TABLES
                )
            }
            Self::TooManyTokenPrices => {
                write!(
                    formatter,
                    "more than `{}` token prices are given",
                    limits::MAX_TOKEN_PRICES
                )
            }
            Self::Version { version } => write!(
                formatter,
                "version `{version}` must have 1 to {} visible ascii characters",
                limits::MAX_VERSION_BYTES
            ),
        }
    }
}

impl core::error::Error for PriceError {}
