//! Classes by the name of an attribute or header.
//!
//! A name is taken apart into words at every byte that is neither a letter nor a digit and where
//! `camelCase` begins a word, so `user.email`, `x-user-email`, `userEmail` and `USER_EMAIL` are the
//! same. A rule is one to three words in a row. Whole words avoid most false alarms of substring
//! search (`monkey` is no key, `author` no authorization); some rules also look at the word before or
//! after (`input_token_count` is a number, `health_check` is no diagnosis).
//!
//! Limits: of a name the first [`MAX_NAME_BYTES`] bytes and [`MAX_WORDS`] words are looked at.

mod rules;

use crate::DataTag;
use core::cmp::Ordering;
use rules::RULES;

/// Bytes of a name that are looked at; attribute names of the semantic conventions have up to 60.
pub(super) const MAX_NAME_BYTES: usize = 256;
/// Words of a name that are looked at.
const MAX_WORDS: usize = 24;

/// Last words that make a name one of a number about the data: `email_count`, `password.length`.
const MEASURES: [&str; 6] = ["bytes", "count", "duration", "enabled", "length", "size"];

/// Words in a row that mark a class.
pub(super) struct Rule {
    words: &'static [&'static str],
    tag: DataTag,
    /// Also marks what follows the name inside a text: `token=..`.
    inline: bool,
    /// Marks only inside a text: as an attribute's name the word means something harmless.
    inline_only: bool,
    /// Only as the last words of a name.
    at_end: bool,
    unless_before: &'static [&'static str],
    unless_after: &'static [&'static str],
}

const fn rule(words: &'static [&'static str], tag: DataTag) -> Rule {
    Rule {
        words,
        tag,
        inline: false,
        inline_only: false,
        at_end: false,
        unless_before: &[],
        unless_after: &[],
    }
}

impl Rule {
    const fn inline(self) -> Self {
        Self {
            inline: true,
            ..self
        }
    }

    const fn inline_only(self) -> Self {
        Self {
            inline: true,
            inline_only: true,
            ..self
        }
    }

    const fn at_end(self) -> Self {
        Self {
            at_end: true,
            ..self
        }
    }

    const fn unless_before(self, words: &'static [&'static str]) -> Self {
        Self {
            unless_before: words,
            ..self
        }
    }

    const fn unless_after(self, words: &'static [&'static str]) -> Self {
        Self {
            unless_after: words,
            ..self
        }
    }

    /// Whether the rule holds at word `at` of a name.
    fn matches(&self, words: &Words<'_>, at: usize) -> bool {
        let equal =
            |offset: usize, word: &str| words.get(at + offset).is_some_and(|own| is(own, word));
        if !self
            .words
            .iter()
            .enumerate()
            .all(|(offset, word)| equal(offset, word))
        {
            return false;
        }
        let next = words.get(at + self.words.len());
        let before = at.checked_sub(1).and_then(|before| words.get(before));
        let excluded = |word: Option<&[u8]>, list: &[&str]| {
            word.is_some_and(|word| list.iter().any(|entry| is(word, entry)))
        };
        !(self.at_end && next.is_some()
            || excluded(next, self.unless_before)
            || excluded(before, self.unless_after))
    }
}

/// The strictest class that a built-in rule gives to an attribute's name.
pub(super) fn classify(name: &[u8]) -> Option<DataTag> {
    strictest(name, |rule| !rule.inline_only)
}

/// The strictest class that a built-in rule gives to a name inside a text.
pub(super) fn classify_inline(name: &[u8]) -> Option<DataTag> {
    strictest(name, |rule| rule.inline)
}

fn strictest(name: &[u8], applies: impl Fn(&Rule) -> bool) -> Option<DataTag> {
    let words = Words::of(name);
    let last = words.iter().last()?;
    if MEASURES.iter().any(|measure| is(last, measure)) {
        return None;
    }
    let mut tag = None;
    for (at, word) in words.iter().enumerate() {
        let from = RULES.partition_point(|rule| order(rule, word) == Ordering::Less);
        let same = RULES
            .iter()
            .skip(from)
            .take_while(|rule| order(rule, word) == Ordering::Equal);
        for rule in same.filter(|rule| applies(rule) && rule.matches(&words, at)) {
            tag = tag.max(Some(rule.tag));
        }
    }
    tag
}

/// Whether a word of a name is this lower-case word.
fn is(word: &[u8], lower: &str) -> bool {
    word.eq_ignore_ascii_case(lower.as_bytes())
}

/// Where a rule stands relative to a word, by the rule's first word.
fn order(rule: &Rule, word: &[u8]) -> Ordering {
    let first = rule.words.first().map_or(&[][..], |first| first.as_bytes());
    first
        .iter()
        .copied()
        .cmp(word.iter().map(u8::to_ascii_lowercase))
}

/// The words of a name.
struct Words<'a> {
    words: [&'a [u8]; MAX_WORDS],
    len: usize,
}

impl<'a> Words<'a> {
    fn of(name: &'a [u8]) -> Self {
        let name = name.get(..MAX_NAME_BYTES).unwrap_or(name);
        let mut words = Self {
            words: [&[]; MAX_WORDS],
            len: 0,
        };
        let mut start = 0;
        for (at, &byte) in name.iter().enumerate() {
            if !byte.is_ascii_alphanumeric() {
                words.push(name.get(start..at));
                start = at + 1;
            } else if at > start && byte.is_ascii_uppercase() {
                let before = name.get(at - 1).copied().unwrap_or(0);
                let after = name.get(at + 1).copied().unwrap_or(0);
                // `userName` begins a word at N, `APIKey` at K.
                if !before.is_ascii_uppercase() || after.is_ascii_lowercase() {
                    words.push(name.get(start..at));
                    start = at;
                }
            }
        }
        words.push(name.get(start..));
        words
    }

    fn push(&mut self, word: Option<&'a [u8]>) {
        if let (Some(word), Some(place)) = (word, self.words.get_mut(self.len))
            && !word.is_empty()
        {
            *place = word;
            self.len += 1;
        }
    }

    fn get(&self, at: usize) -> Option<&'a [u8]> {
        self.words.get(at).copied().filter(|_| at < self.len)
    }

    fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        self.words.iter().copied().take(self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::{RULES, Words, classify, classify_inline};
    use crate::DataTag;

    fn words(name: &str) -> Vec<String> {
        Words::of(name.as_bytes())
            .iter()
            .map(|word| String::from_utf8_lossy(word).into())
            .collect()
    }

    #[test]
    fn names_are_taken_apart_at_separators_and_humps() {
        let table: [(&str, &[&str]); 8] = [
            ("user.email", &["user", "email"]),
            ("X-User-Email", &["X", "User", "Email"]),
            ("userEmailAddress", &["user", "Email", "Address"]),
            ("APIKey", &["API", "Key"]),
            ("userID", &["user", "ID"]),
            (
                "http.request.header.x-api-key",
                &["http", "request", "header", "x", "api", "key"],
            ),
            ("sha256Sum", &["sha256", "Sum"]),
            ("..__", &[]),
        ];
        for (name, expected) in table {
            assert_eq!(words(name), expected, "{name}");
        }
        assert_eq!(words(&"a.".repeat(1_000)).len(), super::MAX_WORDS);
    }

    #[test]
    fn the_rules_are_sorted_lower_case_and_unique() {
        for pair in RULES.windows(2) {
            assert!(pair[0].words < pair[1].words, "{:?}", pair[1].words);
        }
        let words = RULES.iter().flat_map(|rule| rule.words);
        assert!(
            words
                .clone()
                .all(|word| !word.bytes().any(|b| b.is_ascii_uppercase()))
        );
        for rule in RULES
            .iter()
            .filter(|rule| !rule.at_end && !rule.inline_only)
        {
            let name = rule.words.join("_");
            assert!(classify(name.as_bytes()) >= Some(rule.tag), "{name}");
        }
    }

    #[test]
    fn neighbouring_words_can_take_a_meaning_away() {
        let sensitive = Some(DataTag::Sensitive);
        let table = [
            ("token", sensitive),
            ("auth.token", sensitive),
            ("gen_ai.usage.input_tokens", None),
            ("gen_ai.token.type", None),
            ("page_token", None),
            ("health.record", sensitive),
            ("health_check.path", None),
            ("x-auth", sensitive),
            ("auth.method", None),
            ("monkey", None),
            ("keyboard", None),
            ("signature", None),
        ];
        for (name, expected) in table {
            assert_eq!(classify(name.as_bytes()), expected, "{name}");
        }
        assert_eq!(classify_inline(b"signature"), sensitive);
        assert_eq!(classify_inline(b"salary"), None);
    }
}
