//! Which peers are on this machine: where `just peers` puts them, else on the path.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::files;

/// Below the target directory, outside the sources.
const DIR: &str = "peers";

pub struct Tools {
    pub node: Option<PathBuf>,
    pub python: Option<PathBuf>,
    pub bun: Option<PathBuf>,
    pub pm2: Option<PathBuf>,
    pub supervisord: Option<PathBuf>,
    pub supervisorctl: Option<PathBuf>,
    pub wasmtime: Option<PathBuf>,
    /// What node, bun, pm2 and supervisord run.
    pub agent: PathBuf,
    /// What `wasmtime serve` runs.
    pub proxy: Option<PathBuf>,
}

impl Tools {
    pub fn find() -> Self {
        let dir = files::component("echo").ancestors().nth(3).expect("target").join(DIR);
        let proxy = files::component("echo").with_file_name("echo_proxy.wasm");
        Self {
            node: tool(&dir, "node/bin", "node"),
            python: tool(&dir, "python/bin", "python3"),
            bun: tool(&dir, "node/node_modules/.bin", "bun"),
            pm2: tool(&dir, "node/node_modules/.bin", "pm2"),
            supervisord: tool(&dir, "python/bin", "supervisord"),
            supervisorctl: tool(&dir, "python/bin", "supervisorctl"),
            wasmtime: tool(&dir, "wasmtime/bin", "wasmtime"),
            agent: files::root().join("tests/bench/peers/agent.mjs"),
            proxy: proxy.is_file().then_some(proxy),
        }
    }

    /// A line for each: its version, or that it is not there.
    pub fn describe(&self) -> Vec<String> {
        let tools = [
            ("node", &self.node, "--version"),
            ("python", &self.python, "--version"),
            ("bun", &self.bun, "--version"),
            ("pm2", &self.pm2, ""),
            ("supervisord", &self.supervisord, "--version"),
            ("wasmtime", &self.wasmtime, "--version"),
        ];
        let lines_of = tools.into_iter().map(|(name, path, argument)| match path {
            None => format!("peer {name}: not there, not measured (run `just peers`)"),
            // Asked for its version, pm2 starts its daemon.
            Some(path) if argument.is_empty() => format!("peer {name} {}", package_version(path)),
            Some(path) => format!("peer {name} {}", version(path, argument)),
        });
        let mut lines: Vec<_> = lines_of.collect();
        if self.proxy.is_none() {
            lines.push("echo-proxy: not built, `wasmtime serve` is not measured".into());
        }
        lines
    }
}

fn tool(dir: &Path, below: &str, name: &str) -> Option<PathBuf> {
    let paths = env::var_os("PATH").unwrap_or_default();
    let dirs = [dir.join(below)].into_iter().chain(env::split_paths(&paths));
    dirs.map(|dir| dir.join(name)).find(|path| path.is_file())
}

fn version(path: &Path, argument: &str) -> String {
    let output = Command::new(path).arg(argument).stderr(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    text.lines().next().unwrap_or("of unknown version").to_owned()
}

/// Of an npm package, by its link in `.bin`.
fn package_version(path: &Path) -> String {
    let package = path.canonicalize().ok().and_then(|path| {
        let dir = path.parent()?.parent()?;
        let text = std::fs::read_to_string(dir.join("package.json")).ok()?;
        let package: serde_json::Value = serde_json::from_str(&text).ok()?;
        Some(package["version"].as_str()?.to_owned())
    });
    package.unwrap_or_else(|| "of unknown version".into())
}
