//! From the message that makes an agent crash to the answer to the next one; from too much memory to the end.

use std::io;
use std::time::{Duration, Instant};

use super::peer::{Kind, LIMIT_MIB, Peer, crash_until_answer, start_until_answer};
use super::{Ours, Rounds, Tools, bars, boxed, those};
use crate::report::{Report, Row};
use crate::samples::Samples;

/// Ours, and those that are as fast, take so little that one round has so many.
const FAST_A_ROUND: usize = 20;

/// From the crash to the next answer.
const BACK_BUDGET: Duration = Duration::from_millis(1);

/// How many times as long pm2 is to take.
const BACK_GOAL: f64 = 100.0;

/// pm2 looks at memory every 30 s, so a few must do.
const LOOKS: usize = 3;

/// Enough for pm2 to look twice.
const LOOK_PATIENCE: Duration = Duration::from_secs(90);

pub fn measure(rounds: Rounds, tools: &Tools, report: &mut Report) -> io::Result<()> {
    back(rounds, tools, report)?;
    over_limit(rounds, tools, report)
}

fn back(rounds: Rounds, tools: &Tools, report: &mut Report) -> io::Result<()> {
    let mut peers: Vec<Box<dyn Peer>> =
        vec![Box::new(Ours::begin()), Box::new(Ours::begin().started_again())];
    peers.extend(those(vec![
        boxed(tools.wasmtime_server()),
        boxed(tools.node_processes()),
        boxed(tools.bun_processes()),
        boxed(tools.pm2()),
        boxed(tools.supervisord()),
    ]));
    let mut agents = Vec::new();
    for peer in &mut peers {
        let (_, endpoint, http) = start_until_answer(peer.as_mut(), 0, Kind::Crasher)?;
        agents.push((endpoint, http, Samples::new()));
    }
    for round in 0..=rounds.slow {
        for (peer, (endpoint, http, samples)) in peers.iter_mut().zip(&mut agents) {
            let fast = peer.name().starts_with("bulkhead") || peer.name() == "wasmtime serve";
            for _ in 0..if fast { FAST_A_ROUND } else { 1 } {
                let took = crash_until_answer(peer.as_mut(), 0, endpoint, http)?;
                if round > 0 {
                    samples.add(took);
                }
            }
        }
    }
    let own = &agents[0].2;
    let middle = own.percentile(50);
    report.add(Row::alone("crash until the next answer: bulkhead", own, BACK_BUDGET));
    let mut all = vec![("bulkhead", own)];
    for (peer, (_, _, samples)) in peers.iter().zip(&agents).skip(1) {
        let goal = (peer.name() == "pm2").then_some(BACK_GOAL);
        let name = format!("crash until the next answer: {}", peer.name());
        report.add(match peer.name().starts_with("bulkhead") {
            true => Row::alone(name, samples, BACK_BUDGET),
            false => Row::peer(name, samples, middle, goal),
        });
        all.push((peer.name(), samples));
    }
    report.note(
        "bulkhead comes back after a backoff that is drawn from 0 to 1 ms, the least that a role can \
         have; wasmtime serve has nothing to bring back, each request is a new instance",
    );
    report.plot(bars("From the message that makes an agent crash to the next answer", &all));
    Ok(())
}

/// From the message that makes an agent take memory to its end, with the same limit for all.
fn over_limit(rounds: Rounds, tools: &Tools, report: &mut Report) -> io::Result<()> {
    let mut peers: Vec<Box<dyn Peer>> = vec![Box::new(Ours::begin())];
    peers.extend(those(vec![boxed(tools.wasmtime_server()), boxed(tools.node_processes())]));
    let mut all = vec![Samples::new(); peers.len()];
    for round in 0..=rounds.slow {
        for (peer, samples) in peers.iter_mut().zip(&mut all) {
            let (_, endpoint, mut http) = start_until_answer(peer.as_mut(), 0, Kind::Hoarder)?;
            let fault = peer.faults().hoard;
            let began = Instant::now();
            let answer = http.ask("POST", &endpoint.path, fault);
            let took = began.elapsed();
            if matches!(answer, Ok((200, _))) {
                return Err(io::Error::other(format!("{} has no limit", peer.name())));
            }
            peer.stop(0);
            if round > 0 {
                samples.add(took);
            }
        }
    }
    let middle = all[0].percentile(50);
    let what = format!("fills {LIMIT_MIB} MiB until stopped");
    report.add(Row::plain(format!("{what}: bulkhead"), &all[0]));
    for (peer, samples) in peers.iter().zip(&all).skip(1) {
        report.add(Row::peer(format!("{what}: {}", peer.name()), samples, middle, None));
    }
    if let Some(mut pm2) = tools.pm2() {
        let mut samples = Samples::new();
        for _ in 0..LOOKS {
            samples.add(looked_at(&mut pm2)?);
        }
        report.add(Row::peer("over its limit until stopped: pm2", &samples, middle, None));
    }
    report.note("bun and supervisord have no limit on memory of their own: not measured");
    Ok(())
}

/// How long an agent that has taken too much goes on until pm2 sees it.
fn looked_at(pm2: &mut dyn Peer) -> io::Result<Duration> {
    let (_, endpoint, http) = start_until_answer(pm2, 0, Kind::Hoarder)?;
    let mut http = http.patience(LOOK_PATIENCE)?;
    let much = format!("{{\"prompt\":\"hoard {}\"}}", LIMIT_MIB * 2);
    http.ask("POST", &endpoint.path, &much)?;
    let began = Instant::now();
    while endpoint.hello(&mut http).is_ok() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let took = began.elapsed();
    pm2.stop(0);
    Ok(took)
}
