//! How far a start is, and what a caller is answered that waits no longer.
//!
//! Compiling is not starting: it has a bound of its own ([`bulkhead_runtime::RuntimeConfig::compile`]), and the
//! deadline of a start counts on when its component is there. A caller has one deadline all the same. When that
//! passes first, it is answered how far the start is, and the start goes on; a later equal start joins it.

use std::time::{Duration, Instant};

use bulkhead_types::StartPhase;
use tokio::time::{timeout, timeout_at};

use crate::handle::AgentHandle;
use crate::refusal::{StartError, StartFailure};

/// A start whose own deadline is as near has more to say about what went wrong than that it goes on.
const NEAR: Duration = Duration::from_millis(100);

/// How long a caller waits for that. A host call may keep the agent's thread.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl AgentHandle {
    /// Waits until `deadline` for what [`AgentHandle::outcome`] yields. A start that is not through by then goes on,
    /// and the error says so.
    pub async fn outcome_by(&self, deadline: Instant) -> Result<Option<Self>, StartError> {
        if let Ok(answer) = timeout_at(deadline.into(), self.outcome()).await {
            return answer;
        }
        let own = self.state.progress().deadline;
        let is_near = own.is_some_and(|own| own <= Instant::now() + NEAR);
        if (is_near || !self.state.lets_go())
            && let Ok(answer) = timeout(LAST_WORDS, self.outcome()).await
        {
            return answer;
        }
        Err(self.goes_on())
    }

    /// The answer to a caller that waits no longer.
    fn goes_on(&self) -> StartError {
        let spec = self.spec();
        let loading = self.state.progress().loading.clone();
        let Some((since, path)) = loading else {
            let text = format!("agent {} is still starting; the start goes on", spec.id);
            return StartError::new(StartPhase::Deadline, StartFailure::Deadline, text);
        };
        let compiling = self.state.start.container.engine.compiling_since(&path);
        let how =
            if compiling.is_some() { "still compiling" } else { "still waiting to be loaded" };
        let so_far = seconds(compiling.unwrap_or(since).elapsed());
        let text = format!(
            "component {} is {how}, {so_far} s so far; `bulkhead compile` does it ahead; the start goes on",
            spec.component
        );
        StartError::new(StartPhase::Compile, StartFailure::StillCompiling, text)
    }
}

/// Whole seconds, and tenths below ten.
fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 10.0 { format!("{seconds:.1}") } else { format!("{seconds:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_tenths_as_long_as_these_say_something() {
        assert_eq!(seconds(Duration::from_millis(740)), "0.7");
        assert_eq!(seconds(Duration::from_millis(31_400)), "31");
    }
}
