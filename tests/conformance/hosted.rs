//! The same programs as agents of a real host.

use std::time::{Duration, Instant};

use harness::{Host, Value, json};

use super::{Case, ENVIRONMENT, Outcome, Program};

/// How long one program may take, its compile included.
const PATIENCE: Duration = Duration::from_secs(900);

/// Far above what any program takes: limits are not what is compared.
const ROLE: &str = "memory_limit_mb = 1024\non_memory_limit = \"deny\"\ncpu_ms = 300000\n\
    wall_ms = 600000\nhost_call_ms = 600000\nstart_ms = 30000\nlog_lines_per_second = 100000\nworkspace_mb = 65536\n";

const LIMITS: &str = "[limits]\nmax_agents = 4\ncompile_ms = 600000\n";

/// A host with a role for each case.
pub struct Hosted(Host);

impl Hosted {
    pub fn start(programs: &[Program], cases: &[Case]) -> Self {
        let mut builder = Host::builder().toml(LIMITS);
        for program in programs {
            builder = builder.component(&program.name, &program.wasm);
        }
        for (number, case) in cases.iter().enumerate() {
            let role = format!("{ROLE}args = {:?}", case.args);
            builder = builder.role(&format!("case-{number}"), &case.program, &role);
        }
        Self(builder.start().ready())
    }

    /// Starts the case of this number.
    pub fn begin(&self, number: usize, case: &Case) {
        let agent = format!("case-{number}");
        let pairs = ENVIRONMENT.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        let env: serde_json::Map<String, Value> =
            pairs.chain(case.env.clone()).map(|(key, value)| (key, value.into())).collect();
        let answer = self.0.client().start_with(&agent, &agent, json!({ "envVars": env }));
        // A start that still compiles (504) goes on.
        let goes_on = [201, 504].contains(&answer.status);
        assert!(goes_on, "{} did not start: {}", case.title(), answer.text);
    }

    /// Waits for its end.
    pub fn end(&self, number: usize, case: &Case) -> Outcome {
        let (agent, begun) = (format!("case-{number}"), Instant::now());
        while self.0.events_of(&agent, "agent.exit").is_empty() {
            assert!(begun.elapsed() < PATIENCE, "{} does not end", case.title());
            // A poll: a case may take longer than the waits of the harness.
            std::thread::sleep(Duration::from_millis(2));
        }
        let exit = &self.0.events_of(&agent, "agent.exit")[0];
        let log = self.0.events_of(&agent, "agent.log");
        let lines = |stream: &str| {
            let of_it = log.iter().filter(|line| line["stream"] == stream);
            of_it.filter_map(|line| line["message"].as_str().map(str::to_owned)).collect()
        };
        Outcome {
            well: exit["reason"] == "completed",
            how: exit["reason"].as_str().unwrap_or_default().to_owned(),
            stdout: lines("stdout"),
            stderr: lines("stderr"),
        }
    }

    pub fn finish(self) {
        self.0.finish();
    }
}
