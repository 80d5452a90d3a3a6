//! What is done to the host while it works, and what follows from it.

use std::fmt;

use clap::ValueEnum;

use crate::audit::Causes;

/// One way to disturb it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Disturbance {
    /// Nothing: work alone.
    None,
    /// The supervisor is stopped by SIGSTOP for a while.
    Freeze,
    /// The wall clock jumps by hours, forward and back.
    ClockJump,
    /// Nobody reads the log for a while.
    StalledReader,
    /// Hundreds of connections that say nothing.
    ConnectionFlood,
    /// The disk of the state directory is full for a while.
    FullDisk,
    /// SIGKILL of the supervisor.
    KillSupervisor,
    /// SIGKILL of the supervisor, and of the next one while it boots.
    KillInBoot,
    /// SIGKILL of the init process.
    KillInit,
    /// SIGTERM, and SIGKILL of both processes while an agent is waited for.
    KillInDrain,
    /// SIGTERM, and a new host.
    Drain,
}

/// One of each that leaves the supervisor alone three times as often, so that it has quiet points to compare.
pub const PLAN: [Disturbance; 22] = {
    use Disturbance::*;
    [
        None,
        None,
        None,
        None,
        Freeze,
        Freeze,
        Freeze,
        ClockJump,
        ClockJump,
        ClockJump,
        StalledReader,
        StalledReader,
        ConnectionFlood,
        ConnectionFlood,
        ConnectionFlood,
        FullDisk,
        FullDisk,
        KillSupervisor,
        KillInBoot,
        KillInit,
        KillInDrain,
        Drain,
    ]
};

impl Disturbance {
    /// Whether the host goes away, with the calls under way.
    pub fn ends_a_run(self) -> bool {
        matches!(
            self,
            Self::KillSupervisor
                | Self::KillInBoot
                | Self::KillInit
                | Self::KillInDrain
                | Self::Drain
        )
    }

    /// What each run that begins because of it has to report about the one before.
    pub fn causes(self) -> &'static [Causes] {
        match self {
            Self::KillSupervisor => &[&["external_sigkill"]],
            Self::KillInBoot => &[&["external_sigkill"], &["external_sigkill"]],
            // Nobody saw the end: the supervisor goes with its parent.
            Self::KillInit => &[&["unknown", "external_sigkill"]],
            Self::KillInDrain => &[&["orchestrator_stop"]],
            Self::Drain => &[&["clean"]],
            Self::None
            | Self::Freeze
            | Self::ClockJump
            | Self::StalledReader
            | Self::ConnectionFlood
            | Self::FullDisk => &[],
        }
    }

    /// Whether the host may refuse what it otherwise grants, or have no connection for it.
    pub fn may_refuse(self) -> bool {
        matches!(self, Self::ConnectionFlood | Self::FullDisk | Self::Drain | Self::KillInDrain)
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.to_possible_value();
        f.write_str(name.as_ref().map_or("hidden", |name| name.get_name()))
    }
}
