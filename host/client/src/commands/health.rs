//! `bulkhead health`: one word and an exit code, for the health check of a container.

use bulkhead_api::{Health, Readiness};
use clap::Args;
use serde::Deserialize;

use crate::command::HostArgs;
use crate::failure::Failure;
use crate::session::{Call, Session};
use crate::words::counted;
use bulkhead_printable as text;

/// Arguments of `health`.
#[derive(Debug, Args)]
#[command(after_help = HEALTH_HELP)]
pub struct HealthArgs {
    /// Only whether the host answers.
    #[arg(long, conflicts_with = "ready")]
    pub live: bool,
    /// Whether it takes new starts: not while it boots or drains.
    #[arg(long)]
    pub ready: bool,
    /// Whom to ask.
    #[command(flatten)]
    pub host: HostArgs,
}

const HEALTH_HELP: &str = "\
Needs no token and no configuration: without a word about the address, http://127.0.0.1:8080 is asked. Without
--live or --ready a host that answers is well, also when it says `degraded`: a container is not to be restarted
for one of its agents.

Exit codes:
  0  yes
  1  no, and stderr says why";

/// `GET /livez`.
#[derive(Deserialize)]
struct Life {
    status: String,
}

pub(crate) async fn run(args: &HealthArgs, session: &Session) -> Result<(), Failure> {
    let path = match (args.live, args.ready) {
        (true, _) => "/livez",
        (false, true) => "/readyz",
        (false, false) => "/health",
    };
    let answer = session.call(Call::get(path, "health")).await?;
    let words = if args.live {
        session.read::<Life>(&answer)?.status
    } else if args.ready {
        let Readiness { status, missing, .. } = session.read(&answer)?;
        format!("{status}{}", absent(missing))
    } else {
        let Health { status, agents, missing, draining, .. } = session.read(&answer)?;
        let draining = if draining == Some(true) { ", draining" } else { "" };
        format!("{status}: {}{}{draining}", counted(agents, "agent"), absent(missing))
    };
    session.screen.print(&format!("{}\n", text::line(&words)))
}

fn absent(missing: usize) -> String {
    if missing == 0 { String::new() } else { format!(", {missing} missing") }
}
