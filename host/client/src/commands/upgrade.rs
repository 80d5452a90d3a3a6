//! `bulkhead upgrade`: has all agents of a role go on with other code, and shows how that goes.

use std::path::PathBuf;
use std::time::Duration;

use bulkhead_api::{UpgradePhase, UpgradeView};
use bulkhead_types::time::millis;
use clap::Args;
use tokio::time::sleep;

use crate::args::{HostArgs, OutputArgs};
use crate::bounded::read_bytes;
use crate::failure::Failure;
use crate::percent::encoded;
use crate::session::{Call, LONG, Session};
use bulkhead_printable as text;
use bulkhead_terminal::words::{counted, parse_some_time};

/// Between two questions how far it is.
const LOOK: Duration = Duration::from_millis(200);

/// The largest component that the host takes.
const MAX_BYTES: u64 = 64 << 20;

/// How references begin.
const SCHEME: &str = "oci://";

/// It failed, or was taken back: all agents have the code before.
const FAILED: u8 = 4;

/// Arguments of `upgrade`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct UpgradeArgs {
    /// Name of the role.
    pub role: String,
    /// The new component: a file, or what the host is to fetch from a registry, as oci://REGISTRY/REPOSITORY@sha256:DIGEST
    /// [default: what the configuration names, as its files are now].
    #[arg(long, value_name = "FILE|REFERENCE", conflicts_with_all = ["abort", "status"])]
    pub component: Option<PathBuf>,
    /// How long the first agent, and at the end all others, have to come through a turn; one without messages counts as
    /// upgraded then [default: 10s].
    #[arg(long, value_name = "TIME", value_parser = parse_some_time, conflicts_with_all = ["abort", "status"])]
    pub prove: Option<Duration>,
    /// Do not wait for the end.
    #[arg(long, short)]
    pub detach: bool,
    /// Show how far the upgrade is that is under way, or the last one.
    #[arg(long, conflicts_with = "abort")]
    pub status: bool,
    /// Take the upgrade back that is under way: all agents go back to the code before.
    #[arg(long)]
    pub abort: bool,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The host to call.
    #[command(flatten)]
    pub host: HostArgs,
    /// The bytes of the component, once they are read.
    #[arg(skip)]
    pub(crate) bytes: Option<Vec<u8>>,
}

const HELP: &str = "\
One agent after the other leaves at the end of a message. Its state is kept, the new code takes it over, and messages wait
meanwhile. When an agent fails before its first turn is over, or its state cannot be kept, all go back to the code before.
When all have the new code, the role has it, also after a restart of the host, until the configuration names another file.

Exit codes:
  0    all agents of the role have the new code; with --status, --abort and --detach: the host answered
  1    the host is unreachable, timed out, or sent an invalid response
  2    invalid command line, or the file cannot be read; no request was sent
  3    the host refused the request: no such role, an upgrade of it is under way, invalid token
  4    the reference is invalid, the new code cannot be fetched or does not load, an agent failed with it, or it was taken
       back: all have the code before
  130  interrupted with Ctrl-C; the upgrade goes on";

impl UpgradeArgs {
    pub(crate) fn prepare(&mut self) -> Result<(), String> {
        let Some(path) = self.component.as_ref().filter(|_| self.reference().is_none()) else {
            return Ok(());
        };
        let named = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
        let bytes = read_bytes(path, MAX_BYTES).map_err(named)?;
        if bytes.is_empty() {
            return Err(format!("{} is empty", path.display()));
        }
        self.bytes = Some(bytes);
        Ok(())
    }

    /// What the host is to fetch.
    fn reference(&self) -> Option<&str> {
        self.component.as_ref()?.to_str().filter(|text| text.starts_with(SCHEME))
    }

    fn query(&self) -> String {
        let prove = self.prove.map(|prove| format!("proveMs={}", millis(prove)));
        let reference = self.reference().map(|text| format!("reference={}", encoded(text)));
        let pairs: Vec<_> = prove.into_iter().chain(reference).collect();
        if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
    }
}

pub(crate) async fn run(args: &UpgradeArgs, session: &Session) -> Result<(), Failure> {
    let path = path(&args.role);
    let asked = format!("upgrade of role {}", text::line(&args.role));
    if args.status {
        return show(session, Call::get(path, asked)).await;
    }
    if args.abort {
        return show(session, Call::delete(path, asked)).await;
    }
    let order = format!("{path}{}", args.query());
    let order = Call::post(order, &*asked, args.bytes.clone().unwrap_or_default());
    let order = order.within(LONG).of_wasm();
    if args.detach {
        return show(session, order).await;
    }
    let goes_on = "the upgrade goes on; `bulkhead upgrade --status` shows it".to_owned();
    let _over = session.waiting.begin(format!("the {asked}"), Some(goes_on));
    let mut answer = session.ask(order).await?;
    let mut shown = None;
    loop {
        let view: UpgradeView = session.read(&answer)?;
        let now = progress(&view);
        if !session.json && shown.as_ref() != Some(&now) {
            session.screen.print(&format!("{now}\n"))?;
            shown = Some(now);
        }
        if view.phase.is_over() {
            break;
        }
        sleep(LOOK).await;
        answer = session.ask(Call::get(&*path, &*asked)).await?;
    }
    if session.json {
        session.print_json::<UpgradeView>(&answer)?;
    }
    match session.read::<UpgradeView>(&answer)?.phase {
        UpgradePhase::Done => Ok(()),
        _ => Err(Failure::Reported(FAILED)),
    }
}

async fn show(session: &Session, call: Call) -> Result<(), Failure> {
    let answer = session.call(call).await?;
    if session.json {
        return session.print_json::<UpgradeView>(&answer);
    }
    let view = session.read(&answer)?;
    session.screen.print(&format!("{}\n", progress(&view)))
}

/// One line.
fn progress(view: &UpgradeView) -> String {
    let UpgradeView {
        role, phase, agents, upgraded, proven, waits_for, problem, code_sha256, ..
    } = view;
    let role = text::line(role);
    let waits = waits_for.as_ref().map(|id| format!(", waiting for {id}")).unwrap_or_default();
    let of_all = format!("{upgraded} of {}", counted(*agents, "agent"));
    let code = code_sha256.map(|digest| digest.to_string()).unwrap_or_default();
    let code = code.get(..12).unwrap_or_default();
    let line = match phase {
        UpgradePhase::Loading => "loading the new code".to_owned(),
        UpgradePhase::Rolling => format!("{of_all} upgraded{waits}"),
        UpgradePhase::Proving => format!("{of_all} upgraded, {proven} proven{waits}"),
        UpgradePhase::Reverting => format!("going back, {upgraded} left{waits}"),
        UpgradePhase::Done if *agents == 0 => format!("done, no agent has other code than {code}"),
        UpgradePhase::Done => format!("done, {of_all} upgraded to {code}"),
        UpgradePhase::Failed => "failed; all agents have the code before".to_owned(),
        UpgradePhase::Aborted => "taken back; all agents have the code before".to_owned(),
    };
    let problem = problem.as_ref().map(|problem| format!(": {}", text::line(problem)));
    format!("{role}: {line}{}", problem.unwrap_or_default())
}

/// Names of roles come from a configuration, and can be anything.
fn path(role: &str) -> String {
    format!("/roles/{}/upgrade", encoded(role))
}

#[cfg(test)]
mod tests {
    use bulkhead_types::{AgentId, Digest, Timestamp};

    use super::*;

    fn view(phase: UpgradePhase) -> UpgradeView {
        UpgradeView {
            role: "polecat".into(),
            component: "polecat".into(),
            code_sha256: Some(Digest([0xab; 32])),
            phase,
            agents: 3,
            upgraded: 2,
            proven: 1,
            waits_for: None,
            problem: None,
            started_at: Timestamp(1),
            ended_at: None,
        }
    }

    #[test]
    fn progress_is_one_line() {
        let mut rolling = view(UpgradePhase::Rolling);
        rolling.waits_for = AgentId::parse("toast").ok();
        assert_eq!(progress(&rolling), "polecat: 2 of 3 agents upgraded, waiting for toast");
        let done = view(UpgradePhase::Done);
        assert_eq!(progress(&done), "polecat: done, 2 of 3 agents upgraded to abababababab");
        let nobody = UpgradeView { agents: 0, upgraded: 0, ..view(UpgradePhase::Done) };
        assert_eq!(progress(&nobody), "polecat: done, no agent has other code than abababababab");
        let failed = UpgradeView { problem: Some("no\nplan".into()), ..view(UpgradePhase::Failed) };
        assert!(
            progress(&failed).starts_with("polecat: failed; all agents have the code before: no")
        );
        assert_eq!(progress(&failed).lines().count(), 1);
    }

    #[test]
    fn a_role_of_any_name_has_a_path() {
        assert_eq!(path("polecat-2"), "/roles/polecat-2/upgrade");
        assert_eq!(path("a/b ü"), "/roles/a%2Fb%20%C3%BC/upgrade");
    }
}
