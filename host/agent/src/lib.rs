//! One start of an agent, with all the restarts that come of it, is one task.
//!
//! ```text
//!   send ──▶ Mailbox (bounded) ──┐
//!                                ▼
//!   stop ──▶ stop order ──▶  the task  ── Call ─▶ engine ─── Exit ─▶ report ─▶ log, ring
//!                                │
//!                                └──▶ StatePublisher (watch: state, end) ──▶ status, waiters
//! ```
//!
//! Which task may have an incarnation is decided by the agent's slot (`slot`). The task alone changes the
//! state, on its `StatePublisher`, and owns the instance, behind the traits of `engine`. Messages come by a
//! bounded mailbox, a stop by a lane of its own that no message can block, facts leave by a `watch` channel and
//! the sink. When the task ends, the store is gone. What changes while the agent is active goes past the task: the
//! guest asks for it (`settings`).
//!
//! No file needs one above it: `agent` sees the actor, that sees reports and orders, those see handles, those the
//! incarnation, that the container, and all of them mailbox, slot, settings and refusals.

mod actor;
mod admission;
mod agent;
mod changes;
mod container;
mod crash_follow_up;
mod credentials;
mod durable;
mod ended_agents;
mod engine;
mod figures;
mod handle;
mod incarnation;
mod left_mail;
mod loading;
mod mailbox;
mod model_use;
mod order;
mod peers;
mod port;
mod probation;
mod refusal;
mod report;
mod settings;
#[expect(clippy::disallowed_types, reason = "the checker's locks have std's interface")]
mod slot;
mod slot_entry;
mod state_publisher;
mod stop_order;
#[expect(clippy::disallowed_types, reason = "the checker's locks have std's interface")]
mod sync;
mod tools_in_use;
mod town_values;
mod upgrade;
mod workspace_use;

pub use agent::{Admission, Agent, Ending};
pub use changes::Changes;
pub use container::{Container, Stores};
pub use ended_agents::EndedAgents;
pub use engine::{
    BoxCall, BoxInstance, Call, CallEnd, Code, Component, Engine, EngineFacts, Instance,
    SnapshotBytes,
};
pub use figures::{Figures, MemoryProbe};
pub use handle::AgentHandle;
pub use mailbox::{Mailbox, MailboxFull, NotTaken};
pub use order::StartOrder;
pub use peers::Peers;
pub use refusal::{
    Delivery, FinishedTurn, SendError, StartError, StartFailure, StopError, TurnReport,
};
pub use settings::{SettingsChange, SettingsError};
pub use state_publisher::{Published, StatePublisher};
pub use tools_in_use::{ToolCounts, ToolFigures, ToolInUse};
pub use town_values::{TownConfigError, TownValues};
pub use upgrade::{NewCode, UpgradeStage};
pub use workspace_use::{Vacant, WorkspaceUse};
