//! The guides of docs/ do what they say: every command that is marked `runnable` runs here, in the
//! order of its page, in a folder of its own, against the artefacts; every test, file and verb that a
//! guide names exists.
//!
//! A page's well-known ports are replaced by free ones. Blocks marked `cluster` need Kubernetes and
//! are only read; blocks marked `make` name verbs of the Makefile.

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

use integration_tests::artefacts;
use integration_tests::ports::spare_port;

const GUIDES: [&str; 8] = [
    "quick-start",
    "images",
    "upgrade",
    "capacity",
    "security",
    "failure-modes",
    "troubleshooting",
    "compatibility",
];

/// Ports that the pages use; `9000 --bind 127.0.0.1` is one too.
const PORTS: [&str; 6] = ["4317", "4318", "5000", "8080", "9000", "9901"];

/// How long a page may take: servers start, ledgers are flushed.
const LIMIT_S: &str = "240";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join(format!("docs/{name}.md"))).unwrap()
}

/// Kind and text of every fenced block that is marked as shell.
fn blocks(page: &str) -> Vec<(String, String)> {
    let fenced = page.split("\n```").skip(1).step_by(2);
    fenced
        .filter_map(|block| {
            let (head, text) = block.split_once('\n')?;
            let mut words = head.split_whitespace();
            let is_shell = words.next()? == "sh";
            is_shell.then(|| (words.next().unwrap_or("").to_owned(), text.to_owned()))
        })
        .collect()
}

fn with_free_ports(script: &str) -> String {
    let mut script = script.to_owned();
    for (known, free) in PORTS.iter().map(|known| (known, spare_port())) {
        for (before, after) in [(":", ""), ("http.server ", " ")] {
            let from = format!("{before}{known}{after}");
            script = script.replace(&from, &format!("{before}{free}{after}"));
        }
    }
    script
}

/// A folder that looks like the repository, but into which a page may write.
fn workplace() -> tempfile::TempDir {
    let folder = tempfile::Builder::new()
        .prefix("tracemeter-guide-")
        .tempdir()
        .unwrap();
    for entry in fs::read_dir(root()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if name != "dist" && name != "target" && name != ".git" {
            std::os::unix::fs::symlink(entry.path(), folder.path().join(name)).unwrap();
        }
    }
    let dist = artefacts::images()
        .unwrap()
        .parent()
        .unwrap()
        .canonicalize()
        .unwrap();
    std::os::unix::fs::symlink(dist, folder.path().join("dist")).unwrap();
    folder
}

/// Runs the runnable blocks of a page as one script.
fn run(name: &str) {
    let runnable: String = blocks(&page(name))
        .into_iter()
        .filter(|(kind, _)| kind == "runnable")
        .map(|(_, text)| format!("{text}\n"))
        .collect();
    assert!(!runnable.is_empty(), "docs/{name}.md has nothing to run");
    let folder = workplace();
    let end = "trap 'kill $(jobs -p) 2>/dev/null || true; wait || true' EXIT";
    let script = format!("set -euo pipefail\n{end}\n{}", with_free_ports(&runnable));
    let file = folder.path().join("guide.sh");
    fs::write(&file, &script).unwrap();
    let tools = [
        artefacts::envoy().unwrap(),
        artefacts::debian_tool("promtool").unwrap(),
    ];
    let mut path: Vec<PathBuf> = tools
        .iter()
        .map(|tool| tool.parent().unwrap().canonicalize().unwrap())
        .collect();
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let output = Command::new("timeout")
        .args(["--kill-after=10", LIMIT_S, "bash", "guide.sh"])
        .current_dir(folder.path())
        .env("PATH", std::env::join_paths(path).unwrap())
        .output()
        .unwrap();
    let logs: String = [
        "collector.log",
        "envoy.log",
        "service.log",
        "registry.log",
        "new.log",
    ]
    .iter()
    .filter_map(|log| fs::read_to_string(folder.path().join(log)).ok())
    .collect();
    let tail: Vec<&str> = logs.lines().rev().take(30).collect();
    assert!(
        output.status.success(),
        "docs/{name}.md: {}\n{}\n{}\n{tail:#?}\n{script}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_quick_start_runs() {
    run("quick-start");
}

#[test]
fn images_can_be_pushed_and_verified_as_described() {
    run("images");
}

#[test]
fn an_upgrade_keeps_what_was_stored() {
    run("upgrade");
}

#[test]
fn capacity_can_be_looked_at() {
    run("capacity");
}

#[test]
fn troubleshooting_commands_run() {
    run("troubleshooting");
}

#[test]
fn every_command_of_a_guide_is_run_or_marked() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let mut seen = 0;
    for name in GUIDES {
        let text = page(name);
        for (kind, block) in blocks(&text) {
            seen += 1;
            match kind.as_str() {
                "runnable" | "cluster" => {}
                "make" => {
                    for line in block.lines() {
                        let verb = line.strip_prefix("make ").unwrap();
                        assert!(makefile.contains(&format!("\n{verb}:")), "{name}: `{line}`");
                    }
                }
                _ => panic!("docs/{name}.md: a block without runnable, cluster or make:\n{block}"),
            }
        }
        let indented = text.lines().any(|line| line.starts_with("    "));
        let fences = text.lines().filter(|line| line.starts_with("```")).count();
        assert!(fences % 2 == 0, "docs/{name}.md: a fence is open");
        assert!(
            !indented || fences > 0,
            "docs/{name}.md: commands outside of fences"
        );
    }
    assert!(seen > 15, "{seen}");
}

/// `folder/file.rs::name` in backticks.
#[test]
fn every_test_that_a_guide_names_exists() {
    let mut seen = 0;
    for name in GUIDES {
        let text = page(name);
        for word in text.split('`').skip(1).step_by(2) {
            let Some((file, test)) = word.split_once(".rs::") else {
                continue;
            };
            let source = fs::read_to_string(root().join(format!("{file}.rs")));
            let source = source.unwrap_or_else(|error| panic!("docs/{name}.md: `{word}`: {error}"));
            assert!(
                source.contains(&format!("fn {test}(")),
                "docs/{name}.md: `{word}`"
            );
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn every_file_that_a_guide_names_exists() {
    for name in GUIDES {
        let text = page(name);
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let path = link.split('#').next().unwrap();
            if path.contains("://") {
                continue;
            }
            assert!(
                root().join("docs").join(path).exists(),
                "docs/{name}.md: `{link}`"
            );
        }
    }
}

#[test]
fn metrics_that_guides_name_exist() {
    let filter = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let sources = root().join("collector/src");
    let parts = fs::read_dir(sources.join("metrics")).unwrap();
    let collector: String = parts
        .map(|part| part.unwrap().path())
        .chain(["metrics.rs", "alerts/show.rs"].map(|file| sources.join(file)))
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    for name in GUIDES {
        let text = page(name);
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '*');
        // The collector's cluster is no metric.
        let metrics = words.filter(|word| word.starts_with("tracemeter_"));
        for word in metrics.filter(|word| *word != "tracemeter_collector") {
            let known = match word.strip_prefix("tracemeter_collector_") {
                Some(own) => collector.contains(&format!("\"{own}\"")),
                None => filter.contains(word.split('*').next().unwrap()),
            };
            assert!(known, "docs/{name}.md: `{word}`");
        }
    }
}

#[test]
fn ports_are_replaced_and_nothing_else_is() {
    let script =
        with_free_ports("curl http://127.0.0.1:8080/x; python3 -m http.server 9000 -b\n9000");
    assert!(
        !script.contains("8080") && script.ends_with("\n9000"),
        "{script}"
    );
    assert!(!script.contains("server 9000"), "{script}");
}
