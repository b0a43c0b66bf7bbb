//! The tree of a condition: what the parser builds, what is printed, and what is split by phase.
//! Evaluation does not use it; it lives only while a condition is compiled or explained.

use std::fmt;

use super::lexer::Sign;
use super::operand::Operand;
use super::{Attribute, Phase};

/// A condition as a tree.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    And(Vec<Tree>),
    Not(Box<Tree>),
    Or(Vec<Tree>),
    Test(Attribute, Check),
}

/// What is asked about an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Check {
    Compare(Sign, Operand),
    Exists,
    In(Vec<Operand>),
}

impl Tree {
    /// How tight the outermost operation binds.
    const fn level(&self) -> u8 {
        match self {
            Self::Or(_) => 0,
            Self::And(_) => 1,
            Self::Not(_) => 2,
            Self::Test(..) => 3,
        }
    }

    /// Writes the tree; a test for which `known` is false is written as `?`.
    fn write(&self, known: &dyn Fn(&Attribute) -> bool, out: &mut String) {
        let operands = |list: &[Self], word: &str, out: &mut String| {
            for (index, item) in list.iter().enumerate() {
                if index > 0 {
                    out.push_str(word);
                }
                item.write_inside(self.level() + 1, known, out);
            }
        };
        match self {
            Self::And(list) => operands(list, " and ", out),
            Self::Or(list) => operands(list, " or ", out),
            Self::Not(inner) => {
                out.push_str("not ");
                inner.write_inside(2, known, out);
            }
            Self::Test(attribute, _) if !known(attribute) => out.push('?'),
            Self::Test(attribute, check) => out.push_str(&test_text(attribute, check)),
        }
    }

    fn write_inside(&self, level: u8, known: &dyn Fn(&Attribute) -> bool, out: &mut String) {
        let parenthesised = self.level() < level;
        if parenthesised {
            out.push('(');
        }
        self.write(known, out);
        if parenthesised {
            out.push(')');
        }
    }
}

fn test_text(attribute: &Attribute, check: &Check) -> String {
    match check {
        Check::Compare(sign, operand) => format!("{attribute} {} {operand}", sign.as_str()),
        Check::Exists => format!("{attribute} exists"),
        Check::In(list) => {
            let items: Vec<String> = list.iter().map(ToString::to_string).collect();
            format!("{attribute} in ({})", items.join(", "))
        }
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.write(&|_| true, &mut out);
        f.write_str(&out)
    }
}

/// A condition split by when its parts are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// For each phase in which something new is known: the condition with `?` for what is not
    /// known yet. The last one is the whole condition.
    pub known: Vec<(Phase, String)>,
    /// The earliest phase in which the condition can hold.
    pub true_from: Phase,
    /// The earliest phase in which the condition can fail.
    pub false_from: Phase,
}

/// Splits a condition by phase.
pub(super) fn parts(tree: &Tree) -> Parts {
    let mut known = Vec::new();
    for phase in Phase::ALL {
        let mut phases = Vec::new();
        collect_phases(tree, &mut phases);
        if phases.contains(&phase) {
            let mut text = String::new();
            tree.write(&|attribute| attribute.phase() <= phase, &mut text);
            known.push((phase, text));
        }
    }
    let (true_from, false_from) = decided_from(tree);
    Parts {
        known,
        true_from,
        false_from,
    }
}

fn collect_phases(tree: &Tree, phases: &mut Vec<Phase>) {
    match tree {
        Tree::And(list) | Tree::Or(list) => {
            for item in list {
                collect_phases(item, phases);
            }
        }
        Tree::Not(inner) => collect_phases(inner, phases),
        Tree::Test(attribute, _) => phases.push(attribute.phase()),
    }
}

/// The earliest phases in which a tree can be true and can be false.
fn decided_from(tree: &Tree) -> (Phase, Phase) {
    let all = |list: &[Tree]| list.iter().map(decided_from).collect::<Vec<_>>();
    let last = |phases: &mut dyn Iterator<Item = Phase>| phases.max().unwrap_or(Phase::Request);
    let first = |phases: &mut dyn Iterator<Item = Phase>| phases.min().unwrap_or(Phase::Request);
    match tree {
        Tree::And(list) => {
            let sides = all(list);
            (
                last(&mut sides.iter().map(|side| side.0)),
                first(&mut sides.iter().map(|side| side.1)),
            )
        }
        Tree::Or(list) => {
            let sides = all(list);
            (
                first(&mut sides.iter().map(|side| side.0)),
                last(&mut sides.iter().map(|side| side.1)),
            )
        }
        Tree::Not(inner) => {
            let (can_hold, can_fail) = decided_from(inner);
            (can_fail, can_hold)
        }
        Tree::Test(attribute, check) => test_decided_from(attribute, check),
    }
}

/// A lower bound is known from the request on where a value only grows. Durations and trace
/// values start at nothing, so that their bound says nothing then.
fn test_decided_from(attribute: &Attribute, check: &Check) -> (Phase, Phase) {
    let own = attribute.phase();
    let early = matches!(attribute, Attribute::CostUsd | Attribute::DataTag);
    let bound = if early { Phase::Request } else { own };
    match check {
        Check::Compare(Sign::Greater | Sign::GreaterOrEqual, _) => (bound, own),
        Check::Compare(Sign::Less | Sign::LessOrEqual, _) => (own, bound),
        Check::Compare(Sign::Equal, Operand::Class(crate::DataTag::Pii)) => (bound, own),
        Check::Compare(Sign::Equal, _) | Check::In(_) => (own, bound),
        Check::Compare(Sign::NotEqual, _) => (bound, own),
        Check::Compare(Sign::StartsWith, _) | Check::Exists => (own, own),
    }
}

/// Whether some attribute would have to equal two different values.
pub(super) fn contradicts_itself(tree: &Tree) -> bool {
    let Tree::And(list) = tree else { return false };
    let wanted = |tree: &Tree| match tree {
        Tree::Test(attribute, Check::Compare(Sign::Equal, operand))
            if !matches!(operand, Operand::Glob(_)) =>
        {
            Some((attribute.clone(), operand.clone()))
        }
        _ => None,
    };
    let equal: Vec<_> = list.iter().filter_map(wanted).collect();
    equal.iter().any(|(attribute, operand)| {
        equal
            .iter()
            .any(|(other, value)| attribute == other && operand != value)
    })
}
