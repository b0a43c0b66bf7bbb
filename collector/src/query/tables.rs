//! The tables of a query session: only those that the query names, since each view has to be
//! planned.

use std::collections::BTreeSet;
use std::hash::BuildHasher as _;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::TableReference;
use datafusion::datasource::TableProvider;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::prelude::SessionContext;
use foldhash::fast::FixedState;
use object_store::path::Path;

use super::stored::{File, Stored};
use super::{histogram, views};
use crate::store::catalog::{Partition, Remote};
use crate::store::parts::DAY_NS;
use crate::store::{Snapshot, columns, ledger, parts};

/// The stored tables.
const TABLES: [&str; 5] = [
    "spans",
    "trace_parts",
    "ledger_rows",
    "ledger_hours",
    "ledger_days",
];

/// Registers the tables that a query refers to, and those that these are made of.
pub(super) async fn register(
    context: &SessionContext,
    snapshot: &Snapshot,
    named: &[TableReference],
) -> Result<()> {
    histogram::register(context);
    // The catalog of names shows all of them.
    let all = named
        .iter()
        .any(|name| name.schema() == Some("information_schema"));
    let every = TABLES.into_iter().map(str::to_owned).chain(views::names());
    let mut done: BTreeSet<String> = BTreeSet::new();
    for name in every.filter(|name| all || named.iter().any(|asked| asked.table() == name)) {
        add(context, snapshot, &name, &mut done).await?;
    }
    Ok(())
}

async fn add(
    context: &SessionContext,
    snapshot: &Snapshot,
    name: &str,
    done: &mut BTreeSet<String>,
) -> Result<()> {
    if !done.insert(name.to_owned()) {
        return Ok(());
    }
    let Some(view) = views::view(name) else {
        context.register_table(name, stored(context, snapshot, name)?)?;
        return Ok(());
    };
    for table in view.needs {
        Box::pin(add(context, snapshot, table, done)).await?;
    }
    let frame = context.sql(&view.query).await?;
    context.register_table(name, frame.into_view())?;
    Ok(())
}

fn stored(
    context: &SessionContext,
    snapshot: &Snapshot,
    name: &str,
) -> Result<Arc<dyn TableProvider>> {
    let lists = context.state().config().target_partitions();
    let table = |schema: SchemaRef, time, hot: &[RecordBatch], of: FileOf| -> Result<_> {
        let files = snapshot
            .partitions
            .iter()
            .filter_map(|partition| of(partition))
            .map(|(at, range)| file(context, snapshot, at, range))
            .collect::<Result<Vec<_>>>()?;
        let stored = Stored::new(schema, time, split(hot, lists), files)?;
        Ok(Arc::new(stored) as Arc<dyn TableProvider>)
    };
    match name {
        "spans" => table(columns::schema(), "timestamp", &snapshot.spans, |part| {
            let at = match part.meta.remote() {
                Some(object) => At::Place(object, part.meta.spans_bytes, part.traces()),
                None => At::Folder(part.spans()),
            };
            (part.meta.rows > 0).then_some((at, (part.meta.min_ns, part.meta.max_ns)))
        }),
        "trace_parts" => table(parts::schema(), "first_seen", &snapshot.parts, |part| {
            (part.meta.traces > 0).then(|| (At::Folder(part.traces()), day(part)))
        }),
        "ledger_hours" => {
            let hot = rolled_up(snapshot, ledger::HOUR_NS)?;
            table(ledger::schema(), "minute", &hot, |part| {
                part.has_rollups()
                    .then(|| (At::Folder(part.hours()), day(part)))
            })
        }
        "ledger_days" => {
            let hot = rolled_up(snapshot, DAY_NS)?;
            table(ledger::schema(), "minute", &hot, |part| {
                part.has_rollups()
                    .then(|| (At::Folder(part.days()), day(part)))
            })
        }
        _ => table(ledger::schema(), "minute", &snapshot.ledger, |part| {
            (part.meta.ledger > 0).then(|| (At::Folder(part.ledger()), day(part)))
        }),
    }
}

/// Rollups of what has none on disk: rows in memory, and partitions of older versions.
fn rolled_up(snapshot: &Snapshot, unit_ns: i64) -> Result<Vec<RecordBatch>> {
    let mut rolled = Vec::new();
    for rows in &snapshot.ledger {
        rolled.push(ledger::rollup(rows, unit_ns)?);
    }
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

/// A file and the range of its time column, when the partition has one.
type FileOf = fn(&Partition) -> Option<(At, (i64, i64))>;

fn day(partition: &Partition) -> (i64, i64) {
    let start = partition.meta.day.saturating_mul(DAY_NS);
    (start, start.saturating_add(DAY_NS - 1))
}

fn file(context: &SessionContext, snapshot: &Snapshot, at: At, range: (i64, i64)) -> Result<File> {
    let path = match at {
        At::Folder(path) => path,
        At::Place(object, bytes, traces) => {
            return Ok(File {
                store: store_of(context, snapshot, &object)?,
                path: Path::from(object.path),
                bytes,
                range,
                traces: Some(traces),
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
        path: Path::from_absolute_path(absolute).map_err(|error| failed(&error))?,
        bytes,
        range,
        traces: None,
    })
}

/// Deals batches out to as many lists as there are workers.
fn split(batches: &[RecordBatch], lists: usize) -> Vec<Vec<RecordBatch>> {
    let lists = lists.max(1);
    (0..lists)
        .map(|index| batches.iter().skip(index).step_by(lists).cloned().collect())
        .collect()
}
