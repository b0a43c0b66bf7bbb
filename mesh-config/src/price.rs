//! What an operation costs.
//!
//! ```text
//! cost = base(operation) * (1 + duration / 100 ms * 0.1 + bytes / 1 MiB * 0.01)
//! ```
//!
//! A [`PriceTable`] holds the base prices, the two factors and the prices of language model tokens
//! under one version text, which is stamped on every span that it priced. A [`PriceBook`] holds
//! several tables with the dates between which each is in force. Both are compiled from plain
//! [`PriceInputs`]; the defaults are the specification's table.
//!
//! The formula is evaluated as one exact fraction in `u128` and rounded once, half up, to a
//! nano-dollar. The result equals the specification's Python after rounding to six decimals, except
//! where the exact cost lies on a tie of that rounding (such as 10.5 micro-dollars): Python decides
//! a tie by the error of its binary floats, this module always upwards. The golden test in
//! `tests/price_golden.rs` counts these cases.
//!
//! What this module is not: it does not know which request is which operation (the policy's
//! attribute mapping does), nor what time it is.
//!
//! Limits: see the constants in [`limits`]. Costs above [`NanoUsd::MAX`] become `NanoUsd::MAX`,
//! exactly where the true value passes it. Looking up and pricing do not allocate.

mod book;
mod inputs;
pub(crate) mod pattern;
mod tokens;

pub use book::{InForce, PriceBook};
pub use inputs::{DEFAULT_VERSION, PriceError, PriceInputs, limits};
pub use tokens::{TokenPrice, TokenUse};

use crate::money::NanoUsd;
use std::sync::Arc;

/// The exact cost is a fraction over this number: the smallest common multiple of 10^14 (nanoseconds
/// in 100 ms times a million) and 2^20 * 10^6 (bytes in a MiB times a million).
const DENOMINATOR: u128 = (1 << 26) * 5_u128.pow(14);
/// What one nanosecond at one millionth weighs over [`DENOMINATOR`].
const DURATION_WEIGHT: u128 = DENOMINATOR / 100_000_000_000_000;
/// What one byte at one millionth weighs over [`DENOMINATOR`].
const SIZE_WEIGHT: u128 = DENOMINATOR / ((1 << 20) * 1_000_000);

/// An operation's number within one configuration: resolve a name once with
/// [`PriceTable::operation`], then price by number. All tables of a [`PriceBook`] share numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(u16);

impl OperationId {
    /// An operation that no table names; it costs each table's default.
    pub const UNKNOWN: Self = Self(u16::MAX);

    /// True unless this is [`OperationId::UNKNOWN`].
    #[must_use]
    pub const fn is_known(self) -> bool {
        self.0 != u16::MAX
    }

    /// The number, for use as a key. Only meaningful within the configuration it came from.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// One version of the prices, compiled for look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceTable {
    version: Box<str>,
    default_base: NanoUsd,
    duration_ppm_per_100ms: u32,
    size_ppm_per_mib: u32,
    /// Sorted; shared by all tables of a book. The index is the operation's number.
    names: Arc<[Box<str>]>,
    /// The base price per operation number; `default_base` where this table does not name it.
    bases: Box<[NanoUsd]>,
    tokens: tokens::TokenPrices,
}

impl PriceTable {
    /// Checks and compiles one table. Its validity dates are ignored: see [`PriceBook`].
    ///
    /// # Errors
    /// The first limit of [`limits`] that is passed, or a name that stands twice.
    pub fn new(inputs: &PriceInputs) -> Result<Self, PriceError> {
        inputs.check()?;
        Ok(Self::compile(inputs, inputs::names_of([inputs])))
    }

    /// Compiles a table whose operation names are all among `names`.
    fn compile(inputs: &PriceInputs, names: Arc<[Box<str>]>) -> Self {
        let base_of = |name: &str| {
            let found = inputs
                .operations
                .iter()
                .find(|(operation, _)| operation == name);
            found.map_or(inputs.default_base, |(_, base)| *base)
        };
        Self {
            version: inputs.version.as_str().into(),
            default_base: inputs.default_base,
            duration_ppm_per_100ms: inputs.duration_ppm_per_100ms,
            size_ppm_per_mib: inputs.size_ppm_per_mib,
            bases: names.iter().map(|name| base_of(name)).collect(),
            names,
            tokens: tokens::TokenPrices::compile(&inputs.tokens),
        }
    }

    /// The text stamped on every span that this table priced.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The number of the operation called exactly `name`, or [`OperationId::UNKNOWN`].
    #[must_use]
    pub fn operation(&self, name: impl AsRef<[u8]>) -> OperationId {
        let name = name.as_ref();
        let found = self
            .names
            .binary_search_by(|candidate| candidate.as_bytes().cmp(name));
        found
            .ok()
            .and_then(|index| u16::try_from(index).ok())
            .map_or(OperationId::UNKNOWN, OperationId)
    }

    /// The name behind a number of this configuration.
    #[must_use]
    pub fn operation_name(&self, operation: OperationId) -> Option<&str> {
        self.names.get(usize::from(operation.0)).map(|name| &**name)
    }

    /// All operation names of this configuration in the order of their numbers.
    pub fn operations(&self) -> impl Iterator<Item = (OperationId, &str)> {
        (0_u16..)
            .map(OperationId)
            .zip(self.names.iter().map(|name| &**name))
    }

    /// The price of an operation that takes no time and moves no bytes, by name.
    #[must_use]
    pub fn base(&self, operation: &str) -> NanoUsd {
        self.base_of(self.operation(operation))
    }

    /// The price of an operation that takes no time and moves no bytes, by number.
    #[must_use]
    pub fn base_of(&self, operation: OperationId) -> NanoUsd {
        self.bases
            .get(usize::from(operation.0))
            .copied()
            .unwrap_or(self.default_base)
    }

    /// The own cost of one operation, by name.
    #[must_use]
    pub fn cost(&self, operation: &str, duration_ns: u64, bytes: u64) -> NanoUsd {
        self.cost_of(self.operation(operation), duration_ns, bytes)
    }

    /// The own cost of one operation, by number. `bytes` are those of request and response bodies.
    #[must_use]
    pub fn cost_of(&self, operation: OperationId, duration_ns: u64, bytes: u64) -> NanoUsd {
        match self.small_cost_of(operation, duration_ns, bytes) {
            Some(cost) => cost,
            None => self.large_cost_of(operation, duration_ns, bytes),
        }
    }

    /// [`PriceTable::cost_of`] for any numbers.
    #[cold]
    #[inline(never)]
    fn large_cost_of(&self, operation: OperationId, duration_ns: u64, bytes: u64) -> NanoUsd {
        // At most 64 + 32 + 12 and 64 + 32 + 19 bits: their sum cannot overflow.
        let duration =
            u128::from(duration_ns) * u128::from(self.duration_ppm_per_100ms) * DURATION_WEIGHT;
        let size = u128::from(bytes) * u128::from(self.size_ppm_per_mib) * SIZE_WEIGHT;
        let multiplier = DENOMINATOR + duration + size;
        let base = u128::from(self.base_of(operation).as_nanos());
        let rounded = multiplier
            .checked_mul(base)
            .and_then(|product| product.checked_add(DENOMINATOR / 2))
            .map(|product| product / DENOMINATOR);
        // What overflows 128 bits is, divided by a number of 59 bits, still far above the maximum.
        rounded.map_or(NanoUsd::MAX, NanoUsd::from_nanos_saturating)
    }

    /// [`PriceTable::cost_of`] where 64 bits suffice, which is nearly always: wider numbers take a
    /// module for proxies many times as long.
    fn small_cost_of(
        &self,
        operation: OperationId,
        duration_ns: u64,
        bytes: u64,
    ) -> Option<NanoUsd> {
        // At most 32 + 12 and 32 + 19 bits.
        let duration = u64::from(self.duration_ppm_per_100ms) * DURATION_WEIGHT as u64;
        let duration = product(duration_ns, duration)?;
        let size = u64::from(self.size_ppm_per_mib) * SIZE_WEIGHT as u64;
        let size = product(bytes, size)?;
        let base = self.base_of(operation).as_nanos();
        // The one that stands beside both is a whole number of bases: nothing to round there.
        let above = product(duration.checked_add(size)?, base)?;
        let above = above.checked_add(DENOMINATOR as u64 / 2)? / DENOMINATOR as u64;
        base.checked_add(above).map(NanoUsd::from_nanos)
    }

    /// What a call of a language model costs, or `None` when no price matches provider and model.
    #[must_use]
    pub fn tokens(
        &self,
        provider: &str,
        model: &str,
        input: u64,
        output: u64,
        cached: u64,
    ) -> Option<NanoUsd> {
        let price = self.tokens.find(provider.as_bytes(), model.as_bytes())?;
        Some(price.cost(TokenUse {
            input,
            output,
            cached,
        }))
    }

    /// The token price that matches provider and model: resolve once, then [`TokenPrice::cost`].
    #[must_use]
    pub fn token_price(&self, provider: &[u8], model: &[u8]) -> Option<&TokenPrice> {
        self.tokens.find(provider, model)
    }
}

/// The product, if the bits of both factors cannot make more than 64. (A checked multiplication asks
/// for 128 bits in WebAssembly.)
fn product(left: u64, right: u64) -> Option<u64> {
    (left.leading_zeros() + right.leading_zeros() >= 64).then(|| left.wrapping_mul(right))
}

impl Default for PriceTable {
    fn default() -> Self {
        let inputs = PriceInputs::default();
        let names = inputs::names_of([&inputs]);
        Self::compile(&inputs, names)
    }
}
