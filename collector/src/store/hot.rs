//! The store: generations in memory, the window of known spans, and the list of partitions.
//!
//! One lock guards all of it; it is held for copying rows (microseconds per request) and for
//! taking a snapshot, never during I/O.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::error::ArrowError;

use super::catalog::Partition;
use super::dedup::{self, Dedup, Key};
use super::generation::{Generation, Sealed};
use super::hot_ledger::HotLedger;
use super::instances::Instances;
use crate::assembly::{Assembly, Limits, Observed};
use crate::memory::Memory;
use crate::otlp::batch::{SpanBatch, SpanRow};
use crate::otlp::metrics::{Delta, LedgerBatch};
use crate::places::Places;
use crate::policy::Rules;

/// A generation that is sealed early, for lack of memory, has at least this size.
const EARLY_BYTES: usize = 8 << 20;

/// Limits of the store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Rows in memory, all generations together; beyond it requests are refused until
    /// compaction has caught up. Defaults to 160 MiB.
    pub(crate) hot_bytes: usize,
    /// Memory of the whole process. Defaults to 512 MiB.
    pub(crate) memory_bytes: usize,
    /// A generation is sealed at this size. Defaults to 40 MiB.
    pub(crate) generation_bytes: usize,
    /// A generation is sealed at this age. Defaults to 10 minutes.
    pub(crate) generation_age: Duration,
    /// A log segment is closed at this size. Defaults to 64 MiB.
    pub(crate) segment_bytes: u64,
    /// Memory of the window of known spans. Defaults to 64 MiB.
    pub(crate) dedup_bytes: usize,
    /// Bounds of the assembly of traces.
    pub(crate) assembly: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hot_bytes: 160 << 20,
            memory_bytes: 512 << 20,
            generation_bytes: 40 << 20,
            generation_age: Duration::from_secs(600),
            segment_bytes: 64 << 20,
            dedup_bytes: 64 << 20,
            assembly: Limits::default(),
        }
    }
}

/// What became of a request's spans.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Inserted {
    /// Spans that are new.
    pub(crate) new: u64,
    /// Spans that were known already.
    pub(crate) duplicates: u64,
}

/// A consistent view of all spans: immutable batches and partition files that stay on disk
/// for as long as the view lives.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    /// Spans in memory.
    pub(crate) spans: Vec<RecordBatch>,
    /// Trace parts in memory.
    pub(crate) parts: Vec<RecordBatch>,
    /// Ledger rows in memory.
    pub(crate) ledger: Vec<Arc<HotLedger>>,
    /// Partitions.
    pub(crate) partitions: Vec<Arc<Partition>>,
    /// Where their spans are when they are not in the data folder.
    pub(crate) places: Arc<Places>,
}

/// What a query reads; the rest is not made into columns for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kinds {
    /// Spans.
    pub(crate) spans: bool,
    /// Trace parts.
    pub(crate) parts: bool,
    /// Ledger rows.
    pub(crate) ledger: bool,
}

impl Kinds {
    /// Everything.
    pub(crate) const ALL: Self = Self {
        spans: true,
        parts: true,
        ledger: true,
    };
}

struct Inner {
    active: Generation,
    sealed: VecDeque<Arc<Sealed>>,
    partitions: Vec<Arc<Partition>>,
    dedup: Dedup,
    instances: Instances,
    assembly: Assembly,
    places: Arc<Places>,
}

/// See the module's documentation.
pub(crate) struct Store {
    settings: Settings,
    memory: Memory,
    inner: Mutex<Inner>,
}

impl Store {
    /// An empty store whose first generation belongs to `segment`.
    pub(crate) fn new(settings: Settings, segment: u64, partitions: Vec<Arc<Partition>>) -> Self {
        let inner = Inner {
            active: Generation::new(segment),
            sealed: VecDeque::new(),
            partitions,
            dedup: Dedup::new(settings.dedup_bytes),
            instances: Instances::default(),
            assembly: Assembly::default(),
            places: Arc::default(),
        };
        Self {
            settings,
            memory: Memory::new(settings.memory_bytes),
            inner: Mutex::new(inner),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Rows are only ever appended; a panic elsewhere leaves them readable.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says by which rules traces are assembled; done once, before the first span.
    pub(crate) fn assemble(&self, rules: &Arc<Rules>) {
        let limits = self.settings.assembly;
        self.lock().assembly.configure(limits, rules.clone());
    }

    /// Memory that the assembly may take.
    pub(crate) fn assembly_bytes(&self) -> usize {
        self.settings.assembly.bytes
    }

    /// Works with the assembly; no rows are added meanwhile.
    pub(crate) fn with_assembly<T>(&self, work: impl FnOnce(&mut Assembly) -> T) -> T {
        work(&mut self.lock().assembly)
    }

    /// Adds the spans of one request that are not known yet. The assembly takes them trace by
    /// trace: what it knows of a trace is fetched once then, and not for each span.
    pub(crate) fn insert(&self, batch: &SpanBatch, now: Instant) -> Result<Inserted, ArrowError> {
        let key = |row: &SpanRow| dedup::key(&row.trace_id, &row.span_id);
        let keys: Vec<Key> = batch.spans.iter().map(key).collect();
        let mut is_new = Vec::with_capacity(keys.len());
        let mut guard = self.lock();
        let inner = &mut *guard;
        inner.dedup.insert_all(&keys, &mut is_new);
        let both = batch.spans.iter().zip(&is_new);
        let rows: Vec<&SpanRow> = both.filter_map(|(row, new)| new.then_some(row)).collect();
        let low = |row: &SpanRow| u128::from_be_bytes(row.trace_id) as u64;
        let mut by_trace: Vec<(u64, &SpanRow)> = rows.iter().map(|row| (low(row), *row)).collect();
        // Stable: of one trace, spans stay in the order of arrival.
        by_trace.sort_by_key(|(low, _)| *low);
        let mut observed: Vec<(&SpanRow, Observed)> = Vec::with_capacity(rows.len());
        for (_, row) in by_trace {
            let found = inner.assembly.observe(batch, row, batch.received_ns);
            observed.push((row, found));
        }
        inner.active.insert(batch, &rows, &observed, now)?;
        let new = rows.len() as u64;
        Ok(Inserted {
            new,
            duplicates: batch.spans.len() as u64 - new,
        })
    }

    /// Adds the deltas of one request that were not counted yet.
    /// Returns them, and how many were new.
    pub(crate) fn insert_ledger<'a>(
        &self,
        batch: &'a LedgerBatch,
        now: Instant,
    ) -> (Inserted, Vec<&'a Delta>) {
        let mut inner = self.lock();
        let mut fresh: Vec<&Delta> = Vec::with_capacity(batch.deltas.len());
        for delta in &batch.deltas {
            if inner.instances.advance(&delta.instance, delta.sequence) {
                fresh.push(delta);
            }
        }
        let new = fresh.len() as u64;
        inner.active.insert_ledger(fresh.iter().copied(), now);
        let inserted = Inserted {
            new,
            duplicates: batch.deltas.len() as u64 - new,
        };
        (inserted, fresh)
    }

    /// Remembers that a filter instance's deltas up to `sequence` were counted.
    pub(crate) fn remember_instance(&self, instance: &str, sequence: u64) {
        self.lock().instances.advance(instance, sequence);
    }

    /// Fills the window of known spans; returns false once a half of it is full.
    pub(crate) fn remember(&self, keys: impl Iterator<Item = Key>) -> bool {
        let mut inner = self.lock();
        for key in keys {
            inner.dedup.insert(key);
        }
        inner.dedup.len() < inner.dedup.per_half()
    }

    /// True when the open generation should be sealed.
    pub(crate) fn should_seal(&self, now: Instant, segment_bytes: u64) -> bool {
        let inner = self.lock();
        let Some(opened) = inner.active.opened() else {
            // Duplicates and refused spans fill a segment without opening a generation.
            return segment_bytes >= self.settings.segment_bytes;
        };
        let is_early = self.memory.is_tight()
            && inner.sealed.is_empty()
            && inner.active.bytes() >= EARLY_BYTES;
        is_early
            || inner.active.bytes() >= self.settings.generation_bytes
            || segment_bytes >= self.settings.segment_bytes
            || now.saturating_duration_since(opened) >= self.settings.generation_age
    }

    /// Says which log segment the open generation belongs to.
    pub(crate) fn begin(&self, segment: u64) {
        self.lock().active.segment = segment;
    }

    /// Says where spans are that are not in the data folder.
    pub(crate) fn set_places(&self, places: Arc<Places>) {
        self.lock().places = places;
    }

    /// Replaces the list of partitions (after a merge or expiry).
    pub(crate) fn set_partitions(&self, partitions: Vec<Arc<Partition>>) {
        self.lock().partitions = partitions;
    }

    /// Seals the open generation and opens one for `next_segment`.
    pub(crate) fn seal(&self, next_segment: u64) -> Result<Arc<Sealed>, ArrowError> {
        let mut inner = self.lock();
        let active = std::mem::replace(&mut inner.active, Generation::new(next_segment));
        let sealed = Arc::new(active.seal()?);
        inner.sealed.push_back(sealed.clone());
        Ok(sealed)
    }

    /// Exchanges a compacted generation for its partitions in one step.
    pub(crate) fn compacted(&self, segment: u64, partitions: Vec<Arc<Partition>>) {
        let mut inner = self.lock();
        inner.sealed.retain(|sealed| sealed.segment != segment);
        inner.partitions = partitions;
    }

    /// A view of everything.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, ArrowError> {
        self.snapshot_of(Kinds::ALL)
    }

    /// A view for a query that reads these kinds of rows.
    pub(crate) fn snapshot_of(&self, kinds: Kinds) -> Result<Snapshot, ArrowError> {
        let mut inner = self.lock();
        let active = inner.active.snapshot(kinds)?;
        let mut snapshot = Snapshot {
            spans: active.spans,
            parts: active.parts,
            ledger: active.ledger,
            partitions: inner.partitions.clone(),
            places: inner.places.clone(),
        };
        for sealed in &inner.sealed {
            if kinds.spans {
                snapshot.spans.extend(sealed.batches.spans.iter().cloned());
            }
            if kinds.parts {
                snapshot.parts.extend(sealed.batches.parts.iter().cloned());
            }
            if kinds.ledger {
                snapshot.ledger.extend(sealed.ledger.iter().cloned());
            }
        }
        Ok(snapshot)
    }

    /// A view for who looks for one trace: partitions, and batches with all of its rows.
    pub(crate) fn snapshot_of_trace(&self, id: &[u8; 16]) -> Result<Snapshot, ArrowError> {
        let inner = self.lock();
        let mut spans = inner.active.of_trace(id)?;
        for sealed in &inner.sealed {
            spans.extend(sealed.batches.spans.iter().cloned());
        }
        Ok(Snapshot {
            spans,
            partitions: inner.partitions.clone(),
            places: inner.places.clone(),
            ..Snapshot::default()
        })
    }

    /// Memory of all rows.
    pub(crate) fn hot_bytes(&self) -> usize {
        let inner = self.lock();
        inner.active.bytes()
            + inner
                .sealed
                .iter()
                .map(|sealed| sealed.bytes)
                .sum::<usize>()
    }

    /// Spans in memory, generations waiting for compaction, partitions.
    pub(crate) fn sizes(&self) -> (u64, usize, usize) {
        let inner = self.lock();
        let rows = inner.active.rows() + inner.sealed.iter().map(|sealed| sealed.rows).sum::<u64>();
        (rows, inner.sealed.len(), inner.partitions.len())
    }

    /// Memory that all rows may take.
    pub(crate) fn max_hot_bytes(&self) -> usize {
        self.settings.hot_bytes
    }

    /// True while no more rows may be taken.
    pub(crate) fn is_full(&self) -> bool {
        let hot_bytes = self.hot_bytes();
        // Waiting must have an end: few rows are not what the memory is short for.
        hot_bytes >= self.settings.hot_bytes
            || self.memory.is_over() && hot_bytes > self.settings.hot_bytes / 4
    }

    /// The memory of the process.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The window of known spans: bytes now and at most.
    pub(crate) fn dedup_bytes(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.dedup.bytes(), inner.dedup.max_bytes())
    }
}
