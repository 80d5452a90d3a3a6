//! The launcher of native programs, and the thread that talks to it.

use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use bulkhead_runtime::Tools;
use bulkhead_supervisor::Role;
use bulkhead_tools::{Cgroup, Identity, Launcher};
use bulkhead_types::event::ToolSandbox;

use crate::config::{Settings, ToolSettings};
use crate::exit::Exit;
use crate::failure::Failure;

/// The command of this program that is the launcher.
pub const COMMAND: &str = "launch-tools";

/// It has one thread, so that it can clone itself, and a small heap.
const HEAP: [(&str, &str); 1] = [("_RJEM_MALLOC_CONF", "narenas:1,background_thread:false")];

/// The only variable of the host's environment that it gets, so that it finds the libraries that the host found.
const KEPT: &str = "LD_LIBRARY_PATH";

/// Directories and files of a user in a sandbox, where nothing else is writable but the workspace.
const HOME: &str = "/tmp";

/// Time for the launcher to end all programs and itself.
const ENDING: Duration = Duration::from_secs(5);

/// Said when the launcher is gone while the host is not.
const GONE: &str =
    "the launcher of tools is gone: agents run no programs until the host is restarted";

/// Starts the launcher, if some role lists programs or works on repositories. Call it before this process has threads, and before it confines
/// itself, which the launcher would inherit.
pub fn start(settings: &Settings) -> Result<Option<Launcher>, Failure> {
    let is_idle = |role: &Role| role.tools.is_none() && role.git.is_none();
    if settings.catalog.roles.values().all(is_idle) {
        return Ok(None);
    }
    let failed = |error: &dyn std::error::Error| {
        let message = format!("cannot start the launcher of tools: {error}");
        Failure::new(Exit::CannotRun, message)
    };
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let ToolSettings { path, read, require, .. } = &settings.tools;
    let settings = bulkhead_tools::Settings {
        read_only: path.iter().chain(read).cloned().collect(),
        require: require.clone(),
        ..bulkhead_tools::Settings::default()
    };
    let mut command = Command::new(program);
    command.arg(COMMAND).env_clear().envs(HEAP);
    if let Some(value) = std::env::var_os(KEPT) {
        command.env(KEPT, value);
    }
    let launcher = Launcher::start(command, &settings);
    launcher.map(Some).map_err(|error| failed(&error))
}

/// What of the sandbox there is here.
pub fn sandbox(launcher: &Launcher) -> ToolSandbox {
    let layers = launcher.layers();
    ToolSandbox {
        cgroup: match layers.cgroup {
            Cgroup::V2 => "v2",
            Cgroup::V1 => "v1",
            Cgroup::Rlimits => "none",
        },
        pid_namespace: layers.pid_namespace,
        mount_namespace: layers.mount_namespace,
        network_namespace: layers.network_namespace,
        identity: match layers.identity {
            Identity::OwnUid => "own_uid",
            Identity::UserNamespace => "user_namespace",
            Identity::HostUid => "host_uid",
        },
        landlock: layers.landlock.clone(),
        seccomp: layers.seccomp,
    }
}

/// The thread that talks to the launcher.
pub struct ToolThread(Receiver<()>);

impl ToolThread {
    /// Starts it.
    pub fn start(
        launcher: Launcher,
        settings: &ToolSettings,
    ) -> std::io::Result<(bulkhead_runtime::Tools, Self)> {
        let (ends, ended) = sync_channel::<()>(0);
        let (connects, connected) = sync_channel(1);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        thread::Builder::new().name("bulkhead-tools".into()).spawn(move || {
            runtime.block_on(async {
                match launcher.connect() {
                    Ok((tools, driver)) => {
                        let _ = connects.send(Ok(tools));
                        if let Err(error) = driver.await {
                            tracing::error!(%error, "{GONE}");
                        }
                    }
                    Err(error) => drop(connects.send(Err(error))),
                }
            });
            drop(ends);
        })?;
        let gone = || std::io::Error::other("its thread ended");
        let launcher = connected.recv().map_err(|_| gone())??;
        Ok((Tools { launcher, env: environment(settings).into() }, Self(ended)))
    }

    /// Waits until the launcher has ended, and with it all programs. Agents that run programs have to be gone.
    pub fn end(self) {
        if self.0.recv_timeout(ENDING) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the launcher of tools has not ended in {ENDING:?}");
        }
    }
}

/// What every program has in its environment, unless its agent says otherwise.
fn environment(settings: &ToolSettings) -> Vec<(String, String)> {
    let path: Vec<_> = settings.path.iter().map(|dir| dir.display().to_string()).collect();
    let own = [("PATH", path.join(":")), ("HOME", HOME.into()), ("TMPDIR", "/tmp".into())];
    let own = own.into_iter().chain([("LANG", "C.UTF-8".into())]);
    let mut all = settings.env.clone();
    for (name, value) in own {
        all.entry(name.to_owned()).or_insert(value);
    }
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_wins_over_what_programs_have_anyway() {
        let settings = ToolSettings {
            path: vec!["/a".into(), "/b".into()],
            env: [("HOME".to_owned(), "/h".to_owned()), ("X".into(), "y".into())].into(),
            ..ToolSettings::default()
        };
        let env = environment(&settings);
        let value = |name: &str| env.iter().find(|(it, _)| it == name).map(|(_, value)| &**value);
        assert_eq!(
            (value("PATH"), value("HOME"), value("X")),
            (Some("/a:/b"), Some("/h"), Some("y"))
        );
        assert_eq!(value("TMPDIR"), Some("/tmp"));
    }
}
