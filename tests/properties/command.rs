//! What is done to agents, and the random choice of it.

use proptest::prelude::*;
use proptest::sample::select;

/// Agent ids of a case.
pub const AGENTS: usize = 3;

/// What is done in a case, and to what.
#[derive(Debug, Clone)]
pub struct Case {
    /// The two things that each agent is asked to be. They may be the same.
    pub specs: [[Spec; 2]; AGENTS],
    pub commands: Vec<Command>,
}

/// One thing that is done to the host.
#[derive(Debug, Clone)]
pub enum Command {
    /// A start that is waited for.
    Start { agent: usize, start: Start },
    /// Two starts of one agent at the same time.
    Pair { agent: usize, starts: [Start; 2] },
    /// A stop that is waited for.
    Stop { agent: usize },
    /// A message, and its turn.
    Message { agent: usize, body: Body },
    /// A hint.
    Nudge { agent: usize },
}

/// What a start asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The second of the agent's specs, and not the first.
    pub second: bool,
    pub if_running: IfRunning,
    pub force: bool,
}

/// What becomes of an agent that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfRunning {
    Join,
    Restart,
    Keep,
}

impl IfRunning {
    pub fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Restart => "restart",
            Self::Keep => "keep",
        }
    }
}

/// What an agent is asked to be. Two starts of one `Spec` are the same to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    pub role: Role,
    pub model: &'static str,
    /// Its component is the one that works a task and is done, and not the one that answers.
    pub works: bool,
}

/// A role of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Is never restarted.
    Temporary,
    /// Is restarted after a crash, in a time that nobody lives to see.
    TransientSlow,
    /// Is restarted after a crash at once.
    TransientQuick,
    /// Is restarted after every end, in a time that nobody lives to see.
    PermanentSlow,
    /// Is restarted after every end at once.
    PermanentQuick,
}

/// What a message asks the agent to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// The answering agent answers with it.
    Hello,
    /// The answering agent crashes of it.
    Crash,
}

impl Role {
    pub const ALL: [Self; 5] = [
        Self::Temporary,
        Self::TransientSlow,
        Self::TransientQuick,
        Self::PermanentSlow,
        Self::PermanentQuick,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Temporary => "temporary",
            Self::TransientSlow => "transient-slow",
            Self::TransientQuick => "transient-quick",
            Self::PermanentSlow => "permanent-slow",
            Self::PermanentQuick => "permanent-quick",
        }
    }

    pub fn is_quick(self) -> bool {
        matches!(self, Self::TransientQuick | Self::PermanentQuick)
    }
}

impl Body {
    pub fn text(self) -> &'static str {
        match self {
            Self::Hello => "done",
            Self::Crash => "unreachable",
        }
    }
}

/// A random case.
pub fn cases() -> impl Strategy<Value = Case> {
    let specs = || [spec(), spec()];
    let commands = prop::collection::vec(command(), 1..30);
    ([specs(), specs(), specs()], commands).prop_map(|(specs, commands)| Case { specs, commands })
}

fn command() -> impl Strategy<Value = Command> {
    let agent = || 0..AGENTS;
    prop_oneof![
        4 => (agent(), start()).prop_map(|(agent, start)| Command::Start { agent, start }),
        2 => (agent(), [start(), start()])
            .prop_map(|(agent, starts)| Command::Pair { agent, starts }),
        2 => agent().prop_map(|agent| Command::Stop { agent }),
        2 => agent().prop_map(|agent| Command::Message { agent, body: Body::Hello }),
        6 => agent().prop_map(|agent| Command::Message { agent, body: Body::Crash }),
        1 => agent().prop_map(|agent| Command::Nudge { agent }),
    ]
}

fn start() -> impl Strategy<Value = Start> {
    let if_running = select(vec![IfRunning::Join, IfRunning::Restart, IfRunning::Keep]);
    let (second, force) = (prop::bool::weighted(0.3), prop::bool::weighted(0.2));
    (second, if_running, force).prop_map(|(second, if_running, force)| Start {
        second,
        if_running,
        force,
    })
}

/// Mostly the answering agent.
fn spec() -> impl Strategy<Value = Spec> {
    let (role, model) = (select(Role::ALL.to_vec()), select(vec!["model-a", "model-b"]));
    (role, model, prop::bool::weighted(0.2)).prop_map(|(role, model, works)| Spec {
        role,
        model,
        works,
    })
}
