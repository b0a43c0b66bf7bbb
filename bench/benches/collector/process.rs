//! The collector's process and what the system says about it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::load::Client;

/// Clock ticks of `/proc`, per second.
const TICKS: f64 = 100.0;

/// A running collector with a folder of its own; both go when it is dropped.
pub(crate) struct Collector {
    child: Child,
    folder: PathBuf,
    /// The folder was named by who runs the benchmark.
    is_kept: bool,
    pub(crate) http: SocketAddr,
}

impl Collector {
    /// Starts the collector of `dist/`.
    pub(crate) fn start() -> Self {
        let named = std::env::var_os("TRACEMETER_BENCH_FOLDER").map(PathBuf::from);
        let is_kept = named.is_some();
        let own = || std::env::temp_dir().join(format!("tracemeter-bench-{}", std::process::id()));
        let folder = named.unwrap_or_else(own);
        std::fs::create_dir_all(&folder).unwrap();
        let (child, http) = serve(&folder);
        Self {
            child,
            folder,
            is_kept,
            http,
        }
    }

    /// True when the folder has spans from before.
    pub(crate) fn is_filled(&self) -> bool {
        self.folder.join("filled").exists()
    }

    /// Ends the process, not the folder.
    pub(crate) fn pause(&mut self) {
        self.stop();
    }

    /// Starts the process again.
    pub(crate) fn resume(&mut self) {
        (self.child, self.http) = serve(&self.folder);
    }

    /// Makes a day of `spans` spans of what is in the partitions.
    pub(crate) fn multiply(&self, spans: u64) {
        let program = std::env::var_os("TRACEMETER_MULTIPLY").expect("run scripts/bench.sh");
        let status = Command::new(program)
            .args(["engine::multiply::multiply", "--exact", "--ignored"])
            .env("TRACEMETER_MULTIPLY_DATA", self.folder.join("data"))
            .env("TRACEMETER_MULTIPLY_SPANS", spans.to_string())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "the partitions were not multiplied");
        std::fs::write(self.folder.join("filled"), []).unwrap();
    }

    /// Waits until no generation waits for compaction.
    pub(crate) fn wait_until_written(&self) {
        while self.metric("compaction_waiting") > 0 {
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// A line of `/metrics`, without the prefix of its name.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let (_, page) = Client::get(self.http, "/metrics");
        let start = format!("tracemeter_collector_{name} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap().parse().unwrap()
    }

    /// Memory in MiB: `VmRSS` now, `VmHWM` at the peak.
    pub(crate) fn resident_mib(&self, name: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib / 1024
    }

    /// Processor time by thread name, seconds.
    pub(crate) fn cpu_seconds(&self) -> BTreeMap<String, f64> {
        let mut threads = BTreeMap::new();
        let folder = format!("/proc/{}/task", self.child.id());
        for entry in std::fs::read_dir(folder).unwrap() {
            let stat = std::fs::read_to_string(entry.unwrap().path().join("stat")).unwrap();
            let (head, rest) = stat.rsplit_once(')').unwrap();
            let name = head.split_once('(').unwrap().1.to_owned();
            let fields: Vec<&str> = rest.split_whitespace().collect();
            let ticks: f64 = [11, 12]
                .iter()
                .map(|index| fields[*index].parse::<f64>().unwrap())
                .sum();
            *threads.entry(name).or_insert(0.0) += ticks / TICKS;
        }
        threads
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap()
    }

    /// Ends it.
    pub(crate) fn stop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop();
        if !self.is_kept {
            drop(std::fs::remove_dir_all(&self.folder));
        }
    }
}

fn serve(folder: &Path) -> (Child, SocketAddr) {
    let dist = std::env::var_os("TRACEMETER_DIST").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../dist"),
        PathBuf::from,
    );
    let addresses = folder.join("addresses.json");
    drop(std::fs::remove_file(&addresses));
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let child = Command::new(dist.join("collector"))
        .args(["serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .arg("--data")
        .arg(folder.join("data"))
        .arg("--addresses-file")
        .arg(&addresses)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("no collector in dist: run make build");
    let text = loop {
        if let Ok(text) = std::fs::read_to_string(&addresses)
            && text.contains('}')
        {
            break text;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let (_, rest) = text.split_once("\"http\":\"").unwrap();
    let http = rest.split('"').next().unwrap().parse().unwrap();
    (child, http)
}
