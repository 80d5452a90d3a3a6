//! What a person at a terminal is shown first: where the host is, and what to type next.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bulkhead_net::reachable;
use bulkhead_terminal::{Access, Banner};

use crate::config::Settings;
use crate::control_token::Made;

/// The configuration file that the commands take by themselves.
const DEFAULT_CONFIG: &str = "bulkhead.toml";

/// What stands on the screen before the first line of the log.
pub fn banner(settings: &Settings, listen: SocketAddr, token: &Made, earlier: usize) -> Banner {
    let url = format!("http://{}", reachable(listen));
    Banner {
        version: env!("CARGO_PKG_VERSION").into(),
        console: Some(console(&url)),
        url,
        state: settings.state_dir.display().to_string(),
        configured: settings.agents.len(),
        earlier,
        access: match token {
            Made::InFile(file) => Access::TokenInFile(file.display().to_string()),
            Made::Unknown(_) => Access::Closed,
            Made::NotNeeded if settings.control.token.is_none() => Access::Open,
            Made::NotNeeded => Access::TokenConfigured,
        },
        setup: setup(settings, listen),
        commands: commands(settings),
    }
}

/// The page of the console.
fn console(url: &str) -> String {
    format!("{url}/console")
}

/// What another terminal has to set so that the commands find this host.
fn setup(settings: &Settings, listen: SocketAddr) -> Option<String> {
    let mut variables = Vec::new();
    let mut set = |name: &str, value: &str| variables.push(format!("{name}={}", in_a_shell(value)));
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if settings.config_file != Path::new(DEFAULT_CONFIG) {
        set("BULKHEAD_CONFIG", &absolute(&settings.config_file).to_string_lossy());
    }
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if settings.is_moved || is_set("BULKHEAD_LISTEN") {
        set("BULKHEAD_LISTEN", &listen.to_string());
    }
    if is_set("BULKHEAD_STATE_DIR") {
        set("BULKHEAD_STATE_DIR", &absolute(&settings.state_dir).to_string_lossy());
    }
    if let Some(dir) = not_in_path() {
        variables.push(format!("PATH={}:$PATH", in_a_shell(&dir.to_string_lossy())));
    }
    (!variables.is_empty()).then(|| format!("export {}", variables.join(" ")))
}

/// The directory of this program, when a shell would not find it by its name.
fn not_in_path() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|dir| dir.join("bulkhead"));
    let is_found = found.any(|file| file.canonicalize().is_ok_and(|file| file == program));
    if is_found { None } else { program.parent().map(Path::to_owned) }
}

/// What to type next, for the first agent or the first role.
fn commands(settings: &Settings) -> Vec<String> {
    let mut commands = vec!["bulkhead ps".to_owned()];
    let first = settings.agents.first().map(|agent| agent.agent_id.to_string());
    let role = settings.catalog.roles.keys().next();
    match (first, role) {
        (Some(agent), _) => {
            commands.push(format!("bulkhead send {agent} hello --wait 10s"));
            commands.push(format!("bulkhead events {agent} --follow"));
        }
        (None, Some(role)) => {
            commands.push(format!("bulkhead start a1 --role {}", in_a_shell(role)));
            commands.push("bulkhead send a1 hello --wait 10s".to_owned());
        }
        (None, None) => {}
    }
    commands
}

/// A word of a shell.
fn in_a_shell(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:=@%+,".contains(&byte);
    match !word.is_empty() && word.bytes().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_one_word_for_a_shell() {
        assert_eq!(in_a_shell("/opt/town.toml"), "/opt/town.toml");
        assert_eq!(in_a_shell("my town's"), r"'my town'\''s'");
        assert_eq!(in_a_shell("a;b"), "'a;b'");
    }
}
