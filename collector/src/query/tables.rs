//! The tables of a query session.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::exec_err;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::MemTable;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl,
};
use datafusion::error::Result;
use datafusion::prelude::SessionContext;

use crate::store::catalog::Partition;
use crate::store::{Snapshot, columns, ledger, parts};

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

/// The exact views over the ledger. Costs count every request, kept or not; `requests` counts
/// each request once, at the proxy of the service that was called.
const LEDGER_VIEWS: [(&str, &str); 5] = [
    (
        "cost_by_service",
        "SELECT minute, service_name, SUM(cost_usd) AS cost_usd, \
         SUM(CASE WHEN direction = 'inbound' THEN requests ELSE 0 END) AS requests \
         FROM ledger GROUP BY minute, service_name",
    ),
    (
        "cost_by_data_tag",
        "SELECT minute, data_tag, SUM(cost_usd) AS cost_usd, \
         SUM(CASE WHEN direction = 'inbound' THEN requests ELSE 0 END) AS requests \
         FROM ledger GROUP BY minute, data_tag",
    ),
    (
        "cost_by_route",
        "SELECT minute, service_name, route, SUM(cost_usd) AS cost_usd, \
         SUM(CASE WHEN direction = 'inbound' THEN requests ELSE 0 END) AS requests \
         FROM ledger GROUP BY minute, service_name, route",
    ),
    (
        "red_by_service",
        "SELECT minute, service_name, SUM(requests) AS requests, SUM(errors) AS errors, \
         SUM(duration_ms_sum) / NULLIF(SUM(requests), 0) AS duration_ms_mean \
         FROM ledger WHERE direction = 'inbound' GROUP BY minute, service_name",
    ),
    (
        "service_edges",
        "SELECT minute, service_name AS source, peer AS target, SUM(requests) AS requests, \
         SUM(errors) AS errors, SUM(cost_usd) AS cost_usd, \
         SUM(request_bytes + response_bytes) AS bytes \
         FROM ledger WHERE direction = 'outbound' GROUP BY minute, service_name, peer",
    ),
];

type FileOf = fn(&Partition) -> (u64, PathBuf);

/// Registers all tables.
pub(super) async fn register(context: &SessionContext, snapshot: &Snapshot) -> Result<()> {
    let files = |of: FileOf| -> Vec<PathBuf> {
        let named = snapshot.partitions.iter().map(|part| of(part));
        named
            .filter(|(rows, _)| *rows > 0)
            .map(|(_, path)| path)
            .collect()
    };
    let tables: [(&str, SchemaRef, &[RecordBatch], FileOf); 3] = [
        ("spans", columns::schema(), &snapshot.spans, |part| {
            (part.meta.rows, part.spans())
        }),
        ("trace_parts", parts::schema(), &snapshot.parts, |part| {
            (part.meta.traces, part.traces())
        }),
        ("ledger", ledger::schema(), &snapshot.ledger, |part| {
            (part.meta.ledger, part.ledger())
        }),
    ];
    for (name, schema, hot, of) in tables {
        let table = union(context, schema, hot, files(of))?;
        context.register_table(name, table.into_view())?;
    }
    for (name, query) in std::iter::once(("trace_metadata", TRACE_METADATA)).chain(LEDGER_VIEWS) {
        let view = context.sql(query).await?;
        context.register_table(name, view.into_view())?;
    }
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
    // A listing table takes a missing file for an empty folder.
    if let Some(missing) = files.iter().find(|path| !path.exists()) {
        return exec_err!("partition file `{}` is missing", missing.display());
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
    (0..lists)
        .map(|index| batches.iter().skip(index).step_by(lists).cloned().collect())
        .collect()
}
