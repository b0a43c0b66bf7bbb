//! The store: duplicates, compaction, interrupted compactions, merged parts.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::catalog::{Catalog, PARTS};
use super::{Settings, Store, compact};
use crate::testing::{decode, double, request, span};
use crate::wal::fs::RealFs;

const HOUR_NS: u64 = 3_600_000_000_000;

fn store() -> Store {
    Store::new(Settings::default(), 0, Vec::new())
}

fn insert(
    store: &Store,
    service: &str,
    spans: Vec<opentelemetry_proto::tonic::trace::v1::Span>,
) -> (u64, u64) {
    let inserted = store
        .insert(&decode(&request(service, spans)), Instant::now())
        .unwrap();
    (inserted.new, inserted.duplicates)
}

fn rows(batches: &[datafusion::arrow::array::RecordBatch]) -> usize {
    batches.iter().map(|batch| batch.num_rows()).sum()
}

#[test]
fn a_retried_batch_is_counted_once_also_across_generations() {
    let store = store();
    let spans = || {
        (1..=5)
            .map(|id| span(7, id, 0, 1_000, vec![double("cost_usd", 0.5)]))
            .collect()
    };
    assert_eq!(insert(&store, "a", spans()), (5, 0));
    assert_eq!(insert(&store, "a", spans()), (0, 5));
    let sealed = store.seal(1).unwrap();
    assert_eq!(sealed.rows, 5);
    assert_eq!(insert(&store, "a", spans()), (0, 5));
    // The same span id in another trace is another span.
    assert_eq!(
        insert(&store, "a", vec![span(8, 1, 0, 1_000, vec![])]),
        (1, 0)
    );
}

#[test]
fn compaction_splits_by_day_and_keeps_every_row() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join(PARTS);
    std::fs::create_dir_all(&root).unwrap();
    let store = store();
    let ages = [0, 1, 30, 30, 60, 24 * 10];
    for (index, hours) in ages.iter().enumerate() {
        let id = index as u64 + 1;
        insert(
            &store,
            "a",
            vec![span(
                9,
                id,
                0,
                hours * HOUR_NS + id,
                vec![double("cost_usd", 0.25)],
            )],
        );
    }
    let sealed = store.seal(1).unwrap();
    let metas = compact::write(&sealed, &root).unwrap();
    assert!(metas.len() >= 4, "{metas:?}");
    assert_eq!(
        metas.iter().map(|meta| meta.rows).sum::<u64>(),
        ages.len() as u64
    );
    for meta in &metas {
        assert_eq!(meta.traces, 1, "one part per trace and day");
        assert_eq!(super::parts::day_of(meta.min_ns), meta.day);
        assert_eq!(super::parts::day_of(meta.max_ns), meta.day);
    }
}

fn files(root: &Path) -> usize {
    let mut count = 0;
    for day in std::fs::read_dir(root).unwrap() {
        count += std::fs::read_dir(day.unwrap().path()).unwrap().count();
    }
    count
}

#[test]
fn files_of_an_interrupted_compaction_are_removed_and_those_of_a_finished_one_kept() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join(PARTS);
    std::fs::create_dir_all(&root).unwrap();
    let store = store();
    insert(&store, "a", vec![span(1, 1, 0, 0, vec![])]);
    let finished = store.seal(1).unwrap();
    insert(&store, "a", vec![span(1, 2, 0, 0, vec![])]);
    let interrupted = store.seal(2).unwrap();

    let mut catalog = Catalog::load(Arc::new(RealFs), dir.path()).unwrap();
    catalog
        .commit_segment(0, compact::write(&finished, &root).unwrap())
        .unwrap();
    // A crash before the catalog names these files.
    compact::write(&interrupted, &root).unwrap();
    drop(catalog);
    // Spans, their sums and where their traces are, traces, counts, and these by hour and day.
    assert_eq!(files(&root), 14);

    let catalog = Catalog::load(Arc::new(RealFs), dir.path()).unwrap();
    assert_eq!(catalog.next_segment(), 1);
    assert_eq!(catalog.remove_orphans().unwrap(), 7);
    assert_eq!(files(&root), 7);
    // Doing it again changes nothing.
    assert_eq!(catalog.remove_orphans().unwrap(), 0);
    compact::write(&interrupted, &root).unwrap();
}

#[test]
fn replaced_partitions_stay_on_disk_until_their_last_reader_has_gone() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join(PARTS);
    std::fs::create_dir_all(&root).unwrap();
    let store = store();
    insert(&store, "a", vec![span(1, 1, 0, 0, vec![])]);
    let sealed = store.seal(1).unwrap();
    let mut catalog = Catalog::load(Arc::new(RealFs), dir.path()).unwrap();
    catalog
        .commit_segment(0, compact::write(&sealed, &root).unwrap())
        .unwrap();
    store.compacted(0, catalog.partitions().to_vec());
    let reader = store.snapshot().unwrap();
    let path = reader.partitions[0].spans();

    let old = catalog.partitions().to_vec();
    catalog.replace_partitions(&old, Vec::new()).unwrap();
    store.set_partitions(Vec::new());
    drop(old);
    assert!(path.exists());
    drop(reader);
    assert!(!path.exists());
}

#[test]
fn a_snapshot_sees_hot_and_sealed_rows_exactly_once() {
    let store = store();
    for id in 1..=10_000 {
        insert(
            &store,
            "a",
            vec![span(u128::from(id / 10 + 1), id, 0, 0, vec![])],
        );
        if id == 4_000 {
            store.seal(1).unwrap();
        }
    }
    let snapshot = store.snapshot().unwrap();
    assert_eq!(rows(&snapshot.spans), 10_000);
    assert_eq!(store.sizes().0, 10_000);
}
