//! Starting an agent with the code as it is now.

use bulkhead_api::{StartAnswer, StartRequest};
use serde_json::json;

use crate::failure::{Failure, Refusal};
use crate::session::{Call, LONG, Session};

/// Starts an agent with the code as it is now. `false`: it runs already with this code.
pub(crate) async fn start(request: &StartRequest, session: &Session) -> Result<bool, Failure> {
    let StartRequest {
        agent_id, role, name, prompt, system_prompt, model, town_id, rig_id, ..
    } = request;
    let body = json!({
        "agentId": agent_id, "role": role, "name": name, "prompt": prompt, "systemPrompt": system_prompt,
        "model": model, "townId": town_id, "rigId": rig_id,
        // An author repairs what was quarantined.
        "force": true,
    });
    let call = Call::post("/agents/start", format!("start of {agent_id}"), body.to_string().into());
    let answer = session.call(call.within(LONG)).await?;
    let started: StartAnswer = session.read(&answer)?;
    Ok(!started.joined)
}

/// Whether a message was refused because there is no incarnation to take it.
pub(crate) fn is_down(refusal: &Refusal) -> bool {
    refusal.body.error_type.as_deref() == Some("not-running")
}
