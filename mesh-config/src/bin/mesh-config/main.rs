//! The `mesh-config` command: checks a policy, explains a decision, compares two policies, and
//! renders what runs them.
//!
//! Exit codes: 0 fine, 1 the policy (or what was compared) is not, 2 the command line is wrong or
//! a file cannot be read. Results go to standard output, everything else to standard error;
//! colour only on a terminal without `NO_COLOR`.

mod args;
mod check;
mod diff;
mod explain;
mod output;
mod render;

use std::process::ExitCode;

use crate::args::Args;
use crate::output::Failure;

const HELP: &str = "\
mesh-config: one policy for a metered mesh

usage: mesh-config COMMAND [OPTIONS]

commands:
  check FILE..       check policy files (`-` is standard input)
  explain            say what a policy does with a request, and why
  diff OLD NEW       say what changes for which traffic
  render envoy       print a complete Envoy configuration
  render filter      print the filter's configuration as a file that Envoy watches
  render istio       print Istio resources
  render json        print the filter's plugin configuration
  docs               print the reference of every option (Markdown)
  schema             print the JSON Schema of a policy
  help [COMMAND]     print help

exit codes: 0 fine; 1 the policy is not; 2 wrong command line or unreadable file
`mesh-config COMMAND --help` lists the options of a command.
";

const DOCS_HELP: &str = "\
usage: mesh-config docs

Prints the reference of every option, of the rule language and of the reasons (Markdown).
";

const SCHEMA_HELP: &str = "\
usage: mesh-config schema

Prints the JSON Schema (draft 2020-12) of a policy. Editors with a YAML language server take it from
a first line `# yaml-language-server: $schema=tracemeter.schema.json`.
";

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if words.is_empty() {
        output::complain(HELP);
        return ExitCode::from(2);
    }
    let command = words.remove(0);
    match run(&command, words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Policy) => ExitCode::from(1),
        Err(Failure::Usage(message)) => {
            output::error(&message);
            ExitCode::from(2)
        }
        // The reader went away (`mesh-config docs | head`): nobody is left to be told.
        Err(Failure::ClosedPipe) => ExitCode::SUCCESS,
    }
}

fn run(command: &str, words: Vec<String>) -> Result<(), Failure> {
    match command {
        "check" => check::run(&Args::parse(words, check::HELP, &[], &[])?),
        "diff" => diff::run(&Args::parse(words, diff::HELP, diff::OPTIONS, &[])?),
        "explain" => explain::run(&Args::parse(
            words,
            explain::HELP,
            explain::OPTIONS,
            explain::SWITCHES,
        )?),
        "render" => render::run(words),
        "docs" => {
            Args::parse(words, DOCS_HELP, &[], &[])?.no_rest()?;
            output::print(&mesh_config::docs::reference())
        }
        "schema" => {
            Args::parse(words, SCHEMA_HELP, &[], &[])?.no_rest()?;
            output::print(&mesh_config::docs::schema())
        }
        "help" | "--help" | "-h" => match words.first() {
            Some(topic) if topic != "help" => run(topic, vec!["--help".to_owned()]),
            _ => output::print(HELP),
        },
        "--version" | "-V" | "version" => {
            output::print(concat!("mesh-config ", env!("CARGO_PKG_VERSION"), "\n"))
        }
        other => Err(Failure::Usage(format!(
            "unknown command `{other}`; `mesh-config help` lists the commands"
        ))),
    }
}
