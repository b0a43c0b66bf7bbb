//! From the `cost` section to the compiled prices.

use super::{Cost, TokenPrice};
use crate::price::{PriceBook, PriceError, PriceInputs, TokenPrice as CompiledTokenPrice};

/// Parts per million of a factor; the section's bounds keep it small.
fn ppm(factor: f64) -> u32 {
    (factor * 1e6).round().clamp(0.0, f64::from(u32::MAX)) as u32
}

impl Cost {
    /// The prices, compiled: the table of this section.
    ///
    /// # Errors
    /// What [`PriceBook::new`] refuses; a policy that was loaded without errors has none.
    pub fn price_book(&self) -> Result<PriceBook, PriceError> {
        PriceBook::new(&[self.inputs()])
    }

    fn inputs(&self) -> PriceInputs {
        PriceInputs {
            version: self.version.clone(),
            valid_from_unix_ns: 0,
            valid_until_unix_ns: None,
            default_base: self.default_usd,
            operations: self
                .operations
                .iter()
                .map(|(name, base)| (name.to_owned(), *base))
                .collect(),
            duration_ppm_per_100ms: ppm(self.duration_factor_per_100ms),
            size_ppm_per_mib: ppm(self.size_factor_per_mib),
            tokens: self.llm.iter().map(compiled).collect(),
        }
    }
}

fn compiled(price: &TokenPrice) -> CompiledTokenPrice {
    CompiledTokenPrice {
        provider: price.provider.clone(),
        model: price.model.clone(),
        input_per_million: price.input_usd_per_million,
        output_per_million: price.output_usd_per_million,
        cached_per_million: price.cached_usd_per_million,
    }
}
