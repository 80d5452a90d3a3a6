//! What an instance of a component may be made of, whatever else there is room for.

use crate::needs::Needs;

/// Bounds on one component, counted through all that are nested in it. One above them is refused before it is compiled.
///
/// By default so much that no toolchain comes near, and so little that the kernel's default of mappings
/// (`vm.max_map_count`) holds a thousand agents of the largest component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceBounds {
    /// Instances of core modules.
    pub instances: u32,
    /// Linear memories.
    pub memories: u32,
    /// Tables.
    pub tables: u32,
}

impl Default for InstanceBounds {
    fn default() -> Self {
        Self { instances: 256, memories: 16, tables: 64 }
    }
}

impl InstanceBounds {
    /// Names what is above them, with the setting that says so.
    pub(crate) fn passed_by(&self, needs: &Needs) -> Option<String> {
        let figures = [
            (needs.core_instances, self.instances, "instances of core modules", "instances"),
            (needs.memories, self.memories, "linear memories", "memories"),
            (needs.tables, self.tables, "tables", "tables"),
        ];
        let passed = figures.iter().filter(|(has, most, ..)| has > most);
        let texts: Vec<_> = passed
            .map(|(has, most, what, key)| {
                format!("{has} {what}, and limits.component_{key} is {most}")
            })
            .collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    /// Instances that a store may have: the engine adds a module of its own, which hands values from one component to
    /// another, before at most each of them.
    pub(crate) fn instances_of_a_store(&self) -> u32 {
        self.instances.saturating_mul(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_named_with_its_figure_its_bound_and_its_setting() {
        let bounds = InstanceBounds { instances: 3, memories: 2, tables: 1 };
        let needs = Needs { core_instances: 3, memories: 2, tables: 1, ..Needs::default() };
        assert_eq!(bounds.passed_by(&needs), None);
        let needs = Needs { core_instances: 900, tables: 5, ..needs };
        assert_eq!(
            bounds.passed_by(&needs).unwrap(),
            "900 instances of core modules, and limits.component_instances is 3; \
             5 tables, and limits.component_tables is 1"
        );
    }
}
