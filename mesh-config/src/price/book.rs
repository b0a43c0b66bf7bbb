//! Price tables with the dates between which each is in force.

use super::inputs::{limits, names_of};
use super::{PriceError, PriceInputs, PriceTable};
use crate::adaptive::order::sort;
use std::sync::Arc;

/// Several price tables, at most one in force at any instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceBook {
    /// Never empty, ordered by beginning, not overlapping.
    first: Dated,
    later: Box<[Dated]>,
    /// The table for instants at which none of the others is in force.
    fallback: Option<PriceTable>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Dated {
    from_unix_ns: u64,
    until_unix_ns: Option<u64>,
    table: PriceTable,
}

/// Whether the table used at an instant was meant for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InForce {
    /// Yes.
    Yes,
    /// No table is in force; this one was the last to be.
    Expired,
    /// No dated table is in force; this is the one for all other times.
    Fallback,
    /// No table has ever been in force; this one will be the first.
    NotYet,
}

impl PriceBook {
    /// Checks and compiles tables given in any order.
    ///
    /// # Errors
    /// What [`PriceTable::new`] refuses, no table at all, too many, two tables with one version, or
    /// two that are in force at the same time.
    pub fn new(tables: &[PriceInputs]) -> Result<Self, PriceError> {
        check_all(tables.iter())?;
        let names = names_of(tables);
        check_names(&names)?;
        Self::compile(tables, None, &names)
    }

    /// Checks and compiles dated tables and one, whose dates are ignored, for all other times.
    ///
    /// # Errors
    /// As [`PriceBook::new`], except that there need not be a dated table.
    pub fn with_fallback(
        fallback: &PriceInputs,
        dated: &[PriceInputs],
    ) -> Result<Self, PriceError> {
        let timeless = PriceInputs {
            valid_from_unix_ns: 0,
            valid_until_unix_ns: None,
            ..fallback.clone()
        };
        check_all(dated.iter().chain([&timeless]))?;
        let names = names_of(dated.iter().chain([&timeless]));
        check_names(&names)?;
        if dated.is_empty() {
            return Self::compile(&[timeless], None, &names);
        }
        let table = PriceTable::compile(&timeless, names.clone());
        Self::compile(dated, Some(table), &names)
    }

    /// Orders and compiles tables that were checked one by one.
    fn compile(
        tables: &[PriceInputs],
        fallback: Option<PriceTable>,
        names: &Arc<[Box<str>]>,
    ) -> Result<Self, PriceError> {
        let mut ordered: Vec<&PriceInputs> = tables.iter().collect();
        // Two that begin together overlap, whatever their order.
        sort(&mut ordered, |left, right| {
            left.valid_from_unix_ns < right.valid_from_unix_ns
        });
        for (first, second) in ordered.iter().zip(ordered.iter().skip(1)) {
            if first
                .valid_until_unix_ns
                .is_none_or(|until| until > second.valid_from_unix_ns)
            {
                return Err(PriceError::Overlap {
                    first: first.version.clone(),
                    second: second.version.clone(),
                });
            }
        }
        let mut compiled = ordered.into_iter().map(|inputs| Dated {
            from_unix_ns: inputs.valid_from_unix_ns,
            until_unix_ns: inputs.valid_until_unix_ns,
            table: PriceTable::compile(inputs, names.clone()),
        });
        let first = compiled.next().ok_or(PriceError::Empty)?;
        Ok(Self {
            first,
            later: compiled.collect(),
            fallback,
        })
    }

    /// The table to price with at an instant. Prices never vanish: where no table is in force it is
    /// the fallback; without one the most recent table stays in use, and before the first one the
    /// first is used already. The second value says which, to be counted and warned about.
    #[must_use]
    pub fn at(&self, unix_ns: u64) -> (&PriceTable, InForce) {
        let begun = self
            .later
            .iter()
            .take_while(|dated| dated.from_unix_ns <= unix_ns);
        let dated = begun.last().unwrap_or(&self.first);
        let in_force = if unix_ns < dated.from_unix_ns {
            InForce::NotYet
        } else if dated.until_unix_ns.is_some_and(|until| until <= unix_ns) {
            InForce::Expired
        } else {
            return (&dated.table, InForce::Yes);
        };
        match &self.fallback {
            Some(fallback) => (fallback, InForce::Fallback),
            None => (&dated.table, in_force),
        }
    }

    /// The table with a version text, to price a span again as it was priced.
    #[must_use]
    pub fn version(&self, version: &str) -> Option<&PriceTable> {
        self.tables().find(|table| table.version() == version)
    }

    /// All tables, ordered by the instant from which they are in force.
    pub fn tables(&self) -> impl Iterator<Item = &PriceTable> {
        let dated = core::iter::once(&self.first)
            .chain(&self.later)
            .map(|dated| &dated.table);
        dated.chain(&self.fallback)
    }
}

impl Default for PriceBook {
    fn default() -> Self {
        let table = PriceTable::default();
        Self {
            first: Dated {
                from_unix_ns: 0,
                until_unix_ns: None,
                table,
            },
            later: Box::default(),
            fallback: None,
        }
    }
}

/// Checks tables one by one, and that versions tell them apart.
fn check_all<'a>(tables: impl Iterator<Item = &'a PriceInputs> + Clone) -> Result<(), PriceError> {
    if tables.clone().count() > limits::MAX_TABLES {
        return Err(PriceError::TooManyTables);
    }
    for table in tables.clone() {
        table.check()?;
        if tables
            .clone()
            .filter(|other| other.version == table.version)
            .count()
            > 1
        {
            return Err(PriceError::DuplicateVersion {
                version: table.version.clone(),
            });
        }
    }
    Ok(())
}

fn check_names(names: &[Box<str>]) -> Result<(), PriceError> {
    if names.len() > limits::MAX_OPERATIONS {
        return Err(PriceError::TooManyOperations);
    }
    Ok(())
}
