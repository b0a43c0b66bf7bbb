//! From the `cost` section to the compiled prices.

use super::{Cost, PriceVersion, TokenPrice};
use crate::price::{PriceBook, PriceError, PriceInputs, TokenPrice as CompiledTokenPrice};
use crate::units::day_ns;

/// Parts per million of a factor; the section's bounds keep it small.
fn ppm(factor: f64) -> u32 {
    (factor * 1e6).round().clamp(0.0, f64::from(u32::MAX)) as u32
}

impl Cost {
    /// The prices, compiled: the table of this section, and those of `versions` for their days.
    ///
    /// # Errors
    /// What [`PriceBook::new`] refuses; a policy that was loaded without errors has none.
    pub fn price_book(&self) -> Result<PriceBook, PriceError> {
        let dated: Result<Vec<_>, _> = self
            .versions
            .iter()
            .map(|version| self.dated(version))
            .collect();
        PriceBook::with_fallback(&self.inputs(), &dated?)
    }

    /// A dated table: factors and token prices are those of the section.
    fn dated(&self, version: &PriceVersion) -> Result<PriceInputs, PriceError> {
        let day = |text: &str| {
            day_ns(text).ok_or_else(|| PriceError::NeverInForce {
                version: version.version.clone(),
            })
        };
        let (from, until) = (version.valid_from.as_str(), version.valid_until.as_str());
        let operations = version
            .operations
            .iter()
            .map(|(name, base)| (name.to_owned(), *base))
            .collect();
        Ok(PriceInputs {
            version: version.version.clone(),
            valid_from_unix_ns: if from.is_empty() { 0 } else { day(from)? },
            valid_until_unix_ns: if until.is_empty() {
                None
            } else {
                Some(day(until)?)
            },
            default_base: version.default_usd,
            operations,
            ..self.inputs()
        })
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
