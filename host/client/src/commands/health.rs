//! `bulkhead health`: one word and an exit code, for the health check of a container.

use bulkhead_api::{Health, Readiness};
use clap::Args;
use serde::Deserialize;

use crate::args::HostArgs;
use crate::failure::Failure;
use crate::session::{Call, Session};
use bulkhead_printable as text;
use bulkhead_terminal::words::counted;

/// Arguments of `health`.
#[derive(Debug, Args)]
#[command(after_help = HEALTH_HELP)]
pub struct HealthArgs {
    /// Succeed when the host answers.
    #[arg(long, conflicts_with = "ready")]
    pub live: bool,
    /// Succeed when the host accepts starts: not while it boots or drains.
    #[arg(long)]
    pub ready: bool,
    /// The host to call.
    #[command(flatten)]
    pub host: HostArgs,
}

const HEALTH_HELP: &str = "\
Needs no token and no configuration; the default address is http://127.0.0.1:8080. Without --live or --ready a
host that answers is healthy, also when it reports `degraded`: one failed agent is no reason to restart the
container.

Exit codes:
  0  healthy
  1  not healthy; stderr has the reason";

/// `GET /livez`.
#[derive(Deserialize)]
struct Liveness {
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
        session.read::<Liveness>(&answer)?.status
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
