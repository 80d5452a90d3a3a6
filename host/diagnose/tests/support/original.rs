//! Lines as the original container and its control plane write them, of towns whose restarts have known causes.
//! The words and fields are the original's; what happens is made up from a seed.

use bulkhead_diagnose::rules::Hypothesis::{self, *};
use fastrand::Rng;
use serde_json::{Map, Value, json};

use super::{Line, Log, Truth, Which};

/// How the lines reach the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pipeline {
    /// As written: text has no time.
    Raw,
    /// A time before each line.
    Prefixed,
    /// Each line is a text in an object.
    Wrapped,
}

/// What ends runs: alone, two at a time, and nothing that leaves a trace.
pub const CAUSES: &[&[Hypothesis]] = &[
    &[H1],
    &[H2],
    &[H3],
    &[H4],
    &[H5],
    &[H6],
    &[H7],
    &[H11],
    &[H13],
    &[H1, H3],
    &[H1, H5],
    &[H2, H4],
    &[H2, H6],
    &[H3, H4],
    &[H5, H6],
    &[],
];

const MINUTE: i64 = 60_000;

/// 2026-01-15T00:00:00Z.
const EPOCH: i64 = 1_768_435_200_000;

struct Town {
    name: String,
    random: Rng,
    pipeline: Pipeline,
    agents: Vec<String>,
    lines: Vec<Line>,
    boot: i64,
    /// Where memory ends that grows.
    ceiling_mb: f64,
    sessions: u32,
}

/// A town that has every cause once, in an order of its own.
pub fn town(seed: u64) -> Log {
    let mut random = Rng::with_seed(seed);
    let pipeline = [Pipeline::Raw, Pipeline::Prefixed, Pipeline::Wrapped][seed as usize % 3];
    let agents = (0..random.usize(3..7)).map(|_| id(&mut random)).collect();
    let mut town = Town {
        name: id(&mut random),
        pipeline,
        agents,
        lines: Vec::new(),
        boot: EPOCH + random.i64(0..3_600_000),
        ceiling_mb: random.f64() * 1500.0 + 700.0,
        sessions: 0,
        random,
    };
    let mut causes = CAUSES.to_vec();
    town.random.shuffle(&mut causes);
    let mut truths = Vec::new();
    for labels in causes {
        let end = town.live(labels);
        town.boot = end + town.random.i64(1_500..30_000);
        let labels = labels.iter().map(|one| one.id().to_owned()).collect();
        truths.push(Truth { which: Which::At(town.boot), labels });
    }
    // The last run goes on.
    town.begin();
    let until = town.boot + 5 * MINUTE;
    town.routine(until, None);
    town.lines.sort_by_key(|line| line.ts);
    Log { town: format!("{}-{seed}", town.name), lines: town.lines, truths }
}

fn id(random: &mut Rng) -> String {
    let (a, b, c) = (random.u32(..), random.u16(..), random.u64(..) >> 16);
    format!("{a:08x}-{b:04x}-4{:03x}-a{:03x}-{c:012x}", b >> 4, a & 0xfff)
}

fn iso(ts: i64) -> String {
    // Through the report's own reader, so that a wrong one is found by every test.
    let (seconds, millis) = (ts.div_euclid(1000), ts.rem_euclid(1000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let mut day = days - 20_454;
    let (mut year, mut month) = (2026, 1);
    loop {
        let long = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1];
        if day < long {
            break;
        }
        day -= long;
        month += 1;
        if month > 12 {
            (year, month) = (year + 1, 1);
        }
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z", day + 1)
}

impl Town {
    fn put(&mut self, ts: i64, line: String, outside: bool) {
        let text = match self.pipeline {
            Pipeline::Raw if outside => format!("{} {line}", iso(ts)),
            Pipeline::Raw => line,
            Pipeline::Prefixed => format!("{} stdout {line}", iso(ts)),
            Pipeline::Wrapped => {
                json!({"timestamp": ts, "source": "stdout", "message": line}).to_string()
            }
        };
        self.lines.push(Line { ts, text: text.into_bytes(), outside });
    }

    fn text(&mut self, ts: i64, line: impl Into<String>) {
        self.put(ts, line.into(), false);
    }

    /// A line of the control plane's own log.
    fn outside(&mut self, ts: i64, line: impl Into<String>) {
        self.put(ts, line.into(), true);
    }

    /// A line of the container's logger: level, msg, fields, and the time last.
    fn log(&mut self, ts: i64, level: &str, msg: &str, fields: Value) {
        let mut line = format!("{{\"level\":\"{level}\",\"msg\":\"{msg}\"");
        let empty = Map::new();
        for (key, value) in fields.as_object().unwrap_or(&empty) {
            line.push_str(&format!(",{}:{value}", json!(key)));
        }
        line.push_str(&format!(",\"ts\":\"{}\"}}", iso(ts)));
        self.put(ts, line, false);
    }

    fn agent(&mut self) -> String {
        let at = self.random.usize(..self.agents.len());
        self.agents[at].clone()
    }

    fn session(&mut self) -> String {
        self.sessions += 1;
        format!("ses_{:06x}{:04x}", self.random.u32(..) >> 8, self.sessions)
    }

    fn begin(&mut self) {
        let boot = self.boot;
        let town = self.name.clone();
        let at = boot + self.random.i64(10..90);
        self.log(at, "info", "container.cold_start", json!({"uptime": at - boot, "townId": town}));
        self.text(at + 40, "Town container control server listening on port 8080");
        self.text(at + 60, format!("[boot-hydration] Fetching container registry for town={town}"));
        self.text(
            at + 300,
            format!("[boot-hydration] Resuming {} agent(s) from registry", self.agents.len()),
        );
        for (number, agent) in self.agents.clone().into_iter().enumerate() {
            self.start(at + 400 + 700 * number as i64, &agent);
        }
    }

    fn start(&mut self, ts: i64, agent: &str) {
        let session = self.session();
        self.text(
            ts,
            format!("[control-server] /agents/start: role=polecat name=P rigId=r1 agentId={agent}"),
        );
        self.text(ts + 5, "[control-server] system prompt length: 812");
        self.log(
            ts + 40,
            "info",
            "agent.startup_phase",
            json!({"agentId": agent, "phase": "db_hydrated", "elapsedMs": 35}),
        );
        self.text(ts + 300, format!("[process-manager] Created new session {session}"));
        self.log(ts + 480, "info", "agent.start", json!({"agentId": agent, "role": "polecat", "name": "P", "sessionId": session, "port": 4096}));
        self.text(
            ts + 500,
            format!("[control-server] /agents/start: success agentId={agent} port=4096 session={session}"),
        );
    }

    fn memory(&mut self, ts: i64, mb: f64) {
        let noise = 1.0 + (self.random.f64() - 0.5) * 0.05;
        let fields = json!({
            "rssMB": (mb * noise).round() as i64, "heapUsedMB": (mb * 0.5) as i64,
            "heapTotalMB": (mb * 0.6) as i64, "externalMB": (mb * 0.1) as i64,
            "townId": self.name, "uptimeMs": ts - self.boot,
            "agents": self.agents.len(), "activeAgents": self.agents.len(),
        });
        self.log(ts, "info", "container.memory_usage", fields);
    }

    fn rejection(&mut self, ts: i64) {
        let fields = json!({
            "message": "fetch failed", "name": "TypeError",
            "stack": "TypeError: fetch failed\n    at saveDbSnapshot (process-manager.ts:212:31)",
            "townId": self.name, "uptimeMs": ts - self.boot, "activeAgents": 3,
        });
        self.log(ts, "error", "container.unhandled_rejection", fields);
    }

    fn refresh(&mut self, ts: i64, works: bool) {
        let agents = self.agents.clone();
        self.log(
            ts,
            "info",
            "refresh_token.received",
            json!({"agentCount": agents.len(), "agentIds": agents}),
        );
        for agent in &agents {
            let at = ts + self.random.i64(300..2500);
            let level = if works { "info" } else { "error" };
            let fields = json!({"agentId": agent, "role": "polecat", "success": works, "durationMs": at - ts});
            self.log(at, level, "refresh_token.agent_restarted", fields);
        }
        self.log(
            ts + 2600,
            "info",
            "refresh_token.completed",
            json!({"agentCount": agents.len(), "totalMs": 2600}),
        );
    }

    /// What goes on all the time: work, memory, and things that look like causes and are none.
    fn routine(&mut self, end: i64, growth: Option<f64>) {
        let boot = self.boot;
        let base = self.random.f64() * 80.0 + 180.0;
        let mut ts = boot + 30_000;
        while ts < end {
            let share = (ts - boot) as f64 / (end - boot) as f64;
            let mb = match growth {
                Some(top) => base + (top - base) * share,
                // Caches fill in the first minute.
                None => base * (1.0 + 0.12 * (1.0 - (-(ts - boot) as f64 / 30_000.0).exp())),
            };
            self.memory(ts, mb);
            ts += 30_000;
        }
        let mut ts = boot + 6_000;
        while ts < end {
            let agent = self.agent();
            let number = self.random.u32(1..900);
            self.text(
                ts,
                format!(
                    "[process-manager] Event #{number} for agent {agent}: type=message.part.updated"
                ),
            );
            self.text(ts + 3, format!("[control-server] --> POST /agents/{agent}/message"));
            self.text(
                ts + 90,
                format!("[control-server] <-- POST /agents/{agent}/message 200 87ms"),
            );
            ts += self.random.i64(3_000..15_000);
        }
        if self.random.bool() && end - boot > 4 * MINUTE {
            // Failures that nobody handles and that end nothing.
            let mut ts = boot + 15_000;
            while ts < end {
                self.rejection(ts);
                ts += self.random.i64(20_000..40_000);
            }
        }
        if end - boot > 4 * MINUTE {
            self.refresh(boot + 40_000, true);
        }
        if self.random.u8(..3) == 0 && end - boot > 4 * MINUTE {
            let agent = self.agent();
            self.stale(boot + 70_000, &agent, true);
        }
        for _ in 0..self.random.usize(1..4) {
            let (agent, at) = (self.agent(), self.random.i64(boot + 20_000..end - 10_000));
            self.start(at, &agent);
        }
    }

    fn stale(&mut self, ts: i64, agent: &str, recovers: bool) {
        self.text(
            ts,
            format!("[process-manager] session.create failed for {agent}, attempting stale DB recovery. Response: {{\"name\":\"UnknownError\"}}"),
        );
        self.text(ts + 20, format!("[process-manager] Deleted local kilo.db for agent {agent}"));
        if recovers {
            let session = self.session();
            self.text(ts + 900, format!("[process-manager] Stale DB recovery succeeded for {agent}, new session {session}"));
        } else {
            self.text(ts + 900, "[process-manager] session.create still failing after DB reset: {\"name\":\"UnknownError\"}");
            self.text(ts + 910, "[control-server] /agents/start: FAILED for P: error=SDK session.create failed even after stale DB recovery status=500");
        }
    }

    /// A run that ends of these causes. Returns when it is gone.
    fn live(&mut self, labels: &[Hypothesis]) -> i64 {
        self.begin();
        let minutes = self.random.i64(6..20);
        let mut end = self.boot + minutes * MINUTE + self.random.i64(0..MINUTE);
        if labels.contains(&H11) {
            end = self.boot + self.random.i64(60_000..240_000);
        }
        let ceiling = self.ceiling_mb * (0.97 + 0.06 * self.random.f64());
        self.routine(end, labels.contains(&H3).then_some(ceiling));
        let mut gone = end;
        for label in labels {
            gone = gone.max(self.cause(*label, end, labels));
        }
        let code = self.exit_code(labels);
        if let Some(code) = code {
            let reason = if code == 1 { "exit" } else { "runtime_signal" };
            self.outside(
                gone + 400,
                format!(
                    "[TownContainer] container stopped: exitCode={code} reason={reason} id=5f3c"
                ),
            );
            if code != 0 && code != 143 {
                self.outside(gone + 410, format!("[TownContainer] container error: Error: container exited with unexpected exit code: {code} id=5f3c"));
            }
        }
        gone
    }

    /// What the platform says, where it says anything.
    fn exit_code(&mut self, labels: &[Hypothesis]) -> Option<u32> {
        let sees = self.random.bool();
        match labels {
            [H7] => Some(139),
            [H13] => Some(137),
            [] | [H2] | [H5] | [H6] | [H11] => None,
            labels if labels.contains(&H4) => sees.then_some(143),
            labels if labels.contains(&H3) => sees.then_some(137),
            [H1, ..] => sees.then_some(1),
            _ => None,
        }
    }

    fn cause(&mut self, label: Hypothesis, end: i64, all: &[Hypothesis]) -> i64 {
        match label {
            H1 => self.failures(end, all),
            H2 => {
                let agent = self.agent();
                let mut ts = end - self.random.i64(180_000..300_000);
                while ts < end {
                    self.stale(ts, &agent, false);
                    ts += self.random.i64(8_000..30_000);
                }
                end
            }
            H4 => self.report(end),
            H5 => {
                let mut ts = end - 9 * MINUTE / 2;
                while ts < end - 20_000 {
                    let works = self.random.u8(..4) > 0;
                    self.refresh(ts, works);
                    ts += self.random.i64(40_000..90_000);
                }
                let at = end - self.random.i64(5_000..25_000);
                self.refresh(at, false);
                end
            }
            H6 => {
                for _ in 0..self.random.usize(2..5) {
                    let (agent, at) = (self.agent(), end - self.random.i64(5_000..150_000));
                    self.start(at, &agent);
                    let later = self.random.i64(0..4);
                    self.start(at + later, &agent);
                    if self.random.bool() {
                        self.text(at + 30, format!("[process-manager] startAgent: stopping existing session for {agent} (status=starting)"));
                        self.text(at + 31, format!("[process-manager] startAgent: aborting in-flight startup for {agent}"));
                    }
                }
                end
            }
            H7 => {
                self.text(end, "============================================================");
                self.text(end + 1, "Bun v1.2.4 (fd9a5ea6) Linux x64");
                self.text(end + 2, "panic(main thread): Segmentation fault at address 0x18");
                self.text(
                    end + 3,
                    "oh no: Bun has crashed. This indicates a bug in Bun, not your code.",
                );
                end
            }
            H11 => {
                let agents = self.agents.clone();
                for (number, agent) in agents.iter().enumerate() {
                    self.text(
                        self.boot + 2_000 + 500 * number as i64,
                        format!("[boot-hydration] Failed to resume agent {agent}: fetch failed"),
                    );
                }
                let fields = json!({"message": "registry is not an array", "townId": self.name});
                self.log(self.boot + 6_000, "error", "container.boot_hydration_failed", fields);
                end
            }
            _ => end,
        }
    }

    fn failures(&mut self, end: i64, all: &[Hypothesis]) -> i64 {
        for _ in 0..self.random.usize(5..10) {
            let at = end - self.random.i64(50..8_000);
            self.rejection(at);
        }
        // Where something else ends it, the failures are company.
        if all.len() == 1 && self.random.bool() {
            let fields = json!({
                "message": "Cannot read properties of undefined (reading 'close')", "name": "TypeError",
                "stack": "TypeError: ...", "townId": self.name, "uptimeMs": end - self.boot, "activeAgents": 2,
            });
            self.log(end, "error", "container.uncaught_exception", fields);
        }
        end
    }

    /// The control plane ends it, in one of its ways.
    fn report(&mut self, end: i64) -> i64 {
        let town = self.name.clone();
        match self.random.u8(..3) {
            0 => {
                self.text(end, "SIGTERM received — starting graceful drain...");
                self.text(end + 4, "[drain] Phase 1: notifying TownDO of container eviction");
                self.text(end + 120, "[drain] Phase 1: TownDO responded 200");
                self.text(end + 130, "[drain] Phase 2: waiting up to 300s for non-mayor agents to finish. Statuses: polecat:1=running");
                self.outside(end + 110, format!("POST /api/towns/{town}/container-eviction 200"));
                self.text(
                    end + 20_000,
                    "[drain] Phase 3: all agents finished, no force-save needed",
                );
                self.text(end + 20_010, "[drain] Drain complete");
                end + 20_020
            }
            1 => {
                self.outside(end - 900, "POST /trpc/gastown.forceRestartContainer 200");
                self.outside(end - 890, format!("[Town.do] forceRestartContainer: town={town}"));
                end
            }
            _ => {
                self.outside(end - 1500, "POST /trpc/gastown.destroyContainer 200");
                self.outside(end - 1490, format!("[Town.do] destroyContainer: town={town}"));
                end
            }
        }
    }
}
