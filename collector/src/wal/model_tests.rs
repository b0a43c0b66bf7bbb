//! Random actions on a faulty file system, against a model that is a plain list.
//!
//! The model knows three kinds of records: acknowledged (must be there after any crash),
//! removed (must not be there), and uncertain (refused, or in a group whose sync failed: may be
//! there). What recovery returns must be in the order written, without repetition.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::faulty_fs::{Fault, FaultyFs};
use super::log::{Log, LogError};
use super::record::{Codec, Kind, Record};

const DIR: &str = "/wal";

#[derive(Default)]
struct Model {
    /// Acknowledged record ids by segment.
    acknowledged: BTreeMap<u64, Vec<u64>>,
    uncertain: BTreeSet<u64>,
    /// Flipped bytes since the last recovery: each may cost one record.
    flips: usize,
    next_id: u64,
}

fn record(id: u64, random: &mut fastrand::Rng) -> Record {
    let mut text = format!("{id};");
    for _ in 0..random.usize(0..200) {
        text.push(random.alphanumeric());
    }
    if random.bool() {
        return Record::compress(Kind::Traces, id, text.as_bytes());
    }
    let raw_len = text.len() as u32;
    Record {
        kind: Kind::Metrics,
        codec: Codec::None,
        raw_len,
        received_ns: id,
        payload: text.into(),
    }
}

fn id_of(record: &Record) -> u64 {
    let text = String::from_utf8(record.decompress().unwrap()).unwrap();
    text.split_once(';').unwrap().0.parse().unwrap()
}

fn open(fs: &FaultyFs, first: u64) -> Log<FaultyFs> {
    Log::open(Arc::new(fs.clone()), Path::new(DIR), first).unwrap()
}

impl Model {
    fn append(&mut self, log: &mut Log<FaultyFs>, random: &mut fastrand::Rng) {
        let ids: Vec<u64> = (0..random.u64(1..5))
            .map(|offset| self.next_id + offset)
            .collect();
        self.next_id += ids.len() as u64;
        let group: Vec<Record> = ids.iter().map(|id| record(*id, random)).collect();
        let was_poisoned = log.is_poisoned();
        match log.append(&group, random.u64(..)) {
            Ok(()) => {
                assert!(!was_poisoned, "a poisoned log acknowledges nothing");
                self.acknowledged
                    .entry(log.current())
                    .or_default()
                    .extend(ids);
            }
            Err(LogError::Poisoned) => self.uncertain.extend(ids),
            // Undone: must not come back, except when undoing failed too.
            Err(LogError::Write(_)) if log.is_poisoned() => self.uncertain.extend(ids),
            Err(LogError::Write(_)) => {}
        }
    }

    fn recover(&mut self, fs: &FaultyFs, first: u64) -> Log<FaultyFs> {
        let mut log = open(fs, first);
        let mut lost = 0;
        let mut known = BTreeMap::new();
        for segment in log.closed() {
            let mut found = Vec::new();
            let damage = log
                .read(segment, true, |_, record| found.push(id_of(&record)))
                .unwrap();
            assert!(
                found.windows(2).all(|pair| pair[0] < pair[1]),
                "order or repetition: {found:?}"
            );
            let expected = self.acknowledged.remove(&segment).unwrap_or_default();
            let missing = expected.iter().filter(|id| !found.contains(id)).count();
            assert!(
                missing == 0 || !damage.skipped.is_empty() || damage.torn_bytes > 0,
                "silent loss"
            );
            lost += missing;
            for id in &found {
                assert!(
                    expected.contains(id) || self.uncertain.contains(id),
                    "record {id} from nowhere"
                );
            }
            // A second reading finds a clean end, unless what now is the end was damaged before.
            let again = log.read(segment, false, |_, _| ()).unwrap();
            assert!(again.torn_bytes == 0 || !damage.skipped.is_empty() || found.is_empty());
            known.insert(segment, found);
        }
        lost += self.acknowledged.values().map(Vec::len).sum::<usize>();
        assert!(
            lost <= self.flips,
            "lost {lost} records by {} flipped bytes",
            self.flips
        );
        self.acknowledged = known;
        self.flips = 0;
        log
    }
}

fn run(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let fs = FaultyFs::default();
    let mut model = Model::default();
    let mut log = open(&fs, 0);
    let mut first = 0;
    for _ in 0..120 {
        match random.u32(0..100) {
            0..55 => model.append(&mut log, &mut random),
            55..65 => log.rotate(),
            65..72 => {
                if let Some(oldest) = log.closed().first().copied() {
                    log.remove(oldest).unwrap();
                    first = oldest + 1;
                    model.acknowledged.remove(&oldest);
                }
            }
            72..88 => fs.arm(Some(match random.u32(0..4) {
                0 => Fault::ShortWrite,
                1 => Fault::ShortWriteAndNoCut,
                2 => Fault::Sync,
                _ => Fault::Create,
            })),
            88..94 => {
                if fs.flip_byte(&mut random) {
                    model.flips += 1;
                }
                fs.crash(&mut random);
                log = model.recover(&fs, first);
            }
            _ => {
                fs.crash(&mut random);
                log = model.recover(&fs, first);
            }
        }
    }
    fs.crash(&mut random);
    model.recover(&fs, first);
}

#[test]
fn no_acknowledged_record_is_lost_and_none_comes_back_twice() {
    for seed in 0..3_000 {
        // The seed is the whole reproduction.
        let result = std::panic::catch_unwind(|| run(seed));
        assert!(result.is_ok(), "seed {seed}");
    }
}
