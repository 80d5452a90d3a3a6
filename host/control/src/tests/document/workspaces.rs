//! Workspaces, repositories and programs.

use bulkhead_api::{
    DiffView, ExecAnswer, FilesView, MergeAnswer, RemovedWorkspace, RigView, WorkspaceList,
};
use serde_json::json;

use super::{Sample, of};

pub(super) fn samples() -> Vec<Sample> {
    let sample = |call, path, answer| Sample { call, path, status: 200, answer };
    vec![
        sample(
            "GET /workspaces",
            "/workspaces",
            of::<WorkspaceList>(json!({"workspaces": [{
                "agentId": "polecat-1", "rig": "riverside", "branch": "bulkhead/polecat-1", "bytes": 54312960,
                "entries": 2140, "truncated": false, "usedAt": "2026-01-15T09:31:12.250Z", "inUse": false,
                "notPushed": "src/well.rs is changed"
            }]})),
        ),
        sample(
            "DELETE /workspaces/{id}",
            "/workspaces/polecat-1?force=true",
            of::<RemovedWorkspace>(json!({"bytes": 54312960, "entries": 2140, "left": null})),
        ),
        sample(
            "GET /agents/{id}/files",
            "/agents/polecat-1/files?path=src",
            of::<FilesView>(json!({
                "path": "src", "kind": "directory", "truncated": false,
                "entries": [
                    {"name": "well.rs", "kind": "file", "bytes": 812, "modifiedAt": "2026-01-15T09:31:10.000Z"}
                ]
            })),
        ),
        sample(
            "GET /agents/{id}/diff",
            "/agents/polecat-1/diff?against=upstream",
            of::<DiffView>(json!({
                "branch": "bulkhead/polecat-1", "head": "5f0e9a7c2b1d4e6f8091a2b3c4d5e6f708192a3b", "upstream": "main",
                "ahead": 1, "behind": 0,
                "uncommitted": [{"path": "src/well.rs", "staged": "unchanged", "unstaged": "modified"}],
                "moreUncommitted": false, "against": "upstream",
                "patch": "diff --git a/src/well.rs b/src/well.rs\n…", "truncated": false, "utf8": true
            })),
        ),
        sample(
            "POST /agents/{id}/exec",
            "/agents/polecat-1/exec",
            of::<ExecAnswer>(json!({
                "end": "exited", "code": 0, "signal": null, "wallMs": 12, "cpuMs": 9, "peakMemoryBytes": 4653056,
                "stdout": "5f0e9a7 Repair the well\n", "stderr": "", "utf8": true
            })),
        ),
        sample(
            "POST /rigs/{rig}/prepare",
            "/rigs/riverside/prepare",
            of::<RigView>(json!({
                "rig": "riverside", "url": "https://git.example/riverside.git", "defaultBranch": "main",
                "head": "5f0e9a7c2b1d4e6f8091a2b3c4d5e6f708192a3b", "branches": 4, "tags": 2
            })),
        ),
        sample(
            "POST /rigs/{rig}/merge",
            "/rigs/riverside/merge",
            of::<MergeAnswer>(
                json!({"target": "main", "commit": "0b1d4e6f8091a2b3c4d5e6f708192a3b5f0e9a7c"}),
            ),
        ),
    ]
}
