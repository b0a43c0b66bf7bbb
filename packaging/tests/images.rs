//! Images are functions of their content: same bytes, same digest, on every machine. What is in
//! them is read back by programs of others (tar, gzip).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use packaging::libraries::Library;
use packaging::{collector, filter, sha256};
use serde_json::Value;

/// The smallest module: magic and version.
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

fn json(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().unwrap();
    layout
        .join("blobs/sha256")
        .join(digest.strip_prefix("sha256:").unwrap())
}

/// The manifest by way of the index.
fn manifest(layout: &Path) -> Value {
    let index = json(&layout.join("index.json"));
    json(&blob(layout, &index["manifests"][0]))
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for name in ["index.json", "oci-layout"] {
        all.push((name.to_owned(), fs::read(folder.join(name)).unwrap()));
    }
    let mut blobs: Vec<_> = fs::read_dir(folder.join("blobs/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    blobs.sort();
    for path in blobs {
        all.push((
            path.file_name().unwrap().to_string_lossy().into(),
            fs::read(&path).unwrap(),
        ));
    }
    all
}

/// What GNU tar says of the layer, after gzip has opened it.
fn listing(layout: &Path) -> Vec<String> {
    let layer = blob(layout, &manifest(layout)["layers"][0]);
    let output = Command::new("tar")
        .args(["--numeric-owner", "--utc", "-tvzf"])
        .arg(&layer)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn two_runs_give_the_same_bytes_and_the_digest_is_that_of_the_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a"), folder.path().join("b"));
    let image = filter::image(MODULE.to_vec(), "1.2.3").unwrap();
    let digest = image.write(&first).unwrap();
    assert_eq!(digest, image.write(&second).unwrap());
    // Over an older image as well: nothing of it stays.
    filter::image([MODULE, &[0]].concat(), "1.2.3")
        .unwrap()
        .write(&second)
        .unwrap();
    image.write(&second).unwrap();
    assert_eq!(files(&first), files(&second));
    let index = json(&first.join("index.json"));
    assert_eq!(index["manifests"][0]["digest"], digest.as_str());
    for (name, bytes) in files(&first).into_iter().skip(2) {
        assert_eq!(sha256(&bytes), format!("sha256:{name}"));
    }
}

/// A digest that changes without a reason breaks everybody who has pinned an image: this one was
/// computed once and holds on every machine.
#[test]
fn the_image_of_a_known_module_has_a_known_digest() {
    let folder = tempfile::tempdir().unwrap();
    let module = [MODULE, &[7; 4_096]].concat();
    let digest = filter::image(module, "1.2.3").unwrap().write(folder.path());
    assert_eq!(
        digest.unwrap(),
        "sha256:c46b07617a68f154337194676332d622f0f6bee4d7578ff04e5c9f2bb88035f4"
    );
}

#[test]
fn the_filter_image_is_what_istio_accepts_as_compat() {
    let folder = tempfile::tempdir().unwrap();
    let image = filter::image(MODULE.to_vec(), "1.2.3").unwrap();
    image.write(folder.path()).unwrap();
    let manifest = manifest(folder.path());
    assert_eq!(
        manifest["mediaType"],
        "application/vnd.oci.image.manifest.v1+json"
    );
    assert_eq!(
        manifest["annotations"]["module.wasm.image/variant"],
        "compat"
    );
    let layers = manifest["layers"].as_array().unwrap();
    let last = layers.last().unwrap();
    assert_eq!(
        last["mediaType"],
        "application/vnd.oci.image.layer.v1.tar+gzip"
    );
    assert_eq!(
        listing(folder.path()),
        ["-rw-r--r-- 0/0 8 1970-01-01 00:00 plugin.wasm"]
    );
    let config = json(&blob(folder.path(), &manifest["config"]));
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_no_module_is_refused() {
    let error = filter::image(b"<html>".to_vec(), "1.2.3").unwrap_err();
    assert!(
        error.to_string().contains("not a WebAssembly module"),
        "{error}"
    );
}

#[test]
fn the_collector_image_has_the_program_its_libraries_and_a_folder_it_may_write() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libexample.so.1");
    fs::write(&library, b"library").unwrap();
    let libraries = [Library {
        path: library.clone(),
        package: None,
    }];
    let layout = folder.path().join("layout");
    let image = collector::image(b"program".to_vec(), &libraries, "1.2.3").unwrap();
    image.write(&layout).unwrap();
    let listing = listing(&layout);
    let has = |line: &str| {
        assert!(
            listing.iter().any(|one| one == line),
            "`{line}`: {listing:#?}"
        )
    };
    has("-rwxr-xr-x 0/0 7 1970-01-01 00:00 usr/local/bin/collector");
    has("drwxr-xr-x 65532/65532 0 1970-01-01 00:00 var/lib/tracemeter/");
    has("drwxrwxrwt 0/0 0 1970-01-01 00:00 tmp/");
    let inside = library.to_string_lossy();
    has(&format!(
        "-rwxr-xr-x 0/0 7 1970-01-01 00:00 {}",
        inside.trim_start_matches('/')
    ));
    let config = json(&blob(&layout, &manifest(&layout)["config"]));
    assert_eq!(config["config"]["User"], "65532:65532");
    assert!(
        config.get("created").is_none(),
        "a time would change the digest: {config}"
    );
}
