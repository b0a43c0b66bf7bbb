//! Ledger rows in memory, with what queries make of them.
//!
//! The rows of the open generation are made into columns when a query first asks for them, and
//! kept until one is added; rollups and sums are kept with them. They take less than the rows that
//! they are made of, which the store's limit counts at 1 KiB each.

use std::sync::OnceLock;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::error::ArrowError;

use super::costs;
use super::ledger::{HOUR_NS, rollup};
use super::parts::DAY_NS;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct HotLedger {
    rows: RecordBatch,
    hours: OnceLock<RecordBatch>,
    days: OnceLock<RecordBatch>,
    costs: OnceLock<RecordBatch>,
}

impl HotLedger {
    /// Around some rows.
    pub(crate) fn new(rows: RecordBatch) -> Self {
        Self {
            rows,
            hours: OnceLock::new(),
            days: OnceLock::new(),
            costs: OnceLock::new(),
        }
    }

    /// Minute by minute.
    pub(crate) fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// Hour by hour.
    pub(crate) fn hours(&self) -> Result<RecordBatch, ArrowError> {
        once(&self.hours, || rollup(&self.rows, HOUR_NS))
    }

    /// Day by day.
    pub(crate) fn days(&self) -> Result<RecordBatch, ArrowError> {
        once(&self.days, || rollup(&self.rows, DAY_NS))
    }

    /// Costs and requests by minute.
    pub(crate) fn costs(&self) -> Result<RecordBatch, ArrowError> {
        once(&self.costs, || costs::of(&self.rows))
    }
}

fn once(
    cell: &OnceLock<RecordBatch>,
    make: impl FnOnce() -> Result<RecordBatch, ArrowError>,
) -> Result<RecordBatch, ArrowError> {
    if let Some(made) = cell.get() {
        return Ok(made.clone());
    }
    // Two queries at a time may both make it; either is right.
    let made = make()?;
    drop(cell.set(made.clone()));
    Ok(made)
}
