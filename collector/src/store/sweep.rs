//! Applying retention to the rows of a partition.
//!
//! All spans of a trace share one verdict. What is known of the trace comes from its parts in
//! this partition and in those of neighbouring days, since a trace may cross midnight or a
//! generation.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch, StringViewArray,
};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{
    Decimal128Type, Float64Type, Int8Type, Int32Type, Int64Type, TimestampNanosecondType,
};
use datafusion::arrow::error::ArrowError;
use w3c_traceparent_parser::TraceId;
use w3c_traceparent_parser::otel::{OtState, Randomness, Threshold};
use w3c_traceparent_parser::tracestate::TraceState;

use super::assembled::{Assembled, conform};
use super::compact::{CompactError, class_of, unhex};
use super::parts;
use super::retention::{Kept, TraceFacts, keep};
use crate::assembly::WholeTrace;
use crate::policy::Rules;

/// What is stored of the traces of one partition, here and in partitions of neighbouring days.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    traces: HashMap<[u8; 16], Note>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Note {
    whole: WholeTrace,
    keep: Option<u64>,
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, ArrowError> {
    batch
        .column_by_name(name)
        .ok_or_else(|| ArrowError::SchemaError(format!("no column `{name}`")))
}

impl Noted {
    /// Adds some parts; those of the partition itself come first (`is_own`), and only their
    /// traces are noted.
    pub(crate) fn add(&mut self, parts: &RecordBatch, is_own: bool) -> Result<(), ArrowError> {
        let parts = &conform(parts, &parts::schema())?;
        let ids = column(parts, "trace_id")?.as_string_view();
        let errors = column(parts, "error")?.as_boolean();
        let classes = column(parts, "class")?.as_primitive::<Int8Type>();
        let costs = column(parts, "recorded_cost")?.as_primitive::<Decimal128Type>();
        let spans = column(parts, "span_count")?.as_primitive::<Int64Type>();
        let first = column(parts, "first_seen")?.as_primitive::<TimestampNanosecondType>();
        let last = column(parts, "last_seen")?.as_primitive::<TimestampNanosecondType>();
        let assembled = Assembled::of(parts)?;
        for row in 0..parts.num_rows() {
            let Some(id) = unhex(ids.value(row)) else {
                continue;
            };
            let fresh = Note {
                whole: WholeTrace {
                    first_ns: first.value(row),
                    last_ns: last.value(row),
                    ..WholeTrace::default()
                },
                keep: None,
            };
            let note = if is_own {
                self.traces.entry(id).or_insert(fresh)
            } else if let Some(note) = self.traces.get_mut(&id) {
                note
            } else {
                continue;
            };
            let cost = u64::try_from(costs.value(row)).unwrap_or(u64::MAX);
            let whole = &mut note.whole;
            whole.cost_nanos = whole.cost_nanos.saturating_add(cost);
            whole.spans += u64::try_from(spans.value(row)).unwrap_or(0);
            whole.depth = whole.depth.max(assembled.depth(row));
            whole.error |= errors.value(row);
            whole.class = whole.class.max(class_of(classes.value(row)));
            whole.first_ns = whole.first_ns.min(first.value(row));
            whole.last_ns = whole.last_ns.max(last.value(row));
            note.keep = assembled.keep(row).into_iter().chain(note.keep).min();
        }
        Ok(())
    }

    /// What decides about a trace besides its spans' own columns.
    fn facts(&self, id: &[u8; 16], trace: TraceId, rules: &Rules) -> TraceFacts {
        let note = self.traces.get(id).copied().unwrap_or_default();
        let keep = note.keep.and_then(Threshold::new);
        let by_trace = rules.keep_rules().of_trace(&note.whole);
        TraceFacts {
            randomness: Randomness::from_trace_id(trace),
            error: note.whole.error,
            retention_days: rules.retention_days(note.whole.class),
            keep: keep
                .into_iter()
                .chain(by_trace)
                .min_by_key(|threshold| threshold.value()),
        }
    }
}

/// Columns that [`verdicts`] asks for.
pub(crate) const ASKED: [&str; 3] = ["trace_id", "trace_state", "retention_days"];

/// Verdicts by trace id.
#[derive(Debug, Default)]
pub(crate) struct Verdicts(HashMap<[u8; 16], Option<Kept>>);

impl Verdicts {
    /// Whether any trace stays.
    pub(crate) fn keep_any(&self) -> bool {
        self.0.values().any(Option::is_some)
    }

    fn of(&self, ids: &StringViewArray, row: usize) -> Option<Kept> {
        self.0.get(&unhex(ids.value(row))?).copied().flatten()
    }
}

/// Decides about all traces of some spans.
pub(crate) fn verdicts(
    spans: impl Iterator<Item = Result<RecordBatch, CompactError>>,
    noted: &Noted,
    age_s: u64,
    rules: &Rules,
) -> Result<Verdicts, CompactError> {
    let mut facts: HashMap<[u8; 16], TraceFacts> = HashMap::new();
    for spans in spans {
        let spans = &spans?;
        let ids = column(spans, "trace_id")?.as_string_view();
        let states = column(spans, "trace_state")?.as_string_view();
        let days = column(spans, "retention_days")?.as_primitive::<Int32Type>();
        for row in 0..spans.num_rows() {
            // A damaged id has no verdict and goes first.
            let Some((id, trace)) =
                unhex(ids.value(row)).and_then(|id| Some((id, TraceId::from_bytes(id)?)))
            else {
                continue;
            };
            let days = u16::try_from(days.value(row)).unwrap_or(u16::MAX);
            let explicit = if states.is_valid(row) {
                explicit_randomness(states.value(row))
            } else {
                None
            };
            let known = facts
                .entry(id)
                .or_insert_with(|| noted.facts(&id, trace, rules));
            known.retention_days = known.retention_days.min(days);
            if let Some(randomness) = explicit {
                known.randomness = randomness;
            }
        }
    }
    let verdicts = facts
        .iter()
        .map(|(id, facts)| (*id, keep(facts, age_s, rules.storage())));
    Ok(Verdicts(verdicts.collect()))
}

fn explicit_randomness(trace_state: &str) -> Option<Randomness> {
    let state = TraceState::parse(trace_state.as_bytes()).ok()?;
    OtState::parse(state.get(b"ot")?).randomness()
}

/// The spans that stay.
pub(crate) fn stay(spans: &RecordBatch, verdicts: &Verdicts) -> Result<RecordBatch, ArrowError> {
    raise_counts(&filtered(spans, verdicts)?, verdicts)
}

/// The rows of traces that stay.
pub(crate) fn filtered(
    batch: &RecordBatch,
    verdicts: &Verdicts,
) -> Result<RecordBatch, ArrowError> {
    let ids = column(batch, "trace_id")?.as_string_view();
    let stays: BooleanArray = (0..batch.num_rows())
        .map(|row| Some(verdicts.of(ids, row).is_some()))
        .collect();
    filter_record_batch(batch, &stays)
}

/// A sampled span stands for more traces than before. One that a rule kept (no count, but a
/// reason) was never part of a sample and stays out of estimates.
fn raise_counts(spans: &RecordBatch, verdicts: &Verdicts) -> Result<RecordBatch, ArrowError> {
    let ids = column(spans, "trace_id")?.as_string_view();
    let reasons = column(spans, "sampling_reason")?;
    let counts = column(spans, "adjusted_count")?.as_primitive::<Float64Type>();
    let raised: Float64Array = (0..spans.num_rows())
        .map(|row| {
            let count = counts.is_valid(row).then(|| counts.value(row));
            match verdicts.of(ids, row) {
                Some(Kept::Sampled(threshold)) if count.is_some() || reasons.is_null(row) => {
                    Some(count.unwrap_or(1.0).max(threshold.adjusted_count()))
                }
                _ => count,
            }
        })
        .collect();
    let index = spans.schema().index_of("adjusted_count")?;
    let mut columns = spans.columns().to_vec();
    if let Some(slot) = columns.get_mut(index) {
        *slot = Arc::new(raised);
    }
    RecordBatch::try_new(spans.schema(), columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::compact::{Rest, merge_parts};
    use crate::store::stream::{order, ordered};
    use crate::store::{Settings, Snapshot, Store};
    use crate::testing::{decode, double, request, span, text};
    use std::time::Instant;

    const DAY: u64 = 86_400;

    struct Content {
        spans: Vec<RecordBatch>,
        parts: RecordBatch,
    }

    impl Content {
        fn of(snapshot: &Snapshot) -> Self {
            let order = order(&snapshot.spans);
            let spans = ordered(&snapshot.spans, &order);
            Self {
                spans: spans.map(Result::unwrap).collect(),
                parts: Rest::of(&snapshot.parts, &[]).unwrap().parts,
            }
        }

        fn rows(&self) -> usize {
            self.spans.iter().map(RecordBatch::num_rows).sum()
        }
    }

    /// 2,000 traces of two spans; every tenth has an error.
    fn content() -> Content {
        let store = Store::new(Settings::default(), 0, Vec::new());
        let mut random = fastrand::Rng::with_seed(5);
        for trace in 0..2_000u64 {
            let id = random.u128(1..);
            let mut attributes = vec![double("cost_usd", 0.001)];
            if trace % 10 == 0 {
                attributes.push(text("http.status_code", "500"));
            }
            let spans = vec![
                span(id, 2 * trace + 1, 0, 0, attributes),
                span(
                    id,
                    2 * trace + 2,
                    2 * trace + 1,
                    0,
                    vec![double("cost_usd", 0.001)],
                ),
            ];
            store
                .insert(&decode(&request("a", spans)), Instant::now())
                .unwrap();
        }
        Content::of(&store.snapshot().unwrap())
    }

    fn swept(content: Content, age_s: u64) -> Option<Content> {
        let rules = Rules::load(None).unwrap();
        sweep_by(content, age_s, &rules)
    }

    fn sweep_by(content: Content, age_s: u64, rules: &Rules) -> Option<Content> {
        let mut noted = Noted::default();
        noted.add(&content.parts, true).unwrap();
        let spans = content.spans.iter().cloned().map(Ok);
        let verdicts = verdicts(spans, &noted, age_s, rules).unwrap();
        let spans = content.spans.iter();
        verdicts.keep_any().then(|| Content {
            spans: spans.map(|batch| stay(batch, &verdicts).unwrap()).collect(),
            parts: filtered(&content.parts, &verdicts).unwrap(),
        })
    }

    fn total(content: &Content) -> f64 {
        let of = |spans: &RecordBatch| -> f64 {
            let counts = spans.column_by_name("adjusted_count").unwrap();
            let errors = spans.column_by_name("error").unwrap().as_boolean();
            let counts = counts.as_primitive::<Float64Type>();
            // Non-error spans only: those are the sampled ones (errors' siblings aside).
            (0..counts.len())
                .filter(|row| !errors.value(*row) && counts.is_valid(*row))
                .map(|row| counts.value(row))
                .sum()
        };
        content.spans.iter().map(of).sum()
    }

    #[test]
    fn rules_about_whole_traces_decide_what_stays_in_a_tier() {
        let share = |condition: &str, rate: &str, age_s: u64| {
            let yaml = format!(
                "sampling: {{priority_rules: [{{name: a, condition: '{condition}', \
                 sample_rate: {rate}}}]}}"
            );
            let policy = mesh_config::Policy::from_yaml(&yaml, "test")
                .unwrap()
                .policy;
            let rules = Rules::compile(policy).unwrap();
            let left = sweep_by(content(), age_s, &rules).unwrap();
            (left.parts.num_rows(), left.rows(), total(&left))
        };
        // Every trace costs 0.002 with its two spans, none of which costs more than 0.001.
        for age_s in [2 * DAY, 8 * DAY] {
            assert_eq!(share("cost_usd > 0.0015", "1.0", age_s).0, 2_000);
            assert!(share("cost_usd > 0.002", "1.0", age_s).0 < 450);
            let (traces, spans, estimate) = share("trace.spans >= 2", "0.5", age_s);
            assert!((1_000..1_200).contains(&traces), "{traces}");
            assert_eq!(spans, 2 * traces, "whole traces");
            assert!(
                (3_600.0 - estimate).abs() < 300.0,
                "each stands for two: {estimate}"
            );
        }
    }

    #[test]
    fn a_rule_about_spans_is_remembered_by_the_parts() {
        let yaml = "sampling: {priority_rules: [{name: a, condition: hitl_required = true, \
                    sample_rate: 1.0}]}";
        let policy = mesh_config::Policy::from_yaml(yaml, "test").unwrap().policy;
        let rules = Arc::new(Rules::compile(policy).unwrap());
        let store = Store::new(Settings::default(), 0, Vec::new());
        store.assemble(&rules);
        let mut random = fastrand::Rng::with_seed(6);
        for trace in 0..300u64 {
            let id = random.u128(1..);
            let review = if trace % 3 == 0 { "true" } else { "false" };
            // Two requests: the second one knows nothing of the review.
            for (span_id, attributes) in [
                (1, vec![text("hitl_required", review)]),
                (2, vec![double("cost_usd", 0.001)]),
            ] {
                let spans = vec![span(id, span_id, 0, 0, attributes)];
                let batch = decode(&request("a", spans));
                store.insert(&batch, Instant::now()).unwrap();
            }
        }
        let mut content = Content::of(&store.snapshot().unwrap());
        content.parts = merge_parts(&content.parts).unwrap();
        let left = sweep_by(content, 8 * DAY, &rules).unwrap();
        assert!(
            (100..115).contains(&left.parts.num_rows()),
            "{}",
            left.parts.num_rows()
        );
        assert_eq!(left.rows(), 2 * left.parts.num_rows());
    }

    #[test]
    fn whole_traces_stay_by_their_randomness_and_estimates_stay_unbiased() {
        assert_eq!(swept(content(), DAY - 1).unwrap().rows(), 4_000);
        let warm = swept(content(), DAY).unwrap();
        // 200 error traces and about a tenth of the other 1,800, all with both spans.
        let traces = warm.parts.num_rows();
        assert!((330..=430).contains(&traces), "{traces}");
        assert_eq!(warm.rows(), 2 * traces);
        let estimate = total(&warm);
        assert!((3_600.0 - estimate).abs() < 600.0, "{estimate}");

        let again = swept(warm, 2 * DAY).unwrap();
        assert_eq!(
            again.parts.num_rows(),
            traces,
            "a second sweep changes nothing"
        );
        let cold = swept(again, 8 * DAY).unwrap();
        assert!((200..=250).contains(&cold.parts.num_rows()));
        assert!(swept(cold, 30 * DAY).is_none());
    }
}
