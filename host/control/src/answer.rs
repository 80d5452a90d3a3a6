//! The one place that turns refusals into answers.
//!
//! Statuses: 4xx when the caller can do something about it, 502 when the agent is at fault (the host
//! is its gateway), 503 when it may go better later, 504 when time ran out, 500 when the host failed.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use bulkhead_api::openai::OpenAiError;
use bulkhead_api::{ErrorBody, Issue, MissingAgent};
use bulkhead_supervisor::{
    ExecError, ExecRefusal, GitError, SendError, SettingsError, StartError, StartFailure,
    StopError, WorkspaceError,
};
use bulkhead_types::{ExitReason, StartPhase};
use hyper::StatusCode;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HeaderValue, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE,
};

/// A full mailbox drains by turns, which take milliseconds to minutes.
const MAILBOX_RETRY_S: u16 = 1;
/// The call has waited for a while already.
const BOOT_RETRY_S: u16 = 1;
/// Capacity is free again when an agent ends; a draining container is replaced.
const START_RETRY_S: u16 = 5;

/// An answer with a status of 400 or above.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// Boxed: refusals travel in `Result`s whose good side is small.
    pub(crate) body: Box<ErrorBody>,
    retry_after_s: Option<u16>,
    /// The connection cannot be used again, because the body was not read to its end.
    close: bool,
    /// A line of the agent has it.
    logged: bool,
}

/// What the log line of a refused request says. Rides on the answer from here to there. `None`: the
/// agent's or the start's own line has it already, and one line is enough.
#[derive(Debug, Clone)]
pub(crate) struct Reason(pub(crate) Option<String>);

/// What a refused request was answered, for pages that say it in their own way.
#[derive(Debug, Clone)]
pub(crate) struct Refused(pub(crate) Arc<ErrorBody>);

impl Refusal {
    pub(crate) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        let body = ErrorBody { status: Some(status.as_u16()), ..ErrorBody::new(error) };
        Self { status, body: Box::new(body), retry_after_s: None, close: false, logged: false }
    }

    pub(crate) fn invalid_body(issues: Vec<Issue>) -> Self {
        Self::with_issues("invalid request body", issues)
    }

    pub(crate) fn invalid_query(issues: impl Into<Vec<Issue>>) -> Self {
        Self::with_issues("invalid query", issues.into())
    }

    pub(crate) fn invalid_path(param: impl Into<String>, message: &str) -> Self {
        Self::with_issues("invalid path", vec![Issue::new(param, message)])
    }

    pub(crate) fn invalid_id(message: impl Into<String>) -> Self {
        let message = message.into();
        let issue = Issue::new("agentId", message.clone());
        Self::with_issues(message, vec![issue])
    }

    pub(crate) fn unauthorized() -> Self {
        let error = "no valid token: send the control token as Authorization: Bearer";
        Self::new(StatusCode::UNAUTHORIZED, error).kind("unauthorized").action(
            "it is the value of BULKHEAD_CONTROL_TOKEN or server.token, else the file control-token in the host's \
             state directory",
        )
    }

    /// A ticket that opens nothing stands where the token would.
    pub(crate) fn bad_ticket() -> Self {
        let error = "the ticket is unknown, used or expired: each opens one stream, within 60 s";
        Self::new(StatusCode::UNAUTHORIZED, error)
            .kind("unauthorized")
            .action("get a new one with POST /tickets, or send the control token")
    }

    /// Desired agents are missing, and the caller wants all of them.
    pub(crate) fn incomplete(missing: usize, agents: Vec<MissingAgent>) -> Self {
        let named: Vec<_> = agents.iter().map(|agent| agent.agent_id.as_str()).collect();
        let colon = if named.is_empty() { "" } else { ": " };
        let error = format!(
            "not complete: {missing} desired agents are missing{colon}{}",
            named.join(", ")
        );
        let mut refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, error).kind("agents-missing");
        refusal.body.missing = Some(missing);
        refusal.body.agents = agents;
        refusal
    }

    /// Something is less durable than it should be, and the caller wants it to be.
    pub(crate) fn not_durable(what: &str, why: Option<&str>) -> Self {
        let why = why.map_or_else(String::new, |why| format!(": {why}"));
        let error = format!("not durable: {what}{why}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error).kind("not-durable")
    }

    pub(crate) fn internal() -> Self {
        let error = "the host failed to respond; its log has the details";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error).kind("host")
    }

    /// The agent said that the turn failed, and keeps running.
    pub(crate) fn turn_failed(message_id: String, code: String, message: String) -> Self {
        let error = said_or(message, || format!("agent failed without a message, code {code}"));
        let mut refusal = Self::new(StatusCode::BAD_GATEWAY, error).kind(code);
        refusal.body.message_id = Some(message_id);
        refusal.logged()
    }

    /// The agent ended before the turn did.
    pub(crate) fn agent_ended(
        message_id: String,
        reason: ExitReason,
        message: String,
        crash_id: Option<String>,
    ) -> Self {
        let error = said_or(message, || format!("agent ended: {}", reason.as_str()));
        let mut refusal = Self::new(StatusCode::BAD_GATEWAY, error).kind("agent-ended");
        refusal.body.message_id = Some(message_id);
        refusal.body.exit_reason = Some(reason.as_str().to_owned());
        refusal.body.crash_id = crash_id;
        refusal.logged()
    }

    /// The agent ended in each delivery of the message, and it is not delivered again.
    pub(crate) fn message_set_aside(
        message_id: String,
        reason: ExitReason,
        message: String,
        attempts: u32,
        crash_ids: Vec<String>,
    ) -> Self {
        let crash_id = crash_ids.last().cloned();
        let mut refusal = Self::agent_ended(message_id, reason, message, crash_id)
            .kind("message-set-aside")
            .action("read the crash records; send it again when their cause is fixed");
        refusal.body.attempts = Some(attempts);
        refusal.body.crash_ids = crash_ids;
        refusal
    }

    /// Nobody said how the turn ended.
    pub(crate) fn turn_unreported(message_id: String) -> Self {
        let error = "the host lost track of the turn; its log has the details";
        let mut refusal = Self::new(StatusCode::INTERNAL_SERVER_ERROR, error).kind("host");
        refusal.body.message_id = Some(message_id);
        refusal
    }

    pub(crate) fn kind(mut self, error_type: impl Into<String>) -> Self {
        self.body.error_type = Some(error_type.into());
        self
    }

    pub(crate) fn action(mut self, action: impl Into<String>) -> Self {
        self.body.action = Some(action.into());
        self
    }

    pub(crate) fn retry_after(mut self, seconds: u16) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// There is no line of it: another one says it, or it is what a probe asks for.
    pub(crate) fn logged(mut self) -> Self {
        self.logged = true;
        self
    }

    pub(crate) fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    fn with_issues(error: impl Into<String>, issues: Vec<Issue>) -> Self {
        let kind = StartFailure::InvalidRequest;
        let mut refusal = Self::new(StatusCode::BAD_REQUEST, error);
        refusal = refusal.kind(kind.as_str()).action(kind.action());
        refusal.body.issues = issues;
        refusal
    }

    /// The error and the paths of its issues. Not their messages: those may quote a value of the
    /// body, and a value may be a secret.
    fn reason(&self) -> Reason {
        if self.logged {
            return Reason(None);
        }
        let paths: Vec<_> = self.body.issues.iter().map(|issue| issue.path.as_str()).collect();
        if paths.is_empty() {
            return Reason(Some(self.body.error.clone()));
        }
        Reason(Some(format!("{} ({})", self.body.error, paths.join(", "))))
    }
}

/// Below this path clients of OpenAI's API read the answers.
const OPENAI: &str = "/v1/";

/// Puts a refusal, wherever it comes from, into the form that the clients of `path` read.
pub(crate) fn in_form_of(path: &str, response: &mut Response) {
    let Some(Refused(error)) = response.extensions().get().filter(|_| path.starts_with(OPENAI))
    else {
        return;
    };
    let error = OpenAiError::from(ErrorBody::clone(error));
    *response.body_mut() = serde_json::to_vec(&error).unwrap_or_default().into();
    response.headers_mut().remove(CONTENT_LENGTH);
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let reason = self.reason();
        let body: Arc<ErrorBody> = Arc::from(self.body);
        let mut response = (self.status, Json(&*body)).into_response();
        response.extensions_mut().insert(Refused(body));
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"bulkhead\"");
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if self.status == StatusCode::UPGRADE_REQUIRED {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        response.extensions_mut().insert(reason);
        response
    }
}

impl From<StartError> for Refusal {
    fn from(error: StartError) -> Self {
        let kind = error.kind;
        let phase = phase_name(error.phase);
        let message = said_or(error.message, || format!("start failed: {}", kind.as_str()));
        let at_fault = match kind {
            StartFailure::UnknownRole => Some("role"),
            StartFailure::UnknownComponent => Some("component"),
            _ => None,
        };
        let mut refusal = Self::new(start_status(kind), message);
        // No line has logged a start that goes on.
        refusal.logged = !matches!(kind, StartFailure::StillCompiling | StartFailure::NotShipped);
        let mut refusal = refusal.kind(kind.as_str()).action(kind.action());
        if let Some(path) = at_fault {
            refusal.body.issues = vec![Issue::new(path, refusal.body.error.clone())];
        }
        refusal.body.phase = phase;
        refusal.body.crash_id = error.crash_id;
        refusal.body.history = error.history;
        if refusal.status == StatusCode::SERVICE_UNAVAILABLE || kind == StartFailure::StillCompiling
        {
            return refusal.retry_after(START_RETRY_S);
        }
        refusal
    }
}

fn start_status(kind: StartFailure) -> StatusCode {
    match kind {
        StartFailure::UnknownRole
        | StartFailure::UnknownComponent
        | StartFailure::InvalidRequest => StatusCode::BAD_REQUEST,
        StartFailure::Quarantined | StartFailure::Superseded => StatusCode::CONFLICT,
        StartFailure::ComponentUnreadable
        | StartFailure::ComponentTooLarge
        | StartFailure::ComponentUnsupported
        | StartFailure::ComponentDoesNotFit
        | StartFailure::ComponentInvalid
        | StartFailure::ComponentTooComplex
        | StartFailure::CompileMemory
        | StartFailure::CompileTime
        | StartFailure::CompilerCrashed
        | StartFailure::SourceInvalid
        | StartFailure::WrongWorld
        | StartFailure::MemoryMinimum
        | StartFailure::RepositoryTooLarge
        | StartFailure::PromptTooLarge => StatusCode::UNPROCESSABLE_ENTITY,
        StartFailure::Instantiate | StartFailure::Host => StatusCode::INTERNAL_SERVER_ERROR,
        StartFailure::GuestError | StartFailure::GuestCrashed | StartFailure::CloneFailed => {
            StatusCode::BAD_GATEWAY
        }
        StartFailure::Workspace => StatusCode::CONFLICT,
        StartFailure::Capacity
        | StartFailure::Memory
        | StartFailure::CompilerKilled
        | StartFailure::NoProcess
        | StartFailure::NotShipped
        | StartFailure::Draining => StatusCode::SERVICE_UNAVAILABLE,
        StartFailure::Deadline | StartFailure::StillCompiling | StartFailure::CompileDeadline => {
            StatusCode::GATEWAY_TIMEOUT
        }
    }
}

/// The phase's word, as in the log.
fn phase_name(phase: StartPhase) -> Option<String> {
    serde_json::to_value(phase).ok()?.as_str().map(str::to_owned)
}

impl From<SendError> for Refusal {
    fn from(error: SendError) -> Self {
        let (status, kind) = match &error {
            SendError::NoSuchAgent(_) => (StatusCode::NOT_FOUND, "no-such-agent"),
            SendError::NotBackYet(_) => (StatusCode::SERVICE_UNAVAILABLE, "not-back-yet"),
            SendError::NotRunning { .. } => (StatusCode::CONFLICT, "not-running"),
            SendError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "message-too-large"),
            SendError::MailboxFull { .. } => (StatusCode::TOO_MANY_REQUESTS, "mailbox-full"),
            SendError::NoMemory { .. } => (StatusCode::TOO_MANY_REQUESTS, "agent-memory-full"),
        };
        let refusal = Self::new(status, error.to_string()).kind(kind);
        match error {
            SendError::MailboxFull { .. } | SendError::NoMemory { .. } => {
                refusal.retry_after(MAILBOX_RETRY_S)
            }
            SendError::NotBackYet(_) => refusal.retry_after(BOOT_RETRY_S),
            _ => refusal,
        }
    }
}

impl From<StopError> for Refusal {
    fn from(error: StopError) -> Self {
        let text = error.to_string();
        match error {
            StopError::NoSuchAgent(_) => {
                Self::new(StatusCode::NOT_FOUND, text).kind("no-such-agent")
            }
            StopError::NotShipped(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
                .kind("not-shipped")
                .action("stop it again to learn when it is shipped")
                .retry_after(START_RETRY_S),
        }
    }
}

impl From<WorkspaceError> for Refusal {
    fn from(error: WorkspaceError) -> Self {
        let text = error.to_string();
        match error {
            WorkspaceError::NotThere { .. } => {
                Self::new(StatusCode::NOT_FOUND, text).kind("not-there")
            }
            WorkspaceError::None(_) => Self::new(StatusCode::NOT_FOUND, text).kind("no-workspace"),
            WorkspaceError::InUse(_) => Self::new(StatusCode::CONFLICT, text).kind("in-use"),
            WorkspaceError::NotPushed { .. } => Self::new(StatusCode::CONFLICT, text)
                .kind("not-pushed")
                .action("push it if it is a repository, save what is in it elsewhere, or remove it with force"),
            WorkspaceError::Archived { .. } => Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
                .kind("archived")
                .retry_after(START_RETRY_S),
            WorkspaceError::NoInventory => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, text).kind("no-inventory")
            }
            WorkspaceError::Lost => Self::internal(),
            WorkspaceError::NoRepositories => {
                Self::new(StatusCode::NOT_FOUND, text).kind("no-repositories")
            }
            WorkspaceError::NoRig(_) => Self::new(StatusCode::NOT_FOUND, text).kind("no-such-rig"),
            WorkspaceError::WrongUrl(_) => Self::invalid_body(vec![Issue::new("gitUrl", text)]),
            WorkspaceError::Git(error) => error.into(),
        }
    }
}

impl From<GitError> for Refusal {
    fn from(error: GitError) -> Self {
        let mut refusal = Self::new(git_status(&error), error.to_string()).kind(error.code());
        match error {
            GitError::Invalid { what, why } => refusal.body.issues = vec![Issue::new(what, why)],
            GitError::Conflict { files } => refusal.body.files = files,
            GitError::Locked(_) => return refusal.retry_after(BOOT_RETRY_S),
            _ => {}
        }
        refusal
    }
}

fn git_status(error: &GitError) -> StatusCode {
    match error {
        GitError::Invalid { .. } => StatusCode::BAD_REQUEST,
        GitError::BranchMissing(_)
        | GitError::NotFound(_)
        | GitError::Unprepared(_)
        | GitError::NoCheckpoint(_) => StatusCode::NOT_FOUND,
        GitError::Occupied(_)
        | GitError::Rejected { .. }
        | GitError::Conflict { .. }
        | GitError::Uncommitted
        | GitError::Nested(_)
        | GitError::Unfinished(_)
        | GitError::WrongBranch(_) => StatusCode::CONFLICT,
        GitError::TooLarge { .. } | GitError::DoesNotFit { .. } | GitError::Full(_) => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        GitError::Unauthorized(_) | GitError::CloneFailed { .. } | GitError::GitFailed { .. } => {
            StatusCode::BAD_GATEWAY
        }
        GitError::Locked(_) => StatusCode::SERVICE_UNAVAILABLE,
        GitError::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
        GitError::NoSpace(_) => StatusCode::INSUFFICIENT_STORAGE,
        GitError::Sandbox(_) | GitError::Disk(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<ExecRefusal> for Refusal {
    fn from(error: ExecRefusal) -> Self {
        let text = error.to_string();
        let (status, kind) = match error {
            ExecRefusal::Agent(error) => return error.into(),
            ExecRefusal::Ended(_) => (StatusCode::CONFLICT, "agent-ended"),
            ExecRefusal::Tool(ExecError::Denied(_)) => (StatusCode::FORBIDDEN, "denied"),
            ExecRefusal::Tool(ExecError::NotFound(_)) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "not-found")
            }
            ExecRefusal::Tool(ExecError::Invalid(_)) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid")
            }
            ExecRefusal::Tool(ExecError::Unavailable(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, "tools-unavailable")
            }
        };
        Self::new(status, text).kind(kind)
    }
}

impl From<SettingsError> for Refusal {
    fn from(error: SettingsError) -> Self {
        let (status, kind) = match &error {
            SettingsError::NoSuchAgent(_) => (StatusCode::NOT_FOUND, "no-such-agent"),
            SettingsError::NotRunning { .. } => (StatusCode::CONFLICT, "not-running"),
        };
        Self::new(status, error.to_string()).kind(kind)
    }
}

/// An error text is never empty.
fn said_or(said: String, otherwise: impl FnOnce() -> String) -> String {
    if said.trim().is_empty() { otherwise() } else { said }
}

#[cfg(test)]
pub(crate) mod tests {
    use bulkhead_account::OverLimit;
    use bulkhead_types::{AgentId, AgentState};

    use super::*;

    pub(crate) const ALL: [(StartFailure, u16); 34] = [
        (StartFailure::SourceInvalid, 422),
        (StartFailure::ComponentTooComplex, 422),
        (StartFailure::CompileMemory, 422),
        (StartFailure::CompileTime, 422),
        (StartFailure::CompilerCrashed, 422),
        (StartFailure::CompilerKilled, 503),
        (StartFailure::NoProcess, 503),
        (StartFailure::UnknownRole, 400),
        (StartFailure::UnknownComponent, 400),
        (StartFailure::InvalidRequest, 400),
        (StartFailure::Capacity, 503),
        (StartFailure::Memory, 503),
        (StartFailure::Draining, 503),
        (StartFailure::Quarantined, 409),
        (StartFailure::Superseded, 409),
        (StartFailure::Deadline, 504),
        (StartFailure::StillCompiling, 504),
        (StartFailure::CompileDeadline, 504),
        (StartFailure::ComponentUnreadable, 422),
        (StartFailure::ComponentTooLarge, 422),
        (StartFailure::ComponentUnsupported, 422),
        (StartFailure::ComponentDoesNotFit, 422),
        (StartFailure::ComponentInvalid, 422),
        (StartFailure::WrongWorld, 422),
        (StartFailure::MemoryMinimum, 422),
        (StartFailure::PromptTooLarge, 422),
        (StartFailure::CloneFailed, 502),
        (StartFailure::RepositoryTooLarge, 422),
        (StartFailure::Workspace, 409),
        (StartFailure::Instantiate, 500),
        (StartFailure::NotShipped, 503),
        (StartFailure::GuestError, 502),
        (StartFailure::GuestCrashed, 502),
        (StartFailure::Host, 500),
    ];

    #[test]
    fn every_start_failure_says_what_it_is_and_what_to_do() {
        for (kind, status) in ALL {
            let error = StartError::new(StartPhase::GuestStart, kind, "");
            let refusal = Refusal::from(error);
            let body = &refusal.body;
            assert_eq!((refusal.status.as_u16(), body.status), (status, Some(status)), "{kind:?}");
            assert_eq!(body.error_type.as_deref(), Some(kind.as_str()));
            assert_eq!(body.phase.as_deref(), Some("guest_start"));
            assert!(!body.error.is_empty() && body.action.is_some(), "{kind:?}");
            let goes_on = matches!(kind, StartFailure::StillCompiling | StartFailure::NotShipped);
            assert_eq!(refusal.retry_after_s.is_some(), status == 503 || goes_on, "{kind:?}");
            assert_eq!(refusal.reason().0.is_some(), goes_on, "{kind:?}: one line has it");
        }
    }

    #[test]
    fn an_unknown_role_or_component_is_an_issue_of_its_field() {
        for (kind, path) in
            [(StartFailure::UnknownRole, "role"), (StartFailure::UnknownComponent, "component")]
        {
            let refusal = Refusal::from(StartError::new(StartPhase::Admission, kind, "no x"));
            assert_eq!(refusal.body.issues, [Issue::new(path, "no x")]);
        }
    }

    #[test]
    fn a_message_that_is_not_taken_says_why() {
        let id = AgentId::parse("a").unwrap();
        let full = SendError::MailboxFull { id: id.clone(), messages: 1, bytes: 2 };
        let large = SendError::TooLarge { id: id.clone(), bytes: 2, max_bytes: 1 };
        let over = OverLimit { requested_bytes: 2, used_bytes: 9, host_bytes: 3, limit_bytes: 10 };
        let poor = SendError::NoMemory { id: id.clone(), over };
        let asleep = SendError::NotRunning { id: id.clone(), state: AgentState::Exited };
        for (error, status, retry) in [
            (SendError::NoSuchAgent(id.clone()), 404, None),
            (SendError::NotBackYet(id), 503, Some(1)),
            (asleep, 409, None),
            (large, 413, None),
            (full, 429, Some(1)),
            (poor, 429, Some(1)),
        ] {
            let refusal = Refusal::from(error);
            assert_eq!((refusal.status.as_u16(), refusal.retry_after_s), (status, retry));
        }
    }

    #[test]
    fn the_log_names_fields_and_quotes_no_value() {
        let issue = Issue::new("envVars", "invalid type: string \"hunter2\", expected a map");
        let reason = Refusal::invalid_body(vec![issue]).reason().0.unwrap();
        assert_eq!(reason, "invalid request body (envVars)");
    }
}
