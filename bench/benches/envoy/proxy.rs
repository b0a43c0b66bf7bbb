//! A running Envoy: its processor time, its memory, its address.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long Envoy may take to serve, ten of them starting at once.
const READINESS: Duration = Duration::from_secs(60);

/// Killed when dropped, and when this process dies.
pub(crate) struct Proxy {
    child: Child,
    folder: PathBuf,
    address: Option<SocketAddr>,
}

impl Proxy {
    /// Starts one; [`Proxy::wait`] says when it serves.
    pub(crate) fn start(configuration: &str, folder: PathBuf, workers: u32) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("envoy.yaml");
        fs::write(&file, configuration).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(binary())
            .args([
                "--concurrency",
                &workers.to_string(),
                "--disable-hot-restart",
                "--log-level",
                "warning",
            ])
            .arg("--config-path")
            .arg(&file)
            .arg("--admin-address-path")
            .arg(folder.join("admin"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("setpriv of util-linux starts Envoy");
        Self {
            child,
            folder,
            address: None,
        }
    }

    /// Waits until it serves.
    pub(crate) fn wait(&mut self) {
        let began = Instant::now();
        while self.address.is_none() {
            let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "Envoy ended: {}", log());
            assert!(
                began.elapsed() < READINESS,
                "Envoy does not serve: {}",
                log()
            );
            thread::sleep(Duration::from_millis(50));
            let Ok(admin) = fs::read_to_string(self.folder.join("admin")) else {
                continue;
            };
            let Ok(admin) = admin.trim().parse() else {
                continue;
            };
            // `measured::127.0.0.1:4711`; workers listen once the state is LIVE.
            if get(admin, "/ready").contains("LIVE") {
                let listeners = get(admin, "/listeners");
                let found = listeners
                    .lines()
                    .find_map(|line| line.strip_prefix("measured::"));
                self.address = found.and_then(|text| text.trim().parse().ok());
            }
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address.unwrap()
    }

    /// Processor time of all its threads so far, nanoseconds.
    pub(crate) fn cpu_nanos(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let times = tasks.filter_map(|task| {
            let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        times.sum()
    }

    /// Resident memory, MiB.
    pub(crate) fn resident_mib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: f64 = line
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        kib / 1024.0
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(admin: SocketAddr, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(admin) else {
        return String::new();
    };
    let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    let mut text = String::new();
    let _ = stream.write_all(request.as_bytes());
    let _ = stream.read_to_string(&mut text);
    text
}

fn cache() -> PathBuf {
    let own = std::env::var_os("TRACEMETER_CACHE").map(PathBuf::from);
    own.unwrap_or_else(|| Path::new(&std::env::var_os("HOME").unwrap()).join(".cache/tracemeter"))
}

fn binary() -> PathBuf {
    let own = std::env::var_os("TRACEMETER_ENVOY").map(PathBuf::from);
    let path = own.unwrap_or_else(|| cache().join("envoy-venv/bin/envoy"));
    assert!(
        path.is_file(),
        "no Envoy at {}: run make setup",
        path.display()
    );
    path
}

/// The shipped module.
pub(crate) fn module() -> PathBuf {
    let own = std::env::var_os("TRACEMETER_DIST").map(PathBuf::from);
    let dist = own.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist"));
    let path = dist.join("tracemeter.wasm");
    assert!(path.is_file(), "no {}: run make build", path.display());
    path.canonicalize().unwrap()
}
