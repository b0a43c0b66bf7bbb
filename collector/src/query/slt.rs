//! Runs `tests/sql/*.slt`: SQL and its answers in the form of sqllogictest, with three additions:
//! `span` lines (the data), `include` (a query in a file of its own) and an oracle named after the
//! sort mode, which recomputes the expected rows from the data by brute force.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::tests::{csv, engine, usd};
use super::{Limits, QueryError};
use crate::store::catalog::{Catalog, PARTS};
use crate::store::{Settings, Snapshot, Store, compact};
use crate::testing::{decode, double, request, span, text};
use crate::wal::fs::RealFs;

const MINUTE_NS: u64 = 60_000_000_000;

struct Line {
    trace: u128,
    service: String,
    tag: String,
    nanos: u128,
    age_min: u64,
    duration_ms: u64,
}

enum Expected {
    Rows {
        sorted: bool,
        oracle: Option<String>,
        rows: Vec<String>,
    },
    Error(String),
}

struct Case {
    query: String,
    expected: Expected,
}

fn parse(dir: &Path, file: &str) -> (Vec<Line>, Vec<Case>) {
    let script = std::fs::read_to_string(dir.join(file)).unwrap();
    let (mut data, mut cases) = (Vec::new(), Vec::new());
    for block in script.split("\n\n") {
        let mut lines = block
            .lines()
            .filter(|line| !line.starts_with('#'))
            .peekable();
        while let Some(line) = lines.peek().and_then(|line| line.strip_prefix("span ")) {
            data.push(data_line(line));
            lines.next();
        }
        let Some(head) = lines.next() else { continue };
        let mut words = head.splitn(3, ' ');
        let kind = (words.next().unwrap(), words.next().unwrap());
        let rest = words.next().unwrap_or_default();
        let mut query = String::new();
        for line in lines.by_ref().take_while(|line| *line != "----") {
            match line.strip_prefix("include ") {
                Some(name) => query += &std::fs::read_to_string(dir.join(name)).unwrap(),
                None => query += line,
            }
            query.push('\n');
        }
        let expected = match kind {
            ("query", _types) => {
                let (mode, oracle) = rest.split_once(' ').unwrap_or((rest, ""));
                Expected::Rows {
                    sorted: mode == "rowsort",
                    oracle: (!oracle.is_empty()).then(|| oracle.to_owned()),
                    rows: lines.map(str::to_owned).collect(),
                }
            }
            ("statement", "error") => Expected::Error(rest.to_owned()),
            other => panic!("`{other:?}` is no record of this runner"),
        };
        cases.push(Case { query, expected });
    }
    (data, cases)
}

fn data_line(line: &str) -> Line {
    let words: Vec<&str> = line.split(' ').collect();
    let number = |index: usize| words[index].parse().unwrap();
    Line {
        trace: u128::from(number(0)),
        service: words[1].to_owned(),
        tag: words[2].to_owned(),
        nanos: u128::from(number(3)),
        age_min: number(4),
        duration_ms: number(5),
    }
}

/// The first half in partitions, the rest in memory.
fn store(dir: &Path, data: &[Line]) -> Snapshot {
    let root = dir.join(PARTS);
    std::fs::create_dir_all(&root).unwrap();
    let mut catalog = Catalog::load(Arc::new(RealFs), dir).unwrap();
    let store = Store::new(Settings::default(), 0, Vec::new());
    for (index, line) in data.iter().enumerate() {
        if index == data.len() / 2 {
            let sealed = store.seal(1).unwrap();
            catalog
                .commit_segment(0, compact::write(&sealed, &root).unwrap())
                .unwrap();
            store.compacted(0, catalog.partitions().to_vec());
        }
        let attributes = vec![
            double("cost_usd", line.nanos as f64 / 1e9),
            text("data_tag", &line.tag),
        ];
        let id = index as u64 + 1;
        let mut one = span(line.trace, id, 0, line.age_min * MINUTE_NS, attributes);
        one.end_time_unix_nano = one.start_time_unix_nano + line.duration_ms * 1_000_000;
        store
            .insert(&decode(&request(&line.service, vec![one])), Instant::now())
            .unwrap();
    }
    store.snapshot().unwrap()
}

/// Cost, count and longest duration by key, of spans younger than `minutes`.
fn sums<K: Ord>(
    data: &[Line],
    minutes: u64,
    key: impl Fn(&Line) -> K,
) -> Vec<(K, (u128, u128, u64))> {
    let mut sums: BTreeMap<K, (u128, u128, u64)> = BTreeMap::new();
    for line in data.iter().filter(|line| line.age_min < minutes) {
        let sum = sums.entry(key(line)).or_default();
        sum.0 += line.nanos;
        sum.1 += 1;
        sum.2 = sum.2.max(line.duration_ms);
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(_, (nanos, ..))| std::cmp::Reverse(*nanos));
    sums
}

fn oracle(name: &str, data: &[Line]) -> Vec<String> {
    match name {
        "top_traces" => sums(data, 60, |line| line.trace)
            .into_iter()
            .take(10)
            .map(|(trace, (nanos, count, longest))| {
                format!("{trace:032x} {} {count} {longest}.0", usd(nanos))
            })
            .collect(),
        "cost_by_service" => sums(data, 1_440, |line| line.service.clone())
            .into_iter()
            .map(|(service, (nanos, count, _))| {
                // The mean of a DECIMAL(20,9) has four digits more.
                let mean = nanos * 10_000 / count;
                let (whole, part) = (mean / 10u128.pow(13), mean % 10u128.pow(13));
                format!("{service} {} {whole}.{part:013} {count}", usd(nanos))
            })
            .collect(),
        "class_distribution" => sums(data, 60, |line| line.tag.clone())
            .into_iter()
            .map(|(tag, (nanos, count, _))| format!("{tag} {count} {}", usd(nanos)))
            .collect(),
        "drift_audit" => Vec::new(),
        other => panic!("no oracle `{other}`"),
    }
}

#[tokio::test]
async fn the_scripts_in_tests_sql_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql");
    let mut scripts = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".slt") {
            continue;
        }
        scripts += 1;
        let dir = tempfile::tempdir().unwrap();
        let (data, cases) = parse(&folder, &name);
        let snapshot = store(dir.path(), &data);
        assert!(!snapshot.partitions.is_empty() && !snapshot.spans.is_empty() && cases.len() > 4);
        for Case { query, expected } in cases {
            match expected {
                Expected::Rows {
                    sorted,
                    oracle: by,
                    mut rows,
                } => {
                    let answer = csv(&snapshot, &query).await;
                    let mut answer: Vec<String> =
                        answer.into_iter().map(|row| row.join(" ")).collect();
                    let mut recomputed = by.map(|by| oracle(&by, &data));
                    if sorted {
                        answer.sort();
                        rows.sort();
                        recomputed.iter_mut().for_each(|rows| rows.sort());
                    }
                    if let Some(recomputed) = recomputed {
                        assert_eq!(rows, recomputed, "{name} is wrong: {query}");
                    }
                    assert_eq!(answer, rows, "{name}: {query}");
                }
                Expected::Error(message) => {
                    let result = engine(Limits::default()).sql(&snapshot, &query).await;
                    let Err(QueryError::Refused(text)) = result else {
                        panic!("{name}: not refused: {query}");
                    };
                    assert!(text.contains(&message), "{name}: {query}: {text}");
                }
            }
        }
    }
    assert!(scripts > 0);
}
