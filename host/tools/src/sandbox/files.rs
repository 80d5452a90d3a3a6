//! Which files a tool may open, and whom it may reach: Landlock.

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

/// The newest version whose rights are handled; an older kernel handles those that it knows.
const ABI_HANDLED: ABI = ABI::V6;

/// What a tool may do with which files.
#[derive(Debug, Default)]
pub struct Rights {
    /// Read and run.
    pub read: Vec<PathBuf>,
    /// Write to, beside reading: devices, and files of its processes.
    pub write: Vec<PathBuf>,
    /// Everything.
    pub own: Vec<PathBuf>,
    /// It may use TCP.
    pub tcp: bool,
}

/// Confines this thread: `full`, `partial` on an older kernel, `none` on one without Landlock.
pub fn confine(rights: &Rights) -> Result<&'static str, String> {
    restrict(rights).map_err(|error| error.to_string())
}

fn restrict(rights: &Rights) -> Result<&'static str, RulesetError> {
    let all = AccessFs::from_all(ABI_HANDLED);
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::Execute;
    let write = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev;
    // No devices, which capabilities are needed for anyway.
    let own = all & !(AccessFs::MakeChar | AccessFs::MakeBlock);
    let mut ruleset =
        Ruleset::default().handle_access(all)?.scope(Scope::AbstractUnixSocket | Scope::Signal)?;
    if !rights.tcp {
        ruleset = ruleset.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?;
    }
    let status = ruleset
        .create()?
        .add_rules(path_beneath_rules(&rights.read, read))?
        .add_rules(path_beneath_rules(&rights.write, write))?
        .add_rules(path_beneath_rules(&rights.own, own))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => "full",
        RulesetStatus::PartiallyEnforced => "partial",
        RulesetStatus::NotEnforced => "none",
    })
}
