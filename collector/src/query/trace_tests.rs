//! A trace by its id, without a plan, is what SQL says.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::session::Answer;
use super::tests::engine;
use super::{Format, Limits, QueryEngine, render};
use crate::store::catalog::{Catalog, PARTS};
use crate::store::layout::tests::write_layout_1;
use crate::store::{Settings, Store, compact};
use crate::testing::{decode, request, span, text};
use crate::wal::fs::RealFs;

/// 400 traces: in partitions, one of layout 1, in a sealed generation and in the open one.
fn world(dir: &Path) -> (Catalog<RealFs>, Store) {
    let root = dir.join(PARTS);
    std::fs::create_dir_all(&root).unwrap();
    let mut catalog = Catalog::load(Arc::new(RealFs), dir).unwrap();
    let store = Store::new(Settings::default(), 0, Vec::new());
    let mut random = fastrand::Rng::with_seed(8);
    for request_number in 0..60u64 {
        let spans = (0..200).map(|index| {
            let own = text("own", &format!("a text of some length {index}"));
            let age_ns = random.u64(0..60_000_000_000);
            let trace = u128::from(random.u64(1..=400)) << 64 | 5;
            span(
                trace,
                request_number * 200 + index + 1,
                1,
                age_ns,
                vec![own],
            )
        });
        let batch = decode(&request("a", spans.collect()));
        store.insert(&batch, Instant::now()).unwrap();
        if request_number % 10 == 9 && request_number < 50 {
            let segment = request_number / 10;
            let sealed = store.seal(segment + 1).unwrap();
            if segment < 4 {
                let metas = compact::write(&sealed, &root).unwrap();
                catalog.commit_segment(segment, metas).unwrap();
                store.compacted(segment, catalog.partitions().to_vec());
            }
        }
    }
    let old = catalog.partitions()[1].clone();
    write_layout_1(&old.spans(), &old.ids());
    (catalog, store)
}

async fn by_sql(queries: &QueryEngine, store: &Store, id: &str) -> String {
    let query = format!("SELECT * FROM spans WHERE trace_id = '{id}' ORDER BY timestamp, span_id");
    let snapshot = store.snapshot().unwrap();
    csv(&queries.sql(&snapshot, &query).await.unwrap())
}

async fn by_id(queries: &QueryEngine, store: &Store, id: &str) -> Option<Answer> {
    let view = |id: &[u8; 16]| Ok(store.snapshot_of_trace(id).unwrap());
    queries.trace(id, view).await.unwrap()
}

fn csv(answer: &Answer) -> String {
    assert!(!answer.truncated);
    String::from_utf8(render(answer, Format::Csv).unwrap()).unwrap()
}

#[tokio::test]
async fn a_trace_by_id_is_what_sql_says() {
    let dir = tempfile::tempdir().unwrap();
    let (catalog, store) = world(dir.path());
    assert!(catalog.partitions().len() >= 4);
    let queries = engine(Limits::default());
    assert_eq!(queries.footers().0, 0);
    let mut rows = 0;
    for trace in (1..=400).step_by(7) {
        let id = format!("{:032x}", u128::from(trace as u64) << 64 | 5);
        let answer = by_id(&queries, &store, &id).await.unwrap();
        rows += answer.batches[0].num_rows();
        assert_eq!(csv(&answer), by_sql(&queries, &store, &id).await);
    }
    assert!(rows > 1_000);
    let (kept, most) = queries.footers();
    assert!(1_000 < kept && kept < most, "{kept} of {most}");

    let stranger = by_id(&queries, &store, &format!("{:032x}", 1u128 << 90)).await;
    let stranger = stranger.unwrap();
    assert_eq!(stranger.batches[0].num_rows(), 0);
    assert_eq!(stranger.schema.fields().len(), 27);
}

#[tokio::test]
async fn what_is_too_much_or_damaged_is_left_to_sql() {
    let dir = tempfile::tempdir().unwrap();
    let (catalog, store) = world(dir.path());
    let id = format!("{:032x}", 7u128 << 64 | 5);
    let few = engine(Limits {
        bytes: 1_000,
        ..Limits::default()
    });
    assert!(by_id(&few, &store, &id).await.is_none());
    let queries = engine(Limits::default());
    assert!(by_id(&queries, &store, &id).await.is_some());
    std::fs::write(catalog.partitions()[2].ids(), "damaged").unwrap();
    assert!(by_id(&queries, &store, &id).await.is_none());
}
