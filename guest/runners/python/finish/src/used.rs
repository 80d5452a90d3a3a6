//! What of a program is used. Shared libraries have much that only other programs would call, and what once filled in addresses.

use std::collections::HashSet;

use anyhow::Result;
use wasmparser::{ElementItems, Operator};

use crate::module::Kind;
use crate::program::{Entity, Program};

#[derive(Default)]
pub struct Used {
    pub functions: HashSet<Entity>,
    /// Globals that are read, and those that are set.
    pub read: HashSet<Entity>,
    pub set: HashSet<Entity>,
    /// Functions that are named, of which some are not in `functions` yet.
    open: Vec<Entity>,
}

impl Used {
    pub fn of(program: &Program<'_>) -> Result<Self> {
        let mut used = Self::default();
        for (_, kind, entity) in &program.exports {
            match kind {
                Kind::Function => used.open.push(*entity),
                // An exported global can be set from outside.
                Kind::Global => {
                    used.read.insert(*entity);
                    used.set.insert(*entity);
                }
                Kind::Table | Kind::Memory => {}
            }
        }
        for (number, module) in program.modules.iter().enumerate() {
            for global in &module.globals {
                used.read_all(program, number, global.init_expr.get_operators_reader())?;
            }
            // What is in the table can be called from everywhere.
            for element in &module.elements {
                match element.items.clone() {
                    ElementItems::Functions(functions) => {
                        for function in functions {
                            used.open.push(program.entity(number, Kind::Function, function?));
                        }
                    }
                    ElementItems::Expressions(_, expressions) => {
                        for expression in expressions {
                            let operators = expression?.get_operators_reader();
                            used.read_all(program, number, operators)?;
                        }
                    }
                }
            }
        }
        while let Some(function) = used.open.pop() {
            if !used.functions.insert(function) {
                continue;
            }
            match function {
                Entity::Imported(_) => {}
                Entity::Added(index) => used.open.extend(&program.added[index as usize].calls),
                Entity::Defined { module, index } => {
                    let body = &program.modules[module].bodies[index as usize];
                    used.read_all(program, module, body.get_operators_reader()?)?;
                }
            }
        }
        Ok(used)
    }

    /// Notes what operators of a module name.
    fn read_all<'a>(
        &mut self,
        program: &Program<'_>,
        module: usize,
        operators: impl IntoIterator<Item = wasmparser::Result<Operator<'a>>>,
    ) -> Result<()> {
        let entity = |kind, index| program.entity(module, kind, index);
        for operator in operators {
            match operator? {
                Operator::Call { function_index }
                | Operator::ReturnCall { function_index }
                | Operator::RefFunc { function_index } => {
                    self.open.push(entity(Kind::Function, function_index));
                }
                Operator::GlobalGet { global_index } => {
                    self.read.insert(entity(Kind::Global, global_index));
                }
                Operator::GlobalSet { global_index } => {
                    self.set.insert(entity(Kind::Global, global_index));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
