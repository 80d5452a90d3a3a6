//! What of a program is used. Shared libraries have much that only other programs would call, and what once filled in addresses.

use std::collections::HashSet;

use anyhow::Result;
use wasmparser::{ConstExpr, ElementItems, Operator};

use crate::module::Kind;
use crate::program::{Entity, Program};

#[derive(Default)]
pub struct Used {
    pub functions: HashSet<Entity>,
    /// Globals that are read, and those that are set.
    pub read: HashSet<Entity>,
    pub set: HashSet<Entity>,
}

impl Used {
    pub fn of(program: &Program<'_>) -> Result<Self> {
        let mut used = Self::default();
        let mut open = Vec::new();
        for (_, kind, entity) in &program.exports {
            match kind {
                Kind::Function => open.push(*entity),
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
                used.read_all(program, number, &global.init_expr, &mut open)?;
            }
            // What is in the table can be called from everywhere.
            for element in &module.elements {
                match element.items.clone() {
                    ElementItems::Functions(functions) => {
                        for function in functions {
                            open.push(program.entity(number, Kind::Function, function?));
                        }
                    }
                    ElementItems::Expressions(_, expressions) => {
                        for expression in expressions {
                            used.read_all(program, number, &expression?, &mut open)?;
                        }
                    }
                }
            }
        }
        while let Some(function) = open.pop() {
            if !used.functions.insert(function) {
                continue;
            }
            match function {
                Entity::Imported(_) => {}
                Entity::Added(index) => open.extend(&program.added[index as usize].calls),
                Entity::Defined { module, index } => {
                    let mut body =
                        program.modules[module].bodies[index as usize].get_operators_reader()?;
                    while !body.eof() {
                        used.add(program, module, &body.read()?, &mut open);
                    }
                }
            }
        }
        Ok(used)
    }

    fn read_all(
        &mut self,
        program: &Program<'_>,
        module: usize,
        expression: &ConstExpr<'_>,
        open: &mut Vec<Entity>,
    ) -> Result<()> {
        for operator in expression.get_operators_reader() {
            self.add(program, module, &operator?, open);
        }
        Ok(())
    }

    /// Notes what an operator of a module names.
    fn add(
        &mut self,
        program: &Program<'_>,
        module: usize,
        operator: &Operator<'_>,
        open: &mut Vec<Entity>,
    ) {
        let entity = |kind, index| program.entity(module, kind, index);
        match *operator {
            Operator::Call { function_index }
            | Operator::ReturnCall { function_index }
            | Operator::RefFunc { function_index } => {
                open.push(entity(Kind::Function, function_index));
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
}
