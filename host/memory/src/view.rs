//! The answers of `GET /memory` and `GET /agents/{id}/memory`.

use bulkhead_api::{AgentMemoryView, ContainerMemoryView, HeapView, SeriesView};
use bulkhead_types::memory::MemorySample;
use bulkhead_types::time::millis;

use crate::sampler::AgentReading;
use crate::series::{Series, Times};
use crate::shared::{LARGEST, Memory, Now};

impl Memory {
    /// The container: the latest reading, its series, the largest agents.
    pub fn view(&self) -> ContainerMemoryView {
        let (now, sources, snapshot) = (self.now(), self.sources(), self.snapshot());
        let reading = snapshot.reading.unwrap_or_default();
        let limit_bytes = reading.limit.map(|limit| limit.bytes);
        let sampler = self.sampler();
        let series = |series| series_view(series, &sampler.times, now);
        ContainerMemoryView {
            at: now.at,
            limit_bytes,
            used_bytes: reading.used_bytes,
            available_bytes: reading.available_bytes,
            rss_bytes: reading.rss_bytes,
            heap: snapshot.heap.map(|heap| HeapView {
                used_bytes: heap.used_bytes,
                total_bytes: heap.total_bytes,
            }),
            psi: reading.psi,
            high: snapshot.high,
            oom_kills: reading.oom_kills,
            group_oom_kills: reading.group_oom_kills,
            limit_hits: reading.limit_hits,
            agents: snapshot.totals.agents,
            active_agents: snapshot.totals.active_agents,
            agents_bytes: snapshot.totals.used_bytes,
            sources,
            sample_ms: millis(self.config().sample),
            trend: sampler.trend(limit_bytes),
            largest: sampler.largest(LARGEST),
            used: series(&sampler.container.used),
            rss: series(&sampler.container.rss),
            guests: series(&sampler.container.guests),
        }
    }

    /// One agent: how it is now, and its samples.
    pub fn agent_view(&self, agent: AgentReading<'_>) -> AgentMemoryView {
        let now = self.now();
        let sampler = self.sampler();
        let track = sampler.track(agent.agent_id);
        let series = track.map(|track| series_view(&track.series, &sampler.times, now));
        let of_this_incarnation = track
            .filter(|track| agent.used_bytes.is_some() && track.incarnation == agent.incarnation);
        AgentMemoryView {
            agent_id: agent.agent_id.clone(),
            role: agent.role.clone(),
            incarnation: agent.incarnation,
            used_bytes: agent.used_bytes,
            host_bytes: agent.used_bytes.map(|_| agent.host_bytes),
            peak_bytes: agent.peak_bytes,
            limit_bytes: agent.limit_bytes,
            trend: of_this_incarnation.and_then(|track| sampler.trend_of(track)),
            sample_ms: millis(self.config().sample),
            series: series.unwrap_or_default(),
        }
    }
}

fn series_view(series: &Series, times: &Times, now: Now) -> SeriesView {
    let sample = |sample| -> MemorySample { now.sample(sample) };
    SeriesView {
        fine: series.fine(times).map(sample).collect(),
        coarse: series.coarse(times).map(sample).collect(),
    }
}
