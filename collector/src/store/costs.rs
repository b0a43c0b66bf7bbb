//! What a cost view needs of the ledger, and no more: sums by minute, service, direction, class
//! and basis, without routes, peers, instances and histograms. A day of a few dozen keys is a few
//! thousand rows, so that it can stay in memory ([`crate::query`]).

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    Array as _, ArrayRef, AsArray as _, Decimal128Array, Int64Array, RecordBatch, StringViewArray,
    StringViewBuilder, TimestampNanosecondArray,
};
use datafusion::arrow::datatypes::{
    DataType, Decimal128Type, Field, Int64Type, Schema, SchemaRef, TimestampNanosecondType,
};
use datafusion::arrow::error::ArrowError;
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::parquet::errors::ParquetError;
use foldhash::fast::FixedState;

use super::columns::{MONEY_PRECISION, MONEY_SCALE, UTC, timestamp};
use super::parts::{DAY_NS, day_of};

/// The columns, all of them also columns of the ledger.
const COLUMNS: [&str; 7] = [
    "minute",
    "service_name",
    "direction",
    "data_tag",
    "requests",
    "cost_usd",
    "basis",
];

/// The schema.
pub(crate) fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let money = DataType::Decimal128(MONEY_PRECISION, MONEY_SCALE);
        let kinds = [
            timestamp(),
            DataType::Utf8View,
            DataType::Utf8View,
            DataType::Utf8View,
            DataType::Int64,
            money,
            DataType::Utf8View,
        ];
        let fields = COLUMNS.iter().zip(kinds);
        let fields = fields.map(|(name, kind)| Field::new(*name, kind, *name == "basis"));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    });
    SCHEMA.clone()
}

#[derive(PartialEq, Eq, Hash)]
struct Group<'a> {
    minute: i64,
    texts: [&'a str; 3],
    basis: Option<&'a str>,
}

/// Adds up ledger rows.
pub(crate) fn of(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let [minute, service, direction, tag, requests, cost, basis] = columns(rows)?;
    let minutes = minute.as_primitive::<TimestampNanosecondType>();
    let texts = [&service, &direction, &tag].map(|column| column.as_string_view());
    let requests = requests.as_primitive::<Int64Type>();
    let costs = cost.as_primitive::<Decimal128Type>();
    let basis = basis.as_string_view();
    let mut places: HashMap<Group<'_>, usize, FixedState> = HashMap::default();
    let mut sums: Vec<(usize, i64, i128)> = Vec::new();
    for row in 0..rows.num_rows() {
        let group = Group {
            minute: minutes.value(row),
            texts: texts.map(|texts| texts.value(row)),
            basis: basis.is_valid(row).then(|| basis.value(row)),
        };
        let next = sums.len();
        let place = *places.entry(group).or_insert(next);
        if place == next {
            sums.push((row, 0, 0));
        }
        if let Some((_, total, nanos)) = sums.get_mut(place) {
            *total = total.saturating_add(requests.value(row));
            *nanos = nanos.saturating_add(costs.value(row));
        }
    }
    drop(places);
    let text = |texts: &StringViewArray| -> ArrayRef {
        // Copied, so that the rows' own text can go.
        let mut column = StringViewBuilder::new().with_deduplicate_strings();
        for (row, ..) in &sums {
            column.append_option(texts.is_valid(*row).then(|| texts.value(*row)));
        }
        Arc::new(column.finish())
    };
    let minutes = sums.iter().map(|(row, ..)| minutes.value(*row));
    let minutes = TimestampNanosecondArray::from_iter_values(minutes).with_timezone(UTC);
    let nanos = Decimal128Array::from_iter_values(sums.iter().map(|(_, _, nanos)| *nanos));
    let [service, direction, tag] = texts.map(text);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(minutes),
        service,
        direction,
        tag,
        Arc::new(Int64Array::from_iter_values(
            sums.iter().map(|(_, requests, _)| *requests),
        )),
        Arc::new(nanos.with_precision_and_scale(MONEY_PRECISION, MONEY_SCALE)?),
        text(basis),
    ];
    RecordBatch::try_new(schema(), columns)
}

/// The columns; rows of old partitions have no `basis`.
fn columns(rows: &RecordBatch) -> Result<[ArrayRef; 7], ArrowError> {
    let rows = super::assembled::conform(rows, &schema())?;
    <[ArrayRef; 7]>::try_from(rows.columns().to_vec())
        .map_err(|_| ArrowError::SchemaError("columns are missing".to_owned()))
}

/// Adds up a ledger file.
pub(crate) fn read(path: &Path) -> Result<RecordBatch, ParquetError> {
    let mut sums = Vec::new();
    for rows in project(path, &COLUMNS)? {
        sums.push(of(&rows?)?);
    }
    // A minute may have rows in two batches: then it has two sums, and that is as good.
    Ok(datafusion::arrow::compute::concat_batches(
        &schema(),
        &sums,
    )?)
}

/// Some columns of a file.
pub(super) fn project(
    path: &Path,
    columns: &[&str],
) -> Result<datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReader, ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path)?)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    builder.with_projection(mask).build()
}

/// Service and day with exact counts.
pub(crate) type Covered = (i64, Box<str>);

/// Which services and days the rows of a batch count exactly.
pub(crate) fn covered(rows: &RecordBatch, into: &mut BTreeSet<Covered>) -> Result<(), ArrowError> {
    let column = |name: &str| rows.column_by_name(name);
    let (Some(minutes), Some(services), Some(basis)) =
        (column("minute"), column("service_name"), column("basis"))
    else {
        // Rows of a version without estimates: nothing to set apart.
        return Ok(());
    };
    let minutes = minutes.as_primitive::<TimestampNanosecondType>();
    let (services, basis) = (services.as_string_view(), basis.as_string_view());
    let mut before: Option<(i64, &str)> = None;
    for row in 0..rows.num_rows() {
        if !basis.is_valid(row) || basis.value(row) != "ledger" {
            continue;
        }
        let found = (day_of(minutes.value(row)), services.value(row));
        if before != Some(found) {
            into.insert((found.0, found.1.into()));
            before = Some(found);
        }
    }
    Ok(())
}

/// The same of a file.
pub(crate) fn read_covered(path: &Path, into: &mut BTreeSet<Covered>) -> Result<(), ParquetError> {
    for rows in project(path, &["minute", "service_name", "basis"])? {
        covered(&rows?, into)?;
    }
    Ok(())
}

/// Services and days as rows.
pub(crate) fn covered_rows<'a>(
    covered: impl Iterator<Item = &'a Covered> + Clone,
) -> Result<RecordBatch, ArrowError> {
    let services: StringViewArray = covered.clone().map(|(_, name)| Some(&**name)).collect();
    let days = covered.map(|(day, _)| day.saturating_mul(DAY_NS));
    let days = TimestampNanosecondArray::from_iter_values(days).with_timezone(UTC);
    let columns: Vec<ArrayRef> = vec![Arc::new(services), Arc::new(days)];
    RecordBatch::try_new(covered_schema(), columns)
}

/// The schema of services and days.
pub(crate) fn covered_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("covered_service", DataType::Utf8View, false),
        Field::new("covered_day", timestamp(), false),
    ]))
}
