//! Words, strings and signs of a condition.

use std::ops::Range;

use super::{MAX_LENGTH, RuleError};

/// A piece of a condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// Anything without quotes: a name, a keyword or a value.
    Word(Box<str>),
    /// A quoted string, split at its unescaped stars.
    Text(Vec<String>),
    /// A comparison sign.
    Sign(Sign),
    Open,
    Close,
    OpenBracket,
    CloseBracket,
    Comma,
    End,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    StartsWith,
}

impl Sign {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::StartsWith => "^=",
        }
    }

    /// Whether the comparison asks for an order.
    pub(super) const fn is_order(self) -> bool {
        matches!(
            self,
            Self::Greater | Self::GreaterOrEqual | Self::Less | Self::LessOrEqual
        )
    }
}

/// Cuts a condition into tokens with their place; the last one is [`Token::End`].
#[inline(never)]
pub(super) fn lex(source: &str) -> Result<Vec<(Token, Range<usize>)>, RuleError> {
    if source.len() > MAX_LENGTH {
        let message = format!("condition is longer than {MAX_LENGTH} bytes");
        return Err(RuleError::new(message, 0..0, source));
    }
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(next) = source.get(at..).and_then(|rest| rest.chars().next()) {
        if next.is_whitespace() {
            at += next.len_utf8();
            continue;
        }
        let (token, end) = one(source, at, next)?;
        tokens.push((token, at..end));
        at = end;
    }
    tokens.push((Token::End, at..at));
    Ok(tokens)
}

fn one(source: &str, at: usize, next: char) -> Result<(Token, usize), RuleError> {
    let short = |token| Ok((token, at + 1));
    match next {
        '(' => short(Token::Open),
        ')' => short(Token::Close),
        '[' => short(Token::OpenBracket),
        ']' => short(Token::CloseBracket),
        ',' => short(Token::Comma),
        '"' | '\'' => text(source, at, next),
        '=' | '!' | '<' | '>' | '^' => sign(source, at),
        _ => Ok(word(source, at)),
    }
}

fn sign(source: &str, at: usize) -> Result<(Token, usize), RuleError> {
    const SIGNS: [(&str, Sign); 8] = [
        ("==", Sign::Equal),
        ("!=", Sign::NotEqual),
        (">=", Sign::GreaterOrEqual),
        ("<=", Sign::LessOrEqual),
        ("^=", Sign::StartsWith),
        ("=", Sign::Equal),
        (">", Sign::Greater),
        ("<", Sign::Less),
    ];
    let rest = source.get(at..).unwrap_or_default();
    for (spelling, sign) in SIGNS {
        if rest.starts_with(spelling) {
            return Ok((Token::Sign(sign), at + spelling.len()));
        }
    }
    let found: String = rest.chars().take(1).collect();
    let message = format!("sign `{found}` is not a comparison; for negation write `not`");
    Err(RuleError::new(message, at..at + found.len(), source))
}

fn is_word_end(c: char) -> bool {
    c.is_whitespace() || "()[],=!<>^\"'".contains(c)
}

fn word(source: &str, at: usize) -> (Token, usize) {
    let rest = source.get(at..).unwrap_or_default();
    let length = rest.find(is_word_end).unwrap_or(rest.len());
    (
        Token::Word(rest.get(..length).unwrap_or_default().into()),
        at + length,
    )
}

#[inline(never)]
fn text(source: &str, at: usize, quote: char) -> Result<(Token, usize), RuleError> {
    let mut pieces = vec![String::new()];
    let mut piece = String::new();
    let mut escaped = false;
    let rest = source.get(at + 1..).unwrap_or_default();
    for (offset, found) in rest.char_indices() {
        let end = at + 1 + offset + found.len_utf8();
        if escaped {
            if !matches!(found, '"' | '\'' | '\\' | '*') {
                let message = format!("escape `\\{found}` is not one of `\\\"`, `\\\\`, `\\*`");
                return Err(RuleError::new(message, at + offset..end, source));
            }
            piece.push(found);
            escaped = false;
        } else if found == '\\' {
            escaped = true;
        } else if found == quote {
            if let Some(last) = pieces.last_mut() {
                *last = piece;
            }
            return Ok((Token::Text(pieces), end));
        } else if found == '*' {
            if let Some(last) = pieces.last_mut() {
                *last = std::mem::take(&mut piece);
            }
            pieces.push(String::new());
        } else {
            piece.push(found);
        }
    }
    Err(RuleError::new(
        "string has no closing quote".to_owned(),
        at..source.len(),
        source,
    ))
}
