//! What the host should make of the commands: one agent, as its spec says it, without time and threads.

use std::collections::VecDeque;

use super::command::{Body, IfRunning, Role, Spec, Start};

/// Restarts of every role in its window, which is longer than any test.
pub const RESTARTS: u64 = 2;

/// Where an agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Never started.
    Unknown,
    Running,
    Backoff,
    Quarantined,
    Exited,
    Failed,
}

/// One agent, when everything that was begun is through.
#[derive(Debug)]
pub struct Agent {
    pub state: State,
    pub spec: Option<Spec>,
    /// The last incarnation, and how many there were.
    pub incarnation: u64,
    /// Ends that the policy answered.
    pub attempts: u64,
    pub exit_reason: Option<&'static str>,
    /// Messages that wait for an incarnation to come.
    pub waiting: VecDeque<Body>,
    pub nudges: usize,
    /// What the log has to say.
    pub logged: Logged,
}

/// Lines of the log.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Logged {
    pub crashes: usize,
    pub scheduled: usize,
    pub cancelled: usize,
    pub quarantined: usize,
}

/// How a start should be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    Again,
    Joined,
    Kept,
    Quarantined,
}

/// How a message should be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// By the agent.
    Answered,
    /// By the agent, whose last word it was.
    Done,
    /// With the end of the agent.
    Crashed,
    /// It waits.
    Waits,
    NotRunning,
    Nobody,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "",
            Self::Running => "running",
            Self::Backoff => "backoff",
            Self::Quarantined => "quarantined",
            Self::Exited => "exited",
            Self::Failed => "failed",
        }
    }
}

impl Agent {
    pub fn unknown() -> Self {
        Self {
            state: State::Unknown,
            spec: None,
            incarnation: 0,
            attempts: 0,
            exit_reason: None,
            waiting: VecDeque::new(),
            nudges: 0,
            logged: Logged::default(),
        }
    }

    pub fn start(&mut self, spec: Spec, start: Start) -> Started {
        match self.state {
            State::Running if start.if_running == IfRunning::Restart => {}
            State::Running if start.if_running == IfRunning::Keep => return Started::Kept,
            State::Running if self.spec == Some(spec) => return Started::Joined,
            State::Quarantined if !self.is_fresh(spec, start) => return Started::Quarantined,
            _ => {}
        }
        if self.is_fresh(spec, start) {
            self.attempts = 0;
        }
        self.take_over(spec, self.incarnation + 1);
        self.work_off();
        Started::Again
    }

    /// Whether a start is a new chance: by its spec, or by somebody's word.
    pub fn is_fresh(&self, spec: Spec, start: Start) -> bool {
        start.force || self.spec != Some(spec)
    }

    /// A start that had its turn, also of two at the same time.
    pub fn take_over(&mut self, spec: Spec, incarnation: u64) {
        if self.state == State::Backoff {
            self.logged.cancelled += 1;
        }
        (self.spec, self.incarnation) = (Some(spec), incarnation);
        self.begin();
    }

    fn begin(&mut self) {
        self.state = State::Running;
        self.exit_reason = None;
    }

    /// Yields the reason of the answer; none when nobody is there.
    pub fn stop(&mut self) -> Option<&'static str> {
        match self.state {
            State::Unknown => return None,
            State::Running => self.exit_reason = Some("stopped"),
            State::Backoff => self.logged.cancelled += 1,
            State::Quarantined | State::Exited | State::Failed => return self.exit_reason,
        }
        self.state = State::Exited;
        self.drop_mail();
        self.exit_reason
    }

    pub fn message(&mut self, body: Body) -> Sent {
        match self.state {
            State::Unknown => Sent::Nobody,
            State::Backoff => {
                self.waiting.push_back(body);
                Sent::Waits
            }
            State::Running => self.turn(body),
            State::Quarantined | State::Exited | State::Failed => Sent::NotRunning,
        }
    }

    /// Whether it is taken; none when nobody is there.
    pub fn nudge(&mut self) -> Option<bool> {
        match self.state {
            State::Unknown => return None,
            State::Backoff | State::Running => self.nudges += 1,
            State::Quarantined | State::Exited | State::Failed => return Some(false),
        }
        self.work_off();
        Some(true)
    }

    /// Incarnations work on what waits until nothing does, or none is active.
    fn work_off(&mut self) {
        while self.state == State::Running {
            if let Some(body) = self.waiting.pop_front() {
                self.turn(body);
            } else if self.nudges > 0 {
                self.nudges -= 1;
                self.turn(Body::Hello);
            } else {
                return;
            }
        }
    }

    fn turn(&mut self, body: Body) -> Sent {
        let works = self.spec.is_some_and(|spec| spec.works);
        match body {
            _ if works => {
                self.end("completed", true);
                Sent::Done
            }
            Body::Hello => Sent::Answered,
            Body::Crash => {
                self.logged.crashes += 1;
                self.end("trap", false);
                Sent::Crashed
            }
        }
    }

    fn end(&mut self, reason: &'static str, normal: bool) {
        self.exit_reason = Some(reason);
        let role = self.spec.map_or(Role::Temporary, |spec| spec.role);
        let wanted = match role {
            Role::Temporary => false,
            Role::TransientSlow | Role::TransientQuick => !normal,
            Role::PermanentSlow | Role::PermanentQuick => true,
        };
        if !wanted {
            self.state = if normal { State::Exited } else { State::Failed };
            return self.drop_mail();
        }
        self.attempts += 1;
        if self.attempts > RESTARTS {
            self.state = State::Quarantined;
            self.logged.quarantined += 1;
            return self.drop_mail();
        }
        self.logged.scheduled += 1;
        if role.is_quick() {
            self.incarnation += 1;
            self.begin();
        } else {
            self.state = State::Backoff;
        }
    }

    fn drop_mail(&mut self) {
        self.waiting.clear();
        self.nudges = 0;
    }
}
