//! Traces that were under way when the collector stopped: their spans that are in partitions
//! already go back into the assembly, so that a late span finds its trace.
//!
//! Only spans of the last hour ([`RECALLED_NS`], as long as the assembly remembers) are read, from
//! as many of the youngest partitions as the assembly has room for. A partition that cannot be
//! read is left out: what is stored is not touched by it.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Decimal128Type, Float64Type, TimestampNanosecondType};
use mesh_config::DataTag;

use super::retain::now_ns;
use crate::otlp::batch::{SpanBatch, SpanRow};
use crate::store::Store;
use crate::store::catalog::Partition;
use crate::store::compact::unhex;
use crate::store::layout::{DURATION_MS, DURATION_NS};
use crate::store::stream::Rows;

/// Age of the oldest span that is read.
const RECALLED_NS: i64 = 3_600_000_000_000;
/// What a span takes in the assembly, roughly.
const SPAN_BYTES: u64 = 64;

const COLUMNS: [&str; 12] = [
    "trace_id",
    "span_id",
    "parent_id",
    "timestamp",
    // The one or the other is there.
    DURATION_MS,
    DURATION_NS,
    "error",
    "cost_usd",
    "data_tag",
    "attributes",
    "scope_name",
    "service_name",
];

type Failure = Box<dyn std::error::Error>;

/// Fills the assembly from partitions.
pub(super) fn run(store: &Store, partitions: &[Arc<Partition>]) {
    let since_ns = now_ns().saturating_sub(RECALLED_NS);
    let mut young: Vec<_> = partitions
        .iter()
        .filter(|partition| partition.meta.place.is_none() && partition.meta.rows > 0)
        .filter(|partition| partition.meta.max_ns >= since_ns)
        .collect();
    young.sort_by_key(|partition| std::cmp::Reverse(partition.meta.max_ns));
    let mut room = store.assembly_bytes() as u64 / SPAN_BYTES;
    young.retain(|partition| {
        let fits = room > 0;
        room = room.saturating_sub(partition.meta.rows);
        fits
    });
    // Oldest first: the order of arrival is the order of eviction.
    for partition in young.iter().rev() {
        if let Err(error) = recall(store, partition, since_ns) {
            tracing::error!(partition = partition.meta.stem, %error, "cannot read traces under way");
        }
    }
}

fn recall(store: &Store, partition: &Partition, since_ns: i64) -> Result<(), Failure> {
    for rows in Rows::project(&partition.spans(), &COLUMNS)? {
        let batch = spans(&rows?, since_ns)?;
        store.with_assembly(|assembly| {
            for row in &batch.spans {
                assembly.recall(&batch, row, row.end_ns.unsigned_abs());
            }
        });
    }
    Ok(())
}

/// Rows of a partition as the assembly takes them.
fn spans(rows: &RecordBatch, since_ns: i64) -> Result<SpanBatch, Failure> {
    let column = |name: &str| rows.column_by_name(name).ok_or("column is missing");
    let text = |name: &str| -> Result<_, Failure> {
        let column = column(name)?.as_string_view_opt();
        Ok(column.ok_or("unexpected column type")?)
    };
    let (traces, ids, parents) = (text("trace_id")?, text("span_id")?, text("parent_id")?);
    let (tags, attributes, scopes) = (text("data_tag")?, text("attributes")?, text("scope_name")?);
    let starts = column("timestamp")?.as_primitive::<TimestampNanosecondType>();
    let durations = column(DURATION_MS)?.as_primitive::<Float64Type>();
    let costs = column("cost_usd")?.as_primitive::<Decimal128Type>();
    let errors = column("error")?.as_boolean();
    let id = |text: &str| u64::from_str_radix(text, 16).map(u64::to_be_bytes).ok();
    let mut batch = SpanBatch::default();
    for row in 0..rows.num_rows() {
        let start_ns = starts.value(row);
        let (Some(trace_id), Some(span_id)) = (unhex(traces.value(row)), id(ids.value(row))) else {
            continue;
        };
        if start_ns < since_ns {
            continue;
        }
        let parent = parents.is_valid(row).then(|| id(parents.value(row)));
        let cost = costs.is_valid(row).then(|| costs.value(row));
        let scope = if scopes.is_valid(row) {
            scopes.value(row)
        } else {
            ""
        };
        // A span's duration is far below 2^53 ns.
        let duration_ns = (durations.value(row) * 1e6) as i64;
        batch.spans.push(SpanRow {
            trace_id,
            span_id,
            parent_id: parent.flatten().unwrap_or_default(),
            start_ns,
            end_ns: start_ns.saturating_add(duration_ns),
            error: errors.value(row),
            cost_nanos: cost.and_then(|nanos| u64::try_from(nanos).ok()),
            class: DataTag::parse(tags.value(row).as_bytes()).unwrap_or_default(),
            attributes: batch.text.push(attributes.value(row)),
            scope: batch.text.push(scope),
            ..SpanRow::default()
        });
    }
    Ok(batch)
}
