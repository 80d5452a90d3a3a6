//! Native programs that agents run: `[tools]`, and what a role says about them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bulkhead_tools::Layer;
use bulkhead_types::{ToolLimits, ToolRules};
use toml::Spanned;

use super::file::{self, set_ms};
use super::problem::Problem;

/// Where programs are looked for when the configuration says nothing.
const PATH: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// Tools that one agent may run at a time when its role says nothing.
const PARALLEL: usize = 4;

/// What programs of agents have in common.
#[derive(Debug, Clone, Default)]
pub struct ToolSettings {
    /// Directories in which programs are looked for, by the host and by the programs themselves.
    pub path: Vec<PathBuf>,
    /// What tools read beside the system's directories and `path`.
    pub read: Vec<PathBuf>,
    /// Their environment.
    pub env: BTreeMap<String, String>,
    /// Layers of the sandbox without which the host does not run.
    pub require: Vec<Layer>,
}

/// Checks `[tools]`.
pub(super) fn check_tools(tools: file::Tools) -> Result<ToolSettings, Problem> {
    let path = match tools.path {
        None => PATH.map(PathBuf::from).into(),
        Some(path) => absolute("path", path)?,
    };
    if let Some(name) = tools.env.keys().find(|name| name.is_empty() || name.contains(['=', '\0']))
    {
        let message = format!("{name:?} is no name of a variable");
        return Err(Problem::at(0..0, format!("tools.env.{name}"), message));
    }
    let read = absolute("read", tools.read)?;
    Ok(ToolSettings { path, read, env: tools.env, require: tools.require })
}

fn absolute(key: &str, list: Vec<Spanned<PathBuf>>) -> Result<Vec<PathBuf>, Problem> {
    let check = |(index, given): (usize, Spanned<PathBuf>)| {
        if given.get_ref().is_absolute() {
            return Ok(given.into_inner());
        }
        let message = format!("{} is not an absolute path", given.get_ref().display());
        Err(Problem::at(given.span(), format!("tools.{key}[{index}]"), message))
    };
    list.into_iter().enumerate().map(check).collect()
}

/// What a role says about tools. `None`: its agents run none.
pub(super) fn rules(
    name: &str,
    role: &file::Role,
    tools: &ToolSettings,
) -> Result<Option<Arc<ToolRules>>, Problem> {
    let Some(first) = role.tools.first() else { return Ok(None) };
    if !role.workspace {
        let message = "tools work in a workspace, and this role has workspace = false".to_owned();
        return Err(Problem::at(first.span(), format!("roles.{name}.tools"), message));
    }
    let mut programs = BTreeMap::new();
    for (index, given) in role.tools.iter().enumerate() {
        let found = find(given.get_ref(), &tools.path).map_err(|message| {
            Problem::at(given.span(), format!("roles.{name}.tools[{index}]"), message)
        })?;
        programs.extend(found);
    }
    let mut limits = ToolLimits::default();
    if let Some(mb) = role.tool_memory_mb {
        limits.memory_bytes = mb.mebibytes();
    }
    set_ms(&mut limits.wall, role.tool_wall_ms);
    set_ms(&mut limits.cpu, role.tool_cpu_ms);
    if let Some(pids) = role.tool_pids {
        limits.pids = u32::try_from(pids.0).unwrap_or(u32::MAX);
    }
    if let Some(mb) = role.tool_output_mb {
        limits.output_bytes = mb.0.saturating_mul(1024 * 1024);
    }
    let parallel = role.tools_parallel.map_or(PARALLEL, file::Count::as_usize);
    Ok(Some(Arc::new(ToolRules { programs, limits, parallel, network: role.tool_network })))
}

/// The programs that an entry of the list stands for: a name, the path of a program, or a directory of them.
fn find(entry: &str, path: &[PathBuf]) -> Result<Vec<(Arc<str>, PathBuf)>, String> {
    if !entry.contains('/') {
        let found = path.iter().map(|dir| dir.join(entry)).find(|file| is_program(file));
        return match found {
            Some(file) if !entry.is_empty() => Ok(vec![(entry.into(), file)]),
            _ => Err(format!("there is no program {entry:?} in {}", shown(path))),
        };
    }
    let given = Path::new(entry);
    if !given.is_absolute() {
        return Err(format!("{entry:?} is neither a name nor an absolute path"));
    }
    if given.is_dir() {
        return programs_in(given).map_err(|error| format!("cannot read {entry}: {error}"));
    }
    match given.file_name().and_then(|name| name.to_str()) {
        Some(name) if is_program(given) => Ok(vec![(name.into(), given.to_owned())]),
        _ => Err(format!("{entry} is no program: no such file, or not executable")),
    }
}

/// The programs in a directory that have a name in UTF-8.
fn programs_in(dir: &Path) -> std::io::Result<Vec<(Arc<str>, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str())
            && is_program(&path)
        {
            found.push((name.into(), path));
        }
    }
    Ok(found)
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

fn shown(path: &[PathBuf]) -> String {
    let dirs: Vec<_> = path.iter().map(|dir| dir.display().to_string()).collect();
    if dirs.is_empty() { "tools.path, which is empty".to_owned() } else { dirs.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> Vec<PathBuf> {
        PATH.map(PathBuf::from).into()
    }

    #[test]
    fn a_name_is_looked_for_in_the_path() {
        let found = find("sh", &path()).unwrap();
        assert_eq!(&*found[0].0, "sh");
        assert!(found[0].1.is_absolute() && found[0].1.ends_with("sh"));
        let error = find("no-such-program", &path()).unwrap_err();
        assert!(error.contains("no-such-program") && error.contains("/usr/bin"), "{error}");
        assert!(find("", &path()).is_err());
        assert!(find("sh", &[]).unwrap_err().contains("empty"));
    }

    #[test]
    fn a_path_is_a_program_or_a_directory_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        fs::write(&file, "").unwrap();
        fs::write(dir.path().join("no-program"), "").unwrap();
        let shown = file.to_str().unwrap();
        assert!(find(shown, &[]).unwrap_err().contains("not executable"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let one: Vec<(Arc<str>, PathBuf)> = vec![("x".into(), file.clone())];
        assert_eq!(find(shown, &[]).unwrap(), one);
        assert_eq!(find(dir.path().to_str().unwrap(), &[]).unwrap(), one);
        assert!(find("a/relative/path", &[]).unwrap_err().contains("absolute"));
    }
}
