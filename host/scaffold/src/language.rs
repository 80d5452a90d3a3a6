//! Languages, and the files that an agent has in each.

use clap::ValueEnum;

/// What an agent is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// JavaScript.
    Js,
    /// TypeScript: the types are stripped, nothing is compiled.
    Ts,
    /// Python.
    Python,
    /// Rust, compiled by cargo to a component.
    Rust,
}

/// A file of a tree: its path, with `/`, and its text, with `{{…}}` where a name belongs.
pub(crate) type Template = (&'static str, &'static str);

/// The types of the SDK that the runner has built in, for editors.
const TYPES: Template = ("bulkhead.d.ts", include_str!("../../../guest/runners/js/sdk/agent.d.ts"));

const CONFIG: Template = ("bulkhead.toml", include_str!("../templates/common/bulkhead.toml"));
const README: Template = ("README.md", include_str!("../templates/common/README.md"));
const TEST: Template = ("tests/talk.toml", include_str!("../templates/common/tests/talk.toml"));
const GITIGNORE: Template = (".gitignore", include_str!("../templates/common/gitignore"));

const JS: &[Template] = &[
    ("agent.js", include_str!("../templates/js/agent.js")),
    TYPES,
    ("jsconfig.json", include_str!("../templates/js/jsconfig.json")),
    CONFIG,
    TEST,
    README,
    GITIGNORE,
];

const TS: &[Template] = &[
    ("agent.ts", include_str!("../templates/ts/agent.ts")),
    TYPES,
    ("tsconfig.json", include_str!("../templates/ts/tsconfig.json")),
    CONFIG,
    TEST,
    README,
    GITIGNORE,
];

const PYTHON: &[Template] =
    &[("agent.py", include_str!("../templates/python/agent.py")), CONFIG, TEST, README, GITIGNORE];

const RUST: &[Template] = &[
    ("src/lib.rs", include_str!("../templates/rust/src/lib.rs")),
    // Not under its own name: cargo would take the template for a package, and leave it out of this one.
    ("Cargo.toml", include_str!("../templates/rust/manifest.toml")),
    (".cargo/config.toml", include_str!("../templates/rust/cargo/config.toml")),
    CONFIG,
    TEST,
    ("README.md", include_str!("../templates/rust/README.md")),
    (".gitignore", include_str!("../templates/rust/gitignore")),
];

impl Language {
    /// All files of an agent.
    pub(crate) fn templates(self) -> &'static [Template] {
        match self {
            Self::Js => JS,
            Self::Ts => TS,
            Self::Python => PYTHON,
            Self::Rust => RUST,
        }
    }

    /// The file that the author edits.
    pub(crate) fn entry(self) -> &'static str {
        self.templates()[0].0
    }

    /// What the configuration says of the agent's code, up to the other keys of its role.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Js | Self::Ts | Self::Python => include_str!("../templates/common/source.toml"),
            Self::Rust => include_str!("../templates/common/component.toml"),
        }
    }
}
