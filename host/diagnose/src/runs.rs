//! Runs cut out of what was collected, for each town.
//!
//! A run that names itself is what its lines say. The original container's lines name no run: there, a run begins
//! where `container.cold_start` says so, or where the uptime of lines says that the process began. What names
//! neither run nor town is put where its time and its input say.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::collect::Collected;
use crate::collect::cells::{Cell, Key, Origin, Point};
use crate::collect::names::Name;
use crate::rules::{Sign, SignSpec};

/// Times at which two lines say that their process began belong to one process when they are this close.
const SAME_BOOT_MS: i64 = 5_000;

/// One line alone is believed to be of another process only when that is so far from all others.
const LONE_BOOT_MS: i64 = 30_000;

/// Clocks of the control plane and of the container differ by this at most.
const CLOCKS_DIFFER_MS: i64 = 10_000;

/// Without anything that says when a process began, a silence of this length parts two runs.
const SILENCE_MS: i64 = 300_000;

/// Lines of a run that are later than the first one of the next by this are of a container that goes on. A process that
/// is about to end may still write one or two.
const BESIDE_MS: i64 = 1_000;

/// The run that follows one beside others is among so many.
const NEAR: usize = 1_000;

/// One run of a container.
#[derive(Debug)]
pub struct Run {
    /// Its own name, when it has one.
    pub id: Option<Name>,
    /// When it began; its first line when it is older than the log.
    pub start: i64,
    /// Its first line, if there is any.
    pub first: Option<Point>,
    /// Its last line. Without one, nothing but words of others are known of it.
    pub last: Option<Point>,
    /// What was seen of it, in the order of time.
    pub seen: Vec<Seen>,
    /// Numbered lines that are missing, as far as its last line says.
    pub lost_lines: u64,
    /// The run that it says was before it.
    predecessor: Option<Name>,
}

/// Something that was seen of a run.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What.
    pub spec: &'static SignSpec,
    /// Of which agent.
    pub agent: Option<Name>,
    /// How often and when.
    pub cell: Cell,
}

impl Run {
    fn new(id: Option<Name>, start: i64) -> Self {
        Self {
            id,
            start,
            first: None,
            last: None,
            seen: Vec::new(),
            lost_lines: 0,
            predecessor: None,
        }
    }

    /// When it fell silent.
    pub fn end(&self) -> i64 {
        self.last.map_or(self.start, |last| last.ts)
    }

    /// Whether another one that began later ran beside it: its own lines go on, and the other one does not say that it
    /// follows it.
    fn is_beside(&self, later: &Self) -> bool {
        let (Some(id), Some(_), Some(last), Some(first)) =
            (self.id, later.id, self.last, later.first)
        else {
            return false;
        };
        later.predecessor != Some(id) && last.ts - first.ts > BESIDE_MS
    }

    fn extend(&mut self, from: Point, to: Point) {
        self.first = Some(self.first.map_or(from, |known| known.min(from)));
        self.last = Some(self.last.map_or(to, |known| known.max(to)));
    }

    /// What was seen of a sign.
    pub fn of(&self, sign: Sign) -> impl Iterator<Item = &Seen> {
        self.seen.iter().filter(move |seen| seen.spec.sign == sign)
    }
}

/// A town and its runs, in the order in which they began.
#[derive(Debug)]
pub struct Town {
    /// Its id. None when no line says it.
    pub name: Option<Name>,
    /// Its runs.
    pub runs: Vec<Run>,
    /// Lines that are the same one twice are frequent, so that two equal ones say nothing.
    pub is_doubled: bool,
}

impl Town {
    /// The run that followed a run.
    pub fn next(&self, at: usize) -> Option<&Run> {
        let run = self.runs.get(at)?;
        let mut later = self.runs[at + 1..].iter();
        let next = later.next()?;
        if !run.is_beside(next) {
            return Some(next);
        }
        later.take(NEAR).find(|later| run.id.is_some() && later.predecessor == run.id)
    }

    /// Whether runs of more than one container are in it.
    pub fn is_parallel(&self) -> bool {
        self.runs.windows(2).any(|pair| pair[0].is_beside(&pair[1]))
    }
}

type Cells = Vec<(Key, Cell)>;

/// Cuts runs out of what was collected. Also says how many things belong to no town.
pub fn cut(collected: &mut Collected) -> (Vec<Town>, u64) {
    let cells = std::mem::take(&mut collected.cells);
    let (events, again) = cells.events;
    let is_doubled = again * 100 > events;
    let cells = cells.into_sorted();
    let origins = Origins::of(collected, &cells);
    let mut towns: BTreeMap<Option<Name>, (Vec<Name>, Cells)> = BTreeMap::new();
    for (run, span) in &collected.runs {
        if let Some(town) = origins.town(span.origin, None) {
            towns.entry(town).or_default().0.push(*run);
        }
    }
    let mut homeless = 0;
    for (key, cell) in cells {
        let by_run = key.run.and_then(|run| collected.runs.get(&run)).map(|span| span.origin);
        match origins.town(by_run.unwrap_or(key.origin), key.agent) {
            Some(town) => towns.entry(town).or_default().1.push((key, cell)),
            None => homeless += u64::from(cell.count),
        }
    }
    let town =
        |(name, (runs, cells))| Town { name, runs: runs_of(collected, runs, cells), is_doubled };
    (towns.into_iter().map(town).collect(), homeless)
}

/// Which town a line belongs to that does not say it.
struct Origins {
    /// Towns that lines of an input name.
    of_input: HashMap<u16, BTreeSet<Name>>,
    all: BTreeSet<Name>,
    of_agent: HashMap<Name, Option<Name>>,
}

impl Origins {
    fn of(collected: &Collected, cells: &[(Key, Cell)]) -> Self {
        let mut origins =
            Self { of_input: HashMap::new(), all: BTreeSet::new(), of_agent: HashMap::new() };
        for span in collected.runs.values() {
            origins.name(span.origin, span.first.input);
        }
        for (key, cell) in cells {
            origins.name(key.origin, cell.first.input);
            if let (Origin::Town(town), Some(agent)) = (key.origin, key.agent) {
                let known = origins.of_agent.entry(agent).or_insert(Some(town));
                *known = known.filter(|known| *known == town);
            }
        }
        origins
    }

    fn name(&mut self, origin: Origin, input: u16) {
        if let Origin::Town(town) = origin {
            self.of_input.entry(input).or_default().insert(town);
            self.all.insert(town);
        }
    }

    /// The town: `Some(None)` is the town without a name, `None` that it cannot be determined.
    fn town(&self, origin: Origin, agent: Option<Name>) -> Option<Option<Name>> {
        let only = |towns: &BTreeSet<Name>| towns.first().copied().filter(|_| towns.len() == 1);
        match origin {
            Origin::Town(town) => Some(Some(town)),
            Origin::Input(input) => match self.of_input.get(&input) {
                Some(towns) => {
                    let by_agent = || agent.and_then(|agent| *self.of_agent.get(&agent)?);
                    Some(Some(only(towns).or_else(by_agent)?))
                }
                None => Some(only(&self.all)),
            },
        }
    }
}

fn runs_of(collected: &Collected, names: Vec<Name>, cells: Cells) -> Vec<Run> {
    let mut runs: Vec<Run> = names.iter().map(|name| named_run(collected, *name)).collect();
    runs.sort_by_key(|run| run.start);
    runs.extend(unnamed_runs(&runs, &cells));
    runs.extend(runs_only_reported(collected, &runs, &cells));
    runs.sort_by_key(|run| (run.start, run.id));
    let before_all = runs.first().map(|run| run.start - SAME_BOOT_MS);
    let early = cells.iter().find(|(key, cell)| {
        key.run.is_none() && before_all.is_none_or(|start| cell.first.ts < start)
    });
    if let Some((_, cell)) = early {
        runs.insert(0, Run::new(None, cell.first.ts));
    }
    let by_name: HashMap<Name, usize> =
        runs.iter().enumerate().filter_map(|(at, run)| Some((run.id?, at))).collect();
    for (mut key, cell) in cells {
        if key.of_predecessor
            && let Some(name) = key.run.and_then(|run| collected.predecessors.get(&run))
        {
            (key.run, key.of_predecessor) = (Some(*name), false);
        }
        if let Some(at) = owner(&runs, &by_name, &key, &cell) {
            put(&mut runs[at], &key, cell);
        }
    }
    for run in &mut runs {
        run.seen.sort_by_key(|seen| seen.cell.first);
    }
    runs.retain(|run| run.last.is_some() || !run.seen.is_empty());
    runs
}

fn named_run(collected: &Collected, name: Name) -> Run {
    let span = &collected.runs[&name];
    let start = span.boot_ts.map_or(span.first.ts, |boot| boot.min(span.first.ts));
    let mut run = Run::new(Some(name), start);
    run.extend(span.first, span.last);
    run.predecessor = collected.predecessors.get(&name).copied();
    run.lost_lines = span.max_seq.saturating_add(1).saturating_sub(span.lines);
    run
}

/// Where processes began of which no line says a name.
fn unnamed_runs(named: &[Run], cells: &[(Key, Cell)]) -> Vec<Run> {
    let unnamed = || cells.iter().filter(|(key, _)| key.run.is_none());
    let mut boots: Vec<(i64, bool)> = Vec::new();
    // Events that a host keeps say when the process began, and not how long it ran.
    let mut exact: BTreeSet<i64> = BTreeSet::new();
    for (key, cell) in unnamed() {
        let said = key.spec.is_some_and(|id| id.spec().sign == Sign::Boot);
        match cell.boot_ts {
            Some(boot) => boots.push((boot, said)),
            None if said => {
                boots.push((cell.first.ts, true));
                exact.insert(cell.first.ts);
            }
            None => {}
        }
    }
    let is_known = |boot: i64| {
        named.iter().any(|run| {
            (boot - run.start).abs() <= SAME_BOOT_MS || (run.start..=run.end()).contains(&boot)
        })
    };
    boots.retain(|(boot, _)| !is_known(*boot));
    boots.sort_unstable();
    let mut clusters: Vec<(i64, i64, bool, u32)> = Vec::new();
    for (boot, said) in boots {
        match clusters.last_mut() {
            Some((_, last, sure, count))
                if boot - *last <= SAME_BOOT_MS
                    && !(boot != *last && exact.contains(&boot) && exact.contains(last)) =>
            {
                (*last, *sure, *count) = (boot, *sure || said, *count + 1);
            }
            _ => clusters.push((boot, boot, said, 1)),
        }
    }
    let is_believed = |at: usize| {
        let (boot, _, sure, count) = clusters[at];
        let near = |other: Option<&(i64, i64, bool, u32)>| {
            other.is_some_and(|(first, last, ..)| {
                (boot - last).abs().min((boot - first).abs()) < LONE_BOOT_MS
            })
        };
        let before = at.checked_sub(1).and_then(|at| clusters.get(at));
        sure || count > 1 || !(near(before) || near(clusters.get(at + 1)))
    };
    if clusters.is_empty() && named.is_empty() {
        return after_silences(unnamed().map(|(_, cell)| cell));
    }
    let starts = (0..clusters.len()).filter(|at| is_believed(*at)).map(|at| clusters[at].0);
    starts.map(|start| Run::new(None, start)).collect()
}

fn after_silences<'a>(cells: impl Iterator<Item = &'a Cell>) -> Vec<Run> {
    let (mut runs, mut last): (Vec<Run>, Option<i64>) = (Vec::new(), None);
    for cell in cells {
        if last.is_some_and(|last| cell.first.ts - last > SILENCE_MS) {
            runs.push(Run::new(None, cell.first.ts));
        }
        last = last.max(Some(cell.last.ts));
    }
    runs
}

/// Runs of which only the next one speaks. They ended before it began.
fn runs_only_reported(collected: &Collected, runs: &[Run], cells: &[(Key, Cell)]) -> Vec<Run> {
    let mut reported: BTreeMap<Name, i64> = BTreeMap::new();
    for (key, cell) in cells {
        if let (Some(name), Some(id)) = (key.run, key.spec)
            && id.spec().is_about_previous()
            && !collected.runs.contains_key(&name)
        {
            reported.entry(name).or_insert(cell.first.ts);
        }
    }
    let reporter = |name| collected.predecessors.iter().find(|(_, reported)| **reported == name);
    let start = |(name, ts)| {
        let reporter =
            reporter(name).and_then(|(by, _)| runs.iter().find(|run| run.id == Some(*by)));
        Run::new(Some(name), reporter.map_or(ts, |run| run.start) - 1)
    };
    reported.into_iter().map(start).collect()
}

/// The run that something belongs to.
fn owner(runs: &[Run], by_name: &HashMap<Name, usize>, key: &Key, cell: &Cell) -> Option<usize> {
    let by_time = || {
        let at = runs.partition_point(|run| run.start <= cell.first.ts);
        Some(at.saturating_sub(1)).filter(|at| *at < runs.len())
    };
    let at = match key.run {
        Some(name) => by_name.get(&name).copied(),
        None => by_time(),
    }?;
    if key.of_predecessor {
        return at.checked_sub(1).filter(|before| !runs[*before].is_beside(&runs[at]));
    }
    let outside = key.spec.is_some_and(|id| id.spec().outside);
    let just_began = cell.first.ts - runs[at].start < CLOCKS_DIFFER_MS;
    if outside && key.run.is_none() && just_began && at > 0 {
        return Some(at - 1);
    }
    Some(at)
}

fn put(run: &mut Run, key: &Key, cell: Cell) {
    let spec = key.spec.map(|id| id.spec());
    let is_own = spec.is_none_or(|spec| !spec.outside && !spec.is_about_previous());
    if is_own && key.run.is_none() {
        run.extend(cell.first, cell.last);
    }
    if let Some(spec) = spec {
        run.seen.push(Seen { spec, agent: key.agent, cell });
    }
}
