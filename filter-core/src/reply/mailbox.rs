//! News for a request that another worker of the same proxy serves.
//!
//! Workers share nothing but the host's key-value store. It forgets nothing by itself and has no
//! limit, so the keys are a fixed set of [`BOXES`], chosen by the trace id, and each holds at most
//! [`MAX_LETTERS`] letters: a new one takes the place of the oldest. Several letters to the same
//! request are added up. A request takes its letters out when it ends ([`without`]); what stays has
//! found nobody and is overwritten in time.
//!
//! Limits: [`BOXES`] x [`MAX_LETTERS`] x [`LETTER_BYTES`] bytes per proxy (119 kB).

use mesh_config::money::NanoUsd;
use w3c_traceparent_parser::{SpanId, TraceId};

use super::{Mark, News};

/// Keys in the host's store.
pub const BOXES: u32 = 256;

/// Letters in one of them.
pub const MAX_LETTERS: usize = 16;

/// One letter: trace (low 8 bytes), parent, cost, all big-endian, and the mark's letter.
pub const LETTER_BYTES: usize = 25;

/// The box of a trace.
#[must_use]
pub fn box_of(trace_id: TraceId) -> u32 {
    // The low bits are the random ones.
    (low(trace_id) % u64::from(BOXES)) as u32
}

fn low(trace_id: TraceId) -> u64 {
    trace_id.to_u128() as u64
}

/// What a letter says; `parent` is the span id of the request it is for.
#[derive(Debug, Clone, Copy)]
struct Letter {
    trace: u64,
    parent: u64,
    news: News,
}

impl Letter {
    fn read(bytes: &[u8]) -> Option<Self> {
        let number = |from: usize| -> Option<u64> {
            let bytes = bytes.get(from..from + 8)?.try_into().ok()?;
            Some(u64::from_be_bytes(bytes))
        };
        let letter = *bytes.get(24)?;
        Some(Self {
            trace: number(0)?,
            parent: number(8)?,
            news: News {
                cost: NanoUsd::from_nanos(number(16)?),
                mark: Mark::ALL.into_iter().find(|mark| mark.letter() == letter),
            },
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.trace.to_be_bytes());
        out.extend_from_slice(&self.parent.to_be_bytes());
        out.extend_from_slice(&self.news.cost.as_nanos().to_be_bytes());
        out.push(self.news.mark.map_or(b'0', Mark::letter));
    }
}

/// The content of a box with one more letter. True: an older letter had to go.
#[must_use]
pub fn post(content: &[u8], trace_id: TraceId, parent_id: SpanId, news: News) -> (Vec<u8>, bool) {
    let (trace, parent) = (low(trace_id), parent_id.to_u64());
    let letters = content.chunks_exact(LETTER_BYTES).filter_map(Letter::read);
    let mut mine = Letter {
        trace,
        parent,
        news,
    };
    let mut others: Vec<Letter> = Vec::with_capacity(MAX_LETTERS);
    for letter in letters {
        if letter.trace == trace && letter.parent == parent {
            mine.news.add(letter.news);
        } else {
            others.push(letter);
        }
    }
    // The oldest stands first.
    let surplus = (others.len() + 1).saturating_sub(MAX_LETTERS);
    let mut out = Vec::with_capacity(MAX_LETTERS * LETTER_BYTES);
    for letter in others.iter().skip(surplus).chain([&mine]) {
        letter.write(&mut out);
    }
    (out, surplus > 0)
}

/// What a box holds for a request. A letter of the same trace to somebody unknown (the application
/// made spans of its own) brings its mark, but no cost: it may be another request's.
#[must_use]
pub fn read(content: &[u8], trace_id: TraceId, span_id: SpanId) -> News {
    let (trace, span) = (low(trace_id), span_id.to_u64());
    let letters = content.chunks_exact(LETTER_BYTES).filter_map(Letter::read);
    let mut news = News::default();
    for letter in letters.filter(|letter| letter.trace == trace) {
        news.add(News {
            cost: if letter.parent == span {
                letter.news.cost
            } else {
                NanoUsd::ZERO
            },
            mark: letter.news.mark,
        });
    }
    news
}

/// The content of a box without the letters to a request that has ended; `None` if there are none.
#[must_use]
pub fn without(content: &[u8], trace_id: TraceId, span_id: SpanId) -> Option<Vec<u8>> {
    let (trace, span) = (low(trace_id), span_id.to_u64());
    let letters = content.chunks_exact(LETTER_BYTES).filter_map(Letter::read);
    let mut left = Vec::with_capacity(content.len());
    for letter in letters.filter(|letter| (letter.trace, letter.parent) != (trace, span)) {
        letter.write(&mut left);
    }
    (left.len() < content.len()).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(number: u64) -> TraceId {
        TraceId::from_u128(u128::from(number) + 1).unwrap()
    }

    fn span(number: u64) -> SpanId {
        SpanId::from_u64(number + 1).unwrap()
    }

    fn news(mark: Option<Mark>, nanos: u64) -> News {
        let cost = NanoUsd::from_nanos(nanos);
        News { mark, cost }
    }

    #[test]
    fn a_letter_reaches_its_request_and_several_add_up() {
        let (one, _) = post(b"", trace(1), span(1), news(None, 5));
        let (two, _) = post(&one, trace(1), span(1), news(Some(Mark::Error), 7));
        let (three, lost) = post(&two, trace(2), span(2), news(Some(Mark::Slow), 1));
        assert!(!lost);
        assert_eq!(three.len(), 2 * LETTER_BYTES);
        assert_eq!(read(&three, trace(1), span(1)), news(Some(Mark::Error), 12));
        assert_eq!(read(&three, trace(2), span(2)), news(Some(Mark::Slow), 1));
        assert_eq!(read(&three, trace(3), span(3)), News::default());
    }

    #[test]
    fn a_letter_to_an_unknown_parent_of_the_trace_brings_the_mark_only() {
        let (content, _) = post(b"", trace(1), span(50), news(Some(Mark::Error), 5));
        assert_eq!(
            read(&content, trace(1), span(1)),
            news(Some(Mark::Error), 0)
        );
    }

    #[test]
    fn a_request_that_ends_takes_its_letters_out_and_no_others() {
        let (one, _) = post(b"", trace(1), span(1), news(None, 5));
        let (two, _) = post(&one, trace(1), span(2), news(None, 7));
        let left = without(&two, trace(1), span(1)).unwrap();
        assert_eq!(read(&left, trace(1), span(2)), news(None, 7));
        assert_eq!(left.len(), LETTER_BYTES);
        assert_eq!(without(&left, trace(1), span(1)), None);
    }

    #[test]
    fn a_full_box_loses_its_oldest_letter_and_says_so() {
        let mut content = Vec::new();
        for number in 0..MAX_LETTERS as u64 {
            let (next, lost) = post(&content, trace(number), span(number), news(None, number));
            assert!(!lost);
            content = next;
        }
        let (content, lost) = post(&content, trace(99), span(99), news(None, 99));
        assert!(lost);
        assert_eq!(content.len(), MAX_LETTERS * LETTER_BYTES);
        assert_eq!(read(&content, trace(0), span(0)), News::default());
        assert_eq!(read(&content, trace(1), span(1)), news(None, 1));
        assert_eq!(read(&content, trace(99), span(99)), news(None, 99));
    }

    #[test]
    fn any_content_is_read_without_harm() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..10_000 {
            let content: Vec<u8> = (0..rng.usize(0..1000)).map(|_| rng.u8(..)).collect();
            let _ = read(&content, trace(1), span(1));
            let (out, _) = post(&content, trace(1), span(1), news(None, 1));
            assert!(out.len() <= MAX_LETTERS * LETTER_BYTES);
        }
    }
}
