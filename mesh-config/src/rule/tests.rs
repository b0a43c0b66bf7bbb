//! Random trees: printing and reading gives the same tree, and the compiled program agrees with
//! a naive evaluation of the tree.

use fastrand::Rng;

use super::ast::{Check, Tree};
use super::lexer::Sign;
use super::operand::{Operand, glob, matches_pieces};
use super::*;
use crate::DataTag;
use crate::money::NanoUsd;

const CASES: u32 = 20_000;

fn attribute(rng: &mut Rng) -> Attribute {
    match rng.u8(0..12) {
        0 => Attribute::Error,
        1 => Attribute::CostUsd,
        2 => Attribute::DurationMs,
        3 => Attribute::DataTag,
        4 => Attribute::UrlPath,
        5 => Attribute::HttpResponseStatusCode,
        6 => Attribute::RequestBodySize,
        7 => Attribute::RequestHeader(name(rng).to_ascii_lowercase().into()),
        8 => Attribute::Baggage(name(rng).into()),
        9 => Attribute::Span(name(rng).into()),
        10 => Attribute::Span("colony.name".into()),
        _ => Attribute::HitlRequired,
    }
}

fn name(rng: &mut Rng) -> String {
    let length = rng.usize(1..4);
    (0..length)
        .map(|_| {
            rng.choice(['a', 'B', '"', '\\', '*', '\'', '.', '-', ' ', ']', 'ü'])
                .unwrap()
        })
        .collect()
}

fn operand(attribute: &Attribute, rng: &mut Rng) -> Operand {
    let text = |rng: &mut Rng| {
        if rng.bool() {
            Operand::Text(name(rng).into())
        } else {
            Operand::Glob((0..rng.usize(2..4)).map(|_| name(rng).into()).collect())
        }
    };
    match attribute.kind() {
        attribute::Kind::Bool => Operand::Bool(rng.bool()),
        attribute::Kind::Class => Operand::Class(rng.choice(DataTag::ALL).unwrap()),
        attribute::Kind::Duration => Operand::Nanos(rng.u64(0..4) * 500_000_000),
        attribute::Kind::Money => Operand::Money(NanoUsd::from_nanos(rng.u64(0..4) * 1_000)),
        attribute::Kind::Number | attribute::Kind::Size => Operand::Number(rng.u8(0..4).into()),
        attribute::Kind::Text => text(rng),
        attribute::Kind::Any => match rng.u8(0..3) {
            0 => Operand::Bool(rng.bool()),
            1 => Operand::Number(f64::from(rng.i8(-2..3)) / 2.0),
            _ => text(rng),
        },
    }
}

fn tree(depth: u32, rng: &mut Rng) -> Tree {
    if depth == 0 || rng.u8(0..3) == 0 {
        let attribute = attribute(rng);
        let check = match rng.u8(0..6) {
            0 => Check::Exists,
            1 => Check::In(
                (0..rng.usize(1..4))
                    .map(|_| operand(&attribute, rng))
                    .collect(),
            ),
            _ => {
                let operand = operand(&attribute, rng);
                let ordered = !matches!(
                    operand,
                    Operand::Bool(_) | Operand::Text(_) | Operand::Glob(_)
                );
                let sign = match (rng.u8(0..6), ordered, &operand) {
                    (0, true, _) => Sign::Greater,
                    (1, true, _) => Sign::GreaterOrEqual,
                    (2, true, _) => Sign::Less,
                    (3, true, _) => Sign::LessOrEqual,
                    (0..3, false, Operand::Text(_)) => Sign::StartsWith,
                    (4, ..) => Sign::NotEqual,
                    _ => Sign::Equal,
                };
                Check::Compare(sign, operand)
            }
        };
        return Tree::Test(attribute, check);
    }
    let list = |depth: u32, rng: &mut Rng| -> Vec<Tree> {
        (0..rng.usize(2..4)).map(|_| tree(depth - 1, rng)).collect()
    };
    // Lists of the same kind inside each other are one list after parsing.
    match rng.u8(0..3) {
        0 => Tree::Not(Box::new(tree(depth - 1, rng))),
        1 => Tree::And(
            list(depth, rng)
                .into_iter()
                .filter(|item| !matches!(item, Tree::And(_)))
                .chain([tree(0, rng), tree(0, rng)])
                .collect(),
        ),
        _ => Tree::Or(
            list(depth, rng)
                .into_iter()
                .filter(|item| !matches!(item, Tree::Or(_)))
                .chain([tree(0, rng), tree(0, rng)])
                .collect(),
        ),
    }
}

/// Values that are the same for the same attribute within a case.
struct Facts(u64);

impl Attributes for Facts {
    fn get(&self, attribute: &Attribute) -> Lookup<'_> {
        let mut rng = Rng::with_seed(self.0 ^ attribute.to_string().len() as u64);
        let value = match attribute.kind() {
            attribute::Kind::Bool => Value::Bool(rng.bool()),
            attribute::Kind::Class => Value::Tag(rng.choice(DataTag::ALL).unwrap()),
            attribute::Kind::Duration => Value::Nanos(rng.u64(0..4) * 500_000_000),
            attribute::Kind::Money => Value::Money(NanoUsd::from_nanos(rng.u64(0..4) * 1_000)),
            attribute::Kind::Number | attribute::Kind::Size => Value::Number(rng.u8(0..4).into()),
            attribute::Kind::Text | attribute::Kind::Any => Value::Bytes(
                rng.choice([b"a".as_slice(), b"aB.", b"1", b"true", b"*"])
                    .unwrap(),
            ),
        };
        match rng.u8(0..6) {
            0 => Lookup::Unknown,
            1 => Lookup::Absent,
            2 if attribute.only_grows() => Lookup::AtLeast(value),
            _ => Lookup::Value(value),
        }
    }
}

/// The tree itself, read literally: every part is evaluated, nothing is skipped.
fn naive(tree: &Tree, facts: &Facts) -> Tri {
    match tree {
        Tree::And(list) => list
            .iter()
            .map(|item| naive(item, facts))
            .fold(Tri::True, Tri::and),
        Tree::Or(list) => list
            .iter()
            .map(|item| naive(item, facts))
            .fold(Tri::False, Tri::or),
        Tree::Not(inner) => naive(inner, facts).negate(),
        Tree::Test(attribute, check) => {
            let alone = |sign: &str, operand: &Operand| {
                let text = format!("{attribute} {sign} {operand}");
                Condition::parse(&text)
                    .unwrap_or_else(|error| panic!("{error}"))
                    .eval(facts)
            };
            match check {
                Check::Exists => Condition::parse(&format!("{attribute} exists"))
                    .unwrap()
                    .eval(facts),
                Check::In(list) => list
                    .iter()
                    .map(|operand| alone("=", operand))
                    .fold(Tri::False, Tri::or),
                Check::Compare(sign, operand) => alone(sign.as_str(), operand),
            }
        }
    }
}

#[test]
fn printed_conditions_read_back_as_the_same_tree() {
    let mut rng = Rng::with_seed(1);
    for _ in 0..CASES {
        let tree = tree(4, &mut rng);
        let text = tree.to_string();
        if text.len() > MAX_LENGTH {
            continue;
        }
        let read = parser::parse(&text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(read, tree, "{text}");
        assert_eq!(read.to_string(), text);
    }
}

#[test]
fn program_agrees_with_the_tree_read_literally() {
    let mut rng = Rng::with_seed(2);
    let mut outcomes = [0_u32; 3];
    for _ in 0..CASES {
        let tree = tree(4, &mut rng);
        let text = tree.to_string();
        let Ok(condition) = Condition::parse(&text) else {
            continue;
        };
        let facts = Facts(rng.u64(..));
        let outcome = condition.eval(&facts);
        assert_eq!(
            outcome,
            naive(&tree, &facts),
            "{text} with seed {}",
            facts.0
        );
        outcomes[outcome as usize] += 1;
    }
    assert!(
        outcomes.iter().all(|count| *count > CASES / 20),
        "{outcomes:?}"
    );
}

/// One comparison of a measure says what the general evaluation says.
#[test]
fn comparisons_of_measures_agree_with_the_general_evaluation() {
    struct Both {
        measures: Measures,
        at_hand: bool,
    }
    impl Attributes for Both {
        fn get(&self, attribute: &Attribute) -> Lookup<'_> {
            let measure = Measure::of(attribute);
            measure.map_or(Lookup::Absent, |measure| self.measures.lookup(measure))
        }
        fn measures(&self) -> Option<&Measures> {
            self.at_hand.then_some(&self.measures)
        }
    }
    let mut rng = Rng::with_seed(7);
    let (mut compared, mut outcomes) = (0_u32, [0_u32; 3]);
    while compared < CASES {
        let text = tree(0, &mut rng).to_string();
        let condition = Condition::parse(&text).unwrap();
        if condition.program.comparison.is_none() {
            continue;
        }
        compared += 1;
        let mut measures = Measures::default();
        for (measure, known) in Measure::ALL.into_iter().zip(&mut measures.known) {
            let flag = matches!(measure, Measure::Error | Measure::HitlRequired);
            *known = match rng.u8(0..3) {
                0 => Known::Nothing,
                1 if !flag => Known::AtLeast,
                _ => Known::Exactly,
            };
        }
        for (measure, number) in Measure::ALL.into_iter().zip(&mut measures.numbers) {
            *number = match measure {
                Measure::Error | Measure::HitlRequired => rng.u64(0..2),
                Measure::DataTag => rng.u64(0..3),
                Measure::Duration => rng.u64(0..4) * 500_000_000,
                Measure::Cost => rng.u64(0..4) * 1_000,
            };
        }
        let eval = |at_hand| condition.eval(&Both { measures, at_hand });
        assert_eq!(eval(true), eval(false), "{text} with {measures:?}");
        outcomes[eval(true) as usize] += 1;
    }
    assert!(
        outcomes.iter().all(|count| *count > CASES / 20),
        "{outcomes:?}"
    );
}

/// More knowledge never turns a decided condition around.
#[test]
fn decided_conditions_stay_decided_when_more_is_known() {
    struct Early<'a>(&'a Facts, u64);
    impl Attributes for Early<'_> {
        fn get(&self, attribute: &Attribute) -> Lookup<'_> {
            let hide = Rng::with_seed(self.1 ^ attribute.to_string().len() as u64).bool();
            if hide {
                Lookup::Unknown
            } else {
                self.0.get(attribute)
            }
        }
    }
    let mut rng = Rng::with_seed(3);
    for _ in 0..CASES {
        let text = tree(4, &mut rng).to_string();
        let Ok(condition) = Condition::parse(&text) else {
            continue;
        };
        let facts = Facts(rng.u64(..));
        let early = condition.eval(&Early(&facts, rng.u64(..)));
        if early != Tri::Unknown {
            assert_eq!(early, condition.eval(&facts), "{text}");
        }
    }
}

#[test]
fn wildcards_agree_with_a_naive_matcher() {
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|skip| slow(rest, &text[skip..])),
            Some((first, rest)) => text.first() == Some(first) && slow(rest, &text[1..]),
        }
    }
    let mut rng = Rng::with_seed(4);
    for _ in 0..CASES * 5 {
        let word = |alphabet: &[u8], rng: &mut Rng| -> Vec<u8> {
            (0..rng.usize(0..7))
                .map(|_| rng.choice(alphabet.iter().copied()).unwrap())
                .collect()
        };
        let (pattern, text) = (word(b"ab*", &mut rng), word(b"ab", &mut rng));
        let wanted = slow(&pattern, &text);
        assert_eq!(glob(&pattern, &text), wanted, "{pattern:?} {text:?}");
        let pieces: Vec<Box<str>> = std::str::from_utf8(&pattern)
            .unwrap()
            .split('*')
            .map(Into::into)
            .collect();
        assert_eq!(
            matches_pieces(&pieces, &text),
            wanted,
            "{pattern:?} {text:?}"
        );
    }
}

#[test]
fn constants_of_this_crate_compile() {
    let policy = crate::Policy::default();
    let mut conditions = policy.attributes.hitl_required;
    conditions.push(policy.debug.explain_when);
    conditions.push(Condition::constant("error = true"));
    for condition in conditions {
        assert_ne!(condition, Condition::never());
    }
}
