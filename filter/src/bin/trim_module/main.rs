//! Trims a compiled module: `trim-module IN.wasm OUT.wasm`.
//!
//! The SDK exports every callback of the proxy-wasm ABI, and a proxy calls what is exported, so
//! that unused callbacks cost time with every request. This tool removes the exports that the
//! filter does not implement, and the functions that only they could reach. The filter's own
//! callbacks for streams (`filter/src/callbacks.rs`) get the names of the ABI, which in the module
//! as it is linked are the SDK's. Of equal functions one stays, and numbers take no more bytes than they need: Envoy's memory grows with the functions and
//! the bytes of the module (docs/performance.md).
//!
//! What it is not: an optimiser. No body does anything else than before. It understands the
//! instructions that rustc emits for this target and stops with an error at any other, rather than
//! guessing.

mod code;
mod fold;
mod reader;

use std::collections::BTreeSet;
use std::process::ExitCode;

use fold::Numbering;
use reader::{Reader, TrimError, write_leb};

/// What the filter implements, and what the host needs to start it: names in the module as it is
/// linked, and as it is shipped.
const KEPT_EXPORTS: [(&str, &str); 15] = [
    ("memory", "memory"),
    ("_initialize", "_initialize"),
    ("proxy_abi_version_0_2_1", "proxy_abi_version_0_2_1"),
    ("proxy_on_vm_start", "proxy_on_vm_start"),
    ("proxy_on_configure", "proxy_on_configure"),
    ("proxy_on_tick", "proxy_on_tick"),
    ("proxy_on_http_call_response", "proxy_on_http_call_response"),
    ("tracemeter_on_memory_allocate", "proxy_on_memory_allocate"),
    ("tracemeter_on_context_create", "proxy_on_context_create"),
    ("tracemeter_on_request_headers", "proxy_on_request_headers"),
    (
        "tracemeter_on_response_headers",
        "proxy_on_response_headers",
    ),
    ("tracemeter_on_response_body", "proxy_on_response_body"),
    (
        "tracemeter_on_response_trailers",
        "proxy_on_response_trailers",
    ),
    ("tracemeter_on_log", "proxy_on_log"),
    ("tracemeter_on_done", "proxy_on_done"),
];

const CUSTOM: u8 = 0;
const IMPORT: u8 = 2;
const FUNCTIONS: u8 = 3;
const GLOBAL: u8 = 6;
const EXPORT: u8 = 7;
const START: u8 = 8;
const ELEMENT: u8 = 9;
const CODE: u8 = 10;

/// Kind of an import or export that is a function.
const FUNCTION: u8 = 0;

/// A section: its number and its content.
type Section<'a> = (u8, &'a [u8]);

fn sections(module: &[u8]) -> Result<Vec<Section<'_>>, TrimError> {
    let mut reader = Reader::new(module);
    if reader.take(8)? != b"\0asm\x01\0\0\0" {
        return Err(TrimError("not a module of version 1".to_owned()));
    }
    let mut found = Vec::new();
    while !reader.is_empty() {
        let number = reader.byte()?;
        found.push((number, reader.sized()?));
    }
    Ok(found)
}

/// How many functions are imported; they have the first numbers.
fn imported_functions(section: &[u8]) -> Result<u32, TrimError> {
    let mut reader = Reader::new(section);
    let mut functions = 0;
    for _ in 0..reader.leb()? {
        let _module = reader.sized()?;
        let name = reader.sized()?;
        if reader.byte()? != FUNCTION {
            let name = String::from_utf8_lossy(name);
            return Err(TrimError(format!("import `{name}` is not a function")));
        }
        reader.leb()?;
        functions += 1;
    }
    Ok(functions)
}

/// An export: its name, its kind and its number.
type Export = (&'static str, u8, u32);

/// The exports that are kept, under their new names. None may be missing.
fn kept_exports(section: &[u8]) -> Result<Vec<Export>, TrimError> {
    let mut reader = Reader::new(section);
    let mut kept = Vec::new();
    for _ in 0..reader.leb()? {
        let name = reader.sized()?;
        let kind = reader.byte()?;
        let number = reader.leb()?;
        let mut names = KEPT_EXPORTS.iter();
        if let Some((_, shipped)) = names.find(|(linked, _)| linked.as_bytes() == name) {
            kept.push((*shipped, kind, number));
        }
    }
    for (linked, shipped) in KEPT_EXPORTS {
        if !kept.iter().any(|(name, ..)| *name == shipped) {
            return Err(TrimError(format!("the module does not export `{linked}`")));
        }
    }
    Ok(kept)
}

/// The export section.
fn export_section(exports: &[Export], numbering: &Numbering) -> Vec<u8> {
    let mut out = Vec::new();
    write_leb(exports.len() as u32, &mut out);
    for (name, kind, number) in exports {
        write_leb(name.len() as u32, &mut out);
        out.extend_from_slice(name.as_bytes());
        out.push(*kind);
        let is_function = *kind == FUNCTION;
        let number = if is_function {
            numbering.of(*number)
        } else {
            *number
        };
        write_leb(number, &mut out);
    }
    out
}

/// The functions of all tables: anything may call them.
fn table_functions(section: &[u8]) -> Result<Vec<u32>, TrimError> {
    let mut reader = Reader::new(section);
    let mut functions = Vec::new();
    for _ in 0..reader.leb()? {
        if reader.leb()? != 0 {
            return Err(TrimError("element segment of an unknown kind".to_owned()));
        }
        code::constant_expression(&mut reader)?;
        for _ in 0..reader.leb()? {
            functions.push(reader.leb()?);
        }
    }
    Ok(functions)
}

/// The types of the functions that are not imported.
fn types(section: &[u8]) -> Result<Vec<u32>, TrimError> {
    let mut reader = Reader::new(section);
    let count = reader.leb()?;
    (0..count).map(|_| reader.leb()).collect()
}

/// Globals may name functions; rustc makes none that do.
fn check_globals(section: &[u8]) -> Result<(), TrimError> {
    let mut reader = Reader::new(section);
    for _ in 0..reader.leb()? {
        let kind = reader.byte()?;
        if !(0x7c..=0x7f).contains(&kind) {
            return Err(TrimError("global that is not a number".to_owned()));
        }
        reader.byte()?;
        code::constant_expression(&mut reader)?;
    }
    Ok(())
}

fn bodies(section: &[u8]) -> Result<Vec<&[u8]>, TrimError> {
    let mut reader = Reader::new(section);
    let count = reader.leb()?;
    (0..count).map(|_| reader.sized()).collect()
}

/// Everything that the roots can reach.
fn reachable(roots: Vec<u32>, imported: u32, bodies: &[&[u8]]) -> Result<BTreeSet<u32>, TrimError> {
    let mut waiting = roots;
    let mut reached = BTreeSet::new();
    while let Some(function) = waiting.pop() {
        if !reached.insert(function) {
            continue;
        }
        let body = function.checked_sub(imported).map(|index| index as usize);
        if let Some(body) = body.and_then(|index| bodies.get(index)) {
            code::calls(body, &mut waiting)?;
        }
    }
    Ok(reached)
}

fn trim(module: &[u8]) -> Result<Vec<u8>, TrimError> {
    let sections = sections(module)?;
    let find = |wanted| {
        let found = sections.iter().find(|(number, _)| *number == wanted);
        found.map_or(&b"\0"[..], |(_, content)| content)
    };
    let imported = imported_functions(find(IMPORT))?;
    check_globals(find(GLOBAL))?;
    let exports = kept_exports(find(EXPORT))?;
    let functions = exports.iter().filter(|(_, kind, _)| *kind == FUNCTION);
    let mut roots: Vec<u32> = functions.map(|(_, _, number)| *number).collect();
    roots.extend(table_functions(find(ELEMENT))?);
    if let Some((_, start)) = sections.iter().find(|(number, _)| *number == START) {
        roots.push(Reader::new(start).leb()?);
    }
    let types = types(find(FUNCTIONS))?;
    let bodies = bodies(find(CODE))?;
    let reached = reachable(roots, imported, &bodies)?;
    let numbering = Numbering::new(&types, &bodies, imported, &reached)?;

    let mut out = module.get(..8).unwrap_or_default().to_vec();
    for (number, content) in sections {
        let content = match number {
            FUNCTIONS => numbering.types(&types),
            EXPORT => export_section(&exports, &numbering),
            START => {
                let mut start = Vec::new();
                write_leb(numbering.of(Reader::new(content).leb()?), &mut start);
                start
            }
            ELEMENT => numbering.tables(content)?,
            CODE => numbering.code(&bodies)?,
            // Names and the like would speak of the old numbers.
            CUSTOM => continue,
            _ => content.to_vec(),
        };
        out.push(number);
        write_leb(content.len() as u32, &mut out);
        out.extend_from_slice(&content);
    }
    Ok(out)
}

fn run() -> Result<(), TrimError> {
    let mut arguments = std::env::args().skip(1);
    let (Some(from), Some(to)) = (arguments.next(), arguments.next()) else {
        return Err(TrimError("usage: trim-module IN.wasm OUT.wasm".to_owned()));
    };
    let io = |path: &str, error: std::io::Error| TrimError(format!("`{path}`: {error}"));
    let module = std::fs::read(&from).map_err(|error| io(&from, error))?;
    let trimmed = trim(&module)?;
    std::fs::write(&to, trimmed).map_err(|error| io(&to, error))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(TrimError(message)) => {
            eprintln!("trim-module: {message}");
            ExitCode::FAILURE
        }
    }
}
