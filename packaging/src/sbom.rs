//! Bills of materials in CycloneDX 1.6, from what cargo says it compiles in.
//!
//! Components are the packages of `cargo tree` for the artefact's platform, without build tools and
//! tests; licences and the graph come from `cargo metadata`, checksums from Cargo.lock. The Rust
//! standard library and the toolchain are not listed. There is no time stamp, and the serial number
//! comes from the artefact's digest: equal artefacts have equal bills.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::digest::hex_sha256;
use crate::libraries::Library;

/// What a bill is about.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    /// The file's name.
    pub name: &'a str,
    /// The package that it is built from.
    pub package: &'a str,
    /// The platform that it is built for.
    pub target: &'a str,
    /// The file's bytes.
    pub bytes: &'a [u8],
    /// Shared libraries shipped with it.
    pub libraries: &'a [Library],
}

/// Name and version: how cargo's commands and the lock file name a package.
type Id = (String, String);

/// The bill, as JSON text.
///
/// # Errors
/// A cargo command fails, or says something that is not understood.
pub fn write(root: &Path, subject: &Subject<'_>) -> Result<String> {
    let compiled = compiled_in(root, subject)?;
    let metadata = metadata(root, subject.target)?;
    let checksums = checksums(root)?;
    let mut components = Vec::new();
    let mut version = String::new();
    for package in list(&metadata, "packages") {
        let id = id(package);
        if id.0 == subject.package {
            version = id.1;
        } else if compiled.contains(&id) {
            components.push(component(package, &id, checksums.get(&id)));
        }
    }
    // Several files of one package of the distribution are one component.
    let packages: BTreeSet<&Id> = subject
        .libraries
        .iter()
        .filter_map(|library| library.package.as_ref())
        .collect();
    components.extend(packages.into_iter().map(distribution_package));
    let hash = hex_sha256(subject.bytes);
    let own = format!("{}@{version}", subject.package);
    let bill = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": serial(&hash),
        "version": 1,
        "metadata": { "component": {
            "type": "application",
            "bom-ref": own,
            "name": subject.name,
            "version": version,
            "licenses": [{ "license": { "id": "Apache-2.0" } }],
            "hashes": [{ "alg": "SHA-256", "content": hash }],
        }},
        "components": components,
        "dependencies": graph(&metadata, &compiled, subject.package),
    });
    Ok(format!("{bill:#}\n"))
}

/// The packages in the artefact, by cargo's own resolution of features for this package alone.
fn compiled_in(root: &Path, subject: &Subject<'_>) -> Result<BTreeSet<Id>> {
    let arguments = [
        "tree",
        "--locked",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
        "--package",
        subject.package,
        "--target",
        subject.target,
    ];
    let text = cargo(root, &arguments)?;
    let packages = text.lines().filter_map(|line| {
        let (name, rest) = line.split_once(" v")?;
        Some((name.to_owned(), rest.split(' ').next()?.to_owned()))
    });
    Ok(packages.collect())
}

fn metadata(root: &Path, target: &str) -> Result<Value> {
    let arguments = [
        "metadata",
        "--locked",
        "--format-version",
        "1",
        "--filter-platform",
        target,
    ];
    serde_json::from_str(&cargo(root, &arguments)?).context("the answer of `cargo metadata`")
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<String> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root)
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("`cargo {}` failed: {}", arguments.join(" "), error.trim());
    }
    String::from_utf8(output.stdout).context("the answer of cargo is not text")
}

/// The SHA-256 of each registry package, as Cargo.lock pins it.
fn checksums(root: &Path) -> Result<BTreeMap<Id, String>> {
    let lock = fs::read_to_string(root.join("Cargo.lock")).context("cannot read `Cargo.lock`")?;
    let field = |block: &str, name: &str| {
        let start = format!("{name} = \"");
        let line = block.lines().find_map(|line| line.strip_prefix(&start))?;
        Some(line.trim_end_matches('"').to_owned())
    };
    let packages = lock.split("[[package]]").filter_map(|block| {
        let id = (field(block, "name")?, field(block, "version")?);
        Some((id, field(block, "checksum")?))
    });
    Ok(packages.collect())
}

fn list<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn id(package: &Value) -> Id {
    (
        text(package, "name").to_owned(),
        text(package, "version").to_owned(),
    )
}

fn reference((name, version): &Id) -> String {
    format!("{name}@{version}")
}

fn component(package: &Value, id: &Id, checksum: Option<&String>) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": reference(id),
        "name": id.0,
        "version": id.1,
        "purl": format!("pkg:cargo/{}@{}", id.0, id.1),
    });
    let Some(fields) = component.as_object_mut() else {
        return component;
    };
    // Old packages write a slash where SPDX has OR.
    let licence = text(package, "license").replace('/', " OR ");
    if !licence.is_empty() {
        fields.insert("licenses".to_owned(), json!([{ "expression": licence }]));
    }
    if let Some(checksum) = checksum {
        let hashes = json!([{ "alg": "SHA-256", "content": checksum }]);
        fields.insert("hashes".to_owned(), hashes);
    }
    component
}

fn distribution_package(id: &Id) -> Value {
    json!({
        "type": "library",
        "bom-ref": reference(id),
        "name": id.0,
        "version": id.1,
        "purl": format!("pkg:deb/debian/{}@{}", id.0, id.1),
    })
}

/// Which compiled-in package depends on which.
fn graph(metadata: &Value, compiled: &BTreeSet<Id>, own: &str) -> Vec<Value> {
    let ids: BTreeMap<&str, Id> = list(metadata, "packages")
        .map(|package| (text(package, "id"), id(package)))
        .filter(|(_, id)| compiled.contains(id) || id.0 == own)
        .collect();
    let nodes = metadata.get("resolve").unwrap_or(&Value::Null);
    let mut edges = BTreeMap::new();
    for node in list(nodes, "nodes") {
        let Some(from) = ids.get(text(node, "id")) else {
            continue;
        };
        let normal = |dependency: &&Value| {
            list(dependency, "dep_kinds").any(|kind| kind.get("kind").is_some_and(Value::is_null))
        };
        let to: BTreeSet<String> = list(node, "deps")
            .filter(normal)
            .filter_map(|dependency| ids.get(text(dependency, "pkg")))
            .map(reference)
            .collect();
        edges.insert(reference(from), to);
    }
    edges
        .into_iter()
        .map(|(from, to)| json!({ "ref": from, "dependsOn": to }))
        .collect()
}

/// A UUID in the shape of a name-based one (version 5), made of the artefact's digest.
fn serial(hash: &str) -> String {
    let part = |range: std::ops::Range<usize>| hash.get(range).unwrap_or_default();
    format!(
        "urn:uuid:{}-{}-5{}-8{}-{}",
        part(0..8),
        part(8..12),
        part(12..15),
        part(15..18),
        part(18..30)
    )
}
