//! Whether a partition may hold a trace, asked of its local list of traces.

use std::fs::File;
use std::path::Path;

use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::parquet::errors::ParquetError;

/// False when none of the traces is in the list at `path`, by its bloom filters; true when one
/// may be.
pub(crate) fn may_hold(path: &Path, trace_ids: &[&str]) -> Result<bool, ParquetError> {
    let list = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
    let Some(column) = list
        .parquet_schema()
        .columns()
        .iter()
        .position(|column| column.name() == "trace_id")
    else {
        return Ok(true);
    };
    for group in 0..list.metadata().num_row_groups() {
        let Some(filter) = list.get_row_group_column_bloom_filter(group, column)? else {
            return Ok(true);
        };
        if trace_ids.iter().any(|id| filter.check(id)) {
            return Ok(true);
        }
    }
    Ok(false)
}
