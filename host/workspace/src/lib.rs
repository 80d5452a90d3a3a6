//! Git workspaces of agents, by the `git` program in sandboxes.
//!
//! ```text
//!   remote ◀── fetch, push ──▶ mirror of the rig ◀── pack ── repository of an agent
//!              credential      host's sandbox       ── objects, read-only ─▶ agent's sandbox
//!              network         the host's config        no network, no credential
//! ```
//!
//! An agent controls everything in its repository: configuration, hooks, filters, refs. So git runs there only in the
//! agent's own sandbox. Git runs with the network or a credential only in the mirror, whose configuration the host
//! writes, and where no repository of an agent is visible. Between the two goes a pack, through the host's hands, and
//! it is checked like the push of a stranger. So a hostile repository never meets a credential.
//!
//! - `run`, `sandboxed`: what this crate asks of the sandbox, and the sandbox of native programs as it is
//! - `git`, `output`, `verdict`, `progress`: one call of git, its result, its failure, its progress
//! - `name`, `remote`, `rig`: names and URLs from outside, checked
//! - `credential`: how git gets one
//! - `mirror`, `fetch`, `import`, `publish`, `merge`: the mirror of a rig
//! - `prepare`, `skeleton`, `record`: making a workspace
//! - `tree`, `workspace`, `status`, `history`, `commit`, `sync`, `checkpoint`: one workspace
//! - `files`: what somebody outside sees of a workspace
//! - `locks`, `disk`: what a killed git left behind; files of the host
//! - `workspaces`, `shared`: all of them
//! - `inventory`, `size`, `pushed`, `retention`, `removal`: directories of agents, with a repository or without: what
//!   they take, what is nowhere else, which of them go

mod checkpoint;
mod commit;
mod credential;
mod disk;
mod error;
mod fetch;
mod files;
mod git;
mod history;
mod import;
mod inventory;
mod locks;
mod merge;
mod mirror;
mod name;
mod output;
mod prepare;
mod progress;
mod publish;
mod pushed;
mod record;
mod remote;
mod removal;
mod retention;
mod rig;
mod run;
mod sandboxed;
mod settings;
mod shared;
mod size;
mod skeleton;
mod status;
mod sync;
mod tree;
mod verdict;
mod workspace;
mod workspaces;

pub use checkpoint::Checkpoint;
pub use commit::Paths;
pub use credential::{Credential, Credentials, NoCredentials};
pub use error::{Error, MAX_FILES};
pub use files::{Entry, EntryKind, MAX_ENTRIES, Seen, look};
pub use git::Author;
pub use history::{Against, Commit, Diff, MAX_COMMITS};
pub use inventory::{Aside, Inventory, Kept, MAX_KEPT};
pub use merge::Merge;
pub use name::{Oid, check_branch};
pub use prepare::Prepared;
pub use progress::{OnProgress, Progress, silent};
pub use pushed::Pushed;
pub use remote::Protocols;
pub use removal::Freed;
pub use retention::{Choice, Policy, Removal, Why, choose};
pub use rig::{Request, Rig, check_rig};
pub use run::{Command, End, Finished, Limits, OBJECTS, Run, RunError, Sandbox, Watch};
pub use sandboxed::Sandboxed;
pub use settings::Settings;
pub use status::{Change, Kind, MAX_CHANGES, Status};
pub use sync::{Fetch, Saved};
pub use workspace::Workspace;
pub use workspaces::{Fetched, Workspaces};

pub use bulkhead_tools::DiskLimit;
pub use futures_util::future::BoxFuture;
