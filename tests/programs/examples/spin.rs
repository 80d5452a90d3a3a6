//! Burns CPU time, its own and the host's.
//!
//! | body | what it does | exit reason |
//! | --- | --- | --- |
//! | `spin` | loops for ever, without one host call | `cpu_deadline` |
//! | `spin <ms>` | is busy for that wall time; the reply says how often it went round | none |
//! | `nap <ms> <us>` | for that wall time, is busy for so many microseconds and naps for one; the reply says how often | none |
//! | `fill <MiB> <n>` | fills so much memory n times, each time in one instruction | none |
//! | `blank <bytes>` | prints as many newlines in one write, 8 KiB at most | none |
//! | `poll <n>` | waits for a timer that is due, n times in one list; the reply says how many of them were ready | none |
//! | `turns` | asks for another short turn, for ever | none |
//!
//! Any other body is answered with itself.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bulkhead_guest::{Agent, AgentError, Message, Outcome, Sender};
use wasip2::cli::stdout::get_stdout;
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::io::poll::poll;

/// Rounds between two checks of the clock, which is a host call: some tens of microseconds.
const ROUNDS: u64 = 20_000;

#[derive(Default)]
struct Spin;

impl Agent for Spin {
    fn handle(&mut self, message: Message) -> Result<Outcome, AgentError> {
        if message.body == "turns" || matches!(message.sender, Sender::Continuation) {
            rounds();
            return Ok(Outcome::proceed());
        }
        let words: Vec<&str> = message.body.split(' ').collect();
        match words[..] {
            ["nap", ms, us] => {
                return Ok(Outcome::reply(nap(number(ms)?, number(us)?).to_string()));
            }
            ["fill", mib, times] => {
                fill(number(mib)?, number(times)?);
                return Ok(Outcome::reply("filled"));
            }
            ["poll", count] => return Ok(Outcome::reply(poll_one(number(count)?).to_string())),
            ["blank", bytes] => return Ok(Outcome::reply(blank(number(bytes)?))),
            _ => {}
        }
        let Some(time) = message.body.strip_prefix("spin") else {
            return Ok(Outcome::reply(message.body));
        };
        match time.trim() {
            "" => loop {
                rounds();
            },
            time => match time.parse() {
                Ok(ms) => Ok(Outcome::reply(spin_for(Duration::from_millis(ms)).to_string())),
                Err(_) => Err(AgentError::failed("bad-body", "time is not a number of ms")),
            },
        }
    }
}

fn number(text: &str) -> Result<usize, AgentError> {
    text.parse().map_err(|_| AgentError::failed("bad-body", "what follows is not a number"))
}

fn nap(ms: usize, us: usize) -> u64 {
    let (begin, mut naps) = (Instant::now(), 0);
    while begin.elapsed() < Duration::from_millis(ms as u64) {
        let spin = Instant::now();
        while spin.elapsed() < Duration::from_micros(us as u64) {}
        std::thread::sleep(Duration::from_micros(1));
        naps += 1;
    }
    naps
}

/// `memory.fill`, where the compiler makes one of it.
fn fill(mib: usize, times: usize) {
    let mut memory = vec![0_u8; mib << 20];
    for time in 0..times {
        memory.fill(time as u8);
        black_box(&memory);
    }
}

fn poll_one(count: usize) -> usize {
    let timer = subscribe_duration(0);
    poll(&vec![&timer; count]).len()
}

fn blank(bytes: usize) -> String {
    let out = get_stdout();
    match out.check_write().and_then(|_| out.write(&vec![b'\n'; bytes])) {
        Ok(()) => bytes.to_string(),
        Err(error) => error.to_string(),
    }
}

fn spin_for(time: Duration) -> u64 {
    let begin = Instant::now();
    let mut total = 0;
    while begin.elapsed() < time {
        rounds();
        total += ROUNDS;
    }
    total
}

/// Without `black_box` nothing would be left of it.
#[inline(never)]
fn rounds() {
    for round in 0..ROUNDS {
        black_box(round);
    }
}

bulkhead_guest::export!(Spin);
