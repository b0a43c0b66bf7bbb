//! What receivers have still to hear.
//!
//! Elements wait per address until the receiver has taken them. They are tried again for ever,
//! with a growing pause; at most [`MAX_WAITING`] wait, the oldest goes first and is counted. A
//! receiver that refuses an element for good (4xx other than 408 and 429) does not get it again.
//!
//! An alert that began and ended while its receiver was away is still told, as beginning: it
//! counts from the delivery, and ends by itself.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::message::rfc3339;

/// Elements that wait, over all addresses.
const MAX_WAITING: usize = 1_000;
/// Elements of one request.
const MAX_BATCH: usize = 64;
/// First pause after a failure; doubled up to [`LAST_PAUSE_MS`].
const FIRST_PAUSE_MS: u64 = 500;
/// Longest pause between two tries.
const LAST_PAUSE_MS: u64 = 60_000;

/// One element for one address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Waiting {
    pub(super) address: String,
    pub(super) element: Value,
    /// How long it lasts from the delivery; 0 for the end of an alert.
    pub(super) lasts_ms: u64,
    /// Number in order, so that an answer finds its elements.
    #[serde(default)]
    number: u64,
}

/// The pause of an address that failed.
#[derive(Debug, Default)]
struct Pause {
    address: String,
    until_ms: u64,
    length_ms: u64,
}

impl Waiting {
    /// The element as it is sent now.
    fn at(&self, now_ms: u64) -> Value {
        let mut element = self.element.clone();
        if self.lasts_ms > 0
            && let Some(fields) = element.as_object_mut()
        {
            let ends_ns = now_ms
                .saturating_add(self.lasts_ms)
                .saturating_mul(1_000_000);
            fields.insert("endsAt".to_owned(), rfc3339(ends_ns).into());
        }
        element
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Waiting>,
    /// Numbers of elements that are being sent.
    flying: Vec<u64>,
    pauses: Vec<Pause>,
    next: u64,
    pub(super) dropped: u64,
    pub(super) refused: u64,
    pub(super) sent: u64,
    pub(super) failures: u64,
}

/// Elements for one address, sent together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) address: String,
    pub(super) body: Value,
    numbers: Vec<u64>,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The receiver has it.
    Taken,
    /// The receiver does not want it.
    Refused,
    /// To be tried again.
    Failed,
}

impl Outbox {
    /// An outbox with what waited before a restart.
    pub(super) fn new(waiting: Vec<Waiting>) -> Self {
        let mut outbox = Self::default();
        for one in waiting {
            outbox.push(one.address, one.element, one.lasts_ms);
        }
        outbox
    }

    /// Elements that wait.
    pub(super) fn waiting(&self) -> &VecDeque<Waiting> {
        &self.waiting
    }

    /// Adds an element. Of the words about one alert that wait, the newest stays; but an end
    /// never takes the place of a beginning that nobody has heard.
    pub(super) fn push(&mut self, address: String, element: Value, lasts_ms: u64) {
        let flying = &self.flying;
        let same = |one: &Waiting| {
            one.address == address
                && !flying.contains(&one.number)
                && one.element.get("labels") == element.get("labels")
                && one.element.get("startsAt") == element.get("startsAt")
        };
        if lasts_ms == 0 && self.waiting.iter().any(|one| one.lasts_ms > 0 && same(one)) {
            return;
        }
        self.next += 1;
        let number = self.next;
        self.waiting.retain(|one| !same(one));
        self.waiting.push_back(Waiting {
            address,
            element,
            lasts_ms,
            number,
        });
        if self.waiting.len() > MAX_WAITING {
            self.waiting.pop_front();
            self.dropped += 1;
        }
    }

    /// The next batch to send, for an address that is not pausing.
    pub(super) fn next(&mut self, now_ms: u64) -> Option<Batch> {
        let is_pausing = |address: &str| {
            let pause = self.pauses.iter().find(|pause| pause.address == address);
            pause.is_some_and(|pause| pause.until_ms > now_ms)
        };
        let first = self.waiting.iter().find(|one| !is_pausing(&one.address))?;
        let mine: Vec<&Waiting> = self
            .waiting
            .iter()
            .filter(|one| one.address == first.address)
            .take(MAX_BATCH)
            .collect();
        let batch = Batch {
            address: first.address.clone(),
            body: mine.iter().map(|one| one.at(now_ms)).collect(),
            numbers: mine.iter().map(|one| one.number).collect(),
        };
        self.flying.clone_from(&batch.numbers);
        Some(batch)
    }

    /// Says what became of a batch.
    pub(super) fn answered(&mut self, batch: &Batch, outcome: Outcome, now_ms: u64) {
        self.flying.clear();
        let at = self
            .pauses
            .iter()
            .position(|pause| pause.address == batch.address);
        if outcome == Outcome::Failed {
            self.failures += 1;
            let mut pause = at.map(|at| self.pauses.swap_remove(at)).unwrap_or_default();
            pause.address.clone_from(&batch.address);
            pause.length_ms = (pause.length_ms * 2).clamp(FIRST_PAUSE_MS, LAST_PAUSE_MS);
            pause.until_ms = now_ms + pause.length_ms;
            self.pauses.push(pause);
            return;
        }
        if let Some(at) = at {
            self.pauses.swap_remove(at);
        }
        let before = self.waiting.len();
        self.waiting
            .retain(|one| !batch.numbers.contains(&one.number));
        let gone = (before - self.waiting.len()) as u64;
        if outcome == Outcome::Taken {
            self.sent += gone;
        } else {
            self.refused += gone;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn element(id: u64) -> Value {
        json!({"labels": {"trace_id": id}, "startsAt": "x", "endsAt": "y"})
    }

    #[test]
    fn a_failed_batch_is_tried_again_after_a_growing_pause_and_others_go_on() {
        let mut outbox = Outbox::new(Vec::new());
        outbox.push("a".into(), element(1), 0);
        outbox.push("b".into(), element(2), 0);
        let (mut now_ms, mut last) = (0, 0);
        for _ in 0..10 {
            let batch = outbox.next(now_ms).unwrap();
            assert_eq!(batch.address, "a");
            outbox.answered(&batch, Outcome::Failed, now_ms);
            assert_eq!(outbox.next(now_ms).unwrap().address, "b");
            let pause = outbox.pauses[0].length_ms;
            assert!(pause > last || pause == LAST_PAUSE_MS);
            (last, now_ms) = (pause, now_ms + pause);
        }
        let batch = outbox.next(now_ms).unwrap();
        outbox.answered(&batch, Outcome::Taken, now_ms);
        let batch = outbox.next(now_ms).unwrap();
        assert_eq!(batch.address, "b");
        outbox.answered(&batch, Outcome::Refused, now_ms);
        assert!(outbox.next(u64::MAX).is_none());
        assert_eq!((outbox.sent, outbox.refused, outbox.failures), (1, 1, 10));
    }

    #[test]
    fn the_oldest_goes_first_when_too_many_wait() {
        let mut outbox = Outbox::new(Vec::new());
        for id in 0..1_100 {
            outbox.push("a".into(), element(id), 0);
        }
        assert_eq!((outbox.waiting.len(), outbox.dropped), (MAX_WAITING, 100));
        let batch = outbox.next(0).unwrap();
        assert_eq!(batch.body[0], element(100));
        outbox.answered(&batch, Outcome::Taken, 0);
        assert_eq!(outbox.waiting.len(), MAX_WAITING - MAX_BATCH);
    }

    #[test]
    fn a_beginning_that_nobody_heard_outlives_its_end() {
        let mut outbox = Outbox::new(Vec::new());
        outbox.push("a".into(), element(1), 60_000);
        outbox.push("a".into(), element(1), 60_000);
        outbox.push("a".into(), element(1), 0);
        let batch = outbox.next(0).unwrap();
        assert_eq!(batch.body.as_array().unwrap().len(), 1);
        assert_eq!(batch.body[0]["endsAt"], "1970-01-01T00:01:00.000Z");
        // The beginning is on its way: now the end has to follow.
        outbox.push("a".into(), element(1), 0);
        outbox.answered(&batch, Outcome::Taken, 0);
        let batch = outbox.next(0).unwrap();
        assert_eq!(batch.body[0]["endsAt"], "y");
    }
}
