//! Which functions stay, and their new numbers.
//!
//! Of functions that are equal in type and body one stays: the compiler makes many from one generic
//! source. What names them may then be equal as well, so this goes on until nothing changes.
//! Nothing here compares functions by their number, as rustc's own merging assumes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::code;
use crate::reader::{Reader, TrimError, write_leb};

/// The functions that are kept, and what every name of a function becomes.
pub(crate) struct Numbering {
    /// New numbers by old ones.
    new: BTreeMap<u32, u32>,
    /// Old numbers of the functions that stay, imports left out, in order.
    kept: Vec<u32>,
    imported: u32,
}

impl Numbering {
    pub(crate) fn new(
        types: &[u32],
        bodies: &[&[u8]],
        imported: u32,
        reached: &BTreeSet<u32>,
    ) -> Result<Self, TrimError> {
        let mut same: BTreeMap<u32, u32> = BTreeMap::new();
        loop {
            let stand_in = |number| same.get(&number).copied().unwrap_or(number);
            let mut first = HashMap::new();
            let mut found = BTreeMap::new();
            for (number, (kind, body)) in (imported..).zip(types.iter().zip(bodies)) {
                if reached.contains(&number) {
                    let body = code::renumbered(body, &stand_in)?;
                    let first = *first.entry((*kind, body)).or_insert(number);
                    if first != number {
                        found.insert(number, first);
                    }
                }
            }
            if found == same {
                break;
            }
            same = found;
        }
        let stays = |number: &u32| *number >= imported && !same.contains_key(number);
        let kept: Vec<u32> = reached.iter().copied().filter(stays).collect();
        let mut new: BTreeMap<u32, u32> = (0..imported).map(|number| (number, number)).collect();
        new.extend(kept.iter().copied().zip(imported..));
        for (number, stand_in) in same {
            if let Some(number_of_it) = new.get(&stand_in).copied() {
                new.insert(number, number_of_it);
            }
        }
        Ok(Self {
            new,
            kept,
            imported,
        })
    }

    /// The new number of a function that something reaches.
    pub(crate) fn of(&self, number: u32) -> u32 {
        self.new.get(&number).copied().unwrap_or(u32::MAX)
    }

    fn kept_of<'a, T>(&'a self, all: &'a [T]) -> impl Iterator<Item = &'a T> {
        let index = |number: &u32| all.get((number - self.imported) as usize);
        self.kept.iter().filter_map(index)
    }

    /// The function section.
    pub(crate) fn types(&self, types: &[u32]) -> Vec<u8> {
        let mut out = Vec::new();
        write_leb(self.kept.len() as u32, &mut out);
        for kind in self.kept_of(types) {
            write_leb(*kind, &mut out);
        }
        out
    }

    /// The code section.
    pub(crate) fn code(&self, bodies: &[&[u8]]) -> Result<Vec<u8>, TrimError> {
        let mut out = Vec::new();
        write_leb(self.kept.len() as u32, &mut out);
        for body in self.kept_of(bodies) {
            let body = code::renumbered(body, &|number| self.of(number))?;
            write_leb(body.len() as u32, &mut out);
            out.extend_from_slice(&body);
        }
        Ok(out)
    }

    /// The element section: what tables hold.
    pub(crate) fn tables(&self, section: &[u8]) -> Result<Vec<u8>, TrimError> {
        let mut reader = Reader::new(section);
        let mut out = Vec::new();
        let segments = reader.leb()?;
        write_leb(segments, &mut out);
        for _ in 0..segments {
            let before = reader.rest();
            reader.leb()?;
            code::constant_expression(&mut reader)?;
            let length = before.len() - reader.rest().len();
            out.extend_from_slice(before.get(..length).unwrap_or_default());
            let functions = reader.leb()?;
            write_leb(functions, &mut out);
            for _ in 0..functions {
                write_leb(self.of(reader.leb()?), &mut out);
            }
        }
        Ok(out)
    }
}
