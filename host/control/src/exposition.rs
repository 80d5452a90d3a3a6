//! From numbers to text: the only place that knows the exposition formats.
//!
//! `docs/metrics.md` explains each metric; a test compares the two.

mod format;

use std::fmt::Error;
use std::time::Duration;

use bulkhead_supervisor::{
    ArchiveFigures, DurationFigures, EndpointFigures, FollowerFigures, MemorySnapshot, Metrics,
    RoleMetrics, SinkStats, SpanFigures, ToolFigures,
};
use bulkhead_types::{TokenUsage, TownFigures};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

pub(crate) use format::Format;

use crate::connection_slots::ConnectionSlots;
use crate::process::Process;
use crate::streams::Streams;

/// Everything that one scrape reads.
#[derive(Debug)]
pub(crate) struct Scrape {
    pub(crate) metrics: Metrics,
    /// Of the town's client, when there is one.
    pub(crate) town: Option<TownFigures>,
    /// Of those to the control API.
    pub(crate) connections: ConnectionSlots,
    pub(crate) streams: Streams,
    pub(crate) process: Process,
}

/// The figures of a copy that waits for the lease, and has no host.
#[derive(Debug)]
pub(crate) struct Standby;

/// The whole answer.
pub(crate) fn text(figures: impl Collector, format: Format) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(figures));
    let mut text = String::with_capacity(8 * 1024);
    // A string takes everything; only a collector that errs could make it fail, and this one does not.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    match format {
        Format::OpenMetrics => text,
        Format::Prometheus => format::to_prometheus(&text),
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut page = Page(encoder);
        page.facts(&self.metrics)?;
        page.agents(&self.metrics)?;
        page.durations(&self.metrics)?;
        page.roles(&self.metrics.roles)?;
        page.memory(&self.metrics.memory)?;
        page.models(&self.metrics)?;
        page.tools(&self.metrics.tools)?;
        page.telemetry(self.metrics.spans)?;
        page.crashes(&self.metrics)?;
        if let Some(town) = &self.town {
            page.town(town)?;
        }
        page.host(&self.metrics, &self.connections, &self.streams)?;
        page.process(&self.process, &self.metrics)
    }
}

impl Collector for Standby {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut page = Page(encoder);
        page.standby(true)?;
        page.build(env!("CARGO_PKG_VERSION"))
    }
}

/// A page that is written from top to bottom.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn facts(&mut self, metrics: &Metrics) -> Result<(), Error> {
        let help = "Log events by name, including those below the log level.";
        self.counters("bulkhead_events", help, "event", &metrics.events)?;
        let help = "Exits of agents by reason.";
        self.counters("bulkhead_agent_exits", help, "reason", &metrics.exits)?;
        let help = "Log lines lost by level, because the output was too slow or closed.";
        self.counters("bulkhead_log_lines_dropped", help, "level", &metrics.dropped_lines)
    }

    fn agents(&mut self, metrics: &Metrics) -> Result<(), Error> {
        let help = "Known agents by state, including recently ended ones.";
        self.gauges("bulkhead_agents", help, None, "state", &metrics.agents)?;
        let help = "Desired agents that do not run, by state.";
        self.gauges("bulkhead_agents_missing", help, None, "state", &metrics.missing)?;
        self.gauge("bulkhead_stores", "Engine stores in existence.", None, metrics.stores)?;
        let help = "Slots in use by live agents.";
        self.gauge("bulkhead_places_used", help, None, metrics.slots_used)?;
        let help = "Maximum number of live agents.";
        self.gauge("bulkhead_places_max", help, None, metrics.slots_max)?;
        let help = "Messages waiting in mailboxes.";
        self.gauge("bulkhead_mailbox_messages", help, None, metrics.mailbox_messages)?;
        let help = "Size of the messages waiting in mailboxes.";
        self.gauge("bulkhead_mailbox", help, Some(Unit::Bytes), metrics.mailbox_bytes)?;
        let help = "Linear memories and tables of all guests.";
        self.gauge("bulkhead_guest_memory", help, Some(Unit::Bytes), metrics.guest_memory_bytes)?;
        let help = "Sum of the memory limits of all agents.";
        self.gauge("bulkhead_memory_committed", help, Some(Unit::Bytes), metrics.committed_bytes)?;
        let help = "Host memory held on behalf of agents.";
        self.gauge("bulkhead_agent_host_memory", help, Some(Unit::Bytes), metrics.agent_host_bytes)
    }

    fn durations(&mut self, metrics: &Metrics) -> Result<(), Error> {
        let help = "Time until agents ran, of starts that succeeded.";
        self.histogram("bulkhead_agent_start_duration", help, &metrics.starts)?;
        let help = "Time of turns that returned.";
        self.histogram("bulkhead_agent_turn_duration", help, &metrics.turns)
    }

    fn roles(&mut self, roles: &[RoleMetrics]) -> Result<(), Error> {
        let help = "Known agents by role and state.";
        let mut metric =
            self.0.encode_descriptor("bulkhead_role_agents", help, None, MetricType::Gauge)?;
        for RoleMetrics { role, agents, .. } in roles {
            for (state, count) in agents {
                let labels = [("role", &**role), ("state", *state)];
                ConstGauge::new(*count).encode(metric.encode_family(&labels)?)?;
            }
        }
        let count = |of: fn(&RoleMetrics) -> u64| -> Vec<_> {
            roles.iter().map(|it| (&*it.role, of(it))).collect()
        };
        let help = "Starts of agents that got to running, by role.";
        let starts = count(|it| it.figures.starts);
        self.counters("bulkhead_role_starts", help, "role", &starts)?;
        let help = "Abnormal ends of agents by role.";
        let crashes = count(|it| it.figures.crashes);
        self.counters("bulkhead_role_crashes", help, "role", &crashes)?;
        let help = "Restarts of agents after an end, by role.";
        let restarts = count(|it| it.figures.restarts);
        self.counters("bulkhead_role_restarts", help, "role", &restarts)?;
        let help = "Time in which guests were throttled by their cpu_max_percent, by role.";
        let seconds = Some(&Unit::Seconds);
        let mut metric = self.0.encode_descriptor(
            "bulkhead_role_cpu_throttled",
            help,
            seconds,
            MetricType::Counter,
        )?;
        for RoleMetrics { role, figures, .. } in roles {
            let seconds = figures.cpu_throttled.as_secs_f64();
            let labels = [("role", &**role)];
            ConstCounter::new(seconds).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// What no source says is left out.
    fn memory(&mut self, memory: &MemorySnapshot) -> Result<(), Error> {
        let reading = memory.reading.unwrap_or_default();
        let (limit, heap) = (reading.limit.map(|limit| limit.bytes), memory.heap);
        let bytes = [
            ("bulkhead_memory_limit", "Memory limit of the container.", limit),
            (
                "bulkhead_memory_used",
                "Memory in use that cannot be reclaimed without swapping.",
                reading.used_bytes,
            ),
            (
                "bulkhead_memory_available",
                "Memory available before a limit is reached.",
                reading.available_bytes,
            ),
            (
                "bulkhead_heap_used",
                "Heap in use by allocations of the host.",
                heap.map(|heap| heap.used_bytes),
            ),
            ("bulkhead_heap", "Heap that the allocator holds.", heap.map(|heap| heap.total_bytes)),
        ];
        for (name, help, value) in bytes {
            let Some(value) = value else { continue };
            self.gauge(name, help, Some(Unit::Bytes), value)?;
        }
        if let Some(psi) = reading.psi {
            let help = "Share of the last 10 s in which tasks were stalled on memory.";
            let shares = [("some", psi.some_avg10 / 100.0), ("full", psi.full_avg10 / 100.0)];
            self.gauges(
                "bulkhead_memory_pressure",
                help,
                Some(Unit::Other("ratio".into())),
                "tasks",
                &shares,
            )?;
        }
        if let Some(kills) = reading.oom_kills {
            let help = "Processes of the machine that the OOM killer killed.";
            self.counter("bulkhead_oom_kills", help, None, kills)?;
        }
        let help = "1 while memory is short.";
        self.gauge("bulkhead_memory_high", help, None, u32::from(memory.high))?;
        let help = "Memory sweeps over all agents.";
        self.counter("bulkhead_memory_sweeps", help, None, memory.sweeps)?;
        let help = "CPU time of the last sweep.";
        let (last, longest) = (memory.last_sweep, memory.longest_sweep);
        let seconds = Some(Unit::Seconds);
        self.gauge("bulkhead_memory_last_sweep", help, seconds.clone(), last.as_secs_f64())?;
        let help = "CPU time of the longest sweep.";
        self.gauge("bulkhead_memory_longest_sweep", help, seconds, longest.as_secs_f64())
    }

    fn models(&mut self, metrics: &Metrics) -> Result<(), Error> {
        let models = &metrics.models;
        let by_model = || {
            models.iter().flat_map(|(endpoint, figures)| {
                let of_endpoint = figures.models.iter();
                of_endpoint.map(move |((role, model), figures)| {
                    let labels =
                        [("role", &**role), ("endpoint", &**endpoint), ("model", &**model)];
                    (labels, figures)
                })
            })
        };
        let help = "Calls of language models by role, endpoint, model and outcome.";
        let mut metric =
            self.0.encode_descriptor("bulkhead_model_calls", help, None, MetricType::Counter)?;
        for ([role, endpoint, model], figures) in by_model() {
            for (outcome, count) in &figures.outcomes {
                let labels = [role, endpoint, model, ("outcome", *outcome)];
                ConstCounter::new(*count).encode(metric.encode_family(&labels)?)?;
            }
        }
        let help = "Tokens by role, endpoint and model. Cached ones are among input, reasoning among output.";
        let mut metric =
            self.0.encode_descriptor("bulkhead_model_tokens", help, None, MetricType::Counter)?;
        for ([role, endpoint, model], figures) in by_model() {
            let TokenUsage { input, cached, output, reasoning } = figures.tokens;
            for (kind, count) in
                [("input", input), ("cached", cached), ("output", output), ("reasoning", reasoning)]
            {
                let labels = [role, endpoint, model, ("type", kind)];
                ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
            }
        }
        let help =
            "Cost of calls by role, endpoint and model, in the unit of the configured prices.";
        let mut metric =
            self.0.encode_descriptor("bulkhead_model_cost", help, None, MetricType::Counter)?;
        for (labels, figures) in by_model() {
            let Some(cost_nano) = figures.cost_nano else { continue };
            ConstCounter::new(cost_nano as f64 / 1e9).encode(metric.encode_family(&labels)?)?;
        }
        let help = "Duration of calls with all their tries.";
        let mut metric = self.0.encode_descriptor(
            "bulkhead_model_call_duration",
            help,
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (endpoint, figures) in models {
            let bounds = EndpointFigures::BUCKETS_MS.map(|ms| ms as f64 / 1000.0);
            let bounds = bounds.into_iter().chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(figures.durations).collect();
            let labels = [("endpoint", &**endpoint)];
            let mut metric = metric.encode_family(&labels)?;
            let sum = figures.duration_ms as f64 / 1000.0;
            metric.encode_histogram::<NoLabelSet>(sum, figures.calls, &buckets, None)?;
        }
        let help =
            "Calls and entries of use that have no entry of their own, because there are too many.";
        self.counter("bulkhead_model_usage_merged", help, None, metrics.merged_usage)
    }

    fn tools(&mut self, tools: &ToolFigures) -> Result<(), Error> {
        self.gauge("bulkhead_tools_running", "Native programs that run.", None, tools.running)?;
        let help = "Native programs that have ended, by how.";
        self.counters("bulkhead_tool_ends", help, "end", &tools.ends)?;
        let help = "CPU time of native programs that have ended.";
        let seconds = Duration::from_micros(tools.cpu_us).as_secs_f64();
        self.counter("bulkhead_tool_cpu", help, Some(Unit::Seconds), seconds)
    }

    fn telemetry(&mut self, spans: SpanFigures) -> Result<(), Error> {
        let SpanFigures { exported, dropped, failed } = spans;
        let help = "Spans by what became of them. None while telemetry is off.";
        let counts = [("exported", exported), ("dropped", dropped), ("failed", failed)];
        self.counters("bulkhead_spans", help, "outcome", &counts)
    }

    fn evidence(&mut self, sink: Option<SinkStats>) -> Result<(), Error> {
        let SinkStats { stored, failed, dropped, age, failing: _ } = sink.unwrap_or_default();
        let help = "Documents for the evidence sink by what became of them. None without a sink.";
        let counts = [("stored", stored), ("failed", failed)];
        self.counters("bulkhead_evidence_documents", help, "outcome", &counts)?;
        let help = "Crash records that made room before the evidence sink took them.";
        self.counter("bulkhead_evidence_crash_records_dropped", help, None, dropped)?;
        let Some(age) = age else { return Ok(()) };
        let help = "Time since the evidence sink took a document. Absent until it has.";
        self.gauge("bulkhead_evidence_age", help, Some(Unit::Seconds), age.as_secs_f64())
    }

    fn ship(&mut self, of: &FollowerFigures) -> Result<(), Error> {
        let help = "Segments that were shipped.";
        self.counter("bulkhead_ship_segments", help, None, of.segments)?;
        let help = "Bytes that were shipped.";
        self.counter("bulkhead_ship", help, Some(Unit::Bytes), of.bytes)?;
        let help = "How long the oldest commit waits that is not shipped.";
        self.gauge("bulkhead_ship_lag", help, Some(Unit::Seconds), of.lag.as_secs_f64())?;
        let help = "1 while the last try to ship failed.";
        self.gauge("bulkhead_ship_failing", help, None, u32::from(of.failing.is_some()))
    }

    fn archives(&mut self, of: ArchiveFigures) -> Result<(), Error> {
        let help = "Workspaces at the end of an incarnation, by what became of them.";
        let ends = [
            ("shipped", of.shipped),
            ("unchanged", of.unchanged),
            ("failed", of.failed),
            ("too-large", of.too_large),
        ];
        self.counters("bulkhead_ship_workspaces", help, "outcome", &ends)?;
        let help = "Bytes of workspaces that were shipped.";
        self.counter("bulkhead_ship_workspace", help, Some(Unit::Bytes), of.bytes)?;
        let help = "Workspaces that were brought here from another machine.";
        self.counter("bulkhead_ship_workspaces_arrived", help, None, of.arrived)?;
        let help = "Workspaces of agents that ended, and are not shipped as they are.";
        self.gauge("bulkhead_ship_workspaces_due", help, None, of.due)
    }

    fn crashes(&mut self, metrics: &Metrics) -> Result<(), Error> {
        let of = &metrics.symbolizer;
        let help = "Crashes whose frames were symbolized.";
        self.counter("bulkhead_symbolizer_look_ups", help, None, of.looked_up)?;
        let help = "Symbolization requests answered by an earlier one.";
        self.counter("bulkhead_symbolizer_repeated", help, None, of.repeated)?;
        let help = "Symbolization requests refused because the queue was full.";
        self.counter("bulkhead_symbolizer_dropped", help, None, of.dropped)?;
        let help = "Symbolization requests without a result.";
        self.counter("bulkhead_symbolizer_unavailable", help, None, of.unavailable)?;
        let help = "Size of the cache of debug sections.";
        self.gauge("bulkhead_symbolizer_kept", help, Some(Unit::Bytes), of.kept_bytes)?;

        let of = &metrics.crashes;
        let help = "Crash records in memory.";
        self.gauge("bulkhead_crash_records_kept", help, None, of.kept)?;
        let help = "Size of the crash records in memory.";
        self.gauge("bulkhead_crash_records_kept", help, Some(Unit::Bytes), of.bytes)?;
        let help = "Crash records evicted from memory by newer ones.";
        self.counter("bulkhead_crash_records_evicted", help, None, of.evicted)?;
        let help = "Crash records written to the database. A record is written again once it is symbolized.";
        self.counter("bulkhead_crash_records_written", help, None, of.written)?;
        let help = "Failed writes of crash records. They are repeated.";
        self.counter("bulkhead_crash_record_errors", help, None, of.write_errors)?;
        let help = "Crash records dropped from the queue for the database.";
        self.counter("bulkhead_crash_records_dropped", help, None, of.dropped)?;
        let help = "Crash records waiting for the database.";
        self.gauge("bulkhead_crash_records_waiting", help, None, of.waiting)?;
        self.evidence(of.sink)?;

        let of = &metrics.core_dumps;
        let help = "Core dumps written.";
        self.counter("bulkhead_core_dumps_kept", help, None, of.kept)?;
        let help = "Core dumps not written: queue full, too large, or an error.";
        self.counter("bulkhead_core_dumps_refused", help, None, of.refused)?;
        let help =
            "Workspace writes refused for lack of space, by their quota or the disk reserve.";
        let of = &metrics.disk;
        let refused = [("quota", of.refused_by_quota), ("disk", of.refused_by_floor)];
        self.counters("bulkhead_workspace_writes_refused", help, "by", &refused)?;
        let help = "Starts and turns not recorded because the black box was full.";
        self.counter("bulkhead_untracked_work", help, None, metrics.untracked_work)?;
        let help = "Messages delivered without a record because the journal was full.";
        self.counter("bulkhead_untracked_messages", help, None, metrics.untracked_messages)
    }

    fn town(&mut self, town: &TownFigures) -> Result<(), Error> {
        let help = "Calls of the town's API by name and outcome.";
        let mut metric =
            self.0.encode_descriptor("bulkhead_town_calls", help, None, MetricType::Counter)?;
        for (call, outcome, count) in &town.calls {
            let labels = [("call", *call), ("outcome", *outcome)];
            ConstCounter::new(*count).encode(metric.encode_family(&labels)?)?;
        }
        let help = "Items waiting to be sent to the town.";
        self.gauges("bulkhead_town_waiting", help, None, "what", &town.waiting)?;
        let help = "Items for the town that were dropped.";
        self.counters("bulkhead_town_dropped", help, "what", &town.dropped)?;
        let help = "Calls about an agent that were given up.";
        self.counters("bulkhead_town_given_up", help, "call", &town.given_up)?;
        let help = "1 while the town answers.";
        self.gauge("bulkhead_town_reachable", help, None, u32::from(town.reachable))?;
        let help = "1 when a newer run serves the town.";
        self.gauge("bulkhead_town_fenced", help, None, u32::from(town.fenced))
    }

    fn host(
        &mut self,
        metrics: &Metrics,
        connections: &ConnectionSlots,
        streams: &Streams,
    ) -> Result<(), Error> {
        self.gauge("bulkhead_tasks", "Named tasks of the host.", None, metrics.tasks)?;
        let help = "Open connections of the control server.";
        self.gauge("bulkhead_control_connections", help, None, connections.taken())?;
        let help = "Connections closed to admit another one.";
        self.counter("bulkhead_control_connections_evicted", help, None, connections.evicted())?;
        let help = "Open event streams.";
        self.gauge("bulkhead_streams", help, None, streams.open())?;
        let help = "Event streams that were opened.";
        self.counter("bulkhead_streams_opened", help, None, streams.opened())?;
        let help = "Times that a stream left something out, and reported it.";
        self.counter("bulkhead_stream_gaps", help, None, streams.gaps())?;
        let help = "1 while the host accepts starts.";
        self.gauge("bulkhead_ready", help, None, u32::from(metrics.ready))?;
        let help = "1 while what agents have is durable.";
        self.gauge("bulkhead_durable", help, None, u32::from(metrics.durable))?;
        let help = "1 while the container drains.";
        self.gauge("bulkhead_draining", help, None, u32::from(metrics.draining))?;
        if let Some(ship) = &metrics.ship {
            self.ship(ship)?;
        }
        if let Some(archives) = metrics.archives {
            self.archives(archives)?;
        }
        if let (Some(epoch), Some(left)) = (bulkhead_fence::epoch(), bulkhead_fence::left()) {
            let help = "Epoch of the lease that this run holds.";
            self.gauge("bulkhead_lease_epoch", help, None, epoch)?;
            let help = "Time until this run ends if the lease is not renewed.";
            let left = Duration::from_nanos(left).as_secs_f64();
            self.gauge("bulkhead_lease_left", help, Some(Unit::Seconds), left)?;
        }
        let uptime = metrics.uptime.as_secs_f64();
        self.gauge("bulkhead_uptime", "Age of this run.", Some(Unit::Seconds), uptime)?;
        self.standby(false)?;
        self.build(metrics.version)?;
        let Some((cause, confidence)) = metrics.previous_run else { return Ok(()) };
        let help = "Why the run before this one ended.";
        let labels = [("cause", cause.as_str()), ("confidence", confidence.as_str())];
        self.info("bulkhead_previous_run", help, &labels)
    }

    fn standby(&mut self, waits: bool) -> Result<(), Error> {
        let help = "1 on a copy that waits for the lease of its town, and has no agents.";
        self.gauge("bulkhead_standby", help, None, u32::from(waits))
    }

    fn build(&mut self, version: &str) -> Result<(), Error> {
        self.info("bulkhead_build", "Version of the running program.", &[("version", version)])
    }

    fn process(&mut self, process: &Process, metrics: &Metrics) -> Result<(), Error> {
        if let Some(fds) = process.open_fds {
            self.gauge("process_open_fds", "Open file descriptors.", None, fds)?;
        }
        if let Some(fds) = process.max_fds {
            self.gauge("process_max_fds", "Maximum number of open file descriptors.", None, fds)?;
        }
        if let Some(bytes) = process.resident_bytes {
            let help = "Resident memory.";
            self.gauge("process_resident_memory", help, Some(Unit::Bytes), bytes)?;
        }
        if let Some(seconds) = process.cpu_seconds {
            let help = "CPU time of all threads, user and system.";
            self.counter("process_cpu", help, Some(Unit::Seconds), seconds)?;
        }
        let started = metrics.started_at.0 as f64 / 1000.0;
        let help = "Start time of this run since the Unix epoch.";
        self.gauge("process_start_time", help, Some(Unit::Seconds), started)
    }

    fn gauge<N: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        value: N,
    ) -> Result<(), Error> {
        let metric = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        ConstGauge::new(value).encode(metric)
    }

    fn gauges<N: EncodeGaugeValue + Copy>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        label: &str,
        values: &[(&str, N)],
    ) -> Result<(), Error> {
        let mut metric = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (of, value) in values {
            ConstGauge::new(*value).encode(metric.encode_family(&[(label, *of)])?)?;
        }
        Ok(())
    }

    /// The text gives the name its `_total`.
    fn counter<N: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        value: N,
    ) -> Result<(), Error> {
        let metric = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        ConstCounter::new(value).encode(metric)
    }

    fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) -> Result<(), Error> {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(&labels)
    }

    /// Durations, in seconds.
    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        figures: &DurationFigures,
    ) -> Result<(), Error> {
        let unit = Some(&Unit::Seconds);
        let mut metric = self.0.encode_descriptor(name, help, unit, MetricType::Histogram)?;
        let bounds = DurationFigures::BOUNDS_MS.map(|ms| ms as f64 / 1000.0);
        let bounds = bounds.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(figures.buckets).collect();
        let (sum, count) = (figures.sum.as_secs_f64(), figures.count());
        metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: &[(&str, u64)],
    ) -> Result<(), Error> {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (of, value) in values {
            ConstCounter::new(*value).encode(metric.encode_family(&[(label, *of)])?)?;
        }
        Ok(())
    }
}
