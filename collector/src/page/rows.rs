//! Answers as text cells, and how numbers look on the page.

use std::collections::HashMap;

use datafusion::arrow::array::Array as _;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::query::Answer;

/// Rows of text; NULL is the empty text.
pub(super) struct Rows {
    columns: HashMap<String, usize>,
    cells: Vec<Vec<String>>,
}

/// One row.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    columns: &'a HashMap<String, usize>,
    cells: &'a [String],
}

impl Rows {
    /// Formats an answer's cells.
    pub(super) fn of(answer: &Answer) -> Result<Self, ArrowError> {
        let columns = answer
            .schema
            .fields()
            .iter()
            .enumerate()
            .map(|(index, field)| (field.name().clone(), index))
            .collect();
        let options = FormatOptions::default();
        let mut cells = Vec::new();
        for batch in &answer.batches {
            let formatters = batch
                .columns()
                .iter()
                .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
                .collect::<Result<Vec<_>, _>>()?;
            for row in 0..batch.num_rows() {
                let mut line = Vec::with_capacity(formatters.len());
                for (column, formatter) in batch.columns().iter().zip(&formatters) {
                    line.push(if column.is_null(row) {
                        String::new()
                    } else {
                        formatter.value(row).try_to_string()?
                    });
                }
                cells.push(line);
            }
        }
        Ok(Self { columns, cells })
    }

    /// True when there are no rows.
    pub(super) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// All rows.
    pub(super) fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        self.cells.iter().map(|cells| Row {
            columns: &self.columns,
            cells,
        })
    }
}

impl<'a> Row<'a> {
    /// A cell by column name; empty when there is none.
    pub(super) fn get(&self, column: &str) -> &'a str {
        self.columns
            .get(column)
            .and_then(|index| self.cells.get(*index))
            .map_or("", String::as_str)
    }
}

/// A decimal without trailing zeros.
pub(super) fn money(decimal: &str) -> String {
    if decimal.contains('.') {
        decimal
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned()
    } else {
        decimal.to_owned()
    }
}

/// Milliseconds with up to three decimals.
pub(super) fn milliseconds(number: &str) -> String {
    number
        .parse::<f64>()
        .map_or_else(|_| number.to_owned(), |ms| money(&format!("{ms:.3}")))
}

/// A timestamp to the millisecond.
pub(super) fn time(timestamp: &str) -> String {
    let end = timestamp.len().min("2026-11-20T23:55:43.123".len());
    timestamp
        .get(..end)
        .unwrap_or(timestamp)
        .trim_end_matches('Z')
        .replace('T', " ")
}

/// A whole number with its thousands apart.
pub(super) fn count(number: &str) -> String {
    let digits = number.strip_suffix(".0").unwrap_or(number);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return number.to_owned();
    }
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Bytes in the unit that needs the fewest digits.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let mut amount = bytes as f64;
    let mut named = "B";
    for unit in UNITS {
        if amount < 1_024.0 {
            break;
        }
        amount /= 1_024.0;
        named = unit;
    }
    format!("{amount:.1} {named}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_digits() {
        for (number, shown) in [
            ("0", "0"),
            ("999", "999"),
            ("1000", "1,000"),
            ("1234567", "1,234,567"),
            ("", ""),
            ("-5", "-5"),
            ("1e3", "1e3"),
        ] {
            assert_eq!(count(number), shown);
        }
        assert_eq!(money("0.000000015"), "0.000000015");
        assert_eq!(money("12.500000000"), "12.5");
        assert_eq!(bytes(1_536), "1.5 KiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
    }
}
