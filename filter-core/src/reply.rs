//! The return channel: what a response tells the caller's proxy about everything below it.
//!
//! One internal header, [`HEADER`], in the response's headers or (where the end is known only then)
//! in its trailers: a keep mark with its reason, whether the callee has charged, and what the
//! subtree has cost so far. The caller's proxy takes it away before the application sees it.
//!
//! Wire form, at most [`MAX_BYTES`] bytes: `1` (version) `-` mark (one of [`Mark`]'s letters, or
//! `0`) `-` flags (`c`: charged, or `0`) `-` cost in nano-USD (hexadecimal, lower case, no leading
//! zeros). Example: `1-e-c-2710`. Fields that a later version appends after a further `-` are
//! ignored; another version is not read at all.
//!
//! What it is not: a decision. Who may be told, and who is believed, is the engine's business
//! (`engine/reply.rs`). Nothing here allocates but the tables in [`in_flight`] and [`mailbox`].

pub mod in_flight;
pub mod mailbox;

use mesh_config::money::NanoUsd;
use mesh_config::sampling::Reason;

/// Name of the internal header.
pub const HEADER: &str = "x-tracemeter-return";

/// Longest value that is written or read.
pub const MAX_BYTES: usize = 48;

/// Version of the wire form.
const VERSION: &[u8] = b"1";

/// Most hexadecimal digits of a cost.
const COST_DIGITS: usize = 16;

/// Why every caller should keep its span, in the order of precedence: of two marks the first wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mark {
    /// An error by the policy's classes or rules.
    Error,
    /// A rule about cost.
    Expensive,
    /// A rule about duration.
    Slow,
    /// A rule about the data class.
    DataClass,
    /// A rule about human review.
    HumanReview,
}

impl Mark {
    /// Every mark, the one that wins first.
    pub const ALL: [Self; 5] = [
        Self::Error,
        Self::Expensive,
        Self::Slow,
        Self::DataClass,
        Self::HumanReview,
    ];

    /// Its letter on the wire.
    #[must_use]
    pub const fn letter(self) -> u8 {
        match self {
            Self::Error => b'e',
            Self::Expensive => b'x',
            Self::Slow => b's',
            Self::DataClass => b'p',
            Self::HumanReview => b'h',
        }
    }

    fn from_letter(letter: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|mark| mark.letter() == letter)
    }

    /// The mark of a span that was kept for `reason`; only reasons that concern the whole path have
    /// one. A rate does not: it was answered for by every hop itself (R >= T).
    #[must_use]
    pub const fn of(reason: Reason) -> Option<Self> {
        match reason {
            Reason::Error => Some(Self::Error),
            Reason::Expensive | Reason::OverBudget => Some(Self::Expensive),
            Reason::Slow => Some(Self::Slow),
            Reason::DataClass => Some(Self::DataClass),
            Reason::HumanReview => Some(Self::HumanReview),
            _ => None,
        }
    }

    /// The reason for which the hop further down kept its span.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Error => Reason::Error,
            Self::Expensive => Reason::Expensive,
            Self::Slow => Reason::Slow,
            Self::DataClass => Reason::DataClass,
            Self::HumanReview => Reason::HumanReview,
        }
    }
}

/// What is known of a subtree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct News {
    /// Why every caller should keep its span.
    pub mark: Option<Mark>,
    /// What the subtree has cost so far.
    pub cost: NanoUsd,
}

impl News {
    /// Nothing is known.
    pub const NOTHING: Self = Self {
        mark: None,
        cost: NanoUsd::ZERO,
    };

    /// Adds what another part of the subtree reports.
    pub fn add(&mut self, other: Self) {
        self.cost = self.cost.saturating_add(other.cost);
        self.mark = earlier(self.mark, other.mark);
    }

    /// Whether there is anything to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.mark.is_none() && self.cost == NanoUsd::ZERO
    }
}

/// The mark that wins.
pub(crate) fn earlier(left: Option<Mark>, right: Option<Mark>) -> Option<Mark> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left.min(right)),
        (left, right) => left.or(right),
    }
}

/// One value of the header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reply {
    /// Of the callee and everything below it, this call alone.
    pub news: News,
    /// Whether the callee has charged, so that the caller must not.
    pub charged: bool,
}

/// Why a value of the header was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyError {
    /// Longer than [`MAX_BYTES`].
    TooLong,
    /// Not version 1.
    Version,
    /// A mark, flag or cost that is none.
    Malformed,
}

impl Reply {
    /// Reads a header value. Never allocates.
    ///
    /// # Errors
    /// See [`ReplyError`].
    pub fn parse(value: &[u8]) -> Result<Self, ReplyError> {
        if value.len() > MAX_BYTES {
            return Err(ReplyError::TooLong);
        }
        let mut fields = value.split(|byte| *byte == b'-');
        if fields.next() != Some(VERSION) {
            return Err(ReplyError::Version);
        }
        let mark = match fields.next() {
            Some(b"0") => None,
            Some([letter]) => Some(Mark::from_letter(*letter).ok_or(ReplyError::Malformed)?),
            _ => return Err(ReplyError::Malformed),
        };
        let charged = match fields.next() {
            Some(b"0") => false,
            Some(b"c") => true,
            _ => return Err(ReplyError::Malformed),
        };
        let cost = fields.next().and_then(parse_hex);
        let cost = NanoUsd::from_nanos(cost.ok_or(ReplyError::Malformed)?);
        Ok(Self {
            news: News { mark, cost },
            charged,
        })
    }

    /// Writes the header value.
    #[must_use]
    pub fn write(&self) -> ReplyText {
        let mut text = ReplyText {
            bytes: [0; MAX_BYTES],
            length: 0,
        };
        text.push(VERSION);
        text.push(b"-");
        text.push(&[self.news.mark.map_or(b'0', Mark::letter)]);
        text.push(if self.charged { b"-c-" } else { b"-0-" });
        let mut digits = [0; COST_DIGITS];
        text.push(write_hex(self.news.cost.as_nanos(), &mut digits));
        text
    }
}

/// A header value, without an allocation.
#[derive(Debug, Clone, Copy)]
pub struct ReplyText {
    bytes: [u8; MAX_BYTES],
    length: usize,
}

impl ReplyText {
    fn push(&mut self, part: &[u8]) {
        for byte in part {
            if let Some(slot) = self.bytes.get_mut(self.length) {
                *slot = *byte;
                self.length += 1;
            }
        }
    }

    /// The bytes of the value.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Hexadecimal, lower case, without leading zeros, at most [`COST_DIGITS`] digits.
fn parse_hex(digits: &[u8]) -> Option<u64> {
    let leading_zero = digits.len() > 1 && digits.first() == Some(&b'0');
    if digits.is_empty() || digits.len() > COST_DIGITS || leading_zero {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(value))
    })
}

fn write_hex(mut number: u64, digits: &mut [u8; COST_DIGITS]) -> &[u8] {
    let mut start = digits.len();
    for (index, digit) in digits.iter_mut().enumerate().rev() {
        let value = (number & 0xf) as u8;
        *digit = if value < 10 {
            b'0' + value
        } else {
            b'a' + value - 10
        };
        number >>= 4;
        start = index;
        if number == 0 {
            break;
        }
    }
    digits.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(mark: Option<Mark>, charged: bool, nanos: u64) -> Reply {
        let cost = NanoUsd::from_nanos(nanos);
        Reply {
            news: News { mark, cost },
            charged,
        }
    }

    #[test]
    fn each_value_is_read_as_it_was_written_within_the_limit() {
        let marks = Mark::ALL.into_iter().map(Some).chain([None]);
        for mark in marks {
            for (charged, nanos) in [(true, 0), (false, 10_000), (true, u64::MAX)] {
                let written = reply(mark, charged, nanos).write();
                assert!(written.as_bytes().len() < 64);
                assert_eq!(
                    Reply::parse(written.as_bytes()),
                    Ok(reply(mark, charged, nanos))
                );
            }
        }
        assert_eq!(
            reply(Some(Mark::Error), true, 10_000).write().as_bytes(),
            b"1-e-c-2710"
        );
    }

    #[test]
    fn what_is_not_a_reply_is_refused_with_its_reason() {
        let table: [(&[u8], ReplyError); 14] = [
            (b"", ReplyError::Version),
            (b"2-e-c-0", ReplyError::Version),
            (b"1", ReplyError::Malformed),
            (b"1-e", ReplyError::Malformed),
            (b"1-e-c", ReplyError::Malformed),
            (b"1-e-c-", ReplyError::Malformed),
            (b"1-E-c-0", ReplyError::Malformed),
            (b"1-q-c-0", ReplyError::Malformed),
            (b"1-ee-c-0", ReplyError::Malformed),
            (b"1-e-x-0", ReplyError::Malformed),
            (b"1-e-c-00", ReplyError::Malformed),
            (b"1-e-c-A", ReplyError::Malformed),
            (b"1-e-c-10000000000000000", ReplyError::Malformed),
            (&[b'1'; MAX_BYTES + 1], ReplyError::TooLong),
        ];
        for (value, wanted) in table {
            assert_eq!(Reply::parse(value), Err(wanted), "{}", value.escape_ascii());
        }
    }

    #[test]
    fn fields_of_a_later_writer_are_ignored() {
        let read = Reply::parse(b"1-s-0-ff-more-still");
        assert_eq!(read, Ok(reply(Some(Mark::Slow), false, 255)));
    }

    #[test]
    fn any_bytes_are_read_or_refused_and_what_is_read_is_written_alike() {
        let mut rng = fastrand::Rng::with_seed(8);
        let alphabet = b"10-excsph2af9-- \0\xff";
        for _ in 0..200_000 {
            let length = rng.usize(0..24);
            let value: Vec<u8> = (0..length)
                .map(|_| *rng.choice(alphabet.iter()).unwrap())
                .collect();
            if let Ok(read) = Reply::parse(&value) {
                assert!(value.starts_with(read.write().as_bytes()));
            }
        }
    }

    #[test]
    fn the_most_telling_mark_wins_and_costs_add_up() {
        let mut news = News::default();
        assert!(news.is_empty());
        news.add(reply(Some(Mark::HumanReview), true, 5).news);
        news.add(reply(None, true, 7).news);
        news.add(reply(Some(Mark::Slow), true, 0).news);
        assert_eq!(news, reply(Some(Mark::Slow), true, 12).news);
        let mut full = reply(None, true, u64::MAX).news;
        full.add(reply(None, true, 1).news);
        assert_eq!(full.cost.as_nanos(), u64::MAX);
    }

    #[test]
    fn every_mark_stands_for_the_reason_it_came_from() {
        for mark in Mark::ALL {
            assert_eq!(Mark::of(mark.reason()), Some(mark));
        }
        assert_eq!(Mark::of(Reason::DefaultRate), None);
        assert_eq!(Mark::of(Reason::ParentSampled), None);
    }
}
