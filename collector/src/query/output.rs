//! Answers as JSON, CSV, an Arrow stream or a text table.

use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::arrow::util::pretty::pretty_format_batches_with_schema;

use super::session::Answer;
use crate::otlp::any::write_string;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// An object with columns and rows; see [`render`].
    #[default]
    Json,
    /// RFC 4180 with a header line.
    Csv,
    /// An Arrow IPC stream with all types.
    Arrow,
    /// A table for people.
    Table,
}

impl Format {
    /// Reads a format's name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "arrow" => Some(Self::Arrow),
            "table" => Some(Self::Table),
            _ => None,
        }
    }

    /// The format that an `Accept` header asks for: the first of the highest weight that is one of
    /// ours; JSON for any. `None` when there is none.
    pub(crate) fn accepted(header: &str) -> Option<Self> {
        let mut best: Option<(f32, Self)> = None;
        for range in header.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let format = match parts.next().unwrap_or_default() {
                "*/*" | "application/*" | "application/json" => Self::Json,
                "text/csv" => Self::Csv,
                "application/vnd.apache.arrow.stream" => Self::Arrow,
                "text/plain" | "text/*" => Self::Table,
                _ => continue,
            };
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok());
            let weight: f32 = weight.unwrap_or(1.0);
            if weight > 0.0 && best.is_none_or(|(highest, _)| weight > highest) {
                best = Some((weight, format));
            }
        }
        best.map(|(_, format)| format)
    }

    /// The media type.
    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Table => "text/plain; charset=utf-8",
        }
    }
}

/// Writes an answer. JSON is
/// `{"columns":["a","b"],"rows":[{"a":1,"b":"x"}],"row_count":1,"truncated":false,"elapsed_ms":3}`;
/// decimals are JSON numbers with all their digits.
pub(crate) fn render(answer: &Answer, format: Format) -> Result<Vec<u8>, ArrowError> {
    match format {
        Format::Json => json(answer).map(String::into_bytes),
        Format::Csv => csv(answer).map(String::into_bytes),
        Format::Arrow => arrow(answer),
        Format::Table => {
            let table = pretty_format_batches_with_schema(answer.schema.clone(), &answer.batches)?;
            Ok(format!("{table}\n").into_bytes())
        }
    }
}

fn arrow(answer: &Answer) -> Result<Vec<u8>, ArrowError> {
    let mut stream = StreamWriter::try_new(Vec::new(), &answer.schema)?;
    for batch in &answer.batches {
        stream.write(batch)?;
    }
    stream.into_inner()
}

fn formatters<'a>(batch: &'a RecordBatch) -> Result<Vec<ArrayFormatter<'a>>, ArrowError> {
    static OPTIONS: FormatOptions<'static> = FormatOptions::new();
    batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &OPTIONS))
        .collect()
}

fn is_number(kind: &DataType) -> bool {
    kind.is_integer() || matches!(kind, DataType::Decimal128(..) | DataType::Decimal256(..))
}

fn json(answer: &Answer) -> Result<String, ArrowError> {
    let mut out = String::from("{\"columns\":[");
    let names: Vec<String> = answer
        .schema
        .fields()
        .iter()
        .map(|field| {
            let mut name = String::new();
            write_string(field.name(), &mut name);
            name
        })
        .collect();
    out.push_str(&names.join(","));
    out.push_str("],\"rows\":[");
    let mut count = 0usize;
    for batch in &answer.batches {
        let formatters = formatters(batch)?;
        for row in 0..batch.num_rows() {
            out.push_str(if count == 0 { "\n{" } else { ",\n{" });
            count += 1;
            for (index, (name, (column, formatter))) in names
                .iter()
                .zip(batch.columns().iter().zip(&formatters))
                .enumerate()
            {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(name);
                out.push(':');
                json_value(column.as_ref(), row, formatter, &mut out)?;
            }
            out.push('}');
        }
    }
    out.push_str(&format!(
        "],\"row_count\":{count},\"truncated\":{},\"elapsed_ms\":{}}}\n",
        answer.truncated,
        answer.elapsed.as_millis()
    ));
    Ok(out)
}

fn json_value(
    column: &dyn Array,
    row: usize,
    formatter: &ArrayFormatter<'_>,
    out: &mut String,
) -> Result<(), ArrowError> {
    if column.is_null(row) || column.data_type() == &DataType::Null {
        out.push_str("null");
        return Ok(());
    }
    let text = formatter.value(row).try_to_string()?;
    match column.data_type() {
        DataType::Boolean => out.push_str(&text),
        kind if is_number(kind) => out.push_str(&text),
        // "NaN" and "inf" are not JSON.
        kind if kind.is_floating() && text.parse::<f64>().is_ok_and(f64::is_finite) => {
            out.push_str(&text);
        }
        _ => write_string(&text, out),
    }
    Ok(())
}

fn csv(answer: &Answer) -> Result<String, ArrowError> {
    let mut out = String::new();
    for (index, field) in answer.schema.fields().iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        csv_value(field.name(), &mut out);
    }
    out.push_str("\r\n");
    for batch in &answer.batches {
        let formatters = formatters(batch)?;
        for row in 0..batch.num_rows() {
            for (index, (column, formatter)) in batch.columns().iter().zip(&formatters).enumerate()
            {
                if index > 0 {
                    out.push(',');
                }
                if column.is_valid(row) {
                    csv_value(&formatter.value(row).try_to_string()?, &mut out);
                }
            }
            out.push_str("\r\n");
        }
    }
    Ok(out)
}

fn csv_value(text: &str, out: &mut String) {
    if text.contains(['"', ',', '\n', '\r']) {
        out.push('"');
        out.push_str(&text.replace('"', "\"\""));
        out.push('"');
    } else {
        out.push_str(text);
    }
}
