//! The command line of one command: options with a value, switches, and what is left over.

use crate::output::{self, Failure};

/// What was given.
#[derive(Debug, Default)]
pub(crate) struct Args {
    values: Vec<(String, String)>,
    switches: Vec<String>,
    /// Arguments that are not options.
    pub(crate) rest: Vec<String>,
}

impl Args {
    /// Reads `words`. `with_value` and `switches` name the options without their dashes. On
    /// `--help` the help is printed and the process ends.
    pub(crate) fn parse(
        words: Vec<String>,
        help: &str,
        with_value: &[&str],
        switches: &[&str],
    ) -> Result<Self, Failure> {
        let mut args = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix("--").filter(|name| !name.is_empty()) else {
                if word == "-h" {
                    return Self::help(help);
                }
                args.rest.push(word);
                continue;
            };
            if name == "help" {
                return Self::help(help);
            }
            let (name, inline) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            if switches.contains(&name) && inline.is_none() {
                args.switches.push(name.to_owned());
            } else if with_value.contains(&name) {
                let value = inline.or_else(|| words.next());
                let value = value
                    .ok_or_else(|| Failure::Usage(format!("option `--{name}` needs a value")))?;
                args.values.push((name.to_owned(), value));
            } else {
                return Err(Failure::Usage(format!(
                    "unknown option `--{name}`; `--help` lists the options"
                )));
            }
        }
        Ok(args)
    }

    fn help(help: &str) -> Result<Self, Failure> {
        output::print(help)?;
        std::process::exit(0);
    }

    /// The last value of an option.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let found = self.values.iter().rev().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The value of an option that must be there.
    pub(crate) fn required(&self, name: &str) -> Result<&str, Failure> {
        self.value(name)
            .ok_or_else(|| Failure::Usage(format!("option `--{name}` is missing; see `--help`")))
    }

    /// Every value of an option in order.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.values
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether a switch was given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.switches.iter().any(|switch| switch == name)
    }

    /// Refuses arguments that are not options.
    pub(crate) fn no_rest(&self) -> Result<(), Failure> {
        match self.rest.first() {
            Some(word) => Err(Failure::Usage(format!("unexpected argument `{word}`"))),
            None => Ok(()),
        }
    }
}
