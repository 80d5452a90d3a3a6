//! A core module, read as far as linking wants it.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use wasm_encoder::ExportKind;
use wasmparser::{
    Data, Element, ExternalKind, FuncType, FunctionBody, Global, KnownCustom, MemoryType, Name,
    NameSectionReader, Parser, Payload, Table, TypeRef,
};

/// What modules import and export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Function,
    Table,
    Memory,
    Global,
}

#[derive(Default)]
pub struct Module<'a> {
    /// Empty: it has none.
    pub name: String,
    pub types: Vec<FuncType>,
    pub imports: Vec<Import<'a>>,
    /// The types of the functions that it defines.
    pub functions: Vec<u32>,
    pub tables: Vec<Table<'a>>,
    pub memories: Vec<MemoryType>,
    pub globals: Vec<Global<'a>>,
    exports: HashMap<&'a str, (Kind, u32)>,
    pub elements: Vec<Element<'a>>,
    pub bodies: Vec<FunctionBody<'a>>,
    pub data: Vec<Data<'a>>,
    /// The names of functions, imported ones too.
    pub names: Vec<(u32, &'a str)>,
}

pub struct Import<'a> {
    pub module: &'a str,
    pub name: &'a str,
    pub kind: Kind,
    /// Of a function.
    pub of_type: Option<FuncType>,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Function, Self::Table, Self::Memory, Self::Global];

    pub fn of(kind: ExternalKind) -> Result<Self> {
        Ok(match kind {
            ExternalKind::Func => Self::Function,
            ExternalKind::Table => Self::Table,
            ExternalKind::Memory => Self::Memory,
            ExternalKind::Global => Self::Global,
            other => bail!("an export of a kind that is not known: {other:?}"),
        })
    }

    pub fn encoded(self) -> ExportKind {
        match self {
            Self::Function => ExportKind::Func,
            Self::Table => ExportKind::Table,
            Self::Memory => ExportKind::Memory,
            Self::Global => ExportKind::Global,
        }
    }
}

impl<'a> Module<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut module = Self::default();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::TypeSection(section) => {
                    module.types = section.into_iter_err_on_gc_types().collect::<Result<_, _>>()?;
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = module.import(import?)?;
                        module.imports.push(import);
                    }
                }
                Payload::FunctionSection(section) => {
                    module.functions = section.into_iter().collect::<Result<_, _>>()?;
                }
                Payload::TableSection(section) => {
                    module.tables = section.into_iter().collect::<Result<_, _>>()?;
                }
                Payload::MemorySection(section) => {
                    module.memories = section.into_iter().collect::<Result<_, _>>()?;
                }
                Payload::GlobalSection(section) => {
                    module.globals = section.into_iter().collect::<Result<_, _>>()?;
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        module.exports.insert(export.name, (Kind::of(export.kind)?, export.index));
                    }
                }
                Payload::ElementSection(section) => {
                    module.elements = section.into_iter().collect::<Result<_, _>>()?;
                }
                Payload::CodeSectionEntry(body) => module.bodies.push(body),
                Payload::DataSection(section) => {
                    module.data = section.into_iter().collect::<Result<_, _>>()?;
                }
                Payload::CustomSection(section) => {
                    if let KnownCustom::Name(names) = section.as_known() {
                        module.read_names(names)?;
                    }
                }
                Payload::Version { .. }
                | Payload::CodeSectionStart { .. }
                | Payload::DataCountSection { .. }
                | Payload::End(_) => {}
                other => bail!("a section that is not known: {other:?}"),
            }
        }
        ensure!(module.functions.len() == module.bodies.len(), "a function has no body");
        Ok(module)
    }

    fn import(&self, import: wasmparser::Import<'a>) -> Result<Import<'a>> {
        let (kind, of_type) = match import.ty {
            TypeRef::Func(index) => {
                let of_type = self.types.get(index as usize).context("no such type")?;
                (Kind::Function, Some(of_type.clone()))
            }
            TypeRef::Table(_) => (Kind::Table, None),
            TypeRef::Memory(_) => (Kind::Memory, None),
            TypeRef::Global(_) => (Kind::Global, None),
            other => bail!("an import of a kind that is not known: {other:?}"),
        };
        Ok(Import { module: import.module, name: import.name, kind, of_type })
    }

    fn read_names(&mut self, names: NameSectionReader<'a>) -> Result<()> {
        for name in names {
            match name? {
                Name::Module { name, .. } => self.name = name.to_string(),
                Name::Function(functions) => {
                    for naming in functions {
                        let naming = naming?;
                        self.names.push((naming.index, naming.name));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// How many things of a kind it defines.
    pub fn defined(&self, kind: Kind) -> usize {
        match kind {
            Kind::Function => self.functions.len(),
            Kind::Table => self.tables.len(),
            Kind::Memory => self.memories.len(),
            Kind::Global => self.globals.len(),
        }
    }

    pub fn export(&self, name: &str, kind: Kind) -> Result<u32> {
        let (is, index) = self
            .exports
            .get(name)
            .with_context(|| format!("the module `{}` exports no {name}", self.name))?;
        ensure!(*is == kind, "{name} is a {is:?} and not a {kind:?}");
        Ok(*index)
    }

    pub fn exports(&self, name: &str) -> bool {
        self.exports.contains_key(name)
    }

    pub fn imports(&self, name: &str) -> bool {
        self.imports.iter().any(|import| import.name == name)
    }
}
