//! Opening a data folder: catalog, window of known spans, log.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{OpenError, recall};
use crate::assembly::Until;
use crate::forward::{Position, Queue};
use crate::metrics::Metrics;
use crate::otlp::decode::{self, Context};
use crate::otlp::limits::Limits;
use crate::otlp::metrics;
use crate::policy::Rules;
use crate::store::catalog::{Catalog, PARTS, Partition};
use crate::store::compact;
use crate::store::dedup::{Key, key};
use crate::store::generation::Sealed;
use crate::store::{Settings, Snapshot, Store};
use crate::wal::fs::RealFs;
use crate::wal::log::{Damage, Log};
use crate::wal::record::{Kind, Record};

/// Folder of the log below the data folder.
const LOG: &str = "wal";
/// How often a reader beside a running collector tries to get a consistent view.
const READ_ATTEMPTS: usize = 5;

/// What recovery hands to the threads.
pub(super) struct Recovered {
    pub(super) store: Store,
    pub(super) log: Log<RealFs>,
    pub(super) catalog: Catalog<RealFs>,
    /// Generations that wait for compaction.
    pub(super) waiting: Vec<Arc<Sealed>>,
    /// Compacted segments that are still there.
    pub(super) retained: BTreeSet<u64>,
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> OpenError + '_ {
    move |source| OpenError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Takes the folder for this process.
pub(super) fn lock(dir: &Path) -> Result<std::fs::File, OpenError> {
    std::fs::create_dir_all(dir.join(LOG)).map_err(io_error(dir))?;
    std::fs::create_dir_all(dir.join(PARTS)).map_err(io_error(dir))?;
    let file = std::fs::File::create(dir.join("LOCK")).map_err(io_error(dir))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::Locked(dir.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(OpenError::Io {
            path: dir.to_owned(),
            source,
        }),
    }
}

/// Reads everything back and repairs what a crash left behind.
pub(super) fn recover(
    dir: &Path,
    settings: Settings,
    rules: &Arc<Rules>,
    counted: Until,
    (metrics, forward): (&Metrics, &Queue),
) -> Result<Recovered, OpenError> {
    let fs = Arc::new(RealFs);
    let mut catalog = Catalog::load(fs.clone(), dir)?;
    let orphans = catalog.remove_orphans().map_err(io_error(dir))?;
    if orphans > 0 {
        tracing::info!(orphans, "removed files of an interrupted compaction");
    }
    let mut log = Log::open(fs, &dir.join(LOG), catalog.next_segment()).map_err(io_error(dir))?;
    let store = Store::new(settings, log.current(), catalog.partitions().to_vec());
    store.assemble(rules);
    store.with_assembly(|assembly| assembly.counted_until(counted));
    remember(&store, catalog.partitions());
    recall::run(&store, catalog.partitions());
    let (mut waiting, mut retained) = (Vec::new(), BTreeSet::new());
    for segment in log.closed() {
        if segment < catalog.next_segment() {
            retained.insert(segment);
            forward_only(&mut log, segment, forward, rules).map_err(io_error(dir))?;
            continue;
        }
        store.begin(segment);
        let mut replay = Replay {
            rules,
            store: &store,
            spans: 0,
            failed: 0,
        };
        let damage = log
            .read(segment, true, |number, record| {
                let spans = replay.record(&record);
                forward.push(at(segment, number), record, spans);
            })
            .map_err(io_error(dir))?;
        report(segment, &damage, &replay, metrics);
        waiting.push(store.seal(log.current())?);
        while store.is_full() && !waiting.is_empty() {
            let sealed = waiting.remove(0);
            compact_now(&sealed, dir, &mut catalog, &store)?;
            retained.insert(sealed.segment);
        }
    }
    Ok(Recovered {
        store,
        log,
        catalog,
        waiting,
        retained,
    })
}

fn at(segment: u64, record: u64) -> Position {
    Position { segment, record }
}

/// Reads a segment whose rows are in partitions for what was not forwarded. Which of its spans were
/// new is no longer known; some may be forwarded twice.
fn forward_only(
    log: &mut Log<RealFs>,
    segment: u64,
    forward: &Queue,
    rules: &Rules,
) -> io::Result<()> {
    if !forward.wants(at(segment, u64::MAX)) {
        return Ok(());
    }
    let limits = Limits::default();
    let damage = log.read(segment, false, |number, record| {
        if record.kind != Kind::Traces || !forward.wants(at(segment, number)) {
            return;
        }
        let context = Context {
            limits: &limits,
            rules,
            received_ns: record.received_ns,
        };
        let raw = record.decompress();
        let batch = raw.and_then(|raw| decode::traces(&raw, &context).ok());
        let spans = batch.map_or(0, |batch| batch.spans.len() as u64);
        forward.push(at(segment, number), record, spans);
    })?;
    for (offset, len) in damage.skipped {
        tracing::error!(
            segment,
            offset,
            len,
            "a damaged place in the log is not forwarded"
        );
    }
    Ok(())
}

fn compact_now(
    sealed: &Sealed,
    dir: &Path,
    catalog: &mut Catalog<RealFs>,
    store: &Store,
) -> Result<(), OpenError> {
    let metas = compact::write(sealed, &dir.join(PARTS))?;
    catalog.commit_segment(sealed.segment, metas)?;
    store.compacted(sealed.segment, catalog.partitions().to_vec());
    Ok(())
}

/// A view of a data folder that another process may be writing to. Nothing is changed.
pub(crate) fn read_only(dir: &Path, rules: &Arc<Rules>) -> Result<Snapshot, OpenError> {
    // A compaction between reading the catalog and reading the log moves spans from one to
    // the other; then both are read again.
    for _ in 0..READ_ATTEMPTS {
        let before = Catalog::load(Arc::new(RealFs), dir)?.next_segment();
        let snapshot = read_once(dir, rules);
        if Catalog::load(Arc::new(RealFs), dir)?.next_segment() == before {
            return snapshot;
        }
    }
    read_once(dir, rules)
}

fn read_once(dir: &Path, rules: &Arc<Rules>) -> Result<Snapshot, OpenError> {
    let fs = Arc::new(RealFs);
    let catalog = Catalog::load(fs.clone(), dir)?;
    let mut log = Log::open(fs, &dir.join(LOG), catalog.next_segment()).map_err(io_error(dir))?;
    let store = Store::new(
        Settings::default(),
        log.current(),
        catalog.partitions().to_vec(),
    );
    store.assemble(rules);
    remember(&store, catalog.partitions());
    for segment in log.closed() {
        if segment >= catalog.next_segment() {
            let mut replay = Replay {
                rules,
                store: &store,
                spans: 0,
                failed: 0,
            };
            log.read(segment, false, |_, record| {
                let _ = replay.record(&record);
            })
            .map_err(io_error(dir))?;
        }
    }
    Ok(store.snapshot()?)
}

/// Adds the records of a segment to the store.
struct Replay<'a> {
    rules: &'a Rules,
    store: &'a Store,
    spans: u64,
    failed: u64,
}

impl Replay<'_> {
    /// Returns the spans of traces that are new.
    fn record(&mut self, record: &Record) -> u64 {
        let inserted = match record.kind {
            Kind::Traces => self.traces(record),
            Kind::Metrics => self.ledger(record),
        };
        match inserted {
            Some(spans) => self.spans += spans,
            None => self.failed += 1,
        }
        inserted.unwrap_or(0)
    }

    fn ledger(&self, record: &Record) -> Option<u64> {
        let batch = metrics::ledger(&record.decompress()?).ok()?;
        self.store.insert_ledger(&batch, Instant::now());
        Some(0)
    }

    fn traces(&self, record: &Record) -> Option<u64> {
        let limits = Limits::default();
        let context = Context {
            limits: &limits,
            rules: self.rules,
            received_ns: record.received_ns,
        };
        let batch = decode::traces(&record.decompress()?, &context).ok()?;
        Some(self.store.insert(&batch, Instant::now()).ok()?.new)
    }
}

fn report(segment: u64, damage: &Damage, replay: &Replay<'_>, metrics: &Metrics) {
    metrics.recovered.add(replay.spans);
    metrics
        .log_damaged
        .add(damage.skipped.len() as u64 + replay.failed);
    metrics.log_torn_bytes.add(damage.torn_bytes as u64);
    for (offset, len) in &damage.skipped {
        tracing::error!(segment, offset, len, "skipped a damaged place in the log");
    }
    if replay.failed > 0 {
        tracing::error!(
            segment,
            records = replay.failed,
            "records in the log cannot be decoded"
        );
    }
    if damage.torn_bytes > 0 {
        tracing::warn!(
            segment,
            bytes = damage.torn_bytes,
            "cut a torn tail off the log"
        );
    }
    tracing::info!(segment, spans = replay.spans, "recovered a log segment");
}

/// Fills the window of known spans and ledger deltas from the youngest partitions.
fn remember(store: &Store, partitions: &[Arc<Partition>]) {
    for partition in partitions
        .iter()
        .filter(|partition| partition.meta.ledger > 0)
    {
        if let Err(error) = instances(partition, store) {
            tracing::error!(partition = partition.meta.stem, %error, "cannot read the ledger");
        }
    }
    let mut youngest_first: Vec<_> = partitions
        .iter()
        .filter(|partition| partition.meta.rows > 0)
        .collect();
    youngest_first.sort_by_key(|partition| std::cmp::Reverse(partition.meta.max_ns));
    for partition in youngest_first {
        match keys(partition) {
            Ok(keys) => {
                if !store.remember(keys.into_iter()) {
                    return;
                }
            }
            // The window is a protection against retries, not a condition for starting.
            Err(error) => {
                tracing::error!(partition = partition.meta.stem, %error, "cannot read span ids");
            }
        }
    }
}

fn keys(partition: &Partition) -> Result<Vec<Key>, Box<dyn std::error::Error>> {
    let file = std::fs::File::open(partition.spans())?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["trace_id", "span_id"]);
    let mut keys = Vec::new();
    for batch in builder.with_projection(mask).build()? {
        let batch = batch?;
        let (Some(traces), Some(spans)) = (
            batch
                .column_by_name("trace_id")
                .and_then(|column| column.as_string_view_opt()),
            batch
                .column_by_name("span_id")
                .and_then(|column| column.as_string_view_opt()),
        ) else {
            return Err("unexpected column type".into());
        };
        for (trace, span) in traces.iter().zip(spans.iter()) {
            let trace = trace.and_then(compact::unhex);
            let span = span.and_then(|span| u64::from_str_radix(span, 16).ok());
            if let (Some(trace), Some(span)) = (trace, span) {
                keys.push(key(&trace, &span.to_be_bytes()));
            }
        }
    }
    Ok(keys)
}

/// Reads which deltas a partition's ledger rows count.
fn instances(partition: &Partition, store: &Store) -> Result<(), Box<dyn std::error::Error>> {
    let file = std::fs::File::open(partition.ledger())?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["instance", "sequence"]);
    for batch in builder.with_projection(mask).build()? {
        let batch = batch?;
        let (Some(instances), Some(sequences)) = (
            batch
                .column_by_name("instance")
                .and_then(|column| column.as_string_view_opt()),
            batch
                .column_by_name("sequence")
                .and_then(|column| column.as_primitive_opt::<Int64Type>()),
        ) else {
            return Err("unexpected column type".into());
        };
        for (instance, sequence) in instances.iter().zip(sequences.iter()) {
            // Estimates have no instance.
            let instance = instance.filter(|instance| !instance.is_empty());
            if let (Some(instance), Some(sequence)) = (instance, sequence) {
                store.remember_instance(instance, sequence.unsigned_abs());
            }
        }
    }
    Ok(())
}
