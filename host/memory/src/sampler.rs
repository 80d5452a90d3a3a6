//! Samples of the container and of every agent.
//!
//! One sweep looks at every agent once: it reads what the agent's meter says, never the agent's memory, and
//! stops nobody. Where an agent was seen before is remembered in the order of the last sweep, so a sweep over
//! the same agents hashes nothing and allocates nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_types::memory::{LargeAgent, MemoryTrend};
use bulkhead_types::{AgentId, Incarnation};

use crate::reading::Reading;
use crate::series::{Series, Times};
use crate::trend::{Point, trend};

/// The part of all agents that may have to be searched for in each sweep. Looking for one costs three others.
const MOST_ASTRAY: usize = 64;

/// One agent as a sweep sees it.
#[derive(Debug, Clone, Copy)]
pub struct AgentReading<'a> {
    /// Who.
    pub agent_id: &'a AgentId,
    /// Its role.
    pub role: &'a Arc<str>,
    /// Which incarnation.
    pub incarnation: Incarnation,
    /// All that it holds, `host_bytes` included. `None` when no incarnation is active.
    pub used_bytes: Option<u64>,
    /// What the host holds for it: mail, events, lines.
    pub host_bytes: u64,
    /// The largest `used_bytes` of this incarnation.
    pub peak_bytes: u64,
    /// Its hard limit.
    pub limit_bytes: u64,
}

/// What knows all agents.
pub trait AgentsMemory: Send + Sync {
    /// Shows every known agent once, those that ended included, some at a time: a lock for each would keep
    /// the processor from reading ahead. Must wait for no guest and hold no lock that a guest could wait for
    /// while `visit` runs.
    fn for_each(&self, visit: &mut dyn FnMut(&[AgentReading<'_>]));
}

/// What a sweep saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Known agents.
    pub agents: usize,
    /// Of them, the active ones.
    pub active_agents: usize,
    /// What those hold.
    pub used_bytes: u64,
    /// Of it, what the host holds for them.
    pub host_bytes: u64,
}

/// One agent over time.
#[derive(Debug)]
pub(crate) struct Track {
    agent_id: AgentId,
    role: Arc<str>,
    pub(crate) incarnation: Incarnation,
    /// The sweep that saw this incarnation first.
    began: u64,
    /// The sweep that saw it last, and how many it had seen before.
    seen: u64,
    place: usize,
    pub(crate) used_bytes: Option<u64>,
    pub(crate) host_bytes: u64,
    pub(crate) peak_bytes: u64,
    pub(crate) limit_bytes: u64,
    pub(crate) series: Series,
}

/// The container over time.
#[derive(Debug)]
pub(crate) struct ContainerSeries {
    pub(crate) used: Series,
    pub(crate) rss: Series,
    pub(crate) guests: Series,
}

/// Samples of everything. Reads no clock and starts no thread.
#[derive(Debug)]
pub struct Sampler {
    pub(crate) times: Times,
    pub(crate) container: ContainerSeries,
    tracks: Vec<Track>,
    by_id: HashMap<AgentId, usize>,
    /// Where the next agent is, when all come in the order of the last sweep.
    next: usize,
    /// Agents of the sweep under way that had to be searched for.
    astray: usize,
    totals: Totals,
    under_way: Totals,
}

impl Sampler {
    /// Without samples.
    pub fn new() -> Self {
        let container =
            ContainerSeries { used: Series::new(), rss: Series::new(), guests: Series::new() };
        Self {
            times: Times::default(),
            container,
            tracks: Vec::new(),
            by_id: HashMap::new(),
            next: 0,
            astray: 0,
            totals: Totals::default(),
            under_way: Totals::default(),
        }
    }

    /// One sweep at `now`, a time of a clock that only goes forward.
    pub fn sweep(&mut self, now: Duration, reading: &Reading, agents: &dyn AgentsMemory) -> Totals {
        self.begin(now);
        agents.for_each(&mut |agents| agents.iter().for_each(|agent| self.take(agent)));
        self.end(reading)
    }

    /// A sweep in parts: `begin`, `take` for every agent, `end`.
    pub(crate) fn begin(&mut self, now: Duration) {
        self.times.begin(now);
        (self.next, self.astray) = (0, 0);
        self.under_way = Totals::default();
    }

    pub(crate) fn take(&mut self, agent: &AgentReading<'_>) {
        let sweep = self.times.sweeps();
        let at = self.find(agent);
        let track = &mut self.tracks[at];
        if track.seen == sweep {
            return;
        }
        if track.incarnation != agent.incarnation || track.used_bytes.is_none() {
            (track.incarnation, track.began) = (agent.incarnation, sweep);
            track.agent_id.clone_from(agent.agent_id);
        }
        if !Arc::ptr_eq(&track.role, agent.role) {
            track.role = Arc::clone(agent.role);
        }
        (track.seen, track.place) = (sweep, self.under_way.agents);
        track.used_bytes = agent.used_bytes;
        track.host_bytes = agent.host_bytes;
        track.peak_bytes = agent.peak_bytes;
        track.limit_bytes = agent.limit_bytes;
        track.series.push(agent.used_bytes, &self.times);
        let totals = &mut self.under_way;
        totals.agents += 1;
        if let Some(used_bytes) = agent.used_bytes {
            totals.active_agents += 1;
            totals.used_bytes += used_bytes;
            totals.host_bytes += agent.host_bytes;
        }
    }

    pub(crate) fn end(&mut self, reading: &Reading) -> Totals {
        self.totals = self.under_way;
        let all = self.tracks.len();
        if self.totals.agents < all || self.astray > all / MOST_ASTRAY {
            self.follow_the_order();
        }
        let guests = Some(self.totals.used_bytes);
        self.container.used.push(reading.used_bytes, &self.times);
        self.container.rss.push(reading.rss_bytes, &self.times);
        self.container.guests.push(guests, &self.times);
        self.totals
    }

    /// What the last whole sweep saw.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The live agents that hold most, the largest first.
    pub fn largest(&self, count: usize) -> Vec<LargeAgent> {
        let mut largest: Vec<(u64, usize)> = Vec::with_capacity(count + 1);
        for (at, track) in self.tracks.iter().enumerate() {
            let Some(used_bytes) = track.used_bytes else { continue };
            let place = largest.partition_point(|(other, _)| *other >= used_bytes);
            if place < count {
                largest.insert(place, (used_bytes, at));
                largest.truncate(count);
            }
        }
        largest.into_iter().filter_map(|(_, at)| self.large(&self.tracks[at])).collect()
    }

    fn large(&self, track: &Track) -> Option<LargeAgent> {
        Some(LargeAgent {
            agent_id: track.agent_id.clone(),
            role: Arc::clone(&track.role),
            incarnation: track.incarnation,
            used_bytes: track.used_bytes?,
            limit_bytes: track.limit_bytes,
            trend: self.trend_of(track),
        })
    }

    /// How the container's use goes on, below `limit_bytes`.
    pub fn trend(&self, limit_bytes: Option<u64>) -> Option<MemoryTrend> {
        trend(&points(self.container.used.fine(&self.times)), limit_bytes)
    }

    pub(crate) fn track(&self, id: &AgentId) -> Option<&Track> {
        self.by_id.get(id).map(|at| &self.tracks[*at])
    }

    /// How the use of an agent's last incarnation goes on.
    pub(crate) fn trend_of(&self, track: &Track) -> Option<MemoryTrend> {
        track.used_bytes?;
        // Samples of this incarnation: the last ones.
        let count = track.seen - track.began + 1;
        let fine = track.series.fine(&self.times).rev();
        let mut points = points(fine.take(usize::try_from(count).unwrap_or(usize::MAX)));
        points.reverse();
        trend(&points, Some(track.limit_bytes))
    }

    /// The index of an agent, made when there is none.
    fn find(&mut self, agent: &AgentReading<'_>) -> usize {
        let at = match self.tracks.get(self.next) {
            // The text is somewhere else in memory, and looked at only when it has to be.
            Some(track) if track.agent_id.is_clone_of(agent.agent_id) => self.next,
            Some(track) if track.agent_id == *agent.agent_id => self.next,
            _ => {
                self.astray += 1;
                self.by_id.get(agent.agent_id).copied().unwrap_or_else(|| self.add(agent))
            }
        };
        self.next = at + 1;
        at
    }

    fn add(&mut self, agent: &AgentReading<'_>) -> usize {
        let at = self.tracks.len();
        self.by_id.insert(agent.agent_id.clone(), at);
        self.tracks.push(Track {
            agent_id: agent.agent_id.clone(),
            role: Arc::clone(agent.role),
            incarnation: agent.incarnation,
            began: self.times.sweeps(),
            seen: 0,
            place: 0,
            used_bytes: None,
            host_bytes: 0,
            peak_bytes: 0,
            limit_bytes: 0,
            series: Series::new(),
        });
        at
    }

    /// Forgets the agents that were not seen, and puts the others where the next sweep looks for them.
    fn follow_the_order(&mut self) {
        let sweep = self.times.sweeps();
        self.tracks.retain(|track| track.seen == sweep);
        self.tracks.sort_unstable_by_key(|track| track.place);
        self.by_id.clear();
        let ids = self.tracks.iter().enumerate();
        self.by_id.extend(ids.map(|(at, track)| (track.agent_id.clone(), at)));
    }
}

impl Default for Sampler {
    fn default() -> Self {
        Self::new()
    }
}

fn points(samples: impl Iterator<Item = (Duration, u64)>) -> Vec<Point> {
    samples.map(|(at, bytes)| Point { at, bytes }).collect()
}

#[cfg(test)]
mod tests;
