//! What befalls the machines and the engine, by dice.

use super::network::Way;

/// Something that begins, and perhaps ends later.
#[derive(Debug, Clone, Copy)]
pub struct Strike {
    /// Milliseconds from the beginning.
    pub at: u64,
    pub lasts: u64,
    /// `None`: the one that serves at that moment.
    pub machine: Option<usize>,
    pub blow: Blow,
}

#[derive(Debug, Clone, Copy)]
pub enum Blow {
    Kill(Which),
    /// All of it is gone, with its disk.
    Lose,
    Freeze(Which),
    Cut(Way),
    /// Each `fsync` takes so many milliseconds longer.
    SlowDisk(i64),
    /// Its wall clock is off by so many seconds from now on.
    Skew(i64),
    /// It is asked to end.
    Move,
    /// It is asked to hand the town over, and to stay.
    HandOver,
    RegisterKilled,
    RegisterFrozen,
    BucketAway,
    /// One of so many requests to the bucket is lost, and as many answers.
    BucketLossy(u32),
}

/// Processes of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    All,
    Init,
    Keeper,
    Supervisor,
}

/// How long it goes on, in milliseconds.
pub const SPAN: u64 = 7000;

/// Six to eleven, many of them at a time. Most befall the machine that serves.
pub fn strikes(dice: &mut fastrand::Rng, machines: usize) -> Vec<Strike> {
    let mut strikes: Vec<Strike> = (0..dice.usize(6..12))
        .map(|_| {
            let at = dice.u64(300..SPAN);
            // Longer than it takes another machine to begin, about every third time.
            let lasts = dice.u64(50..3300).min(dice.u64(50..6000));
            let machine = (dice.u8(0..5) < 2).then(|| dice.usize(0..machines));
            Strike { at, lasts, machine, blow: blow(dice) }
        })
        .collect();
    strikes.sort_by_key(|strike| strike.at);
    strikes
}

fn blow(dice: &mut fastrand::Rng) -> Blow {
    let which = |dice: &mut fastrand::Rng| match dice.u8(0..6) {
        0..3 => Which::All,
        3 => Which::Init,
        4 => Which::Keeper,
        _ => Which::Supervisor,
    };
    let way = |dice: &mut fastrand::Rng| match dice.u8(0..3) {
        0 => Way::Out,
        1 => Way::In,
        _ => Way::Both,
    };
    match dice.u8(0..21) {
        0..3 => Blow::Kill(which(dice)),
        3 => Blow::Lose,
        4..8 => Blow::Freeze(which(dice)),
        8..12 => Blow::Cut(way(dice)),
        12 => Blow::SlowDisk(dice.i64(20..900)),
        13 => Blow::Skew(dice.i64(-100_000..100_000)),
        14 => Blow::Move,
        15 => Blow::RegisterKilled,
        16 => Blow::RegisterFrozen,
        17 | 18 => Blow::BucketAway,
        19 => Blow::HandOver,
        _ => Blow::BucketLossy(dice.u32(2..6)),
    }
}
