//! A real S3-compatible server process, `s3s-fs`, over a folder.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const KEY: &str = "tracemeter-test";
pub(crate) const SECRET: &str = "not a secret";
pub(crate) const BUCKET: &str = "traces";

/// A running server; killed when dropped.
pub(crate) struct S3Server {
    child: Child,
    pub(crate) port: u16,
    root: PathBuf,
}

/// Where `make setup` put the server.
fn program() -> PathBuf {
    let named = std::env::var_os("TRACEMETER_S3_SERVER").map(PathBuf::from);
    let cached = |folder: &str| PathBuf::from(folder).join("tools/bin/s3s-fs");
    let folder = std::env::var("TRACEMETER_CACHE").ok();
    let home = std::env::var("HOME").unwrap_or_default();
    let known = [
        named,
        folder.map(|folder| cached(&folder)),
        Some(cached(&format!("{home}/.cache/tracemeter"))),
    ];
    let found = known.into_iter().flatten().find(|path| path.is_file());
    found.expect("the S3 server of the tests is missing: run scripts/setup.sh")
}

impl S3Server {
    /// Starts a server with an empty bucket over `dir`; port 0 lets it choose.
    pub(crate) fn start(dir: &Path, port: u16) -> Self {
        let root = dir.join("s3");
        std::fs::create_dir_all(root.join(BUCKET)).unwrap();
        let log = dir.join("s3.log");
        let output = std::fs::File::create(&log).unwrap();
        let mut child = Command::new(program())
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .args(["--access-key", KEY, "--secret-key", SECRET])
            .arg(&root)
            .env("RUST_LOG", "s3s_fs=info")
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let start = Instant::now();
        let port = loop {
            let text = std::fs::read_to_string(&log).unwrap();
            let address = text.split("http://127.0.0.1:").nth(1);
            // The whole line has been written.
            let port = address.and_then(|rest| rest.split_once('\n'));
            if let Some((port, _)) = port {
                break port.trim().parse().unwrap();
            }
            assert!(
                start.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none(),
                "the S3 server does not start: {text}"
            );
            std::thread::sleep(Duration::from_millis(5));
        };
        Self { child, port, root }
    }

    /// The policy's `url` of a tier in this server.
    pub(crate) fn url(&self) -> String {
        url(self.port)
    }

    /// Keys of all objects.
    pub(crate) fn objects(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.root.join(BUCKET)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|end| end == "parquet") {
                    let key = path.strip_prefix(self.root.join(BUCKET)).unwrap();
                    found.push(key.to_str().unwrap().to_owned());
                }
            }
        }
        found.sort();
        found
    }
}

/// The policy's `url` of a tier behind a port.
pub(crate) fn url(port: u16) -> String {
    format!("s3://{BUCKET}/t?endpoint=http://127.0.0.1:{port}&region=us-east-1")
}

impl Drop for S3Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
