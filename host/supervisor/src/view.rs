//! How agents show to those that ask.

use std::time::Duration;

use bulkhead_agent::{Agent, AgentHandle};
use bulkhead_api::{AgentUsageView, AgentView, ExitView, MemoryView, RestartView};
use bulkhead_types::{AgentState, RestartState};

use crate::Supervisor;

impl Supervisor {
    /// The answer of `GET /agents/{id}/status`. `None`: nothing of the agent was ever there.
    pub(crate) fn view(&self, agent: &Agent) -> Option<AgentView> {
        Some(self.view_of(&agent.current()?, agent.restarts()))
    }

    /// The same of one incarnation. `restarts` is what the agent's slot keeps of them.
    pub(crate) fn view_of(&self, agent: &AgentHandle, restarts: RestartState) -> AgentView {
        let total = self.0.container.ledger().of_agent(&agent.spec().id);
        let usage = AgentUsageView { incarnation: agent.model_counts(), total };
        view(agent, restarts, usage, self.0.container.context.uptime())
    }
}

fn view(
    agent: &AgentHandle,
    restarts: RestartState,
    models: AgentUsageView,
    uptime: Duration,
) -> AgentView {
    let (spec, publisher, mailbox) = (agent.spec(), agent.publisher(), agent.mailbox());
    let (published, usage) = (publisher.published(), agent.usage());
    let exit = published.exit.map(ExitView::from);
    AgentView {
        agent_id: spec.id.clone(),
        name: spec.name.clone(),
        role: spec.role.clone(),
        component: spec.component.clone(),
        town_id: spec.town_id.clone(),
        rig_id: spec.rig_id.clone(),
        model: agent.model(),
        status: published.state.as_str().into(),
        busy: published.state == AgentState::Running { busy: true },
        incarnation: agent.tag().incarnation,
        started_at: publisher.started_at(),
        last_activity_at: publisher.last_activity_at(),
        active_tools: publisher.active_tools(),
        running_tools: publisher.running_tools(),
        message_count: publisher.messages(),
        mailbox_depth: mailbox.depth(),
        nudges: mailbox.nudges(),
        cpu_us: usage.cpu_us,
        cpu_throttled_us: usage.cpu_throttled_us,
        memory: MemoryView {
            used_bytes: usage.memory_bytes,
            guest_bytes: usage.guest_bytes,
            host_bytes: usage.host.total(),
            host: usage.host,
            tool_bytes: publisher.tool_bytes(),
            peak_bytes: usage.memory_peak_bytes,
            soft_bytes: usage.memory_soft_bytes,
            limit_bytes: usage.memory_limit_bytes,
            denied_growths: usage.denied_growths,
            refused: usage.refused,
        },
        usage: models,
        restart: RestartView::new(
            &spec.restart,
            restarts,
            published.restart_at,
            bulkhead_log::now(),
            Some(uptime),
        ),
        exit_reason: exit.as_ref().map(|exit| exit.reason.clone()),
        exit,
        set_aside: agent.message_set_aside().map(Into::into),
    }
}
