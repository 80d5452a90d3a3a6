//! Agents whose code a bundler made.

use bulkhead_types::exception::{Exception, SourceFrame};

use super::*;
use crate::actor::slot_guard::After;
use crate::engine::Engine as _;

/// An agent with an instance of a bundle, and what reports its end.
async fn of_a_bundle(bench: &Bench) -> (SlotGuard, Reporter) {
    let (agent, guard) = bench.holding().await;
    let code = std::path::PathBuf::from("c.wasm").into();
    let component = Arc::clone(&bench.engine).load("c".into(), code).await.unwrap();
    let mut reporter = Reporter::new(Arc::clone(&agent.state));
    reporter.is_made_from(&component);
    (guard, reporter)
}

fn thrown_in(file: &str) -> Vec<Exception> {
    let frame = SourceFrame { file: file.to_owned(), line: 1, column: Some(7), function: None };
    vec![Exception { kind: "TypeError".into(), message: "no".into(), frames: vec![frame] }]
}

#[test]
fn the_slot_waits_for_no_source_map_and_callers_read_the_mapped_record() {
    on_a_bench(async |bench| {
        let (mapped, mapping) = tokio::sync::oneshot::channel();
        bench.engine.maps(async { mapping.await.ok() });
        let (mut guard, reporter) = of_a_bundle(bench).await;
        let exit = Exit::thrown(thrown_in("agent.js"), Phase::Handle);
        let context = EndContext {
            crash_id: Some("crash".into()),
            may_restart: true,
            ..EndContext::default()
        };
        guard.report_end(&reporter, &exit, context);
        let After { backoff, logged, .. } = guard.release(None);

        assert!(backoff.is_some(), "it is restarted");
        assert_eq!(bench.container.context.active_agents(), 0);
        let lines = || bench.kept.count(|event| matches!(event, Event::AgentCrash(_)));
        let record = || bench.container.crashes.get("crash").expect("it can be read");
        assert_eq!((lines(), record().fingerprint.clone()), (0, exit.fingerprint()));
        let logged = logged.expect("callers are to wait");
        assert!(logged.clone().wait().now_or_never().is_none());

        mapped.send(thrown_in("agent.ts")).unwrap();
        logged.wait().await;
        let record = record();
        assert_eq!(lines(), 1);
        assert_eq!(record.exceptions, thrown_in("agent.ts"));
        assert_eq!(record.location.as_ref().unwrap().file, "agent.ts");
        let mapped = Exit::thrown(thrown_in("agent.ts"), Phase::Handle).fingerprint();
        assert_eq!(record.fingerprint, mapped);
        bench.container.crash_follow_ups_are_done().await;
    });
}

#[test]
fn a_source_map_that_takes_too_long_leaves_the_record_as_it_is() {
    on_a_bench(async |bench| {
        tokio::time::pause();
        bench.engine.maps(std::future::pending());
        let (mut guard, reporter) = of_a_bundle(bench).await;
        let exit = Exit::thrown(thrown_in("agent.js"), Phase::Handle);
        let context = EndContext { crash_id: Some("crash".into()), ..EndContext::default() };
        guard.report_end(&reporter, &exit, context);
        let logged = guard.release(None).logged.expect("callers are to wait");
        let began = Instant::now();
        logged.wait().await;
        assert_eq!(began.elapsed().as_secs(), 2);
        assert_eq!(bench.kept.count(|event| matches!(event, Event::AgentCrash(_))), 1);
        let record = bench.container.crashes.get("crash").unwrap();
        assert_eq!(record.exceptions, thrown_in("agent.js"));
    });
}
