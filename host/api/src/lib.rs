//! The HTTP contract of the control API, as types.
//!
//! Field names are the original container's, camel case. A field that a request does not know is an issue, or named
//! in the answer: see [`unknown`]. Answers never hold a secret.
//!
//! - [`start`], [`message`], [`settings`], [`town_config`], [`refresh_token`]: requests, each with a `parse` that names every
//!   offending field
//! - [`town_registry`]: what the town says its container is to run
//! - [`town_snapshot`]: how what agents remember lies at the town
//! - [`unknown`]: what becomes of fields that nobody knows
//! - [`exec`], [`workspace`]: programs that run beside an agent, its files, its repository
//! - [`upgrade`]: other code for the agents of a role
//! - [`move_town`]: the town goes to another copy
//! - [`view`], [`memory`], [`crashes`], [`usage`]: answers
//! - [`error`]: the one shape of every refusal

pub mod crashes;
pub mod error;
pub mod exec;
pub mod memory;
pub mod message;
pub mod move_town;
pub mod nudge;
pub mod openai;
pub mod refresh_token;
pub mod settings;
pub mod start;
pub mod stream;
pub mod town_config;
pub mod town_registry;
pub mod town_snapshot;
pub mod unknown;
pub mod upgrade;
pub mod usage;
pub mod view;
pub mod workspace;

pub use crashes::CrashesPage;
pub use error::{ErrorBody, Issue, LeaseWait, text_issue};
pub use exec::{ExecAnswer, ExecRequest};
pub use memory::{AgentMemoryView, ContainerMemoryView, HeapView, SeriesView};
pub use message::MessageRequest;
pub use move_town::MoveAnswer;
pub use nudge::NudgeRequest;
pub use refresh_token::RefreshTokenRequest;
pub use settings::{DashboardContextRequest, ModelRequest, SystemPromptRequest};
pub use start::{GitRequest, IfRunning, StartRequest};
pub use stream::{DeltaFrame, DeltaView, EventFrame, GapFrame, StreamFrame, TicketAnswer};
pub use town_config::TownConfig;
pub use town_registry::{RawRow, TownAgent, TownEnv, TownRegistry, UnreadableRow};
pub use unknown::Parsed;
pub use upgrade::{MAX_PROVE_MS, PROVE_MS, UpgradePhase, UpgradeView};
pub use usage::{AgentUsageView, BudgetView, UsageDayView, UsageEntryView, UsageView};
pub use view::{
    AgentList, AgentView, EventView, EventsPage, ExitView, Health, MemoryView, MessageAnswer,
    MissingAgent, NudgeAnswer, Readiness, RefreshTokenAnswer, RestartView, SetAsideView,
    StartAnswer, StopAnswer, Stuck, SyncAnswer, TurnView, UpdateAnswer, WithIgnored,
};
pub use workspace::{
    ChangeView, DiffBase, DiffView, EntryKind, EntryView, FilesView, MergeAnswer, MergeRequest,
    PrepareRequest, RemovedWorkspace, RigView, SeenView, WorkspaceList, WorkspaceView,
};
