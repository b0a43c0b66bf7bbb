//! Price tables with the dates between which each is in force.

use super::inputs::{limits, names_of};
use super::{PriceError, PriceInputs, PriceTable};

/// Several price tables, at most one in force at any instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceBook {
    /// Never empty, ordered by beginning, not overlapping.
    first: Dated,
    later: Box<[Dated]>,
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
        if tables.len() > limits::MAX_TABLES {
            return Err(PriceError::TooManyTables);
        }
        for table in tables {
            table.check()?;
            if tables
                .iter()
                .filter(|other| other.version == table.version)
                .count()
                > 1
            {
                return Err(PriceError::DuplicateVersion {
                    version: table.version.clone(),
                });
            }
        }
        let mut ordered: Vec<&PriceInputs> = tables.iter().collect();
        ordered.sort_by_key(|table| table.valid_from_unix_ns);
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
        let names = names_of(tables);
        if names.len() > limits::MAX_OPERATIONS {
            return Err(PriceError::TooManyOperations);
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
        })
    }

    /// The table to price with at an instant. Prices never vanish: in a gap between two tables and
    /// after the last one the most recent table stays in use, before the first one the first is
    /// used already, and the second value says so, to be counted and warned about.
    #[must_use]
    pub fn at(&self, unix_ns: u64) -> (&PriceTable, InForce) {
        if unix_ns < self.first.from_unix_ns {
            return (&self.first.table, InForce::NotYet);
        }
        let begun = self
            .later
            .iter()
            .take_while(|dated| dated.from_unix_ns <= unix_ns);
        let dated = begun.last().unwrap_or(&self.first);
        let expired = dated.until_unix_ns.is_some_and(|until| until <= unix_ns);
        (
            &dated.table,
            if expired {
                InForce::Expired
            } else {
                InForce::Yes
            },
        )
    }

    /// The table with a version text, to price a span again as it was priced.
    #[must_use]
    pub fn version(&self, version: &str) -> Option<&PriceTable> {
        self.tables().find(|table| table.version() == version)
    }

    /// All tables, ordered by the instant from which they are in force.
    pub fn tables(&self) -> impl Iterator<Item = &PriceTable> {
        core::iter::once(&self.first)
            .chain(&self.later)
            .map(|dated| &dated.table)
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
        }
    }
}
