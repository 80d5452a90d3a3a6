//! What an `import` means: a file of the agent's source, by its path relative to the importing file, or the SDK.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::Declared;
use rquickjs::{Ctx, Exception, Module, Object, Result};

use crate::bindings::bulkhead::agent::agent_types as thrown;
use crate::bindings::bulkhead::agent::runner::SourceBundle;
use crate::imports::{Missing, imports};
use crate::typescript;

/// The SDK's modules. Authors import the one that begins with `@`.
const SDK: [(&str, &str); 27] = [
    ("@bulkhead/agent", include_str!("../sdk/index.js")),
    ("bulkhead:abort", include_str!("../sdk/abort.js")),
    ("bulkhead:agent", include_str!("../sdk/agent.js")),
    ("bulkhead:chat", include_str!("../sdk/chat.js")),
    ("bulkhead:errors", include_str!("../sdk/errors.js")),
    ("bulkhead:events", include_str!("../sdk/events.js")),
    ("bulkhead:fetch", include_str!("../sdk/fetch.js")),
    ("bulkhead:files", include_str!("../sdk/files.js")),
    ("bulkhead:forms", include_str!("../sdk/forms.js")),
    ("bulkhead:globals", include_str!("../sdk/globals.js")),
    ("bulkhead:host", include_str!("../sdk/host.js")),
    ("bulkhead:inspect", include_str!("../sdk/inspect.js")),
    ("bulkhead:model", include_str!("../sdk/model.js")),
    ("bulkhead:native", include_str!("../sdk/native.js")),
    ("bulkhead:news", include_str!("../sdk/news.js")),
    ("bulkhead:queue", include_str!("../sdk/queue.js")),
    ("bulkhead:readable", include_str!("../sdk/readable.js")),
    ("bulkhead:snapshot", include_str!("../sdk/snapshot.js")),
    ("bulkhead:stack", include_str!("../sdk/stack.js")),
    ("bulkhead:streams", include_str!("../sdk/streams.js")),
    ("bulkhead:thrown", include_str!("../sdk/thrown.js")),
    ("bulkhead:timers", include_str!("../sdk/timers.js")),
    ("bulkhead:tools", include_str!("../sdk/tools.js")),
    ("bulkhead:transform", include_str!("../sdk/transform.js")),
    ("bulkhead:url", include_str!("../sdk/url.js")),
    ("bulkhead:writable", include_str!("../sdk/writable.js")),
    ("bulkhead:workspace", include_str!("../sdk/workspace.js")),
];

/// The SDK's first module and its text. It imports the others.
pub const SDK_ENTRY: (&str, &str) = ("bulkhead:runtime", include_str!("../sdk/runtime.js"));

/// The agent that the build starts, and its text.
pub const REHEARSAL: (&str, &str) = ("bulkhead:rehearsal", include_str!("../sdk/rehearsal.js"));

fn text_of_sdk(name: &str) -> Option<&'static str> {
    SDK.iter().find(|(module, _)| *module == name).map(|(_, text)| *text)
}

/// Why a file is missing that may be there.
const ALONE: &str = "there is no such file: the agent's source has only this file; others are a part of it where `source` \
                     of the role names their directory";

/// What may be left out at the end of a path, and what TypeScript's compiler would have made of one.
const ENDINGS: [&str; 6] = [".js", ".mjs", ".ts", ".mts", "/index.js", "/index.ts"];

/// The agent's source: text by path.
#[derive(Default)]
pub struct Bundle(BTreeMap<String, Vec<u8>>);

impl From<SourceBundle> for Bundle {
    fn from(source: SourceBundle) -> Self {
        Self(source.files.into_iter().map(|file| (file.path, file.contents)).collect())
    }
}

impl Bundle {
    /// The source of the build's agent.
    pub fn rehearsal() -> Self {
        let (path, text) = REHEARSAL;
        Self([(path.to_owned(), text.into())].into())
    }

    /// With these texts.
    #[cfg(test)]
    pub fn of<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(files.into_iter().map(|(path, text)| (path.to_owned(), text.into())).collect())
    }

    /// The path of the file that `specifier` means in the file `base`.
    fn resolve(&self, base: &str, specifier: &str) -> Option<String> {
        let path = join(base, specifier)?;
        let written = path.strip_suffix(".js").map(|stem| format!("{stem}.ts"));
        let endings = ENDINGS.iter().map(|ending| format!("{path}{ending}"));
        std::iter::once(path.clone())
            .chain(written)
            .chain(endings)
            .find(|path| self.0.contains_key(path))
    }

    /// Where a name is imported that its module does not export: file, line and column.
    fn importer(&self, missing: &Missing<'_>) -> Option<(&str, u32, u32)> {
        let place = |path: &str, text: &str| {
            let of_module = imports(text).filter(|import| {
                import.specifier == missing.module
                    || self.resolve(path, import.specifier).as_deref() == Some(missing.module)
            });
            of_module.filter_map(|import| import.place_of(missing.name, text)).next()
        };
        self.0.iter().find_map(|(path, bytes)| {
            let (line, column) = place(path, std::str::from_utf8(bytes).ok()?)?;
            Some((&**path, line, column))
        })
    }

    /// The line of a file that has this specifier in quotes.
    fn line_of(&self, path: &str, specifier: &str) -> Option<usize> {
        let text = String::from_utf8_lossy(self.0.get(path)?);
        let quoted = |line: &str| {
            ['"', '\'', '`']
                .iter()
                .any(|quote| line.contains(&format!("{quote}{specifier}{quote}")))
        };
        text.lines().position(quoted).map(|index| index + 1)
    }
}

/// Joins a relative specifier to the folder of a file. None: it leaves the source.
fn join(base: &str, specifier: &str) -> Option<String> {
    let mut parts: Vec<&str> = base.split('/').collect();
    parts.pop();
    for part in specifier.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The bundle as QuickJS asks for it.
#[derive(Clone, Default)]
pub struct Files(Rc<RefCell<Bundle>>);

impl Files {
    /// Puts in the agent's source.
    pub fn fill(&self, bundle: Bundle) {
        *self.0.borrow_mut() = bundle;
    }

    /// Whether a file is the author's.
    pub fn contains(&self, path: &str) -> bool {
        self.0.borrow().0.contains_key(path)
    }

    /// The exception, with a place if it is one of an import that has none.
    pub fn placed(&self, mut exception: thrown::Exception) -> thrown::Exception {
        let bundle = self.0.borrow();
        let missing = Missing::of(&exception.message).filter(|_| exception.frames.is_empty());
        if let Some((file, line, column)) = missing.and_then(|missing| bundle.importer(&missing)) {
            let (file, column) = (file.to_owned(), Some(column));
            if typescript::is_typescript(&file) {
                exception.message += ": if it is a type, import it with `import type`";
            }
            exception.frames.push(thrown::SourceFrame { function: None, file, line, column });
        }
        exception
    }

    /// An exception at the line that has the import.
    fn refuse(&self, ctx: &Ctx<'_>, base: &str, specifier: &str, message: &str) -> rquickjs::Error {
        let thrown = Exception::throw_reference(ctx, message);
        match self.0.borrow().line_of(base, specifier) {
            Some(line) => placed(ctx, &format!("{base}:{line}")),
            None => thrown,
        }
    }
}

/// Gives the exception that was thrown a place in the author's code.
fn placed(ctx: &Ctx<'_>, place: &str) -> rquickjs::Error {
    let error = ctx.catch();
    if let Some(object) = error.as_object() {
        // Were it refused, the exception would have no place.
        _ = object.set("stack", format!("    at {place}\n"));
    }
    ctx.throw(error)
}

/// Line and column of what QuickJS cannot read as JSON.
fn json_place(stack: &str) -> Option<&str> {
    stack.lines().next()?.trim().strip_prefix("at <input>:")
}

impl Resolver for Files {
    fn resolve<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        base: &str,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<String> {
        let sdk = text_of_sdk(name).is_some();
        if sdk && (name.starts_with('@') || base.starts_with("bulkhead:") || base.starts_with('@'))
        {
            return Ok(name.to_owned());
        }
        if !name.starts_with("./") && !name.starts_with("../") {
            let message = format!(
                "cannot import \"{name}\" in {base}: a path begins with ./ or ../, and of packages there is \
                 @bulkhead/agent; others must be bundled with the agent"
            );
            return Err(self.refuse(ctx, base, name, &message));
        }
        let found = self.0.borrow().resolve(base, name);
        found.ok_or_else(|| {
            let why = if self.0.borrow().0.len() == 1 { ALONE } else { "there is no such file" };
            let message = format!("cannot import \"{name}\" in {base}: {why}");
            self.refuse(ctx, base, name, &message)
        })
    }
}

impl Loader for Files {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>> {
        if let Some(text) = text_of_sdk(name) {
            return Module::declare(ctx.clone(), name, text);
        }
        if name.ends_with(".json") {
            return self.value(ctx, name);
        }
        let text = self.text(ctx, name)?;
        let module = Module::declare(ctx.clone(), name, text)?;
        let meta: Object = module.meta()?;
        meta.set("url", format!("file:///{name}"))?;
        Ok(module)
    }
}

impl Files {
    /// The module whose default export is what a file of JSON says. The file is no code, and is not run.
    fn value<'js>(&self, ctx: &Ctx<'js>, path: &str) -> Result<Module<'js, Declared>> {
        let text = self.text(ctx, path)?;
        // A mark of the byte order is white space in JavaScript, and not in JSON.
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let value = ctx.json_parse(text).map_err(|_| {
            let error = ctx.catch();
            let stack = error.as_object().and_then(|error| error.get::<_, String>("stack").ok());
            ctx.throw(error);
            let place = stack.as_deref().and_then(json_place).unwrap_or("1:1");
            placed(ctx, &format!("{path}:{place}"))
        })?;
        let module = Module::declare(ctx.clone(), path, "export default import.meta.value;")?;
        let meta: Object = module.meta()?;
        meta.set("value", value)?;
        Ok(module)
    }

    /// The text of a module, as JavaScript.
    pub fn text(&self, ctx: &Ctx<'_>, path: &str) -> Result<String> {
        let bundle = self.0.borrow();
        let Some(bytes) = bundle.0.get(path) else {
            return Err(Exception::throw_reference(ctx, &format!("there is no file {path}")));
        };
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Err(Exception::throw_syntax(ctx, &format!("{path} is not UTF-8")));
        };
        if typescript::is_typescript(path) {
            return typescript::strip(text.to_owned()).map_err(|problem| {
                let typescript::Problem { message, line, column } = problem;
                Exception::throw_syntax(ctx, &message);
                placed(ctx, &format!("{path}:{line}:{column}"))
            });
        }
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(paths: &[&str]) -> Bundle {
        Bundle(paths.iter().map(|path| ((*path).to_owned(), Vec::new())).collect())
    }

    #[test]
    fn specifiers_are_relative_to_the_importing_file() {
        let bundle = bundle(&["agent.js", "lib/a.js", "lib/deep/b.js", "top.js"]);
        let resolve = |base, specifier| bundle.resolve(base, specifier);
        assert_eq!(resolve("agent.js", "./lib/a.js").as_deref(), Some("lib/a.js"));
        assert_eq!(resolve("lib/a.js", "./deep/b.js").as_deref(), Some("lib/deep/b.js"));
        assert_eq!(resolve("lib/deep/b.js", "../../top.js").as_deref(), Some("top.js"));
        assert_eq!(resolve("lib/a.js", "../../top.js"), None);
        assert_eq!(resolve("agent.js", "./gone.js"), None);
    }

    #[test]
    fn endings_may_be_left_out_or_be_those_of_typescript() {
        let bundle = bundle(&["a.js", "b.ts", "c/index.js"]);
        assert_eq!(bundle.resolve("agent.js", "./a").as_deref(), Some("a.js"));
        assert_eq!(bundle.resolve("agent.js", "./b").as_deref(), Some("b.ts"));
        assert_eq!(bundle.resolve("agent.js", "./b.js").as_deref(), Some("b.ts"));
        assert_eq!(bundle.resolve("agent.js", "./c").as_deref(), Some("c/index.js"));
    }

    #[test]
    fn a_name_that_is_not_exported_is_found_where_it_is_imported() {
        let bundle = Bundle::of([
            (
                "agent.ts",
                "import { agent } from \"@bulkhead/agent\";\nimport { a } from './lib/a';\n",
            ),
            ("lib/a.ts", "import { b } from \"./b.js\";\nexport const a = 1;\n"),
            ("lib/b.js", "export const c = 2;\n"),
        ]);
        let importer = |name, module| bundle.importer(&Missing { name, module });
        assert_eq!(importer("b", "lib/b.js"), Some(("lib/a.ts", 1, 10)));
        assert_eq!(importer("agent", "@bulkhead/agent"), Some(("agent.ts", 1, 10)));
        assert_eq!(importer("x", "@bulkhead/agent"), None);
    }

    #[test]
    fn the_line_of_an_import_is_found() {
        let text = b"// x.js\nimport './y.js';\nimport \"./x.js\";\n".to_vec();
        let bundle = Bundle([("agent.js".to_owned(), text)].into());
        assert_eq!(bundle.line_of("agent.js", "./x.js"), Some(3));
        assert_eq!(bundle.line_of("agent.js", "./z.js"), None);
    }
}
