//! What a component needs of the pool, read from its file without compiling it.
//!
//! Core modules are counted as often as they are instantiated, through nested components. What stands for a
//! module or a component that an instance exports or the host would have to import counts nothing: no host
//! of ours provides one.

use wasmparser::{
    BinaryReaderError, CanonicalFunction, CanonicalOption, ComponentAlias, ComponentDefinedType,
    ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, ComponentType,
    ComponentTypeDeclaration, ComponentTypeRef, CompositeInnerType, ElementItems, Encoding,
    HeapType, Instance, InstanceTypeDeclaration, Parser, Payload, SubType, TypeRef, ValType,
};

/// WebAssembly's page.
const PAGE_BYTES: u64 = 65_536;

/// What the engine keeps of an instance in any case, in bytes, and for each thing in it: a global, a reference to a
/// function, anything else that is imported, defined, or made by the canonical ABI.
const INSTANCE_BYTES: u64 = 1024;
const GLOBAL_BYTES: u64 = 16;
const FUNCTION_BYTES: u64 = 32;
const OTHER_BYTES: u64 = 32;

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
    /// Elements that a table has at context, at most.
    pub table_elements: u64,
    /// Bytes that a memory has at context, at most.
    pub memory_bytes: u64,
    /// What the engine keeps of all instances, in bytes, estimated by the sizes of its types: their contexts
    /// (`VMContext`), in which each global, import and function that has a reference has its slot.
    pub record_bytes: u64,
    /// Whether it has a heap with a garbage collector, which is one memory more.
    pub gc_heap: bool,
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
        record_bytes: u64::MAX,
        gc_heap: true,
        concurrency: true,
    };

    /// Of a component.
    pub(crate) fn of(bytes: &[u8]) -> Result<Self, BinaryReaderError> {
        let mut scopes: Vec<Scope> = Vec::new();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::Version { encoding, .. } => {
                    let is_module = encoding == Encoding::Module;
                    scopes.push(Scope { is_module, ..Scope::default() });
                }
                Payload::End(_) => {
                    let Some(ended) = scopes.pop().map(Scope::ended) else { break };
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
            record_bytes: self.record_bytes.max(other.record_bytes),
            gc_heap: self.gc_heap | other.gc_heap,
            concurrency: self.concurrency | other.concurrency,
        }
    }

    /// As many as both need at once.
    fn and(self, other: Self) -> Self {
        Self {
            core_instances: self.core_instances.saturating_add(other.core_instances),
            memories: self.memories.saturating_add(other.memories),
            tables: self.tables.saturating_add(other.tables),
            record_bytes: self.record_bytes.saturating_add(other.record_bytes),
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
            (self.table_elements, pool.table_elements, "elements in a table at context"),
            (self.memory_bytes, pool.memory_bytes, "bytes in a memory at context"),
        ];
        let beyond = figures.iter().filter(|(has, most, _)| has > most);
        let mut texts: Vec<_> =
            beyond.map(|(has, most, what)| format!("{has} {what}, {most} fit")).collect();
        if self.gc_heap && !pool.gc_heap {
            texts.push("a garbage-collected heap, which no component needed at boot".to_owned());
        }
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
    /// Of a module: its functions, and how often one of them is named where a reference to it may be taken.
    functions: u64,
    named: u64,
}

impl Scope {
    /// All of it was read.
    fn ended(mut self) -> Self {
        let referred_to = self.functions.min(self.named);
        let bytes = if self.is_module { INSTANCE_BYTES } else { 0 };
        self.record(1, bytes + referred_to * FUNCTION_BYTES);
        self
    }

    /// An instance of it has `count` slots of `bytes` more.
    fn record(&mut self, count: u32, bytes: u64) {
        let bytes = u64::from(count).saturating_mul(bytes);
        self.needs.record_bytes = self.needs.record_bytes.saturating_add(bytes);
    }

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
        Payload::TypeSection(types) => {
            for group in types.clone() {
                let has_objects =
                    |ty: &SubType| !matches!(ty.composite_type.inner, CompositeInnerType::Func(_));
                scope.needs.gc_heap |= group?.types().any(has_objects);
            }
        }
        Payload::TagSection(tags) => {
            scope.needs.gc_heap = true;
            scope.record(tags.count(), OTHER_BYTES);
        }
        Payload::ImportSection(imports) => {
            for import in imports.clone().into_imports() {
                scope.functions +=
                    u64::from(matches!(import?.ty, TypeRef::Func(_) | TypeRef::FuncExact(_)));
                scope.record(1, OTHER_BYTES);
            }
        }
        Payload::FunctionSection(functions) => scope.functions += u64::from(functions.count()),
        Payload::GlobalSection(globals) => {
            scope.record(globals.count(), GLOBAL_BYTES);
            for global in globals.clone() {
                scope.needs.gc_heap |= is_an_object(global?.ty.content_type);
            }
        }
        Payload::ExportSection(exports) => scope.named += u64::from(exports.count()),
        Payload::ElementSection(segments) => {
            scope.record(segments.count(), OTHER_BYTES);
            for segment in segments.clone() {
                scope.named += u64::from(match segment?.items {
                    ElementItems::Functions(items) => items.count(),
                    ElementItems::Expressions(_, items) => items.count(),
                });
            }
        }
        Payload::DataSection(segments) => scope.record(segments.count(), OTHER_BYTES),
        Payload::MemorySection(memories) => {
            scope.record(memories.count(), OTHER_BYTES);
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
            scope.record(tables.count(), OTHER_BYTES);
            for table in tables.clone() {
                let ty = table?.ty;
                scope.needs.tables += 1;
                scope.needs.table_elements = scope.needs.table_elements.max(ty.initial);
                scope.needs.gc_heap |= is_an_object(ValType::Ref(ty.element_type));
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
            scope.record(functions.count(), OTHER_BYTES);
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

/// Whether a value of this type may lie in a garbage-collected heap.
fn is_an_object(ty: ValType) -> bool {
    match ty {
        // Of the types that a module defines the section of types says it.
        ValType::Ref(ty) => {
            !ty.is_func_ref() && matches!(ty.heap_type(), HeapType::Abstract { .. })
        }
        _ => false,
    }
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
            // Two with three memories and tables, one with two.
            record_bytes: 3 * INSTANCE_BYTES + (3 + 3 + 2) * OTHER_BYTES,
            gc_heap: false,
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
    fn what_the_engine_keeps_of_an_instance_grows_with_what_is_in_it() {
        let bytes = |contents: &str| {
            let text =
                format!("(component (core module $m {contents}) (core instance (instantiate $m)))");
            needs(&text).record_bytes - INSTANCE_BYTES
        };
        assert_eq!(bytes(""), 0);
        assert_eq!(bytes(&"(global i64 (i64.const 1))".repeat(1000)), 1000 * GLOBAL_BYTES);
        let functions = "(func)".repeat(1000);
        assert_eq!(bytes(&functions), 0, "nobody can refer to them");
        let some =
            bytes(&format!("{functions} (table 9 funcref) (elem (i32.const 0) func 0 1 2 0 1 2)"));
        assert_eq!(some, 6 * FUNCTION_BYTES + 2 * OTHER_BYTES);
        let all = bytes(&format!("(func) (elem declare func {})", "0 ".repeat(1000)));
        assert_eq!(all, FUNCTION_BYTES + OTHER_BYTES, "each has one place");
    }

    #[test]
    fn whatever_has_objects_needs_a_heap() {
        let of = |contents: &str| {
            let text =
                format!("(component (core module $m {contents}) (core instance (instantiate $m)))");
            needs(&text).gc_heap
        };
        for contents in [
            "(type (struct))",
            "(rec (type (func)) (type (array i8)))",
            "(tag)",
            "(table 1 externref)",
            "(global (ref null any) (ref.null any))",
        ] {
            assert!(of(contents), "{contents}");
        }
        assert!(!of(
            "(type $f (func)) (table 1 funcref) (table 1 (ref null $f)) (global i32 (i32.const 1))"
        ));
        let text = Needs { gc_heap: true, ..Needs::default() }.beyond(&Needs::default()).unwrap();
        assert_eq!(text, "a garbage-collected heap, which no component needed at boot");
    }

    /// A bounded part of what the fuzz target does without end: everything that reads a component before it is
    /// compiled.
    #[test]
    fn noise_in_components_is_survived() {
        let seeds = [
            "(component (core module $a (memory 2) (table 7 funcref) (func (export \"f\"))
               (global i32 (i32.const 1)) (elem (i32.const 0) func 0)) (core instance (instantiate $a)))",
            "(component $o (core module $m (func $named)) (component (alias outer $o $m (core module $n))
               (core instance (instantiate $n))))",
            "(component (import \"i\" (instance (export \"f\" (func async)))) (core func (canon task.cancel)))",
            "(component (core module $m (type (struct (field i32))) (tag)) (core instance (instantiate $m)))",
        ]
        .map(|text| wat::parse_str(text).unwrap());
        let mut random = fastrand::Rng::with_seed(3);
        for round in 0..20_000 {
            let mut bytes = seeds[round % seeds.len()].clone();
            for _ in 0..=random.usize(..4) {
                // What comes after the first eight bytes, which every file has.
                let at = random.usize(8..bytes.len());
                match random.u8(..3) {
                    0 => bytes[at] = random.u8(..),
                    1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.usize(..5)],
                    _ => bytes.truncate(at.max(9)),
                }
            }
            if let Ok(needs) = Needs::of(&bytes) {
                let _ = (needs.beyond(&Needs::default()), needs.or(needs).and(needs));
            }
            let _ = (crate::compile::CodeSize::of(&bytes), crate::features::missing(&bytes));
            assert_eq!(crate::names::without_long(&bytes).len(), bytes.len());
        }
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
