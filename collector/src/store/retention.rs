//! Which rows stay how long, and where: pure decisions over the catalog, the clock and the
//! policy.
//!
//! A trace stays while any of this holds, and none of its spans' data class has run out:
//!
//! - hot, warm, cold: its partition is younger than the tier's end and the trace's own randomness
//!   is within the tier's share, or within the rate of a rule that the whole trace meets,
//!   whichever is larger. The tiers are nested: the same randomness decides everywhere.
//! - errors: it has an error and is younger than the policy's `errors`.
//!
//! Ledger rows stay for `aggregates`, whatever happens to spans.
//!
//! Ages are counted from a partition's youngest span, so nothing goes early. Partitions of the
//! hot tier hold at most an hour or so (merges keep hours apart), later ones a day: nothing stays
//! more than an hour, or later a day, too long. A partition is *due* when it has passed a boundary
//! since it was last swept ([`Meta::swept_s`]).
//!
//! # The plan
//!
//! [`plan`] says what to do now. Each step is one exchange in the catalog, so a crash leaves the
//! state before or after it, and planning again from there goes on; when there is nothing to do,
//! the plan is empty. Spans move to a tier's back end once their whole day has reached the tier,
//! so that a day becomes few objects. Removing what has run out never waits for a back end, except
//! for rows that are in one.

use std::time::Duration;

use mesh_config::policy::TraceStorage;
use w3c_traceparent_parser::otel::{Randomness, Threshold};

use super::catalog::Meta;
use super::parts::DAY_NS;

/// Nanoseconds of a second.
pub(crate) const NS_PER_S: i64 = 1_000_000_000;

/// What decides about one trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceFacts {
    /// The trace's own randomness.
    pub(crate) randomness: Randomness,
    /// True when any span is in the error class.
    pub(crate) error: bool,
    /// The smallest number of days that the classes of its spans allow.
    pub(crate) retention_days: u16,
    /// The lowest threshold of the rules that the trace meets.
    pub(crate) keep: Option<Threshold>,
}

/// Why a trace stays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kept {
    /// Certainly: the hot tier, or an error. Its spans stand for what they stood for before.
    Certain,
    /// As one of those within this threshold; its spans stand for more traces than before.
    Sampled(Threshold),
}

/// The tier that spans of an age are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    /// Everything that was received; always in the data folder.
    Hot,
    /// The larger sample.
    Warm,
    /// The smaller sample, and errors for as long as they stay.
    Cold,
}

impl Tier {
    /// The tier at an age.
    pub(crate) fn at(age_s: u64, storage: &TraceStorage) -> Self {
        if age_s < storage.hot.duration.as_secs() {
            Self::Hot
        } else if age_s < storage.warm.duration.as_secs() {
            Self::Warm
        } else {
            Self::Cold
        }
    }

    /// The name in policy and plans.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Warm => "warm",
            Self::Cold => "cold",
        }
    }
}

/// Which place a tier's spans belong in; `None` is the data folder.
pub(crate) trait Placing {
    /// See the trait.
    fn place(&self, tier: Tier) -> Option<&str>;
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing of the partition may stay: it leaves the catalog, its files and objects go.
    Expire,
    /// A boundary was passed, or the spans are in a place where they do not belong: rewrite it in
    /// the data folder without what has run out.
    Sweep {
        /// The boundary, an age in seconds.
        boundary_s: u64,
    },
    /// Upload its spans and forget the local file.
    Move {
        /// Where to.
        place: String,
    },
}

/// What to do now, by partition, in the catalog's order; at most one step for each.
pub(crate) fn plan<'a>(
    metas: impl Iterator<Item = &'a Meta>,
    storage: &TraceStorage,
    places: &impl Placing,
    now_ns: i64,
) -> Vec<(&'a Meta, Action)> {
    metas
        .filter_map(|meta| Some((meta, next(meta, storage, places, now_ns)?)))
        .collect()
}

fn next(meta: &Meta, storage: &TraceStorage, places: &impl Placing, now_ns: i64) -> Option<Action> {
    let age = age_s(meta, now_ns);
    if age >= last_boundary(meta, storage) {
        return Some(Action::Expire);
    }
    let passed = boundaries(meta, storage);
    let boundary_s = passed.into_iter().rfind(|boundary| *boundary <= age);
    if let Some(boundary_s) = boundary_s.filter(|boundary| *boundary > meta.swept_s) {
        return Some(Action::Sweep { boundary_s });
    }
    if meta.rows == 0 {
        return None;
    }
    let day_end = meta.day.saturating_add(1).saturating_mul(DAY_NS);
    let whole_day_s =
        now_ns.saturating_sub(day_end).max(0).unsigned_abs() / NS_PER_S.unsigned_abs();
    let wanted = places.place(Tier::at(whole_day_s, storage));
    match (&meta.place, wanted) {
        (None, Some(place)) => Some(Action::Move {
            place: place.to_owned(),
        }),
        (Some(place), Some(wanted)) if place == wanted => None,
        // Back into the folder first, on from there by the next plan. Where the rows of the
        // partition itself are younger than its day, they stay where they are.
        (Some(place), _) if places.place(Tier::at(age, storage)) != Some(place) => {
            Some(Action::Sweep {
                boundary_s: meta.swept_s,
            })
        }
        _ => None,
    }
}

/// The age at which nothing of a partition may stay.
fn last_boundary(meta: &Meta, storage: &TraceStorage) -> u64 {
    let spans = if meta.rows > 0 {
        let cap = meta.retention_days.iter().map(|days| days_s(*days)).max();
        [&storage.hot, &storage.warm, &storage.cold]
            .map(|tier| tier.duration.as_secs())
            .into_iter()
            .chain([storage.errors.as_secs()])
            .max()
            .unwrap_or(0)
            .min(cap.unwrap_or(u64::MAX))
    } else {
        0
    };
    let ledger = if meta.ledger > 0 {
        storage.aggregates.as_secs()
    } else {
        0
    };
    spans.max(ledger)
}

/// The age of a partition's youngest row in seconds; 0 while it is in the future.
pub(crate) fn age_s(meta: &Meta, now_ns: i64) -> u64 {
    let youngest = if meta.rows > 0 {
        meta.max_ns
    } else {
        (meta.day + 1) * DAY_NS
    };
    now_ns.saturating_sub(youngest).max(0).unsigned_abs() / NS_PER_S.unsigned_abs()
}

/// The ages at which something may leave a partition, ascending.
pub(crate) fn boundaries(meta: &Meta, storage: &TraceStorage) -> Vec<u64> {
    let mut ages: Vec<u64> = Vec::new();
    if meta.rows > 0 {
        let ends = [
            storage.hot.duration,
            storage.warm.duration,
            storage.cold.duration,
            storage.errors,
        ];
        ages.extend(ends.map(|end| end.as_secs()));
        ages.extend(meta.retention_days.iter().map(|days| days_s(*days)));
    }
    if meta.ledger > 0 {
        ages.push(storage.aggregates.as_secs());
    }
    ages.sort_unstable();
    ages.dedup();
    ages
}

fn days_s(days: u16) -> u64 {
    Duration::from_secs(86_400).as_secs() * u64::from(days)
}

/// True when a boundary was passed since the last sweep.
#[cfg(test)]
fn is_due(meta: &Meta, storage: &TraceStorage, now_ns: i64) -> bool {
    let age = age_s(meta, now_ns);
    boundaries(meta, storage)
        .iter()
        .any(|boundary| *boundary > meta.swept_s && *boundary <= age)
}

/// Whether a trace stays in a partition of this age.
pub(crate) fn keep(trace: &TraceFacts, age_s: u64, storage: &TraceStorage) -> Option<Kept> {
    if age_s >= days_s(trace.retention_days) {
        return None;
    }
    if age_s < storage.hot.duration.as_secs() || (trace.error && age_s < storage.errors.as_secs()) {
        return Some(Kept::Certain);
    }
    let tier = [&storage.warm, &storage.cold]
        .into_iter()
        .find(|tier| age_s < tier.duration.as_secs())?;
    // `None`: a share so small that nothing is kept.
    let share = Threshold::from_probability(tier.sampling.get());
    let threshold = share
        .into_iter()
        .chain(trace.keep)
        .min_by_key(|threshold| threshold.value())?;
    threshold
        .keeps(trace.randomness)
        .then_some(Kept::Sampled(threshold))
}

/// Whether ledger rows stay in a partition of this age.
pub(crate) fn keeps_ledger(age_s: u64, storage: &TraceStorage) -> bool {
    age_s < storage.aggregates.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600;
    const DAY: u64 = 24 * HOUR;

    fn facts(share: f64, error: bool, retention_days: u16) -> TraceFacts {
        // Randomness just inside the given share.
        let value = ((1.0 - share) * (1u64 << 56) as f64) as u64;
        let randomness = Randomness::new(value.min((1 << 56) - 1)).unwrap();
        TraceFacts {
            randomness,
            error,
            retention_days,
            keep: None,
        }
    }

    #[test]
    fn a_rule_raises_a_tiers_share_and_never_lowers_it() {
        let storage = TraceStorage::default();
        let ruled = |share, rate| {
            let keep = Threshold::from_probability(rate);
            let facts = TraceFacts {
                keep,
                ..facts(share, false, 365)
            };
            keep_at(&facts, &storage)
        };
        fn keep_at(facts: &TraceFacts, storage: &TraceStorage) -> [bool; 2] {
            [2 * DAY, 8 * DAY].map(|age| keep(facts, age, storage).is_some())
        }
        assert_eq!(ruled(0.9, 1.0), [true, true]);
        assert_eq!(ruled(0.4, 0.5), [true, true]);
        assert_eq!(ruled(0.6, 0.5), [false, false]);
        assert_eq!(ruled(0.05, 0.001), [true, false]);
        let Some(Kept::Sampled(threshold)) = keep(
            &TraceFacts {
                keep: Threshold::from_probability(0.5),
                ..facts(0.05, false, 365)
            },
            2 * DAY,
            &storage,
        ) else {
            panic!("not kept");
        };
        assert_eq!(threshold.adjusted_count(), 2.0, "it stands for two traces");
    }

    #[test]
    fn tiers_are_nested_and_errors_and_classes_have_their_own_ends() {
        let storage = TraceStorage::default();
        let stays = |facts, age| keep(&facts, age, &storage).is_some();
        for (age, cold, warm, hot, error) in [
            (HOUR, true, true, true, true),
            (DAY - 1, true, true, true, true),
            (DAY, true, true, false, true),
            (7 * DAY - 1, true, true, false, true),
            (7 * DAY, true, false, false, true),
            (30 * DAY - 1, true, false, false, true),
            (30 * DAY, false, false, false, false),
        ] {
            assert_eq!(
                stays(facts(0.005, false, 365), age),
                cold,
                "cold share at {age}"
            );
            assert_eq!(
                stays(facts(0.05, false, 365), age),
                warm,
                "warm share at {age}"
            );
            assert_eq!(stays(facts(0.5, false, 365), age), hot, "the rest at {age}");
            assert_eq!(
                stays(facts(0.5, true, 365), age),
                error,
                "an error at {age}"
            );
            assert_eq!(
                stays(facts(0.005, true, 3), age),
                age < 3 * DAY,
                "a class cap at {age}"
            );
        }
    }

    struct ColdInBucket;

    impl Placing for ColdInBucket {
        fn place(&self, tier: Tier) -> Option<&str> {
            (tier == Tier::Cold).then_some("s3://b")
        }
    }

    #[test]
    fn a_partition_is_swept_moved_and_expired_once_each() {
        let storage = TraceStorage::default();
        let mut meta = Meta {
            stem: "x".to_owned(),
            day: 20_000,
            rows: 1,
            ledger: 1,
            max_ns: 20_000 * DAY_NS + DAY_NS / 2,
            retention_days: vec![365],
            ..Meta::default()
        };
        let after = |age_s: u64| 20_000 * DAY_NS + DAY_NS / 2 + age_s as i64 * NS_PER_S;
        let planned = |meta: &Meta, age_s| {
            let steps = plan([meta].into_iter(), &storage, &ColdInBucket, after(age_s));
            steps.into_iter().map(|(_, action)| action).next()
        };
        let sweep = |boundary_s| Some(Action::Sweep { boundary_s });
        assert_eq!(planned(&meta, DAY - 1), None);
        assert_eq!(planned(&meta, DAY), sweep(DAY));
        meta.swept_s = DAY;
        assert_eq!(planned(&meta, DAY), None);
        assert_eq!(planned(&meta, 7 * DAY), sweep(7 * DAY));
        meta.swept_s = 7 * DAY;
        assert_eq!(planned(&meta, 7 * DAY), None, "the day is not over");
        let place = "s3://b".to_owned();
        let moved = Some(Action::Move { place });
        assert_eq!(planned(&meta, 7 * DAY + 12 * HOUR), moved);
        meta.place = Some("s3://b".to_owned());
        assert_eq!(planned(&meta, 8 * DAY), None);
        assert_eq!(planned(&meta, 30 * DAY - 1), None);
        // The errors' end and the aggregates' are the same by default.
        assert_eq!(planned(&meta, 30 * DAY), Some(Action::Expire));
        meta.place = Some("s3://old".to_owned());
        assert_eq!(
            planned(&meta, 8 * DAY),
            sweep(7 * DAY),
            "the policy names another place"
        );
    }

    #[test]
    fn a_class_cap_expires_a_partition_early_and_counts_keep_it_for_longer() {
        let storage = TraceStorage::default();
        let mut meta = Meta {
            day: 20_000,
            rows: 1,
            max_ns: 20_000 * DAY_NS,
            retention_days: vec![2, 3],
            swept_s: DAY,
            ..Meta::default()
        };
        let planned = |meta: &Meta, age_s: u64| {
            let now_ns = 20_000 * DAY_NS + age_s as i64 * NS_PER_S;
            let steps = plan([meta].into_iter(), &storage, &ColdInBucket, now_ns);
            steps.into_iter().map(|(_, action)| action).next()
        };
        let sweep = |boundary_s| Some(Action::Sweep { boundary_s });
        assert_eq!(planned(&meta, 2 * DAY), sweep(2 * DAY));
        meta.swept_s = 2 * DAY;
        assert_eq!(planned(&meta, 3 * DAY), Some(Action::Expire));
        meta.ledger = 1;
        assert_eq!(planned(&meta, 3 * DAY), sweep(3 * DAY));
    }

    #[test]
    fn a_partition_is_due_once_per_boundary() {
        let storage = TraceStorage::default();
        let now = 1_800_000_000 * NS_PER_S;
        let at = |age: u64, swept_s: u64| {
            let max_ns = now - i64::try_from(age).unwrap() * NS_PER_S;
            Meta {
                rows: 1,
                max_ns,
                swept_s,
                retention_days: vec![30],
                ..Meta::default()
            }
        };
        assert!(!is_due(&at(DAY - 1, 0), &storage, now));
        assert!(is_due(&at(DAY, 0), &storage, now));
        assert!(!is_due(&at(2 * DAY, DAY), &storage, now));
        assert!(is_due(&at(8 * DAY, 2 * DAY), &storage, now));
        assert!(
            is_due(&at(40 * DAY, 0), &storage, now),
            "a collector that was off catches up"
        );
    }
}
