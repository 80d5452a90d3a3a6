//! Which file imports what a module does not export. QuickJS says the name and the module, and not where it is imported.

use std::ops::Range;

/// A name that a module does not export.
#[derive(Debug, PartialEq)]
pub struct Missing<'a> {
    pub name: &'a str,
    pub module: &'a str,
}

impl<'a> Missing<'a> {
    /// Reads the message of QuickJS.
    pub fn of(message: &'a str) -> Option<Self> {
        let (_, rest) = message.split_once("export '")?;
        let (name, module) = rest.split_once("' in module '")?;
        Some(Self { name, module: module.rsplit_once('\'')?.0 })
    }
}

/// Names that a file imports of another one, or exports as they are there.
#[derive(Debug, PartialEq)]
pub struct Import<'a> {
    /// Between the keyword and `from`.
    clause: &'a str,
    /// Where that begins in the text, in bytes.
    begin: usize,
    pub specifier: &'a str,
}

impl Import<'_> {
    /// Line and column of a name in it, from 1. `None`: it does not import that, or only as a type.
    pub fn place_of(&self, name: &str, text: &str) -> Option<(u32, u32)> {
        let at = match name {
            "default" if !self.clause.trim_start().starts_with(['{', '*']) => {
                self.clause.len() - self.clause.trim_start().len()
            }
            _ => self.word(name)?,
        };
        let before = &text[..self.begin + at];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Some((u32::try_from(line).ok()?, u32::try_from(column).ok()?))
    }

    /// Where the name is a word of its own, and no type. `x as name` is not it.
    fn word(&self, name: &str) -> Option<usize> {
        let clause = self.clause;
        let is_type = |before: &str| {
            let before = before.trim_end();
            ["type", "as"].iter().any(|word| {
                before.strip_suffix(word).is_some_and(|rest| !rest.ends_with(is_of_name))
            })
        };
        let mut found = clause.match_indices(name).map(|(at, _)| at);
        found.find(|at| is_word(clause, *at, name) && !is_type(&clause[..*at]))
    }
}

fn is_of_name(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '$')
}

/// Whether a word at a place of a text is one of its own.
fn is_word(text: &str, at: usize, word: &str) -> bool {
    !text[..at].ends_with(is_of_name) && !text[at + word.len()..].starts_with(is_of_name)
}

/// Where the last keyword in a part of a text ends that begins an import.
fn keyword(text: &str, part: Range<usize>) -> Option<usize> {
    let last = |word: &str| {
        let found = text[part.clone()].rmatch_indices(word).map(|(at, _)| part.start + at);
        found.filter(|at| is_word(text, *at, word)).map(|at| at + word.len()).next()
    };
    ["import", "export"].into_iter().filter_map(last).max()
}

/// The imports of a file, as far as they can be seen without parsing it.
pub fn imports(text: &str) -> impl Iterator<Item = Import<'_>> {
    // Each one is after the one before, so no part of the text is searched twice.
    let mut searched = 0;
    text.match_indices("from").filter_map(move |(at, word)| {
        let after = text[at + word.len()..].trim_start();
        let quote = after.chars().next().filter(|first| matches!(first, '"' | '\''))?;
        let specifier = after[1..].split(quote).next()?;
        let begin = keyword(text, std::mem::replace(&mut searched, at)..at)?;
        let clause = &text[begin..at];
        // Those of types are gone before the module is linked.
        let is_of_types = clause
            .trim_start()
            .strip_prefix("type")
            .is_some_and(|rest| rest.starts_with(|next: char| next.is_whitespace() || next == '{'));
        (!is_of_types).then_some(Import { clause, begin, specifier })
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn place(text: &str, name: &str) -> Option<(u32, u32)> {
        imports(text).find_map(|import| import.place_of(name, text))
    }

    #[test]
    fn the_message_of_the_interpreter_is_read() {
        let message = "Could not find export 'Context' in module '@bulkhead/agent'";
        let missing = Missing { name: "Context", module: "@bulkhead/agent" };
        assert_eq!(Missing::of(message), Some(missing));
        assert_eq!(Missing::of("unexpected token"), None);
    }

    #[test]
    fn a_name_is_found_in_the_import_that_has_it() {
        assert_eq!(place("import { agent, agnt } from \"x\";", "agnt"), Some((1, 17)));
        let text = "// agnt\nimport {\n  agent,\n  ünd, agnt as b,\n} from 'x';\n";
        assert_eq!(place(text, "agnt"), Some((4, 8)));
        assert_eq!(place("export { b as agnt } from './x.js';", "b"), Some((1, 10)));
        assert_eq!(place("export { b as agnt } from './x.js';", "agnt"), None);
        assert_eq!(place("import toast, { b } from './x.js';", "default"), Some((1, 8)));
        assert_eq!(place("import { default as b } from './x.js';", "default"), Some((1, 10)));
        assert_eq!(place("import { agents } from 'x';\nconst agent = from(\"x\");", "agent"), None);
    }

    #[test]
    fn names_may_contain_keywords() {
        assert_eq!(place("import { importCsv } from './x.js';", "importCsv"), Some((1, 10)));
        assert_eq!(place("import { a, exportAll } from './x.js';", "a"), Some((1, 10)));
        assert_eq!(place("import { a, reexport, $import } from './x.js';", "a"), Some((1, 10)));
        assert_eq!(place("import type { exportRow, Row } from './x.js';", "Row"), None);
    }

    /// A bundle is one large file, and may have texts like those of imports.
    #[test]
    fn no_part_of_a_text_is_searched_again_for_each_specifier() {
        let text = format!("import a from 'a';{}", "m+=\" from \"+x;".repeat(80_000));
        let begun = Instant::now();
        assert_eq!(imports(&text).count(), 1);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }

    #[test]
    fn what_is_imported_as_a_type_is_not_it() {
        assert_eq!(place("import type { Context } from 'x';", "Context"), None);
        assert_eq!(place("import { agent, type Context } from 'x';", "Context"), None);
        assert_eq!(place("import { type Tool, Context } from 'x';", "Context"), Some((1, 21)));
    }

    #[test]
    fn specifiers_are_those_in_quotes() {
        let text = "import a from \"./a.js\";\nimport {b} from'./b.js';\nexport * from './c.js';";
        let found: Vec<_> = imports(text).map(|import| import.specifier).collect();
        assert_eq!(found, ["./a.js", "./b.js", "./c.js"]);
    }
}
