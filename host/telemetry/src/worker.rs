//! The thread that sends what waits.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::trace::SpanExporter;
use tokio::time::timeout;

use crate::queue::Queue;
use crate::settings::Error;

/// Nicer than agents are at most.
const NICE: i32 = 10;

/// Sends what waits in the queue, until that ends. What it returns says when all is done.
pub(crate) fn start<E, F>(
    queue: Arc<Queue>,
    within: Duration,
    resource: Resource,
    exporter: F,
) -> Result<Receiver<()>, Error>
where
    E: SpanExporter + 'static,
    F: FnOnce() -> Result<E, Error>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Error::Thread)?;
    let mut exporter = {
        // Its connection gets a task of its own.
        let _inside = runtime.enter();
        exporter()?
    };
    exporter.set_resource(&resource);
    let (done, is_done) = sync_channel(1);
    let thread = std::thread::Builder::new().name("bulkhead-telemetry".into());
    let work = move || {
        // Linux keeps niceness by thread. A refusal (seccomp) costs fairness, not correctness.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
        runtime.block_on(send(&queue, within, &exporter));
        queue.give_up();
        // Nobody may wait.
        let _ = done.try_send(());
        // A look-up of a name may hang for longer.
        runtime.shutdown_background();
    };
    thread.spawn(work).map_err(Error::Thread)?;
    Ok(is_done)
}

async fn send<E: SpanExporter>(queue: &Queue, within: Duration, exporter: &E) {
    let mut fails = false;
    while let Some(batch) = queue.next().await {
        let spans = batch.len();
        let exported = tokio::select! {
            biased;
            exported = timeout(within, exporter.export(batch)) => exported,
            () = queue.is_over() => {
                queue.count(spans, false);
                return;
            }
        };
        let error = match exported {
            Ok(Ok(())) => None,
            Ok(Err(OTelSdkError::InternalFailure(text))) => Some(text),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {} ms", within.as_millis())),
        };
        queue.count(spans, error.is_none());
        match error {
            Some(error) if !fails => {
                tracing::warn!(
                    spans,
                    error,
                    "spans are not exported; what fails from now on is counted"
                );
                fails = true;
            }
            None if fails => {
                let lost = queue.figures().failed;
                tracing::info!(lost, "spans are exported again");
                fails = false;
            }
            Some(_) | None => {}
        }
    }
}
