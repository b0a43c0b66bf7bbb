//! The tables of a query session: only those that the query names, since each view has to be
//! planned.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::hash::BuildHasher as _;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::common::TableReference;
use datafusion::datasource::{MemTable, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::prelude::SessionContext;
use foldhash::fast::FixedState;
use object_store::path::Path;

use super::cache::Cache;
use super::stored::{File, Stored};
use super::{histogram, views};
use crate::store::catalog::{Partition, Remote};
use crate::store::hot_ledger::HotLedger;
use crate::store::parts::DAY_NS;
use crate::store::{Kinds, Snapshot, columns, costs, ledger, parts, sums};

/// The stored tables.
const TABLES: [&str; 8] = [
    "spans",
    "span_sums",
    "trace_parts",
    "ledger_rows",
    "ledger_hours",
    "ledger_days",
    "ledger_costs",
    "ledger_covered",
];

/// The names that are shown to a query, or those of them that it mentions.
fn asked(named: &[TableReference]) -> impl Iterator<Item = String> {
    // The catalog of names shows all of them.
    let all = named
        .iter()
        .any(|name| name.schema() == Some("information_schema"));
    let every = TABLES.into_iter().map(str::to_owned).chain(views::names());
    every.filter(move |name| all || named.iter().any(|asked| asked.table() == name))
}

/// The kinds of rows behind the tables and views that a query refers to.
pub(super) fn kinds(named: &[TableReference]) -> Kinds {
    let mut kinds = Kinds::default();
    let mut names: Vec<String> = asked(named).collect();
    while let Some(name) = names.pop() {
        match views::view(&name) {
            Some(view) => names.extend(view.needs.into_iter().map(str::to_owned)),
            None if name == "spans" || name == "span_sums" => kinds.spans = true,
            None if name == "trace_parts" => kinds.parts = true,
            None => kinds.ledger = true,
        }
    }
    kinds
}

/// Registers the tables that a query refers to, and those that these are made of.
pub(super) async fn register(
    context: &SessionContext,
    snapshot: &Snapshot,
    cache: &Arc<Cache>,
    named: &[TableReference],
) -> Result<()> {
    histogram::register(context);
    let mut done: BTreeSet<String> = BTreeSet::new();
    for name in asked(named) {
        add(context, (snapshot, cache), &name, &mut done).await?;
    }
    Ok(())
}

async fn add(
    context: &SessionContext,
    from: (&Snapshot, &Arc<Cache>),
    name: &str,
    done: &mut BTreeSet<String>,
) -> Result<()> {
    if !done.insert(name.to_owned()) {
        return Ok(());
    }
    let Some(view) = views::view(name) else {
        context.register_table(name, stored(context, from, name)?)?;
        return Ok(());
    };
    for table in view.needs {
        Box::pin(add(context, from, table, done)).await?;
    }
    let frame = context.sql(&view.query).await?;
    context.register_table(name, frame.into_view())?;
    Ok(())
}

/// What a stored table is made of.
struct Source<'a> {
    schema: SchemaRef,
    /// Name of the time column.
    time: &'static str,
    /// Rows in memory.
    hot: Cow<'a, [RecordBatch]>,
    /// The file of a partition, when it has one.
    file: fn(&Partition) -> Option<Found>,
}

/// The file of a partition.
struct Found {
    at: At,
    /// Of the time column.
    range: (i64, i64),
    /// Where its traces are.
    ids: Option<PathBuf>,
    /// Number of rows, when the list of traces speaks of rows of this file.
    rows: Option<usize>,
}

impl Found {
    fn of_day(path: PathBuf, partition: &Partition) -> Self {
        Self {
            at: At::Folder(path),
            range: day(partition),
            ids: None,
            rows: None,
        }
    }
}

fn stored(
    context: &SessionContext,
    (snapshot, cache): (&Snapshot, &Arc<Cache>),
    name: &str,
) -> Result<Arc<dyn TableProvider>> {
    if name == "ledger_covered" {
        return covered(snapshot, cache);
    }
    let source = source(snapshot, name)?;
    let lists = context.state().config().target_partitions();
    let files = snapshot
        .partitions
        .iter()
        .filter_map(|partition| (source.file)(partition))
        .map(|found| file(context, snapshot, found))
        .collect::<Result<Vec<_>>>()?;
    let hot = split(&source.hot, lists);
    let mut stored = Stored::new(source.schema, source.time, hot, files);
    match name {
        "ledger_costs" => stored = stored.with_sums(cache.turn(), costs::read),
        "span_sums" => stored = stored.with_sums(cache.turn(), sums::read),
        _ => {}
    }
    Ok(Arc::new(stored))
}

fn source<'a>(snapshot: &'a Snapshot, name: &str) -> Result<Source<'a>> {
    let ledger = |rows: fn(&HotLedger) -> Result<RecordBatch, ArrowError>| {
        let rows = snapshot.ledger.iter().map(|ledger| rows(ledger));
        rows.collect::<Result<Vec<_>, _>>()
    };
    let minutes: fn(&Partition) -> Option<Found> =
        |part| (part.meta.ledger > 0).then(|| Found::of_day(part.ledger(), part));
    Ok(match name {
        "spans" => Source {
            schema: columns::schema(),
            time: "timestamp",
            hot: Cow::Borrowed(&snapshot.spans),
            file: spans_of,
        },
        "span_sums" => Source {
            schema: sums::schema(),
            time: "day",
            hot: Cow::Owned(span_sums(snapshot)?),
            file: |part| {
                (part.meta.rows > 0 && part.meta.sums).then(|| Found::of_day(part.sums(), part))
            },
        },
        "trace_parts" => Source {
            schema: parts::schema(),
            time: "first_seen",
            hot: Cow::Borrowed(&snapshot.parts),
            file: parts_of,
        },
        "ledger_hours" => Source {
            schema: ledger::schema(),
            time: "minute",
            hot: Cow::Owned([ledger(HotLedger::hours)?, old(snapshot, ledger::HOUR_NS)?].concat()),
            file: |part| {
                part.has_rollups()
                    .then(|| Found::of_day(part.hours(), part))
            },
        },
        "ledger_days" => Source {
            schema: ledger::schema(),
            time: "minute",
            hot: Cow::Owned([ledger(HotLedger::days)?, old(snapshot, DAY_NS)?].concat()),
            file: |part| part.has_rollups().then(|| Found::of_day(part.days(), part)),
        },
        "ledger_costs" => Source {
            schema: costs::schema(),
            time: "minute",
            hot: Cow::Owned(ledger(HotLedger::costs)?),
            file: minutes,
        },
        _ => Source {
            schema: ledger::schema(),
            time: "minute",
            hot: Cow::Owned(ledger(|ledger| Ok(ledger.rows().clone()))?),
            file: minutes,
        },
    })
}

/// Sums over spans that have none on disk: those in memory, and partitions of older versions.
fn span_sums(snapshot: &Snapshot) -> Result<Vec<RecordBatch>> {
    let hot = snapshot.spans.iter().map(sums::of);
    let mut all = hot.collect::<Result<Vec<_>, _>>()?;
    let old = snapshot.partitions.iter();
    for partition in old.filter(|part| part.meta.rows > 0 && !part.meta.sums) {
        // What is elsewhere by now is of no day that anybody looks at.
        if partition.meta.place.is_none() {
            all.push(sums::read_spans(&partition.spans())?);
        }
    }
    Ok(all)
}

fn spans_of(part: &Partition) -> Option<Found> {
    let at = match part.meta.remote() {
        Some(object) => At::Place(object, part.meta.spans_bytes, part.traces()),
        None => At::Folder(part.spans()),
    };
    (part.meta.rows > 0).then(|| Found {
        at,
        range: (part.meta.min_ns, part.meta.max_ns),
        ids: part.meta.ids.then(|| part.ids()),
        rows: usize::try_from(part.meta.rows).ok(),
    })
}

fn parts_of(part: &Partition) -> Option<Found> {
    // What a partition says of a trace, its own spans said.
    let ids = (part.meta.ids && part.meta.rows > 0).then(|| part.ids());
    let mut found = Found {
        ids,
        ..Found::of_day(part.traces(), part)
    };
    if part.meta.rows > 0 {
        // A trace is first seen when one of its spans begins.
        found.range = (part.meta.min_ns, part.meta.max_ns);
    }
    (part.meta.traces > 0).then_some(found)
}

/// Services and days with exact counts.
fn covered(snapshot: &Snapshot, cache: &Cache) -> Result<Arc<dyn TableProvider>> {
    let mut covered = cache.covered(snapshot)?;
    for ledger in &snapshot.ledger {
        costs::covered(ledger.rows(), &mut covered)?;
    }
    let rows = costs::covered_rows(covered.iter())?;
    let table = MemTable::try_new(costs::covered_schema(), vec![vec![rows]])?;
    Ok(Arc::new(table))
}

/// Rollups of partitions of older versions, which have none.
fn old(snapshot: &Snapshot, unit_ns: i64) -> Result<Vec<RecordBatch>> {
    let mut rolled = Vec::new();
    let old = snapshot.partitions.iter();
    for partition in old.filter(|part| part.meta.ledger > 0 && !part.has_rollups()) {
        let file = std::fs::File::open(partition.ledger())?;
        for rows in ParquetRecordBatchReaderBuilder::try_new(file)?.build()? {
            rolled.push(ledger::rollup(&rows?, unit_ns)?);
        }
    }
    Ok(rolled)
}

/// Where a file is.
enum At {
    /// In the data folder.
    Folder(PathBuf),
    /// In a place; its size and the partition's list of traces.
    Place(Remote, u64, PathBuf),
}

/// The store of an object, known to the session from now on.
fn store_of(
    context: &SessionContext,
    snapshot: &Snapshot,
    object: &Remote,
) -> Result<ObjectStoreUrl> {
    let external = |error| DataFusionError::External(Box::new(error));
    let store = snapshot.places.open(&object.place).map_err(external)?;
    // The engine knows stores by host alone, and two places may have the same.
    let name = FixedState::default().hash_one(&object.place);
    let url = ObjectStoreUrl::parse(format!("place://{name:016x}"))?;
    context
        .runtime_env()
        .register_object_store(url.as_ref(), store);
    Ok(url)
}

fn day(partition: &Partition) -> (i64, i64) {
    let start = partition.meta.day.saturating_mul(DAY_NS);
    (start, start.saturating_add(DAY_NS - 1))
}

fn file(context: &SessionContext, snapshot: &Snapshot, found: Found) -> Result<File> {
    let Found {
        at,
        range,
        ids,
        rows,
    } = found;
    let path = match at {
        At::Folder(path) => path,
        At::Place(object, bytes, traces) => {
            return Ok(File {
                store: store_of(context, snapshot, &object)?,
                path: Path::from(object.path),
                local: None,
                bytes,
                range,
                traces: Some(traces),
                ids,
                rows,
            });
        }
    };
    let failed = |error: &dyn std::fmt::Display| {
        DataFusionError::Execution(format!("partition file `{}`: {error}", path.display()))
    };
    let bytes = std::fs::metadata(&path)
        .map_err(|error| failed(&error))?
        .len();
    let absolute = std::path::absolute(&path).map_err(|error| failed(&error))?;
    Ok(File {
        store: ObjectStoreUrl::local_filesystem(),
        bytes,
        path: Path::from_absolute_path(absolute).map_err(|error| failed(&error))?,
        local: Some(path),
        range,
        traces: None,
        ids,
        rows,
    })
}

/// Deals batches out to as many lists as there are workers.
fn split(batches: &[RecordBatch], lists: usize) -> Vec<Vec<RecordBatch>> {
    let lists = lists.max(1);
    (0..lists)
        .map(|index| batches.iter().skip(index).step_by(lists).cloned().collect())
        .collect()
}
