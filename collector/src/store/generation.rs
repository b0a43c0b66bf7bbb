//! The rows of one log segment in memory.

use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::error::ArrowError;

use super::columns::SpanColumns;
use super::estimates::Estimates;
use super::hot::Kinds;
use super::hot_ledger::HotLedger;
use super::ledger::Minutes;
use super::parts::{self, PartColumns};
use crate::assembly::Observed;
use crate::otlp::batch::{SpanBatch, SpanRow};
use crate::otlp::metrics::Delta;

/// Trace parts after which builders become an immutable batch. A query copies what is in the
/// builders, so this bounds that copy; DataFusion's own batch size is 8,192.
const FREEZE_PARTS: usize = 8_192;
/// The same for spans, at the end of the request. The columns are made one after the other: so few
/// rows stay in the processor's cache meanwhile.
const FREEZE_SPANS: usize = 2_048;

/// A generation that still grows.
pub(crate) struct Generation {
    /// The log segment it belongs to.
    pub(crate) segment: u64,
    spans: SpanColumns,
    parts: PartColumns,
    frozen_spans: Vec<RecordBatch>,
    frozen_parts: Vec<RecordBatch>,
    ledger: Minutes,
    estimates: Estimates,
    /// Both as columns, until one of them grows.
    ledger_columns: Option<Arc<HotLedger>>,
    estimate_columns: Option<Arc<HotLedger>>,
    rows: u64,
    bytes: usize,
    opened: Option<Instant>,
}

/// A generation that does not grow any more.
#[derive(Debug)]
pub(crate) struct Sealed {
    /// The log segment it belongs to.
    pub(crate) segment: u64,
    /// Its rows.
    pub(crate) batches: Batches,
    /// Its ledger rows for queries.
    pub(crate) ledger: Vec<Arc<HotLedger>>,
    /// Number of spans.
    pub(crate) rows: u64,
    /// Estimated memory.
    pub(crate) bytes: usize,
}

impl Generation {
    /// An empty generation.
    pub(crate) fn new(segment: u64) -> Self {
        Self {
            segment,
            spans: SpanColumns::default(),
            parts: PartColumns::default(),
            frozen_spans: Vec::new(),
            frozen_parts: Vec::new(),
            ledger: Minutes::default(),
            estimates: Estimates::default(),
            ledger_columns: None,
            estimate_columns: None,
            rows: 0,
            bytes: 0,
            opened: None,
        }
    }

    /// Appends rows of one request: in the order of arrival, and trace by trace with what the
    /// assembly found.
    pub(crate) fn insert(
        &mut self,
        batch: &SpanBatch,
        rows: &[&SpanRow],
        observed: &[(&SpanRow, Observed)],
        now: Instant,
    ) -> Result<(), ArrowError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.opened.get_or_insert(now);
        self.spans.push(batch, rows.iter().copied());
        if self.spans.len() >= FREEZE_SPANS {
            self.frozen_spans.push(self.spans.finish()?);
        }
        parts::of_rows(batch, observed, |trace_id, part| {
            self.parts.push(trace_id, part);
            if self.parts.len() >= FREEZE_PARTS {
                self.frozen_parts.push(self.parts.finish()?);
            }
            Ok(())
        })?;
        self.estimate_columns = None;
        self.bytes += self.estimates.add(batch, rows) * LEDGER_ROW_BYTES;
        self.rows += rows.len() as u64;
        self.bytes += memory_of(batch, rows.len());
        Ok(())
    }

    /// Adds deltas of the ledger.
    pub(crate) fn insert_ledger<'a>(
        &mut self,
        deltas: impl Iterator<Item = &'a Delta>,
        now: Instant,
    ) {
        for delta in deltas {
            self.opened.get_or_insert(now);
            self.ledger_columns = None;
            self.bytes += self.ledger.add(delta) * LEDGER_ROW_BYTES;
        }
    }

    /// Number of spans.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Estimated memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the first row came.
    pub(crate) fn opened(&self) -> Option<Instant> {
        self.opened
    }

    /// Everything so far of some kinds: spans, trace parts, ledger rows.
    pub(crate) fn snapshot(&mut self, kinds: Kinds) -> Result<View, ArrowError> {
        let mut view = View::default();
        if kinds.spans {
            view.spans.clone_from(&self.frozen_spans);
            if self.spans.len() > 0 {
                view.spans.push(self.spans.snapshot()?);
            }
        }
        if kinds.parts {
            view.parts.clone_from(&self.frozen_parts);
            if self.parts.len() > 0 {
                view.parts.push(self.parts.snapshot()?);
            }
        }
        if kinds.ledger {
            view.ledger = self.hot_ledger()?;
        }
        Ok(view)
    }

    /// Batches with all rows of one trace, among others.
    pub(crate) fn of_trace(&self, id: &[u8; 16]) -> Result<Vec<RecordBatch>, ArrowError> {
        let mut spans = self.frozen_spans.clone();
        spans.push(self.spans.of_trace(id)?);
        Ok(spans)
    }

    fn hot_ledger(&mut self) -> Result<Vec<Arc<HotLedger>>, ArrowError> {
        if self.estimate_columns.is_none() {
            let rows = self.estimates.batch()?;
            self.estimate_columns = rows.map(HotLedger::new).map(Arc::new);
        }
        if self.ledger_columns.is_none() && !self.ledger.is_empty() {
            let rows = self.ledger.batch()?;
            self.ledger_columns = Some(Arc::new(HotLedger::new(rows)));
        }
        let columns = [&self.estimate_columns, &self.ledger_columns];
        Ok(columns.into_iter().flatten().cloned().collect())
    }

    /// Closes the generation.
    pub(crate) fn seal(mut self) -> Result<Sealed, ArrowError> {
        if self.spans.len() > 0 {
            self.frozen_spans.push(self.spans.finish()?);
        }
        if self.parts.len() > 0 {
            self.frozen_parts.push(self.parts.finish()?);
        }
        let ledger = self.hot_ledger()?;
        Ok(Sealed {
            segment: self.segment,
            batches: Batches {
                spans: self.frozen_spans,
                parts: self.frozen_parts,
                ledger: ledger.iter().map(|ledger| ledger.rows().clone()).collect(),
            },
            ledger,
            rows: self.rows,
            bytes: self.bytes,
        })
    }
}

/// Rows for a query.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// Spans.
    pub(crate) spans: Vec<RecordBatch>,
    /// Trace parts.
    pub(crate) parts: Vec<RecordBatch>,
    /// Ledger rows.
    pub(crate) ledger: Vec<Arc<HotLedger>>,
}

/// Rows of one kind each.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    /// Spans.
    pub(crate) spans: Vec<RecordBatch>,
    /// Trace parts.
    pub(crate) parts: Vec<RecordBatch>,
    /// Ledger rows.
    pub(crate) ledger: Vec<RecordBatch>,
}

/// Key, sums and histogram of one ledger row.
const LEDGER_ROW_BYTES: usize = 1_024;

/// Fixed-width columns and text views of one span and its share of a part.
const ROW_BYTES: usize = 640;

/// An estimate on the safe side: fixed columns per row plus all text of the request.
fn memory_of(batch: &SpanBatch, rows: usize) -> usize {
    rows * ROW_BYTES + batch.text.len()
}
