//! What a line can be a sign of.

/// A fact that the rules know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each has its sentence in `SIGNS`")]
pub enum Sign {
    Boot,
    Supervised,
    EndReported,
    Rejection,
    Exception,
    ReportedException,
    StaleState,
    StaleStateStays,
    StaleStateGone,
    StateSetAside,
    Memory,
    MemoryPressure,
    ReportedOomKill,
    StopIntent,
    Drain,
    Stopped,
    ControlPlaneStop,
    Eviction,
    ReportedClean,
    ReportedStopped,
    TokenRefresh,
    TokenRestart,
    TokenRestartFailed,
    StartRequest,
    StartOverlap,
    StartAnswered,
    ReportedNativeFault,
    NativeFault,
    ReportedThrash,
    ReportedNewMachine,
    AgentCrash,
    AgentRestart,
    AgentQuarantined,
    HydrationFailed,
    HydrationAgentFailed,
    HydrationIncomplete,
    StartFailed,
    ReportedBootFailed,
    BootFailed,
    ReportedKilled,
    ReportedUnsure,
    ReportedRatherSure,
    DiskFull,
    ExitOne,
    ExitKilled,
    ExitTerminated,
    ExitFault,
}

/// How a line shows a sign.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// A JSON line whose `event` (ours) or `msg` (the original container's) is `name`, and whose fields have
    /// these values. A dot in a field's name goes one object down.
    Event {
        /// The event's name.
        name: &'static str,
        /// Fields and their values, all of which must be so.
        with: &'static [(&'static str, &'static str)],
        /// Fields and values none of which must be so. A line that does not have the field is one of the sign.
        without: &'static [(&'static str, &'static str)],
        /// Fields that are numbers, at least so large, all of which must be so.
        at_least: &'static [(&'static str, u64)],
    },
    /// A line of plain text, or a JSON line around one, that has all of these parts.
    Text {
        /// The parts, as they are written. The first is searched for in every line: make it a rare one.
        parts: &'static [&'static str],
        /// What stands before the agent's id, when the line names one.
        agent_after: &'static [&'static str],
    },
}

/// One way in which a line shows a sign.
#[derive(Debug, Clone, Copy)]
pub struct SignSpec {
    /// The sign.
    pub sign: Sign,
    /// How it looks.
    pub source: Source,
    /// What it says, as half a sentence.
    pub says: &'static str,
    /// It comes from outside the container: its clock may be another one.
    pub outside: bool,
}

impl SignSpec {
    /// Whether it is an event, and no text.
    pub fn is_event(&self) -> bool {
        matches!(self.source, Source::Event { .. })
    }

    /// The signal that asked the process to end.
    pub fn asked_by(&self) -> Option<&'static str> {
        match self.source {
            Source::Event { name: STOP_INTENT, with: [(_, signal)], .. } => Some(signal),
            _ => None,
        }
    }

    /// Whether the line is about the run before the one that writes it.
    pub fn is_about_previous(&self) -> bool {
        match self.source {
            Source::Event { name: PREVIOUS, .. } => true,
            Source::Event { name: COLD_START, with, .. } => {
                with.iter().any(|(path, _)| path.starts_with("previousRun."))
            }
            _ => false,
        }
    }
}

const fn event(sign: Sign, name: &'static str, says: &'static str) -> SignSpec {
    event_with(sign, name, &[], says)
}

const fn event_with(
    sign: Sign,
    name: &'static str,
    with: &'static [(&'static str, &'static str)],
    says: &'static str,
) -> SignSpec {
    SignSpec {
        sign,
        source: Source::Event { name, with, without: &[], at_least: &[] },
        says,
        outside: false,
    }
}

const fn event_without(
    sign: Sign,
    name: &'static str,
    without: &'static [(&'static str, &'static str)],
    says: &'static str,
) -> SignSpec {
    let source = Source::Event { name, with: &[], without, at_least: &[] };
    SignSpec { sign, source, says, outside: false }
}

const fn event_counting(
    sign: Sign,
    name: &'static str,
    at_least: &'static [(&'static str, u64)],
    says: &'static str,
) -> SignSpec {
    SignSpec {
        sign,
        source: Source::Event { name, with: &[], without: &[], at_least },
        says,
        outside: false,
    }
}

const fn text(
    sign: Sign,
    parts: &'static [&'static str],
    agent_after: &'static [&'static str],
    says: &'static str,
) -> SignSpec {
    SignSpec { sign, source: Source::Text { parts, agent_after }, says, outside: false }
}

const fn outside(spec: SignSpec) -> SignSpec {
    SignSpec { outside: true, ..spec }
}

const PREVIOUS: &str = "container.previous_run";
const COLD_START: &str = "container.cold_start";
const STOP_INTENT: &str = "container.stop_intent";

/// All of them.
pub static SIGNS: &[SignSpec] = &[
    event(Sign::Boot, COLD_START, "a run begins"),
    event_with(
        Sign::Supervised,
        COLD_START,
        &[("init", "true")],
        "an init process watches over the run",
    ),
    event(Sign::EndReported, PREVIOUS, "a run reports how the previous one ended"),
    // H1
    event(
        Sign::Rejection,
        "container.unhandled_rejection",
        "a failure in the background was not handled",
    ),
    event(Sign::Exception, "container.uncaught_exception", "an exception escaped"),
    event_with(
        Sign::ReportedException,
        PREVIOUS,
        &[("cause", "uncaught_exception")],
        "the next run found an uncaught exception at its end",
    ),
    event_with(
        Sign::ReportedException,
        COLD_START,
        &[("previousRun.cause", "uncaught_exception")],
        "the next run found an uncaught exception at its end",
    ),
    // H2
    text(
        Sign::StaleState,
        &["attempting stale DB recovery", "session.create failed"],
        &["session.create failed for "],
        "a session could not be created from the stored state",
    ),
    event_with(
        Sign::StaleState,
        "agent.start_failed",
        &[("phase", "restore")],
        "an agent could not be restored from its stored state",
    ),
    text(
        Sign::StaleStateStays,
        &["session.create still failing after DB reset"],
        &[],
        "resetting the stored state did not help",
    ),
    text(
        Sign::StaleStateStays,
        &["failed even after stale DB recovery"],
        &["agentId=", "Failed to resume agent "],
        "resetting the stored state did not help",
    ),
    text(
        Sign::StaleStateGone,
        &["Stale DB recovery succeeded"],
        &["succeeded for "],
        "resetting the stored state helped",
    ),
    event(
        Sign::StateSetAside,
        "agent.snapshot_set_aside",
        "an agent failed with its stored state more than once",
    ),
    // H3
    event(Sign::Memory, "container.memory_usage", "memory was measured"),
    event(Sign::MemoryPressure, "container.memory_pressure", "memory is short"),
    event_with(
        Sign::ReportedOomKill,
        PREVIOUS,
        &[("cause", "oom_kill")],
        "the next run found that the kernel killed it for memory",
    ),
    event_with(
        Sign::ReportedOomKill,
        COLD_START,
        &[("previousRun.cause", "oom_kill")],
        "the next run found that the kernel killed it for memory",
    ),
    // H4
    event_with(
        Sign::StopIntent,
        STOP_INTENT,
        &[("by", "SIGINT")],
        "SIGINT (Ctrl-C) asked it to end",
    ),
    event_with(
        Sign::StopIntent,
        STOP_INTENT,
        &[("by", "SIGQUIT")],
        "SIGQUIT (Ctrl-\\) asked it to end",
    ),
    event_with(
        Sign::StopIntent,
        STOP_INTENT,
        &[("by", "SIGHUP")],
        "SIGHUP (its terminal went away) asked it to end",
    ),
    event_with(Sign::StopIntent, STOP_INTENT, &[("by", "SIGTERM")], "SIGTERM asked it to end"),
    event_without(
        Sign::StopIntent,
        STOP_INTENT,
        &[("by", "SIGINT"), ("by", "SIGQUIT"), ("by", "SIGHUP"), ("by", "SIGTERM")],
        "it was asked to end",
    ),
    text(Sign::StopIntent, &["SIGTERM received"], &[], "it was asked to end"),
    event(Sign::Drain, "container.draining", "it drains"),
    text(Sign::Drain, &["[drain] Phase"], &[], "it drains"),
    event(Sign::Stopped, "container.stopped", "it ended in order"),
    text(Sign::Stopped, &["[drain] Drain complete"], &[], "it ended in order"),
    outside(text(
        Sign::ControlPlaneStop,
        &["forceRestartContainer"],
        &[],
        "the control plane restarts the container",
    )),
    outside(text(
        Sign::ControlPlaneStop,
        &["destroyContainer"],
        &[],
        "the control plane destroys the container",
    )),
    outside(text(Sign::Eviction, &["container-eviction"], &[], "the container is evicted")),
    outside(text(Sign::Eviction, &["container eviction"], &[], "the container is evicted")),
    event_with(
        Sign::ReportedClean,
        PREVIOUS,
        &[("cause", "clean")],
        "the next run found a clean end",
    ),
    event_with(
        Sign::ReportedClean,
        COLD_START,
        &[("previousRun.cause", "clean")],
        "the next run found a clean end",
    ),
    event_with(
        Sign::ReportedStopped,
        PREVIOUS,
        &[("cause", "orchestrator_stop")],
        "the next run found that it had been ordered to end",
    ),
    event_with(
        Sign::ReportedStopped,
        COLD_START,
        &[("previousRun.cause", "orchestrator_stop")],
        "the next run found that it had been ordered to end",
    ),
    // H5
    event(Sign::TokenRefresh, "refresh_token.received", "a new token arrived"),
    event(
        Sign::TokenRestart,
        "refresh_token.agent_restarted",
        "an agent's server was restarted for a new token",
    ),
    event_with(
        Sign::TokenRestartFailed,
        "refresh_token.agent_restarted",
        &[("success", "false")],
        "an agent did not survive a new token",
    ),
    // H6
    text(
        Sign::StartRequest,
        &["/agents/start: role="],
        &["agentId="],
        "a start of an agent was requested",
    ),
    text(
        Sign::StartOverlap,
        &["startAgent: aborting in-flight startup"],
        &["startup for "],
        "a start met another one of the same agent",
    ),
    text(
        Sign::StartOverlap,
        &["startAgent: startup aborted"],
        &["aborted for "],
        "a start met another one of the same agent",
    ),
    // A start of what runs already is nothing that met. Asked for, since a line that is cut may lack it.
    event_with(
        Sign::StartOverlap,
        "agent.start_joined",
        &[("running", "false")],
        "a start met another one of the same agent",
    ),
    event(
        Sign::StartOverlap,
        "agent.start_superseded",
        "a start met another one of the same agent",
    ),
    text(
        Sign::StartAnswered,
        &["/agents/start: success"],
        &["agentId="],
        "a start created a session",
    ),
    // H7
    event_with(
        Sign::ReportedNativeFault,
        PREVIOUS,
        &[("cause", "native_fault")],
        "the next run found a native fault",
    ),
    event_with(
        Sign::ReportedNativeFault,
        COLD_START,
        &[("previousRun.cause", "native_fault")],
        "the next run found a native fault",
    ),
    text(Sign::NativeFault, &["Segmentation fault"], &[], "the process reported a fault"),
    text(Sign::NativeFault, &["oh no: Bun has crashed"], &[], "the runtime reported a crash"),
    // H8, H9
    event_with(
        Sign::ReportedThrash,
        PREVIOUS,
        &[("cause", "memory_thrash")],
        "the next run found that it waited for memory",
    ),
    event_with(
        Sign::ReportedThrash,
        COLD_START,
        &[("previousRun.cause", "memory_thrash")],
        "the next run found that it waited for memory",
    ),
    event_with(
        Sign::ReportedNewMachine,
        PREVIOUS,
        &[("cause", "vm_replaced")],
        "the next run found itself on another machine",
    ),
    event_with(
        Sign::ReportedNewMachine,
        COLD_START,
        &[("previousRun.cause", "vm_replaced")],
        "the next run found itself on another machine",
    ),
    // H10
    event(Sign::AgentCrash, "agent.crash", "an agent crashed"),
    event(Sign::AgentRestart, "agent.restart_scheduled", "an agent was to be restarted"),
    event(Sign::AgentQuarantined, "agent.quarantined", "an agent crashed too often"),
    // H11
    event(Sign::HydrationFailed, "container.boot_hydration_failed", "hydration failed"),
    text(
        Sign::HydrationFailed,
        &["[boot-hydration]", "Failed to fetch registry"],
        &[],
        "the registry could not be read",
    ),
    text(
        Sign::HydrationFailed,
        &["[boot-hydration]", "Registry fetch failed"],
        &[],
        "the registry could not be read",
    ),
    text(
        Sign::HydrationAgentFailed,
        &["[boot-hydration] Failed to resume agent"],
        &["Failed to resume agent "],
        "an agent was not restarted",
    ),
    event_counting(
        Sign::HydrationIncomplete,
        "container.boot_hydration_finished",
        &[("failed", 2)],
        "several agents were not restarted",
    ),
    event_counting(
        Sign::HydrationIncomplete,
        "container.boot_hydration_finished",
        &[("late", 2)],
        "several agents were not restarted in time",
    ),
    event(Sign::StartFailed, "agent.start_failed", "an agent could not be started"),
    // H12, H13
    event_with(
        Sign::ReportedBootFailed,
        PREVIOUS,
        &[("cause", "init_failure")],
        "the next run found that its boot had failed",
    ),
    event_with(
        Sign::ReportedBootFailed,
        COLD_START,
        &[("previousRun.cause", "init_failure")],
        "the next run found that its boot had failed",
    ),
    text(Sign::BootFailed, &["EADDRINUSE"], &[], "the address was taken"),
    event_with(
        Sign::ReportedKilled,
        PREVIOUS,
        &[("cause", "external_sigkill")],
        "the next run found an unexplained SIGKILL",
    ),
    event_with(
        Sign::ReportedKilled,
        COLD_START,
        &[("previousRun.cause", "external_sigkill")],
        "the next run found an unexplained SIGKILL",
    ),
    event_with(
        Sign::ReportedRatherSure,
        PREVIOUS,
        &[("confidence", "medium")],
        "the next run was rather sure of what it found",
    ),
    event_with(
        Sign::ReportedRatherSure,
        COLD_START,
        &[("previousRun.confidence", "medium")],
        "the next run was rather sure of what it found",
    ),
    // What leaves no black box. The database words the first one.
    event_with(
        Sign::DiskFull,
        "container.store_unavailable",
        &[("reason", "write to the database: database or disk is full")],
        "the disk of the state directory was full",
    ),
    event_with(
        Sign::DiskFull,
        "container.log",
        &[("fields.cause", "No space left on device (os error 28)")],
        "the disk of the state directory was full",
    ),
    event_with(
        Sign::ReportedUnsure,
        PREVIOUS,
        &[("confidence", "low")],
        "the next run was not certain of that",
    ),
    event_with(
        Sign::ReportedUnsure,
        COLD_START,
        &[("previousRun.confidence", "low")],
        "the next run was not certain of that",
    ),
    // What the platform says of the process.
    outside(text(
        Sign::ExitOne,
        &["container stopped: exitCode=1 "],
        &[],
        "the platform saw exit code 1",
    )),
    outside(text(
        Sign::ExitKilled,
        &["container stopped: exitCode=137"],
        &[],
        "the platform saw exit code 137",
    )),
    outside(text(
        Sign::ExitTerminated,
        &["container stopped: exitCode=143"],
        &[],
        "the platform saw exit code 143",
    )),
    outside(text(
        Sign::ExitTerminated,
        &["container stopped: exitCode=0 "],
        &[],
        "the platform saw exit code 0",
    )),
    outside(text(
        Sign::ExitFault,
        &["container stopped: exitCode=139"],
        &[],
        "the platform saw exit code 139",
    )),
    outside(text(
        Sign::ExitFault,
        &["container stopped: exitCode=134"],
        &[],
        "the platform saw exit code 134",
    )),
    outside(text(
        Sign::ExitOne,
        &["container exited with unexpected exit code: 1 "],
        &[],
        "the platform saw exit code 1",
    )),
    outside(text(
        Sign::ExitKilled,
        &["container exited with unexpected exit code: 137"],
        &[],
        "the platform saw exit code 137",
    )),
    outside(text(
        Sign::ExitFault,
        &["container exited with unexpected exit code: 139"],
        &[],
        "the platform saw exit code 139",
    )),
    outside(text(
        Sign::ExitFault,
        &["container exited with unexpected exit code: 134"],
        &[],
        "the platform saw exit code 134",
    )),
];
