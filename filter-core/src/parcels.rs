//! What a VM leaves behind when another build of the module takes its place: finished export bodies
//! that its successor sends.
//!
//! A root context that ends without a successor in its own VM packs its spans and its counts
//! ([`pack`]); the host's shared data carries them over, since they outlive the VM while another one
//! of the same id lives. The successor takes them in ([`Parcels::take_in`]) and sends each as it is:
//! a delta keeps the instance and the number of the VM that counted it, so that what had arrived
//! already counts once.
//!
//! What it is not: a way out when the proxy stops, or when a VM traps.
//!
//! Limits: [`MAX_BYTES`] in all; what does not fit is dropped, spans first, and counted. One parcel
//! is under way at a time.

use std::collections::VecDeque;

use crate::backoff::Backoff;
use crate::counters::{Counter, Counters};
use crate::export::{Dispatch, Outcome, Signal};

/// Bytes that may wait to be taken over.
pub const MAX_BYTES: usize = 8 << 20;

/// Tells the ids of parcels from those of other export requests.
pub(crate) const ID_BIT: u64 = 1 << 63;

/// An answer later than this never comes: the host has lost the call.
const PATIENCE_NANOS: u64 = 30_000_000_000;

/// Signal, spans, length of the body.
const HEAD_BYTES: usize = 13;

/// A finished export body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// What it is.
    pub signal: Signal,
    /// Spans in it; 0 for counts.
    pub spans: u64,
    /// The whole message.
    pub body: Vec<u8>,
}

/// Appends parcels to those that others have left, counts first; gives how many spans found no
/// room.
#[must_use = "spans without room are lost and have to be counted"]
pub fn pack(parcels: &[Parcel], out: &mut Vec<u8>) -> u64 {
    // Counts keep their order: a receiver may take a lower number after a higher one for known.
    let of = |signal| parcels.iter().filter(move |parcel| parcel.signal == signal);
    let mut lost = 0;
    for parcel in of(Signal::Metrics).chain(of(Signal::Traces)) {
        if out.len() + HEAD_BYTES + parcel.body.len() > MAX_BYTES {
            lost += parcel.spans;
            continue;
        }
        out.push(u8::from(parcel.signal == Signal::Traces));
        out.extend_from_slice(&parcel.spans.to_le_bytes());
        out.extend_from_slice(&(parcel.body.len() as u32).to_le_bytes());
        out.extend_from_slice(&parcel.body);
    }
    lost
}

fn unpack<'b>(bytes: &mut &'b [u8]) -> Option<(Signal, u64, &'b [u8])> {
    let (signal, rest) = bytes.split_first()?;
    let (spans, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (body, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *bytes = rest;
    let signal = if *signal == 0 {
        Signal::Metrics
    } else {
        Signal::Traces
    };
    Some((signal, u64::from_le_bytes(*spans), body))
}

/// Parcels that were taken in and are not acknowledged yet.
#[derive(Debug, Default)]
pub struct Parcels {
    waiting: VecDeque<Parcel>,
    bytes: usize,
    sent: Option<(u64, u64)>,
    next_id: u64,
    backoff: Backoff,
}

impl Parcels {
    /// Takes in what [`pack`] wrote. Anything else ends it.
    pub fn take_in(&mut self, mut bytes: &[u8], counters: &mut Counters) {
        while let Some((signal, spans, body)) = unpack(&mut bytes) {
            if self.bytes + body.len() > MAX_BYTES {
                counters.add(Counter::SpansDroppedQueueFull, spans);
                continue;
            }
            counters.bump(Counter::ParcelsTaken);
            self.bytes += body.len();
            self.waiting.push_back(Parcel {
                signal,
                spans,
                body: body.to_vec(),
            });
        }
    }

    /// Bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes over those of another, whose answers do not come any more.
    pub(crate) fn take_over(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.waiting.extend(other.waiting);
    }

    /// Gives all of it away again.
    pub(crate) fn into_waiting(self) -> impl Iterator<Item = Parcel> {
        self.waiting.into_iter()
    }

    /// The next one to send, if any.
    pub(crate) fn poll(&mut self, now_nanos: u64) -> Option<Dispatch> {
        let under_way =
            (self.sent).is_some_and(|(_, sent)| now_nanos.saturating_sub(sent) <= PATIENCE_NANOS);
        if under_way || !self.backoff.is_over(now_nanos) {
            return None;
        }
        let parcel = self.waiting.front()?;
        self.next_id += 1;
        let id = ID_BIT | self.next_id;
        self.sent = Some((id, now_nanos));
        Some(Dispatch {
            signal: parcel.signal,
            id,
            body: parcel.body.clone(),
        })
    }

    /// Takes the outcome of one; others are ignored.
    pub(crate) fn on_outcome(
        &mut self,
        id: u64,
        outcome: Outcome,
        now_nanos: u64,
        entropy: u64,
        counters: &mut Counters,
    ) {
        if self.sent.is_none_or(|(sent, _)| sent != id) {
            return;
        }
        self.sent = None;
        let after_nanos = match outcome {
            Outcome::Accepted | Outcome::Refused => {
                self.backoff.reset();
                let Some(parcel) = self.waiting.pop_front() else {
                    return;
                };
                self.bytes = self.bytes.saturating_sub(parcel.body.len());
                let (counter, count) = match (outcome, parcel.signal) {
                    (Outcome::Accepted, _) => (Counter::SpansExported, parcel.spans),
                    (_, Signal::Traces) => (Counter::SpansDroppedRejected, parcel.spans),
                    (_, Signal::Metrics) => (Counter::LedgerRefused, 1),
                };
                return counters.add(counter, count);
            }
            Outcome::Retry { after_nanos } => after_nanos,
            Outcome::NoCluster => None,
        };
        self.backoff.fail(after_nanos, now_nanos, entropy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn parcel(signal: Signal, spans: u64, body: &[u8]) -> Parcel {
        Parcel {
            signal,
            spans,
            body: body.to_vec(),
        }
    }

    fn packed(parcels: &[Parcel]) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert_eq!(pack(parcels, &mut bytes), 0);
        bytes
    }

    #[test]
    fn parcels_arrive_as_they_were_packed_counts_first_and_go_out_one_by_one() {
        let spans = parcel(Signal::Traces, 7, b"spans");
        let counts = parcel(Signal::Metrics, 0, b"counts");
        let mut counters = Counters::default();
        let mut parcels = Parcels::default();
        parcels.take_in(&packed(&[spans, counts]), &mut counters);
        assert_eq!(parcels.bytes(), 11);
        for (now, signal, body) in [
            (1, Signal::Metrics, &b"counts"[..]),
            (2, Signal::Traces, b"spans"),
        ] {
            let dispatch = parcels.poll(now * SECOND).unwrap();
            assert_eq!((dispatch.signal, &dispatch.body[..]), (signal, body));
            assert_eq!(parcels.poll(now * SECOND), None, "one at a time");
            let retry = Outcome::Retry { after_nanos: None };
            parcels.on_outcome(dispatch.id, retry, now * SECOND, 0, &mut counters);
            let again = parcels.poll((now + 100) * SECOND).unwrap();
            assert_eq!(again.body, dispatch.body, "unchanged");
            parcels.on_outcome(again.id, Outcome::Accepted, now * SECOND, 0, &mut counters);
        }
        assert_eq!((parcels.bytes(), parcels.poll(900 * SECOND)), (0, None));
        let mut exported = 0;
        counters.drain(|_, metric, count| {
            if metric == crate::counters::Metric::Counter(Counter::SpansExported) {
                exported = count;
            }
        });
        assert_eq!(exported, 7);
    }

    #[test]
    fn a_lost_answer_is_not_waited_for_for_ever() {
        let mut parcels = Parcels::default();
        let bytes = packed(&[parcel(Signal::Metrics, 0, b"counts")]);
        parcels.take_in(&bytes, &mut Counters::default());
        assert!(parcels.poll(SECOND).is_some());
        assert!(parcels.poll(20 * SECOND).is_none());
        assert!(parcels.poll(40 * SECOND).is_some());
    }

    #[test]
    fn what_finds_no_room_is_counted_and_pieces_are_no_parcels() {
        let large = parcel(Signal::Traces, 9, &vec![1; MAX_BYTES]);
        let small = parcel(Signal::Metrics, 0, b"counts");
        let mut bytes = Vec::new();
        assert_eq!(pack(&[large, small], &mut bytes), 9);
        for length in 0..bytes.len() {
            let mut parcels = Parcels::default();
            parcels.take_in(&bytes[..length], &mut Counters::default());
            assert_eq!(parcels.bytes(), 0, "{length}");
        }
    }
}
