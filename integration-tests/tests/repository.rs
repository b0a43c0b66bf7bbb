//! What must hold of the repository itself: who may depend on whom, licences, and documents that
//! name only what exists.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("`{path}`: {error}"))
}

fn cargo(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn metadata() -> Value {
    let arguments = ["metadata", "--format-version", "1", "--locked", "--no-deps"];
    serde_json::from_slice(&cargo(&arguments)).unwrap()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

/// The quoted strings of one line of deny.toml.
fn strings(line: &str) -> Vec<&str> {
    line.split('"').skip(1).step_by(2).collect()
}

/// `crate -> crates that may depend on it directly`, from the `deny` list of deny.toml.
fn bans() -> BTreeMap<String, Vec<String>> {
    let deny = read("deny.toml");
    let rules = deny
        .lines()
        .filter(|line| line.trim_start().starts_with("{ crate ="));
    rules
        .map(|rule| {
            let name = strings(rule)[0].to_owned();
            let wrappers = rule
                .split("wrappers = [")
                .nth(1)
                .unwrap()
                .split(']')
                .next()
                .unwrap();
            (
                name,
                strings(wrappers).into_iter().map(str::to_owned).collect(),
            )
        })
        .collect()
}

#[test]
fn crates_depend_only_in_the_direction_that_deny_toml_allows() {
    let metadata = metadata();
    let bans = bans();
    assert!(
        bans.contains_key("proxy-wasm") && bans.contains_key("tokio"),
        "{bans:?}"
    );
    let members: Vec<&str> = metadata["workspace_members"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let mut broken = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        if !members.contains(&text(package, "id")) {
            continue;
        }
        for dependency in package["dependencies"].as_array().unwrap() {
            let (from, to) = (text(package, "name"), text(dependency, "name"));
            if bans
                .get(to)
                .is_some_and(|wrappers| !wrappers.iter().any(|allowed| allowed == from))
            {
                broken.push(format!("`{from}` must not depend on `{to}`"));
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn the_parser_has_no_dependency_at_all() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let parser = packages
        .iter()
        .find(|package| text(package, "name") == "w3c-traceparent-parser");
    let dependencies = parser.unwrap()["dependencies"].as_array().unwrap();
    let normal: Vec<_> = dependencies
        .iter()
        .filter(|dependency| dependency["kind"].is_null())
        .collect();
    assert!(normal.is_empty(), "{normal:?}");
}

/// Whether an SPDX expression can be met with the allowed licences.
fn licence_allowed(expression: &str, allowed: &[&str]) -> bool {
    let expression = expression.replace(['(', ')'], " ").replace('/', " OR ");
    // Every part joined by AND needs one allowed alternative; nesting deeper than that does not
    // occur in the registry's metadata.
    expression.split(" AND ").all(|part| {
        part.split(" OR ")
            .any(|licence| allowed.contains(&licence.trim()))
    })
}

#[test]
fn every_dependency_has_a_licence_that_deny_toml_allows() {
    let deny = read("deny.toml");
    let list = deny
        .split("allow = [")
        .nth(1)
        .unwrap()
        .split(']')
        .next()
        .unwrap();
    let allowed = strings(list);
    // What is compiled for the supported platform: others bring packages that nobody builds here.
    let platform = "x86_64-unknown-linux-gnu";
    let tree = cargo(&[
        "tree",
        "--locked",
        "--workspace",
        "--all-features",
        "--edges",
        "normal,build,dev",
        "--target",
        platform,
        "--prefix",
        "none",
        "--format",
        "{p}|{l}",
    ]);
    let packages: BTreeSet<String> = String::from_utf8(tree)
        .unwrap()
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| line.trim_end_matches(" (*)").to_owned())
        .collect();
    assert!(packages.len() > 50, "the tree lists every dependency");
    let refused: Vec<&String> = packages
        .iter()
        .filter(|line| !licence_allowed(line.rsplit('|').next().unwrap_or_default(), &allowed))
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn licence_expressions_are_read_as_spdx_means_them() {
    let allowed = ["MIT", "Apache-2.0"];
    assert!(licence_allowed("GPL-3.0 OR MIT", &allowed));
    assert!(licence_allowed("(MIT OR GPL-3.0) AND Apache-2.0", &allowed));
    assert!(licence_allowed("MIT/Apache-2.0", &allowed));
    assert!(!licence_allowed("MIT AND GPL-3.0", &allowed));
    assert!(!licence_allowed("", &allowed));
}

/// Paths that a document names in backticks or links: those with a slash and no spaces, wildcards,
/// placeholders or schemes.
fn named_paths(document: &str) -> Vec<String> {
    let outside_fences: String = document
        .split("```")
        .step_by(2)
        .collect::<Vec<_>>()
        .join("\n");
    let ticks = outside_fences.split('`').skip(1).step_by(2);
    let links = outside_fences
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let path_like = |text: &&str| {
        let first = text.split('/').next().unwrap_or_default();
        !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._/-#".contains(c))
            && !text.starts_with(['/', '#'])
            && (root().join(first).exists() && text.contains('/'))
    };
    let all = ticks.chain(links).filter(path_like);
    all.map(|text| text.split('#').next().unwrap_or_default().to_owned())
        .collect()
}

/// Built or written at run time, not part of the tree.
const MADE_LATER: [&str; 3] = ["dist/", "target/", "demo-data/"];

#[test]
fn documents_name_only_paths_that_exist() {
    let mut missing = Vec::new();
    let mut seen = 0;
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    ] {
        for path in named_paths(&read(document)) {
            seen += 1;
            let made_later = MADE_LATER.iter().any(|prefix| path.starts_with(prefix));
            if !made_later && !root().join(&path).exists() {
                missing.push(format!("{document}: `{path}`"));
            }
        }
    }
    assert!(seen > 10, "the documents name paths ({seen} found)");
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn the_architecture_names_every_crate() {
    let architecture = read("ARCHITECTURE.md");
    let manifest = read("Cargo.toml");
    let members = manifest
        .split("members = [")
        .nth(1)
        .unwrap()
        .split(']')
        .next()
        .unwrap();
    for member in strings(members) {
        assert!(
            architecture.contains(&format!("`{member}")),
            "`{member}` is missing"
        );
    }
}

#[test]
fn make_verbs_that_the_documents_use_exist() {
    let makefile = read("Makefile");
    for document in ["README.md", "CONTRIBUTING.md"] {
        let text = read(document);
        for verb in text.split("make ").skip(1) {
            let verb: String = verb
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '-')
                .collect();
            let in_code =
                text.contains(&format!("`make {verb}")) || text.contains(&format!("\nmake {verb}"));
            if in_code && !verb.is_empty() {
                assert!(
                    makefile.contains(&format!("\n{verb}:")),
                    "{document}: `make {verb}`"
                );
            }
        }
    }
}
