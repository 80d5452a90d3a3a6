//! Workspaces, repositories and programs, played by names of agents, rigs, programs and branches.

use bulkhead_api::{
    DiffBase, DiffView, ExecAnswer, ExecRequest, FilesView, MergeAnswer, MergeRequest,
    PrepareRequest, RemovedWorkspace, RigView, SeenView, WorkspaceList, WorkspaceView,
};
use bulkhead_supervisor::{ExecError, ExecRefusal, GitError, SendError, WorkspaceError};
use bulkhead_types::{AgentId, Timestamp, ToolEnd};

pub(super) fn workspaces() -> Result<WorkspaceList, WorkspaceError> {
    let workspace = WorkspaceView {
        agent_id: AgentId::parse("a1").unwrap(),
        rig: None,
        branch: None,
        bytes: 4096,
        entries: 1,
        truncated: false,
        used_at: Timestamp(0),
        in_use: false,
        not_pushed: None,
    };
    Ok(WorkspaceList { workspaces: vec![workspace] })
}

pub(super) fn remove_workspace(
    id: &AgentId,
    force: bool,
) -> Result<RemovedWorkspace, WorkspaceError> {
    let id = id.clone();
    match id.as_str() {
        "ghost" => Err(WorkspaceError::None(id)),
        "up" => Err(WorkspaceError::InUse(id)),
        "work" if !force => Err(WorkspaceError::NotPushed { id, why: "a.txt is new".into() }),
        "shipped" => Err(WorkspaceError::Archived { id, why: "no answer in 5s".into() }),
        _ => Ok(RemovedWorkspace { bytes: 4096, entries: 1, left: None }),
    }
}

pub(super) fn files(
    id: &AgentId,
    path: &str,
    offset: u64,
    max_bytes: usize,
) -> Result<FilesView, WorkspaceError> {
    let path = path.to_owned();
    match id.as_str() {
        "ghost" => Err(WorkspaceError::NotThere { id: id.clone(), path }),
        "outside" => {
            let why = format!("{path} leads out of the workspace");
            Err(GitError::Invalid { what: "path", why }.into())
        }
        _ => {
            let (bytes, text) = (9, format!("{max_bytes}"));
            let next_offset = Some(offset + 1);
            let seen =
                SeenView::File { bytes, offset, utf8: true, text, truncated: true, next_offset };
            Ok(FilesView { path, seen })
        }
    }
}

pub(super) fn diff(
    id: &AgentId,
    against: DiffBase,
    max_bytes: usize,
) -> Result<DiffView, WorkspaceError> {
    match id.as_str() {
        "ghost" => Err(GitError::Unprepared(id.to_string()).into()),
        "slow" => Err(GitError::Timeout("git diff").into()),
        "full" => Err(GitError::NoSpace("/state".into()).into()),
        "busy" => Err(GitError::Locked("the workspace of agent busy".into()).into()),
        _ => Ok(DiffView {
            branch: Some("bulkhead/a".into()),
            head: None,
            upstream: "main".into(),
            ahead: 0,
            behind: 0,
            uncommitted: Vec::new(),
            more_uncommitted: false,
            against,
            patch: format!("{max_bytes}"),
            truncated: false,
            utf8: true,
        }),
    }
}

pub(super) fn exec(id: &AgentId, request: ExecRequest) -> Result<ExecAnswer, ExecRefusal> {
    if id.as_str() == "ghost" {
        return Err(SendError::NoSuchAgent(id.clone()).into());
    }
    match request.program.as_str() {
        "rm" => return Err(ExecError::Denied("\"rm\" is not among the tools".into()).into()),
        "gone" => return Err(ExecError::NotFound("no such program: gone".into()).into()),
        "../sh" => return Err(ExecError::Invalid("no name of a program".into()).into()),
        "later" => return Err(ExecError::Unavailable("the launcher is gone".into()).into()),
        "last" => return Err(ExecRefusal::Ended(id.clone())),
        _ => {}
    }
    Ok(ExecAnswer {
        end: ToolEnd::Exited,
        code: Some(0),
        signal: None,
        wall_ms: 1,
        cpu_ms: 1,
        peak_memory_bytes: 1,
        stdout: request.arguments.join(" "),
        stderr: request.stdin,
        utf8: true,
    })
}

pub(super) fn prepare_rig(rig: &str, request: PrepareRequest) -> Result<RigView, WorkspaceError> {
    match rig {
        "ghost" => return Err(WorkspaceError::NoRig("there is no gitUrl".into())),
        "none" => return Err(WorkspaceError::NoRepositories),
        "closed" => return Err(GitError::Unauthorized("https://host/closed.git".into()).into()),
        _ => {}
    }
    Ok(RigView {
        rig: rig.to_owned(),
        url: request.git_url.unwrap_or_else(|| "https://host/known.git".into()),
        default_branch: request.default_branch.unwrap_or_else(|| "main".into()),
        head: None,
        branches: 1,
        tags: 0,
    })
}

pub(super) fn merge(rig: &str, request: MergeRequest) -> Result<MergeAnswer, WorkspaceError> {
    match request.source.as_str() {
        "conflict" => {
            return Err(GitError::Conflict { files: vec!["a.txt".into(), "b.txt".into()] }.into());
        }
        "missing" => return Err(GitError::BranchMissing("missing".into()).into()),
        _ => {}
    }
    Ok(MergeAnswer { target: request.target.unwrap_or_else(|| rig.into()), commit: "c0".into() })
}
