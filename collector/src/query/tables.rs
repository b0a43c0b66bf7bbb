//! The tables of a query session.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::MemTable;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl,
};
use datafusion::error::Result;
use datafusion::prelude::SessionContext;

use crate::store::{Snapshot, columns, parts};

/// `trace_metadata` as the sum of the parts. A trace's root may be missing or late: then its
/// columns are NULL until it comes.
const TRACE_METADATA: &str = "SELECT trace_id, \
     CAST(SUM(recorded_cost) AS DECIMAL(20,9)) AS recorded_cost, \
     CAST(SUM(span_count) AS BIGINT) AS span_count, \
     BOOL_OR(error) AS error, \
     CASE MAX(class) WHEN 2 THEN 'PII' WHEN 1 THEN 'SENSITIVE' ELSE 'EXPORT_OK' END AS data_tag, \
     MIN(first_seen) AS first_seen, \
     MAX(last_seen) AS last_seen, \
     MAX(root_service) AS root_service, \
     MAX(root_operation) AS root_operation, \
     (CAST(MAX(last_seen) AS BIGINT) - CAST(MIN(first_seen) AS BIGINT)) / 1000000.0 \
     AS duration_ms \
     FROM trace_parts GROUP BY trace_id";

/// Registers all tables.
pub(super) async fn register(context: &SessionContext, snapshot: &Snapshot) -> Result<()> {
    let span_files = snapshot.partitions.iter().map(|part| part.spans()).collect();
    let spans = union(context, columns::schema(), &snapshot.spans, span_files)?;
    context.register_table("spans", spans.into_view())?;
    let part_files = snapshot.partitions.iter().map(|part| part.traces()).collect();
    let trace_parts = union(context, parts::schema(), &snapshot.parts, part_files)?;
    context.register_table("trace_parts", trace_parts.into_view())?;
    let traces = context.sql(TRACE_METADATA).await?;
    context.register_table("trace_metadata", traces.into_view())?;
    Ok(())
}

fn union(
    context: &SessionContext,
    schema: SchemaRef,
    hot: &[RecordBatch],
    files: Vec<PathBuf>,
) -> Result<DataFrame> {
    let partitions = context.state().config().target_partitions();
    let memory = context.read_table(Arc::new(MemTable::try_new(
        schema.clone(),
        split(hot, partitions),
    )?))?;
    if files.is_empty() {
        return Ok(memory);
    }
    let urls = files
        .iter()
        .map(|path| ListingTableUrl::parse(path.to_string_lossy()))
        .collect::<Result<Vec<_>>>()?;
    let options = ListingOptions::new(Arc::new(ParquetFormat::default()));
    let config = ListingTableConfig::new_with_multi_paths(urls)
        .with_listing_options(options)
        .with_schema(schema);
    let stored = context.read_table(Arc::new(ListingTable::try_new(config)?))?;
    memory.union(stored)
}

/// Deals batches out to as many lists as there are workers.
fn split(batches: &[RecordBatch], lists: usize) -> Vec<Vec<RecordBatch>> {
    let lists = lists.max(1);
    (0..lists).map(|index| batches.iter().skip(index).step_by(lists).cloned().collect()).collect()
}
