//! What the assembly has to say: to the stored parts, to the alerts, about itself.

use mesh_config::sampling::Threshold;
use serde::{Deserialize, Serialize};

/// Traces named as examples of a count between two looks.
const MAX_EXAMPLES: usize = 20;

/// What a span has changed about its trace.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Observed {
    /// Spans on the trace's longest chain.
    pub(crate) depth: u32,
    /// Spans that began to wait for a parent, less those that found theirs.
    pub(crate) orphans: i64,
    /// The threshold of the rules that hold because of this span.
    pub(crate) keep: Option<Threshold>,
}

/// A trace that has met the condition of a watch, for the first time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Crossing {
    /// Number of the watch.
    pub(crate) watch: usize,
    /// The trace.
    pub(crate) trace: u128,
    /// Its number then; money in nano-USD.
    pub(crate) value: f64,
    /// When the span arrived, nanoseconds since the epoch.
    pub(crate) at_ns: u64,
}

/// What a watch has counted since the last look.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Counted {
    /// How many.
    pub(crate) count: u64,
    /// Some of their traces.
    pub(crate) examples: Vec<u128>,
    /// Counts to take back, with the second at which they were counted.
    pub(crate) taken_back: Vec<(u32, u64)>,
}

/// What was counted, as remembered across restarts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Until {
    /// Spans that arrived up to then, nanoseconds since the epoch.
    pub(crate) arrived_ns: u64,
    /// Graces that ended up to then.
    pub(crate) judged_ns: u64,
}

/// Everything since the last look.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// By number of the watch.
    pub(crate) counted: Vec<Counted>,
    /// Traces that met a condition.
    pub(crate) crossings: Vec<Crossing>,
}

/// How the assembly is doing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stats {
    /// Traces in memory.
    pub(crate) traces: usize,
    /// Their memory.
    pub(crate) bytes: usize,
    /// Traces dropped for lack of memory.
    pub(crate) evicted: u64,
    /// Spans of traces with too many spans, left out of depth and orphans.
    pub(crate) unplaced: u64,
    /// Spans whose parent is their own descendant.
    pub(crate) circles: u64,
    /// Waiting spans that were never judged: their trace was dropped, or too many waited.
    pub(crate) unjudged: u64,
}

impl Counted {
    /// Counts `count` for a trace.
    pub(super) fn add(&mut self, count: u64, trace: u128) {
        self.count += count;
        if count > 0 && self.examples.len() < MAX_EXAMPLES && self.examples.last() != Some(&trace) {
            self.examples.push(trace);
        }
    }
}
