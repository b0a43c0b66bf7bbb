//! Token counts of a language model's response, read while its body passes.
//!
//! A scanner over the bytes of JSON, one document or many (server-sent events, one document per
//! `data:` line). It knows where it is in the document, so that what a model *says* about usage, in
//! a string or deep inside an object of a tool, is not taken for what the provider charges: only
//! `usage` (or `usageMetadata`) at the top of a document counts, or directly inside its `message` or
//! `response` object.
//!
//! Read are the names of OpenAI (`prompt_tokens`, `completion_tokens`, `input_tokens`,
//! `output_tokens`, `*_details.cached_tokens`), Anthropic (`input_tokens`, `output_tokens`,
//! `cache_read_input_tokens`, `cache_creation_input_tokens`: apart from the input tokens) and Google
//! (`promptTokenCount`, `candidatesTokenCount`, `thoughtsTokenCount`, `cachedContentTokenCount`).
//! Counts in a stream are running totals, so the largest one of each name holds.
//!
//! What it is not: a JSON parser. Broken documents yield what was read before; a line feed inside a
//! string, or an empty line, starts anew.
//! Limits: nothing is buffered but a name and a model of at most [`MAX_TEXT`] bytes; containers
//! nested deeper than [`MAX_DEPTH`] are skipped; at most [`MAX_SCANNED_BYTES`] of a response are
//! looked at.

use mesh_config::price::TokenUse;

/// Longest name or model that is read.
pub const MAX_TEXT: usize = 64;

/// Containers that are told apart.
pub const MAX_DEPTH: usize = 6;

/// Bytes of one response that are looked at.
pub const MAX_SCANNED_BYTES: u64 = 64 << 20;

/// What a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Other,
    /// An object that may hold `usage` and `model`.
    Envelope,
    Usage,
    Details,
    Model,
    Count(Count),
}

/// A count that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    Input,
    Output,
    /// Part of the output, but counted apart.
    Thoughts,
    /// Part of the input.
    Cached,
    /// Not part of the input.
    CacheRead,
    CacheWrite,
}

/// Names with a meaning, as OpenAI, Anthropic and Google have them.
const NAMES: [(&[u8], Name); 19] = [
    (b"message", Name::Envelope),
    (b"response", Name::Envelope),
    (b"usage", Name::Usage),
    (b"usageMetadata", Name::Usage),
    (b"prompt_tokens_details", Name::Details),
    (b"input_tokens_details", Name::Details),
    (b"model", Name::Model),
    (b"modelVersion", Name::Model),
    (b"prompt_tokens", Name::Count(Count::Input)),
    (b"input_tokens", Name::Count(Count::Input)),
    (b"promptTokenCount", Name::Count(Count::Input)),
    (b"completion_tokens", Name::Count(Count::Output)),
    (b"output_tokens", Name::Count(Count::Output)),
    (b"candidatesTokenCount", Name::Count(Count::Output)),
    (b"thoughtsTokenCount", Name::Count(Count::Thoughts)),
    (b"cached_tokens", Name::Count(Count::Cached)),
    (b"cachedContentTokenCount", Name::Count(Count::Cached)),
    (b"cache_read_input_tokens", Name::Count(Count::CacheRead)),
    (
        b"cache_creation_input_tokens",
        Name::Count(Count::CacheWrite),
    ),
];

impl Name {
    fn of(text: &[u8]) -> Self {
        let mut names = NAMES.iter();
        let found = names.find(|(name, _)| *name == text);
        found.map_or(Self::Other, |(_, name)| *name)
    }
}

/// Where a container stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The top of a document, or an envelope in it.
    Top,
    Usage,
    /// `*_tokens_details` of a usage object.
    Details,
    /// Anything else: nothing in it counts.
    Elsewhere,
}

/// A container that is open.
#[derive(Debug, Clone, Copy)]
struct Frame {
    place: Place,
    object: bool,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between tokens.
    Between,
    Text {
        escaped: bool,
    },
    Number,
}

/// See the module documentation.
#[derive(Debug, Clone)]
pub struct UsageScanner {
    state: State,
    frames: [Frame; MAX_DEPTH],
    depth: u32,
    /// The name whose value comes next.
    name: Name,
    /// Whether the next text in an object is a name.
    expects_name: bool,
    text: [u8; MAX_TEXT],
    /// Length of the text, also beyond its room.
    text_length: usize,
    number: Option<u64>,
    line_was_empty: bool,
    scanned_bytes: u64,
    found: bool,
    counts: [u64; 6],
    model: [u8; MAX_TEXT],
    model_length: usize,
}

impl Default for UsageScanner {
    fn default() -> Self {
        Self {
            state: State::Between,
            frames: [Frame {
                place: Place::Elsewhere,
                object: false,
            }; MAX_DEPTH],
            depth: 0,
            name: Name::Other,
            expects_name: false,
            text: [0; MAX_TEXT],
            text_length: 0,
            number: None,
            line_was_empty: false,
            scanned_bytes: 0,
            found: false,
            counts: [0; 6],
            model: [0; MAX_TEXT],
            model_length: 0,
        }
    }
}

impl UsageScanner {
    /// Looks at the next bytes of the body, wherever it was cut.
    pub fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.scanned_bytes >= MAX_SCANNED_BYTES {
                return;
            }
            self.scanned_bytes += 1;
            self.step(*byte);
        }
    }

    /// The tokens, once a usage object with a count was seen.
    #[must_use]
    pub fn tokens(&self) -> Option<TokenUse> {
        let of = |count: Count| self.counts.get(count as usize).copied().unwrap_or(0);
        let apart = of(Count::CacheRead).saturating_add(of(Count::CacheWrite));
        self.found.then(|| TokenUse {
            input: of(Count::Input).saturating_add(apart),
            output: of(Count::Output).saturating_add(of(Count::Thoughts)),
            cached: of(Count::Cached).max(of(Count::CacheRead)),
        })
    }

    /// The model that answered; empty when the response does not say.
    #[must_use]
    pub fn model(&self) -> &[u8] {
        self.model.get(..self.model_length).unwrap_or_default()
    }

    fn step(&mut self, byte: u8) {
        match self.state {
            State::Text { escaped } => self.in_text(byte, escaped),
            State::Number if byte.is_ascii_digit() => {
                let digit = u64::from(byte - b'0');
                let number = self.number.and_then(|number| number.checked_mul(10));
                self.number = number.and_then(|number| number.checked_add(digit));
            }
            State::Number if matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-') => self.number = None,
            State::Number => {
                self.state = State::Between;
                self.count();
                self.between(byte);
            }
            State::Between => self.between(byte),
        }
    }

    fn in_text(&mut self, byte: u8, escaped: bool) {
        self.state = State::Text {
            escaped: byte == b'\\' && !escaped,
        };
        match byte {
            b'"' if !escaped => {
                self.state = State::Between;
                self.text_ended();
            }
            // No JSON text holds one: the document is broken.
            b'\n' => self.start_anew(),
            _ => {
                if let Some(slot) = self.text.get_mut(self.text_length) {
                    *slot = byte;
                }
                self.text_length = self.text_length.saturating_add(1);
            }
        }
    }

    fn between(&mut self, byte: u8) {
        match byte {
            b'{' | b'[' => self.open(byte == b'{'),
            b'}' | b']' => self.close(),
            b'"' if self.depth > 0 => {
                self.text_length = 0;
                self.state = State::Text { escaped: false };
            }
            b':' => self.expects_name = false,
            b',' => {
                self.expects_name = self.frame().is_some_and(|frame| frame.object);
                self.name = Name::Other;
            }
            b'0'..=b'9' if self.depth > 0 => {
                self.number = Some(u64::from(byte - b'0'));
                self.state = State::Number;
            }
            b'\n' if self.line_was_empty => self.start_anew(),
            _ => {}
        }
        if !matches!(byte, b'\r') {
            self.line_was_empty = byte == b'\n';
        }
    }

    fn start_anew(&mut self) {
        self.depth = 0;
        self.name = Name::Other;
        self.state = State::Between;
    }

    fn frame(&self) -> Option<Frame> {
        let index = usize::try_from(self.depth.checked_sub(1)?).ok()?;
        self.frames.get(index).copied()
    }

    #[inline(never)]
    fn open(&mut self, object: bool) {
        let outer = self.frame();
        let place = match (self.depth, outer.map(|outer| outer.place), self.name) {
            // A list of documents, as one of Google's forms has it, is transparent.
            (0, _, _) => Place::Top,
            (1, Some(Place::Top), _) if outer.is_some_and(|outer| !outer.object) => Place::Top,
            (_, Some(Place::Top), Name::Usage) if object => Place::Usage,
            (_, Some(Place::Top), Name::Envelope) if object && self.depth <= 2 => Place::Top,
            (_, Some(Place::Usage), Name::Details) if object => Place::Details,
            _ => Place::Elsewhere,
        };
        if let Some(slot) = self.frames.get_mut(self.depth as usize) {
            *slot = Frame { place, object };
        }
        self.depth = self.depth.saturating_add(1);
        self.expects_name = object;
        self.name = Name::Other;
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.expects_name = false;
        self.name = Name::Other;
    }

    #[inline(never)]
    fn text_ended(&mut self) {
        let text = self.text.get(..self.text_length);
        if self.expects_name {
            self.name = text.map_or(Name::Other, Name::of);
            return;
        }
        let here = self.frame().map(|frame| frame.place);
        if let (Name::Model, Some(Place::Top), Some(text)) = (self.name, here, text) {
            let room = self.model.get_mut(..text.len());
            if let Some(room) = room {
                room.copy_from_slice(text);
                self.model_length = text.len();
            }
        }
    }

    #[inline(never)]
    fn count(&mut self) {
        let (Name::Count(count), Some(number)) = (self.name, self.number) else {
            return;
        };
        let here = self.frame().map(|frame| frame.place);
        let counts = match here {
            Some(Place::Usage) => true,
            Some(Place::Details) => count == Count::Cached,
            _ => false,
        };
        if counts && let Some(slot) = self.counts.get_mut(count as usize) {
            *slot = number.max(*slot);
            self.found = true;
        }
    }
}

#[cfg(test)]
mod tests;
