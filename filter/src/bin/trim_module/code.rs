//! Function bodies: which functions they name, and what is left of the section.

use std::collections::BTreeSet;

use crate::reader::{Reader, TrimError, write_leb};

const CALL: u8 = 0x10;
const RETURN_CALL: u8 = 0x12;
const REF_FUNC: u8 = 0xd2;
const END: u8 = 0x0b;
const BR_TABLE: u8 = 0x0e;
const MISCELLANEOUS: u8 = 0xfc;

/// A body that does nothing but trap: no locals, `unreachable`, `end`.
const TRAP: [u8; 3] = [0, 0x00, END];

/// Adds the functions that a body names.
pub(crate) fn calls(body: &[u8], found: &mut Vec<u32>) -> Result<(), TrimError> {
    let mut reader = Reader::new(body);
    for _ in 0..reader.leb()? {
        reader.leb()?;
        reader.byte()?;
    }
    while !reader.is_empty() {
        match reader.byte()? {
            CALL | RETURN_CALL | REF_FUNC => found.push(reader.leb()?),
            opcode => skip_immediates(opcode, &mut reader)?,
        }
    }
    Ok(())
}

/// Skips the offset of a segment, up to its `end`.
pub(crate) fn constant_expression(reader: &mut Reader<'_>) -> Result<(), TrimError> {
    loop {
        match reader.byte()? {
            END => return Ok(()),
            opcode => skip_immediates(opcode, reader)?,
        }
    }
}

/// Skips what follows an instruction (WebAssembly 2.0, "Binary Format: Instructions").
fn skip_immediates(opcode: u8, reader: &mut Reader<'_>) -> Result<(), TrimError> {
    let numbers = match opcode {
        BR_TABLE => reader.leb()?.saturating_add(1),
        0x43 => return reader.take(4).map(drop),
        0x44 => return reader.take(8).map(drop),
        MISCELLANEOUS => match reader.leb()? {
            0..=7 => 0,
            9 | 11 | 13 | 15..=17 => 1,
            8 | 10 | 12 | 14 => 2,
            other => return Err(TrimError(format!("unknown instruction `fc {other}`"))),
        },
        // block, loop, if; br, br_if; locals, globals, tables; sizes; i32 and i64 constants
        0x02..=0x04 | 0x0c | 0x0d | 0x20..=0x26 | 0x3f..=0x42 | 0xd0 => 1,
        // indirect calls; loads and stores
        0x11 | 0x13 | 0x28..=0x3e => 2,
        // select with types
        0x1c => reader.leb()?,
        // unreachable, nop, else, end, return; drop, select; operators; is_null
        0x00 | 0x01 | 0x05 | END | 0x0f | 0x1a | 0x1b | 0x45..=0xc4 | 0xd1 => 0,
        other => return Err(TrimError(format!("unknown instruction `{other:02x}`"))),
    };
    for _ in 0..numbers {
        reader.skip_leb()?;
    }
    Ok(())
}

/// The code section with a trap for every function that nothing reaches.
pub(crate) fn without_unreachable(
    bodies: &[&[u8]],
    imported: u32,
    reached: &BTreeSet<u32>,
) -> Vec<u8> {
    let mut out = Vec::new();
    write_leb(bodies.len() as u32, &mut out);
    for (number, body) in (imported..).zip(bodies) {
        let body = if reached.contains(&number) {
            body
        } else {
            &TRAP[..]
        };
        write_leb(body.len() as u32, &mut out);
        out.extend_from_slice(body);
    }
    out
}
