//! The committer: one group of requests, one sync.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Instant;

use tokio::sync::mpsc::Receiver;

use super::failing::Failing;
use super::{Append, AppendError, Command, Rows, Taps};
use crate::control;
use crate::forward::Position;
use crate::metrics::Metrics;
use crate::store::generation::Sealed;
use crate::store::{Inserted, Store};
use crate::wal::fs::RealFs;
use crate::wal::log::Log;
use crate::wal::record::Record;

/// Requests of one group. Bounds how long the first of them waits for the others' rows.
const GROUP_RECORDS: usize = 1_024;
/// Stored bytes of one group (one request may exceed it alone).
const GROUP_BYTES: usize = 16 << 20;

/// See the module's documentation.
pub(super) struct Committer {
    pub(super) log: Log<RealFs>,
    pub(super) store: Arc<Store>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) poisoned: Arc<AtomicBool>,
    pub(super) sealed: Sender<Arc<Sealed>>,
    pub(super) taps: Taps,
    pub(super) failing: Arc<Failing>,
    /// Compacted segments that are still there.
    pub(super) retained: BTreeSet<u64>,
}

impl Committer {
    /// Works until every sender is gone.
    pub(super) fn run(mut self, mut commands: Receiver<Command>) {
        let mut group = Vec::new();
        while let Some(first) = commands.blocking_recv() {
            let mut bytes = self.take(first, &mut group);
            while bytes < GROUP_BYTES && group.len() < GROUP_RECORDS {
                match commands.try_recv() {
                    Ok(command) => bytes += self.take(command, &mut group),
                    Err(_) => break,
                }
            }
            self.commit(&mut group);
            self.store.memory().look();
            if self
                .store
                .should_seal(Instant::now(), self.log.open_bytes())
            {
                self.seal();
            }
        }
    }

    /// Queues an append; everything else is done at once.
    fn take(&mut self, command: Command, group: &mut Vec<Append>) -> usize {
        match command {
            Command::Append(append) => {
                let bytes = append.record.payload.len();
                group.push(*append);
                bytes
            }
            Command::Compacted(segment) => {
                self.retained.insert(segment);
                self.remove_segments();
                0
            }
            Command::Tick => {
                self.failing.look();
                self.remove_segments();
                0
            }
        }
    }

    /// Removes compacted segments of which nothing waits to be forwarded.
    fn remove_segments(&mut self) {
        while let Some(segment) = self.retained.first().copied()
            && !self.taps.forward.holds(segment)
        {
            self.retained.pop_first();
            if let Err(error) = self.log.remove(segment) {
                // It is removed at the next start: the catalog says that it is compacted.
                tracing::warn!(segment, %error, "cannot remove a compacted log segment");
            }
        }
    }

    fn commit(&mut self, group: &mut Vec<Append>) {
        if group.is_empty() {
            return;
        }
        let start = Instant::now();
        let mut records: Vec<Record> = Vec::with_capacity(group.len());
        let mut waiting = Vec::with_capacity(group.len());
        for append in group.drain(..) {
            self.metrics
                .log_bytes
                .add(append.record.payload.len() as u64);
            records.push(append.record);
            waiting.push((append.rows, append.reply));
        }
        // Keyed by the operating system's entropy; it need not be secret for long.
        let salt = RandomState::new().hash_one(start);
        let first = self.log.next_record();
        let appended = self.log.append(&records, salt);
        self.metrics.log_groups.add(start.elapsed());
        if let Err(error) = appended {
            if self.log.is_poisoned() {
                self.poisoned.store(true, Ordering::Release);
            }
            self.failing.set();
            tracing::error!(%error, requests = records.len(), "requests were not stored");
            for (_, reply) in waiting {
                // A client that has gone needs no answer.
                let _ = reply.send(Err(AppendError::Storage));
            }
            return;
        }
        self.failing.clear();
        self.metrics.log_records.add(records.len() as u64);
        let segment = self.log.current();
        for (record, ((rows, reply), number)) in
            records.into_iter().zip(waiting.into_iter().zip(first..))
        {
            let inserted = self.insert(&rows, start);
            if let (Rows::Spans(_), Ok(inserted)) = (&rows, &inserted) {
                let at = Position {
                    segment,
                    record: number,
                };
                self.taps.forward.push(at, record, inserted.new);
            }
            let _ = reply.send(inserted);
        }
    }

    fn insert(&self, rows: &Rows, now: Instant) -> Result<Inserted, AppendError> {
        match rows {
            Rows::Spans(batch) => {
                let inserted = self.store.insert(batch, now).map_err(|error| {
                    tracing::error!(%error, "rows of a logged request are not shown until a restart");
                    AppendError::Storage
                })?;
                self.metrics.spans.add(inserted.new);
                self.metrics.duplicates.add(inserted.duplicates);
                if inserted.duplicates == 0 {
                    self.metrics.received.add(batch);
                }
                Ok(inserted)
            }
            Rows::Ledger(batch) => {
                let (inserted, fresh) = self.store.insert_ledger(batch, now);
                self.metrics.totals.add(&fresh);
                for delta in fresh {
                    self.taps.rates.observe(delta, control::now_ms());
                }
                self.metrics.ledger_deltas.add(inserted.new);
                self.metrics.ledger_duplicates.add(inserted.duplicates);
                Ok(inserted)
            }
        }
    }

    fn seal(&mut self) {
        // The log may have skipped a number (a segment that could not be created); the
        // generation belongs to the segment that its rows really are in.
        self.store.begin(self.log.current());
        self.log.rotate();
        match self.store.seal(self.log.current()) {
            // The compactor ends only after this thread has dropped its sender.
            Ok(sealed) => drop(self.sealed.send(sealed)),
            Err(error) => tracing::error!(%error, "cannot seal a generation"),
        }
    }
}
