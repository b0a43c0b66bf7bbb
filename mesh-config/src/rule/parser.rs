//! From text to tree, with values read for the kind of the attribute they are compared with.

use std::ops::Range;

use super::ast::{Check, Tree};
use super::attribute::{Kind, NAMES};
use super::lexer::{Sign, Token, lex};
use super::operand::Operand;
use super::{Attribute, MAX_DEPTH, MAX_TESTS, RuleError};
use crate::DataTag;
use crate::money::NanoUsd;
use crate::setting::{nearest, shorten};
use crate::units::{SIZE_UNITS, TIME_UNITS, quantity};

const KEYWORDS: [&str; 5] = ["and", "or", "not", "in", "exists"];

/// Reads a condition.
pub(super) fn parse(source: &str) -> Result<Tree, RuleError> {
    let tokens = lex(source)?;
    let mut parser = Parser {
        source,
        tokens,
        at: 0,
        tests: 0,
    };
    if parser.token() == &Token::End {
        return Err(parser.error("condition is empty".to_owned()));
    }
    let tree = parser.or(0)?;
    match parser.token() {
        Token::End => Ok(tree),
        Token::Close => Err(parser.error("`)` without `(`".to_owned())),
        _ => Err(parser.error("expected `and`, `or` or the end of the condition".to_owned())),
    }
}

struct Parser<'a> {
    source: &'a str,
    tokens: Vec<(Token, Range<usize>)>,
    at: usize,
    tests: usize,
}

impl Parser<'_> {
    fn token(&self) -> &Token {
        self.tokens
            .get(self.at)
            .map_or(&Token::End, |(token, _)| token)
    }

    fn span(&self) -> Range<usize> {
        let end = self.source.len();
        self.tokens
            .get(self.at)
            .map_or(end..end, |(_, span)| span.clone())
    }

    fn advance(&mut self) {
        self.at += 1;
    }

    #[cold]
    fn error(&self, message: String) -> RuleError {
        RuleError::new(message, self.span(), self.source)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.token(), Token::Word(found) if &**found == word)
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += usize::from(found);
        found
    }

    #[inline(never)]
    fn or(&mut self, depth: usize) -> Result<Tree, RuleError> {
        let first = self.and(depth)?;
        let mut list = vec![first];
        while self.eat_word("or") {
            list.push(self.and(depth)?);
        }
        Ok(flatten(list, Tree::Or))
    }

    fn and(&mut self, depth: usize) -> Result<Tree, RuleError> {
        let first = self.not(depth)?;
        let mut list = vec![first];
        while self.eat_word("and") {
            list.push(self.not(depth)?);
        }
        Ok(flatten(list, Tree::And))
    }

    fn not(&mut self, depth: usize) -> Result<Tree, RuleError> {
        if depth > MAX_DEPTH {
            return Err(self.error(format!(
                "condition is nested more than {MAX_DEPTH} levels deep"
            )));
        }
        if self.eat_word("not") {
            return Ok(Tree::Not(Box::new(self.not(depth + 1)?)));
        }
        if self.token() != &Token::Open {
            return self.test();
        }
        let open = self.span();
        self.advance();
        let inner = self.or(depth + 1)?;
        if self.token() != &Token::Close {
            let message = "`(` is not closed".to_owned();
            return Err(RuleError::new(message, open, self.source));
        }
        self.advance();
        Ok(inner)
    }

    #[inline(never)]
    fn test(&mut self) -> Result<Tree, RuleError> {
        let start = self.span();
        let attribute = self.attribute()?;
        let negated = self.is_word("not");
        if negated {
            self.advance();
            if !self.is_word("in") {
                return Err(self.error("expected `in` after `not`".to_owned()));
            }
        }
        if self.eat_word("in") {
            let list = self.list(&attribute)?;
            self.count(list.len(), &start)?;
            let test = Tree::Test(attribute, Check::In(list));
            return Ok(if negated {
                Tree::Not(Box::new(test))
            } else {
                test
            });
        }
        self.count(1, &start)?;
        if self.eat_word("exists") {
            return Ok(Tree::Test(attribute, Check::Exists));
        }
        let sign = match self.token() {
            Token::Sign(sign) => *sign,
            Token::Word(word) if &**word == "starts_with" => Sign::StartsWith,
            _ if matches!(attribute.kind(), Kind::Bool | Kind::Any) => {
                return Ok(Tree::Test(
                    attribute,
                    Check::Compare(Sign::Equal, Operand::Bool(true)),
                ));
            }
            _ => return Err(self.error(format!("expected a comparison after `{attribute}`"))),
        };
        self.advance();
        let place = self.span();
        let operand = self.value(&attribute, sign == Sign::StartsWith)?;
        if let Some(message) = misfit(&attribute, sign, &operand) {
            return Err(RuleError::new(message, place, self.source));
        }
        Ok(Tree::Test(attribute, Check::Compare(sign, operand)))
    }

    fn count(&mut self, tests: usize, start: &Range<usize>) -> Result<(), RuleError> {
        self.tests += tests;
        if self.tests > MAX_TESTS {
            let message = format!("condition has more than {MAX_TESTS} comparisons");
            return Err(RuleError::new(message, start.clone(), self.source));
        }
        Ok(())
    }

    #[inline(never)]
    fn list(&mut self, attribute: &Attribute) -> Result<Vec<Operand>, RuleError> {
        let close = match self.token() {
            Token::Open => Token::Close,
            Token::OpenBracket => Token::CloseBracket,
            _ => return Err(self.error("expected `(` after `in`".to_owned())),
        };
        let mut list = Vec::new();
        loop {
            // Past the opening bracket or the comma.
            self.advance();
            list.push(self.value(attribute, false)?);
            if *self.token() == close {
                self.advance();
                return Ok(list);
            }
            if self.token() != &Token::Comma {
                return Err(self.error("expected `,` or the end of the list".to_owned()));
            }
        }
    }

    #[inline(never)]
    fn attribute(&mut self) -> Result<Attribute, RuleError> {
        let Token::Word(name) = self.token() else {
            return Err(self.error("expected the name of an attribute".to_owned()));
        };
        let name = name.clone();
        if KEYWORDS.contains(&&*name) {
            return Err(self.error(format!("expected the name of an attribute, found `{name}`")));
        }
        let span = self.span();
        self.advance();
        if self.token() == &Token::OpenBracket {
            return self.keyed(&name, span);
        }
        Attribute::named(&name)
            .ok_or_else(|| RuleError::new(unknown_attribute(&name), span, self.source))
    }

    #[inline(never)]
    fn keyed(&mut self, family: &str, span: Range<usize>) -> Result<Attribute, RuleError> {
        self.advance();
        let Token::Text(pieces) = self.token() else {
            return Err(self.error(format!(
                "expected a key in quotes, as in `{family}[\"key\"]`"
            )));
        };
        let key = pieces.join("*");
        if key.is_empty() {
            return Err(self.error("key is empty".to_owned()));
        }
        self.advance();
        if self.token() != &Token::CloseBracket {
            return Err(self.error("expected `]`".to_owned()));
        }
        self.advance();
        Attribute::keyed(family, &key).ok_or_else(|| {
            let message = format!(
                "`{}` has no keys; allowed: `request.header`, `baggage`, `resource`, `span`",
                shorten(family)
            );
            RuleError::new(message, span, self.source)
        })
    }

    #[inline(never)]
    fn value(&mut self, attribute: &Attribute, literal: bool) -> Result<Operand, RuleError> {
        let kind = attribute.kind();
        let found = match self.token() {
            Token::Text(pieces) if literal => Ok(Operand::Text(pieces.join("*").into())),
            Token::Text(pieces) => quoted(pieces, kind),
            Token::Word(word) if KEYWORDS.contains(&&**word) => Err(format!(
                "expected a value, found `{word}`; a string may be put in quotes"
            )),
            Token::Word(word) if literal => Ok(Operand::Text(word.clone())),
            Token::Word(word) => unquoted(word, kind),
            _ => Err(format!("expected {}", kind.describe())),
        };
        let operand = found.map_err(|message| self.error(message))?;
        self.advance();
        Ok(operand)
    }
}

/// One item stays itself; inner lists of the same kind are joined with the outer one.
fn flatten(list: Vec<Tree>, outer: fn(Vec<Tree>) -> Tree) -> Tree {
    let mut flat = Vec::with_capacity(list.len());
    let is_or = matches!(outer(Vec::new()), Tree::Or(_));
    for item in list {
        match item {
            Tree::Or(inner) if is_or => flat.extend(inner),
            Tree::And(inner) if !is_or => flat.extend(inner),
            other => flat.push(other),
        }
    }
    match flat.len() {
        1 => flat.remove(0),
        _ => outer(flat),
    }
}

fn pieces_operand(pieces: Vec<Box<str>>) -> Operand {
    match pieces.as_slice() {
        [only] => Operand::Text(only.clone()),
        _ => Operand::Glob(pieces.into()),
    }
}

fn quoted(pieces: &[String], kind: Kind) -> Result<Operand, String> {
    match kind {
        Kind::Text | Kind::Any => Ok(pieces_operand(
            pieces.iter().map(|piece| piece.as_str().into()).collect(),
        )),
        // Classes read the same with and without quotes.
        Kind::Class => unquoted(&pieces.join("*"), kind),
        _ => Err(format!("found a string, expected {}", kind.describe())),
    }
}

fn unquoted(word: &str, kind: Kind) -> Result<Operand, String> {
    let found = match kind {
        Kind::Bool => word.parse().ok().map(Operand::Bool),
        Kind::Class => DataTag::parse(word.as_bytes()).map(Operand::Class),
        Kind::Duration => quantity(word, &TIME_UNITS, Some(1_000_000)).map(Operand::Nanos),
        Kind::Money => NanoUsd::parse_decimal(word.as_bytes())
            .ok()
            .map(Operand::Money),
        Kind::Number => number(word).map(Operand::Number),
        Kind::Size => quantity(word, &SIZE_UNITS, Some(1)).map(|size| Operand::Number(size as f64)),
        Kind::Text => Some(pieces_operand(word.split('*').map(Into::into).collect())),
        Kind::Any => word
            .parse()
            .ok()
            .map(Operand::Bool)
            .or_else(|| number(word).map(Operand::Number))
            .or_else(|| unquoted(word, Kind::Text).ok()),
    };
    found.ok_or_else(|| format!("value `{}` is not {}", shorten(word), kind.describe()))
}

/// A plain decimal with an optional minus; words such as `inf` are strings.
fn number(word: &str) -> Option<f64> {
    let digits = word.strip_prefix('-').unwrap_or(word);
    let plain = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let starts = digits.starts_with(|c: char| c.is_ascii_digit());
    if plain && starts {
        word.parse().ok()
    } else {
        None
    }
}

/// Why this comparison makes no sense for the attribute, if so.
#[inline(never)]
fn misfit(attribute: &Attribute, sign: Sign, operand: &Operand) -> Option<String> {
    let text = matches!(operand, Operand::Text(_) | Operand::Glob(_));
    let kind = attribute.kind();
    if sign == Sign::StartsWith && !matches!(kind, Kind::Text | Kind::Any) {
        return Some(format!(
            "`{attribute}` is not a string: it has no beginning"
        ));
    }
    if sign.is_order() && (text || matches!(operand, Operand::Bool(_))) {
        let wanted = if kind == Kind::Any {
            "a number"
        } else {
            "`=` or `!=`"
        };
        return Some(format!(
            "`{}` compares numbers: write {wanted} here",
            sign.as_str()
        ));
    }
    None
}

fn unknown_attribute(name: &str) -> String {
    let shown = shorten(name);
    match nearest(name, NAMES) {
        Some(near) => format!("unknown attribute `{shown}`, did you mean `{near}`?"),
        None => format!(
            "unknown attribute `{shown}`; an attribute of the application's spans is written \
             `span[\"{shown}\"]`"
        ),
    }
}
