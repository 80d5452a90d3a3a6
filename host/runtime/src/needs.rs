//! What a component needs of the pool, read from its file without compiling it.
//!
//! Core modules are counted as often as they are instantiated, through nested components. What stands for a
//! module or a component that an instance exports or the host would have to import counts nothing: no host
//! of ours provides one.

use std::path::Path;

use wasmparser::{
    BinaryReaderError, CanonicalFunction, CanonicalOption, ComponentAlias, ComponentDefinedType,
    ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, ComponentType,
    ComponentTypeDeclaration, ComponentTypeRef, Encoding, Instance, InstanceTypeDeclaration,
    Parser, Payload,
};

use crate::aot::read_bounded;

/// WebAssembly's page.
const PAGE_BYTES: u64 = 65_536;

/// What one instance of a component takes, and the most that one of its modules does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Instances of core modules.
    pub core_instances: u32,
    /// Linear memories of all of them.
    pub memories: u32,
    /// Tables of all of them.
    pub tables: u32,
    /// Linear memories of one module, at most.
    pub module_memories: u32,
    /// Tables of one module, at most.
    pub module_tables: u32,
    /// Elements that a table has at birth, at most.
    pub table_elements: u64,
    /// Bytes that a memory has at birth, at most.
    pub memory_bytes: u64,
    /// Whether it uses what component-model async brought: its built-ins, its types or its way to lift.
    pub concurrency: bool,
}

impl Needs {
    /// Whatever a component wants.
    pub(crate) const ANYTHING: Self = Self {
        core_instances: u32::MAX,
        memories: u32::MAX,
        tables: u32::MAX,
        module_memories: u32::MAX,
        module_tables: u32::MAX,
        table_elements: u64::MAX,
        memory_bytes: u64::MAX,
        concurrency: true,
    };

    /// Of the component in a file. `None` when it cannot be read or is none: loading it says so.
    pub(crate) fn of_file(path: &Path, max_bytes: u64) -> Option<Self> {
        let bytes = read_bounded(path, max_bytes).ok()?.ok()?;
        Self::of(&bytes).ok()
    }

    pub(crate) fn of(bytes: &[u8]) -> Result<Self, BinaryReaderError> {
        let mut scopes: Vec<Scope> = Vec::new();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::Version { encoding, .. } => {
                    let is_module = encoding == Encoding::Module;
                    scopes.push(Scope { is_module, ..Scope::default() });
                }
                Payload::End(_) => {
                    let Some(ended) = scopes.pop() else { break };
                    match scopes.last_mut() {
                        Some(parent) if ended.is_module => parent.modules.push(ended.needs),
                        Some(parent) => {
                            // The engine refuses it where it is defined, instantiated or not.
                            parent.needs.concurrency |= ended.needs.concurrency;
                            parent.components.push(ended.needs);
                        }
                        None => return Ok(ended.needs),
                    }
                }
                payload => read(&payload, &mut scopes)?,
            }
        }
        Ok(Self::default())
    }

    /// As many as two components need, one at a time.
    #[must_use]
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            core_instances: self.core_instances.max(other.core_instances),
            memories: self.memories.max(other.memories),
            tables: self.tables.max(other.tables),
            module_memories: self.module_memories.max(other.module_memories),
            module_tables: self.module_tables.max(other.module_tables),
            table_elements: self.table_elements.max(other.table_elements),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
            concurrency: self.concurrency | other.concurrency,
        }
    }

    /// As many as both need at once.
    fn and(self, other: Self) -> Self {
        Self {
            core_instances: self.core_instances.saturating_add(other.core_instances),
            memories: self.memories.saturating_add(other.memories),
            tables: self.tables.saturating_add(other.tables),
            ..self.or(other)
        }
    }

    /// Names what is more than in `pool`.
    pub(crate) fn beyond(&self, pool: &Self) -> Option<String> {
        let figures = [
            (u64::from(self.memories), u64::from(pool.memories), "linear memories"),
            (u64::from(self.tables), u64::from(pool.tables), "tables"),
            (
                u64::from(self.module_memories),
                u64::from(pool.module_memories),
                "linear memories in one module",
            ),
            (u64::from(self.module_tables), u64::from(pool.module_tables), "tables in one module"),
            (self.table_elements, pool.table_elements, "elements in a table at birth"),
            (self.memory_bytes, pool.memory_bytes, "bytes in a memory at birth"),
        ];
        let beyond = figures.iter().filter(|(has, most, _)| has > most);
        let mut texts: Vec<_> =
            beyond.map(|(has, most, what)| format!("{has} {what}, {most} fit")).collect();
        if self.concurrency && !pool.concurrency {
            texts.push("component-model async, which no component needed at boot".to_owned());
        }
        (!texts.is_empty()).then(|| texts.join("; "))
    }
}

/// A module or a component that is being read, with the index spaces that matter.
#[derive(Default)]
struct Scope {
    is_module: bool,
    needs: Needs,
    modules: Vec<Needs>,
    components: Vec<Needs>,
}

impl Scope {
    fn add(&mut self, instance: Option<Needs>) {
        self.needs = self.needs.and(instance.unwrap_or_default());
    }

    fn space(&mut self, kind: ComponentExternalKind) -> Option<&mut Vec<Needs>> {
        match kind {
            ComponentExternalKind::Module => Some(&mut self.modules),
            ComponentExternalKind::Component => Some(&mut self.components),
            _ => None,
        }
    }
}

/// What a section adds to the innermost scope.
fn read(payload: &Payload<'_>, scopes: &mut [Scope]) -> Result<(), BinaryReaderError> {
    let Some((scope, outer)) = scopes.split_last_mut() else { return Ok(()) };
    match payload {
        Payload::MemorySection(memories) => {
            for memory in memories.clone() {
                let memory = memory?;
                let page = memory.page_size_log2.map_or(PAGE_BYTES, |log2| 1 << log2.min(16));
                let bytes = memory.initial.saturating_mul(page);
                scope.needs.memories += 1;
                scope.needs.memory_bytes = scope.needs.memory_bytes.max(bytes);
            }
            scope.needs.module_memories = scope.needs.memories;
        }
        Payload::TableSection(tables) => {
            for table in tables.clone() {
                scope.needs.tables += 1;
                scope.needs.table_elements = scope.needs.table_elements.max(table?.ty.initial);
            }
            scope.needs.module_tables = scope.needs.tables;
        }
        Payload::InstanceSection(instances) => {
            for instance in instances.clone() {
                if let Instance::Instantiate { module_index, .. } = instance? {
                    let mut needs =
                        scope.modules.get(module_index as usize).copied().unwrap_or_default();
                    needs.core_instances = 1;
                    scope.add(Some(needs));
                }
            }
        }
        Payload::ComponentInstanceSection(instances) => {
            for instance in instances.clone() {
                if let ComponentInstance::Instantiate { component_index, .. } = instance? {
                    let needs = scope.components.get(component_index as usize).copied();
                    scope.add(needs);
                }
            }
        }
        Payload::ComponentAliasSection(aliases) => {
            for alias in aliases.clone() {
                match alias? {
                    ComponentAlias::InstanceExport { kind, .. } => {
                        scope.space(kind).into_iter().for_each(|it| it.push(Needs::default()));
                    }
                    ComponentAlias::Outer { kind, count, index } => {
                        alias_outer(scope, outer, kind, count, index);
                    }
                    ComponentAlias::CoreInstanceExport { .. } => {}
                }
            }
        }
        Payload::ComponentImportSection(imports) => {
            for import in imports.clone() {
                let space = match import?.ty {
                    ComponentTypeRef::Module(_) => &mut scope.modules,
                    ComponentTypeRef::Component(_) => &mut scope.components,
                    _ => continue,
                };
                space.push(Needs::default());
            }
        }
        Payload::ComponentExportSection(exports) => {
            // An export is one more name for the thing, with an index of its own.
            for export in exports.clone() {
                let export = export?;
                if let Some(space) = scope.space(export.kind) {
                    space.push(space.get(export.index as usize).copied().unwrap_or_default());
                }
            }
        }
        Payload::ComponentCanonicalSection(functions) => {
            for function in functions.clone() {
                scope.needs.concurrency |= is_concurrent(&function?);
            }
        }
        Payload::ComponentTypeSection(types) => {
            for ty in types.clone() {
                scope.needs.concurrency |= has_concurrency(&ty?);
            }
        }
        _ => {}
    }
    Ok(())
}

/// Whether a function is made in a way that only component-model async knows.
fn is_concurrent(function: &CanonicalFunction) -> bool {
    match function {
        CanonicalFunction::Lift { options, .. } | CanonicalFunction::Lower { options, .. } => {
            options.iter().any(|option| matches!(option, CanonicalOption::Async))
        }
        CanonicalFunction::ResourceNew { .. }
        | CanonicalFunction::ResourceDrop { .. }
        | CanonicalFunction::ResourceRep { .. } => false,
        _ => true,
    }
}

fn has_concurrency(ty: &ComponentType<'_>) -> bool {
    match ty {
        ComponentType::Defined(ty) => {
            matches!(ty, ComponentDefinedType::Future(_) | ComponentDefinedType::Stream(_))
        }
        ComponentType::Func(ty) => ty.async_,
        ComponentType::Component(declarations) => declarations.iter().any(|declaration| {
            matches!(declaration, ComponentTypeDeclaration::Type(ty) if has_concurrency(ty))
        }),
        ComponentType::Instance(declarations) => declarations.iter().any(|declaration| {
            matches!(declaration, InstanceTypeDeclaration::Type(ty) if has_concurrency(ty))
        }),
        ComponentType::Resource { .. } => false,
    }
}

fn alias_outer(
    scope: &mut Scope,
    outer: &mut [Scope],
    kind: ComponentOuterAliasKind,
    count: u32,
    index: u32,
) {
    let from = match count as usize {
        0 => &*scope,
        count => match outer.len().checked_sub(count).map(|at| &outer[at]) {
            Some(from) => from,
            None => return,
        },
    };
    let found = |space: &[Needs]| space.get(index as usize).copied().unwrap_or_default();
    match kind {
        ComponentOuterAliasKind::CoreModule => {
            let needs = found(&from.modules);
            scope.modules.push(needs);
        }
        ComponentOuterAliasKind::Component => {
            let needs = found(&from.components);
            scope.components.push(needs);
        }
        ComponentOuterAliasKind::CoreType | ComponentOuterAliasKind::Type => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(text: &str) -> Needs {
        Needs::of(&wat::parse_str(text).unwrap()).unwrap()
    }

    #[test]
    fn modules_count_as_often_as_they_are_instantiated() {
        let needs = needs(
            "(component
               (core module $a (memory 2) (memory 1) (table 7 funcref))
               (core module $b (table 1 funcref) (table 90 funcref))
               (core instance (instantiate $a)) (core instance (instantiate $a))
               (core instance (instantiate $b)))",
        );
        let expected = Needs {
            core_instances: 3,
            memories: 4,
            tables: 4,
            module_memories: 2,
            module_tables: 2,
            table_elements: 90,
            memory_bytes: 2 * PAGE_BYTES,
            concurrency: false,
        };
        assert_eq!(needs, expected);
    }

    #[test]
    fn nested_components_count_and_what_is_only_defined_does_not() {
        let needs = needs(
            "(component $outer
               (core module $m (memory 1))
               (core module $never (memory 1) (table 1 funcref))
               (component $c
                 (alias outer $outer $m (core module $mine))
                 (core module $own (table 3 funcref))
                 (core instance (instantiate $mine))
                 (core instance (instantiate $own)))
               (component $twice
                 (alias outer $outer $c (component $c))
                 (instance (instantiate $c)) (instance (instantiate $c)))
               (instance (instantiate $c))
               (instance (instantiate $twice)))",
        );
        assert_eq!((needs.core_instances, needs.memories, needs.tables), (6, 3, 3));
    }

    #[test]
    fn what_does_not_fit_is_named_with_the_figures() {
        let pool = Needs { memories: 1, tables: 4, ..Needs::default() };
        assert_eq!(pool.beyond(&pool), None);
        let large = Needs { memories: 3, tables: 10, ..Needs::default() };
        let text = large.beyond(&pool).unwrap();
        assert_eq!(text, "3 linear memories, 1 fit; 10 tables, 4 fit");
    }

    #[test]
    fn whatever_uses_async_is_seen_wherever_it_stands() {
        for text in [
            "(component (core func (canon task.cancel)))",
            "(component (type (future u8)))",
            "(component (type (stream u8)))",
            "(component (component (core func (canon waitable-set.new))))",
            "(component (import \"f\" (func async)))",
            "(component (import \"i\" (instance (export \"f\" (func async)))))",
            "(component (type (component (type (future u8)))))",
            "(component (core module $m (func (export \"f\") (result i32) unreachable)
                                       (func (export \"c\") (param i32 i32 i32) (result i32) unreachable))
                        (core instance $i (instantiate $m))
                        (func (export \"f\") async
                          (canon lift (core func $i \"f\") async (callback (core func $i \"c\")))))",
        ] {
            assert!(needs(text).concurrency, "{text}");
        }
        let sync = "(component (import \"f\" (func $f)) (core func (canon lower (func $f)))
                     (type $r (resource (rep i32))) (core func (canon resource.drop $r)))";
        assert!(!needs(sync).concurrency);
        let text = needs("(component (type (future u8)))").beyond(&Needs::default()).unwrap();
        assert_eq!(text, "component-model async, which no component needed at boot");
    }

    #[test]
    fn counts_that_explode_end_at_the_largest_number() {
        let mut text = String::from(
            "(component $top (component $c0
               (core module $m (memory 1)) (core instance (instantiate $m)))",
        );
        for level in 1..40 {
            text += &format!(
                "(component $c{level} (alias outer $top $c{} (component $c))
                   (instance (instantiate $c)) (instance (instantiate $c)))",
                level - 1
            );
        }
        text += "(instance (instantiate $c39)))";
        assert_eq!(needs(&text).memories, u32::MAX);
    }
}
