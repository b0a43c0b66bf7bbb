//! Files of both layouts answer alike, beside each other, merged, and beside rows in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::tests::csv;
use crate::store::catalog::{Catalog, Meta, PARTS, spans_file};
use crate::store::compact::{self, Pages, Rest, write_partition};
use crate::store::layout::tests::write_layout_1;
use crate::store::stream::Merged;
use crate::store::{Settings, Snapshot, Store};
use crate::testing::{decode, now_ns, request, span};
use crate::wal::fs::RealFs;

const QUERIES: [&str; 5] = [
    "SELECT span_id, trace_id, timestamp, duration_ms FROM spans ORDER BY span_id",
    "SELECT service_name, COUNT(*), SUM(CAST(ROUND(duration_ms * 1000000) AS BIGINT)), MAX(duration_ms) FROM spans \
     GROUP BY service_name ORDER BY service_name",
    "SELECT span_id, operation FROM spans WHERE duration_ms > 0.9 AND duration_ms * 2 < 1.99 \
     ORDER BY span_id",
    "SELECT duration_ms / 2, span_id FROM spans \
     WHERE trace_id = '00000000000000000000000000000007' ORDER BY timestamp, span_id",
    "SELECT trace_id, MAX(timestamp) - MIN(timestamp), MIN(duration_ms) FROM spans \
     GROUP BY trace_id ORDER BY trace_id",
];

/// Three partitions of one day and some rows in memory.
fn world(dir: &Path) -> (Catalog<RealFs>, Store) {
    let root = dir.join(PARTS);
    std::fs::create_dir_all(&root).unwrap();
    let mut catalog = Catalog::load(Arc::new(RealFs), dir).unwrap();
    let store = Store::new(Settings::default(), 0, Vec::new());
    let mut random = fastrand::Rng::with_seed(4);
    // At noon, a day ago: no midnight comes between them.
    let noon = now_ns() / 86_400_000_000_000 * 86_400_000_000_000 - 43_200_000_000_000;
    for id in 1..=2_000u64 {
        let mut one = span(u128::from(random.u64(1..=150)), id, 0, 0, Vec::new());
        one.start_time_unix_nano = noon + random.u64(0..60_000_000_000);
        one.end_time_unix_nano = one.start_time_unix_nano + random.u64(0..1_000_000);
        let service = ["a", "b", "c"][random.usize(0..3)];
        let batch = decode(&request(service, vec![one]));
        store.insert(&batch, Instant::now()).unwrap();
        if id % 600 == 0 {
            let segment = id / 600 - 1;
            let sealed = store.seal(segment + 1).unwrap();
            let metas = compact::write(&sealed, &root).unwrap();
            catalog.commit_segment(segment, metas).unwrap();
            store.compacted(segment, catalog.partitions().to_vec());
        }
    }
    assert_eq!(catalog.partitions().len(), 3);
    (catalog, store)
}

async fn answers(snapshot: &Snapshot) -> Vec<Vec<Vec<String>>> {
    let mut answers = Vec::new();
    for query in QUERIES {
        answers.push(csv(snapshot, query).await);
    }
    answers
}

#[tokio::test]
async fn files_of_both_layouts_answer_alike() {
    let dir = tempfile::tempdir().unwrap();
    let (mut catalog, store) = world(dir.path());
    let expected = answers(&store.snapshot().unwrap()).await;
    assert_eq!(expected[0].len(), 2_000);
    assert!(expected[2].len() > 100 && expected[3].len() > 5);

    let old = catalog.partitions()[1].clone();
    write_layout_1(&old.spans(), &old.ids());
    assert!(answers(&store.snapshot().unwrap()).await == expected);

    // Merged, all of it is of today's layout.
    let partitions = catalog.partitions().to_vec();
    let mut spans = Merged::open(partitions.iter().map(|part| part.spans())).unwrap();
    let (root, day) = (dir.path().join(PARTS), partitions[0].meta.day);
    let stem = format!("{}/merged", compact::day_name(day));
    let rest = Rest::of(&[], &[]).unwrap();
    let meta = write_partition(&root, (stem, day), &mut spans, &rest, Pages::FAST).unwrap();
    let times = |of: fn(&Meta) -> i64| partitions.iter().map(move |part| of(&part.meta));
    assert_eq!(Some(meta.min_ns), times(|meta| meta.min_ns).min());
    assert_eq!(Some(meta.max_ns), times(|meta| meta.max_ns).max());
    let bytes = std::fs::read(root.join(spans_file(&meta.stem))).unwrap();
    let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(has(b"duration_ns") && has(b"tracemeter.layout"));
    catalog.replace_partitions(&partitions, vec![meta]).unwrap();
    store.set_partitions(catalog.partitions().to_vec());
    assert!(answers(&store.snapshot().unwrap()).await == expected);
}
