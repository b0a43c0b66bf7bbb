//! Latency in exponential buckets of base 2^(1/4) (OpenTelemetry exponential histogram, scale 2).
//!
//! Bucket `i` holds values in (base^i, base^(i+1)] nanoseconds: 19 % wide, so a quantile is at most
//! 9 % off. Histograms of one scale add up bucket by bucket. Integer arithmetic only.
//!
//! Limits: values below 1 us and above about 73 minutes fall into the first and last bucket; at
//! most [`MAX_BUCKETS`] buckets.

/// OTLP `scale`.
pub(crate) const SCALE: i32 = 2;

/// Buckets per power of two.
const PER_OCTAVE: u32 = 1 << SCALE;

/// Smallest and largest power of two that is told apart: 2^10 ns, 2^42 ns.
const MIN_OCTAVE: u32 = 10;
const MAX_OCTAVE: u32 = 42;

/// Buckets at most.
pub const MAX_BUCKETS: usize = ((MAX_OCTAVE - MIN_OCTAVE) * PER_OCTAVE) as usize;

/// 2^(k/4) as fixed point numbers with 63 fractional bits, k = 1, 2, 3.
const QUARTERS: [u64; 3] = [
    0x9837_F051_8DB8_A96F,
    0xB504_F333_F9DE_6484,
    0xD744_FCCA_D69D_6AF4,
];

/// Counts per bucket, the number of values, and their sum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// OTLP index of the first bucket.
    offset: i32,
    counts: Vec<u32>,
    count: u64,
    sum_nanos: u64,
}

/// The OTLP bucket index of a value.
fn index(nanos: u64) -> i32 {
    let value = nanos.clamp(1 << MIN_OCTAVE, (1 << MAX_OCTAVE) - 1);
    // Upper bounds are inclusive: an exact power of two belongs to the bucket below.
    let octave = 63 - value.leading_zeros();
    let mantissa = value << value.leading_zeros();
    let quarter = QUARTERS.iter().filter(|bound| mantissa > **bound).count() as u32;
    let index = octave * PER_OCTAVE + quarter;
    let exact_power = mantissa == 1 << 63;
    (if exact_power {
        index.saturating_sub(1)
    } else {
        index
    }) as i32
}

impl Histogram {
    /// Counts one value.
    pub fn record(&mut self, nanos: u64) {
        self.count += 1;
        self.sum_nanos = self.sum_nanos.saturating_add(nanos);
        let index = index(nanos);
        if let Some(count) = self.counts.get_mut((index - self.offset) as usize) {
            *count = count.saturating_add(1);
        } else {
            self.reach(index);
        }
    }

    /// Makes room for a bucket that is not there yet, and counts one value in it.
    #[cold]
    #[inline(never)]
    fn reach(&mut self, index: i32) {
        if self.counts.is_empty() {
            self.offset = index;
        } else if index < self.offset {
            let missing = (self.offset - index) as usize;
            self.counts.splice(0..0, std::iter::repeat_n(0, missing));
            self.offset = index;
        }
        let place = (index - self.offset) as usize;
        if place >= self.counts.len() {
            self.counts.resize(place + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(place) {
            *count = count.saturating_add(1);
        }
    }

    /// Number of values.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Sum of the values, nanoseconds.
    #[must_use]
    pub const fn sum_nanos(&self) -> u64 {
        self.sum_nanos
    }

    /// OTLP `offset` and `bucket_counts`.
    #[must_use]
    pub fn buckets(&self) -> (i32, &[u32]) {
        (self.offset, &self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_within_the_bounds_of_its_bucket() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..100_000 {
            let value = rng.u64(1025..1 << 41) >> rng.u32(0..30);
            let value = value.max(1025);
            let index = f64::from(index(value));
            let (low, high) = (2_f64.powf(index / 4.0), 2_f64.powf((index + 1.0) / 4.0));
            let value = value as f64;
            assert!(
                value > low * (1.0 - 1e-12) && value <= high * (1.0 + 1e-12),
                "{value} {index}"
            );
        }
        assert_eq!(
            index(2048),
            43,
            "an upper bound is inclusive: 2^11 is in (2^10.75, 2^11]"
        );
        assert_eq!(index(2049), 44);
    }

    #[test]
    fn extreme_values_stay_within_the_limit() {
        let mut histogram = Histogram::default();
        for value in [0, 1, u64::MAX, 5_000_000, 1 << 41] {
            histogram.record(value);
        }
        assert!(histogram.buckets().1.len() <= MAX_BUCKETS + 1);
        assert_eq!(histogram.buckets().1.iter().sum::<u32>(), 5);
        assert_eq!(histogram.count(), 5);
    }
}
