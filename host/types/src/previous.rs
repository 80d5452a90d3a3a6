//! What became of the run before this one: the fields of `container.previous_run`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::names::names;

/// Why the host process of an earlier run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It was asked to end, and marked itself as clean when it had.
    Clean,
    /// A panic that nothing contained.
    UncaughtException,
    /// The kernel ran out of memory for it.
    OomKill,
    /// It was ended while it did little but wait for memory.
    MemoryThrash,
    /// A signal that a broken machine instruction raises.
    NativeFault,
    /// Its init process ended it, because the lease of the town was not renewed in time.
    LeaseLost,
    /// Somebody asked it to end, and it did not get through its drain.
    OrchestratorStop,
    /// The machine under it is another one now, or booted again.
    VmReplaced,
    /// It did not get through its own boot.
    InitFailure,
    /// SIGKILL, and nothing else fits.
    ExternalSigkill,
    /// There was none: nothing is here of an earlier run, and nobody says that there was one.
    None,
    /// There was one, and what it left is gone, with its disk or otherwise.
    Lost,
    /// What it left names none of the others.
    Unknown,
}

names! {
    /// The word for it in a line.
    Cause::as_str {
        Clean => "clean",
        UncaughtException => "uncaught_exception",
        OomKill => "oom_kill",
        MemoryThrash => "memory_thrash",
        NativeFault => "native_fault",
        OrchestratorStop => "orchestrator_stop",
        VmReplaced => "vm_replaced",
        InitFailure => "init_failure",
        LeaseLost => "lease_lost",
        ExternalSigkill => "external_sigkill",
        None => "none",
        Lost => "lost",
        Unknown => "unknown",
    }
}

/// How sure a [`Cause`] is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// The best guess of several.
    Low,
    /// More than one thing speaks for it, none against it.
    Medium,
    /// Nothing else explains what was found.
    High,
}

names! {
    /// The word for it in a line.
    Confidence::as_str {
        Low => "low",
        Medium => "medium",
        High => "high",
    }
}

/// How far a run of the host came.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// The process runs; nothing of it answers yet.
    Starting,
    /// The control server answers.
    Started,
    /// The agents of the run before are back.
    Hydrated,
    /// It is on its way out.
    Draining,
    /// It was asked to end, and came to its end.
    Clean,
}

names! {
    /// The word for it in a line.
    RunState::as_str {
        Starting => "starting",
        Started => "started",
        Hydrated => "hydrated",
        Draining => "draining",
        Clean => "clean",
    }
}

/// Memory of the container at one moment. Absent is what its source did not say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MemoryFigures {
    /// Resident bytes of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_bytes: Option<u64>,
    /// What the container may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// Bytes that only swapping could free: the figure to compare with the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anon_bytes: Option<u64>,
    /// Percentage of the last 10 s in which every task waited for memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi_full_avg10: Option<f64>,
    /// Processes that the kernel killed for memory since the machine booted, whosever they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_kills: Option<u64>,
    /// Of them, those of the container's own cgroup. Begins again with the cgroup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_oom_kills: Option<u64>,
    /// How often the limit was hit, ever: `max` of `memory.events`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_hits: Option<u64>,
}

/// The last memory sample of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastMemory {
    /// When it was taken.
    pub ts: Timestamp,
    /// Its text.
    #[serde(flatten)]
    pub figures: MemoryFigures,
}

/// Work that had begun and had not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InFlight {
    /// Whose it was.
    pub agent_id: String,
    /// In which of its incarnations.
    pub incarnation: u64,
    /// A phase of an agent, as `handle`, or `load` for what comes before there is an instance.
    pub phase: String,
    /// The message whose turn it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// When it began.
    pub since: Timestamp,
}

/// Evidence of a run of whose end nothing names the cause.
pub const NOTHING_NAMES_A_CAUSE: &str =
    "it ended without a word of its own, and nothing names a cause";

/// What became of the run before this one, with the reasons for saying so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviousRun {
    /// Its `runId`. Absent when nothing is known of it.
    pub previous_run_id: Option<String>,
    /// Why it ended.
    pub cause: Cause,
    /// How sure that is.
    pub confidence: Confidence,
    /// What speaks for it, one sentence each.
    pub evidence: Vec<String>,
    /// What was ruled out, and by what: `oom_kill: the kernel's counter stayed at 3`.
    pub excluded: Vec<String>,
    /// How far it came.
    pub last_state: Option<RunState>,
    /// The last `seq` of its log.
    pub last_seq: Option<u64>,
    /// When its last heartbeat was.
    pub last_ts: Option<Timestamp>,
    /// Its last memory sample.
    pub last_memory: Option<LastMemory>,
    /// What it was at.
    pub in_flight: Vec<InFlight>,
    /// Its exit code, when somebody saw one.
    pub exit_code: Option<i32>,
    /// The signal that ended it, when somebody saw one.
    pub signal: Option<i32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Phase;

    #[test]
    fn words_of_the_line_are_those_of_the_code() {
        for phase in [Phase::Instantiate, Phase::Start, Phase::Handle, Phase::Shutdown, Phase::Run]
        {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.as_str());
        }
        for cause in
            [Cause::Clean, Cause::OomKill, Cause::ExternalSigkill, Cause::None, Cause::Lost]
        {
            assert_eq!(serde_json::to_value(cause).unwrap(), cause.as_str());
        }
        for state in [RunState::Starting, RunState::Hydrated, RunState::Clean] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }

    #[test]
    fn a_previous_run_reads_back_what_it_wrote() {
        let run = PreviousRun {
            previous_run_id: Some("run-1".into()),
            cause: Cause::OomKill,
            confidence: Confidence::High,
            evidence: vec!["a".into()],
            excluded: vec!["b".into()],
            last_state: Some(RunState::Hydrated),
            last_seq: Some(7),
            last_ts: Some(Timestamp(1000)),
            last_memory: Some(LastMemory {
                ts: Timestamp(900),
                figures: MemoryFigures { anon_bytes: Some(5), ..MemoryFigures::default() },
            }),
            in_flight: vec![InFlight {
                agent_id: "a1".into(),
                incarnation: 2,
                phase: "handle".into(),
                message_id: None,
                since: Timestamp(800),
            }],
            exit_code: None,
            signal: Some(9),
        };
        let json = serde_json::to_value(&run).unwrap();
        assert_eq!(json["cause"], "oom_kill");
        assert_eq!(json["confidence"], "high");
        assert_eq!(json["lastMemory"]["anonBytes"], 5);
        assert_eq!(json["inFlight"][0]["agentId"], "a1");
        assert_eq!(serde_json::from_value::<PreviousRun>(json).unwrap(), run);
    }
}
