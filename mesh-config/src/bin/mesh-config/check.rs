//! `mesh-config check`: every problem of every file, with place, path, value and what is allowed.

use crate::args::Args;
use crate::output::{self, Failure};

pub(crate) const HELP: &str = "\
usage: mesh-config check FILE..

Checks policy files (YAML, JSON with the ending `.json`; `-` is standard input). Each file stands
for itself. Problems are printed to standard error, one line `file:line:column: error: path: text`
each; warnings do not fail the check.
";

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if args.rest.is_empty() {
        return Err(Failure::Usage(
            "no file given; see `mesh-config check --help`".to_owned(),
        ));
    }
    let mut refused = 0;
    for path in &args.rest {
        match output::load(path) {
            Ok(loaded) => {
                for mut found in loaded.warnings {
                    path.clone_into(&mut found.file);
                    output::diagnostic(&found);
                }
                let fine = output::paint("ok", "32", &std::io::stdout());
                output::print(&format!("{path}: {fine}\n"))?;
            }
            Err(Failure::Policy) => refused += 1,
            Err(other) => return Err(other),
        }
    }
    if refused > 0 {
        Err(Failure::Policy)
    } else {
        Ok(())
    }
}
