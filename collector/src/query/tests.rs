//! The specification's queries, verbatim, against brute force; and the limits.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Format, Limits, QueryEngine, QueryError, render};
use crate::store::catalog::{Catalog, PARTS};
use crate::store::{Settings, Snapshot, Store, compact};
use crate::testing::{decode, double, request, span, text};
use crate::wal::fs::RealFs;

const MINUTE_NS: u64 = 60_000_000_000;
const TOP_TRACES: &str = include_str!("../../tests/sql/top_traces.sql");
const COST_BY_SERVICE: &str = include_str!("../../tests/sql/cost_by_service.sql");
const CLASS_DISTRIBUTION: &str = include_str!("../../tests/sql/class_distribution.sql");
const DRIFT_AUDIT: &str = include_str!("../../tests/sql/drift_audit.sql");

/// A span as the brute force sees it.
struct Known {
    trace: u128,
    service: &'static str,
    tag: &'static str,
    nanos: u64,
    age_ns: u64,
}

/// 3,000 spans of 600 traces: in memory, in sealed generations and in partitions.
fn world(dir: &Path, random: &mut fastrand::Rng) -> (Vec<Known>, Snapshot) {
    let root = dir.join(PARTS);
    std::fs::create_dir_all(&root).unwrap();
    let mut catalog = Catalog::load(Arc::new(RealFs), dir).unwrap();
    let store = Store::new(Settings::default(), 0, Vec::new());
    let mut known = Vec::new();
    for id in 1..=3_000u64 {
        let service = ["front", "payment", "analytics", "ml"][random.usize(0..4)];
        let tag = ["EXPORT_OK", "SENSITIVE", "PII"][random.usize(0..3)];
        let nanos = random.u64(0..2_000_000_000);
        // Away from the edges of the windows, so that the test's own duration does not matter.
        let age_ns = [1, 30, 90, 600, 1_500, 4_000][random.usize(0..6)] * MINUTE_NS;
        let trace = u128::from(random.u64(1..=600)) << 64 | 1;
        let attributes = vec![
            double("cost_usd", nanos as f64 / 1e9),
            text("data_tag", tag),
        ];
        let spans = vec![span(trace, id, 0, age_ns, attributes)];
        store
            .insert(&decode(&request(service, spans)), Instant::now())
            .unwrap();
        known.push(Known {
            trace,
            service,
            tag,
            nanos,
            age_ns,
        });
        if id % 700 == 0 {
            let segment = id / 700 - 1;
            let sealed = store.seal(segment + 1).unwrap();
            // One generation stays sealed and uncompacted.
            if segment < 3 {
                catalog
                    .commit_segment(segment, compact::write(&sealed, &root).unwrap())
                    .unwrap();
                store.compacted(segment, catalog.partitions().to_vec());
            }
        }
    }
    (known, store.snapshot().unwrap())
}

pub(super) fn engine(limits: Limits) -> QueryEngine {
    QueryEngine::new(limits, &std::env::temp_dir()).unwrap()
}

pub(super) async fn csv(snapshot: &Snapshot, query: &str) -> Vec<Vec<String>> {
    rows(&engine(Limits::default()), snapshot, query).await
}

/// The same with an engine that knows something already.
pub(super) async fn rows(
    engine: &QueryEngine,
    snapshot: &Snapshot,
    query: &str,
) -> Vec<Vec<String>> {
    let answer = engine.sql(snapshot, query).await.unwrap();
    assert!(!answer.truncated);
    let text = String::from_utf8(render(&answer, Format::Csv).unwrap()).unwrap();
    text.lines()
        .skip(1)
        .map(|line| line.split(',').map(str::to_owned).collect())
        .collect()
}

pub(super) fn usd(nanos: u128) -> String {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

#[tokio::test]
async fn the_specifications_dashboard_queries_equal_brute_force() {
    for seed in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let (known, snapshot) = world(dir.path(), &mut fastrand::Rng::with_seed(seed));
        assert!(snapshot.partitions.len() > 3 && !snapshot.spans.is_empty());

        let mut traces: HashMap<u128, (u128, u64)> = HashMap::new();
        let mut services: BTreeMap<&str, (u128, u64)> = BTreeMap::new();
        let mut tags: BTreeMap<&str, (u128, u64)> = BTreeMap::new();
        for span in &known {
            let add = |entry: &mut (u128, u64)| {
                entry.0 += u128::from(span.nanos);
                entry.1 += 1;
            };
            if span.age_ns < 60 * MINUTE_NS {
                add(traces.entry(span.trace).or_default());
                add(tags.entry(span.tag).or_default());
            }
            if span.age_ns < 24 * 60 * MINUTE_NS {
                add(services.entry(span.service).or_default());
            }
        }
        let mut top: Vec<_> = traces.iter().collect();
        top.sort_by_key(|(_, (nanos, _))| std::cmp::Reverse(*nanos));
        let expected: Vec<_> = top
            .iter()
            .take(10)
            .map(|(trace, (nanos, count))| {
                vec![
                    format!("{trace:032x}"),
                    usd(*nanos),
                    count.to_string(),
                    "5.0".to_owned(),
                ]
            })
            .collect();
        assert_eq!(csv(&snapshot, TOP_TRACES).await, expected);

        let mut by_cost: Vec<_> = services.iter().collect();
        by_cost.sort_by_key(|(_, (nanos, _))| std::cmp::Reverse(*nanos));
        let answer = csv(&snapshot, COST_BY_SERVICE).await;
        assert_eq!(answer.len(), by_cost.len());
        for (row, (service, (nanos, count))) in answer.iter().zip(by_cost) {
            assert_eq!(
                (&*row[0], &*row[1], &*row[3]),
                (*service, &*usd(*nanos), &*count.to_string())
            );
            let mean: f64 = row[2].parse().unwrap();
            assert!((mean - *nanos as f64 / 1e9 / *count as f64).abs() < 1e-9);
        }

        let mut classes = csv(&snapshot, CLASS_DISTRIBUTION).await;
        classes.sort();
        let expected: Vec<_> = tags
            .iter()
            .map(|(tag, (nanos, count))| vec![(*tag).to_owned(), count.to_string(), usd(*nanos)])
            .collect();
        assert_eq!(classes, expected);
    }
}

#[tokio::test]
async fn the_drift_audit_finds_nothing_unless_drift_is_planted() {
    let dir = tempfile::tempdir().unwrap();
    let (known, mut snapshot) = world(dir.path(), &mut fastrand::Rng::with_seed(9));
    assert!(csv(&snapshot, DRIFT_AUDIT).await.is_empty());

    // A part that counts spans which are not there.
    let phantom = Store::new(Settings::default(), 0, Vec::new());
    let trace = known[0].trace;
    let spans = vec![span(trace, 999_999, 0, 0, vec![double("cost_usd", 0.25)])];
    phantom
        .insert(&decode(&request("x", spans)), Instant::now())
        .unwrap();
    snapshot.parts.extend(phantom.snapshot().unwrap().parts);
    let drift = csv(&snapshot, DRIFT_AUDIT).await;
    assert_eq!(drift.len(), 1);
    assert_eq!(
        (&*drift[0][0], &*drift[0][3]),
        (&*format!("{trace:032x}"), "0.250000000")
    );
}

#[tokio::test]
async fn trace_metadata_sums_late_spans_and_knows_the_root() {
    let store = Store::new(Settings::default(), 0, Vec::new());
    let insert = |service: &str, spans| {
        store
            .insert(&decode(&request(service, spans)), Instant::now())
            .unwrap();
    };
    insert(
        "child",
        vec![span(
            5,
            2,
            1,
            10 * MINUTE_NS,
            vec![double("cost_usd", 0.1), text("data_tag", "PII")],
        )],
    );
    store.seal(1).unwrap();
    insert(
        "root",
        vec![span(5, 1, 0, 11 * MINUTE_NS, vec![double("cost_usd", 0.2)])],
    );
    insert(
        "late",
        vec![span(
            5,
            3,
            1,
            MINUTE_NS,
            vec![double("cost_usd", 0.3), text("http.status_code", "503")],
        )],
    );
    let rows = csv(
        &store.snapshot().unwrap(),
        "SELECT recorded_cost, span_count, error, data_tag, root_service, root_operation FROM trace_metadata",
    )
    .await;
    assert_eq!(
        rows,
        [["0.600000000", "3", "true", "PII", "root", "operation 1"]]
    );
}

#[tokio::test]
async fn only_queries_are_accepted() {
    let snapshot = Store::new(Settings::default(), 0, Vec::new())
        .snapshot()
        .unwrap();
    let engine = engine(Limits::default());
    let outside = tempfile::tempdir().unwrap();
    let file = outside.path().join("x.csv");
    std::fs::write(&file, "a\n1\n").unwrap();
    for query in [
        "DROP TABLE spans".to_owned(),
        "CREATE TABLE x AS SELECT 1".to_owned(),
        "CREATE VIEW x AS SELECT 1".to_owned(),
        "INSERT INTO spans SELECT * FROM spans".to_owned(),
        "DELETE FROM spans".to_owned(),
        format!("COPY (SELECT 1) TO '{}'", file.display()),
        format!(
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{}'",
            file.display()
        ),
        format!("SELECT * FROM '{}'", file.display()),
        "SET datafusion.execution.batch_size = 1".to_owned(),
        "SELECT 1; SELECT 2".to_owned(),
        "not sql".to_owned(),
        String::new(),
    ] {
        let result = engine.sql(&snapshot, &query).await;
        assert!(
            matches!(result, Err(QueryError::Refused(_))),
            "{query}: {result:?}"
        );
    }
    for query in [
        "EXPLAIN SELECT * FROM spans",
        "VALUES (1)",
        "SHOW TABLES",
        "SELECT NOW()",
    ] {
        assert!(engine.sql(&snapshot, query).await.is_ok(), "{query}");
    }
}

#[tokio::test]
async fn an_answer_is_cut_at_the_row_limit_and_a_slow_query_at_the_time_limit() {
    let snapshot = Store::new(Settings::default(), 0, Vec::new())
        .snapshot()
        .unwrap();
    let rows = engine(Limits {
        rows: 10,
        ..Limits::default()
    });
    let answer = rows
        .sql(&snapshot, "SELECT UNNEST(range(0, 100)) AS n")
        .await
        .unwrap();
    assert!(answer.truncated);
    assert_eq!(
        answer
            .batches
            .iter()
            .map(|batch| batch.num_rows())
            .sum::<usize>(),
        10
    );

    let slow = "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 1000000000) \
                SELECT COUNT(*) FROM t";
    let time = engine(Limits {
        time: Duration::from_millis(300),
        ..Limits::default()
    });
    let start = Instant::now();
    let result = time.sql(&snapshot, slow).await;
    assert!(matches!(result, Err(QueryError::Limit(_))), "{result:?}");
    assert!(start.elapsed() < Duration::from_secs(20));

    let long = engine(Limits {
        text: 10,
        ..Limits::default()
    });
    let result = long.sql(&snapshot, "SELECT 1 AS too_long").await;
    assert!(matches!(result, Err(QueryError::Limit(_))), "{result:?}");
}

#[tokio::test]
async fn json_is_json_whatever_the_text_says() {
    let snapshot = Store::new(Settings::default(), 0, Vec::new())
        .snapshot()
        .unwrap();
    let query = "SELECT 'a\"b\\\n' AS \"x\"\"y\", 1 AS n, CAST('NaN' AS DOUBLE) AS f, NULL AS z, \
                 CAST(1.5 AS DECIMAL(20,9)) AS d, true AS b";
    let answer = engine(Limits::default())
        .sql(&snapshot, query)
        .await
        .unwrap();
    let json: serde_json::Value =
        serde_json::from_slice(&render(&answer, Format::Json).unwrap()).unwrap();
    let row = &json["rows"][0];
    assert_eq!(row["x\"y"], "a\"b\\\n");
    assert_eq!((row["n"].as_i64(), row["d"].as_f64()), (Some(1), Some(1.5)));
    assert_eq!(
        (row["f"].as_str(), row["z"].is_null(), row["b"].as_bool()),
        (Some("NaN"), true, Some(true))
    );
}

#[tokio::test]
async fn an_answer_is_measured_by_what_it_shows_not_by_what_its_text_lies_in() {
    let store = Store::new(Settings::default(), 0, Vec::new());
    let padding = "x".repeat(4_000);
    for id in 1..=2_000u64 {
        let spans = vec![span(u128::from(id), id, 0, 1, vec![text("a", &padding)])];
        store
            .insert(&decode(&request("a", spans)), Instant::now())
            .unwrap();
    }
    let limits = Limits {
        bytes: 4 << 20,
        ..Limits::default()
    };
    let query = "SELECT * FROM spans WHERE span_id <= '000000000000000a'";
    let answer = engine(limits)
        .sql(&store.snapshot().unwrap(), query)
        .await
        .unwrap();
    let rows: usize = answer.batches.iter().map(|batch| batch.num_rows()).sum();
    assert_eq!((rows, answer.truncated), (10, false));
}

#[tokio::test]
async fn a_join_that_does_not_fit_into_memory_is_answered_through_the_disk() {
    let snapshot = Store::new(Settings::default(), 0, Vec::new())
        .snapshot()
        .unwrap();
    let limits = Limits {
        memory: 4 << 20,
        spilling: 8 << 20,
        ..Limits::default()
    };
    let query = "WITH numbers AS (SELECT UNNEST(range(0, 400000)) AS n), \
         sums AS (SELECT n, SUM(n) AS s FROM numbers GROUP BY n), \
         counts AS (SELECT n, COUNT(*) AS c FROM numbers GROUP BY n) \
         SELECT COUNT(*) AS n, SUM(s * c) AS sum FROM sums JOIN counts ON sums.n = counts.n";
    let nowhere = engine(Limits { spill: 0, ..limits });
    assert!(nowhere.sql(&snapshot, query).await.is_err());
    let small = engine(limits);
    let answer = rows(&small, &snapshot, query).await;
    assert_eq!(answer[0], ["400000", "79999800000"]);
    assert_eq!(small.memory().0, 0, "nothing stays taken");
}

#[tokio::test]
async fn joins_that_merge_answer_as_those_that_hash() {
    let snapshot = Store::new(Settings::default(), 0, Vec::new())
        .snapshot()
        .unwrap();
    let ample = engine(Limits::default());
    // Not even a hash table of a few rows fits.
    let merging = engine(Limits {
        memory: 1_000,
        spilling: 8 << 20,
        ..Limits::default()
    });
    let tables = "WITH l AS (SELECT * FROM (VALUES (1, 'a', 5), (2, 'b', 6), (2, 'c', 7), \
         (NULL, 'd', 8), (4, 'e', 9)) AS t(k, name, x)), \
         r AS (SELECT * FROM (VALUES (2, 'u', 1), (2, 'v', 9), (3, 'w', 2), (NULL, 'y', 3), \
         (4, 'z', 20)) AS t(k, tag, x))";
    let mut compared = 0;
    for kind in ["INNER", "LEFT", "RIGHT", "FULL", "LEFT SEMI", "LEFT ANTI"] {
        for on in [
            "l.k = r.k",
            "l.k = r.k AND l.x > r.x",
            "l.k = r.k AND l.x = r.x",
        ] {
            let shown = if kind.contains(' ') {
                "l.*"
            } else {
                "tag, name, r.x"
            };
            let query = format!("{tables} SELECT {shown} FROM l {kind} JOIN r ON {on}");
            let sorted = |mut rows: Vec<Vec<String>>| {
                rows.sort();
                rows
            };
            let expected = sorted(rows(&ample, &snapshot, &query).await);
            let merged = sorted(rows(&merging, &snapshot, &query).await);
            assert_eq!(merged, expected, "{query}");
            compared += expected.len();
        }
    }
    assert!(compared > 40, "{compared} rows say little");
}

#[tokio::test]
async fn a_query_that_needs_too_much_memory_fails_and_says_so() {
    let snapshot = Store::new(Settings::default(), 0, Vec::new())
        .snapshot()
        .unwrap();
    let small = engine(Limits {
        memory: 1 << 20,
        spilling: 1 << 20,
        spill: 0,
        ..Limits::default()
    });
    let query = "SELECT COUNT(DISTINCT n) FROM (SELECT UNNEST(range(0, 1000000)) AS n)";
    let result = small.sql(&snapshot, query).await;
    let is_limit = matches!(result, Err(QueryError::Memory | QueryError::Limit(_)));
    assert!(is_limit, "{result:?}");
    assert!(
        engine(Limits::default())
            .sql(&snapshot, query)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn an_arrow_answer_is_read_back_by_arrow() {
    use datafusion::arrow::array::AsArray as _;
    use datafusion::arrow::ipc::reader::StreamReader;

    let snapshot = Store::new(Settings::default(), 0, Vec::new())
        .snapshot()
        .unwrap();
    let query = "SELECT CAST(1.5 AS DECIMAL(20,9)) AS d, 'x' AS t, NOW() AS n";
    let answer = engine(Limits::default())
        .sql(&snapshot, query)
        .await
        .unwrap();
    let bytes = render(&answer, Format::Arrow).unwrap();
    let stream = StreamReader::try_new(&*bytes, None).unwrap();
    assert_eq!(stream.schema(), answer.schema);
    let batches: Vec<_> = stream.map(Result::unwrap).collect();
    assert_eq!(batches.len(), 1);
    let money = batches[0]
        .column(0)
        .as_primitive::<datafusion::arrow::datatypes::Decimal128Type>();
    assert_eq!(money.value(0), 1_500_000_000);
}

#[test]
fn the_accept_header_chooses_the_best_format_that_there_is() {
    for (header, format) in [
        ("*/*", Some(Format::Json)),
        ("text/csv", Some(Format::Csv)),
        (
            "text/csv;q=0.5, application/vnd.apache.arrow.stream",
            Some(Format::Arrow),
        ),
        (
            "application/json;q=0.1, text/plain;q=0.2",
            Some(Format::Table),
        ),
        ("image/png, text/csv; q=0.1", Some(Format::Csv)),
        ("image/png", None),
        ("text/csv;q=0", None),
    ] {
        assert_eq!(Format::accepted(header), format, "{header}");
    }
}
