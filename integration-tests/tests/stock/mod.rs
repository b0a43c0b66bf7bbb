//! Python's `opentelemetry-proto` as a second opinion on what the filter sends.
//!
//! It is installed once into `py-venv` of the cache. There is no quiet way out: without Python, its
//! `venv` or the package the test fails and says what to do.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use integration_tests::artefacts::CACHE_VARIABLE;
use serde_json::Value;

use crate::deltas::Body;

/// The version that is installed; any since 1.0 has these messages.
const PACKAGE: &str = "opentelemetry-proto==1.38.0";

const SCRIPT: &str = include_str!("read_otlp.py");

const HELP: &str = "the stock decoder needs python3 with venv and pip (Debian: apt-get install \
    python3-venv) and, once, the Python package index";

/// What the decoder makes of the bodies.
pub(crate) fn read(spans: &[Body], metrics: &[Body]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    for (kind, bodies) in [("spans", spans), ("metrics", metrics)] {
        for (index, body) in bodies.iter().enumerate() {
            let gzip = if body.gzip { ".gz" } else { "" };
            let name = format!("{kind}-{index:03}.bin{gzip}");
            std::fs::write(folder.path().join(name), &body.bytes).unwrap();
        }
    }
    let mut command = Command::new(python());
    command.args(["-c", SCRIPT]).arg(folder.path());
    let output = run(&mut command);
    serde_json::from_str(&output).unwrap()
}

/// A Python that has the package.
fn python() -> PathBuf {
    let venv = cache().join("py-venv");
    let python = venv.join("bin/python");
    let has_package = |python: &Path| {
        let check = Command::new(python)
            .args([
                "-c",
                "import opentelemetry.proto.collector.metrics.v1.metrics_service_pb2",
            ])
            .output();
        check.is_ok_and(|output| output.status.success())
    };
    if !has_package(&python) {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        let install = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            PACKAGE,
        ];
        run(Command::new(&python).args(install));
    }
    python
}

fn cache() -> PathBuf {
    let own = env::var_os(CACHE_VARIABLE).map(PathBuf::from);
    let of_user = || {
        let caches = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || Path::new(&env::var_os("HOME").expect("`HOME` is not set")).join(".cache");
        caches.unwrap_or_else(home).join("tracemeter")
    };
    own.unwrap_or_else(of_user)
}

fn run(command: &mut Command) -> String {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}: {HELP}"));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaints}\n{HELP}");
    String::from_utf8(output.stdout).unwrap()
}
