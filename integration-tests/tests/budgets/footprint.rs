//! The code that one request runs through: how many bytes of it are different ones.
//!
//! A proxy does much else between two requests, so what a request executes is fetched into the
//! processor's caches anew each time: distinct code costs more time than a loop that runs often.
//! Bytes of WebAssembly stand for those of the native code that Envoy makes of them.

use std::collections::BTreeMap;

use wasmparser::{KnownCustom, Name, Parser, Payload};

use crate::count::Stretch;

/// What ran of one function.
#[derive(Debug, Clone, Copy, Default)]
struct Ran {
    calls: u64,
    operators: u64,
    /// Of the operators that ran at all.
    code_bytes: u64,
    /// Of the whole body.
    size: u64,
}

/// What ran.
pub(crate) struct Footprint {
    functions: BTreeMap<u32, Ran>,
    /// Bytes of the operators that ran at all.
    pub(crate) code_bytes: u64,
}

impl Footprint {
    /// From how often each stretch ran.
    pub(crate) fn new(runs: &[u32], stretches: &[Stretch]) -> Self {
        let mut functions: BTreeMap<u32, Ran> = BTreeMap::new();
        for (&runs, stretch) in runs.iter().zip(stretches) {
            let function = functions.entry(stretch.function).or_default();
            function.size += stretch.bytes;
            function.operators += u64::from(runs) * stretch.operators;
            function.calls += u64::from(runs) * u64::from(stretch.is_entry);
            function.code_bytes += stretch.bytes * u64::from(runs > 0);
        }
        functions.retain(|_, function| function.code_bytes > 0);
        Self {
            code_bytes: functions.values().map(|ran| ran.code_bytes).sum(),
            functions,
        }
    }

    /// Prints a line per function, the one with most code first.
    pub(crate) fn print(&self, module: &[u8]) {
        let names = names(module);
        let mut functions: Vec<_> = self.functions.iter().collect();
        functions.sort_by_key(|(_, ran)| std::cmp::Reverse(ran.code_bytes));
        println!("{} bytes in {} functions", self.code_bytes, functions.len());
        println!("  bytes of size  calls  operators  function");
        for (number, ran) in functions {
            let Ran {
                calls,
                operators,
                code_bytes,
                size,
            } = ran;
            let name = names.get(number).map_or("?", |name| *name);
            println!("{code_bytes:>7} {size:>7} {calls:>6} {operators:>10}  {number} {name}");
        }
    }
}

/// Names of functions, counted from the first one that is not imported.
fn names(module: &[u8]) -> BTreeMap<u32, &str> {
    let mut imported = 0;
    let mut found = BTreeMap::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload.unwrap() {
            Payload::ImportSection(imports) => imported = imports.count(),
            Payload::CustomSection(section) => {
                let KnownCustom::Name(names) = section.as_known() else {
                    continue;
                };
                for part in names {
                    if let Ok(Name::Function(functions)) = part {
                        let functions = functions.into_iter().map(Result::unwrap);
                        let own = functions.filter(|known| known.index >= imported);
                        found.extend(own.map(|known| (known.index - imported, known.name)));
                    }
                }
            }
            _ => {}
        }
    }
    found
}
