//! The names of the lines, and what they have beside.

use serde_json::value::RawValue;

use super::Event;
use crate::names::names;

names! {
    /// What the line's field `event` says.
    Event::name {
        ColdStart => "container.cold_start",
        PreviousRun => "container.previous_run",
        HydrationStarted => "container.boot_hydration_started",
        HydrationFinished => "container.boot_hydration_finished",
        HydrationFailed => "container.boot_hydration_failed",
        StoreSetAside => "container.store_set_aside",
        StoreUnavailable => "container.store_unavailable",
        StoreOff => "container.store_off",
        StoreAvailable => "container.store_available",
        CapacityLimited => "container.capacity_limited",
        ComponentLoaded => "container.component_loaded",
        CacheEntryRejected => "container.cache_entry_rejected",
        UnhandledRejection => "container.unhandled_rejection",
        UncaughtException => "container.uncaught_exception",
        StopIntent => "container.stop_intent",
        Draining => "container.draining",
        Drained => "container.drained",
        Stopped => "container.stopped",
        MemoryUsage => "container.memory_usage",
        MemoryPressure => "container.memory_pressure",
        MemoryUsageFailed => "container.memory_usage_failed",
        RequestRefused => "container.request_refused",
        EvidenceFound => "container.evidence_found",
        EvidenceFailed => "container.evidence_failed",
        EvidenceAvailable => "container.evidence_available",
        EvidenceLate => "container.evidence_late",
        ShipRestored => "container.ship_restored",
        ShipFailed => "container.ship_failed",
        ShipAvailable => "container.ship_available",
        TownConfigIgnored => "town.config_ignored",
        TownCallFailed => "town.call_failed",
        TownUnreachable => "town.unreachable",
        TownReachable => "town.reachable",
        TownFenced => "town.fenced",
        TownTokenRefreshed => "town.token_refreshed",
        RefreshTokenReceived => "refresh_token.received",
        TownDropped => "town.dropped",
        TownCallGivenUp => "town.call_given_up",
        TownCallSwitchedOff => "town.call_switched_off",
        HostLog => "container.log",
        LinePart => "container.line_part",
        WorkspaceRemoved => "container.workspace_removed",
        RoleUpgrade => "container.role_upgrade",
        WorkspacesFull => "container.workspaces_full",
        AgentStart => "agent.start",
        AgentStartJoined => "agent.start_joined",
        AgentStartSuperseded => "agent.start_superseded",
        AgentStartFailed => "agent.start_failed",
        AgentExit => "agent.exit",
        AgentCrash => "agent.crash",
        CrashSymbolized => "agent.crash_symbolized",
        CoreDumpKept => "agent.core_dump",
        RestartScheduled => "agent.restart_scheduled",
        RestartCancelled => "agent.restart_cancelled",
        AgentQuarantined => "agent.quarantined",
        ModelBudget => "agent.model_budget",
        AgentStuck => "agent.stuck",
        SnapshotSetAside => "agent.snapshot_set_aside",
        SnapshotNotKept => "agent.snapshot_not_kept",
        MemorySoftLimit => "agent.memory_soft_limit",
        AgentCpuThrottled => "agent.cpu_throttled",
        SecretUsed => "agent.secret_used",
        WorkspacePrepared => "agent.workspace_prepared",
        WorkspaceArrived => "agent.workspace_arrived",
        WorkspaceShipped => "agent.workspace_shipped",
        WorkspaceNotShipped => "agent.workspace_not_shipped",
        WorkSaved => "agent.work_saved",
        WorkNotSaved => "agent.work_not_saved",
        AgentUnhandledRejection => "agent.unhandled_rejection",
        ToolStarted => "agent.tool_started",
        ToolExited => "agent.tool_exited",
        AgentLog => "agent.log",
        AgentMessage => "agent.message",
        MessageSetAside => "agent.message_set_aside",
        AgentTurn => "agent.turn",
    }
}

impl Event {
    /// What it has beside its name, for those who follow events.
    pub fn fields(&self) -> Box<RawValue> {
        let fields = serde_json::to_value(self).map(|mut fields| {
            if let Some(fields) = fields.as_object_mut() {
                fields.remove("event");
            }
            fields
        });
        let fields = fields.and_then(|fields| serde_json::value::to_raw_value(&fields));
        fields.unwrap_or_else(|_| RawValue::NULL.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_stands_for_two_events() {
        let mut names = Event::NAMES.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Event::NAMES.len());
    }
}
