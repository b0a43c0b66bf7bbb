//! A first look at a value: what any detector could find in it.
//!
//! Most values are paths, names and numbers in which nothing begins that a detector knows. One
//! pass counts a few kinds of bytes, and what findings need of them decides. It only ever says
//! *possible* too often: what is not possible is not found. The filter does without (its module
//! must stay small); the collector looks at every value of every span.

/// Bytes of the shortest token: AWS' key ids; all others have 24 and more.
const LONG: usize = 20;
/// Bytes of the shortest random key with slashes.
const LONG_MIXED: usize = 40;
/// Digits of the shortest payment card, which may be one group.
const CARD_DIGITS: u64 = 14;
/// Digits of the shortest number that is always divided.
const DIVIDED_DIGITS: u64 = 9;
/// Capitals and digits of the shortest national id.
const ID_BYTES: u64 = 9;
/// Prefix of the only token that may have slashes.
const WITH_SLASHES: &[u8] = b"whsec_";

/// Counts of some kinds of bytes, 16 bits each: a value has at most 8,192 bytes.
const DIGIT: u64 = 1;
const CAPITAL: u64 = 1 << 16;
/// What divides a number: blank, hyphen, dot.
const DIVIDER: u64 = 1 << 32;
/// What only occurs in a detector's text (addresses, telephone numbers, names before values).
const MARK: u64 = 1 << 48;

const KINDS: [u64; 256] = {
    let mut kinds = [0; 256];
    let (mut rest, mut byte): (&mut [u64], u8) = (&mut kinds, 0);
    while let [kind, others @ ..] = rest {
        *kind = match byte {
            b'0'..=b'9' => DIGIT,
            b'A'..=b'Z' => CAPITAL,
            b' ' | b'-' | b'.' => DIVIDER,
            b'@' | b'%' | b'+' | b'(' | b'=' | b':' => MARK,
            _ => 0,
        };
        byte = byte.wrapping_add(1);
        rest = others;
    }
    kinds
};

/// What may be found in a value.
#[derive(Clone, Copy)]
pub(super) struct Possible(u8);

const NUMBERS: u8 = 1;
const IDS: u8 = 2;
const TOKENS: u8 = 4;
const CREDENTIALS: u8 = 8;
const MARKS: u8 = 16;

impl Possible {
    /// Looks at a value of at most [`super::super::MAX_VALUE_BYTES`] bytes.
    pub(super) fn of(value: &[u8]) -> Self {
        let kind = |byte: &u8| KINDS.get(usize::from(*byte)).copied().unwrap_or(MARK);
        let counts = value.iter().fold(0u64, |sum, byte| sum + kind(byte));
        let field = |one: u64| counts >> one.trailing_zeros() & 0xffff;
        let (digits, capitals) = (field(DIGIT), field(CAPITAL));
        let is_divided = field(DIVIDER) > 0;
        let bit = |possible: bool, bit: u8| if possible { bit } else { 0 };
        let numbers = digits >= CARD_DIGITS || is_divided && digits >= DIVIDED_DIGITS;
        let ids = capitals >= 2 && capitals + digits >= ID_BYTES;
        let tokens = value.len() >= LONG && may_be_token(value, digits, capitals);
        Self(
            bit(numbers, NUMBERS)
                | bit(ids, IDS)
                | bit(tokens, TOKENS)
                | bit(is_divided && has_credentials(value), CREDENTIALS)
                | bit(field(MARK) > 0, MARKS),
        )
    }

    /// True when nothing can be found.
    pub(super) const fn is_nothing(self) -> bool {
        self.0 == 0
    }

    /// Payment cards, social security numbers, and telephone numbers without a mark.
    pub(super) const fn numbers(self) -> bool {
        self.0 & NUMBERS > 0
    }

    /// Account and insurance numbers.
    pub(super) const fn ids(self) -> bool {
        self.0 & IDS > 0
    }

    /// Tokens and keys.
    pub(super) const fn tokens(self) -> bool {
        self.0 & TOKENS > 0
    }

    /// A scheme of HTTP authentication before its credentials.
    pub(super) const fn credentials(self) -> bool {
        self.0 & CREDENTIALS > 0
    }

    /// A name before its value; addresses and telephone numbers have their mark in their middle.
    pub(super) const fn marks(self) -> bool {
        self.0 & MARKS > 0
    }
}

/// Whether the value has something as long as a token.
fn may_be_token(value: &[u8], digits: u64, capitals: u64) -> bool {
    let (mut run, mut longest) = (0usize, 0);
    for byte in value {
        let belongs = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        run = if belongs { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    let may_be_mixed = value.len() >= LONG_MIXED && capitals >= 3 && digits >= 2;
    longest >= LONG
        || may_be_mixed
        || value
            .windows(WITH_SLASHES.len())
            .any(|at| at == WITH_SLASHES)
}

/// Whether the value has the name of a scheme of HTTP authentication.
fn has_credentials(value: &[u8]) -> bool {
    value.windows(5).any(|at| {
        at.first().is_some_and(|byte| byte | 32 == b'b')
            && (at.eq_ignore_ascii_case(b"basic") || at.eq_ignore_ascii_case(b"beare"))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::super::super::{Classifier, Kind, MAX_VALUE_BYTES};
    use super::*;
    use core::ops::ControlFlow;

    /// What is found in a value: kind, start, end.
    fn found(
        classifier: &Classifier,
        possible: Possible,
        value: &[u8],
    ) -> Vec<(Kind, usize, usize)> {
        let mut found = Vec::new();
        super::super::scan_for(possible, value, &classifier.detectors, |finding| {
            found.push((finding.kind, finding.start, finding.end));
            ControlFlow::Continue(())
        });
        found
    }

    /// Values with findings and without, and all kinds of pieces of them.
    fn corpus() -> Vec<Vec<u8>> {
        let lines = include_str!("../../../tests/data/classify_corpus.tsv").lines();
        lines
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.splitn(3, '\t').last().unwrap_or_default())
            .map(|value| value.replace('\u{a4}', "").into_bytes())
            .collect()
    }

    #[test]
    fn what_is_not_possible_is_not_found() {
        let classifier = Classifier::default();
        let corpus = corpus();
        let mut random = fastrand::Rng::with_seed(5);
        let (mut quiet, mut finds) = (0, 0);
        let mut check = |value: &[u8]| {
            let value = &value[..value.len().min(MAX_VALUE_BYTES)];
            let possible = Possible::of(value);
            let all = found(&classifier, Possible(0xff), value);
            let text = String::from_utf8_lossy(value);
            assert_eq!(found(&classifier, possible, value), all, "{text}");
            assert!(all.is_empty() || !possible.is_nothing(), "{text}");
            quiet += usize::from(possible.is_nothing());
            finds += usize::from(!all.is_empty());
        };
        for value in &corpus {
            check(value);
            for _ in 0..20 {
                // A piece, a changed byte, and two values next to each other.
                let from = random.usize(0..=value.len());
                let to = random.usize(from..=value.len());
                check(&value[from..to]);
                if !value.is_empty() {
                    let mut changed = value.clone();
                    let at = random.usize(0..changed.len());
                    changed[at] = random.choice(b"09aZ_-. /@%+=:\"".iter()).copied().unwrap();
                    check(&changed);
                }
                let other = &corpus[random.usize(0..corpus.len())];
                check(&[&value[from..to], b"/", other].concat());
            }
        }
        assert!(
            quiet > 1_000 && finds > 1_000,
            "{quiet} quiet, {finds} found"
        );
    }

    #[test]
    fn paths_and_names_are_quiet() {
        for value in [
            "",
            "GET",
            "/api/v1/acme/items/31415926",
            "/internal/stock/3FA81B2C",
            "/api/v1/orders/{id}/lines",
            "cart.shop.svc.cluster.local",
            "upstream timed out",
            "EXPORT_OK",
            "1.27.3",
        ] {
            let is_long = value.len() >= LONG && value.contains("cluster");
            assert_eq!(
                Possible::of(value.as_bytes()).is_nothing(),
                !is_long,
                "{value}"
            );
        }
    }
}
