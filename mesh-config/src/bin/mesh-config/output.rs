//! Standard output and standard error, colour on a terminal, and how a run can fail.

use std::io::{IsTerminal, Read, Write};

use mesh_config::{Diagnostic, Loaded, Policy, Severity};

/// Why a run did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The policy is refused, or differs; everything has been said.
    Policy,
    /// The command line is wrong or a file cannot be read.
    Usage(String),
    /// Standard output was closed.
    ClosedPipe,
}

/// Writes a result.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|_| Failure::ClosedPipe)
}

/// Writes to standard error; when that is closed there is nobody to tell.
pub(crate) fn complain(text: &str) {
    let _closed = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Writes an error line.
pub(crate) fn error(message: &str) {
    complain(&format!(
        "{}: {message}\n",
        paint("error", "31", &std::io::stderr())
    ));
}

/// Puts `text` in a colour when `stream` is a terminal.
pub(crate) fn paint(text: &str, colour: &str, stream: &impl IsTerminal) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if stream.is_terminal() && !plain {
        format!("\u{1b}[1;{colour}m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}

/// Writes a problem of a policy.
pub(crate) fn diagnostic(found: &Diagnostic) {
    let (word, colour) = match found.severity {
        Severity::Error => ("error", "31"),
        Severity::Warning => ("warning", "33"),
    };
    let painted = format!("{}: ", paint(word, colour, &std::io::stderr()));
    let text = found
        .to_string()
        .replacen(&format!("{word}: "), &painted, 1);
    complain(&format!("{text}\n"));
}

/// The text of a file; `-` is standard input.
pub(crate) fn read(path: &str) -> Result<String, Failure> {
    let read = if path == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    read.map_err(|error| Failure::Usage(format!("cannot read `{path}`: {error}")))
}

/// Loads a policy and says what is wrong with it. A file that begins with `{` and is named
/// `.json` is read as JSON, which gives better messages for it.
pub(crate) fn load(path: &str) -> Result<Loaded, Failure> {
    let text = read(path)?;
    let name = if path == "-" { "standard input" } else { path };
    let loaded = if path.ends_with(".json") {
        Policy::from_json(text.as_bytes())
    } else {
        Policy::from_yaml(&text, name)
    };
    match loaded {
        Ok(loaded) => Ok(loaded),
        Err(problems) => {
            for mut found in problems.into_vec() {
                name.clone_into(&mut found.file);
                diagnostic(&found);
            }
            Err(Failure::Policy)
        }
    }
}

/// Loads a policy for another command: warnings are `check`'s business.
pub(crate) fn load_quietly(path: Option<&str>) -> Result<Policy, Failure> {
    match path {
        Some(path) => load(path).map(|loaded| loaded.policy),
        None => Ok(Policy::default()),
    }
}
