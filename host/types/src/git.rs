//! The repository that an agent works on.

/// What an agent's workspace is made of, when it is a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitSpec {
    /// The rig's name.
    pub rig: String,
    /// Where the repository is. Without user and password. Empty when `lightweight`.
    pub url: String,
    /// The branch that work starts from.
    pub default_branch: String,
    /// The agent's own branch.
    pub branch: String,
    /// Where a new branch starts, if not at `default_branch`.
    pub start_point: Option<String>,
    /// An empty repository without a remote.
    pub lightweight: bool,
    /// Who its commits are by.
    pub author: GitAuthor,
    /// What is not on the remote goes there whenever an incarnation ends.
    pub save: bool,
}

/// What a role says of the repositories of its agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRules {
    /// Who their commits are by. `None`: the agent itself.
    pub author: Option<GitAuthor>,
    /// What is not on the remote goes there whenever an incarnation ends.
    pub save: bool,
}

/// Who commits are by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitAuthor {
    /// As people read it.
    pub name: String,
    /// As git wants it: `name@host`.
    pub email: String,
}
