//! What is kept between queries never shows: answers of one engine that has seen every earlier
//! state equal those of a fresh one, whatever happens to rows and partitions.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::counts_tests::{delta, noon};
use super::tests::{engine, rows};
use super::{Limits, QueryEngine};
use crate::otlp::metrics::LedgerBatch;
use crate::store::catalog::{Catalog, PARTS};
use crate::store::{Kinds, Settings, Store, compact};
use crate::testing::{decode, double, request, span};
use crate::wal::fs::RealFs;

const QUERIES: [&str; 4] = [
    "SELECT service_name, basis, SUM(requests), CAST(SUM(cost_usd) AS VARCHAR) \
     FROM cost_by_service GROUP BY service_name, basis ORDER BY service_name, basis",
    "SELECT data_tag, basis, SUM(requests), CAST(SUM(cost_usd) AS VARCHAR) \
     FROM cost_by_data_tag GROUP BY data_tag, basis ORDER BY data_tag, basis",
    "SELECT service_name, SUM(spans), SUM(weight), ROUND(SUM(cost_usd) * 1000) \
     FROM span_sums GROUP BY service_name ORDER BY service_name",
    "SELECT SUM(requests) FROM cost_by_service_day",
];

/// Sums are made of the same rows in two ways.
const PAIRS: [[&str; 2]; 2] = [
    [
        QUERIES[0],
        "SELECT service_name, basis, SUM(requests), CAST(SUM(cost_usd) AS VARCHAR) \
         FROM cost_by_route_day GROUP BY service_name, basis ORDER BY service_name, basis",
    ],
    [
        QUERIES[2],
        "SELECT service_name, COUNT(*), SUM(COALESCE(adjusted_count, 1)), \
         ROUND(SUM(CAST(cost_usd AS DOUBLE) * COALESCE(adjusted_count, 1)) * 1000) \
         FROM spans GROUP BY service_name ORDER BY service_name",
    ],
];

struct World {
    store: Store,
    catalog: Catalog<RealFs>,
    kept: QueryEngine,
    tiny: QueryEngine,
    segment: u64,
    number: u64,
}

impl World {
    fn new(dir: &Path) -> Self {
        std::fs::create_dir_all(dir.join(PARTS)).unwrap();
        let tiny = Limits {
            cache: 3_000,
            ..Limits::default()
        };
        Self {
            store: Store::new(Settings::default(), 0, Vec::new()),
            catalog: Catalog::load(Arc::new(RealFs), dir).unwrap(),
            kept: engine(Limits::default()),
            tiny: engine(tiny),
            segment: 0,
            number: 0,
        }
    }

    /// A delta, and spans of a service with and of one without a filter.
    fn add(&mut self) {
        self.number += 1;
        let number = self.number;
        let at = noon() + number as i64 * 60_000_000_000;
        let batch = LedgerBatch {
            deltas: vec![delta(number, at, "inbound")],
            ..LedgerBatch::default()
        };
        self.store.insert_ledger(&batch, Instant::now());
        for (service, state) in [("metered", ""), ("plain", "ot=th:8")] {
            let id = number << 8 | service.len() as u64;
            let mut one = span(number.into(), id, 0, 0, vec![double("cost_usd", 0.001)]);
            one.start_time_unix_nano = at as u64;
            one.end_time_unix_nano = at as u64 + 4_000_000;
            one.trace_state = state.to_owned();
            let batch = decode(&request(service, vec![one]));
            self.store.insert(&batch, Instant::now()).unwrap();
        }
    }

    fn compact(&mut self, root: &Path) {
        let sealed = self.store.seal(self.segment + 1).unwrap();
        let metas = compact::write(&sealed, root).unwrap();
        self.catalog.commit_segment(self.segment, metas).unwrap();
        let partitions = self.catalog.partitions().to_vec();
        self.store.compacted(self.segment, partitions);
        self.segment += 1;
    }

    fn drop_oldest(&mut self) {
        let oldest = self.catalog.partitions()[..1].to_vec();
        self.catalog
            .replace_partitions(&oldest, Vec::new())
            .unwrap();
        self.store
            .set_partitions(self.catalog.partitions().to_vec());
    }

    async fn check(&self) {
        let snapshot = self.store.snapshot().unwrap();
        for query in QUERIES {
            let fresh = rows(&engine(Limits::default()), &snapshot, query).await;
            for known in [&self.kept, &self.tiny] {
                assert_eq!(rows(known, &snapshot, query).await, fresh, "{query}");
            }
        }
        for [one, other] in PAIRS {
            let one = rows(&self.kept, &snapshot, one).await;
            assert_eq!(one, rows(&self.kept, &snapshot, other).await);
        }
        assert!(self.tiny.cache.used() <= 3_000);
    }
}

#[tokio::test]
async fn what_is_kept_never_shows_and_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join(PARTS);
    let mut world = World::new(dir.path());
    world.check().await;
    for step in 0..12 {
        world.add();
        // Right after it was added, and again from what was kept.
        world.check().await;
        world.add();
        match step % 4 {
            1 | 2 => world.compact(&root),
            3 => world.drop_oldest(),
            _ => {}
        }
        world.check().await;
    }
    assert!(world.kept.cache.used() > 3_000);
}

#[tokio::test]
async fn a_trace_is_found_with_and_without_its_list() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join(PARTS);
    let mut world = World::new(dir.path());
    for _ in 0..6 {
        world.add();
        world.add();
        world.compact(&root);
    }
    world.add();
    let count = |id: u64| {
        format!(
            "SELECT (SELECT COUNT(*) FROM spans WHERE trace_id = '{id:032x}'), \
             (SELECT MIN(span_count) FROM trace_metadata WHERE trace_id = '{id:032x}')"
        )
    };
    let some = "SELECT COUNT(*) FROM spans WHERE trace_id IN \
                ('00000000000000000000000000000002', '0000000000000000000000000000000d', 'x')";
    for damage in [false, true] {
        let snapshot = world.store.snapshot().unwrap();
        for id in 1..=13 {
            let found = rows(&world.kept, &snapshot, &count(id)).await;
            assert_eq!(found, [["2", "2"]], "{id} {damage}");
        }
        let stranger = rows(&world.kept, &snapshot, &count(99)).await;
        assert_eq!(stranger, [["0", ""]]);
        assert_eq!(rows(&world.kept, &snapshot, some).await, [["4"]]);
        for (index, partition) in snapshot.partitions.iter().enumerate() {
            match index % 3 {
                0 => drop(std::fs::remove_file(partition.ids())),
                1 => std::fs::write(partition.ids(), "damaged").unwrap(),
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn a_query_is_given_the_kinds_of_rows_that_it_reads() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path());
    let kinds = |spans, parts, ledger| Kinds {
        spans,
        parts,
        ledger,
    };
    for (query, expected) in [
        ("SELECT COUNT(*) FROM spans", kinds(true, false, false)),
        ("SELECT 1", kinds(false, false, false)),
        ("SELECT * FROM trace_links", kinds(false, true, false)),
        ("SELECT * FROM cost_by_service", kinds(false, false, true)),
        (
            "SELECT * FROM SPAN_SUMS, \"ledger\"",
            kinds(true, false, true),
        ),
        (
            "WITH a AS (SELECT * FROM red_by_service_hour) SELECT * FROM a, trace_metadata",
            kinds(false, true, true),
        ),
        ("SELECT * FROM information_schema.tables", Kinds::ALL),
    ] {
        let mut given = None;
        let view = |kinds| {
            given = Some(kinds);
            Ok(world.store.snapshot_of(kinds).unwrap())
        };
        world.kept.ask(query, view).await.unwrap();
        assert_eq!(given, Some(expected), "{query}");
    }
}
