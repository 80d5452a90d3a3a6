//! Starting agents again.

use bulkhead_api::{AgentList, AgentView, StartRequest};

use crate::author::project::Project;
use crate::failure::Failure;
use crate::session::{Call, Session};

/// How the agents of a role are started: those of the configuration, and those that run beside them.
pub(super) async fn of_role(
    role: &str,
    project: &Project,
    talked_to: Option<&StartRequest>,
    session: &Session,
) -> Result<Vec<StartRequest>, Failure> {
    let configured = project.agents.iter().chain(talked_to).filter(|agent| agent.role == role);
    let mut agents: Vec<StartRequest> = Vec::new();
    let answer = session.call(Call::get("/agents", "agents")).await?;
    let page: AgentList = session.read(&answer)?;
    let others = page.iter().filter(|agent| *agent.role == *role && is_up(agent));
    for agent in configured.cloned().chain(others.map(request)) {
        if agents.iter().all(|other| other.agent_id != agent.agent_id) {
            agents.push(agent);
        }
    }
    Ok(agents)
}

fn is_up(agent: &AgentView) -> bool {
    matches!(&*agent.status, "running" | "starting" | "backoff" | "quarantined")
}

/// What the host says of how it was started: its prompt and its variables are not among that.
fn request(agent: &AgentView) -> StartRequest {
    let mut request = StartRequest::new(agent.agent_id.clone(), agent.role.to_string());
    request.name.clone_from(&agent.name);
    request.model.clone_from(&agent.model);
    request.town_id.clone_from(&agent.town_id);
    request.rig_id.clone_from(&agent.rig_id);
    request
}
