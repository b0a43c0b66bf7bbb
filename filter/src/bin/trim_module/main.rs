//! Trims a compiled module: `trim-module IN.wasm OUT.wasm`.
//!
//! The SDK exports every callback of the proxy-wasm ABI, and a proxy calls what is exported, so
//! that unused callbacks cost time with every request. This tool removes the exports that the
//! filter does not implement, and the code that only they could reach.
//!
//! What it is not: an optimiser. Functions keep their numbers; an unreachable one gets the body
//! `unreachable`. It understands the instructions that rustc emits for this target and stops with
//! an error at any other, rather than guessing.

mod code;
mod reader;

use std::collections::BTreeSet;
use std::process::ExitCode;

use reader::{Reader, TrimError, write_leb};

/// What the filter implements, and what the host needs to start it and to hand over memory.
const KEPT_EXPORTS: [&str; 16] = [
    "memory",
    "_initialize",
    "proxy_abi_version_0_2_1",
    "proxy_on_memory_allocate",
    "proxy_on_context_create",
    "proxy_on_vm_start",
    "proxy_on_configure",
    "proxy_on_tick",
    "proxy_on_http_call_response",
    "proxy_on_request_headers",
    "proxy_on_response_headers",
    "proxy_on_response_body",
    "proxy_on_response_trailers",
    "proxy_on_log",
    "proxy_on_done",
    "proxy_on_delete",
];

const IMPORT: u8 = 2;
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

/// The export section without what is not kept, and the functions that it names.
fn trim_exports(section: &[u8]) -> Result<(Vec<u8>, Vec<u32>), TrimError> {
    let mut reader = Reader::new(section);
    let (mut kept, mut count, mut functions) = (Vec::new(), 0, Vec::new());
    for _ in 0..reader.leb()? {
        let entry = reader.rest();
        let name = reader.sized()?;
        let kind = reader.byte()?;
        let number = reader.leb()?;
        if !KEPT_EXPORTS.iter().any(|kept| kept.as_bytes() == name) {
            continue;
        }
        kept.extend_from_slice(
            entry
                .get(..entry.len() - reader.rest().len())
                .unwrap_or(entry),
        );
        count += 1;
        if kind == FUNCTION {
            functions.push(number);
        }
    }
    let mut out = Vec::new();
    write_leb(count, &mut out);
    out.extend_from_slice(&kept);
    Ok((out, functions))
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
    let (exports, mut roots) = trim_exports(find(EXPORT))?;
    roots.extend(table_functions(find(ELEMENT))?);
    if let Some((_, start)) = sections.iter().find(|(number, _)| *number == START) {
        roots.push(Reader::new(start).leb()?);
    }
    let bodies = bodies(find(CODE))?;
    let reached = reachable(roots, imported, &bodies)?;

    let mut out = module.get(..8).unwrap_or_default().to_vec();
    for (number, content) in sections {
        let content = match number {
            EXPORT => exports.clone(),
            CODE => code::without_unreachable(&bodies, imported, &reached),
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
