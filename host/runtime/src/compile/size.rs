//! How much there is to compile, read from the file before anything is compiled.

use wasmparser::{Parser, Payload};

/// What a component may make the compiler do. Far above what toolchains make: a JavaScript engine of 12 MB has 12,716
/// functions, and its largest body 168 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeBounds {
    /// Functions of all core modules together.
    pub functions: u64,
    /// Bytes of the largest function's body.
    pub function_bytes: u64,
}

impl Default for CodeBounds {
    fn default() -> Self {
        Self { functions: 500_000, function_bytes: 1024 * 1024 }
    }
}

/// The code of a component.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CodeSize {
    /// Functions with a body, of all core modules.
    pub functions: u64,
    /// Bytes of all bodies.
    pub bytes: u64,
    /// Bytes of the largest body.
    pub largest_bytes: u64,
}

impl CodeSize {
    /// Of a component, as far as it can be read: why it cannot be read on is the compiler's to say.
    pub(crate) fn of(component: &[u8]) -> Self {
        let mut size = Self::default();
        for payload in Parser::new(0).parse_all(component) {
            match payload {
                Ok(Payload::CodeSectionEntry(body)) => {
                    let bytes = body.range().len() as u64;
                    size.functions += 1;
                    size.bytes += bytes;
                    size.largest_bytes = size.largest_bytes.max(bytes);
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        size
    }

    /// Names what is beyond the bounds, with the setting that says so.
    pub(crate) fn beyond(&self, bounds: &CodeBounds) -> Option<String> {
        let CodeBounds { functions, function_bytes } = *bounds;
        if self.functions > functions {
            let has = self.functions;
            return Some(format!("{has} functions, and limits.component_functions is {functions}"));
        }
        if self.largest_bytes > function_bytes {
            let (has, kb) = (self.largest_bytes, function_bytes / 1024);
            return Some(format!(
                "a function of {has} bytes, and limits.component_function_kb is {kb}"
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_all_modules_count_and_the_largest_is_known() {
        let bytes = wat::parse_str(
            "(component
               (core module (func) (func (drop (i32.const 1)) (drop (i32.const 1))))
               (component (core module (func))))",
        )
        .unwrap();
        let size = CodeSize::of(&bytes);
        assert_eq!((size.functions, size.bytes, size.largest_bytes), (3, 12, 8));
        let bounds = CodeBounds { functions: 3, function_bytes: 8 };
        assert_eq!(size.beyond(&bounds), None);
        let few = size.beyond(&CodeBounds { functions: 2, ..bounds }).unwrap();
        assert_eq!(few, "3 functions, and limits.component_functions is 2");
        let small = size.beyond(&CodeBounds { function_bytes: 7, ..bounds }).unwrap();
        assert!(small.contains("8 bytes") && small.contains("component_function_kb"), "{small}");
    }

    #[test]
    fn what_is_cut_off_counts_as_far_as_it_goes() {
        let bytes = wat::parse_str("(component (core module (func) (func)))").unwrap();
        for end in 0..bytes.len() {
            assert!(CodeSize::of(&bytes[..end]).functions <= 2);
        }
    }
}
