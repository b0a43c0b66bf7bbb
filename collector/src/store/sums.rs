//! What a partition's spans add up to by service, class, kind, error and reason:
//! `<stem>.sums.parquet`, a few hundred rows.
//!
//! The page's totals of a day come from here: a partition holds spans of one day, so a day is
//! the sum of whole partitions and no span has to be read. Numbers are estimates from spans,
//! weighted by how many each stands for, so they are floating-point.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    Array as _, ArrayRef, AsArray as _, BooleanArray, Decimal128Array, Float64Array, Int64Array,
    RecordBatch, StringViewArray, StringViewBuilder, TimestampNanosecondArray,
};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::parquet::errors::ParquetError;
use foldhash::fast::FixedState;

use super::assembled::conform;
use super::columns::{MONEY_SCALE, UTC, timestamp};
use super::costs::project;
use super::parts::{DAY_NS, day_of};

/// The spans' columns that are read.
const COLUMNS: [&str; 8] = [
    "timestamp",
    "service_name",
    "data_tag",
    "kind",
    "sampling_reason",
    "error",
    "adjusted_count",
    "cost_usd",
];

/// The schema.
pub(crate) fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let text = |name: &str, is_optional| Field::new(name, DataType::Utf8View, is_optional);
        let always = |name: &str, kind| Field::new(name, kind, false);
        Arc::new(Schema::new(vec![
            always("day", timestamp()),
            text("service_name", false),
            text("data_tag", false),
            text("kind", false),
            text("sampling_reason", true),
            always("error", DataType::Boolean),
            always("spans", DataType::Int64),
            always("weight", DataType::Float64),
            always("cost_usd", DataType::Float64),
            always("newest", timestamp()),
        ]))
    });
    SCHEMA.clone()
}

#[derive(PartialEq, Eq, Hash)]
struct Group<'a> {
    day: i64,
    texts: [Option<&'a str>; 4],
    error: bool,
}

#[derive(Debug, Clone, Copy)]
struct Sum {
    /// A row of the group.
    row: usize,
    spans: i64,
    weight: f64,
    cost_usd: f64,
    newest: i64,
}

impl Sum {
    fn merge(&mut self, more: &Self) {
        self.spans += more.spans;
        self.weight += more.weight;
        self.cost_usd += more.cost_usd;
        self.newest = self.newest.max(more.newest);
    }
}

/// The columns that are read, as a schema of their own.
fn read_schema() -> SchemaRef {
    let spans = super::columns::schema();
    let fields = COLUMNS
        .iter()
        .filter_map(|name| spans.field_with_name(name).ok().cloned());
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The spans' columns, in the order of [`COLUMNS`].
struct Spans<'a> {
    times: &'a TimestampNanosecondArray,
    /// Service, class, kind, reason.
    texts: [&'a StringViewArray; 4],
    errors: &'a BooleanArray,
    weights: &'a Float64Array,
    costs: &'a Decimal128Array,
}

impl<'a> Spans<'a> {
    fn of(spans: &'a RecordBatch) -> Result<Self, ArrowError> {
        let columns = <&[ArrayRef; 8]>::try_from(spans.columns())
            .map_err(|_| ArrowError::SchemaError("columns are missing".to_owned()))?;
        let [times, service, tag, kind, reason, errors, weights, costs] = columns;
        Ok(Self {
            times: times.as_primitive(),
            texts: [service, tag, kind, reason].map(|column| column.as_string_view()),
            errors: errors.as_boolean(),
            weights: weights.as_primitive(),
            costs: costs.as_primitive(),
        })
    }

    fn sums(&self) -> Vec<Sum> {
        let unit = 10f64.powi(i32::from(MONEY_SCALE));
        let mut places: HashMap<Group<'_>, usize, FixedState> = HashMap::default();
        let mut sums: Vec<Sum> = Vec::new();
        for (row, time) in self.times.values().iter().enumerate() {
            let group = Group {
                day: day_of(*time),
                texts: self
                    .texts
                    .map(|texts| texts.is_valid(row).then(|| texts.value(row))),
                error: self.errors.value(row),
            };
            let next = sums.len();
            let place = *places.entry(group).or_insert(next);
            if place == next {
                sums.push(Sum {
                    row,
                    spans: 0,
                    weight: 0.0,
                    cost_usd: 0.0,
                    newest: *time,
                });
            }
            let Some(sum) = sums.get_mut(place) else {
                continue;
            };
            let weight = self.weights.is_valid(row).then(|| self.weights.value(row));
            let weight = weight.unwrap_or(1.0);
            sum.spans += 1;
            sum.weight += weight;
            if self.costs.is_valid(row) {
                sum.cost_usd += self.costs.value(row) as f64 / unit * weight;
            }
            sum.newest = sum.newest.max(*time);
        }
        sums
    }
}

/// Sums over batches that come one after the other.
#[derive(Debug, Default)]
pub(crate) struct Adder {
    groups: HashMap<Owned, Sum, FixedState>,
    /// A batch had other columns.
    failed: Option<ArrowError>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Owned {
    day: i64,
    texts: [Option<Box<str>>; 4],
    error: bool,
}

impl Adder {
    /// Adds a batch of spans.
    pub(crate) fn look(&mut self, spans: &RecordBatch) {
        if let Err(error) = self.add(spans) {
            self.failed = Some(error);
        }
    }

    fn add(&mut self, spans: &RecordBatch) -> Result<(), ArrowError> {
        let spans = conform(spans, &read_schema())?;
        let spans = Spans::of(&spans)?;
        for more in spans.sums() {
            let row = more.row;
            let text =
                |texts: &StringViewArray| texts.is_valid(row).then(|| texts.value(row).into());
            let group = Owned {
                day: day_of(more.newest),
                texts: spans.texts.map(text),
                error: spans.errors.value(row),
            };
            match self.groups.entry(group) {
                Entry::Vacant(entry) => drop(entry.insert(more)),
                Entry::Occupied(mut entry) => entry.get_mut().merge(&more),
            }
        }
        Ok(())
    }

    /// All of them.
    pub(crate) fn finish(self) -> Result<RecordBatch, ArrowError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut sums: Vec<(Owned, Sum)> = self.groups.into_iter().collect();
        sums.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let text = |index: usize| -> ArrayRef {
            let mut column = StringViewBuilder::new().with_deduplicate_strings();
            for (group, _) in &sums {
                column.append_option(group.texts.get(index).and_then(Option::as_deref));
            }
            Arc::new(column.finish())
        };
        let time = |of: &dyn Fn(&Owned, &Sum) -> i64| -> ArrayRef {
            let times = sums.iter().map(|(group, sum)| of(group, sum));
            Arc::new(TimestampNanosecondArray::from_iter_values(times).with_timezone(UTC))
        };
        let number = |of: fn(&Sum) -> f64| -> ArrayRef {
            let numbers = sums.iter().map(|(_, sum)| of(sum));
            Arc::new(Float64Array::from_iter_values(numbers))
        };
        let errors: BooleanArray = sums.iter().map(|(group, _)| Some(group.error)).collect();
        let counts = sums.iter().map(|(_, sum)| sum.spans);
        let columns: Vec<ArrayRef> = vec![
            time(&|group, _| group.day.saturating_mul(DAY_NS)),
            text(0),
            text(1),
            text(2),
            text(3),
            Arc::new(errors),
            Arc::new(Int64Array::from_iter_values(counts)),
            number(|sum| sum.weight),
            number(|sum| sum.cost_usd),
            time(&|_, sum| sum.newest),
        ];
        RecordBatch::try_new(schema(), columns)
    }
}

/// Adds up spans.
pub(crate) fn of(spans: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let mut adder = Adder::default();
    adder.add(spans)?;
    adder.finish()
}

/// Reads a file of sums.
pub(crate) fn read(path: &Path) -> Result<RecordBatch, ParquetError> {
    let schema = schema();
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let rows = project(path, &names)?;
    let rows: Vec<RecordBatch> = rows.collect::<Result<_, _>>()?;
    Ok(concat_batches(&schema, &rows)?)
}

/// Adds up a file of spans, for partitions of older versions.
pub(crate) fn read_spans(path: &Path) -> Result<RecordBatch, ParquetError> {
    let mut adder = Adder::default();
    for spans in project(path, &COLUMNS)? {
        adder.add(&spans?)?;
    }
    Ok(adder.finish()?)
}
