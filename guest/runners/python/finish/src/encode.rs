//! Writes a program as one module.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, anyhow, ensure};
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    CodeSection, ConstExpr, DataSection, ElementSection, EntityType, ExportSection,
    FunctionSection, GlobalSection, ImportSection, Instruction, MemorySection, NameMap,
    NameSection, TableSection, TypeSection,
};
use wasmparser::{ElementKind, FuncType, Operator};

use crate::module::Kind;
use crate::program::{Entity, Program};

/// What it is called in traces.
const NAME: &str = "python_runner.wasm";

/// Where its imports come from. They have numbers for names.
pub const IMPORTS: &str = "";

pub fn encode(program: &Program<'_>) -> Result<Vec<u8>> {
    let mut types = Types::default();
    let mut imports = ImportSection::new();
    for (number, of_type) in program.imported.iter().enumerate() {
        let of_type = EntityType::Function(types.index(of_type)?);
        imports.import(IMPORTS, &number.to_string(), of_type);
    }
    let indices: Vec<Indices> =
        (0..program.modules.len()).map(|module| indices(program, module)).collect();
    let constants = constants(program, &indices)?;

    let mut functions = FunctionSection::new();
    let mut tables = TableSection::new();
    let mut memories = MemorySection::new();
    let mut globals = GlobalSection::new();
    let mut elements = ElementSection::new();
    let mut code = CodeSection::new();
    let mut names = Vec::new();
    for ((module, imports), indices) in program.modules.iter().zip(&program.imports).zip(indices) {
        let types =
            module.types.iter().map(|of_type| types.index(of_type)).collect::<Result<_>>()?;
        let mut map = Map { types, indices, constants: &constants };
        for of_type in &module.functions {
            functions.function(map.type_index(*of_type)?);
        }
        for table in &module.tables {
            map.parse_table(&mut tables, table.clone())?;
        }
        for memory in &module.memories {
            memories.memory(map.memory_type(*memory)?);
        }
        for global in &module.globals {
            map.parse_global(&mut globals, global.clone())?;
        }
        for element in &module.elements {
            if let ElementKind::Active { offset_expr, .. } = &element.kind {
                ensure!(map.value(offset_expr)?.is_some(), "a place in the table is not a number");
            }
            map.parse_element(&mut elements, element.clone())?;
        }
        for body in &module.bodies {
            map.parse_function_body(&mut code, body.clone())?;
        }
        let imported = imports[Kind::Function as usize].len() as u32;
        for (function, name) in module.names.iter().filter(|(function, _)| *function >= imported) {
            names.push((map.function_index(*function)?, *name));
        }
    }
    for (of_type, function) in &program.added {
        functions.function(types.index(of_type)?);
        code.function(function);
    }
    let mut exports = ExportSection::new();
    for (name, kind, entity) in &program.exports {
        exports.export(name, kind.encoded(), program.index(*kind, *entity));
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

/// What the indices of a module are in the program, by kind.
type Indices = [Vec<u32>; Kind::ALL.len()];

fn indices(program: &Program<'_>, module: usize) -> Indices {
    Kind::ALL.map(|kind| {
        let defined = program.modules[module].defined(kind) as u32;
        let own = (0..defined).map(|index| Entity::Defined { module, index });
        let all = program.imports[module][kind as usize].iter().copied().chain(own);
        all.map(|entity| program.index(kind, entity)).collect()
    })
}

/// The globals that have one value for good: addresses that were to be found by whoever loads the modules.
fn constants(program: &Program<'_>, indices: &[Indices]) -> Result<Vec<Option<i32>>> {
    let mut set = HashSet::new();
    for (module, indices) in program.modules.iter().zip(indices) {
        for body in &module.bodies {
            let mut reader = body.get_operators_reader()?;
            while !reader.eof() {
                if let Operator::GlobalSet { global_index } = reader.read()? {
                    let global = indices[Kind::Global as usize].get(global_index as usize);
                    set.insert(*global.context("no such global")?);
                }
            }
        }
    }
    // Whoever has it may set it.
    let exports = program.exports.iter().filter(|(_, kind, _)| *kind == Kind::Global);
    set.extend(exports.map(|(_, kind, entity)| program.index(*kind, *entity)));

    let mut constants = Vec::new();
    for (module, indices) in program.modules.iter().zip(indices) {
        for global in &module.globals {
            let value = evaluated(&global.init_expr, |global| {
                let index = *indices[Kind::Global as usize].get(global as usize)?;
                constants.get(index as usize).copied().flatten()
            })?;
            let is_set = set.contains(&(constants.len() as u32));
            constants.push(value.filter(|_| !is_set));
        }
    }
    Ok(constants)
}

/// What an address is, if it is a number: those of shared libraries are sums.
fn evaluated(
    expression: &wasmparser::ConstExpr<'_>,
    global: impl Fn(u32) -> Option<i32>,
) -> wasmparser::Result<Option<i32>> {
    let mut values = Vec::new();
    for operator in expression.get_operators_reader() {
        let value = match operator? {
            Operator::I32Const { value } => Some(value),
            Operator::GlobalGet { global_index } => global(global_index),
            Operator::I32Add => {
                let (right, left) = (values.pop().flatten(), values.pop().flatten());
                left.zip(right).map(|(left, right): (i32, i32)| left.wrapping_add(right))
            }
            Operator::End => break,
            _ => return Ok(None),
        };
        values.push(value);
    }
    Ok(values.pop().flatten())
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

/// What becomes of the indices in the code of one module.
struct Map<'p> {
    types: Vec<u32>,
    indices: Indices,
    /// By the indices of the program.
    constants: &'p [Option<i32>],
}

type Mapped<T> = Result<T, Error<Wrong>>;

/// What is wrong with a module.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Wrong(String);

fn wrong(what: impl Into<String>) -> Error<Wrong> {
    Error::UserError(Wrong(what.into()))
}

impl Map<'_> {
    fn index(&self, kind: Kind, index: u32) -> Mapped<u32> {
        let known = self.indices[kind as usize].get(index as usize).copied();
        known.ok_or_else(|| wrong(format!("there is no {kind:?} {index}")))
    }

    fn value(&self, expression: &wasmparser::ConstExpr<'_>) -> wasmparser::Result<Option<i32>> {
        evaluated(expression, |global| self.constant(global).ok().flatten())
    }

    fn constant(&self, global: u32) -> Mapped<Option<i32>> {
        Ok(self.constants[self.index(Kind::Global, global)? as usize])
    }
}

impl Reencode for Map<'_> {
    type Error = Wrong;

    fn type_index(&mut self, index: u32) -> Mapped<u32> {
        let known = self.types.get(index as usize).copied();
        known.ok_or_else(|| wrong(format!("there is no type {index}")))
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
        Err(wrong("the table is filled by code"))
    }

    fn data_index(&mut self, _: u32) -> Mapped<u32> {
        Err(wrong("the memory is filled by code"))
    }

    /// The engine fills a table once for all instances when places in it are numbers, and else at each start.
    fn const_expr(&mut self, expression: wasmparser::ConstExpr<'_>) -> Mapped<ConstExpr> {
        match self.value(&expression)? {
            Some(value) => Ok(ConstExpr::i32_const(value)),
            None => utils::const_expr(self, expression),
        }
    }

    fn instruction<'a>(&mut self, operator: Operator<'a>) -> Mapped<Instruction<'a>> {
        if let Operator::GlobalGet { global_index } = operator
            && let Some(value) = self.constant(global_index)?
        {
            return Ok(Instruction::I32Const(value));
        }
        utils::instruction(self, operator)
    }
}
