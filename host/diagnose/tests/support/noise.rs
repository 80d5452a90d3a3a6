//! What happens to logs on their way.

use fastrand::Rng;

use super::{Line, Log};

/// One kind of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noise {
    /// None.
    Clean,
    /// Lines are swapped with others near them.
    Shuffled,
    /// Every fifth line is lost.
    Dropped,
    /// Every tenth line is truncated somewhere.
    Cut,
    /// The control plane's clock is off.
    Skewed,
    /// Every tenth line comes twice.
    Doubled,
    /// All of these.
    All,
}

pub const NOISES: [Noise; 6] =
    [Noise::Shuffled, Noise::Dropped, Noise::Cut, Noise::Skewed, Noise::Doubled, Noise::All];

/// Lines that are swapped are at most this far apart.
const WINDOW: usize = 12;

/// The damaged log.
pub fn with(log: &Log, noise: Noise, seed: u64) -> Log {
    let mut random = Rng::with_seed(seed);
    let mut lines = log.lines.clone();
    if matches!(noise, Noise::Skewed | Noise::All) {
        let off = random.i64(-4_000..4_000);
        for line in lines.iter_mut().filter(|line| line.outside) {
            shift(line, off);
        }
    }
    if matches!(noise, Noise::Doubled | Noise::All) {
        lines = lines
            .into_iter()
            .flat_map(|line| {
                let times = if random.u8(..10) == 0 { 2 } else { 1 };
                vec![line; times]
            })
            .collect();
    }
    if matches!(noise, Noise::Shuffled | Noise::All) {
        let mut keyed: Vec<_> = lines
            .into_iter()
            .enumerate()
            .map(|(at, line)| (at + random.usize(..WINDOW), line))
            .collect();
        keyed.sort_by_key(|(at, _)| *at);
        lines = keyed.into_iter().map(|(_, line)| line).collect();
    }
    if matches!(noise, Noise::Dropped | Noise::All) {
        lines.retain(|_| random.u8(..5) > 0);
    }
    if matches!(noise, Noise::Cut | Noise::All) {
        for line in &mut lines {
            if random.u8(..10) == 0 {
                line.text.truncate(random.usize(..line.text.len().max(1)));
            }
        }
    }
    Log { lines, ..log.clone() }
}

/// Writes another time into a line that begins with one, or has one as a number.
fn shift(line: &mut Line, off: i64) {
    let text = String::from_utf8_lossy(&line.text).into_owned();
    let moved = if let Some(rest) = text.strip_prefix("{\"message\":") {
        // Keys are sorted: the time is the last field but one.
        let old = format!("\"timestamp\":{}", line.ts);
        format!("{{\"message\":{rest}").replace(&old, &format!("\"timestamp\":{}", line.ts + off))
    } else {
        // The minute is enough to move: seconds of 2026-01-15T09:30:00.000Z.
        let second: Option<i64> = text.get(17..19).and_then(|text| text.parse().ok());
        let moved = second.map(|second| (second + off / 1000).clamp(0, 59));
        match moved {
            Some(second) => format!("{}{second:02}{}", &text[..17], &text[19..]),
            None => text,
        }
    };
    line.text = moved.into_bytes();
}
