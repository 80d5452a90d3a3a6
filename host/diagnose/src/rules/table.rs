//! What each sign says about each hypothesis.
//!
//! The weights of what holds add up for each hypothesis. Roughly: 10 is a statement of somebody who saw it, 6 is
//! enough by itself when nothing else fits, 3 needs company, and what speaks against is negative. The judge names a
//! cause from 5 on, and only when it leads the next one by 2.

use super::Hypothesis::{self, *};
use super::Sign::{self, *};

/// When a rule holds, for a run that ended.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "the sentence of a test names its fields")]
pub enum Test {
    /// At least so many lines of this sign within so many seconds before the end. `within_s` 0 is the whole run.
    Seen { sign: Sign, at_least: u32, within_s: u32 },
    /// The same, counted for each agent by itself: one agent has so many.
    SeenOfOneAgent { sign: Sign, at_least: u32, within_s: u32 },
    /// So many different agents have the sign.
    SeenOfAgents { sign: Sign, agents: u32, within_s: u32 },
    /// The sign comes more often within these seconds before the end than in the run before that, by this factor.
    Clustered { sign: Sign, at_least: u32, within_s: u32, factor: u32 },
    /// It comes as often before as it does within these seconds before the end.
    Steady { sign: Sign, within_s: u32 },
    /// An agent that has the sign in this run has it in another run of the town as well.
    SeenInOtherRuns { sign: Sign, runs: u32 },
    /// Two lines of the sign for one agent within so many milliseconds, that are not one line twice.
    Twins { sign: Sign, within_ms: i64, before_end_s: u32 },
    /// Fewer agents than answers: one agent got more than one session.
    MoreThanOneEach { sign: Sign, within_ms: i64, before_end_s: u32 },
    /// How the memory curve of the run looks.
    Memory(Curve),
    /// The run lived less than so many seconds.
    LivedLessThan { seconds: u32 },
    /// The machine's boot id is another one in the next run.
    OtherBoot,
    /// All of these hold.
    All(&'static [Test]),
    /// This does not hold.
    Not(&'static Test),
}

/// Shapes of a memory curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// It rises over the run, by a third at least, and ends near its top.
    Rises,
    /// Its last sample is near the limit, or near the height at which other runs of the town ended.
    EndsNearCeiling,
    /// The same, to twice its size at least.
    Doubles,
    /// It stays where it was, and far from the limit when there is one.
    Flat,
}

/// One rule.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// About what.
    pub hypothesis: Hypothesis,
    /// When it holds.
    pub test: Test,
    /// How much it says; negative is against.
    pub weight: i32,
    /// Why.
    pub reason: &'static str,
}

const fn rule(hypothesis: Hypothesis, test: Test, weight: i32, reason: &'static str) -> Rule {
    Rule { hypothesis, test, weight, reason }
}

const fn seen(sign: Sign, at_least: u32, within_s: u32) -> Test {
    Test::Seen { sign, at_least, within_s }
}

/// "Seconds before the end", with what a busy host takes to write its last lines.
const SECONDS: u32 = 30;
/// "Shortly before": a stop is asked for, and takes its time.
const SHORTLY: u32 = 120;
/// A drain may take this long.
const DRAIN: u32 = 900;

const NOT_SURE: &str = "the next run itself was not certain of that";
const UNSURE: Test = seen(ReportedUnsure, 1, 0);
const UNSURE_EXCEPTION: Test = Test::All(&[UNSURE, seen(ReportedException, 1, 0)]);
const UNSURE_OOM_KILL: Test = Test::All(&[UNSURE, seen(ReportedOomKill, 1, 0)]);
const UNSURE_STOP: Test = Test::All(&[UNSURE, seen(ReportedStopped, 1, 0)]);
const UNSURE_FAULT: Test = Test::All(&[UNSURE, seen(ReportedNativeFault, 1, 0)]);
const UNSURE_THRASH: Test = Test::All(&[UNSURE, seen(ReportedThrash, 1, 0)]);
const UNSURE_MACHINE: Test = Test::All(&[UNSURE, seen(ReportedNewMachine, 1, 0)]);
const UNSURE_BOOT: Test = Test::All(&[UNSURE, seen(ReportedBootFailed, 1, 0)]);
const UNSURE_KILL: Test = Test::All(&[UNSURE, seen(ReportedKilled, 1, 0)]);

/// All of them.
pub static RULES: &[Rule] = &[
    // H1
    rule(
        H1,
        seen(Exception, 1, SECONDS),
        9,
        "an exception that escapes is the last thing that a process logs before it exits",
    ),
    rule(
        H1,
        seen(ReportedException, 1, 0),
        10,
        "the black box recorded the panic, and the exit code fits",
    ),
    rule(
        H1,
        Test::Clustered { sign: Rejection, at_least: 3, within_s: SECONDS, factor: 3 },
        5,
        "unhandled failures come in a cluster right before the end, and not earlier",
    ),
    rule(
        H1,
        Test::All(&[
            seen(Rejection, 1, SECONDS),
            Test::Not(&Test::Steady { sign: Rejection, within_s: SECONDS }),
        ]),
        2,
        "an unhandled failure came right before the end",
    ),
    rule(
        H1,
        Test::Clustered { sign: Rejection, at_least: 1, within_s: 20, factor: 20 },
        3,
        "it came in the last seconds, and hardly one before",
    ),
    rule(
        H1,
        seen(ExitOne, 1, 0),
        3,
        "exit code 1 is what the runtime exits with after an exception",
    ),
    rule(
        H1,
        Test::Steady { sign: Rejection, within_s: SECONDS },
        -4,
        "the same failures came all the time without ending the process: they are noise",
    ),
    // H2
    rule(
        H2,
        Test::SeenOfOneAgent { sign: StaleState, at_least: 3, within_s: 0 },
        6,
        "one agent repeatedly cannot be started from its stored state",
    ),
    rule(
        H2,
        Test::All(&[
            Test::SeenOfOneAgent { sign: StateSetAside, at_least: 1, within_s: 0 },
            Test::Not(&Test::SeenOfOneAgent { sign: StaleState, at_least: 3, within_s: 0 }),
        ]),
        5,
        "the host itself set aside a stored state that an agent failed with",
    ),
    rule(
        H2,
        Test::All(&[
            Test::SeenOfOneAgent { sign: StaleState, at_least: 1, within_s: 0 },
            Test::SeenInOtherRuns { sign: StaleState, runs: 2 },
        ]),
        4,
        "the same agent fails on its stored state in other runs as well",
    ),
    rule(
        H2,
        seen(StaleStateStays, 1, 0),
        3,
        "resetting the stored state did not help, so the next start fails as well",
    ),
    rule(
        H2,
        Test::All(&[seen(StaleStateGone, 1, 0), Test::Not(&seen(StaleStateStays, 1, 0))]),
        -3,
        "resetting the stored state helped",
    ),
    // H3
    rule(
        H3,
        seen(ReportedOomKill, 1, 0),
        10,
        "the kernel counted a kill for memory while it ended",
    ),
    rule(
        H3,
        Test::All(&[Test::Memory(Curve::Rises), Test::Memory(Curve::EndsNearCeiling)]),
        6,
        "memory rose over the run and ended near its ceiling",
    ),
    rule(H3, Test::Memory(Curve::Rises), 2, "memory rose over the run"),
    rule(
        H3,
        Test::All(&[
            Test::Memory(Curve::Doubles),
            Test::Not(&Test::Memory(Curve::EndsNearCeiling)),
            Test::Not(&seen(Exception, 1, SECONDS)),
            Test::Not(&seen(ControlPlaneStop, 1, SHORTLY)),
        ]),
        4,
        "memory doubled over the run and still rose when it fell silent",
    ),
    rule(
        H3,
        Test::All(&[Test::Memory(Curve::EndsNearCeiling), seen(ReportedKilled, 1, 0)]),
        3,
        "the kill that the next run found hit a process near its ceiling",
    ),
    rule(
        H3,
        Test::All(&[Test::Memory(Curve::Rises), seen(ExitKilled, 1, 0)]),
        3,
        "exit code 137 is a SIGKILL, and memory rose until then",
    ),
    rule(
        H3,
        Test::All(&[Test::Memory(Curve::Rises), seen(MemoryPressure, 1, SHORTLY)]),
        2,
        "the container itself reported that memory was short",
    ),
    rule(
        H3,
        seen(Exception, 1, SECONDS),
        -5,
        "a kill from outside leaves no time for an exception",
    ),
    rule(
        H3,
        Test::All(&[seen(StopIntent, 1, DRAIN), Test::Not(&seen(ReportedOomKill, 1, 0))]),
        -2,
        "it was asked to end; it was not killed for memory",
    ),
    rule(
        H3,
        Test::All(&[Test::Memory(Curve::Flat), Test::Not(&seen(ReportedOomKill, 1, 0))]),
        -4,
        "memory stayed where it was",
    ),
    // H4
    rule(H4, seen(StopIntent, 1, DRAIN), 9, "it was asked to end, and ended"),
    rule(H4, seen(ReportedClean, 1, 0), 10, "only a requested end leaves a clean marker"),
    rule(H4, seen(ReportedStopped, 1, 0), 10, "the black box recorded the order to end"),
    rule(
        H4,
        seen(ControlPlaneStop, 1, SHORTLY),
        7,
        "the control plane called for it shortly before",
    ),
    rule(H4, seen(Eviction, 1, DRAIN), 6, "an eviction was announced shortly before"),
    rule(H4, seen(Drain, 1, DRAIN), 6, "it drained, which it does only before it ends"),
    rule(H4, seen(Stopped, 1, SHORTLY), 6, "it ended in order"),
    rule(H4, seen(ExitTerminated, 1, 0), 3, "that exit code is the one of an end in order"),
    // H5
    rule(
        H5,
        Test::All(&[seen(TokenRefresh, 1, 60), seen(TokenRestart, 2, 60)]),
        6,
        "a new token restarted agents right before the end",
    ),
    rule(H5, seen(TokenRefresh, 3, 600), 3, "tokens arrived repeatedly; one is valid for hours"),
    rule(H5, seen(TokenRestart, 3, 60), 3, "agents were restarted for a token, many at a time"),
    rule(
        H5,
        Test::All(&[seen(TokenRefresh, 1, 60), seen(TokenRestartFailed, 1, 60)]),
        2,
        "an agent did not survive the new token",
    ),
    // H6
    rule(
        H6,
        Test::Twins { sign: StartRequest, within_ms: 50, before_end_s: 300 },
        5,
        "one agent was asked to start twice within milliseconds",
    ),
    rule(
        H6,
        Test::Seen { sign: StartOverlap, at_least: 1, within_s: 300 },
        5,
        "a start met another one of the same agent that was in progress",
    ),
    rule(
        H6,
        Test::MoreThanOneEach { sign: StartAnswered, within_ms: 3_000, before_end_s: 300 },
        5,
        "one agent got two sessions from two starts: one of them is leaked",
    ),
    // H7
    rule(H7, seen(ReportedNativeFault, 1, 0), 10, "its parent saw the signal of a fault"),
    rule(H7, seen(NativeFault, 1, SECONDS), 7, "the process recorded it when it crashed"),
    rule(H7, seen(ExitFault, 1, 0), 6, "that exit code is the signal of a fault plus 128"),
    // H8
    rule(
        H8,
        seen(ReportedThrash, 1, 0),
        10,
        "pressure was full and the limit was hit repeatedly, without an OOM kill",
    ),
    rule(
        H8,
        Test::All(&[
            seen(MemoryPressure, 3, 600),
            Test::Memory(Curve::EndsNearCeiling),
            Test::Not(&Test::Memory(Curve::Rises)),
        ]),
        4,
        "memory was short for long and did not grow",
    ),
    // H9
    rule(
        H9,
        seen(ReportedNewMachine, 1, 0),
        10,
        "the boot id differs and there is no clean marker",
    ),
    rule(
        H9,
        Test::All(&[
            Test::OtherBoot,
            Test::Not(&seen(StopIntent, 1, DRAIN)),
            Test::Not(&seen(Exception, 1, SECONDS)),
        ]),
        5,
        "the boot id differs, and nothing else was seen",
    ),
    // H10
    rule(
        H10,
        Test::SeenOfOneAgent { sign: AgentCrash, at_least: 5, within_s: 600 },
        5,
        "one agent crashed repeatedly until the end",
    ),
    rule(
        H10,
        Test::All(&[
            Test::SeenOfOneAgent { sign: AgentRestart, at_least: 5, within_s: 600 },
            Test::Not(&Test::SeenOfOneAgent { sign: AgentCrash, at_least: 5, within_s: 600 }),
        ]),
        5,
        "one agent was restarted repeatedly until the end",
    ),
    rule(
        H10,
        Test::SeenOfOneAgent { sign: AgentQuarantined, at_least: 1, within_s: 600 },
        3,
        "an agent was quarantined, which takes several crashes",
    ),
    // H11
    rule(
        H11,
        Test::All(&[seen(HydrationFailed, 1, 0), Test::LivedLessThan { seconds: 600 }]),
        6,
        "the agents were not restarted, and the run was short",
    ),
    rule(
        H11,
        Test::SeenOfAgents { sign: HydrationAgentFailed, agents: 2, within_s: 0 },
        5,
        "several agents were not restarted",
    ),
    rule(
        H11,
        Test::All(&[seen(HydrationIncomplete, 1, 0), Test::LivedLessThan { seconds: 600 }]),
        5,
        "several agents were not restarted, and the run was short",
    ),
    rule(
        H11,
        Test::All(&[
            Test::SeenOfAgents { sign: StartFailed, agents: 2, within_s: 0 },
            Test::LivedLessThan { seconds: 600 },
            Test::Not(&seen(HydrationIncomplete, 1, 0)),
        ]),
        5,
        "several agents could not be started, and the run was short",
    ),
    // H12
    rule(
        H12,
        seen(ReportedBootFailed, 1, 0),
        10,
        "the black box reports that its boot was incomplete",
    ),
    rule(
        H12,
        Test::All(&[seen(BootFailed, 1, 0), Test::LivedLessThan { seconds: 30 }]),
        6,
        "its boot failed, and it ran for seconds only",
    ),
    // H13
    rule(
        H13,
        Test::All(&[
            seen(ReportedKilled, 1, 0),
            Test::Not(&Test::All(&[
                Test::Memory(Curve::Rises),
                Test::Memory(Curve::EndsNearCeiling),
            ])),
        ]),
        9,
        "its parent saw a SIGKILL, and no known cause explains it",
    ),
    rule(
        H13,
        Test::All(&[seen(ExitKilled, 1, 0), Test::Memory(Curve::Flat)]),
        6,
        "exit code 137 is a SIGKILL, and memory did not grow",
    ),
    // What the next run found, when it was not sure of it itself.
    rule(H1, UNSURE_EXCEPTION, -3, NOT_SURE),
    rule(H3, UNSURE_OOM_KILL, -3, NOT_SURE),
    rule(H4, UNSURE_STOP, -3, NOT_SURE),
    rule(H7, UNSURE_FAULT, -3, NOT_SURE),
    rule(H8, UNSURE_THRASH, -3, NOT_SURE),
    rule(H9, UNSURE_MACHINE, -3, NOT_SURE),
    rule(H12, UNSURE_BOOT, -3, NOT_SURE),
    rule(H13, UNSURE_KILL, -3, NOT_SURE),
];
