//! The modules as one: what each of their imports is.

use anyhow::{Context, Result, bail, ensure};
use wasm_encoder::Function;
use wasmparser::{DataKind, FuncType, Operator};

use crate::image::Image;
use crate::module::{Kind, Module};

/// Something in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entity {
    /// What a module defines: the how-manyth of those of its kind there.
    Defined { module: usize, index: u32 },
    /// A function that the program imports.
    Imported(u32),
    /// A function that no module has.
    Added(u32),
}

/// Of one module, by kind and index, without what it defines.
pub type Imports = [Vec<Entity>; Kind::ALL.len()];

#[derive(Default)]
pub struct Program<'a> {
    pub modules: Vec<Module<'a>>,
    /// What the imports of each module are.
    pub imports: Vec<Imports>,
    /// The types of the functions that it imports.
    pub imported: Vec<FuncType>,
    pub added: Vec<(FuncType, Function)>,
    pub exports: Vec<(String, Kind, Entity)>,
    pub image: Image,
}

impl Program<'_> {
    /// What a module exports, of those whose imports are known.
    pub fn exported(&self, module: usize, kind: Kind, name: &str) -> Result<Entity> {
        let index = self.modules[module].export(name, kind)?;
        let imports = self.imports.get(module).context("modules import from each other")?;
        let imports = &imports[kind as usize];
        Ok(match index.checked_sub(imports.len() as u32) {
            Some(index) => Entity::Defined { module, index },
            None => imports[index as usize],
        })
    }

    /// The index that something has in the program.
    pub fn index(&self, kind: Kind, entity: Entity) -> u32 {
        let imported = if kind == Kind::Function { self.imported.len() } else { 0 };
        let before = |modules: &[Module<'_>]| -> u32 {
            (imported + modules.iter().map(|module| module.defined(kind)).sum::<usize>()) as u32
        };
        match entity {
            Entity::Imported(index) => index,
            Entity::Defined { module, index } => before(&self.modules[..module]) + index,
            Entity::Added(index) => before(&self.modules) + index,
        }
    }

    /// Adds a function, in place of another one for all that import that.
    pub fn replace(&mut self, old: Entity, of_type: FuncType, function: Function) {
        let new = Entity::Added(self.added.len() as u32);
        self.added.push((of_type, function));
        let imports =
            self.imports.iter_mut().flat_map(|imports| &mut imports[Kind::Function as usize]);
        for import in imports.filter(|import| **import == old) {
            *import = new;
        }
    }

    /// The type of a function that a module defines.
    pub fn type_of(&self, function: Entity) -> Result<&FuncType> {
        let Entity::Defined { module, index } = function else { bail!("no module defines it") };
        let module = &self.modules[module];
        let of_type = module.functions.get(index as usize).context("no such function")?;
        module.types.get(*of_type as usize).context("no such type")
    }

    /// Reads what the memory begins with.
    pub fn read_image(&mut self) -> Result<()> {
        for data in self.modules.iter().flat_map(|module| &module.data) {
            let DataKind::Active { memory_index: 0, offset_expr } = &data.kind else {
                bail!("there is data that is not at an address");
            };
            let mut reader = offset_expr.get_operators_reader();
            let (Operator::I32Const { value }, Operator::End) = (reader.read()?, reader.read()?)
            else {
                bail!("the address of data is an expression");
            };
            ensure!(self.image.add(value as u32, data.data), "there is data twice at {value:#x}");
        }
        Ok(())
    }
}
