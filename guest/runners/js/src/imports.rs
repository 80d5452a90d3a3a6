//! Which file imports what a module does not export. QuickJS says the name and the module, and not where it is imported.

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
        clause.match_indices(name).map(|(at, _)| at).find(|at| {
            let (before, after) = (&clause[..*at], &clause[at + name.len()..]);
            let is_word = !before.ends_with(is_of_name) && !after.starts_with(is_of_name);
            is_word && !is_type(before)
        })
    }
}

fn is_of_name(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '$')
}

/// The imports of a file, as far as they can be seen without parsing it.
pub fn imports(text: &str) -> impl Iterator<Item = Import<'_>> {
    text.match_indices("from").filter_map(|(at, word)| {
        let (before, after) = (&text[..at], text[at + word.len()..].trim_start());
        let quote = after.chars().next().filter(|first| matches!(first, '"' | '\''))?;
        let specifier = after[1..].split(quote).next()?;
        let keywords = ["import", "export"].iter();
        let begin = keywords.filter_map(|word| Some(before.rfind(word)? + word.len())).max()?;
        let clause = &before[begin..];
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
