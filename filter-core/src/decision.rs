//! Keep or drop, and which threshold may be written: OpenTelemetry consistent sampling.
//!
//! One pure function over the trace's randomness R, the incoming state and the local threshold.
//! Rules (tracestate-probability-sampling, and rulings on parent-based decisions):
//! - keep = parent sampled (as far as it is trusted), or R >= T of the local probability;
//! - the same R gives the same answer at every hop, so nothing is re-rolled: a higher local rate
//!   keeps the trace from this hop on, and the effective threshold is the lower of the two;
//! - `th` leaves only when the probability is known: a parent that was sampled without `th`, or
//!   against its own `th`, was kept for another reason and no `th` goes out;
//! - a dropped request leaves without `th`.

use w3c_traceparent_parser::otel::{Randomness, Threshold};

/// What the incoming context says about sampling, after the trust boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// No context, or one whose decision this boundary ignores.
    Unknown,
    /// A parent that was dropped.
    Unsampled,
    /// A parent that was kept, with the threshold it claims.
    Sampled(Option<Threshold>),
}

/// The outcome for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Decision {
    /// Whether this hop's span is kept and the sampled flag goes out.
    pub keep: bool,
    /// True when only the parent's decision keeps the request: the local probability would not.
    pub by_parent: bool,
    /// Threshold to write as `th`; `None` = no `th` may go out.
    pub threshold: Option<Threshold>,
}

/// Decides one request. `local` is the threshold of the largest local probability; `None` is a
/// probability of zero.
pub fn decide(parent: Parent, randomness: Randomness, local: Option<Threshold>) -> Decision {
    let local = local.filter(|threshold| threshold.keeps(randomness));
    match parent {
        Parent::Unknown | Parent::Unsampled => Decision {
            keep: local.is_some(),
            by_parent: false,
            threshold: local,
        },
        Parent::Sampled(claimed) => {
            let consistent = claimed.filter(|threshold| threshold.keeps(randomness));
            let threshold = match (consistent, local) {
                (Some(theirs), Some(ours)) => Some(theirs.min(ours)),
                (Some(theirs), None) => Some(theirs),
                (None, _) => None,
            };
            Decision {
                keep: true,
                by_parent: local.is_none(),
                threshold,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use w3c_traceparent_parser::TraceId;

    fn randomness(low: u64) -> Randomness {
        let mut id = [1; 16];
        id[8..].copy_from_slice(&low.to_be_bytes());
        id[8] = 0;
        Randomness::from_trace_id(TraceId::from_bytes(id).unwrap())
    }

    fn threshold(hex: &str) -> Threshold {
        Threshold::parse(hex.as_bytes()).unwrap()
    }

    #[test]
    fn the_table_of_parents_and_local_rates() {
        let high = randomness(0xf0_0000_0000_0000);
        let low = randomness(0x10_0000_0000_0000);
        let half = threshold("8");
        let tenth = threshold("e666");
        let always = threshold("0");
        // (parent, R, local, keep, by_parent, th that leaves)
        let table = [
            (Parent::Unknown, high, Some(half), true, false, Some(half)),
            (Parent::Unknown, low, Some(half), false, false, None),
            (Parent::Unknown, high, None, false, false, None),
            (
                Parent::Unsampled,
                high,
                Some(tenth),
                true,
                false,
                Some(tenth),
            ),
            (Parent::Unsampled, low, Some(tenth), false, false, None),
            // th kept: the parent's probability is the larger one
            (
                Parent::Sampled(Some(half)),
                high,
                Some(tenth),
                true,
                false,
                Some(half),
            ),
            // th lowered: the local probability is the larger one
            (
                Parent::Sampled(Some(tenth)),
                high,
                Some(half),
                true,
                false,
                Some(half),
            ),
            (
                Parent::Sampled(Some(tenth)),
                high,
                Some(always),
                true,
                false,
                Some(always),
            ),
            // th kept though the local rate would drop
            (
                Parent::Sampled(Some(always)),
                low,
                Some(half),
                true,
                true,
                Some(always),
            ),
            // th erased: the flag contradicts R >= T
            (
                Parent::Sampled(Some(half)),
                low,
                Some(always),
                true,
                false,
                None,
            ),
            (Parent::Sampled(Some(half)), low, None, true, true, None),
            // kept at an unknown rate: no th
            (Parent::Sampled(None), high, Some(half), true, false, None),
        ];
        for (index, (parent, r, local, keep, by_parent, th)) in table.into_iter().enumerate() {
            let wanted = Decision {
                keep,
                by_parent,
                threshold: th,
            };
            assert_eq!(decide(parent, r, local), wanted, "row {index}");
        }
    }

    #[test]
    fn a_written_threshold_always_agrees_with_the_flag_that_leaves_with_it() {
        let mut rng = fastrand::Rng::with_seed(11);
        for _ in 0..100_000 {
            let r = randomness(rng.u64(..) >> 8);
            let any = |rng: &mut fastrand::Rng| Threshold::from_probability(rng.f64());
            let parent = match rng.u8(0..3) {
                0 => Parent::Unknown,
                1 => Parent::Unsampled,
                _ => Parent::Sampled(any(&mut rng)),
            };
            let local = any(&mut rng);
            let decision = decide(parent, r, local);
            if let Some(threshold) = decision.threshold {
                assert!(decision.keep && threshold.keeps(r));
            }
            assert_eq!(decision, decide(parent, r, local), "replayable");
        }
    }
}
