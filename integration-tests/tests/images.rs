//! The images and bills of materials of `make image`, through programs of others: skopeo reads them,
//! a real registry takes them and gives them back, the collector starts from its own, and a
//! validator checks the bills against CycloneDX's schema.
//!
//! Not Istio's agent: its rules (last layer, gzip, base name, magic) are applied here by hand.

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

use anyhow::Result;
use integration_tests::artefacts;
use integration_tests::client::{Call, Client, Protocol};
use integration_tests::process::Process;
use integration_tests::wait::{self, PATIENCE};
use serde_json::Value;
use tempfile::TempDir;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("`{program}`: {error} (make setup)"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec())
        .unwrap()
        .trim()
        .to_owned()
}

/// The digest that the file beside the layout names.
fn digest(name: &str) -> String {
    let file = artefacts::images().unwrap().join(format!("{name}.digest"));
    fs::read_to_string(file).unwrap().trim().to_owned()
}

/// How skopeo names a layout of ours.
fn layout(name: &str) -> String {
    format!(
        "oci:{}:{VERSION}",
        artefacts::images().unwrap().join(name).display()
    )
}

fn inspect(reference: &str) -> String {
    let arguments = [
        "inspect",
        "--tls-verify=false",
        "--format",
        "{{.Digest}}",
        reference,
    ];
    text(&run("skopeo", &arguments))
}

/// The last layer of an image that skopeo wrote as a plain folder (`dir:`).
fn last_layer(folder: &Path) -> (String, PathBuf) {
    let manifest: Value =
        serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    let layer = manifest["layers"].as_array().unwrap().last().unwrap();
    let digest = layer["digest"].as_str().unwrap();
    let file = folder.join(digest.strip_prefix("sha256:").unwrap());
    (layer["mediaType"].as_str().unwrap().to_owned(), file)
}

#[test]
fn the_digest_files_name_what_skopeo_computes() {
    for name in ["filter", "collector"] {
        assert_eq!(inspect(&layout(name)), digest(name), "{name}");
    }
}

/// A registry on a free port of the loopback; its data goes with it.
struct Registry {
    _process: Process,
    address: String,
    folder: TempDir,
}

impl Registry {
    async fn start() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("tracemeter-registry-")
            .tempdir()?;
        let configuration = folder.path().join("registry.yml");
        let data = folder.path().join("data");
        fs::write(
            &configuration,
            format!(
                "version: 0.1\nlog: {{level: info}}\n\
                 storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:0\"}}\n",
                data.display()
            ),
        )?;
        let program = artefacts::debian_tool("docker-registry")?;
        let arguments = [Path::new("serve"), &configuration];
        let mut process = Process::start("registry", &program, arguments, folder.path())?;
        let address = wait::until("the registry's address", PATIENCE, async || {
            process.check_alive()?;
            let output = process.output();
            let address = output.split("listening on ").nth(1);
            Ok(address
                .and_then(|rest| rest.split('"').next())
                .map(str::to_owned))
        })
        .await?;
        Ok(Self {
            _process: process,
            address,
            folder,
        })
    }
}

#[tokio::test]
async fn a_registry_gives_back_the_image_that_istio_can_read() {
    let registry = Registry::start().await.unwrap();
    let remote = format!("docker://{}/tracemeter/filter:{VERSION}", registry.address);
    run(
        "skopeo",
        &[
            "copy",
            "--dest-tls-verify=false",
            &layout("filter"),
            &remote,
        ],
    );
    assert_eq!(
        inspect(&remote),
        digest("filter"),
        "what a CR pins by `sha256`"
    );

    // Pulled by its digest, as a pinned reference would be.
    let pinned = format!(
        "docker://{}/tracemeter/filter@{}",
        registry.address,
        digest("filter")
    );
    let pulled = registry.folder.path().join("pulled");
    let target = format!("dir:{}", pulled.display());
    run(
        "skopeo",
        &["copy", "--src-tls-verify=false", &pinned, &target],
    );
    let (media_type, layer) = last_layer(&pulled);
    assert_eq!(media_type, "application/vnd.oci.image.layer.v1.tar+gzip");
    let layer = layer.to_string_lossy();
    let names = text(&run("tar", &["-tzf", &layer]));
    let plugin = names.lines().find(|name| {
        Path::new(name)
            .file_name()
            .is_some_and(|base| base == "plugin.wasm")
    });
    let module = run("tar", &["-xzOf", &layer, plugin.unwrap()]);
    assert!(module.starts_with(b"\0asm\x01\0\0\0"));
    assert_eq!(module, fs::read(artefacts::module().unwrap()).unwrap());
}

#[tokio::test]
async fn a_registry_gives_back_the_collector_with_the_same_digest() {
    let registry = Registry::start().await.unwrap();
    let remote = format!(
        "docker://{}/tracemeter/collector:{VERSION}",
        registry.address
    );
    run(
        "skopeo",
        &[
            "copy",
            "--dest-tls-verify=false",
            &layout("collector"),
            &remote,
        ],
    );
    assert_eq!(inspect(&remote), digest("collector"));
}

/// `chroot` into `root` as the image's user; without root privileges as the only user of a name
/// space of its own.
fn inside(root: &Path, user: &str) -> (PathBuf, Vec<String>) {
    let root = root.display().to_string();
    if rustix::process::geteuid().is_root() {
        let arguments = vec![format!("--userspec={user}"), root];
        return ("/usr/sbin/chroot".into(), arguments);
    }
    let arguments = ["--map-root-user", "/usr/sbin/chroot"].map(str::to_owned);
    (
        "/usr/bin/unshare".into(),
        arguments.into_iter().chain([root]).collect(),
    )
}

#[tokio::test]
async fn the_collector_starts_from_its_image_alone_without_root() {
    let folder = tempfile::Builder::new()
        .prefix("tracemeter-rootfs-")
        .tempdir()
        .unwrap();
    let copy = folder.path().join("image");
    run(
        "skopeo",
        &[
            "copy",
            &layout("collector"),
            &format!("dir:{}", copy.display()),
        ],
    );
    let (_, layer) = last_layer(&copy);
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    let root_text = root.to_string_lossy();
    run(
        "tar",
        &[
            "-xpzf",
            &layer.to_string_lossy(),
            "--numeric-owner",
            "-C",
            &root_text,
        ],
    );
    let reference = layout("collector");
    let config = run("skopeo", &["inspect", "--config", &reference]);
    let config: Value = serde_json::from_slice(&config).unwrap();
    let config = &config["config"];
    let words = |key: &str| -> Vec<String> {
        let list = config[key].as_array().unwrap().iter();
        list.map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let (program, mut arguments) = inside(&root, config["User"].as_str().unwrap());
    arguments.extend(words("Entrypoint"));
    arguments.extend(words("Cmd"));
    let addresses = "/var/lib/tracemeter/addresses.json";
    for (name, value) in [
        ("--grpc", "127.0.0.1:0"),
        ("--http", "127.0.0.1:0"),
        ("--addresses-file", addresses),
    ] {
        arguments.extend([name.to_owned(), value.to_owned()]);
    }
    let mut process = Process::start("collector", &program, arguments, folder.path()).unwrap();
    let file = root.join(addresses.trim_start_matches('/'));
    let text = wait::until("the collector's addresses", PATIENCE, async || {
        process.check_alive()?;
        Ok(fs::read_to_string(&file).ok())
    });
    let json: Value = serde_json::from_str(&text.await.unwrap()).unwrap();
    let client = Client::new(json["http"].as_str().unwrap().parse().unwrap());
    let reply = client
        .send(Call::new(Protocol::Http1, "collector", "/metrics"))
        .await
        .unwrap();
    assert_eq!(reply.status, 200);
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let user = status
        .lines()
        .find(|line| line.starts_with("Uid:"))
        .unwrap();
    assert!(!user.split_whitespace().any(|id| id == "0"), "{user}");
}

#[test]
fn bills_of_materials_are_valid_and_name_what_is_compiled_in() {
    let images = artefacts::images().unwrap();
    let check = "import sys\n\
        from cyclonedx.schema import SchemaVersion\n\
        from cyclonedx.validation.json import JsonStrictValidator\n\
        found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())\n\
        sys.exit(str(found)[-2000:] if found else 0)";
    let python = artefacts::python().unwrap();
    for (name, artefact, inside, outside) in [
        ("filter", "tracemeter.wasm", "proxy-wasm", "tokio"),
        ("collector", "collector", "datafusion", "proxy-wasm"),
    ] {
        let file = images.join(format!("{name}.cdx.json"));
        run(
            &python.to_string_lossy(),
            &["-c", check, &file.to_string_lossy()],
        );
        let bill: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let components = bill["components"].as_array().unwrap();
        let has = |name: &str| components.iter().any(|component| component["name"] == name);
        assert!(has(inside) && !has(outside), "{name}");
        let sum = run(
            "sha256sum",
            &[&images.join("..").join(artefact).to_string_lossy()],
        );
        let sum = text(&sum);
        let hash = bill["metadata"]["component"]["hashes"][0]["content"]
            .as_str()
            .unwrap();
        assert!(
            sum.starts_with(hash),
            "{name}: the bill is about the artefact beside it"
        );
        let unlicensed: Vec<&Value> = components
            .iter()
            .filter(|component| {
                component["purl"]
                    .as_str()
                    .unwrap()
                    .starts_with("pkg:cargo/")
            })
            .filter(|component| component["licenses"].is_null())
            .collect();
        assert!(unlicensed.is_empty(), "{unlicensed:?}");
    }
}
