//! A component as a list of what it defines, in its order.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use wasm_encoder::{
    Alias, CanonicalFunctionSection, CanonicalOption, ComponentAliasSection, InstanceSection,
    ModuleArg, RawSection,
};
use wasmparser::{CanonicalFunction, ComponentAlias, Instance, Parser, Payload};

use crate::module::Kind;

/// Sections of a component.
const MODULE: u8 = 1;
const ALIAS: u8 = 6;

/// A component.
pub struct Component<'a> {
    pub items: Vec<Item<'a>>,
    /// By items: the index that others name it by.
    pub indices: Vec<Option<Index>>,
    positions: HashMap<Index, usize>,
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
    /// An instance that is put together of what there is.
    FromExports(Vec<(String, Kind, u32)>),
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

/// How items name each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Index {
    Module(u32),
    Instance(u32),
    Of(Kind, u32),
}

impl Index {
    pub fn number(self) -> u32 {
        match self {
            Self::Module(number) | Self::Instance(number) | Self::Of(_, number) => number,
        }
    }
}

impl<'a> Component<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let items = items(bytes)?;
        let mut spaces = IndexSpaces::default();
        let indices: Vec<_> = items.iter().map(|item| spaces.next(item)).collect();
        let positions =
            indices.iter().enumerate().filter_map(|(at, index)| Some(((*index)?, at))).collect();
        Ok(Self { items, indices, positions })
    }

    /// Where something is in the list.
    pub fn position(&self, index: Index) -> Result<usize> {
        self.positions.get(&index).copied().with_context(|| format!("there is no {index:?}"))
    }
}

/// Counts what there is of each kind.
#[derive(Default)]
pub struct IndexSpaces {
    modules: u32,
    instances: u32,
    of: [u32; Kind::ALL.len()],
}

impl IndexSpaces {
    /// The index of the next item.
    pub fn next(&mut self, item: &Item<'_>) -> Option<Index> {
        let next = |number: &mut u32| {
            *number += 1;
            *number - 1
        };
        Some(match item {
            Item::Module(_) => Index::Module(next(&mut self.modules)),
            Item::Instantiate { .. } | Item::FromExports(_) => {
                Index::Instance(next(&mut self.instances))
            }
            Item::Export { kind, .. } => Index::Of(*kind, next(&mut self.of[*kind as usize])),
            Item::Lower { .. } | Item::Drop(_) => {
                Index::Of(Kind::Function, next(&mut self.of[Kind::Function as usize]))
            }
            Item::Other { .. } | Item::Lift { .. } => return None,
        })
    }
}

impl Item<'_> {
    /// What it names.
    pub fn needs(&self) -> Result<Vec<Index>> {
        let mut needs = Vec::new();
        self.renumbered(&mut |index| {
            needs.push(index);
            Ok(0)
        })?;
        Ok(needs)
    }

    /// The same with other indices of what it names.
    pub fn renumbered(&self, new: &mut impl FnMut(Index) -> Result<u32>) -> Result<Self> {
        Ok(match self {
            Self::Other { .. } | Self::Module(_) | Self::Drop(_) => self.clone(),
            Self::Instantiate { module, args } => Self::Instantiate {
                module: new(Index::Module(*module))?,
                args: args
                    .iter()
                    .map(|(name, instance)| Ok((*name, new(Index::Instance(*instance))?)))
                    .collect::<Result<_>>()?,
            },
            Self::FromExports(exports) => Self::FromExports(
                exports
                    .iter()
                    .map(|(name, kind, index)| {
                        Ok((name.clone(), *kind, new(Index::Of(*kind, *index))?))
                    })
                    .collect::<Result<_>>()?,
            ),
            Self::Export { instance, kind, name } => Self::Export {
                instance: new(Index::Instance(*instance))?,
                kind: *kind,
                name: name.clone(),
            },
            Self::Lower { function, options } => {
                Self::Lower { function: *function, options: renumbered(options, new)? }
            }
            Self::Lift { function, of_type, options } => Self::Lift {
                function: new(Index::Of(Kind::Function, *function))?,
                of_type: *of_type,
                options: renumbered(options, new)?,
            },
        })
    }
}

fn renumbered(
    options: &[CanonicalOption],
    new: &mut impl FnMut(Index) -> Result<u32>,
) -> Result<Vec<CanonicalOption>> {
    let mut of = |kind, index| new(Index::Of(kind, index));
    options
        .iter()
        .map(|option| {
            Ok(match *option {
                CanonicalOption::Memory(index) => CanonicalOption::Memory(of(Kind::Memory, index)?),
                CanonicalOption::Realloc(index) => {
                    CanonicalOption::Realloc(of(Kind::Function, index)?)
                }
                CanonicalOption::PostReturn(index) => {
                    CanonicalOption::PostReturn(of(Kind::Function, index)?)
                }
                other => other,
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
                let end = section.range().end;
                let mut aliases = section.into_iter_with_offsets().peekable();
                while let Some(alias) = aliases.next() {
                    let (start, alias) = alias?;
                    let end =
                        aliases.peek().and_then(|next| Some(next.as_ref().ok()?.0)).unwrap_or(end);
                    items.push(alias_of(alias, part(component, start, end)?)?);
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section {
                    items.push(canonical(function?)?);
                }
            }
            // It names things by indices that will not be theirs.
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
        Instance::FromExports(exports) => Item::FromExports(
            exports
                .iter()
                .map(|export| Ok((export.name.to_string(), Kind::of(export.kind)?, export.index)))
                .collect::<Result<_>>()?,
        ),
    })
}

fn alias_of(alias: ComponentAlias<'_>, bytes: &[u8]) -> Result<Item<'static>> {
    if let ComponentAlias::CoreInstanceExport { kind, instance_index, name } = alias {
        let (instance, name) = (instance_index, name.to_string());
        return Ok(Item::Export { instance, kind: Kind::of(kind)?, name });
    }
    Ok(Item::Other { section: ALIAS, data: [&[1], bytes].concat() })
}

fn canonical(function: CanonicalFunction) -> Result<Item<'static>> {
    Ok(match function {
        CanonicalFunction::Lift { core_func_index, type_index, options } => Item::Lift {
            function: core_func_index,
            of_type: type_index,
            options: options_of(&options)?,
        },
        CanonicalFunction::Lower { func_index, options } => {
            Item::Lower { function: func_index, options: options_of(&options)? }
        }
        CanonicalFunction::ResourceDrop { resource } => Item::Drop(resource),
        other => bail!("a canonical function that is not known: {other:?}"),
    })
}

fn options_of(options: &[wasmparser::CanonicalOption]) -> Result<Vec<CanonicalOption>> {
    use wasmparser::CanonicalOption as Parsed;
    options
        .iter()
        .map(|option| {
            Ok(match *option {
                Parsed::UTF8 => CanonicalOption::UTF8,
                Parsed::Memory(index) => CanonicalOption::Memory(index),
                Parsed::Realloc(index) => CanonicalOption::Realloc(index),
                Parsed::PostReturn(index) => CanonicalOption::PostReturn(index),
                other => bail!("a canonical option that is not known: {other:?}"),
            })
        })
        .collect()
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
            Item::FromExports(exports) => {
                let exports = exports
                    .iter()
                    .map(|(name, kind, index)| (name.as_str(), kind.encoded(), *index));
                component.section(InstanceSection::new().export_items(exports));
            }
            Item::Export { instance, kind, name } => {
                let alias =
                    Alias::CoreInstanceExport { instance: *instance, kind: kind.encoded(), name };
                component.section(ComponentAliasSection::new().alias(alias));
            }
            Item::Lower { function, options } => {
                let mut section = CanonicalFunctionSection::new();
                component.section(section.lower(*function, options.iter().cloned()));
            }
            Item::Drop(of_type) => {
                component.section(CanonicalFunctionSection::new().resource_drop(*of_type));
            }
            Item::Lift { function, of_type, options } => {
                let mut section = CanonicalFunctionSection::new();
                component.section(section.lift(*function, *of_type, options.iter().cloned()));
            }
        }
    }
    let component = component.finish();
    // What names modules in sections that are copied would not be right any more.
    wasmparser::validate(&component).context("the component that was made is not valid")?;
    Ok(component)
}
