//! The words for the variants of an enum, from one list.

/// Gives an enum a function that says a variant's word, `NAMES` with all words, and `name_index`, the
/// place of a variant's word in it. A variant that is missing in the list does not compile, so code that
/// keeps a table of all variants cannot forget one.
macro_rules! names {
    ($(#[$doc:meta])* $type:ident::$function:ident { $($variant:ident => $name:literal,)+ }) => {
        impl $type {
            /// The words for all variants.
            pub const NAMES: &[&'static str] = &[$($name),+];

            $(#[$doc])*
            pub fn $function(&self) -> &'static str {
                match self { $(Self::$variant { .. } => $name,)+ }
            }

            /// Where the word stands in [`Self::NAMES`].
            pub fn name_index(&self) -> usize {
                enum Place { $($variant),+ }
                match self { $(Self::$variant { .. } => Place::$variant as usize,)+ }
            }
        }
    };
}

pub(crate) use names;
