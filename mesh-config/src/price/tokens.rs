//! Prices of language model tokens by provider and model.

use super::limits;
use crate::adaptive::order::sort;
use crate::money::NanoUsd;
use crate::price::pattern::matches_pattern;
use core::cmp::Reverse;

/// Tokens to which a price refers.
const TOKENS_PER_PRICE: u128 = 1_000_000;

/// What a million tokens of some models cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPrice {
    /// Provider name; `*` stands for any bytes. Letters match in any case.
    pub provider: String,
    /// Model name; `*` stands for any bytes (`gpt-4o*`). Letters match in any case.
    pub model: String,
    /// A million input tokens.
    pub input_per_million: NanoUsd,
    /// A million output tokens.
    pub output_per_million: NanoUsd,
    /// A million input tokens read from the provider's cache; `None` costs as much as `input`.
    pub cached_per_million: Option<NanoUsd>,
}

/// Token counts of one call, named as the `gen_ai.usage.*` attributes name them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenUse {
    /// All input tokens, those read from a cache included.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
    /// The input tokens that were read from a cache. Should a program count them apart, so that
    /// there are more of them than input tokens, they are charged in full and the input is free.
    pub cached: u64,
}

impl TokenPrice {
    /// The cost of one call, rounded once, half up; stops at [`NanoUsd::MAX`].
    #[must_use]
    pub fn cost(&self, tokens: TokenUse) -> NanoUsd {
        let part = |count: u64, price: NanoUsd| u128::from(count) * u128::from(price.as_nanos());
        let cached_price = self.cached_per_million.unwrap_or(self.input_per_million);
        let total = part(
            tokens.input.saturating_sub(tokens.cached),
            self.input_per_million,
        )
        .saturating_add(part(tokens.cached, cached_price))
        .saturating_add(part(tokens.output, self.output_per_million))
        .saturating_add(TOKENS_PER_PRICE / 2);
        NanoUsd::from_nanos_saturating(total / TOKENS_PER_PRICE)
    }
}

/// Token prices in the order in which they are tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TokenPrices(Box<[TokenPrice]>);

impl TokenPrices {
    /// Orders prices so that the first match is the most specific one: a model without a wildcard
    /// before one with, more literal bytes before fewer, then the same for the provider, then the
    /// order given.
    pub(super) fn compile(prices: &[TokenPrice]) -> Self {
        let mut ordered: Vec<(usize, &TokenPrice)> = prices.iter().enumerate().collect();
        let key = |(given, price): &(usize, &TokenPrice)| {
            let model = specificity(&price.model);
            (model, specificity(&price.provider), *given)
        };
        sort(&mut ordered, |left, right| key(left) < key(right));
        Self(
            ordered
                .into_iter()
                .map(|(_, price)| price.clone())
                .collect(),
        )
    }

    /// The most specific price for a provider and a model.
    pub(super) fn find(&self, provider: &[u8], model: &[u8]) -> Option<&TokenPrice> {
        if provider.len().max(model.len()) > limits::MAX_NAME_BYTES {
            return None;
        }
        self.0.iter().find(|price| {
            matches_pattern(price.model.as_bytes(), model)
                && matches_pattern(price.provider.as_bytes(), provider)
        })
    }
}

/// Sorts the more specific pattern first.
fn specificity(pattern: &str) -> (bool, Reverse<usize>) {
    let literals = pattern.bytes().filter(|&byte| byte != b'*').count();
    (pattern.contains('*'), Reverse(literals))
}
