//! Function bodies: which functions they name, and how they are written anew.

use crate::reader::{Reader, TrimError, write_leb, write_signed};

const CALL: u8 = 0x10;
const RETURN_CALL: u8 = 0x12;
const REF_FUNC: u8 = 0xd2;
const END: u8 = 0x0b;
const BR_TABLE: u8 = 0x0e;
const MISCELLANEOUS: u8 = 0xfc;

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

/// The body with other numbers of functions, and every number in as few bytes as it needs: the
/// linker leaves five for each that it fills in.
pub(crate) fn renumbered(body: &[u8], number: &dyn Fn(u32) -> u32) -> Result<Vec<u8>, TrimError> {
    let mut reader = Reader::new(body);
    for _ in 0..reader.leb()? {
        reader.leb()?;
        reader.byte()?;
    }
    let mut out = body
        .get(..body.len() - reader.rest().len())
        .unwrap_or_default()
        .to_vec();
    while !reader.is_empty() {
        let opcode = reader.byte()?;
        out.push(opcode);
        let unsigned = match opcode {
            CALL | RETURN_CALL | REF_FUNC => {
                write_leb(number(reader.leb()?), &mut out);
                continue;
            }
            0x41 | 0x42 => {
                write_signed(reader.raw_leb()?, &mut out);
                continue;
            }
            // locals, globals, tables
            0x20..=0x26 => 1,
            // indirect calls; loads and stores
            0x11 | 0x13 | 0x28..=0x3e => 2,
            _ => {
                let before = reader.rest();
                skip_immediates(opcode, &mut reader)?;
                let length = before.len() - reader.rest().len();
                out.extend_from_slice(before.get(..length).unwrap_or_default());
                continue;
            }
        };
        for _ in 0..unsigned {
            write_leb(reader.leb()?, &mut out);
        }
    }
    Ok(out)
}
