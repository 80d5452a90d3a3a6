//! What the memory account costs a guest that allocates: the runtime alone, in this process, with its limiter
//! and without one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_log::SharedSink;
use bulkhead_runtime::{CallEnd, InstanceContext, Loaded, Runtime, RuntimeConfig};
use bulkhead_types::{Message, Sender};
use engine_fixture::{Nobody, limits, started};
use harness::files;

use crate::report::{Report, Row};
use crate::samples::Samples;

/// What the guest piles up in one turn, in pieces of a few KiB.
const PILE: &str = "pile 49152";

/// It may be this many times slower than without a limiter.
const ALLOWED: f64 = 1.03;

/// Turn and turn about, so that both meet the same machine.
pub fn measure(rounds: usize, report: &mut Report) {
    let (runtime, tokio) = engine();
    let loaded = runtime.load_blocking(&"hog".into(), &files::component("hog"));
    let loaded = loaded.expect("load the component");
    let (mut limited, mut free) = (Samples::new(), Samples::new());
    for round in 0..rounds + rounds / 10 {
        let one = tokio.block_on(turn(&runtime, &loaded, instance_context()));
        let other = tokio.block_on(turn(&runtime, &loaded, instance_context().unlimited()));
        if round >= rounds / 10 {
            limited.add(one);
            free.add(other);
        }
    }
    runtime.shut_down();
    let rate = |samples: &Samples| 1.0 / samples.percentile(50).as_secs_f64();
    let name = "turns that allocate 48 MiB, against no limiter";
    report.add(Row::rate(name, limited.len(), rate(&limited), rate(&free), 1.0 / ALLOWED));
}

/// An engine, and what drives it.
pub fn engine() -> (Runtime, tokio::runtime::Runtime) {
    let config = RuntimeConfig { max_agents: 2, lane_threads: 1, ..RuntimeConfig::default() };
    let runtime =
        Runtime::new(&config, Arc::new(Nobody::default()) as SharedSink).expect("a runtime");
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build();
    (runtime, tokio.expect("start tokio"))
}

/// One turn in an incarnation of its own.
async fn turn(
    runtime: &Runtime,
    loaded: &Arc<Loaded>,
    instance_context: InstanceContext,
) -> Duration {
    let incarnation = started(runtime, loaded, instance_context).await;
    let message = Message::new("m", Sender::Operator, PILE);
    let began = Instant::now();
    let CallEnd::Returned(incarnation, Ok(_)) = incarnation.handle(&message, limits()).await else {
        panic!("the guest did not survive {PILE}")
    };
    let took = began.elapsed();
    drop(incarnation);
    took
}

/// What an agent starts with.
pub fn instance_context() -> InstanceContext {
    engine_fixture::instance_context(engine_fixture::spec("hog"))
}
