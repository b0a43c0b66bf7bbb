//! No test: makes a day of many spans out of the partitions of a few, for the benchmark.
//!
//! `scripts/bench.sh collector` runs it when `TRACEMETER_BENCH_SPANS` asks for more spans than can
//! be sent in reasonable time. Copies of the same rows, with trace ids and times of their own, are
//! written by the collector's own writer: same layout, same size, same indexes. Repetition within
//! a partition is as in what was sent.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use datafusion::arrow::array::{
    ArrayRef, AsArray as _, RecordBatch, StringViewBuilder, TimestampNanosecondArray,
};
use datafusion::arrow::datatypes::TimestampNanosecondType;

use super::merge::read;
use super::retain::now_ns;
use crate::store::catalog::{Catalog, Meta, PARTS};
use crate::store::columns::UTC;
use crate::store::compact::{Pages, Rest, day_name, merge_parts, write_partition};
use crate::store::ledger::{HOUR_NS, MINUTE_NS};
use crate::store::parts::day_of;
use crate::store::stream::{self, Rows};
use crate::wal::fs::RealFs;

/// Rows of a partition: what merging makes of small ones.
const ROWS: u64 = 500_000;
/// Less than a day, so that nothing runs out while the benchmark reads.
const DAY_NS: i64 = 23 * HOUR_NS;

/// Rows moved in time, in traces of their own.
fn shifted(batch: &RecordBatch, number: u64, shift_ns: i64) -> RecordBatch {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    let columns = columns.map(|(field, column)| -> ArrayRef {
        match field.name().as_str() {
            "timestamp" | "first_seen" | "last_seen" | "minute" => {
                let times = column.as_primitive::<TimestampNanosecondType>();
                let times = times.values().iter().map(|time| time + shift_ns);
                let times = TimestampNanosecondArray::from_iter_values(times);
                Arc::new(times.with_timezone(UTC))
            }
            "trace_id" => {
                let block = u32::try_from(batch.num_rows() * 32).unwrap();
                let mut ids = StringViewBuilder::new().with_fixed_block_size(block.max(1));
                let mask = u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 40;
                for id in column.as_string_view().iter().flatten() {
                    let id = u128::from_str_radix(id, 16).unwrap() ^ mask;
                    ids.append_value(format!("{id:032x}"));
                }
                Arc::new(ids.finish())
            }
            _ => column.clone(),
        }
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
}

struct Base {
    /// In the order of a file.
    spans: Vec<RecordBatch>,
    rest: Rest,
    min_ns: i64,
    max_ns: i64,
}

fn base(catalog: &Catalog<RealFs>) -> Base {
    let (mut spans, mut parts, mut ledger) = (Vec::new(), Vec::new(), Vec::new());
    let (mut rows, mut min_ns, mut max_ns) = (0, i64::MAX, i64::MIN);
    for partition in catalog.partitions() {
        let meta = &partition.meta;
        if rows >= ROWS || meta.rows == 0 {
            continue;
        }
        spans.extend(Rows::open(&partition.spans()).unwrap().map(Result::unwrap));
        read(meta.traces, &partition.traces(), &mut parts).unwrap();
        read(meta.ledger, &partition.ledger(), &mut ledger).unwrap();
        rows += meta.rows;
        min_ns = min_ns.min(meta.min_ns);
        max_ns = max_ns.max(meta.max_ns);
    }
    assert!(rows > 0, "no partition to begin with");
    let mut rest = Rest::of(&parts, &ledger).unwrap();
    rest.parts = merge_parts(&rest.parts).unwrap();
    let order = stream::order(&spans);
    let ordered = stream::ordered(&spans, &order);
    Base {
        spans: ordered.map(Result::unwrap).collect(),
        rest,
        min_ns,
        max_ns,
    }
}

fn write(base: &Base, root: &Path, number: u64, start_ns: i64) -> Meta {
    // Whole minutes, since the ledger is kept by minute; nothing crosses midnight.
    let mut shift_ns = (start_ns - base.min_ns).div_euclid(MINUTE_NS) * MINUTE_NS;
    let day = |shift_ns: i64| [base.min_ns, base.max_ns].map(|time| day_of(time + shift_ns));
    while day(shift_ns)[0] != day(shift_ns)[1] {
        shift_ns -= MINUTE_NS;
    }
    let [day, _] = day(shift_ns);
    let shift = |rows: &RecordBatch| shifted(rows, number, shift_ns);
    let rest = Rest {
        parts: shift(&base.rest.parts),
        ledger: shift(&base.rest.ledger),
    };
    let mut spans = base.spans.iter().map(|rows| Ok(shift(rows)));
    let stem = format!("{}/b{number:020x}", day_name(day));
    write_partition(root, (stem, day), &mut spans, &rest, Pages::FAST).unwrap()
}

#[test]
#[ignore = "writes gigabytes; the benchmark runs it"]
fn multiply() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let spans: u64 = number("TRACEMETER_MULTIPLY_SPANS").expect("how many");
    let dir = PathBuf::from(std::env::var_os("TRACEMETER_MULTIPLY_DATA").expect("where"));
    let mut catalog = Catalog::load(Arc::new(RealFs), &dir).unwrap();
    let base = base(&catalog);
    let rows = base.spans.iter().map(RecordBatch::num_rows).sum::<usize>() as u64;
    let copies = spans.div_ceil(rows);
    let (next, metas) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let first_ns = now_ns() - DAY_NS;
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= copies {
                        return;
                    }
                    let start_ns = first_ns + DAY_NS / copies as i64 * number as i64;
                    let meta = write(&base, &dir.join(PARTS), number + 1, start_ns);
                    metas.lock().unwrap().push(meta);
                }
            });
        }
    });
    let replaced = catalog.partitions().to_vec();
    let metas = metas.into_inner().unwrap();
    catalog.replace_partitions(&replaced, metas).unwrap();
}
