//! `bulkhead move`: hands the town over to another copy, and waits until that one has it.

use std::time::Duration;

use bulkhead_api::{LeaseWait, MoveAnswer, Readiness};
use clap::Args;
use tokio::time::{Instant, sleep};

use crate::args::{HostArgs, OutputArgs};
use crate::failure::Failure;
use crate::session::{Call, LONG, Session};
use bulkhead_printable as text;

/// Between two questions who has it.
const LOOK: Duration = Duration::from_millis(100);

/// No other copy took the town.
const STAYED: u8 = 4;

/// Arguments of `move`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct MoveArgs {
    /// Do not wait for another copy.
    #[arg(long, short)]
    pub detach: bool,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The copy that holds the lease, by its own address: one that leads to whichever copy serves cannot be told from a town
    /// that stayed.
    #[command(flatten)]
    pub host: HostArgs,
}

const HELP: &str = "\
The host drains as after SIGTERM, ships what is left with [ship], gives the lease back, and waits for it again as a copy that
answers probes. A copy that waits takes it at once. If none does within 30 % of the TTL, this one does.

Exit codes:
  0    another copy holds the lease; with --detach: the move has begun
  1    the host is unreachable, timed out, or sent an invalid response
  2    invalid command line; no request was sent
  3    the host refused the request: it runs under no lease, invalid token
  4    no other copy took the town: it is where it was
  130  interrupted with Ctrl-C; the move goes on";

/// Where the town is.
enum Place {
    /// Between two copies, or still draining.
    Nowhere,
    /// Another copy holds the lease.
    Elsewhere(LeaseWait),
    /// This address serves again.
    Here(u64),
}

pub(crate) async fn run(args: &MoveArgs, session: &Session) -> Result<(), Failure> {
    let began = Instant::now();
    let answer = session.call(Call::post("/move", "move", Vec::new())).await?;
    let MoveAnswer { epoch } = session.read(&answer)?;
    if args.detach {
        return match session.json {
            true => session.print_json::<MoveAnswer>(&answer),
            false => session.screen.print(&format!("the town moves (epoch {epoch})\n")),
        };
    }
    let goes_on =
        "the move goes on; `bulkhead health --ready` shows who holds the lease".to_owned();
    let _over = session.waiting.begin("another copy to take the town".to_owned(), Some(goes_on));
    let until = began + session.timeout.unwrap_or(LONG);
    loop {
        match look(session, epoch).await? {
            Place::Elsewhere(lease) => return moved(session, &lease, began.elapsed()),
            Place::Here(epoch) => {
                let url = &session.target.url;
                eprintln!(
                    "bulkhead: no other copy took the town: {url} serves it again (epoch {epoch})"
                );
                return Err(Failure::Reported(STAYED));
            }
            Place::Nowhere if Instant::now() >= until => {
                let why = format!(
                    "no copy of the town was seen to serve within {} s",
                    began.elapsed().as_secs()
                );
                return Err(Failure::NoAnswer(why));
            }
            Place::Nowhere => sleep(LOOK).await,
        }
    }
}

async fn look(session: &Session, before: u64) -> Result<Place, Failure> {
    match session.ask(Call::get("/readyz", "look at the move")).await {
        Ok(answer) => match session.read::<Readiness>(&answer)?.lease_epoch {
            Some(epoch) if epoch > before => Ok(Place::Here(epoch)),
            _ => Ok(Place::Nowhere),
        },
        // Between the host and the copy that waits nobody listens.
        Err(Failure::NoAnswer(_)) => Ok(Place::Nowhere),
        Err(Failure::Refused(refusal)) => match refusal.body.lease {
            Some(lease) if lease.epoch > before && lease.holder.is_some() => {
                Ok(Place::Elsewhere(*lease))
            }
            _ => Ok(Place::Nowhere),
        },
        Err(failure) => Err(failure),
    }
}

fn moved(session: &Session, lease: &LeaseWait, took: Duration) -> Result<(), Failure> {
    let LeaseWait { holder, endpoint, epoch, .. } = lease;
    if session.json {
        let lease = LeaseWait { takeover_in_ms: None, ..lease.clone() };
        let json = serde_json::to_string_pretty(&lease).unwrap_or_default();
        return session.screen.print(&format!("{}\n", text::json(&json)));
    }
    let holder = text::line(holder.as_deref().unwrap_or_default());
    let at = endpoint.as_ref().map(|at| format!(" at {}", text::line(at))).unwrap_or_default();
    let took = took.as_secs_f64();
    session
        .screen
        .print(&format!("{holder}{at} holds the town (epoch {epoch}), after {took:.1} s\n"))
}
