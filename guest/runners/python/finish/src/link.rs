//! Links the modules of a component into one.
//!
//! Componentize-py leaves the shared libraries of the interpreter as modules that import from each other, and share a table
//! of functions. An engine fills a table that several modules have at each start, 240 KiB for CPython; one that only one
//! module has, it fills as functions are called. Code that knows addresses as numbers is faster, too.
//!
//! Two small modules are kept, by which others call functions of the component that are made after them.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use wasmparser::FuncType;

use crate::component::{self, Component, Index, IndexSpaces, Item};
use crate::encode;
use crate::module::{Kind, Module};
use crate::program::{Entity, Imports, Program};

/// The table by which functions are called that are made later. One module has it, and one fills it.
const CALLED_LATER: &str = "$imports";

pub struct Linker<'c, 'a> {
    component: &'c Component<'a>,
    pub program: Program<'a>,
    /// The instances that are linked, as modules of the program.
    linked: HashMap<u32, usize>,
    /// What the program imports, by positions in the component.
    imported: Vec<usize>,
    /// What the component wants of the program: positions there, and names of exports.
    exported: BTreeMap<usize, String>,
    /// The items of the component that are kept.
    kept: HashSet<usize>,
}

impl<'c, 'a> Linker<'c, 'a> {
    pub fn new(component: &'c Component<'a>) -> Result<Self> {
        let mut linker = Self {
            component,
            program: Program::default(),
            linked: HashMap::new(),
            imported: Vec::new(),
            exported: BTreeMap::new(),
            kept: HashSet::new(),
        };
        let mut not_linked = Vec::new();
        for (position, (item, index)) in linker.items() {
            let (Item::Instantiate { module, args }, Some(Index::Instance(instance))) =
                (item, index)
            else {
                continue;
            };
            let Item::Module(bytes) =
                component.items[component.position(Index::Module(*module))?]
            else {
                bail!("a module is not in the component");
            };
            let parsed = Module::parse(bytes)?;
            if parsed.imports(CALLED_LATER) || parsed.exports(CALLED_LATER) {
                not_linked.push(position);
                continue;
            }
            let imports = linker
                .imports_of(&parsed, args)
                .with_context(|| format!("the module `{}`", parsed.name))?;
            linker.linked.insert(*instance, linker.program.modules.len());
            linker.program.modules.push(parsed);
            linker.program.imports.push(imports);
        }
        let count = not_linked.len();
        ensure!(count == 2, "{count} modules have a table {CALLED_LATER}, and not two");
        linker.program.read_image()?;
        linker.keep(not_linked)?;
        linker.export()?;
        Ok(linker)
    }

    /// What the component defines, with positions and indices.
    fn items(
        &self,
    ) -> impl Iterator<Item = (usize, (&'c Item<'a>, &'c Option<Index>))> + use<'c, 'a> {
        self.component.items.iter().zip(&self.component.indices).enumerate()
    }

    fn imports_of(&mut self, module: &Module<'a>, args: &[(&'a str, u32)]) -> Result<Imports> {
        let mut imports = Imports::default();
        for import in &module.imports {
            let what = || format!("{} of {}", import.name, import.module);
            let given = args.iter().find(|(name, _)| *name == import.module);
            let (_, instance) = given.with_context(what)?;
            let entity = self.resolve(*instance, import.kind, import.name, import.of_type.as_ref());
            imports[import.kind as usize].push(entity.with_context(what)?);
        }
        Ok(imports)
    }

    /// What an instance exports.
    fn resolve(
        &mut self,
        instance: u32,
        kind: Kind,
        name: &str,
        of_type: Option<&FuncType>,
    ) -> Result<Entity> {
        if let Some(module) = self.linked.get(&instance) {
            return self.program.exported(*module, kind, name);
        }
        let component = self.component;
        let Item::FromExports(exports) =
            &component.items[component.position(Index::Instance(instance))?]
        else {
            bail!("it is of a module that is not linked");
        };
        let export = exports.iter().find(|(other, of, _)| other == name && *of == kind);
        let (_, _, index) = export.context("it is not provided")?;
        let position = component.position(Index::Of(kind, *index))?;
        match &component.items[position] {
            Item::Export { instance, name, .. } if self.linked.contains_key(instance) => {
                self.resolve(*instance, kind, name, of_type)
            }
            _ => Ok(self.import(position, of_type.context("only functions can be imported")?)),
        }
    }

    fn import(&mut self, position: usize, of_type: &FuncType) -> Entity {
        let known = self.imported.iter().position(|other| *other == position);
        let number = known.unwrap_or_else(|| {
            self.imported.push(position);
            self.program.imported.push(of_type.clone());
            self.imported.len() - 1
        });
        Entity::Imported(number as u32)
    }

    /// Keeps what the component has of its own, what the program imports, these items, and what all those name.
    fn keep(&mut self, mut open: Vec<usize>) -> Result<()> {
        let own = |item: &Item<'_>| matches!(item, Item::Other { .. } | Item::Lift { .. });
        open.extend(self.items().filter(|(_, (item, _))| own(item)).map(|(position, _)| position));
        open.extend(&self.imported);
        while let Some(position) = open.pop() {
            if self.kept.insert(position) {
                for index in self.component.items[position].needs()? {
                    if !self.is_linked(index) {
                        open.push(self.component.position(index)?);
                    }
                }
            }
        }
        Ok(())
    }

    fn is_linked(&self, index: Index) -> bool {
        matches!(index, Index::Instance(instance) if self.linked.contains_key(&instance))
    }

    fn export(&mut self) -> Result<()> {
        let mut exports: Vec<(String, Kind, Entity)> = Vec::new();
        for (position, (item, _)) in
            self.items().filter(|(position, _)| self.kept.contains(position))
        {
            let Item::Export { instance, kind, name } = item else { continue };
            let Some(module) = self.linked.get(instance) else { continue };
            let entity = self.program.exported(*module, *kind, name)?;
            let same = exports.iter().find(|(_, of, what)| (*of, *what) == (*kind, entity));
            let name = match same {
                Some((name, ..)) => name.clone(),
                None => {
                    let is_taken = exports.iter().any(|(other, ..)| other == name);
                    let name = if is_taken { format!("{name} {position}") } else { name.clone() };
                    exports.push((name.clone(), *kind, entity));
                    name
                }
            };
            self.exported.insert(position, name);
        }
        self.program.exports = exports;
        Ok(())
    }

    /// The component with the program in place of its modules, as soon as there is all that the program imports.
    pub fn finish(&self) -> Result<Vec<u8>> {
        let program = encode::encode(&self.program)?;
        let after = self.imported.iter().max().context("the program imports nothing")?;
        let mut written = Written::default();
        for (position, (item, index)) in self.items() {
            if self.kept.contains(&position) && !self.exported.contains_key(&position) {
                let item = item.renumbered(&mut |index| written.index(index))?;
                written.push(item, *index);
            }
            if position == *after {
                self.write(&program, &mut written)?;
            }
        }
        component::encode(&written.items)
    }

    fn write<'w>(&self, program: &'w [u8], written: &mut Written<'w>) -> Result<()>
    where
        'a: 'w,
    {
        let imports = self.imported.iter().enumerate().map(|(number, position)| {
            let index = self.component.indices[*position].context("it has no index")?;
            Ok((number.to_string(), Kind::Function, written.index(index)?))
        });
        let imports = Item::FromExports(imports.collect::<Result<_>>()?);
        let module = written.push(Item::Module(program), None);
        let imports = written.push(imports, None);
        let args = vec![(encode::IMPORTS, imports)];
        let instance = written.push(Item::Instantiate { module, args }, None);
        for (position, name) in &self.exported {
            if let Item::Export { kind, .. } = &self.component.items[*position] {
                let export = Item::Export { instance, kind: *kind, name: name.clone() };
                written.push(export, self.component.indices[*position]);
            }
        }
        Ok(())
    }
}

/// A component that is being made of another one.
#[derive(Default)]
struct Written<'w> {
    items: Vec<Item<'w>>,
    spaces: IndexSpaces,
    /// What indices of the other one are in this.
    known: HashMap<Index, u32>,
}

impl<'w> Written<'w> {
    /// Adds what had an index in the other one, or had none. Returns its own: of what has none, 0.
    fn push(&mut self, item: Item<'w>, old: Option<Index>) -> u32 {
        let new = self.spaces.next(&item).map_or(0, Index::number);
        self.known.extend(old.map(|old| (old, new)));
        self.items.push(item);
        new
    }

    fn index(&self, old: Index) -> Result<u32> {
        let known = self.known.get(&old).copied();
        known.with_context(|| format!("{old:?} is wanted before the program, or is a part of it"))
    }
}
