//! The import graph of the host.
//!
//! A file imports another one when it names something that the other one defines: in a `use`, or by a path in its
//! code. A re-export leads to the file that defines the thing. A module is the scope of the modules inside it, so
//! what these take from it is not counted; what it takes from them is. Tests are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::Visit;
use syn::{Attribute, Item, UseTree};

/// A module's path in its crate: `["actor", "end"]`, empty for `lib.rs`.
type Module = Vec<String>;

/// Which module imports which others, with the names that it takes.
pub type Imports = BTreeMap<Module, BTreeMap<Module, BTreeSet<String>>>;

/// A crate of `host/`.
pub struct Crate {
    /// Its folder.
    pub name: String,
    /// The crates that it depends on, by folder, tests aside.
    pub depends_on: BTreeSet<String>,
    /// Number of its files, tests aside.
    pub files: usize,
    /// Imports between its files.
    pub imports: Imports,
}

impl Crate {
    /// All crates in `host`, by name. An error names the file.
    pub fn all(host: &Path) -> Result<Vec<Self>, String> {
        let entries = fs::read_dir(host).map_err(|error| format!("{}: {error}", host.display()))?;
        let mut folders: Vec<_> = entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| path.join("Cargo.toml").is_file())
            .collect();
        folders.sort();
        folders.iter().map(|folder| Self::read(folder)).collect()
    }

    fn read(folder: &Path) -> Result<Self, String> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let manifest = read(&folder.join("Cargo.toml"))?;
        let manifest: toml::Table =
            manifest.parse().map_err(|error| format!("{name}/Cargo.toml: {error}"))?;
        let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
        let depends_on = dependencies
            .into_iter()
            .flat_map(|table| table.keys())
            .filter_map(|key| key.strip_prefix("bulkhead-"))
            .map(str::to_owned)
            .collect();
        let mut modules = Modules::default();
        let root = ["lib.rs", "main.rs"].map(|file| folder.join("src").join(file));
        let Some(root) = root.iter().find(|file| file.is_file()) else {
            return Err(format!("{name}: neither src/lib.rs nor src/main.rs"));
        };
        modules.read(root, Vec::new())?;
        Ok(Self { name, depends_on, files: modules.0.len(), imports: modules.imports() })
    }

    /// Number of imports between its files.
    pub fn arrows(&self) -> usize {
        self.imports.values().map(BTreeMap::len).sum()
    }

    /// The imports inside a cycle, a line each.
    pub fn describe<'a>(
        &'a self,
        cycle: &'a BTreeSet<Module>,
    ) -> impl Iterator<Item = String> + 'a {
        let inside = |module: &&Module| cycle.contains(*module);
        self.imports.keys().filter(inside).flat_map(move |from| {
            let to = self.imports[from].iter().filter(move |(to, _)| cycle.contains(*to));
            to.map(move |(to, names)| {
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                format!("{} -> {}: {}", from.join("::"), to.join("::"), names.join(", "))
            })
        })
    }
}

/// The crates by floor, the lowest first: a crate stands one above the highest that it sees.
pub fn floors(crates: &[Crate]) -> Vec<Vec<&str>> {
    let mut floors: Vec<Vec<&str>> = Vec::new();
    let mut placed: BTreeSet<&str> = BTreeSet::new();
    while placed.len() < crates.len() {
        let stands = |of: &&Crate| {
            !placed.contains(of.name.as_str())
                && of.depends_on.iter().all(|below| placed.contains(below.as_str()))
        };
        let floor: Vec<_> = crates.iter().filter(stands).map(|of| of.name.as_str()).collect();
        // Cargo refuses a cycle of crates.
        assert!(!floor.is_empty(), "a crate depends on one that is not in host/");
        placed.extend(&floor);
        floors.push(floor);
    }
    floors
}

/// Groups of modules that import each other in a circle.
pub fn cycles(imports: &Imports) -> Vec<BTreeSet<Module>> {
    let reach: BTreeMap<&Module, BTreeSet<&Module>> =
        imports.keys().map(|module| (module, reachable(imports, module))).collect();
    let mut found: Vec<BTreeSet<Module>> = Vec::new();
    for (module, others) in &reach {
        if !others.contains(*module) || found.iter().any(|cycle| cycle.contains(*module)) {
            continue;
        }
        let back = |other: &&&Module| reach.get(**other).is_some_and(|from| from.contains(*module));
        found.push(others.iter().filter(back).map(|module| (*module).clone()).collect());
    }
    found
}

fn reachable<'a>(imports: &'a Imports, from: &Module) -> BTreeSet<&'a Module> {
    let mut seen = BTreeSet::new();
    let mut next: Vec<&Module> = imports.get(from).into_iter().flat_map(BTreeMap::keys).collect();
    while let Some(module) = next.pop() {
        if seen.insert(module) {
            next.extend(imports.get(module).into_iter().flat_map(BTreeMap::keys));
        }
    }
    seen
}

/// What a file says.
#[derive(Default)]
struct Source {
    /// Names that it brings into scope, and where from: paths from the crate's root.
    uses: BTreeMap<String, Module>,
    /// Paths that it names otherwise, from the crate's root.
    paths: BTreeSet<Module>,
    /// The first segments of all other paths of its code.
    words: BTreeSet<Vec<String>>,
}

/// The files of a crate by module path.
#[derive(Default)]
struct Modules(BTreeMap<Module, Source>);

impl Modules {
    fn read(&mut self, file: &Path, module: Module) -> Result<(), String> {
        let parsed = syn::parse_file(&read(file)?)
            .map_err(|error| format!("{}: {error}", file.display()))?;
        let mut reader =
            Reader { module: module.clone(), source: Source::default(), children: Vec::new() };
        reader.visit_file(&parsed);
        let Reader { source, children, .. } = reader;
        self.0.insert(module.clone(), source);
        let name = file.file_stem().unwrap_or_default();
        let is_root = ["lib", "main", "mod"].iter().any(|root| name == *root);
        let folder = file.parent().unwrap_or(Path::new("."));
        let folder = if is_root { folder.to_owned() } else { folder.join(name) };
        for child in children {
            let candidates: [PathBuf; 2] =
                [folder.join(format!("{child}.rs")), folder.join(&child).join("mod.rs")];
            let Some(file) = candidates.iter().find(|file| file.is_file()) else { continue };
            let module = module.iter().cloned().chain([child]).collect();
            self.read(file, module)?;
        }
        Ok(())
    }

    fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (from, source) in &self.0 {
            let of = imports.entry(from.clone()).or_default();
            let by_name = source.words.iter().filter_map(|path| {
                let start = source.uses.get(&path[0])?;
                Some(start.iter().chain(&path[1..]).cloned().collect())
            });
            for path in source.uses.values().cloned().chain(source.paths.clone()).chain(by_name) {
                let Some((to, name)) = self.resolve(&path, 0) else { continue };
                if !from.starts_with(&to) {
                    of.entry(to).or_default().insert(name);
                }
            }
        }
        imports
    }

    /// The module that defines what `path` names, and the name.
    fn resolve(&self, path: &[String], depth: usize) -> Option<(Module, String)> {
        let known = (0..=path.len()).rev().find(|&length| self.0.contains_key(&path[..length]))?;
        let (module, rest) = path.split_at(known);
        let Some(name) = rest.first() else { return Some((module.to_vec(), "self".into())) };
        if depth < 8
            && let Some(from) = self.0[module].uses.get(name)
            && from != path
        {
            let whole: Vec<_> = from.iter().chain(&rest[1..]).cloned().collect();
            return self.resolve(&whole, depth + 1).or(Some((module.to_vec(), name.clone())));
        }
        Some((module.to_vec(), name.clone()))
    }
}

struct Reader {
    module: Module,
    source: Source,
    children: Vec<String>,
}

impl Reader {
    /// `path` from the crate's root, when it leads into this crate by a keyword.
    fn absolute(&self, path: &[String]) -> Option<Module> {
        let mut base = match path.first()?.as_str() {
            "crate" => Vec::new(),
            "self" => self.module.clone(),
            "super" => self.module.split_last()?.1.to_vec(),
            child if self.children.iter().any(|name| name == child) => {
                return Some(self.module.iter().chain(path).cloned().collect());
            }
            _ => return None,
        };
        let rest = path[1..].iter().skip_while(|segment| {
            let up = *segment == "super";
            if up {
                base.pop();
            }
            up
        });
        let rest: Vec<_> = rest.cloned().collect();
        base.extend(rest);
        Some(base)
    }

    fn take(&mut self, tree: &UseTree, prefix: &mut Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.take(&path.tree, prefix);
                prefix.pop();
            }
            UseTree::Name(name) => {
                self.bring(&name.ident.to_string(), &name.ident.to_string(), prefix)
            }
            UseTree::Rename(name) => {
                self.bring(&name.ident.to_string(), &name.rename.to_string(), prefix)
            }
            UseTree::Glob(_) => {
                if let Some(path) = self.absolute(prefix) {
                    self.source.paths.insert(path);
                }
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.take(tree, prefix)),
        }
    }

    fn bring(&mut self, name: &str, alias: &str, prefix: &[String]) {
        let (path, alias) = match (name, prefix.last()) {
            ("self", Some(last)) => (prefix.to_vec(), if alias == "self" { last } else { alias }),
            _ => (prefix.iter().cloned().chain([name.to_owned()]).collect(), alias),
        };
        if let Some(path) = self.absolute(&path) {
            self.source.uses.insert(alias.to_owned(), path);
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_file(&mut self, file: &'ast syn::File) {
        for item in &file.items {
            if let Item::Mod(item) = item
                && item.content.is_none()
                && !is_test(&item.attrs)
            {
                self.children.push(item.ident.to_string());
            }
        }
        syn::visit::visit_file(self, file);
    }

    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[Attribute] = match item {
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            _ => &[],
        };
        if !is_test(attributes) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.take(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> =
            path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        match self.absolute(&segments) {
            Some(path) => {
                self.source.paths.insert(path);
            }
            None => {
                self.source.words.insert(segments);
            }
        }
        syn::visit::visit_path(self, path);
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_are_a_stack_and_files_import_each_other_in_no_cycle() {
        let host = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../host"));
        let crates = Crate::all(host).unwrap();
        assert!(floors(&crates).len() > 5);
        let found: Vec<_> = crates
            .iter()
            .flat_map(|of| cycles(&of.imports).into_iter().map(move |cycle| (of, cycle)))
            .flat_map(|(of, cycle)| {
                of.describe(&cycle).map(|arrow| format!("{}: {arrow}", of.name)).collect::<Vec<_>>()
            })
            .collect();
        assert!(found.is_empty(), "imports in a cycle:\n{}", found.join("\n"));
    }

    /// Longer than that, a file is about several things.
    const MAX_LINES: usize = 600;

    /// The source files below a folder.
    fn sources(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
        let of_others = ["target", "node_modules"];
        let below =
            folders.iter().filter(|path| !of_others.iter().any(|name| path.ends_with(name)));
        let below = below.flat_map(|folder| sources(folder));
        let is_source =
            |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
        files.into_iter().filter(is_source).chain(below).collect()
    }

    #[test]
    fn no_file_is_too_long() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let files =
            ["guest", "host", "tests"].iter().flat_map(|folder| sources(&root.join(folder)));
        // Generated from the interface.
        let written = files.filter(|path| !path.ends_with("guest/sdk/src/bindings.rs"));
        let long: Vec<_> = written
            .map(|path| (fs::read_to_string(&path).unwrap().lines().count(), path))
            .filter(|(lines, _)| *lines > MAX_LINES)
            .collect();
        assert!(long.is_empty(), "longer than {MAX_LINES} lines: {long:?}");
    }

    fn crate_of(files: &[(&str, &str)]) -> Imports {
        let dir =
            std::env::temp_dir().join(format!("graph-{}-{}", std::process::id(), files[0].1.len()));
        fs::create_dir_all(dir.join("src")).unwrap();
        fs::write(dir.join("Cargo.toml"), "[package]\nname = \"one\"\n").unwrap();
        for (file, source) in files {
            fs::write(dir.join("src").join(file), source).unwrap();
        }
        let of = Crate::read(&dir);
        fs::remove_dir_all(&dir).unwrap();
        of.unwrap().imports
    }

    #[test]
    fn a_cycle_through_a_re_export_is_found_and_one_in_a_test_is_not() {
        let root = "mod a; mod b; mod c; pub use b::B;";
        let a = "use crate::B; pub struct A(B);";
        let c = "pub struct C; #[cfg(test)] mod tests { use crate::a::A; }";
        let files = |b| [("lib.rs", root), ("a.rs", a), ("b.rs", b), ("c.rs", c)];
        assert!(cycles(&crate_of(&files("use super::c::C; pub struct B(C);"))).is_empty());
        let imports = crate_of(&files("pub fn b() { let _: crate::a::A; } pub struct B;"));
        assert_eq!(cycles(&imports).len(), 1);
        assert!(imports[&vec!["a".to_owned()]].contains_key(&vec!["b".to_owned()]));
    }
}
