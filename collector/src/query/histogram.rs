//! SQL functions over the ledger's exponential histograms.
//!
//! `merge_histograms(histogram_scale, histogram_offset, histogram_counts)` is an aggregate: one
//! histogram of all. `histogram_quantile(histogram, 0.99)` is the value below which that share of
//! the counted requests lies, in the histogram's unit (nanoseconds), interpolated within its
//! bucket; a bucket of scale 2 spans 19 %. A histogram is a list of scale, offset and counts.
//!
//! Limits: [`MAX_BUCKETS`]; what lies beyond is counted in the last bucket.

use std::mem::size_of;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Int32Type, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{Accumulator, ColumnarValue, Volatility, create_udaf, create_udf};
use datafusion::prelude::SessionContext;

/// Buckets of one histogram; at scale 2, 160 span a microsecond to an hour.
const MAX_BUCKETS: usize = 4_096;
/// Scales and offsets that make sense; others are left out.
const SCALES: std::ops::RangeInclusive<i32> = -10..=20;
const OFFSETS: std::ops::RangeInclusive<i32> = -1_000_000..=1_000_000;

fn list() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true)))
}

/// Makes both functions known.
pub(super) fn register(context: &SessionContext) {
    context.register_udaf(create_udaf(
        "merge_histograms",
        vec![DataType::Int32, DataType::Int32, list()],
        Arc::new(list()),
        Volatility::Immutable,
        Arc::new(|_| Ok(Box::new(Merge::default()))),
        Arc::new(vec![list()]),
    ));
    context.register_udf(create_udf(
        "histogram_quantile",
        vec![list(), DataType::Float64],
        DataType::Float64,
        Volatility::Immutable,
        Arc::new(quantiles),
    ));
}

/// A histogram that grows.
#[derive(Debug, Default, Clone, PartialEq)]
struct Histogram {
    scale: i32,
    offset: i32,
    counts: Vec<i64>,
}

impl Histogram {
    /// Reads what [`Histogram::encode`] wrote.
    fn decode(numbers: &[i64]) -> Option<Self> {
        let (head, counts) = numbers.split_at_checked(2)?;
        let number = |index: usize| head.get(index).and_then(|n| i32::try_from(*n).ok());
        Some(Self {
            scale: number(0)?,
            offset: number(1)?,
            counts: counts.to_vec(),
        })
    }

    fn encode(&self) -> ScalarValue {
        let head = [i64::from(self.scale), i64::from(self.offset)];
        let numbers = head.iter().chain(&self.counts);
        let numbers: Vec<ScalarValue> = numbers.map(|n| ScalarValue::Int64(Some(*n))).collect();
        ScalarValue::List(ScalarValue::new_list_nullable(&numbers, &DataType::Int64))
    }

    /// Joins pairs of buckets until the scale is `scale`.
    fn coarsen(&mut self, scale: i32) {
        let shift = u32::try_from(self.scale - scale).unwrap_or(0).min(31);
        if shift == 0 {
            return;
        }
        let first = self.offset >> shift;
        let mut counts: Vec<i64> = Vec::new();
        for (index, count) in (self.offset..).zip(&self.counts) {
            let slot = usize::try_from((index >> shift) - first).unwrap_or(0);
            counts.resize(counts.len().max(slot + 1), 0);
            if let Some(sum) = counts.get_mut(slot) {
                *sum = sum.saturating_add(*count);
            }
        }
        (self.scale, self.offset, self.counts) = (scale, first, counts);
    }

    fn add(&mut self, scale: i32, offset: i32, counts: &[i64]) {
        if counts.is_empty() || !SCALES.contains(&scale) || !OFFSETS.contains(&offset) {
            return;
        }
        if self.counts.is_empty() {
            (self.scale, self.offset) = (scale, offset);
        }
        let mut more = Self {
            scale,
            offset,
            counts: Vec::new(),
        };
        let mut counts = counts;
        if scale != self.scale {
            more.counts = counts.to_vec();
            let scale = scale.min(self.scale);
            self.coarsen(scale);
            more.coarsen(scale);
            counts = &more.counts;
        }
        if more.offset < self.offset {
            let missing = self.offset.saturating_sub(more.offset).unsigned_abs() as usize;
            if missing + self.counts.len() <= MAX_BUCKETS {
                self.counts.splice(0..0, std::iter::repeat_n(0, missing));
                self.offset = more.offset;
            }
        }
        for (index, count) in (more.offset..).zip(counts) {
            let slot = usize::try_from(index.saturating_sub(self.offset)).unwrap_or(0);
            let slot = slot.min(MAX_BUCKETS - 1);
            self.counts.resize(self.counts.len().max(slot + 1), 0);
            if let Some(sum) = self.counts.get_mut(slot) {
                *sum = sum.saturating_add(*count);
            }
        }
    }

    /// Bucket *i* holds values above 2^(i / 2^scale) up to its next power.
    fn quantile(&self, share: f64) -> Option<f64> {
        let total: f64 = self.counts.iter().map(|count| *count as f64).sum();
        if total <= 0.0 || !(0.0..=1.0).contains(&share) {
            return None;
        }
        let rank = share * total;
        let width = (-f64::from(self.scale)).exp2();
        let mut before = 0.0;
        let mut last = None;
        for (index, count) in (self.offset..).zip(&self.counts) {
            let count = *count as f64;
            if count <= 0.0 {
                continue;
            }
            let within = ((rank - before) / count).clamp(0.0, 1.0);
            last = Some(((f64::from(index) + within) * width).exp2());
            before += count;
            if before >= rank {
                break;
            }
        }
        last
    }
}

#[derive(Debug, Default)]
struct Merge(Histogram);

impl Accumulator for Merge {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [scales, offsets, counts] = values else {
            return Ok(());
        };
        let scales = scales.as_primitive::<Int32Type>();
        let offsets = offsets.as_primitive::<Int32Type>();
        let lists = counts.as_list::<i32>();
        for row in 0..lists.len() {
            if lists.is_valid(row) && scales.is_valid(row) && offsets.is_valid(row) {
                let counts = lists.value(row);
                let counts = counts.as_primitive::<Int64Type>().values();
                self.0.add(scales.value(row), offsets.value(row), counts);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.0.encode())
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.0.counts.capacity() * size_of::<i64>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.0.encode()])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let Some(lists) = states.first().map(|lists| lists.as_list::<i32>()) else {
            return Ok(());
        };
        for row in (0..lists.len()).filter(|row| lists.is_valid(*row)) {
            let numbers = lists.value(row);
            let numbers = numbers.as_primitive::<Int64Type>().values();
            if let Some(more) = Histogram::decode(numbers) {
                self.0.add(more.scale, more.offset, &more.counts);
            }
        }
        Ok(())
    }
}

fn quantiles(arguments: &[ColumnarValue]) -> Result<ColumnarValue> {
    let arrays = ColumnarValue::values_to_arrays(arguments)?;
    let [lists, shares] = arrays.as_slice() else {
        return Ok(ColumnarValue::Scalar(ScalarValue::Float64(None)));
    };
    let lists = lists.as_list::<i32>();
    let shares = shares.as_primitive::<Float64Type>();
    let values: Float64Array = (0..lists.len())
        .map(|row| {
            if lists.is_null(row) || shares.is_null(row) {
                return None;
            }
            let numbers = lists.value(row);
            let numbers = numbers.as_primitive::<Int64Type>().values();
            Histogram::decode(numbers)?.quantile(shares.value(row))
        })
        .collect();
    Ok(ColumnarValue::Array(Arc::new(values)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(scale: i32, values: &[f64]) -> Histogram {
        let mut histogram = Histogram::default();
        for value in values {
            let index = (value.log2() * f64::from(scale).exp2()).ceil() as i32 - 1;
            histogram.add(scale, index, &[1]);
        }
        histogram
    }

    #[test]
    fn quantiles_are_within_a_bucket_of_the_sorted_values_also_after_a_merge_of_scales() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut values: Vec<f64> = (0..5_000)
            .map(|_| 1e6 * (random.f64() * 8.0).exp2())
            .collect();
        let mut merged = histogram(2, &values[..2_000]);
        let fine = histogram(4, &values[2_000..]);
        merged.add(fine.scale, fine.offset, &fine.counts);
        assert_eq!(merged.scale, 2);
        assert_eq!(merged.counts.iter().sum::<i64>(), 5_000);
        values.sort_by(f64::total_cmp);
        for share in [0.01, 0.5, 0.9, 0.99, 1.0] {
            let exact = values[((share * 5_000.0) as usize).clamp(1, 5_000) - 1];
            let found = merged.quantile(share).unwrap();
            assert!(
                (found / exact).log2().abs() < 0.25,
                "{share}: {found} {exact}"
            );
        }
        let ScalarValue::List(list) = merged.encode() else {
            panic!("not a list");
        };
        let numbers = list.value(0);
        let numbers = numbers.as_primitive::<Int64Type>().values();
        assert_eq!(Histogram::decode(numbers), Some(merged));
    }

    #[test]
    fn nothing_and_nonsense_have_no_quantile_and_stay_bounded() {
        assert_eq!(Histogram::default().quantile(0.5), None);
        let mut hostile = histogram(0, &[10.0]);
        hostile.add(0, 1_000_000, &[1, 1]);
        hostile.add(0, -1_000_000, &[1]);
        for (scale, offset) in [(99, 0), (0, i32::MAX), (0, i32::MIN), (i32::MIN, 0)] {
            hostile.add(scale, offset, &[1, 1]);
        }
        assert!(hostile.counts.len() <= MAX_BUCKETS);
        assert_eq!(hostile.counts.iter().sum::<i64>(), 4);
        assert_eq!(hostile.quantile(1.5), None);
    }
}
