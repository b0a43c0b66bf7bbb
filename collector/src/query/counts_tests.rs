//! Views over counts: exact rows, estimates, rollups.

use std::sync::Arc;
use std::time::Instant;

use super::tests::csv;
use crate::otlp::metrics::{Delta, Key, LedgerBatch, Sums};
use crate::store::catalog::{Catalog, PARTS};
use crate::store::{Settings, Snapshot, Store, compact};
use crate::testing::{decode, double, request, span};
use crate::wal::fs::RealFs;

const MINUTE_NS: i64 = 60_000_000_000;
const DAY_NS: i64 = 1_440 * MINUTE_NS;

pub(super) fn delta(sequence: u64, until_ns: i64, direction: &str) -> Delta {
    let key = Key {
        direction: direction.to_owned(),
        status_class: "2xx".to_owned(),
        route: "/pay".to_owned(),
        ..Key::default()
    };
    let sums = Sums {
        requests: 100,
        errors: 1,
        cost_nanos: 5_000,
        duration_ns: 100.0 * 3e6,
        scale: 2,
        // 2^21.5 ns to 2^21.75 ns: about 3.2 ms.
        bucket_offset: 86,
        buckets: vec![100],
        ..Sums::default()
    };
    Delta {
        service: "metered".to_owned(),
        instance: format!("i{}", sequence % 3),
        sequence,
        until_ns,
        rows: [(key, sums)].into(),
        ..Delta::default()
    }
}

/// Noon of yesterday, so that hours and days are whole.
pub(super) fn noon() -> i64 {
    crate::testing::now_ns() as i64 / DAY_NS * DAY_NS - DAY_NS / 2
}

/// 60 deltas over three hours of a metered service, spans of its application, and spans at half
/// the rate of a service without a filter; some in a partition, the rest in memory.
fn world(dir: &std::path::Path) -> Snapshot {
    let root = dir.join(PARTS);
    std::fs::create_dir_all(&root).unwrap();
    let mut catalog = Catalog::load(Arc::new(RealFs), dir).unwrap();
    let store = Store::new(Settings::default(), 0, Vec::new());
    for number in 0..60i64 {
        let at = noon() + number * 3 * MINUTE_NS;
        let direction = if number % 2 == 0 {
            "inbound"
        } else {
            "outbound"
        };
        let deltas = vec![delta(number as u64 + 1, at, direction)];
        let batch = LedgerBatch {
            deltas,
            ..LedgerBatch::default()
        };
        store.insert_ledger(&batch, Instant::now());
        for (service, state) in [("metered", "ot=th:8"), ("plain", "ot=th:8")] {
            let id = number as u64 + 1;
            let mut one = span(id.into(), id, 0, 0, vec![double("cost_usd", 0.001)]);
            one.span_id = (id << 8 | service.len() as u64).to_be_bytes().to_vec();
            one.start_time_unix_nano = at as u64;
            one.end_time_unix_nano = at as u64 + 4_000_000;
            one.trace_state = state.to_owned();
            store
                .insert(&decode(&request(service, vec![one])), Instant::now())
                .unwrap();
        }
        if number == 40 {
            let sealed = store.seal(1).unwrap();
            catalog
                .commit_segment(0, compact::write(&sealed, &root).unwrap())
                .unwrap();
            store.compacted(0, catalog.partitions().to_vec());
        }
    }
    store.snapshot().unwrap()
}

#[tokio::test]
async fn a_service_is_counted_or_estimated_never_both_in_every_unit_of_time() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = world(dir.path());
    for suffix in ["", "_hour", "_day"] {
        let query = format!(
            "SELECT service_name, basis, SUM(requests), CAST(SUM(cost_usd) AS VARCHAR) \
             FROM cost_by_service{suffix} GROUP BY service_name, basis ORDER BY service_name"
        );
        assert_eq!(
            csv(&snapshot, &query).await,
            [
                // 30 inbound deltas of 100 requests; 60 of 5,000 nano-USD.
                ["metered", "ledger", "3000", "0.000300000"],
                // 60 spans that stand for two each.
                ["plain", "estimate", "120", "0.120000000"],
            ],
            "{suffix}"
        );
        let query = format!(
            "SELECT service_name, SUM(requests), MIN(duration_ms_p50) > 2.9, \
             MAX(duration_ms_p99) < 4.3 FROM red_by_service{suffix} \
             GROUP BY service_name ORDER BY service_name"
        );
        assert_eq!(
            csv(&snapshot, &query).await,
            [
                ["metered", "3000", "true", "true"],
                ["plain", "120", "true", "true"],
            ],
            "{suffix}"
        );
    }
    let units = [
        ("minute", "", "60"),
        ("hour", "_hour", "3"),
        ("day", "_day", "1"),
    ];
    for (unit, suffix, rows) in units {
        let query = format!(
            "SELECT COUNT(DISTINCT {unit}) FROM cost_by_route{suffix} WHERE basis = 'ledger'"
        );
        assert_eq!(csv(&snapshot, &query).await, [[rows]], "{unit}");
    }
    let edges = "SELECT source, SUM(requests) FROM service_edges GROUP BY source";
    assert_eq!(csv(&snapshot, edges).await, [["metered", "3000"]]);
    let exact = "SELECT SUM(requests) FROM ledger WHERE basis = 'ledger'";
    assert_eq!(csv(&snapshot, exact).await, [["6000"]]);
}

/// A gateway serves requests as a sidecar does; only calls are counted at their callee.
#[tokio::test]
async fn requests_at_a_gateway_are_requests() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join(PARTS);
    std::fs::create_dir_all(&root).unwrap();
    let store = Store::new(Settings::default(), 0, Vec::new());
    for (number, direction) in [(1, "gateway"), (2, "inbound"), (3, "outbound")] {
        let deltas = vec![delta(number, noon(), direction)];
        let batch = LedgerBatch {
            deltas,
            ..LedgerBatch::default()
        };
        store.insert_ledger(&batch, Instant::now());
    }
    let snapshot = store.snapshot().unwrap();
    for (view, column) in [
        ("cost_by_service", "requests"),
        ("cost_by_data_tag", "requests"),
        ("cost_by_route", "requests"),
        ("red_by_service", "requests"),
    ] {
        let query = format!("SELECT SUM({column}) AS n FROM {view}");
        assert_eq!(csv(&snapshot, &query).await, [["200"]], "{view}");
    }
}
