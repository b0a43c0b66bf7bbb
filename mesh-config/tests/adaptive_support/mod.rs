//! A seedable generator and synthetic traffic for the controller's tests.
#![allow(dead_code)] // every test file uses its own part
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

pub(crate) mod jaeger;
pub(crate) mod refinery;
pub(crate) mod traffic;

/// SplitMix64: small, seedable, good enough for simulations.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The randomness of a new trace: 56 uniform bits.
    pub(crate) fn trace(&mut self) -> u64 {
        self.next() >> 8
    }

    /// Standard normal (Box-Muller).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// A Poisson count: by multiplication for small means, else by the normal approximation.
    pub(crate) fn poisson(&mut self, mean: f64) -> u64 {
        if mean > 200.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u64;
        }
        let limit = (-mean).exp();
        let (mut product, mut count) = (self.uniform(), 0);
        while product > limit {
            product *= self.uniform();
            count += 1;
        }
        count
    }

    /// How many of `n` traces a rate keeps: one by one when few, else the normal approximation.
    pub(crate) fn binomial(&mut self, n: u64, rate: f64) -> u64 {
        if rate >= 1.0 {
            return n;
        }
        let mean = n as f64 * rate;
        let variance = mean * (1.0 - rate);
        if n > 400 && variance > 100.0 {
            return (mean + variance.sqrt() * self.normal())
                .round()
                .clamp(0.0, n as f64) as u64;
        }
        if n > 400 {
            return self.poisson(mean).min(n);
        }
        (0..n).filter(|_| self.uniform() < rate).count() as u64
    }
}
