//! `bulkhead workspaces`: the directories of agents, also of those that are gone, and their removal.

use bulkhead_api::{RemovedWorkspace, WorkspaceList, WorkspaceView};
use bulkhead_types::{AgentId, Timestamp};
use clap::{Args, Subcommand};

use crate::args::{CODES_OF_QUESTIONS, HostArgs, OutputArgs, parse_agent};
use crate::failure::Failure;
use crate::session::{Call, LONG, Session, now};
use crate::table::{Cell, Column, draw};
use bulkhead_printable as text;
use bulkhead_terminal::words::{short_bytes, short_count, short_duration};

/// Arguments of `workspaces`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = CODES_OF_QUESTIONS)]
pub struct WorkspacesArgs {
    /// What to do [default: list].
    #[command(subcommand)]
    pub what: Option<WorkspacesCommand>,
    /// How they are listed.
    #[command(flatten)]
    pub list: WorkspacesListArgs,
}

/// What `workspaces` does.
#[derive(Debug, Subcommand)]
pub enum WorkspacesCommand {
    /// List them.
    List(WorkspacesListArgs),
    /// Remove some, of agents that do not run.
    Rm(WorkspacesRmArgs),
}

/// Arguments of `workspaces list`.
#[derive(Debug, Args)]
#[command(after_help = CODES_OF_QUESTIONS)]
pub struct WorkspacesListArgs {
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The host to call.
    #[command(flatten)]
    pub host: HostArgs,
}

/// Arguments of `workspaces rm`.
#[derive(Debug, Args)]
#[command(after_help = RM_HELP)]
pub struct WorkspacesRmArgs {
    /// Ids of the agents.
    #[arg(value_name = "AGENT", value_parser = parse_agent, required = true)]
    pub agents: Vec<AgentId>,
    /// Also with work that is nowhere else.
    #[arg(long, short)]
    pub force: bool,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The host to call.
    #[command(flatten)]
    pub host: HostArgs,
}

const RM_HELP: &str = "\
With --json prints the response for each agent, one per line. It stops at the first workspace that is not removed.

Exit codes:
  0    removed
  1    the host is unreachable, timed out, or sent an invalid response
  2    invalid command line; no request was sent
  3    the host refused the request: no such workspace, in use, work that is nowhere else, invalid token
  130  interrupted with Ctrl-C; the host may still remove the workspace";

impl WorkspacesArgs {
    pub(crate) fn where_and_how(&self) -> (&HostArgs, OutputArgs) {
        match &self.what {
            None => (&self.list.host, self.list.output),
            Some(WorkspacesCommand::List(args)) => (&args.host, args.output),
            Some(WorkspacesCommand::Rm(args)) => (&args.host, args.output),
        }
    }
}

pub(crate) async fn run(args: &WorkspacesArgs, session: &Session) -> Result<(), Failure> {
    match &args.what {
        Some(WorkspacesCommand::Rm(args)) => remove(args, session).await,
        Some(WorkspacesCommand::List(_)) | None => list(session).await,
    }
}

async fn list(session: &Session) -> Result<(), Failure> {
    let call = Call::get("/workspaces", "list of workspaces").within(LONG);
    let answer = session.call(call).await?;
    if session.json {
        return session.print_json::<WorkspaceList>(&answer);
    }
    let list: WorkspaceList = session.read(&answer)?;
    let (width, colours) = (session.screen.width(), session.screen.colours);
    session.screen.print(&page(&list.workspaces, now(&answer), width, colours))
}

async fn remove(args: &WorkspacesRmArgs, session: &Session) -> Result<(), Failure> {
    for id in &args.agents {
        let force = if args.force { "?force=true" } else { "" };
        let path = format!("/workspaces/{id}{force}");
        let call = Call::delete(path, format!("removal of the workspace of {id}")).within(LONG);
        let answer = session.call(call).await?;
        if session.json {
            session.print_json::<RemovedWorkspace>(&answer)?;
            continue;
        }
        let RemovedWorkspace { bytes, entries, left } = session.read(&answer)?;
        let mut said = format!("removed the workspace of {id}: {}", short_bytes(bytes));
        said += &format!(", {} files, directories and links", short_count(entries));
        if let Some(left) = left {
            said += &format!("; something is left ({})", text::line(&left));
        }
        session.screen.print(&format!("{said}\n"))?;
    }
    Ok(())
}

fn page(
    workspaces: &[WorkspaceView],
    now: Timestamp,
    width: Option<usize>,
    colours: bool,
) -> String {
    if workspaces.is_empty() {
        return "no workspaces\n".to_owned();
    }
    let columns = [
        Column::giving("AGENT", 12),
        Column::giving("RIG", 6),
        Column::giving("BRANCH", 10),
        Column::of_figures("SIZE"),
        Column::of_figures("ENTRIES"),
        Column::of_figures("USED"),
        Column::giving("WORK", 20),
    ];
    let rows: Vec<_> = workspaces.iter().map(|workspace| row(workspace, now)).collect();
    draw(&columns, &rows, width, colours)
}

fn row(workspace: &WorkspaceView, now: Timestamp) -> Vec<Cell> {
    let WorkspaceView { agent_id, rig, branch, in_use, not_pushed, .. } = workspace;
    let mark = if workspace.truncated { ">" } else { "" };
    let used = match in_use {
        true => "now".to_owned(),
        false => format!("{} ago", short_duration(now.since(workspace.used_at))),
    };
    let named = |name: &Option<String>| text::line(name.as_deref().unwrap_or("-")).into_owned();
    let work = not_pushed.as_deref().unwrap_or("all on the remote");
    vec![
        Cell::new(agent_id.as_str()),
        Cell::new(named(rig)),
        Cell::new(named(branch)),
        Cell::new(format!("{mark}{}", short_bytes(workspace.bytes))),
        Cell::new(format!("{mark}{}", short_count(workspace.entries))),
        Cell::new(used),
        Cell::new(text::line(work)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workspaces_are_a_table() {
        let list = r#"{"workspaces":[
            {"agentId":"alone","rig":null,"branch":null,"bytes":4096,"entries":1,"truncated":false,
             "usedAt":"2026-01-15T09:31:12.000Z","inUse":true,"notPushed":"it is no repository of a rig"},
            {"agentId":"toast","rig":"docs","branch":"bulkhead/toast","bytes":54312960,"entries":250000,"truncated":true,
             "usedAt":"2026-01-15T07:31:12.000Z","inUse":false,"notPushed":null}]}"#;
        let list: WorkspaceList = serde_json::from_str(list).unwrap();
        let page = page(&list.workspaces, Timestamp(1_768_469_472_000), None, false);
        let expected = "\
AGENT  RIG   BRANCH            SIZE  ENTRIES    USED  WORK
alone  -     -                   4K        1     now  it is no repository of a rig
toast  docs  bulkhead/toast  >51.8M    >250k  2h ago  all on the remote
";
        assert_eq!(page, expected);
        assert_eq!(super::page(&[], Timestamp(0), None, false), "no workspaces\n");
    }
}
