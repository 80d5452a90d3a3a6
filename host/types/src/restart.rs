//! Whether an agent is restarted after an end, and when. Pure: the clock and the dice are the caller's.
//!
//! ```text
//!   an end ──▶ does the policy want it back? ── no, or no workspace can be what it asks for ──▶ Stay
//!                       │ yes
//!                       ▼
//!   does it count against the agent? ── no: the host or its neighbours did it, ─┐
//!                       │ yes               its workspace was not made, idle    │
//!                       ▼                                                       │
//!   a fault that a retry cannot help, or the same fault at start several        │
//!   times in a row?  ──▶ Quarantine                                             │
//!                       │ no                                                    │
//!                       ▼                                                       │
//!   more ends in the window than allowed?  ──▶ Quarantine                       │
//!                       │ no                                                    │
//!                       ▼                                                       ▼
//!   Retry, after a random time below an exponential bound (full jitter). After an eviction: in the
//!   upper half of a bound that grows up to five times as far
//! ```
//!
//! An incarnation that lived for a healthy period sets the bound back to its first value. The window does
//! not forget for that: an agent that dies every minute is a crash looper as well. All times of a run are by a
//! clock that nobody sets: a wall clock that jumps makes no crash looper, and hides none.
//!
//! An agent that was evicted is not at fault, but to restart one that leaks at once would push out its
//! neighbours again and again. So its backoff grows with every eviction, and only an incarnation as long as
//! the window sets it back: a leak that takes minutes to fill the container is not healthy.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Backoff, Determinism, Digest, Exit, ExitClass, ExitReason, Incarnation, Phase, Timestamp,
};

/// Whether an agent is restarted after an end. The words are those of OTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Always.
    Permanent,
    /// After an abnormal end.
    Transient,
    /// Never.
    Temporary,
}

impl RestartPolicy {
    /// Whether an end for this reason is answered by a restart. One by a bound is not: each restart would meet it again.
    pub fn wants(self, reason: ExitReason) -> bool {
        match self {
            _ if reason.class() == ExitClass::Halted => false,
            Self::Permanent => true,
            Self::Transient => !reason.is_normal(),
            Self::Temporary => false,
        }
    }
}

/// When an agent is restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartRules {
    /// Whether at all.
    pub policy: RestartPolicy,
    /// Bound of the first backoff. It doubles with every end in a row.
    pub backoff: Duration,
    /// Largest bound of a backoff.
    pub backoff_max: Duration,
    /// An incarnation as long as this resets the backoff.
    pub healthy: Duration,
    /// Ends within `window` that count against the agent and are answered by a restart. One more is quarantined. At most
    /// [`MAX_RESTARTS`].
    pub max_restarts: u32,
    /// The time in which `max_restarts` may happen.
    pub window: Duration,
    /// Ends in a row with the same fingerprint before the agent was running that are taken for a fault
    /// that no retry helps. At most [`MAX_RESTARTS`].
    pub same_fault: u32,
    /// Deliveries of one message that may end with the agent instead of with the turn. Then it is set aside. 1: a
    /// message is never delivered again, whatever ended the agent. At most [`MAX_ATTEMPTS`].
    pub max_attempts: u32,
}

/// Largest [`RestartRules::max_attempts`]: the crash records of all of them are named at the end.
pub const MAX_ATTEMPTS: u32 = 10;

/// Largest [`RestartRules::max_restarts`]: as many ends are kept for each agent.
pub const MAX_RESTARTS: u32 = 100;

/// Deaths of the host in a row, each with the agent at work, that put it into quarantine.
pub const MAX_HOST_DEATHS: u32 = 2;

/// Largest bound of the backoff after an eviction, in [`RestartRules::backoff_max`]: five minutes by default.
const MAX_EVICTION_FACTOR: u32 = 5;

/// Ends that are kept at least, so that a person sees a history.
const MIN_HISTORY: usize = 10;

impl Default for RestartRules {
    /// Five restarts in five minutes, as Erlang's supervisors count, with the backoff of a service that
    /// talks to others: half a second to a minute.
    fn default() -> Self {
        Self {
            policy: RestartPolicy::Temporary,
            backoff: Duration::from_millis(500),
            backoff_max: Duration::from_secs(60),
            healthy: Duration::from_secs(60),
            max_restarts: 5,
            window: Duration::from_secs(300),
            same_fault: 3,
            max_attempts: 2,
        }
    }
}

/// What an agent's restarts have come to. Survives the incarnation, and in the store the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RestartState {
    /// Ends that the policy answered, oldest first. Bounded. Shared, because a copy of the state is made at every
    /// end.
    pub ends: Vec<Arc<PastEnd>>,
    /// Restarts in a row without a healthy incarnation: the exponent of the backoff.
    pub streak: u32,
    /// Deaths of the host in a row at which it was at work, without a turn that it came through since.
    #[serde(skip_serializing_if = "is_zero")]
    pub host_deaths: u32,
    /// Present while the agent is quarantined.
    pub quarantine: Option<Quarantine>,
}

/// One end, as far as restarts go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PastEnd {
    /// When, by the wall clock: for people, and for the runs that follow.
    pub at: Timestamp,
    /// How long the run of the host had lived then. That clock is never set, so within a run it decides.
    /// Absent in an end of an earlier run.
    #[serde(skip)]
    pub run_uptime: Option<Duration>,
    /// Which incarnation.
    pub incarnation: Incarnation,
    /// Why.
    pub reason: ExitReason,
    /// Groups ends of one cause.
    pub fingerprint: String,
    /// The agent never was running.
    pub at_start: bool,
    /// The crash record; absent when the end was normal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crash_id: Option<String>,
    /// A retry cannot help.
    pub deterministic: bool,
    /// Not the doing of its code: its workspace could not be made, or the host ended it because it had nothing to do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub excused: bool,
    /// What its component and its source code were, when it is known: a quarantine is about those. Databases of earlier
    /// versions have the component's alone, under its name.
    #[serde(alias = "componentSha256", skip_serializing_if = "Option::is_none")]
    pub code_sha256: Option<Digest>,
}

/// Why an agent is not restarted automatically.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quarantine {
    /// Since when.
    pub since: Timestamp,
    /// Which rule.
    pub why: QuarantineReason,
    /// One sentence for a person, with the figures.
    pub message: String,
}

/// The rule that put an agent into quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum QuarantineReason {
    /// Too many ends in the window.
    Intensity,
    /// The same fault at start, several times in a row.
    SameFault,
    /// A fault of which one time is enough.
    Deterministic,
    /// It was at work when the host died, twice in a row.
    HostDeath,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What follows from an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It stays down, as its policy says.
    Stay,
    /// It is restarted.
    Retry {
        /// When.
        at: Timestamp,
        /// How long until then.
        backoff: Duration,
    },
    /// It stays down until a person or a new spec says otherwise.
    Quarantine(Quarantine),
}

impl PastEnd {
    /// An end as the rules see it.
    pub fn new(
        exit: &Exit,
        at: Timestamp,
        incarnation: Incarnation,
        fingerprint: String,
        crash_id: Option<String>,
    ) -> Self {
        Self {
            at,
            run_uptime: None,
            incarnation,
            reason: exit.reason,
            fingerprint,
            at_start: exit.phase.is_of_start(),
            crash_id,
            deterministic: exit.deterministic == Determinism::True,
            excused: exit.phase == Phase::Workspace
                || (exit.reason, exit.phase) == (ExitReason::Completed, Phase::Shutdown),
            code_sha256: None,
        }
    }

    /// Whether it counts when a crash looper is searched for.
    fn counts(&self) -> bool {
        !self.excused && self.reason.class().counts_against_the_agent()
    }

    /// Whether it fails again until somebody changes what it asks for, and says nothing of its code.
    fn is_in_vain(&self) -> bool {
        self.excused && self.deterministic
    }
}

impl RestartState {
    /// Decides what follows from `end`, and remembers it. `lived` is how long the incarnation was there;
    /// `dice` is a random number from 0 to 1.
    pub fn after(
        &mut self,
        rules: &RestartRules,
        end: PastEnd,
        lived: Duration,
        dice: f64,
    ) -> Decision {
        // It ended by itself, and the host is there: it does not kill the host each time.
        self.host_deaths = 0;
        if !rules.policy.wants(end.reason) || end.is_in_vain() {
            return Decision::Stay;
        }
        let evicted = end.reason.class() == ExitClass::Evicted;
        if lived >= if evicted { rules.window.max(rules.healthy) } else { rules.healthy } {
            self.streak = 0;
        }
        if end.excused && end.reason == ExitReason::Completed {
            // It had nothing to do. The next message should not find it in a long backoff.
            self.streak = 0;
        }
        let now = end.at;
        self.remember(end, rules);
        if let Some((why, message)) = self.hopeless(rules) {
            let quarantine = Quarantine { since: now, why, message };
            self.quarantine = Some(quarantine.clone());
            return Decision::Quarantine(quarantine);
        }
        let dice = dice.clamp(0.0, 1.0);
        let backoff = match evicted {
            true => rules.bound_after_eviction(self.streak).mul_f64(0.5 + dice / 2.0),
            false => rules.bound(self.streak).mul_f64(dice),
        };
        self.streak = self.streak.saturating_add(1);
        Decision::Retry { at: now.after(backoff), backoff }
    }

    /// The host died while it was at work, of something that an agent can do. It is restarted whatever its policy says,
    /// because nobody asked for its end, but not after [`MAX_HOST_DEATHS`] in a row. `lived` is how long the
    /// incarnation ran: a healthy one begins a new row.
    pub fn after_host_death(
        &mut self,
        rules: &RestartRules,
        end: PastEnd,
        lived: Duration,
    ) -> Option<Quarantine> {
        if lived >= rules.healthy {
            self.host_deaths = 0;
        }
        self.host_deaths = self.host_deaths.saturating_add(1);
        let since = end.at;
        self.remember(end, rules);
        if self.host_deaths < MAX_HOST_DEATHS {
            return None;
        }
        let message =
            format!("the host died {} times in a row while it was at work", self.host_deaths);
        self.quarantine = Some(Quarantine { since, why: QuarantineReason::HostDeath, message });
        self.quarantine.clone()
    }

    /// It came through a turn: whatever killed the host, this did not. Says whether that changes anything.
    pub fn clear_host_deaths(&mut self) -> bool {
        std::mem::take(&mut self.host_deaths) > 0
    }

    /// Ends that count within the window that ends at `now`, when the run has lived for `uptime`. One of an earlier
    /// run is as old as this run at least, whatever the wall clock says.
    pub fn attempts_in_window(
        &self,
        rules: &RestartRules,
        now: Timestamp,
        uptime: Option<Duration>,
    ) -> u32 {
        let age = |end: &PastEnd| match (end.run_uptime, uptime) {
            (Some(then), Some(now)) => now.saturating_sub(then),
            (None, Some(run)) => now.since(end.at).max(run),
            (_, None) => now.since(end.at),
        };
        let counts = |end: &Arc<PastEnd>| end.counts() && age(end) < rules.window;
        let recent = self.ends.iter().filter(|end| counts(end)).count();
        u32::try_from(recent).unwrap_or(u32::MAX)
    }

    fn remember(&mut self, end: PastEnd, rules: &RestartRules) {
        // One more than is allowed has to be seen.
        let kept = (rules.max_restarts.min(MAX_RESTARTS) as usize + 1).max(MIN_HISTORY);
        while self.ends.len() >= kept {
            // Those that do not count go first: they must not hide a crash looper.
            let goes = self.ends.iter().position(|end| !end.counts()).unwrap_or(0);
            self.ends.remove(goes);
        }
        self.ends.push(Arc::new(end));
    }

    /// Whether the last end was one too many.
    fn hopeless(&self, rules: &RestartRules) -> Option<(QuarantineReason, String)> {
        let last = self.ends.last().filter(|end| end.counts())?;
        let reason = last.reason.as_str();
        if last.at_start && last.deterministic {
            let text = format!("it cannot start: {reason}, and a retry cannot help");
            return Some((QuarantineReason::Deterministic, text));
        }
        let is_same = |end: &&Arc<PastEnd>| {
            let failed = end.at_start && end.reason.class() == ExitClass::Fault;
            failed && end.fingerprint == last.fingerprint
        };
        let counting = self.ends.iter().rev().filter(|end| end.counts());
        let same = counting.take_while(is_same).count();
        if same >= rules.same_fault.max(1) as usize && last.at_start {
            let text = format!("{same} starts in a row ended with the same fault, {reason}");
            return Some((QuarantineReason::SameFault, text));
        }
        let attempts = self.attempts_in_window(rules, last.at, last.run_uptime);
        if attempts > rules.max_restarts {
            let (allowed, seconds) = (rules.max_restarts, rules.window.as_secs_f64());
            let text = format!(
                "it ended {attempts} times within {seconds} s, {allowed} are allowed; last: {reason}"
            );
            return Some((QuarantineReason::Intensity, text));
        }
        None
    }
}

impl RestartRules {
    /// How long until a start is made again that failed before anything ran, after `failures` of them in
    /// a row. `None`: the policy does not want it. Never ends in quarantine: no
    /// agent is to blame for a start that found no component, no memory or no room.
    pub fn after_failed_start(&self, failures: u32, dice: f64) -> Option<Duration> {
        match self.policy {
            RestartPolicy::Permanent | RestartPolicy::Transient => {
                Some(Backoff::new(self.backoff, self.backoff_max).pause(failures, dice))
            }
            RestartPolicy::Temporary => None,
        }
    }

    /// The exponential bound after `streak` restarts in a row.
    fn bound(&self, streak: u32) -> Duration {
        Backoff::new(self.backoff, self.backoff_max).bound(streak)
    }

    fn bound_after_eviction(&self, streak: u32) -> Duration {
        let max = self.backoff_max.saturating_mul(MAX_EVICTION_FACTOR);
        Backoff::new(self.backoff, max).bound(streak)
    }
}

#[cfg(test)]
mod tests;
