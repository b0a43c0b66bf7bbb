//! The table of policy files. Each file under `policies/` says in its first comment lines which
//! problems it has: `# error: LINE:COLUMN: path: message` and `# warning: ..`, all of them, in
//! order. Files in `valid/` have no errors, files in `invalid/` at least one.

#![cfg(feature = "yaml")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::{Path, PathBuf};

use mesh_config::{Diagnostic, Policy, Severity};

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/policies")
        .join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() > 5, "the table is there");
    files
}

fn expected(text: &str) -> Vec<String> {
    let is_problem = |line: &str| line.starts_with("error: ") || line.starts_with("warning: ");
    let lines = text.lines().map_while(|line| line.strip_prefix("# "));
    lines
        .filter(|line| is_problem(line))
        .map(str::to_owned)
        .collect()
}

fn shown(found: &Diagnostic) -> String {
    let Diagnostic {
        severity,
        line,
        column,
        path,
        message,
        ..
    } = found;
    let path = if path.is_empty() {
        String::new()
    } else {
        format!("{path}: ")
    };
    format!("{}: {line}:{column}: {path}{message}", severity.as_str())
}

fn problems(path: &Path, text: &str) -> (bool, Vec<String>) {
    let loaded = if path.extension().is_some_and(|ending| ending == "json") {
        Policy::from_json(text.as_bytes())
    } else {
        Policy::from_yaml(text, "file")
    };
    match loaded {
        Ok(loaded) => (true, loaded.warnings.iter().map(shown).collect()),
        Err(problems) => {
            assert!(
                problems
                    .iter()
                    .any(|found| found.severity == Severity::Error)
            );
            (false, problems.iter().map(shown).collect())
        }
    }
}

fn run(folder: &str, fine: bool) {
    let mut wrong = Vec::new();
    for path in files(folder) {
        let text = std::fs::read_to_string(&path).unwrap();
        // JSON has no comments: what is expected stands in a file beside it.
        if path.extension().is_some_and(|ending| ending == "txt") {
            continue;
        }
        let notes = std::fs::read_to_string(path.with_extension("txt")).unwrap_or_default();
        let wanted = if notes.is_empty() {
            expected(&text)
        } else {
            expected(&notes)
        };
        let (loaded, found) = problems(&path, &text);
        if loaded != fine || found != wanted {
            wrong.push(format!(
                "{}: loaded: {loaded}\n  found:\n    # {}\n  expected:\n    # {}",
                path.display(),
                found.join("\n    # "),
                wanted.join("\n    # ")
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn valid_files_load_with_exactly_their_warnings() {
    run("valid", true);
}

#[test]
fn invalid_files_are_refused_with_exactly_their_problems() {
    run("invalid", false);
}

#[test]
fn help_names_the_nearest_key_and_all_allowed_ones() {
    let errors = Policy::from_yaml("sampling:\n  defualt_rate: 1\n", "p.yaml").unwrap_err();
    let text = errors.to_string();
    assert!(
        text.starts_with("p.yaml:2:3: error: sampling: unknown key `defualt_rate`\n"),
        "{text}"
    );
    assert!(
        text.contains("did you mean `default_rate`? allowed here: `default_rate`, "),
        "{text}"
    );
}

#[test]
fn conditions_are_marked_with_a_caret() {
    let policy = "sampling: {critical_flows: ['url.path = /pay and eror']}";
    let text = Policy::from_yaml(policy, "p.yaml").unwrap_err().to_string();
    let marked = "\n    url.path = /pay and eror\n                        ^^^^";
    assert!(text.ends_with(marked), "{text}");
}

#[test]
fn problems_are_bounded() {
    let lines: String = (0..1000)
        .map(|index| format!("  key{index}: 1\n"))
        .collect();
    let errors = Policy::from_yaml(&format!("sampling:\n{lines}"), "").unwrap_err();
    assert_eq!(errors.iter().count(), 100);
}
