//! What waits for the back end.
//!
//! Limits: `queue_bytes` of records as they are in the log, those under way included; a new record
//! makes room by dropping the oldest that are not under way.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::Status;
use crate::wal::record::Record;

/// A place in the log: segment and number of the record. Numbers rise within a segment, segments
/// for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// Number of the segment.
    pub(crate) segment: u64,
    /// Number of the record.
    pub(crate) record: u64,
}

/// Why spans were not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// No room: the oldest went.
    QueueFull,
    /// The back end refused a batch for good.
    Refused,
    /// The back end took a batch without these spans.
    Rejected,
    /// Tried for as long as the policy allows.
    GaveUp,
    /// The record in the log cannot be read.
    Damaged,
}

impl Dropped {
    /// Every reason, in the order of their discriminants.
    pub(crate) const ALL: [Self; 5] = [
        Self::QueueFull,
        Self::Refused,
        Self::Rejected,
        Self::GaveUp,
        Self::Damaged,
    ];

    /// The stable label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::GaveUp => "gave_up",
            Self::Damaged => "damaged",
        }
    }
}

/// One request.
#[derive(Debug)]
pub(super) struct Item {
    at: Position,
    pub(super) record: Record,
    pub(super) spans: u64,
    since: Instant,
}

/// Requests that are sent together.
#[derive(Debug)]
pub(super) struct Batch {
    id: u64,
    pub(super) items: Vec<Item>,
}

impl Batch {
    /// Spans of all requests.
    pub(super) fn spans(&self) -> u64 {
        self.items.iter().map(|item| item.spans).sum()
    }
}

/// A batch under way.
#[derive(Debug)]
struct Flight {
    first: Position,
    since: Instant,
    bytes: usize,
    spans: u64,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Item>,
    flights: BTreeMap<u64, Flight>,
    bytes: usize,
    raw_bytes: usize,
    next_id: u64,
    /// The place after the last one that was ever queued.
    end: Position,
    status: Status,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Queue {
    enabled: bool,
    limit: usize,
    /// What was delivered before the start.
    resume: Position,
    inner: Mutex<Inner>,
    /// Wakes a worker.
    pub(super) pushed: Notify,
}

impl Queue {
    /// An empty queue that takes what stands at `resume` and later; `None` takes nothing.
    pub(crate) fn new(limit: usize, resume: Option<Position>) -> Self {
        let start = resume.unwrap_or_default();
        Self {
            enabled: resume.is_some(),
            limit,
            resume: start,
            inner: Mutex::new(Inner {
                end: start,
                ..Inner::default()
            }),
            pushed: Notify::new(),
        }
    }

    /// Whether a record at this place has still to be delivered.
    pub(crate) fn wants(&self, at: Position) -> bool {
        self.enabled && at >= self.resume
    }

    /// Queues the request at a place.
    pub(crate) fn push(&self, at: Position, record: Record, spans: u64) {
        if !self.wants(at) || spans == 0 {
            return;
        }
        let mut inner = self.lock();
        inner.end = inner.end.max(at.next());
        let bytes = record.payload.len();
        while inner.bytes.saturating_add(bytes) > self.limit && inner.drop_oldest() {}
        if bytes > self.limit {
            inner.count(Dropped::QueueFull, spans);
            return;
        }
        inner.bytes += bytes;
        inner.raw_bytes += record.raw_len as usize;
        inner.waiting.push_back(Item {
            at,
            record,
            spans,
            since: Instant::now(),
        });
        drop(inner);
        self.pushed.notify_one();
    }

    /// When the oldest waiting request was queued, and the bytes that wait (decompressed).
    pub(super) fn waiting(&self) -> Option<(Instant, usize)> {
        let inner = self.lock();
        let first = inner.waiting.front()?;
        Some((first.since, inner.raw_bytes))
    }

    /// Takes requests of about `raw_bytes`, at least one; they are under way until [`Queue::end`].
    pub(super) fn take(&self, raw_bytes: usize) -> Option<Batch> {
        let mut inner = self.lock();
        let (mut items, mut taken) = (Vec::new(), 0);
        while taken < raw_bytes
            && let Some(item) = inner.waiting.pop_front()
        {
            taken += (item.record.raw_len as usize).max(1);
            inner.raw_bytes = inner.raw_bytes.saturating_sub(item.record.raw_len as usize);
            items.push(item);
        }
        let first = items.first()?;
        let flight = Flight {
            first: first.at,
            since: first.since,
            bytes: items.iter().map(|item| item.record.payload.len()).sum(),
            spans: items.iter().map(|item| item.spans).sum(),
        };
        let id = inner.next_id;
        inner.next_id += 1;
        inner.flights.insert(id, flight);
        Some(Batch { id, items })
    }

    /// Ends a batch: delivered, but for `dropped` spans.
    pub(super) fn end(&self, batch: &Batch, dropped: Option<(Dropped, u64)>) {
        let mut inner = self.lock();
        let Some(flight) = inner.flights.remove(&batch.id) else {
            return;
        };
        inner.bytes = inner.bytes.saturating_sub(flight.bytes);
        let lost = dropped.map_or(0, |(_, spans)| spans.min(flight.spans));
        if let Some((reason, _)) = dropped {
            inner.count(reason, lost);
        }
        let delivered = flight.spans - lost;
        inner.status.delivered += delivered;
        inner.status.batches += u64::from(delivered > 0);
    }

    /// Counts a try after the first.
    pub(super) fn retried(&self) {
        self.lock().status.retries += 1;
    }

    /// The place from which on something may be undelivered.
    pub(super) fn resume_at(&self) -> Position {
        let inner = self.lock();
        inner.oldest().map_or(inner.end, |(at, _)| at)
    }

    /// Whether a request of this segment, or an older one, is undelivered.
    pub(crate) fn holds(&self, segment: u64) -> bool {
        let inner = self.lock();
        inner
            .oldest()
            .is_some_and(|(oldest, _)| oldest.segment <= segment)
    }

    /// True when nothing waits or is under way.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.lock().oldest().is_none()
    }

    /// Values of the moment; `None` when nothing is forwarded.
    pub(crate) fn status(&self) -> Option<Status> {
        if !self.enabled {
            return None;
        }
        let inner = self.lock();
        let waiting: u64 = inner.waiting.iter().map(|item| item.spans).sum();
        let under_way: u64 = inner.flights.values().map(|flight| flight.spans).sum();
        Some(Status {
            queue_bytes: inner.bytes,
            queue_spans: waiting + under_way,
            lag: inner
                .oldest()
                .map(|(_, since)| since.elapsed())
                .unwrap_or_default(),
            ..inner.status.clone()
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is whole before the lock is given back.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Position {
    fn next(self) -> Self {
        Self {
            record: self.record.saturating_add(1),
            ..self
        }
    }
}

impl Inner {
    fn oldest(&self) -> Option<(Position, Instant)> {
        let waiting = self.waiting.front().map(|item| (item.at, item.since));
        let under_way = self.flights.values();
        let under_way = under_way.map(|flight| (flight.first, flight.since));
        waiting.into_iter().chain(under_way).min()
    }

    fn drop_oldest(&mut self) -> bool {
        let Some(item) = self.waiting.pop_front() else {
            return false;
        };
        self.bytes = self.bytes.saturating_sub(item.record.payload.len());
        self.raw_bytes = self.raw_bytes.saturating_sub(item.record.raw_len as usize);
        self.count(Dropped::QueueFull, item.spans);
        true
    }

    fn count(&mut self, reason: Dropped, spans: u64) {
        if let Some(count) = self.status.dropped.get_mut(reason as usize) {
            *count = count.saturating_add(spans);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::record::Kind;

    fn at(segment: u64, record: u64) -> Position {
        Position { segment, record }
    }

    fn record(bytes: usize) -> Record {
        let mut record = Record::compress(Kind::Traces, 0, b"");
        record.payload = vec![0; bytes];
        record.raw_len = bytes as u32;
        record
    }

    fn queue(limit: usize) -> Queue {
        Queue::new(limit, Some(at(2, 5)))
    }

    #[test]
    fn at_the_limit_the_oldest_go_and_are_counted() {
        let queue = queue(100);
        for number in 5..10 {
            queue.push(at(2, number), record(30), 7);
        }
        let status = queue.status().unwrap();
        assert_eq!((status.queue_bytes, status.queue_spans), (90, 21));
        assert_eq!(status.dropped[Dropped::QueueFull as usize], 14);
        assert_eq!(queue.resume_at(), at(2, 7));
        let batch = queue.take(1_000).unwrap();
        queue.push(at(3, 10), record(90), 1);
        assert_eq!(batch.spans(), 21, "what is under way is not dropped");
        queue.end(&batch, Some((Dropped::Rejected, 2)));
        let status = queue.status().unwrap();
        assert_eq!((status.delivered, status.queue_bytes), (19, 90));
        assert_eq!(status.dropped[Dropped::Rejected as usize], 2);
    }

    #[test]
    fn the_place_to_resume_at_is_before_everything_undelivered() {
        let queue = queue(1_000);
        assert!(!queue.wants(at(2, 4)) && queue.wants(at(2, 5)) && queue.wants(at(3, 0)));
        queue.push(at(2, 4), record(10), 1);
        assert!(queue.is_empty());
        queue.push(at(2, 5), record(10), 1);
        queue.push(at(3, 6), record(10), 1);
        let first = queue.take(1).unwrap();
        let second = queue.take(1).unwrap();
        queue.end(&second, None);
        assert_eq!(queue.resume_at(), at(2, 5));
        assert!(queue.holds(2) && queue.holds(3) && !queue.holds(1));
        queue.end(&first, None);
        assert_eq!(queue.resume_at(), at(3, 7));
        assert!(!queue.holds(3));
        assert!(queue.take(1).is_none());
    }

    #[test]
    fn a_queue_without_a_back_end_takes_nothing() {
        let queue = Queue::new(1_000, None);
        queue.push(at(9, 9), record(10), 1);
        assert!(queue.is_empty() && queue.status().is_none() && !queue.holds(9));
    }
}
