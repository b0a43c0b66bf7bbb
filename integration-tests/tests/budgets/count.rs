//! Makes a module count what it executes, exactly.
//!
//! Every stretch of operators that run together adds their number to a global, and one to a number
//! of its own in a second memory, which tells what code has run at all (`footprint.rs`). (The fuel of an
//! interpreter is no such count: it charges a function for all of its operators when it is entered,
//! those behind an early exit included, two to three times of what runs here.) `block`, `loop`,
//! `else` and `end` are syntax and count nothing; copying and filling memory counts one for each
//! eight bytes on top.

use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    CodeSection, ConstExpr, ExportKind, ExportSection, Function, FunctionSection, GlobalSection,
    GlobalType, Instruction, MemArg, MemorySection, MemoryType, Module, TypeSection, ValType,
};
use wasmparser::{
    CodeSectionReader, ExportSectionReader, FunctionBody, FunctionSectionReader,
    GlobalSectionReader, MemorySectionReader, Operator, Parser, Payload, TypeRef,
    TypeSectionReader,
};

/// Name of the exported global.
pub(crate) const COUNTER: &str = "operators executed";

/// Name of the exported memory: how often each stretch ran, 32 bits each.
pub(crate) const RUNS: &str = "runs of stretches";

/// Pages of that memory; a stretch is hardly ever shorter than four bytes.
const RUNS_PAGES: u64 = 16;

/// The module's own memory is the first one.
const RUNS_MEMORY: u32 = 1;

/// A stretch of operators that run together.
pub(crate) struct Stretch {
    /// Its function, counted from the first one that is not imported.
    pub(crate) function: u32,
    /// Whether the function begins with it.
    pub(crate) is_entry: bool,
    pub(crate) bytes: u64,
    pub(crate) operators: u64,
}

/// Places of what is added to a module.
#[derive(Default)]
struct Counting {
    counter: u32,
    /// Type of the two functions that stand for `memory.copy` and `memory.fill`.
    bulk_type: u32,
    copy: u32,
    fill: u32,
    /// Bodies so far.
    bodies: u32,
    stretches: Vec<Stretch>,
}

type Outcome = Result<(), Error<Infallible>>;

fn is_syntax(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::Block { .. } | Operator::Loop { .. } | Operator::Else | Operator::End
    )
}

/// Whether what follows may run less or more often.
fn ends_stretch(operator: &Operator<'_>) -> bool {
    let jumps = matches!(
        operator,
        Operator::If { .. }
            | Operator::Br { .. }
            | Operator::BrIf { .. }
            | Operator::BrTable { .. }
            | Operator::Return
            | Operator::Unreachable
    );
    jumps || is_syntax(operator)
}

impl Counting {
    /// Adds what `amount` leaves on the stack to the counter.
    fn add(&self, function: &mut Function, amount: &[Instruction<'_>]) {
        function.instruction(&Instruction::GlobalGet(self.counter));
        for instruction in amount {
            function.instruction(instruction);
        }
        function.instruction(&Instruction::I64Add);
        function.instruction(&Instruction::GlobalSet(self.counter));
    }

    /// Adds one to the runs of the stretch that comes next.
    fn count_run(&self, function: &mut Function) {
        let place = MemArg {
            offset: 4 * self.stretches.len() as u64,
            align: 2,
            memory_index: RUNS_MEMORY,
        };
        for instruction in [
            Instruction::I32Const(0),
            Instruction::I32Const(0),
            Instruction::I32Load(place),
            Instruction::I32Const(1),
            Instruction::I32Add,
            Instruction::I32Store(place),
        ] {
            function.instruction(&instruction);
        }
    }

    fn body(&mut self, body: &FunctionBody<'_>) -> Result<Function, Error<Infallible>> {
        let mut locals = Vec::new();
        for group in body.get_locals_reader()? {
            let (count, kind) = group?;
            locals.push((count, self.val_type(kind)?));
        }
        let mut function = Function::new(locals);
        let reader = body.get_operators_reader()?;
        let operators = reader.into_iter_with_offsets();
        let operators = operators.collect::<Result<Vec<_>, _>>()?;
        let mut rest = &operators[..];
        while !rest.is_empty() {
            let end = rest.iter().position(|(operator, _)| ends_stretch(operator));
            let (stretch, behind) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
            let behind_at = behind.first().map_or(body.range().end, |(_, at)| *at);
            let count = stretch.iter().filter(|(known, _)| !is_syntax(known));
            let count = count.count();
            self.count_run(&mut function);
            self.stretches.push(Stretch {
                function: self.bodies,
                is_entry: rest.len() == operators.len(),
                bytes: (behind_at - stretch[0].1) as u64,
                operators: count as u64,
            });
            rest = behind;
            if count > 0 {
                self.add(&mut function, &[Instruction::I64Const(count as i64)]);
            }
            for (operator, _) in stretch {
                let instruction = match operator {
                    Operator::MemoryCopy { .. } => Instruction::Call(self.copy),
                    Operator::MemoryFill { .. } => Instruction::Call(self.fill),
                    other => self.instruction(other.clone())?,
                };
                function.instruction(&instruction);
            }
        }
        self.bodies += 1;
        Ok(function)
    }

    /// A function that does `operation` and counts its bytes.
    fn bulk(&self, operation: &Instruction<'_>) -> Function {
        let mut function = Function::new([]);
        let words = [
            Instruction::LocalGet(2),
            Instruction::I64ExtendI32U,
            Instruction::I64Const(3),
            Instruction::I64ShrU,
        ];
        self.add(&mut function, &words);
        for parameter in 0..3 {
            function.instruction(&Instruction::LocalGet(parameter));
        }
        function.instruction(operation);
        function.instruction(&Instruction::End);
        function
    }
}

impl Reencode for Counting {
    type Error = Infallible;

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: TypeSectionReader<'_>,
    ) -> Outcome {
        utils::parse_type_section(self, types, section)?;
        self.bulk_type = types.len();
        types.ty().function([ValType::I32; 3], []);
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: FunctionSectionReader<'_>,
    ) -> Outcome {
        utils::parse_function_section(self, functions, section)?;
        functions.function(self.bulk_type).function(self.bulk_type);
        Ok(())
    }

    fn parse_memory_section(
        &mut self,
        memories: &mut MemorySection,
        section: MemorySectionReader<'_>,
    ) -> Outcome {
        utils::parse_memory_section(self, memories, section)?;
        memories.memory(MemoryType {
            minimum: RUNS_PAGES,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        Ok(())
    }

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: GlobalSectionReader<'_>,
    ) -> Outcome {
        utils::parse_global_section(self, globals, section)?;
        self.counter = globals.len();
        let kind = GlobalType {
            val_type: ValType::I64,
            mutable: true,
            shared: false,
        };
        globals.global(kind, &ConstExpr::i64_const(0));
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: ExportSectionReader<'_>,
    ) -> Outcome {
        utils::parse_export_section(self, exports, section)?;
        exports.export(COUNTER, ExportKind::Global, self.counter);
        exports.export(RUNS, ExportKind::Memory, RUNS_MEMORY);
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: CodeSectionReader<'_>,
    ) -> Outcome {
        for body in section {
            code.function(&self.body(&body?)?);
        }
        let copy = Instruction::MemoryCopy {
            src_mem: 0,
            dst_mem: 0,
        };
        code.function(&self.bulk(&copy));
        code.function(&self.bulk(&Instruction::MemoryFill(0)));
        Ok(())
    }
}

/// The module with its counters, and the stretches in the order of their numbers. It imports
/// nothing but functions.
pub(crate) fn counting(module: &[u8]) -> (Vec<u8>, Vec<Stretch>) {
    let mut functions = 0;
    for payload in Parser::new(0).parse_all(module) {
        match payload.unwrap() {
            Payload::ImportSection(imports) => {
                functions += imports.count();
                let mut kinds = imports.into_iter().map(|import| import.unwrap().ty);
                assert!(kinds.all(|kind| matches!(kind, TypeRef::Func(_))));
            }
            Payload::FunctionSection(section) => functions += section.count(),
            _ => {}
        }
    }
    let mut counting = Counting {
        copy: functions,
        fill: functions + 1,
        ..Counting::default()
    };
    let mut counted = Module::new();
    counting
        .parse_core_module(&mut counted, Parser::new(0), module)
        .unwrap();
    let room = RUNS_PAGES as usize * 65_536 / 4;
    assert!(counting.stretches.len() <= room, "`RUNS_PAGES` too small");
    (counted.finish(), counting.stretches)
}
