//! Partitions written by earlier versions: their trace parts lack the columns that came later.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod common;

use std::fs::File;
use std::path::Path;

use common::{Collector, encoded, span, wait_for};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Columns of the first version of trace parts.
const FIRST: usize = 9;

/// Rewrites the trace parts below a folder as the first version wrote them; returns how many.
fn age(folder: &Path) -> usize {
    let mut aged = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            aged += age(&path);
        } else if path.to_string_lossy().ends_with(".traces.parquet") {
            let file = File::open(&path).unwrap();
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
            let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
            let columns: Vec<usize> = (0..FIRST).collect();
            let schema = batches[0].schema().project(&columns).unwrap();
            let file = File::create(&path).unwrap();
            let mut writer = ArrowWriter::try_new(file, schema.into(), None).unwrap();
            for batch in batches {
                writer.write(&batch.project(&columns).unwrap()).unwrap();
            }
            writer.close().unwrap();
            aged += 1;
        }
    }
    aged
}

#[test]
fn old_trace_parts_are_read_merged_and_swept() {
    let dir = tempfile::tempdir().unwrap();
    let small = ["--generation-age", "0"];
    let collector = Collector::start(dir.path(), &small);
    let send = |collector: &Collector, id: u64| {
        let body = encoded("a", vec![span(1, id)]);
        assert_eq!(collector.send(&body).unwrap().status, 200);
    };
    send(&collector, 1);
    let compacted = |collector: &Collector| {
        (collector.metric("tracemeter_collector_hot_spans") == 0).then_some(())
    };
    wait_for("compaction", || compacted(&collector));
    collector.kill();
    assert_eq!(age(&dir.path().join("data/parts")), 1);

    let collector = Collector::start(dir.path(), &small);
    let row = || {
        collector.sql(
            "SELECT recorded_cost, span_count, depth, orphan_count, app_cost FROM trace_metadata",
        )[0]
        .clone()
    };
    let old = row();
    assert_eq!(old["recorded_cost"].to_string(), "1e-9", "{old}");
    assert_eq!(old["span_count"], 1);
    for later in ["depth", "orphan_count", "app_cost"] {
        assert!(old[later].is_null(), "{old}");
    }
    assert_eq!(collector.sql("SELECT * FROM trace_links").len(), 0);
    // Merged with new ones.
    let mut sent = 1u64;
    wait_for("a merge", || {
        sent += 1;
        send(&collector, sent);
        (collector.metric("tracemeter_collector_merge_seconds_count") > 0).then_some(())
    });
    let new = row();
    assert_eq!(
        (&new["span_count"], &new["depth"]),
        (&sent.into(), &1.into())
    );
    assert_eq!(new["orphan_count"], 0);
    // Swept: the hot tier has ended, nothing is kept of the warm one.
    wait_for("compaction", || compacted(&collector));
    collector.kill();
    let policy = dir.path().join("policy.yaml");
    let text = "trace_storage:\n  hot: {duration: 1s}\n  warm: {duration: 2s, sampling: 0.0}\n  \
                cold: {duration: 3s, sampling: 0.0, compression: zstd}\n  errors: 4s\n";
    std::fs::write(&policy, text).unwrap();
    let start = std::time::Instant::now();
    wait_for("the tiers to end", || {
        (start.elapsed().as_secs() > 4).then_some(())
    });
    age(&dir.path().join("data/parts"));
    let policy = ["--policy", policy.to_str().unwrap()];
    let collector = Collector::start(dir.path(), &policy);
    wait_for("retention", || {
        let left = collector.sql("SELECT COUNT(*) AS n FROM spans");
        (left[0]["n"] == 0).then_some(())
    });
}
