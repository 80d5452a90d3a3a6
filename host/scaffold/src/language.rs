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
    /// C, compiled by Zig's clang to a component.
    C,
    /// Go, compiled by Go's own compiler to a component.
    Go,
    /// JavaScript, with StarlingMonkey in a component of its own.
    JsComponent,
    /// Python, with CPython in a component of its own.
    PythonComponent,
}

/// A file of a tree: its path, with `/`, and its bytes. Text of this crate has `{{…}}` where a name belongs.
pub(crate) type Template = (&'static str, &'static [u8]);

/// The types of the SDK that the runner has built in, for editors.
const TYPES: Template =
    ("bulkhead.d.ts", include_bytes!("../../../guest/runners/js/sdk/agent.d.ts"));

/// The types of the globals that agents have beside those of the language.
const GLOBALS: Template =
    ("globals.d.ts", include_bytes!("../../../guest/runners/js/sdk/globals.d.ts"));

const CONFIG: Template = ("bulkhead.toml", include_bytes!("../templates/common/bulkhead.toml"));
const README: Template = ("README.md", include_bytes!("../templates/common/README.md"));
const TEST: Template = ("tests/talk.toml", include_bytes!("../templates/common/tests/talk.toml"));
const GITIGNORE: Template = (".gitignore", include_bytes!("../templates/common/gitignore"));

const JS: &[Template] = &[
    ("agent.js", include_bytes!("../templates/js/agent.js")),
    TYPES,
    GLOBALS,
    ("jsconfig.json", include_bytes!("../templates/js/jsconfig.json")),
    CONFIG,
    TEST,
    README,
    GITIGNORE,
];

const TS: &[Template] = &[
    ("agent.ts", include_bytes!("../templates/ts/agent.ts")),
    TYPES,
    GLOBALS,
    ("tsconfig.json", include_bytes!("../templates/ts/tsconfig.json")),
    CONFIG,
    TEST,
    README,
    GITIGNORE,
];

const PYTHON: &[Template] = &[
    ("agent.py", include_bytes!("../templates/python/agent.py")),
    CONFIG,
    TEST,
    README,
    GITIGNORE,
];

const RUST: &[Template] = &[
    ("src/lib.rs", include_bytes!("../templates/rust/src/lib.rs")),
    // Not under its own name: cargo would take the template for a package, and leave it out of this one.
    ("Cargo.toml", include_bytes!("../templates/rust/manifest.toml")),
    (".cargo/config.toml", include_bytes!("../templates/rust/cargo/config.toml")),
    // Beside the SDK's source, which has a manifest for its own workspace.
    ("vendor/bulkhead-guest/Cargo.toml", include_bytes!("../templates/rust/sdk.toml")),
    CONFIG,
    TEST,
    ("README.md", include_bytes!("../templates/rust/README.md")),
    (".gitignore", include_bytes!("../templates/rust/gitignore")),
];

/// What components of languages without a path to WASI 0.2 of their own are made with: the contract, and an adapter from
/// WASI preview 1.
const WIT: Template = ("wit/agent.wit", include_bytes!("../../../wit/agent.wit"));
const WIT_IO: Template = ("wit/deps/io.wit", include_bytes!("../../../wit/deps/io.wit"));
const ADAPTER: Template = (
    "bindings/wasi_snapshot_preview1.wasm",
    wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
);

const MAKE_README: Template = ("README.md", include_bytes!("../templates/common/make.md"));
const MAKE_GITIGNORE: Template =
    (".gitignore", include_bytes!("../templates/common/make.gitignore"));

const C: &[Template] = &[
    ("agent.c", include_bytes!("../templates/c/agent.c")),
    ("Makefile", include_bytes!("../templates/c/Makefile")),
    ("requirements.txt", include_bytes!("../templates/c/requirements.txt")),
    ADAPTER,
    WIT,
    WIT_IO,
    CONFIG,
    TEST,
    MAKE_README,
    MAKE_GITIGNORE,
];

const GO: &[Template] = &[
    ("agent.go", include_bytes!("../templates/go/agent.go")),
    ("go.mod", include_bytes!("../templates/go/module.txt")),
    ("Makefile", include_bytes!("../templates/go/Makefile")),
    ("requirements.txt", include_bytes!("../templates/go/requirements.txt")),
    (
        "bindings/exports/export_bulkhead_agent_lifecycle/lifecycle.go",
        include_bytes!("../templates/go/lifecycle.go"),
    ),
    ("vendor/modules.txt", include_bytes!("../templates/go/vendor/modules.txt")),
    ADAPTER,
    WIT,
    WIT_IO,
    CONFIG,
    TEST,
    MAKE_README,
    MAKE_GITIGNORE,
];

const JS_COMPONENT: &[Template] = &[
    ("agent.js", include_bytes!("../templates/js-component/agent.js")),
    ("build.mjs", include_bytes!("../templates/js-component/build.mjs")),
    ("Makefile", include_bytes!("../templates/js-component/Makefile")),
    ("package.json", include_bytes!("../templates/js-component/package.json")),
    ("package-lock.json", include_bytes!("../templates/js-component/package-lock.json")),
    WIT,
    WIT_IO,
    CONFIG,
    TEST,
    ("README.md", include_bytes!("../templates/js-component/README.md")),
    (".gitignore", include_bytes!("../templates/js-component/gitignore")),
];

const PYTHON_COMPONENT: &[Template] = &[
    ("agent.py", include_bytes!("../templates/python-component/agent.py")),
    ("Makefile", include_bytes!("../templates/python-component/Makefile")),
    ("requirements.txt", include_bytes!("../templates/python-component/requirements.txt")),
    WIT,
    WIT_IO,
    CONFIG,
    TEST,
    ("README.md", include_bytes!("../templates/python-component/README.md")),
    (".gitignore", include_bytes!("../templates/python-component/gitignore")),
];

/// What `build.rs` generates from the contract.
mod generated {
    use super::Template;

    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

impl Language {
    /// Those that are files of this crate, the one that the author edits first. Names are filled in.
    pub(crate) fn written(self) -> &'static [Template] {
        match self {
            Self::Js => JS,
            Self::Ts => TS,
            Self::Python => PYTHON,
            Self::Rust => RUST,
            Self::C => C,
            Self::Go => GO,
            Self::JsComponent => JS_COMPONENT,
            Self::PythonComponent => PYTHON_COMPONENT,
        }
    }

    /// Those that `build.rs` generates or copies, to be taken as they are.
    pub(crate) fn generated(self) -> &'static [Template] {
        match self {
            Self::Js | Self::Ts | Self::Python | Self::JsComponent | Self::PythonComponent => &[],
            Self::Rust => generated::SDK,
            Self::C => generated::C,
            Self::Go => generated::GO,
        }
    }

    /// The file that the author edits.
    pub(crate) fn entry(self) -> &'static str {
        self.written()[0].0
    }

    /// What the configuration says of the agent's code, up to the other keys of its role.
    pub(crate) fn code(self) -> &'static str {
        match self.component() {
            None => include_str!("../templates/common/source.toml"),
            Some(_) => include_str!("../templates/common/component.toml"),
        }
    }

    /// The component that its tools build, if it is compiled.
    pub(crate) fn component(self) -> Option<&'static str> {
        match self {
            Self::Js | Self::Ts | Self::Python => None,
            Self::Rust => Some("target/wasm32-wasip2/release/{{crate}}.wasm"),
            Self::C | Self::Go | Self::JsComponent | Self::PythonComponent => Some("agent.wasm"),
        }
    }

    /// The command that builds it, if it is compiled.
    pub(crate) fn build(self) -> Option<&'static str> {
        match self {
            Self::Js | Self::Ts | Self::Python => None,
            Self::Rust => Some("cargo build --release"),
            Self::C | Self::Go | Self::JsComponent | Self::PythonComponent => Some("make"),
        }
    }
}
