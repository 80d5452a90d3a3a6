//! Links the modules of a component into one.
//!
//! Componentize-py leaves the shared libraries of the interpreter as modules that import from each other, and share a table
//! of functions. An engine fills a table that several modules have at each start, 240 KiB for CPython; one that only one
//! module has, it fills as functions are called. Code that knows addresses as numbers is faster, too.
//!
//! Apart remain two small modules by which others call functions of the component that are made after them.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result, ensure};
use wasmparser::FuncType;

use crate::component::{self, Component, Item, Numbers, Thing};
use crate::encode;
use crate::module::{Kind, Module};
use crate::program::{Entity, Imports, Program};

/// The table by which functions are called that are made later. One module has it, and one fills it.
const CALLED_LATER: &str = "$imports";

pub struct Linker<'c, 'a> {
    component: &'c Component<'a>,
    pub program: Program<'a>,
    /// The instances that are linked: modules of the program.
    linked: HashMap<u32, usize>,
    /// What the program imports: places in the component.
    imported: Vec<usize>,
    /// What the component wants of the program: places there, and what it is exported as.
    exported: BTreeMap<usize, String>,
    /// The items that remain of the component.
    live: HashSet<usize>,
}

impl<'c, 'a> Linker<'c, 'a> {
    pub fn new(component: &'c Component<'a>) -> Result<Self> {
        let mut linker = Self {
            component,
            program: Program::default(),
            linked: HashMap::new(),
            imported: Vec::new(),
            exported: BTreeMap::new(),
            live: HashSet::new(),
        };
        let mut apart = HashSet::new();
        for (item, thing) in component.items.iter().zip(&component.things) {
            let (Item::Instantiate { module, args }, Some(Thing::Instance(instance))) =
                (item, thing)
            else {
                continue;
            };
            let place = component.place(Thing::Module(*module))?;
            let Item::Module(bytes) = component.items[place] else { continue };
            let parsed = Module::parse(bytes)?;
            if parsed.imports(CALLED_LATER) || parsed.exports(CALLED_LATER) {
                apart.insert(*instance);
                continue;
            }
            let imports = linker
                .imports_of(&parsed, args)
                .with_context(|| format!("the module `{}`", parsed.name))?;
            linker.linked.insert(*instance, linker.program.modules.len());
            linker.program.modules.push(parsed);
            linker.program.imports.push(imports);
        }
        ensure!(
            apart.len() == 2,
            "{} modules have a table {CALLED_LATER}, and not two",
            apart.len()
        );
        linker.program.read_image()?;
        linker.find_live(&apart)?;
        linker.export()?;
        Ok(linker)
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
        let Item::Bag(bag) = &component.items[component.place(Thing::Instance(instance))?] else {
            anyhow::bail!("it is of a module that is not linked");
        };
        let given = bag.iter().find(|(other, of, _)| other == name && *of == kind);
        let (_, _, index) = given.context("nobody gives it")?;
        let place = component.place(Thing::Of(kind, *index))?;
        match &component.items[place] {
            Item::Export { instance, name, .. } if self.linked.contains_key(instance) => {
                self.resolve(*instance, kind, name, of_type)
            }
            _ => self.import(place, of_type.context("it is not of the program, and no function")?),
        }
    }

    fn import(&mut self, place: usize, of_type: &FuncType) -> Result<Entity> {
        let known = self.imported.iter().position(|other| *other == place);
        let number = known.unwrap_or_else(|| {
            self.imported.push(place);
            self.program.imported.push(of_type.clone());
            self.imported.len() - 1
        });
        Ok(Entity::Imported(number as u32))
    }

    /// What the component has of its own, the instances that remain apart, what the program imports, and what all those name.
    fn find_live(&mut self, apart: &HashSet<u32>) -> Result<()> {
        let mut open = self.imported.clone();
        for (place, (item, thing)) in
            self.component.items.iter().zip(&self.component.things).enumerate()
        {
            match (item, thing) {
                (Item::Other { .. } | Item::Lift { .. }, _) => open.push(place),
                (_, Some(Thing::Instance(instance))) if apart.contains(instance) => {
                    open.push(place)
                }
                _ => {}
            }
        }
        while let Some(place) = open.pop() {
            if self.live.insert(place) {
                for thing in self.component.items[place].needs() {
                    if !self.is_linked(thing) {
                        open.push(self.component.place(thing)?);
                    }
                }
            }
        }
        Ok(())
    }

    fn is_linked(&self, thing: Thing) -> bool {
        matches!(thing, Thing::Instance(instance) if self.linked.contains_key(&instance))
    }

    fn export(&mut self) -> Result<()> {
        let (items, exports) = (&self.component.items, &mut self.program.exports);
        let mut exports = std::mem::take(exports);
        for (place, item) in items.iter().enumerate().filter(|(place, _)| self.live.contains(place))
        {
            let Item::Export { instance, kind, name } = item else { continue };
            let Some(module) = self.linked.get(instance) else { continue };
            let entity = self.program.exported(*module, *kind, name)?;
            let same = |(_, of, what): &&(String, Kind, Entity)| (*of, *what) == (*kind, entity);
            let name = match exports.iter().find(same) {
                Some((name, ..)) => name.clone(),
                None => {
                    let is_taken = exports.iter().any(|(other, ..)| other == name);
                    let name = if is_taken { format!("{name} {place}") } else { name.clone() };
                    exports.push((name.clone(), *kind, entity));
                    name
                }
            };
            self.exported.insert(place, name);
        }
        self.program.exports = exports;
        Ok(())
    }

    /// The component with the program in place of its modules, as soon as there is all that the program imports.
    pub fn finish(&self) -> Result<Vec<u8>> {
        let program = encode::encode(&self.program)?;
        let after = self.imported.iter().max().context("the program imports nothing")?;
        let mut written = Written::default();
        for (place, (item, thing)) in
            self.component.items.iter().zip(&self.component.things).enumerate()
        {
            if self.live.contains(&place) && !self.exported.contains_key(&place) {
                let item = item.renumbered(&mut |thing| written.number(thing))?;
                written.push(item, *thing);
            }
            if place == *after {
                self.write(&program, &mut written)?;
            }
        }
        component::encode(&written.items)
    }

    fn write<'w>(&self, program: &'w [u8], written: &mut Written<'w>) -> Result<()>
    where
        'a: 'w,
    {
        let bag = self.imported.iter().enumerate().map(|(number, place)| {
            let thing = self.component.things[*place].context("what is imported has no number")?;
            Ok((number.to_string(), Kind::Function, written.number(thing)?))
        });
        let bag = Item::Bag(bag.collect::<Result<_>>()?);
        let module = written.push(Item::Module(program), None).context("it has no number")?;
        let imports = written.push(bag, None).context("it has no number")?;
        let args = vec![(encode::IMPORTS, imports)];
        let instance =
            written.push(Item::Instantiate { module, args }, None).context("it has no number")?;
        for (place, name) in &self.exported {
            if let Item::Export { kind, .. } = &self.component.items[*place] {
                let export = Item::Export { instance, kind: *kind, name: name.clone() };
                written.push(export, self.component.things[*place]);
            }
        }
        Ok(())
    }
}

/// A component that is being made of another one.
#[derive(Default)]
struct Written<'w> {
    items: Vec<Item<'w>>,
    numbers: Numbers,
    /// The numbers that things of the other one have in this.
    known: HashMap<Thing, u32>,
}

impl<'w> Written<'w> {
    /// Adds what was something in the other one. Returns its number, if it has one.
    fn push(&mut self, item: Item<'w>, was: Option<Thing>) -> Option<u32> {
        let number = self.numbers.next(&item).map(Thing::number);
        self.known.extend(was.zip(number));
        self.items.push(item);
        number
    }

    fn number(&self, thing: Thing) -> Result<u32> {
        self.known.get(&thing).copied().with_context(|| format!("{thing:?} is wanted too early"))
    }
}
