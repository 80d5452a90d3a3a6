//! Every key of the configuration file, as one table: name, default, environment variable, whether it is a secret,
//! and what it does.
//!
//! ```text
//!            ┌──► env::apply                     reads the variables
//! SECTIONS ──┼──► help                           the "Environment" part of `bulkhead --help`
//!            └──► docs/configuration.md          compared by a test, rewritten with UPDATE_EXPECT=1
//! ```
//!
//! Tests keep the table and `file` in agreement: each key that the file accepts has a row and the reverse, and each
//! default of a row is the default that holds without it.

mod agents;
mod evidence;
mod host;
mod lease;
mod limits;
mod ship;

#[cfg(test)]
mod document;

use std::fmt::Write as _;
use std::path::PathBuf;

use super::file::{File, FromEnvironment};

/// A table of the file.
pub struct Section {
    /// As the key of the file names it: `server`, `roles`.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the page that a test writes"))]
    pub name: &'static str,
    /// The table that variables and credentials are for: of a table of tables, one of them.
    pub of_variables: &'static str,
    pub keys: &'static [Key],
}

const fn section(name: &'static str, keys: &'static [Key]) -> Section {
    Section { name, of_variables: name, keys }
}

/// A key of a table.
pub struct Key {
    pub name: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "for the page that a test writes"))]
    pub default: Default,
    pub variable: Option<Variable>,
    /// One paragraph of Markdown for a cell of the page.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the page that a test writes"))]
    pub prose: &'static str,
}

/// The value of a key that the file does not have.
#[cfg_attr(not(test), expect(dead_code, reason = "for the page that a test writes"))]
pub enum Default {
    /// A value, in TOML.
    Toml(&'static str),
    /// Depends on something else, in words.
    Words(&'static str),
    /// The key must be present.
    Required,
}

/// The environment variable that overrides a key.
pub struct Variable {
    pub name: &'static str,
    pub read: Read,
}

/// How the value of a variable gets into the file. An error says what is wrong, without the variable's name.
pub enum Read {
    Text(fn(&mut File, String) -> Result<(), String>),
    Path(fn(&mut File, PathBuf)),
    /// Also from the file that `NAME_FILE` names, and from systemd's credential of this name. Never shown.
    Secret {
        credential: &'static str,
        set: fn(&mut File, FromEnvironment) -> Result<(), String>,
    },
}

impl Variable {
    pub fn is_secret(&self) -> bool {
        matches!(self.read, Read::Secret { .. })
    }
}

impl Key {
    const fn new(name: &'static str, default: Default, prose: &'static str) -> Self {
        Self { name, default, variable: None, prose }
    }

    /// A variable with plain text.
    const fn text(
        self,
        name: &'static str,
        read: fn(&mut File, String) -> Result<(), String>,
    ) -> Self {
        self.variable(name, Read::Text(read))
    }

    const fn variable(self, name: &'static str, read: Read) -> Self {
        Self { variable: Some(Variable { name, read }), ..self }
    }
}

/// A key with a default, written in TOML.
const fn key(name: &'static str, default: &'static str, prose: &'static str) -> Key {
    Key::new(name, Default::Toml(default), prose)
}

/// A key whose default depends on something else.
const fn derived(name: &'static str, default: &'static str, prose: &'static str) -> Key {
    Key::new(name, Default::Words(default), prose)
}

const fn required(name: &'static str, prose: &'static str) -> Key {
    Key::new(name, Default::Required, prose)
}

/// All tables of the file. Variables are read in this order: an address comes before the secret for it.
pub const SECTIONS: &[Section] = &[
    section("server", host::SERVER),
    section("town", host::TOWN),
    section("log", host::LOG),
    section("state", host::STATE),
    section("engine", host::ENGINE),
    section("evidence", evidence::EVIDENCE),
    section("lease", lease::LEASE),
    section("ship", ship::SHIP),
    section("security", host::SECURITY),
    section("tools", host::TOOLS),
    section("workspaces", host::WORKSPACES),
    section("signals", host::SIGNALS),
    section("limits", limits::LIMITS),
    section("memory", limits::MEMORY),
    section("budget", limits::BUDGET),
    Section { name: "models", of_variables: "models.default", keys: agents::MODELS },
    section("secrets", agents::SECRETS),
    section("rigs", agents::RIGS),
    section("registries", agents::REGISTRIES),
    section("components", agents::COMPONENTS),
    section("roles", agents::ROLES),
    section("agents", agents::AGENTS),
];

/// An argument of `bulkhead run` that has a variable and no key: the init process reads no file.
pub struct Argument {
    pub option: &'static str,
    pub variable: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "for the page that a test writes"))]
    pub default: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "for the page that a test writes"))]
    pub prose: &'static str,
}

/// All of them.
pub const ARGUMENTS: &[Argument] = &[
    Argument {
        option: "--config",
        variable: "BULKHEAD_CONFIG",
        default: "bulkhead.toml",
        prose: "the configuration file",
    },
    Argument {
        option: "--supervise",
        variable: "BULKHEAD_SUPERVISE",
        default: "false",
        prose: "run the supervisor as a child process and restart it when it crashes",
    },
    Argument {
        option: "--max-restarts",
        variable: "BULKHEAD_MAX_RESTARTS",
        default: "5",
        prose: "crashes within the window that are followed by a restart. One more ends the init process with exit code 5",
    },
    Argument {
        option: "--restart-window-ms",
        variable: "BULKHEAD_RESTART_WINDOW_MS",
        default: "60000",
        prose: "the window. The first restart is immediate; the backoff of later ones starts at 100 ms and doubles up to 5 s",
    },
    Argument {
        option: "--wait-for-state",
        variable: "BULKHEAD_WAIT_FOR_STATE",
        default: "0s",
        prose: "how long `bulkhead run` waits for a state directory that another host has locked (`500ms`, `60s`, `2m`, \
                at most a day). For updates that start the new host before the old one has ended. stderr names the \
                process that holds the lock. A signal ends the wait",
    },
];

/// A variable that has neither a key nor an argument.
pub struct Environment {
    pub variables: &'static str,
    /// For `--help`.
    pub summary: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "for the page that a test writes"))]
    pub prose: &'static str,
}

/// All of them that a person may set.
pub const ENVIRONMENT: &[Environment] = &[
    Environment {
        variables: "BULKHEAD_PREVIOUS_EXIT",
        summary: "how the previous container ended, as JSON",
        prose: "how the previous container ended, as JSON; see [below](#the-previous-exit-seen-from-outside)",
    },
    Environment {
        variables: "CREDENTIALS_DIRECTORY",
        summary: "systemd's directory of credentials",
        prose: "systemd's directory of credentials; see [Secrets](#secrets)",
    },
    Environment {
        variables: "BULKHEAD_TERMINATION_LOG",
        summary: "file for the reason of this container's end",
        prose: "the file that gets the reason of this container's end, if it exists: the `terminationMessagePath` of \
                Kubernetes, by default `/dev/termination-log`; see [operating.md](operating.md#evidence)",
    },
    Environment {
        variables: "AWS_REGION, AWS_ACCESS_KEY_ID, ...",
        summary: "AWS's own variables, for a sink of evidence in S3",
        prose: "AWS's own variables, for a sink of evidence in S3; see [Evidence](#evidence)",
    },
    Environment {
        variables: "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY",
        summary: "proxies",
        prose: "proxies; see [Outgoing requests](#outgoing-requests)",
    },
    Environment {
        variables: "SSL_CERT_FILE, SSL_CERT_DIR",
        summary: "CA certificates to trust instead of the public CAs",
        prose: "CA certificates to trust instead of the public CAs; see [Outgoing requests](#outgoing-requests)",
    },
    Environment {
        variables: "BULKHEAD_URL",
        summary: "address of the host that the client commands call",
        prose: "address of the host that the client commands call. They also read `BULKHEAD_CONFIG`, `BULKHEAD_LISTEN`, \
                `BULKHEAD_STATE_DIR`, `BULKHEAD_CONTROL_TOKEN` and `BULKHEAD_CONTROL_TOKEN_FILE`",
    },
    Environment {
        variables: "NO_COLOR",
        summary: "no colours on a terminal",
        prose: "no colours on a terminal; `--color always` overrides it",
    },
];

/// The "Environment" part of `bulkhead --help`.
pub fn help() -> String {
    const WIDTH: usize = 28;
    let mut text =
        "Environment variables that override a key of the configuration file:\n".to_owned();
    let keys = SECTIONS.iter().flat_map(|section| {
        section.keys.iter().filter_map(move |key| Some((section, key, key.variable.as_ref()?)))
    });
    for (section, key, variable) in keys {
        let also =
            if variable.is_secret() { "; with _FILE appended: the file that holds it" } else { "" };
        let (name, table) = (variable.name, section.of_variables);
        let _ = writeln!(text, "  {name:WIDTH$}{table}.{}{also}", key.name);
    }
    text.push_str("\nEnvironment variables that set an option of the command line:\n");
    for Argument { option, variable, .. } in ARGUMENTS {
        let _ = writeln!(text, "  {variable:WIDTH$}{option}");
    }
    text.push_str("\nOther environment variables:\n");
    for Environment { variables, summary, .. } in ENVIRONMENT {
        if variables.len() < WIDTH {
            let _ = writeln!(text, "  {variables:WIDTH$}{summary}");
        } else {
            let _ = writeln!(text, "  {variables}\n  {:WIDTH$}{summary}", "");
        }
    }
    text.truncate(text.trim_end().len());
    text
}
