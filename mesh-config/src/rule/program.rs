//! The compiled form of a condition: tests in postfix order with jumps over what cannot matter.

use super::ast::{Check, Tree};
use super::eval::{Attributes, Tri, test};
use super::lexer::Sign;
use super::measure::Comparison;
use super::operand::Operand;
use super::{Attribute, MAX_DEPTH};

/// Pending results at most: each level of nesting leaves one `or` and one `and` half done.
const STACK: usize = 2 * (MAX_DEPTH + 2) + 2;

/// A step of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Push the result of a test.
    Test(u16),
    /// Negate the top.
    Not,
    /// Replace the two topmost results by their `and`.
    And,
    /// Replace the two topmost results by their `or`.
    Or,
    /// Skip this many steps if the top is false.
    SkipIfFalse(u16),
    /// Skip this many steps if the top is true.
    SkipIfTrue(u16),
}

/// One comparison.
#[derive(Clone, Debug)]
pub(super) struct Test {
    attribute: u16,
    pub(super) sign: Option<Sign>,
    pub(super) operand: Operand,
}

/// A compiled condition.
#[derive(Clone, Debug, Default)]
pub(super) struct Program {
    steps: Box<[Step]>,
    tests: Box<[Test]>,
    pub(super) attributes: Box<[Attribute]>,
    /// All of it, where it is one comparison of a measure.
    pub(super) comparison: Option<Comparison>,
}

impl Program {
    /// Runs the program; an empty one is false.
    pub(super) fn eval(&self, attributes: &dyn Attributes) -> Tri {
        // Most rules are one comparison: they need no stack.
        if let [Step::Test(index)] = *self.steps {
            return self.test(index, attributes);
        }
        let mut stack = Stack {
            slots: [Tri::False; STACK],
            height: 0,
        };
        let mut at = 0;
        while let Some(step) = self.steps.get(at) {
            at += 1;
            match *step {
                Step::Test(index) => stack.push(self.test(index, attributes)),
                Step::Not => {
                    let top = stack.pop();
                    stack.push(top.negate());
                }
                Step::And => {
                    let (right, left) = (stack.pop(), stack.pop());
                    stack.push(left.and(right));
                }
                Step::Or => {
                    let (right, left) = (stack.pop(), stack.pop());
                    stack.push(left.or(right));
                }
                Step::SkipIfFalse(count) if stack.top() == Tri::False => at += usize::from(count),
                Step::SkipIfTrue(count) if stack.top() == Tri::True => at += usize::from(count),
                Step::SkipIfFalse(_) | Step::SkipIfTrue(_) => {}
            }
        }
        stack.pop()
    }

    fn test(&self, index: u16, attributes: &dyn Attributes) -> Tri {
        let Some(wanted) = self.tests.get(usize::from(index)) else {
            return Tri::False;
        };
        let Some(attribute) = self.attributes.get(usize::from(wanted.attribute)) else {
            return Tri::False;
        };
        test(wanted, attributes.get(attribute))
    }
}

struct Stack {
    slots: [Tri; STACK],
    height: usize,
}

impl Stack {
    fn push(&mut self, value: Tri) {
        debug_assert!(self.height < STACK, "nesting is bounded by the parser");
        if let Some(slot) = self.slots.get_mut(self.height) {
            *slot = value;
            self.height += 1;
        }
    }

    fn top(&self) -> Tri {
        self.slots
            .get(self.height.wrapping_sub(1))
            .copied()
            .unwrap_or(Tri::False)
    }

    fn pop(&mut self) -> Tri {
        let top = self.top();
        self.height = self.height.saturating_sub(1);
        top
    }
}

/// Compiles a tree; the parser's limits keep every index within 16 bits.
pub(super) fn compile(tree: &Tree) -> Program {
    let mut compiler = Compiler::default();
    compiler.tree(tree);
    Program {
        comparison: match tree {
            Tree::Test(attribute, Check::Compare(sign, operand)) => {
                Comparison::of(attribute, *sign, operand)
            }
            _ => None,
        },
        steps: compiler.steps.into(),
        tests: compiler.tests.into(),
        attributes: compiler.attributes.into(),
    }
}

#[derive(Default)]
struct Compiler {
    steps: Vec<Step>,
    tests: Vec<Test>,
    attributes: Vec<Attribute>,
}

impl Compiler {
    fn tree(&mut self, tree: &Tree) {
        match tree {
            Tree::And(list) => self.joined(list, Step::And),
            Tree::Or(list) => self.joined(list, Step::Or),
            Tree::Not(inner) => {
                self.tree(inner);
                self.steps.push(Step::Not);
            }
            Tree::Test(attribute, Check::Compare(sign, operand)) => {
                self.test(attribute, Some(*sign), operand.clone());
            }
            Tree::Test(attribute, Check::Exists) => {
                self.test(attribute, None, Operand::Bool(true));
            }
            Tree::Test(attribute, Check::In(list)) => {
                let mut jumps = Vec::new();
                for (index, operand) in list.iter().enumerate() {
                    self.test(attribute, Some(Sign::Equal), operand.clone());
                    self.after_operand(index, index + 1 == list.len(), Step::Or, &mut jumps);
                }
                self.land(&jumps);
            }
        }
    }

    fn joined(&mut self, list: &[Tree], join: Step) {
        let mut jumps = Vec::new();
        for (index, item) in list.iter().enumerate() {
            self.tree(item);
            self.after_operand(index, index + 1 == list.len(), join, &mut jumps);
        }
        self.land(&jumps);
    }

    /// Joins the operand with what stands before it, and leaves room for the jump to the end.
    fn after_operand(&mut self, index: usize, last: bool, join: Step, jumps: &mut Vec<usize>) {
        if index > 0 {
            self.steps.push(join);
        }
        if !last {
            jumps.push(self.steps.len());
            self.steps.push(match join {
                Step::Or => Step::SkipIfTrue(0),
                _ => Step::SkipIfFalse(0),
            });
        }
    }

    /// Makes the jumps end here.
    fn land(&mut self, jumps: &[usize]) {
        let end = self.steps.len();
        for jump in jumps {
            let distance = u16::try_from(end - jump - 1).unwrap_or(0);
            match self.steps.get_mut(*jump) {
                Some(Step::SkipIfFalse(count) | Step::SkipIfTrue(count)) => *count = distance,
                _ => debug_assert!(false, "jumps are recorded where they are pushed"),
            }
        }
    }

    fn test(&mut self, attribute: &Attribute, sign: Option<Sign>, operand: Operand) {
        let known = self.attributes.iter().position(|found| found == attribute);
        let at = known.unwrap_or_else(|| {
            self.attributes.push(attribute.clone());
            self.attributes.len() - 1
        });
        self.steps.push(Step::Test(
            u16::try_from(self.tests.len()).unwrap_or(u16::MAX),
        ));
        let attribute = u16::try_from(at).unwrap_or(u16::MAX);
        self.tests.push(Test {
            attribute,
            sign,
            operand,
        });
    }
}
