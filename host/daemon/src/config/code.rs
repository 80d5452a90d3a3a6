//! What the agents of a role are made from: a component, or source code and the runner for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bulkhead_source::{Language, SourceCode};
use toml::Spanned;

use super::file;
use super::problem::{Problem, known};

/// How the names of runners begin, among those of components.
const RUNNER: &str = "runner-";

/// Where runners are, seen from the directory of this program: beside it, or where packages put them.
const RUNNERS: [&str; 2] = ["runners", "../lib/bulkhead/runners"];

/// A role's component, by its name in `components`, and the source code that it runs. A runner that the configuration
/// does not name is added there.
pub(super) fn of_role(
    name: &str,
    role: &file::Role,
    components: &mut BTreeMap<Arc<str>, PathBuf>,
    base: &Path,
) -> Result<(Arc<str>, Option<SourceCode>), Problem> {
    match (&role.component, &role.source) {
        (Some(component), None) if role.runner.is_none() => {
            Ok((component_of(name, component, components)?, None))
        }
        (None, Some(source)) => {
            let path = base.join(source.get_ref());
            let language = language(name, role, &path, source)?;
            let runner = runner(language, components);
            Ok((runner, Some(SourceCode { path, language })))
        }
        (Some(_), Some(source)) => {
            let message = "and component are both set: a role has one of them".to_owned();
            Err(Problem::at(source.span(), format!("roles.{name}.source"), message))
        }
        (_, None) => match &role.runner {
            Some(runner) => {
                let message = "is of no use without `source`".to_owned();
                Err(Problem::at(runner.span(), format!("roles.{name}.runner"), message))
            }
            None => {
                let message = "is missing: a role has `component` or `source`".to_owned();
                Err(Problem::at(0..0, format!("roles.{name}.component"), message))
            }
        },
    }
}

fn component_of(
    role: &str,
    wanted: &Spanned<String>,
    components: &BTreeMap<Arc<str>, PathBuf>,
) -> Result<Arc<str>, Problem> {
    if let Some((component, _)) = components.get_key_value(wanted.get_ref().as_str()) {
        return Ok(Arc::clone(component));
    }
    let known = known(components.keys());
    let wanted_name = wanted.get_ref();
    let message = format!("there is no [components.{wanted_name}]; the configuration has {known}");
    Err(Problem { key: format!("roles.{role}.component"), message, span: wanted.span() })
}

/// What the source code is written in: as the role says, else as its name or what is in its directory says.
fn language(
    name: &str,
    role: &file::Role,
    path: &Path,
    source: &Spanned<PathBuf>,
) -> Result<Language, Problem> {
    if let Some(runner) = &role.runner {
        return Language::of_name(runner.get_ref()).ok_or_else(|| {
            let known = Language::ALL.map(Language::as_str).join(", ");
            let message = format!("there is no runner {:?}; there are {known}", runner.get_ref());
            Problem::at(runner.span(), format!("roles.{name}.runner"), message)
        });
    }
    Language::of_path(path).ok_or_else(|| {
        let endings =
            Language::ALL.map(|it| format!("{} ({})", it.as_str(), it.extensions().join(", ")));
        let message = format!(
            "{} does not say what it is written in; set `runner` to one of {}",
            source.get_ref().display(),
            endings.join(", ")
        );
        Problem::at(source.span(), format!("roles.{name}.source"), message)
    })
}

/// The component that runs a language.
fn runner(language: Language, components: &mut BTreeMap<Arc<str>, PathBuf>) -> Arc<str> {
    let name: Arc<str> = format!("{RUNNER}{}", language.as_str()).into();
    components.entry(Arc::clone(&name)).or_insert_with(|| shipped(language));
    name
}

/// The runner that came with this program. If there is none, where it would be.
fn shipped(language: Language) -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let dir = program.parent().unwrap_or(Path::new("."));
    let [beside, packaged] =
        RUNNERS.map(|dirs| dir.join(dirs).join(format!("{}.wasm", language.as_str())));
    if !beside.exists() && packaged.exists() { packaged } else { beside }
}

/// The runners of the configuration that came with no program: their names and where they would be.
pub fn missing_runners(
    components: &BTreeMap<Arc<str>, PathBuf>,
) -> impl Iterator<Item = (&Arc<str>, &PathBuf)> {
    components.iter().filter(|(name, path)| name.starts_with(RUNNER) && !path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(role: &str) -> Result<(Arc<str>, Option<SourceCode>), String> {
        let role: file::Role = toml::from_str(role).unwrap();
        let mut components = BTreeMap::from([("echo".into(), "echo.wasm".into())]);
        let code = of_role("r", &role, &mut components, Path::new("/etc/town"));
        let code = code.map_err(|problem| format!("{} {}", problem.key, problem.message))?;
        assert!(components.contains_key(&code.0));
        Ok(code)
    }

    #[test]
    fn a_role_is_made_from_a_component_or_from_source_code() {
        assert_eq!(code_of("component = \"echo\"").unwrap(), ("echo".into(), None));
        for (role, runner, language) in [
            ("source = \"agents/toast.js\"", "runner-js", Language::JavaScript),
            ("source = \"agents/toast.ts\"", "runner-js", Language::JavaScript),
            ("source = \"toast.py\"", "runner-python", Language::Python),
            ("source = \"toast\"\nrunner = \"python\"", "runner-python", Language::Python),
        ] {
            let (component, source) = code_of(role).unwrap();
            let source = source.unwrap();
            assert_eq!((&*component, source.language), (runner, language), "{role}");
            assert!(source.path.starts_with("/etc/town"), "{role}");
        }
        for (role, problem) in [
            ("", "roles.r.component is missing: a role has `component` or `source`"),
            ("component = \"x\"", "roles.r.component there is no [components.x]"),
            (
                "component = \"echo\"\nsource = \"a.js\"",
                "roles.r.source and component are both set",
            ),
            ("component = \"echo\"\nrunner = \"js\"", "roles.r.runner is of no use without"),
            ("source = \"a.rb\"", "roles.r.source a.rb does not say what it is written in"),
            ("source = \"a.js\"\nrunner = \"node\"", "roles.r.runner there is no runner \"node\""),
        ] {
            let error = code_of(role).unwrap_err();
            assert!(error.starts_with(problem), "{role}: {error}");
        }
    }

    #[test]
    fn the_configuration_may_bring_its_own_runner() {
        let mut components = BTreeMap::from([("runner-js".into(), PathBuf::from("own.wasm"))]);
        runner(Language::JavaScript, &mut components);
        assert_eq!(components["runner-js"], Path::new("own.wasm"));
        assert_eq!(missing_runners(&components).count(), 1);
    }
}
