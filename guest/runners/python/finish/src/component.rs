//! A component as a list of what it defines, in its order.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use wasm_encoder::{
    Alias, CanonicalFunctionSection, ComponentAliasSection, InstanceSection, ModuleArg, RawSection,
};
use wasmparser::{
    CanonicalFunction, CanonicalOption, ComponentAlias, FromReader, Instance, Parser, Payload,
    SectionLimited,
};

use crate::module::Kind;

/// The sections of a component that hold these.
const MODULE: u8 = 1;
const ALIAS: u8 = 6;

/// A component.
pub struct Component<'a> {
    pub items: Vec<Item<'a>>,
    /// What each item is to the others.
    pub things: Vec<Option<Thing>>,
    places: HashMap<Thing, usize>,
}

/// Something that a component defines.
#[derive(Clone, Debug)]
pub enum Item<'a> {
    /// A section, or one entry of it, that names nothing of modules.
    Other {
        section: u8,
        data: Vec<u8>,
    },
    Module(&'a [u8]),
    /// An instance of a module, with instances for what it imports.
    Instantiate {
        module: u32,
        args: Vec<(&'a str, u32)>,
    },
    /// An instance that is made item by item.
    Bag(Vec<(String, Kind, u32)>),
    /// What an instance of a module exports.
    Export {
        instance: u32,
        kind: Kind,
        name: String,
    },
    /// A function of the component that modules can call.
    Lower {
        function: u32,
        options: Vec<CanonicalOption>,
    },
    /// A function that drops a resource of this type.
    Drop(u32),
    /// A function of a module that the component has.
    Lift {
        function: u32,
        of_type: u32,
        options: Vec<CanonicalOption>,
    },
}

/// What one item is to the others: the how-manyth of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Thing {
    Module(u32),
    Instance(u32),
    Of(Kind, u32),
}

impl Thing {
    pub fn number(self) -> u32 {
        match self {
            Self::Module(number) | Self::Instance(number) | Self::Of(_, number) => number,
        }
    }
}

impl<'a> Component<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut component = Self { items: Vec::new(), things: Vec::new(), places: HashMap::new() };
        let mut numbers = Numbers::default();
        for item in items(bytes)? {
            let thing = numbers.next(&item);
            component.places.extend(thing.map(|thing| (thing, component.items.len())));
            component.things.push(thing);
            component.items.push(item);
        }
        Ok(component)
    }

    /// Where something is defined.
    pub fn place(&self, thing: Thing) -> Result<usize> {
        self.places.get(&thing).copied().with_context(|| format!("there is no {thing:?}"))
    }
}

/// Counts what there is of each kind.
#[derive(Default)]
pub struct Numbers {
    modules: u32,
    instances: u32,
    of: [u32; Kind::ALL.len()],
}

impl Numbers {
    /// What the next item is.
    pub fn next(&mut self, item: &Item<'_>) -> Option<Thing> {
        let next = |number: &mut u32| {
            *number += 1;
            *number - 1
        };
        Some(match item {
            Item::Module(_) => Thing::Module(next(&mut self.modules)),
            Item::Instantiate { .. } | Item::Bag(_) => Thing::Instance(next(&mut self.instances)),
            Item::Export { kind, .. } => Thing::Of(*kind, next(&mut self.of[*kind as usize])),
            Item::Lower { .. } | Item::Drop(_) => {
                Thing::Of(Kind::Function, next(&mut self.of[Kind::Function as usize]))
            }
            Item::Other { .. } | Item::Lift { .. } => return None,
        })
    }
}

impl<'a> Item<'a> {
    /// What it names.
    pub fn needs(&self) -> Vec<Thing> {
        let mut needs = Vec::new();
        let all = self.renumbered(&mut |thing| {
            needs.push(thing);
            Ok(0)
        });
        debug_assert!(all.is_ok());
        needs
    }

    /// The same with other numbers for what it names.
    pub fn renumbered(&self, number: &mut impl FnMut(Thing) -> Result<u32>) -> Result<Self> {
        Ok(match self {
            Self::Other { .. } | Self::Module(_) | Self::Drop(_) => self.clone(),
            Self::Instantiate { module, args } => Self::Instantiate {
                module: number(Thing::Module(*module))?,
                args: args
                    .iter()
                    .map(|(name, instance)| Ok((*name, number(Thing::Instance(*instance))?)))
                    .collect::<Result<_>>()?,
            },
            Self::Bag(bag) => Self::Bag(
                bag.iter()
                    .map(|(name, kind, index)| {
                        Ok((name.clone(), *kind, number(Thing::Of(*kind, *index))?))
                    })
                    .collect::<Result<_>>()?,
            ),
            Self::Export { instance, kind, name } => Self::Export {
                instance: number(Thing::Instance(*instance))?,
                kind: *kind,
                name: name.clone(),
            },
            Self::Lower { function, options } => {
                Self::Lower { function: *function, options: renumbered(options, number)? }
            }
            Self::Lift { function, of_type, options } => Self::Lift {
                function: number(Thing::Of(Kind::Function, *function))?,
                of_type: *of_type,
                options: renumbered(options, number)?,
            },
        })
    }
}

fn renumbered(
    options: &[CanonicalOption],
    number: &mut impl FnMut(Thing) -> Result<u32>,
) -> Result<Vec<CanonicalOption>> {
    let mut of = |kind, index| number(Thing::Of(kind, index));
    options
        .iter()
        .map(|option| {
            Ok(match *option {
                CanonicalOption::UTF8 => CanonicalOption::UTF8,
                CanonicalOption::Realloc(index) => {
                    CanonicalOption::Realloc(of(Kind::Function, index)?)
                }
                CanonicalOption::PostReturn(index) => {
                    CanonicalOption::PostReturn(of(Kind::Function, index)?)
                }
                CanonicalOption::Memory(index) => CanonicalOption::Memory(of(Kind::Memory, index)?),
                other => bail!("an option that is not known: {other:?}"),
            })
        })
        .collect()
}

fn items(component: &[u8]) -> Result<Vec<Item<'_>>> {
    let (mut items, mut depth) = (Vec::new(), 0);
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            // What is in modules and components is read with them.
            _ if depth > 1 => {}
            Payload::ModuleSection { unchecked_range: range, .. } => {
                items.push(Item::Module(part(component, range.start, range.end)?));
            }
            Payload::InstanceSection(section) => {
                for instance in section {
                    items.push(instance_of(instance?)?);
                }
            }
            Payload::ComponentAliasSection(section) => {
                entries(component, section, ALIAS, &mut items, |alias| {
                    Ok(match alias {
                        ComponentAlias::CoreInstanceExport { kind, instance_index, name } => {
                            let (instance, name) = (instance_index, name.to_string());
                            Some(Item::Export { instance, kind: Kind::of(kind)?, name })
                        }
                        _ => None,
                    })
                })?;
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section {
                    items.push(canonical(function?)?);
                }
            }
            // It names things by numbers that will not be theirs.
            Payload::CustomSection(section) if section.name() == "component-name" => {}
            other => {
                let (section, range) =
                    other.as_section().with_context(|| format!("{other:?} in a component"))?;
                let data = part(component, range.start, range.end)?.to_vec();
                items.push(Item::Other { section, data });
            }
        }
    }
    Ok(items)
}

fn part(component: &[u8], start: u64, end: u64) -> Result<&[u8]> {
    component.get(start as usize..end as usize).context("a section ends too early")
}

fn instance_of(instance: Instance<'_>) -> Result<Item<'_>> {
    Ok(match instance {
        Instance::Instantiate { module_index, args } => {
            let args = args.iter().map(|arg| (arg.name, arg.index)).collect();
            Item::Instantiate { module: module_index, args }
        }
        Instance::FromExports(exports) => Item::Bag(
            exports
                .iter()
                .map(|export| Ok((export.name.to_string(), Kind::of(export.kind)?, export.index)))
                .collect::<Result<_>>()?,
        ),
    })
}

fn canonical(function: CanonicalFunction) -> Result<Item<'static>> {
    Ok(match function {
        CanonicalFunction::Lift { core_func_index, type_index, options } => Item::Lift {
            function: core_func_index,
            of_type: type_index,
            options: options.into_vec(),
        },
        CanonicalFunction::Lower { func_index, options } => {
            Item::Lower { function: func_index, options: options.into_vec() }
        }
        CanonicalFunction::ResourceDrop { resource } => Item::Drop(resource),
        other => bail!("a function that is not known: {other:?}"),
    })
}

/// Adds each entry of a section: what `known` makes of it, or else its bytes.
fn entries<'a, T: FromReader<'a>>(
    component: &[u8],
    entries: SectionLimited<'a, T>,
    section: u8,
    items: &mut Vec<Item<'a>>,
    known: impl Fn(T) -> Result<Option<Item<'a>>>,
) -> Result<()> {
    let end = entries.range().end;
    let mut entries = entries.into_iter_with_offsets().peekable();
    while let Some(entry) = entries.next() {
        let (start, entry) = entry?;
        let end = match entries.peek() {
            Some(Ok((next, _))) => *next,
            _ => end,
        };
        items.push(match known(entry)? {
            Some(item) => item,
            None => {
                let data = [&[1], part(component, start, end)?].concat();
                Item::Other { section, data }
            }
        });
    }
    Ok(())
}

/// Writes a component.
pub fn encode(items: &[Item<'_>]) -> Result<Vec<u8>> {
    let mut component = wasm_encoder::Component::new();
    for item in items {
        match item {
            Item::Other { section, data } => {
                component.section(&RawSection { id: *section, data });
            }
            Item::Module(data) => {
                component.section(&RawSection { id: MODULE, data });
            }
            Item::Instantiate { module, args } => {
                let args =
                    args.iter().map(|(name, instance)| (*name, ModuleArg::Instance(*instance)));
                component.section(InstanceSection::new().instantiate(*module, args));
            }
            Item::Bag(bag) => {
                let bag =
                    bag.iter().map(|(name, kind, index)| (name.as_str(), kind.encoded(), *index));
                component.section(InstanceSection::new().export_items(bag));
            }
            Item::Export { instance, kind, name } => {
                let alias =
                    Alias::CoreInstanceExport { instance: *instance, kind: kind.encoded(), name };
                component.section(ComponentAliasSection::new().alias(alias));
            }
            Item::Lower { function, options } => {
                component
                    .section(CanonicalFunctionSection::new().lower(*function, encoded(options)?));
            }
            Item::Drop(of_type) => {
                component.section(CanonicalFunctionSection::new().resource_drop(*of_type));
            }
            Item::Lift { function, of_type, options } => {
                let mut section = CanonicalFunctionSection::new();
                component.section(section.lift(*function, *of_type, encoded(options)?));
            }
        }
    }
    Ok(component.finish())
}

fn encoded(options: &[CanonicalOption]) -> Result<Vec<wasm_encoder::CanonicalOption>> {
    options
        .iter()
        .map(|option| {
            Ok(match *option {
                CanonicalOption::UTF8 => wasm_encoder::CanonicalOption::UTF8,
                CanonicalOption::Memory(index) => wasm_encoder::CanonicalOption::Memory(index),
                CanonicalOption::Realloc(index) => wasm_encoder::CanonicalOption::Realloc(index),
                CanonicalOption::PostReturn(index) => {
                    wasm_encoder::CanonicalOption::PostReturn(index)
                }
                other => bail!("an option that is not known: {other:?}"),
            })
        })
        .collect()
}
