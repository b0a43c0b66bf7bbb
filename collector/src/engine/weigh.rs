//! No test: says what the columns of a data folder's partitions weigh, in bytes per span.
//!
//! `TRACEMETER_WEIGH_DATA=folder cargo test --release -p collector --lib weigh -- --ignored --nocapture`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::store::catalog::Catalog;
use crate::wal::fs::RealFs;

#[test]
#[ignore = "needs a data folder"]
fn weigh() {
    let dir = PathBuf::from(std::env::var_os("TRACEMETER_WEIGH_DATA").expect("where"));
    let catalog = Catalog::load(Arc::new(RealFs), &dir).unwrap();
    let spans: u64 = catalog.partitions().iter().map(|part| part.meta.rows).sum();
    // By file and column; a file's rest and what is no Parquet have no column.
    let mut weights: BTreeMap<(String, String), u64> = BTreeMap::new();
    let files = catalog.partitions().iter().flat_map(|part| {
        [
            part.spans(),
            part.traces(),
            part.ids(),
            part.sums(),
            part.ledger(),
            part.hours(),
            part.days(),
        ]
    });
    for path in files.filter(|path| path.exists()) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let kind = name.split_once('.').unwrap().1.to_owned();
        let file = std::fs::File::open(&path).unwrap();
        let mut rest = file.metadata().unwrap().len();
        if kind.ends_with("parquet") {
            let footer = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
            let groups = footer.metadata().row_groups().iter();
            for column in groups.flat_map(|group| group.columns()) {
                let bytes = column.compressed_size().unsigned_abs();
                let column = column.column_path().string();
                *weights.entry((kind.clone(), column)).or_default() += bytes;
                rest -= bytes;
            }
        }
        *weights.entry((kind, "-".to_owned())).or_default() += rest;
    }
    println!("{spans} spans");
    for ((kind, column), bytes) in weights {
        println!("{kind:16} {column:20} {:8.3}", bytes as f64 / spans as f64);
    }
}
