//! Control's state in the data folder: the file `control.v1.json`.
//!
//! One line `tracemeter-control 1 <crc32 of the rest, hex>`, then JSON: what the controller
//! remembers, and the table as it was published. It is written under another name, synced and
//! renamed after every window, so a crash leaves the old or the new state. A file that cannot be
//! read (another version, damage) is reported and the controller starts anew; the next window
//! replaces it.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use mesh_config::adaptive::{Controller, KeySnapshot, Snapshot};
use serde::{Deserialize, Serialize};

use super::table::{Key, Table, Th};

/// The file's name.
const FILE: &str = "control.v1.json";
/// First words of the file.
const HEADER: &str = "tracemeter-control 1 ";
/// Bytes of a state that are read; a full one has a fourth of this.
const MAX_BYTES: u64 = 32 << 20;

/// What was found.
pub(super) enum Loaded {
    /// No file: the first start.
    Absent,
    /// A whole state.
    State(Box<(Controller<Key>, Table)>),
    /// A file that cannot be used, and why.
    Damaged(String),
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
}

impl Store {
    /// The store of a data folder.
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// Reads the state.
    pub(super) fn load(&self) -> Loaded {
        let path = self.dir.join(FILE);
        match std::fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Loaded::Absent,
            Err(error) => return Loaded::Damaged(error.to_string()),
            Ok(metadata) if metadata.len() > MAX_BYTES => {
                return Loaded::Damaged("it is too large".to_owned());
            }
            Ok(_) => {}
        }
        let read = std::fs::read_to_string(&path).map_err(|error| error.to_string());
        match read.and_then(|text| parse(&text)) {
            Ok(state) => Loaded::State(Box::new(state)),
            Err(cause) => Loaded::Damaged(cause),
        }
    }

    /// Replaces the state.
    pub(super) fn save(&self, controller: &Controller<Key>, table: &Table) -> io::Result<()> {
        let json = serde_json::to_string(&Stored::new(controller, table))?;
        let crc = crc32fast::hash(json.as_bytes());
        let temporary = self.dir.join(format!("{FILE}.tmp"));
        let mut file = File::create(&temporary)?;
        file.write_all(format!("{HEADER}{crc:08x}\n{json}").as_bytes())?;
        file.sync_all()?;
        drop(file);
        std::fs::rename(&temporary, self.dir.join(FILE))?;
        File::open(&self.dir)?.sync_all()
    }
}

fn parse(text: &str) -> Result<(Controller<Key>, Table), String> {
    let (header, json) = text.split_once('\n').ok_or("it has no header")?;
    let crc = header.strip_prefix(HEADER).ok_or("it has another format")?;
    if crc != format!("{:08x}", crc32fast::hash(json.as_bytes())) {
        return Err("its checksum is wrong".to_owned());
    }
    let stored: Stored = serde_json::from_str(json).map_err(|error| error.to_string())?;
    Ok(stored.restore())
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    keys: Vec<StoredKey>,
    version: u64,
    unlisted: Th,
    entries: Vec<(String, String, Th)>,
    last_new: Option<(f64, f64)>,
    last_evicted: (f64, f64),
    arrival_per_second: Option<f64>,
    held_in_a_row: u32,
    table: Table,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredKey {
    service: String,
    route: String,
    per_second: f64,
    windows: f64,
    idle_windows: u32,
    silent: bool,
    exempt: bool,
}

fn key(service: &str, route: &str) -> Key {
    Key {
        service: service.into(),
        route: route.into(),
    }
}

impl Stored {
    fn new(controller: &Controller<Key>, table: &Table) -> Self {
        let snapshot = controller.snapshot();
        let keys = snapshot.keys.into_iter().map(|known| StoredKey {
            service: known.key.service.as_ref().to_owned(),
            route: known.key.route.as_ref().to_owned(),
            per_second: known.per_second,
            windows: known.windows,
            idle_windows: known.idle_windows,
            silent: known.silent,
            exempt: known.exempt,
        });
        let entries = snapshot.entries.into_iter().map(|(key, threshold)| {
            (
                key.service.as_ref().to_owned(),
                key.route.as_ref().to_owned(),
                Th(threshold),
            )
        });
        Self {
            keys: keys.collect(),
            version: snapshot.version,
            unlisted: Th(snapshot.unlisted),
            entries: entries.collect(),
            last_new: snapshot.last_new,
            last_evicted: snapshot.last_evicted,
            arrival_per_second: snapshot.arrival_per_second,
            held_in_a_row: snapshot.held_in_a_row,
            table: table.clone(),
        }
    }

    fn restore(self) -> (Controller<Key>, Table) {
        let keys = self.keys.into_iter().map(|known| KeySnapshot {
            key: key(&known.service, &known.route),
            per_second: known.per_second,
            windows: known.windows,
            idle_windows: known.idle_windows,
            silent: known.silent,
            exempt: known.exempt,
        });
        let entries = self
            .entries
            .into_iter()
            .map(|(service, route, threshold)| (key(&service, &route), threshold.0));
        let controller = Controller::restore(Snapshot {
            keys: keys.collect(),
            version: self.version,
            unlisted: self.unlisted.0,
            entries: entries.collect(),
            last_new: self.last_new,
            last_evicted: self.last_evicted,
            arrival_per_second: self.arrival_per_second,
            held_in_a_row: self.held_in_a_row,
        });
        (controller, self.table)
    }
}

#[cfg(test)]
mod tests {
    use mesh_config::adaptive::{Settings, Window};

    use super::*;

    fn trained() -> (Controller<Key>, Table) {
        let mut controller = Controller::new(&Settings::default());
        for round in 0..4 {
            let counts = [(key("a", "/x"), 60_000 + round * 7), (key("b", "/\"ö"), 11)];
            let window = Window {
                duration_ns: 60_000_000_000,
                counts: &counts,
                overflow: 3,
                reported: 1,
                expected: 1,
            };
            let _ = controller.update(&window, &Settings::default(), |_| false);
        }
        let table = Table::publish(&controller, None, 12);
        (controller, table)
    }

    #[test]
    fn a_state_comes_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        assert!(matches!(store.load(), Loaded::Absent));
        let (controller, table) = trained();
        store.save(&controller, &table).unwrap();
        let Loaded::State(loaded) = store.load() else {
            panic!("not loaded");
        };
        assert_eq!(loaded.1, table);
        assert_eq!(loaded.0.table(), controller.table());
        assert_eq!(loaded.0, controller);
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        let (controller, table) = trained();
        store.save(&controller, &table).unwrap();
        let path = dir.path().join(FILE);
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            std::fs::write(&path, &damaged).unwrap();
            assert!(matches!(store.load(), Loaded::Damaged(_)), "byte {at}");
            std::fs::write(&path, &bytes[..at]).unwrap();
            assert!(matches!(store.load(), Loaded::Damaged(_)), "cut at {at}");
        }
    }
}
