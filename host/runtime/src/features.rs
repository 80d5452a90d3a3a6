//! Which features a component needs that the engine does not have.
//!
//! The engine's own words for it are those of its parser and name an offset. So a component that it refuses is
//! validated once more, with the features that toolchains use and this host does not have.

use wasmparser::{Validator, WasmFeatures};

/// What this engine leaves out, by the names that toolchains and proposals use.
const LEFT_OUT: [(WasmFeatures, &str); 9] = [
    (WasmFeatures::CM_ASYNC_STACKFUL, "component-model stackful async"),
    (WasmFeatures::CM_MORE_ASYNC_BUILTINS, "more component-model async built-ins"),
    (WasmFeatures::CM_THREADING, "component-model threads"),
    (WasmFeatures::CM_ERROR_CONTEXT, "component-model error contexts"),
    (WasmFeatures::CM_GC, "component-model garbage collection"),
    (WasmFeatures::MEMORY64, "64-bit memories"),
    (WasmFeatures::SHARED_EVERYTHING_THREADS, "shared-everything threads"),
    (WasmFeatures::LEGACY_EXCEPTIONS, "legacy exceptions"),
    (WasmFeatures::CUSTOM_PAGE_SIZES, "custom page sizes"),
];

/// The features of a component that is valid with them and not without. `None`: there are none, so something
/// else is wrong with it.
pub(crate) fn missing(bytes: &[u8]) -> Option<String> {
    let everything = WasmFeatures::all();
    let is_valid = |features| Validator::new_with_features(features).validate_all(bytes).is_ok();
    if !is_valid(everything) {
        return None;
    }
    let needed = LEFT_OUT.iter().filter(|(feature, _)| !is_valid(everything.difference(*feature)));
    let names: Vec<_> = needed.map(|(_, name)| *name).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing_in(text: &str) -> Option<String> {
        missing(&wat::parse_str(text).unwrap())
    }

    #[test]
    fn a_feature_is_named_and_nothing_else_is() {
        let contexts = "(component (core func (canon error-context.drop)))";
        assert_eq!(missing_in(contexts).as_deref(), Some("component-model error contexts"));
        assert_eq!(missing_in("(component (type (future u8)))"), None, "the engine has it");
        let wide = "(component (core module $m (memory i64 1)) (core instance (instantiate $m)))";
        assert_eq!(missing_in(wide).as_deref(), Some("64-bit memories"));
        assert_eq!(missing_in("(component)"), None);
        assert_eq!(missing(b"\0asm\x0d\0\x01\0\x01"), None, "no component at all");
    }
}
