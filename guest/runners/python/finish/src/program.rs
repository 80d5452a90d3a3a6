//! The modules as one: what each of their imports is.

use anyhow::{Context, Result, bail, ensure};
use wasm_encoder::Function;
use wasmparser::{DataKind, FuncType, Operator};

use crate::image::Image;
use crate::module::{Kind, Module};

/// Something in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entity {
    /// What a module defines: its index among those of its kind that the module defines.
    Defined { module: usize, index: u32 },
    /// A function that the program imports.
    Imported(u32),
    /// A function that no module has.
    Added(u32),
}

/// What a module imports, by kind and index.
pub type Imports = [Vec<Entity>; Kind::ALL.len()];

#[derive(Default)]
pub struct Program<'a> {
    pub modules: Vec<Module<'a>>,
    /// What the imports of each module are.
    pub imports: Vec<Imports>,
    /// The types of the functions that the program imports.
    pub imported: Vec<FuncType>,
    pub added: Vec<Added>,
    pub exports: Vec<(String, Kind, Entity)>,
    pub image: Image,
}

/// A function that no module has.
pub struct Added {
    pub of_type: FuncType,
    /// The functions that it calls.
    pub calls: Vec<Entity>,
    /// Makes it of their indices.
    pub body: fn(&[u32]) -> Function,
}

impl Program<'_> {
    /// What a module exports.
    pub fn exported(&self, module: usize, kind: Kind, name: &str) -> Result<Entity> {
        Ok(self.entity(module, kind, self.modules[module].export(name, kind)?))
    }

    /// What an index of a module is.
    pub fn entity(&self, module: usize, kind: Kind, index: u32) -> Entity {
        let imports = &self.imports[module][kind as usize];
        match imports.get(index as usize) {
            Some(entity) => *entity,
            None => Entity::Defined { module, index: index - imports.len() as u32 },
        }
    }

    /// Adds a function, which all that import another one have in its place. Returns how many imports that are.
    pub fn replace(&mut self, old: Entity, added: Added) -> usize {
        let new = Entity::Added(self.added.len() as u32);
        self.added.push(added);
        let imports =
            self.imports.iter_mut().flat_map(|imports| &mut imports[Kind::Function as usize]);
        imports.filter(|import| **import == old).map(|import| *import = new).count()
    }

    /// The type of a function that a module defines.
    pub fn type_of(&self, function: Entity) -> Result<&FuncType> {
        let Entity::Defined { module, index } = function else { bail!("no module defines it") };
        let module = &self.modules[module];
        Ok(&module.types[module.functions[index as usize] as usize])
    }

    /// Reads what the memory begins with, of which there is to be one.
    pub fn read_image(&mut self) -> Result<()> {
        let memories: usize = self.modules.iter().map(|module| module.memories.len()).sum();
        ensure!(memories == 1, "there are {memories} memories, and not one");
        for data in self.modules.iter().flat_map(|module| &module.data) {
            let DataKind::Active { offset_expr, .. } = &data.kind else {
                bail!("there is data that is not at an address");
            };
            let mut reader = offset_expr.get_operators_reader();
            let (Operator::I32Const { value }, Operator::End) = (reader.read()?, reader.read()?)
            else {
                bail!("the address of data is an expression");
            };
            self.image
                .add(value as u32, data.data)
                .with_context(|| format!("there is data twice at {value:#x}"))?;
        }
        Ok(())
    }
}
