//! Trace parts: what one request added to one trace on one day.
//!
//! `trace_metadata` groups parts by trace. All its columns are sums, minima, maxima, "any" or
//! unions, so parts may come in any order and number, and be merged at any time. The number of
//! orphans is a sum, too: a span that waits for its parent adds one, its parent takes it away.
//!
//! Columns from `depth` on came later: partitions written before lack them, and they are null.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    ArrayRef, BooleanBuilder, Decimal128Builder, Int8Builder, Int64Builder, RecordBatch,
    StringViewBuilder, TimestampNanosecondBuilder,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use mesh_config::DataTag;

use super::columns::{MONEY_PRECISION, MONEY_SCALE, UTC, timestamp};
use crate::assembly::Observed;
use crate::otlp::batch::{CostSource, SpanBatch, SpanRow};
use crate::otlp::lists::write_hex;

/// Nanoseconds of a day.
pub(crate) const DAY_NS: i64 = 86_400_000_000_000;

/// Days since the epoch.
pub(crate) fn day_of(start_ns: i64) -> i64 {
    start_ns.div_euclid(DAY_NS)
}

/// Linked traces of one part; further ones are in the spans' `links` only.
pub(crate) const MAX_LINKED: usize = 64;

/// Own costs by where they come from; their sum is the recorded cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Costs {
    /// From the application.
    pub(crate) app: u64,
    /// From the filter.
    pub(crate) mesh: u64,
    /// From the policy's prices, by operation or by tokens.
    pub(crate) priced: u64,
    /// The default price: nothing named an operation.
    pub(crate) default: u64,
}

impl Costs {
    fn add(&mut self, source: CostSource, nanos: u64) {
        let slot = match source {
            CostSource::App => &mut self.app,
            CostSource::MeshEstimate => &mut self.mesh,
            CostSource::PriceTable | CostSource::TokenPrice => &mut self.priced,
            CostSource::DefaultPrice | CostSource::NotCharged => &mut self.default,
        };
        *slot = slot.saturating_add(nanos);
    }

    /// Adds those of another part.
    pub(crate) fn merge(&mut self, more: Self) {
        self.app = self.app.saturating_add(more.app);
        self.mesh = self.mesh.saturating_add(more.mesh);
        self.priced = self.priced.saturating_add(more.priced);
        self.default = self.default.saturating_add(more.default);
    }
}

/// What some spans of one trace add up to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Part {
    /// Sum of the spans' own costs.
    pub(crate) cost_nanos: u64,
    /// Number of spans.
    pub(crate) spans: i64,
    /// True when any span is in the error class.
    pub(crate) error: bool,
    /// The strictest class.
    pub(crate) class: DataTag,
    /// Earliest start.
    pub(crate) first_ns: i64,
    /// Latest end.
    pub(crate) last_ns: i64,
    /// Service and operation of the root span, when it is among these spans.
    pub(crate) root: Option<(Box<str>, Box<str>)>,
    /// Spans on the trace's longest chain, as far as known then.
    pub(crate) depth: u32,
    /// Spans that began to wait for a parent, less those that found theirs.
    pub(crate) orphans: i64,
    /// Costs by source.
    pub(crate) costs: Costs,
    /// Spans at the default price: nothing named an operation.
    pub(crate) unpriced: i64,
    /// The lowest threshold of the policy's rules that hold.
    pub(crate) keep: Option<u64>,
    /// Traces that links of these spans point to.
    pub(crate) linked: BTreeSet<Box<str>>,
}

impl Part {
    fn observe(&mut self, batch: &SpanBatch, row: &SpanRow, observed: &Observed) {
        self.depth = self.depth.max(observed.depth);
        self.orphans += observed.orphans;
        self.costs.add(row.cost_source, row.cost_nanos.unwrap_or(0));
        self.unpriced += i64::from(row.cost_source == CostSource::DefaultPrice);
        self.keep_at_least(observed.keep.map(|threshold| threshold.value()));
        self.link(batch.str(row.linked_traces));
    }

    /// Takes over a threshold that keeps more.
    pub(crate) fn keep_at_least(&mut self, threshold: Option<u64>) {
        self.keep = match (self.keep, threshold) {
            (Some(own), Some(other)) => Some(own.min(other)),
            (own, other) => own.or(other),
        };
    }

    /// Adds linked traces, a blank between them.
    pub(crate) fn link(&mut self, ids: &str) {
        for id in ids.split_ascii_whitespace() {
            if self.linked.len() < MAX_LINKED {
                self.linked.insert(id.into());
            }
        }
    }

    fn add(&mut self, batch: &SpanBatch, row: &SpanRow) {
        if self.spans == 0 {
            self.first_ns = row.start_ns;
            self.last_ns = row.end_ns;
        }
        self.spans += 1;
        self.cost_nanos = self.cost_nanos.saturating_add(row.cost_nanos.unwrap_or(0));
        self.error |= row.error;
        self.class = self.class.max(row.class);
        self.first_ns = self.first_ns.min(row.start_ns);
        self.last_ns = self.last_ns.max(row.end_ns);
        if row.parent_id == [0; 8] {
            let service = batch.str(batch.resource(row).service);
            self.root = Some((service.into(), batch.str(row.name).into()));
        }
    }
}

/// Adds up the accepted rows of one request, which come trace by trace, and hands out one part per
/// trace and day.
pub(crate) fn of_rows(
    batch: &SpanBatch,
    rows: &[(&SpanRow, Observed)],
    mut each: impl FnMut(&[u8; 16], &Part) -> Result<(), ArrowError>,
) -> Result<(), ArrowError> {
    // Nearly always one.
    let mut days: Vec<(i64, Part)> = Vec::new();
    for of_trace in rows.chunk_by(|(a, _), (b, _)| a.trace_id == b.trace_id) {
        for (row, observed) in of_trace {
            let day = day_of(row.start_ns);
            if !days.iter().any(|(known, _)| *known == day) {
                days.push((day, Part::default()));
            }
            if let Some((_, part)) = days.iter_mut().find(|(known, _)| *known == day) {
                part.add(batch, row);
                part.observe(batch, row, observed);
            }
        }
        let trace_id = of_trace.first().map_or([0; 16], |(row, _)| row.trace_id);
        for (_, part) in days.drain(..) {
            each(&trace_id, &part)?;
        }
    }
    Ok(())
}

/// The schema of stored parts.
pub(crate) fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let money = DataType::Decimal128(MONEY_PRECISION, MONEY_SCALE);
        Arc::new(Schema::new(vec![
            Field::new("trace_id", DataType::Utf8View, false),
            Field::new("recorded_cost", money.clone(), false),
            Field::new("span_count", DataType::Int64, false),
            Field::new("error", DataType::Boolean, false),
            Field::new("class", DataType::Int8, false),
            Field::new("first_seen", timestamp(), false),
            Field::new("last_seen", timestamp(), false),
            Field::new("root_service", DataType::Utf8View, true),
            Field::new("root_operation", DataType::Utf8View, true),
            Field::new("depth", DataType::Int64, true),
            Field::new("orphans", DataType::Int64, true),
            Field::new("app_cost", money.clone(), true),
            Field::new("mesh_cost", money.clone(), true),
            Field::new("priced_cost", money.clone(), true),
            Field::new("default_cost", money, true),
            Field::new("unpriced_spans", DataType::Int64, true),
            Field::new("keep_threshold", DataType::Int64, true),
            Field::new("linked_traces", DataType::Utf8View, true),
        ]))
    });
    SCHEMA.clone()
}

/// Builders of the columns of parts.
pub(crate) struct PartColumns {
    trace_id: StringViewBuilder,
    recorded_cost: Decimal128Builder,
    span_count: Int64Builder,
    error: BooleanBuilder,
    class: Int8Builder,
    first_seen: TimestampNanosecondBuilder,
    last_seen: TimestampNanosecondBuilder,
    root_service: StringViewBuilder,
    root_operation: StringViewBuilder,
    depth: Int64Builder,
    orphans: Int64Builder,
    app_cost: Decimal128Builder,
    mesh_cost: Decimal128Builder,
    priced_cost: Decimal128Builder,
    default_cost: Decimal128Builder,
    unpriced_spans: Int64Builder,
    keep_threshold: Int64Builder,
    linked_traces: StringViewBuilder,
    rows: usize,
    hex: String,
}

impl Default for PartColumns {
    fn default() -> Self {
        let money = || {
            Decimal128Builder::new()
                .with_data_type(DataType::Decimal128(MONEY_PRECISION, MONEY_SCALE))
        };
        Self {
            trace_id: StringViewBuilder::new(),
            recorded_cost: money(),
            span_count: Int64Builder::new(),
            error: BooleanBuilder::new(),
            class: Int8Builder::new(),
            first_seen: TimestampNanosecondBuilder::new().with_timezone(UTC),
            last_seen: TimestampNanosecondBuilder::new().with_timezone(UTC),
            root_service: StringViewBuilder::new().with_deduplicate_strings(),
            root_operation: StringViewBuilder::new().with_deduplicate_strings(),
            depth: Int64Builder::new(),
            orphans: Int64Builder::new(),
            app_cost: money(),
            mesh_cost: money(),
            priced_cost: money(),
            default_cost: money(),
            unpriced_spans: Int64Builder::new(),
            keep_threshold: Int64Builder::new(),
            linked_traces: StringViewBuilder::new(),
            rows: 0,
            hex: String::with_capacity(32),
        }
    }
}

macro_rules! arrays {
    ($self:ident, $finish:ident) => {
        vec![
            Arc::new($self.trace_id.$finish()) as ArrayRef,
            Arc::new($self.recorded_cost.$finish()),
            Arc::new($self.span_count.$finish()),
            Arc::new($self.error.$finish()),
            Arc::new($self.class.$finish()),
            Arc::new($self.first_seen.$finish().with_timezone(UTC)),
            Arc::new($self.last_seen.$finish().with_timezone(UTC)),
            Arc::new($self.root_service.$finish()),
            Arc::new($self.root_operation.$finish()),
            Arc::new($self.depth.$finish()),
            Arc::new($self.orphans.$finish()),
            Arc::new($self.app_cost.$finish()),
            Arc::new($self.mesh_cost.$finish()),
            Arc::new($self.priced_cost.$finish()),
            Arc::new($self.default_cost.$finish()),
            Arc::new($self.unpriced_spans.$finish()),
            Arc::new($self.keep_threshold.$finish()),
            Arc::new($self.linked_traces.$finish()),
        ]
    };
}

impl PartColumns {
    /// Rows so far.
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// Appends one part.
    pub(crate) fn push(&mut self, trace_id: &[u8; 16], part: &Part) {
        self.hex.clear();
        write_hex(trace_id, &mut self.hex);
        self.trace_id.append_value(&self.hex);
        self.recorded_cost.append_value(i128::from(part.cost_nanos));
        self.span_count.append_value(part.spans);
        self.error.append_value(part.error);
        self.class.append_value(part.class as i8);
        self.first_seen.append_value(part.first_ns);
        self.last_seen.append_value(part.last_ns);
        let root = part.root.as_ref();
        self.root_service
            .append_option(root.map(|(service, _)| service));
        self.root_operation
            .append_option(root.map(|(_, operation)| operation));
        self.push_assembled(part);
        self.rows += 1;
    }

    fn push_assembled(&mut self, part: &Part) {
        // 0: read from a partition that did not know.
        let depth = (part.depth > 0).then_some(i64::from(part.depth));
        self.depth.append_option(depth);
        self.orphans.append_value(part.orphans);
        let Costs {
            app,
            mesh,
            priced,
            default,
        } = part.costs;
        for (builder, nanos) in [
            (&mut self.app_cost, app),
            (&mut self.mesh_cost, mesh),
            (&mut self.priced_cost, priced),
            (&mut self.default_cost, default),
        ] {
            builder.append_value(i128::from(nanos));
        }
        self.unpriced_spans.append_value(part.unpriced);
        // 56 bits.
        let keep = part.keep.and_then(|value| i64::try_from(value).ok());
        self.keep_threshold.append_option(keep);
        let linked = part.linked.iter().map(|id| &**id).collect::<Vec<_>>();
        let linked = (!linked.is_empty()).then(|| linked.join(" "));
        self.linked_traces.append_option(linked);
    }

    /// The rows as a batch; the builders start again.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        self.rows = 0;
        RecordBatch::try_new(schema(), arrays!(self, finish))
    }

    /// A copy of the rows so far.
    pub(crate) fn snapshot(&self) -> Result<RecordBatch, ArrowError> {
        RecordBatch::try_new(schema(), arrays!(self, finish_cloned))
    }
}
