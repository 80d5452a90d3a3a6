//! What the tools that read do.

use std::fmt::Write as _;
use std::sync::Arc;

use bulkhead_api::{AgentList, AgentView, CrashesPage, EventsPage};
use bulkhead_types::CrashRecord;
use bytes::Bytes;
use serde_json::{Value, json};

use super::arguments::{
    SomeAgents, SomeCrashes, SomeEvents, WhoseMemory, WhoseUsage, agent_id, crash_id_of, plain,
    within,
};
use super::{Server, away};
use crate::api::{Call, ask, ask_for, read};
use crate::autopsy;
use crate::result::Content;

impl Server {
    async fn get(&self, path: String) -> Result<Bytes, String> {
        ask(&*self.api, Call::get(path)).await
    }

    pub(super) async fn agents(&self, asked: SomeAgents) -> Result<Content, String> {
        let limit = within("limit", asked.limit, 100, 1000)?;
        let mut path = format!("/agents?limit={}", limit + 1);
        if let Some(after) = &asked.after {
            let _ = write!(path, "&after={}", agent_id(after)?);
        }
        let body = self.get(path).await?;
        away(move || {
            let mut agents: AgentList = read(&body)?;
            let more = agents.len() as u64 > limit;
            agents.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            let rows: Vec<_> = agents.iter().map(row).collect();
            Content::json(&json!({ "agents": rows, "more": more }))
        })
        .await
    }

    pub(super) async fn of_agent(&self, agent: &str, route: &str) -> Result<Content, String> {
        let id = agent_id(agent)?;
        Content::document(&self.get(format!("/agents/{id}/{route}")).await?)
    }

    pub(super) async fn autopsy(&self, agent: &str) -> Result<Content, String> {
        let id = agent_id(agent)?;
        let status = ask_for(&*self.api, Call::get(format!("/agents/{id}/status"))).await?;
        let agent: Option<AgentView> = status.map(|body| read(&body)).transpose()?;
        let crash_id = agent.as_ref().and_then(|agent| agent.exit.as_ref()?.crash_id.as_ref());
        let last = match crash_id {
            Some(crash_id) => {
                let call = Call::get(format!("/crashes/{}", crash_id_of(crash_id)?));
                ask_for(&*self.api, call).await?.map(|body| read::<CrashRecord>(&body))
            }
            None => {
                let body = self.get(format!("/agents/{id}/crashes?limit=1")).await?;
                let page: CrashesPage = read(&body)?;
                page.crashes.into_iter().next().map(|record| Ok(Arc::unwrap_or_clone(record)))
            }
        };
        let record = last.transpose()?;
        if agent.is_none() && record.is_none() {
            return Err(format!("no such agent: {id}, and no crash record of it"));
        }
        Ok(Content::with_quotes(autopsy::page(id.as_str(), agent.as_ref(), record.as_ref())))
    }

    pub(super) async fn crash(&self, crash_id: &str) -> Result<Content, String> {
        Content::document(&self.get(format!("/crashes/{}", crash_id_of(crash_id)?)).await?)
    }

    pub(super) async fn crashes(&self, asked: SomeCrashes) -> Result<Content, String> {
        let limit = within("limit", asked.limit, 20, 200)?;
        let mut path = format!("/crashes?limit={limit}");
        if let Some(agent) = &asked.agent {
            let _ = write!(path, "&agent={}", agent_id(agent)?);
        }
        if let Some(reason) = &asked.reason {
            let _ = write!(path, "&reason={}", plain("reason", reason)?);
        }
        if let Some(before) = &asked.before {
            let _ = write!(path, "&before={}", crash_id_of(before)?);
        }
        let body = self.get(path).await?;
        away(move || {
            let page: CrashesPage = read(&body)?;
            let crashes: Vec<_> = page.crashes.iter().map(|record| crash_row(record)).collect();
            Content::json(&json!({
                "crashes": crashes, "more": page.more, "cursorLost": page.cursor_lost
            }))
        })
        .await
    }

    pub(super) async fn memory_of(&self, asked: WhoseMemory) -> Result<Content, String> {
        let path = match &asked.agent {
            Some(agent) => format!("/agents/{}/memory", agent_id(agent)?),
            None => "/memory".to_owned(),
        };
        let body = self.get(path).await?;
        if asked.samples {
            return Content::document(&body);
        }
        let mut memory: Value = read(&body)?;
        if let Some(memory) = memory.as_object_mut() {
            memory.remove("series");
        }
        Content::json(&memory)
    }

    pub(super) async fn events_of(&self, asked: SomeEvents) -> Result<Content, String> {
        let id = agent_id(&asked.agent)?;
        let limit = within("limit", asked.limit, 50, 1000)?;
        let path = match asked.after {
            Some(after) => format!("/agents/{id}/events?after={after}&limit={limit}"),
            None => format!("/agents/{id}/events"),
        };
        let body = self.get(path).await?;
        away(move || {
            let mut page: EventsPage = read(&body)?;
            let skipped = page.events.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
            page.events.drain(..skipped);
            Content::json(&page)
        })
        .await
    }

    pub(super) async fn usage_of(&self, asked: WhoseUsage) -> Result<Content, String> {
        let mut filters = Vec::new();
        if let Some(agent) = &asked.agent {
            filters.push(format!("agent={}", agent_id(agent)?));
        }
        if let Some(role) = &asked.role {
            filters.push(format!("role={}", plain("role", role)?));
        }
        let path = if filters.is_empty() {
            "/usage".to_owned()
        } else {
            format!("/usage?{}", filters.join("&"))
        };
        Content::document(&self.get(path).await?)
    }
}

fn row(agent: &AgentView) -> Value {
    let mut row = json!({
        "agent": agent.agent_id, "name": agent.name, "role": agent.role, "status": agent.status, "busy": agent.busy,
        "incarnation": agent.incarnation, "startedAt": agent.started_at, "lastActivityAt": agent.last_activity_at,
        "mailbox": agent.mailbox_depth, "memoryUsedBytes": agent.memory.used_bytes,
        "memoryLimitBytes": agent.memory.limit_bytes,
    });
    if let Some(exit) = &agent.exit {
        row["lastExit"] = json!(exit);
    }
    if let Some(at) = agent.restart.next_restart_at {
        row["restartAt"] = json!(at);
    }
    if let Some(quarantine) = &agent.restart.quarantine {
        row["quarantine"] = json!(quarantine.message);
    }
    row
}

fn crash_row(record: &CrashRecord) -> Value {
    json!({
        "crashId": record.crash_id, "at": record.crashed_at, "agent": record.agent_id, "role": record.role,
        "incarnation": record.incarnation, "reason": record.reason, "message": record.message,
        "fingerprint": record.fingerprint, "consequence": record.consequence,
    })
}
