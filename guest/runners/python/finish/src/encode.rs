//! Writes a program as one module: what of it is used, with addresses as numbers.

use std::collections::HashMap;

use anyhow::{Result, anyhow, ensure};
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    CodeSection, ConstExpr, DataSection, ElementSection, EntityType, ExportSection,
    FunctionSection, GlobalSection, ImportSection, Instruction, MemorySection, NameMap,
    NameSection, TableSection, TypeSection,
};
use wasmparser::{ElementKind, FuncType, Operator};

use crate::module::Kind;
use crate::program::{Entity, Program};
use crate::used::Used;

/// What it is called in traces. The host knows by it that a frame is not the agent's own.
const NAME: &str = "python_runner.wasm";

/// Where its imports come from. They have numbers for names.
pub const IMPORTS: &str = "";

pub fn encode(program: &Program<'_>) -> Result<Vec<u8>> {
    let used = Used::of(program)?;
    let layout = Layout::of(program, &used)?;
    let mut types = Types::default();
    let mut imports = ImportSection::new();
    for (number, of_type) in program.imported.iter().enumerate() {
        let of_type = EntityType::Function(types.index(of_type)?);
        imports.import(IMPORTS, &number.to_string(), of_type);
    }

    let mut functions = FunctionSection::new();
    let mut tables = TableSection::new();
    let mut memories = MemorySection::new();
    let mut globals = GlobalSection::new();
    let mut elements = ElementSection::new();
    let mut code = CodeSection::new();
    let mut names = Vec::new();
    for (number, module) in program.modules.iter().enumerate() {
        let types =
            module.types.iter().map(|of_type| types.index(of_type)).collect::<Result<_>>()?;
        let mut map = Map { program, layout: &layout, module: number, types };
        for table in &module.tables {
            map.parse_table(&mut tables, table.clone())?;
        }
        for memory in &module.memories {
            memories.memory(map.memory_type(*memory)?);
        }
        for (index, global) in (0..).zip(&module.globals) {
            if layout.has(Kind::Global, Entity::Defined { module: number, index }) {
                map.parse_global(&mut globals, global.clone())?;
            }
        }
        for element in &module.elements {
            if let ElementKind::Active { offset_expr, .. } = &element.kind {
                ensure!(map.value(offset_expr)?.is_some(), "a place in the table is not a number");
            }
            map.parse_element(&mut elements, element.clone())?;
        }
        for (index, (of_type, body)) in (0..).zip(module.functions.iter().zip(&module.bodies)) {
            if layout.has(Kind::Function, Entity::Defined { module: number, index }) {
                functions.function(map.type_index(*of_type)?);
                map.parse_function_body(&mut code, body.clone())?;
            }
        }
        for (function, name) in &module.names {
            let function = program.entity(number, Kind::Function, *function);
            if matches!(function, Entity::Defined { module, .. } if module == number)
                && layout.has(Kind::Function, function)
            {
                names.push((layout.index(Kind::Function, function)?, *name));
            }
        }
    }
    for (index, added) in (0..).zip(&program.added) {
        if layout.has(Kind::Function, Entity::Added(index)) {
            let calls = added.calls.iter().map(|function| layout.index(Kind::Function, *function));
            functions.function(types.index(&added.of_type)?);
            code.function(&(added.body)(&calls.collect::<Result<Vec<_>, _>>()?));
        }
    }
    let mut exports = ExportSection::new();
    for (name, kind, entity) in &program.exports {
        exports.export(name, kind.encoded(), layout.index(*kind, *entity)?);
    }
    let mut data = DataSection::new();
    for (address, bytes) in program.image.segments() {
        data.active(0, &ConstExpr::i32_const(address as i32), bytes.iter().copied());
    }

    let mut module = wasm_encoder::Module::new();
    module.section(&types.section).section(&imports).section(&functions).section(&tables);
    module.section(&memories).section(&globals).section(&exports).section(&elements);
    module.section(&code).section(&data).section(&naming(names));
    Ok(module.finish())
}

fn naming(mut functions: Vec<(u32, &str)>) -> NameSection {
    functions.sort_unstable();
    let mut map = NameMap::new();
    for (function, name) in functions {
        map.append(function, name);
    }
    let mut section = NameSection::new();
    section.module(NAME);
    section.functions(&map);
    section
}

/// What index everything has that is written, and the globals that are numbers instead.
#[derive(Default)]
struct Layout {
    indices: HashMap<(Kind, Entity), u32>,
    next: [u32; Kind::ALL.len()],
    constants: HashMap<Entity, i32>,
}

impl Layout {
    fn of(program: &Program<'_>, used: &Used) -> Result<Self> {
        let mut layout = Self::default();
        for index in 0..program.imported.len() as u32 {
            layout.add(Kind::Function, Entity::Imported(index));
        }
        for (number, module) in program.modules.iter().enumerate() {
            for kind in Kind::ALL {
                for index in 0..module.defined(kind) as u32 {
                    let entity = Entity::Defined { module: number, index };
                    let is_written = match kind {
                        Kind::Function => used.functions.contains(&entity),
                        Kind::Table | Kind::Memory => true,
                        Kind::Global => {
                            let global = &module.globals[index as usize].init_expr;
                            match layout.value(program, number, global)? {
                                // It is never set: an address that a loader would have found.
                                Some(value) if !used.set.contains(&entity) => {
                                    layout.constants.insert(entity, value);
                                    false
                                }
                                _ => used.set.contains(&entity) || used.read.contains(&entity),
                            }
                        }
                    };
                    if is_written {
                        layout.add(kind, entity);
                    }
                }
            }
        }
        for index in 0..program.added.len() as u32 {
            if used.functions.contains(&Entity::Added(index)) {
                layout.add(Kind::Function, Entity::Added(index));
            }
        }
        Ok(layout)
    }

    fn add(&mut self, kind: Kind, entity: Entity) {
        let next = &mut self.next[kind as usize];
        self.indices.insert((kind, entity), *next);
        *next += 1;
    }

    fn has(&self, kind: Kind, entity: Entity) -> bool {
        self.indices.contains_key(&(kind, entity))
    }

    fn index(&self, kind: Kind, entity: Entity) -> Result<u32, Wrong> {
        self.indices
            .get(&(kind, entity))
            .copied()
            .ok_or(Wrong("something is named that is not used"))
    }

    /// What an address is, if it is a number: those of shared libraries are sums.
    fn value(
        &self,
        program: &Program<'_>,
        module: usize,
        expression: &wasmparser::ConstExpr<'_>,
    ) -> wasmparser::Result<Option<i32>> {
        let mut values: Vec<Option<i32>> = Vec::new();
        for operator in expression.get_operators_reader() {
            let value = match operator? {
                Operator::I32Const { value } => Some(value),
                Operator::GlobalGet { global_index } => {
                    self.constants.get(&program.entity(module, Kind::Global, global_index)).copied()
                }
                Operator::I32Add => {
                    let (right, left) = (values.pop().flatten(), values.pop().flatten());
                    left.zip(right).map(|(left, right)| left.wrapping_add(right))
                }
                Operator::End => break,
                _ => return Ok(None),
            };
            values.push(value);
        }
        Ok(values.pop().flatten())
    }
}

/// The types of all modules, each once.
#[derive(Default)]
struct Types {
    section: TypeSection,
    known: HashMap<FuncType, u32>,
}

impl Types {
    fn index(&mut self, of_type: &FuncType) -> Result<u32> {
        if let Some(index) = self.known.get(of_type) {
            return Ok(*index);
        }
        let encoded = wasm_encoder::FuncType::try_from(of_type.clone())
            .map_err(|_| anyhow!("a type that is not known: {of_type:?}"))?;
        self.section.ty().func_type(&encoded);
        let index = self.known.len() as u32;
        self.known.insert(of_type.clone(), index);
        Ok(index)
    }
}

/// What becomes of the indices in one module.
struct Map<'p> {
    program: &'p Program<'p>,
    layout: &'p Layout,
    module: usize,
    types: Vec<u32>,
}

/// What is wrong with a module.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Wrong(&'static str);

type Mapped<T> = Result<T, Error<Wrong>>;

impl Map<'_> {
    fn index(&self, kind: Kind, index: u32) -> Mapped<u32> {
        let entity = self.program.entity(self.module, kind, index);
        self.layout.index(kind, entity).map_err(Error::UserError)
    }

    fn value(&self, expression: &wasmparser::ConstExpr<'_>) -> wasmparser::Result<Option<i32>> {
        self.layout.value(self.program, self.module, expression)
    }
}

impl Reencode for Map<'_> {
    type Error = Wrong;

    fn type_index(&mut self, index: u32) -> Mapped<u32> {
        Ok(self.types[index as usize])
    }

    fn function_index(&mut self, index: u32) -> Mapped<u32> {
        self.index(Kind::Function, index)
    }

    fn table_index(&mut self, index: u32) -> Mapped<u32> {
        self.index(Kind::Table, index)
    }

    fn memory_index(&mut self, index: u32) -> Mapped<u32> {
        self.index(Kind::Memory, index)
    }

    fn global_index(&mut self, index: u32) -> Mapped<u32> {
        self.index(Kind::Global, index)
    }

    fn element_index(&mut self, _: u32) -> Mapped<u32> {
        Err(Error::UserError(Wrong("the table is filled by code")))
    }

    fn data_index(&mut self, _: u32) -> Mapped<u32> {
        Err(Error::UserError(Wrong("the memory is filled by code")))
    }

    /// The engine fills a table once for all instances when places in it are numbers, and else at each start.
    fn const_expr(&mut self, expression: wasmparser::ConstExpr<'_>) -> Mapped<ConstExpr> {
        match self.value(&expression)? {
            Some(value) => Ok(ConstExpr::i32_const(value)),
            None => utils::const_expr(self, expression),
        }
    }

    fn instruction<'a>(&mut self, operator: Operator<'a>) -> Mapped<Instruction<'a>> {
        if let Operator::GlobalGet { global_index } = operator {
            let global = self.program.entity(self.module, Kind::Global, global_index);
            if let Some(value) = self.layout.constants.get(&global) {
                return Ok(Instruction::I32Const(*value));
            }
        }
        utils::instruction(self, operator)
    }
}
