//! Reading the columns of parts that came with assembly; rows of older partitions have nulls.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{Decimal128Type, Int64Type, SchemaRef};
use datafusion::arrow::error::ArrowError;

use super::parts::{Costs, Part};

/// The columns of one batch.
pub(super) struct Assembled<'a> {
    depth: &'a ArrayRef,
    orphans: &'a ArrayRef,
    costs: [&'a ArrayRef; 4],
    unpriced: &'a ArrayRef,
    keep: &'a ArrayRef,
    linked: &'a ArrayRef,
}

fn number(column: &ArrayRef, row: usize) -> Option<i64> {
    let numbers = column.as_primitive::<Int64Type>();
    numbers.is_valid(row).then(|| numbers.value(row))
}

impl<'a> Assembled<'a> {
    /// Finds the columns.
    pub(super) fn of(parts: &'a RecordBatch) -> Result<Self, ArrowError> {
        let column = |name: &str| {
            parts
                .column_by_name(name)
                .ok_or_else(|| ArrowError::SchemaError(format!("no column `{name}`")))
        };
        Ok(Self {
            depth: column("depth")?,
            orphans: column("orphans")?,
            costs: [
                column("app_cost")?,
                column("mesh_cost")?,
                column("priced_cost")?,
                column("default_cost")?,
            ],
            unpriced: column("unpriced_spans")?,
            keep: column("keep_threshold")?,
            linked: column("linked_traces")?,
        })
    }

    /// Spans on the longest chain; 0 when that is not known.
    pub(super) fn depth(&self, row: usize) -> u32 {
        number(self.depth, row)
            .and_then(|depth| u32::try_from(depth).ok())
            .unwrap_or(0)
    }

    /// The lowest threshold of the rules that hold.
    pub(super) fn keep(&self, row: usize) -> Option<u64> {
        number(self.keep, row).and_then(|value| u64::try_from(value).ok())
    }

    /// Adds a row to a part.
    pub(super) fn add(&self, row: usize, part: &mut Part) {
        part.depth = part.depth.max(self.depth(row));
        part.orphans += number(self.orphans, row).unwrap_or(0);
        part.unpriced += number(self.unpriced, row).unwrap_or(0);
        part.keep_at_least(self.keep(row));
        let [app, mesh, priced, default] = self.costs.map(|column| {
            let costs = column.as_primitive::<Decimal128Type>();
            let nanos = costs.is_valid(row).then(|| costs.value(row));
            nanos.map_or(0, |nanos| u64::try_from(nanos).unwrap_or(u64::MAX))
        });
        part.costs.merge(Costs {
            app,
            mesh,
            priced,
            default,
        });
        let linked = self.linked.as_string_view();
        if linked.is_valid(row) {
            part.link(linked.value(row));
        }
    }
}

/// A batch as it would be written today: columns that came later are null.
pub(crate) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        columns.push(match batch.column_by_name(field.name()) {
            Some(column) => column.clone(),
            None => datafusion::arrow::array::new_null_array(field.data_type(), batch.num_rows()),
        });
    }
    RecordBatch::try_new(schema.clone(), columns)
}

/// All batches as one, in today's schema.
pub(crate) fn concat(
    schema: &SchemaRef,
    batches: &[RecordBatch],
) -> Result<RecordBatch, ArrowError> {
    let conforming: Result<Vec<_>, _> = batches.iter().map(|b| conform(b, schema)).collect();
    concat_batches(schema, &conforming?)
}
