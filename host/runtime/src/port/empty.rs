//! What a port does that has nothing for its agent and keeps nothing of it.

/// The methods of such a [`Port`](crate::Port), but for lines and settings. A macro, because tests of this crate and tests
/// outside implement the trait of two crates: it with its unit tests, and it without.
#[doc(hidden)]
#[macro_export]
macro_rules! empty_port {
    () => {
        fn emit(
            &self,
            _: &str,
            _: Box<serde_json::value::RawValue>,
        ) -> Result<(), $crate::PortError> {
            Ok(())
        }
        fn send(
            &self,
            agent_id: &str,
            _: bulkhead_types::Body,
        ) -> Result<String, $crate::PortError> {
            Err($crate::PortError::NotFound(agent_id.to_owned()))
        }
        fn set_active_tools(&self, _: Vec<String>) {}
        fn nudges(&self) -> Vec<$crate::Nudge> {
            Vec::new()
        }
        fn unhandled_rejection(&self, _: Vec<bulkhead_types::Exception>, _: u64) {}
        fn memory_soft_limit(&self, _: &bulkhead_account::AccountReading) {}
        fn cpu_throttle_begins(&self, _: u64) {}
        fn cpu_throttled(&self, _: std::time::Duration) {}
        fn asked(&self, _: bulkhead_types::ModelCall) {}
        fn secret_used(&self, _: &str, _: &str) {}
        fn may_ask(&self, _: &str, _: &str) -> Result<(), bulkhead_usage::Exhausted> {
            Ok(())
        }
        fn saw(&self, _: $crate::ModelStep<'_>) {}
        fn tool_started(
            &self,
            _: bulkhead_types::RunningTool,
            _: std::sync::Arc<dyn $crate::ToolProcess>,
        ) {
        }
        fn tool_ended(&self, _: bulkhead_types::EndedTool) {}
        fn tools_abandoned(&self) {}
    };
}
