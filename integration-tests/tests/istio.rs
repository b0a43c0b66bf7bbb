//! The sample manifests of istio/ are what `mesh-config render istio` prints, byte for byte, and
//! the configuration inside them keeps the rules of a filter that must not take a mesh down.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use integration_tests::artefacts;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn manifests() -> Vec<PathBuf> {
    let files = std::fs::read_dir(root().join("istio"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect()
}

#[test]
fn sample_manifests_are_what_the_command_renders() {
    let mesh_config = artefacts::mesh_config().unwrap();
    let manifests = manifests();
    assert!(manifests.len() >= 4, "{manifests:?}");
    for path in manifests {
        let output = Command::new(root().join("scripts/istio.sh"))
            .arg(&mesh_config)
            .arg(path.file_name().unwrap())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let written = std::fs::read(&path).unwrap();
        assert!(
            written == output.stdout,
            "`{}` differs: run `make docs`",
            path.display()
        );
    }
}

#[test]
fn manifests_hold_to_the_rules_that_keep_a_mesh_up() {
    for path in manifests() {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            !text.contains("FAIL_CLOSE"),
            "a filter must not take traffic down: {path:?}"
        );
        assert!(!text.contains(":latest"), "{path:?}");
        assert!(
            !text.contains('&') || !text.contains("*default"),
            "no YAML anchors: {path:?}"
        );
        if text.contains("kind: EnvoyFilter") {
            assert!(text.contains("google.protobuf.StringValue"), "{path:?}");
            assert!(text.contains("priority: 10"), "{path:?}");
        }
    }
}
