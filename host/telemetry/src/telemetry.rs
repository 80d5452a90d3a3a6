//! What makes spans, and what sends them.

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanExporter};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::exporter::Exporter;
use crate::queue::{Figures, Processor, Queue};
use crate::settings::{Error, Settings};
use crate::span::{Recorder, Turn, TurnSpan};
use crate::worker;

/// How long the end of the host waits for spans to be sent.
const FLUSH: Duration = Duration::from_secs(2);

/// Telemetry that is on. Cheap to clone.
#[derive(Clone)]
pub struct Telemetry(Arc<Inner>);

struct Inner {
    recorder: Arc<Recorder>,
    queue: Arc<Queue>,
    /// Until somebody waits for it.
    done: Mutex<Option<Receiver<()>>>,
    /// Makes spans as long as it lives.
    _provider: SdkTracerProvider,
}

impl Telemetry {
    /// Telemetry as the environment has it; nothing unless that names a collector. `run_id` names the process.
    pub fn from_env(
        variable: impl Fn(&str) -> Option<OsString>,
        run_id: &str,
    ) -> Result<Option<Self>, Error> {
        let settings = Settings::from_env(variable)?;
        settings.map(|settings| Self::start(&settings, run_id)).transpose()
    }

    /// Starts the thread that sends spans. No collector has to be there. `run_id` names the process.
    pub fn start(settings: &Settings, run_id: &str) -> Result<Self, Error> {
        Self::with(settings, run_id, || Exporter::new(settings))
    }

    pub(crate) fn with<E: SpanExporter + 'static>(
        settings: &Settings,
        run_id: &str,
        exporter: impl FnOnce() -> Result<E, Error>,
    ) -> Result<Self, Error> {
        let attributes = settings.resource.iter();
        let attributes = attributes.map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
        let resource = Resource::builder_empty()
            .with_detector(Box::new(TelemetryResourceDetector))
            .with_attribute(KeyValue::new("service.instance.id", run_id.to_owned()))
            .with_attributes(attributes)
            .build();
        let queue = Arc::new(Queue::new(settings.batches));
        let within = settings.batches.timeout;
        let done = worker::start(Arc::clone(&queue), within, resource.clone(), exporter)?;
        let provider = SdkTracerProvider::builder()
            .with_span_processor(Processor(Arc::clone(&queue)))
            .with_sampler(settings.sampler.clone())
            .with_resource(resource)
            .build();
        let scope =
            InstrumentationScope::builder("bulkhead").with_version(env!("CARGO_PKG_VERSION"));
        let recorder = Recorder {
            tracer: provider.tracer_with_scope(scope.build()),
            conventions: settings.conventions,
            content: settings.content,
        };
        Ok(Self(Arc::new(Inner {
            recorder: Arc::new(recorder),
            queue,
            done: Mutex::new(Some(done)),
            _provider: provider,
        })))
    }

    /// An agent begins a turn.
    pub fn turn(&self, turn: Turn<'_>) -> TurnSpan {
        self.0.recorder.turn(turn)
    }

    /// What became of all spans so far.
    pub fn figures(&self) -> Figures {
        self.0.queue.figures()
    }

    /// Sends what waits, for two seconds at most, and blocks its caller until then. What is not through by then, and
    /// spans that end later, are dropped.
    pub fn end(&self) {
        self.end_within(FLUSH);
    }

    pub(crate) fn end_within(&self, time: Duration) {
        self.0.queue.end(Instant::now() + time);
        let done = self.0.done.lock().take();
        if let Some(done) = done {
            // A moment longer than it takes itself.
            let _ = done.recv_timeout(time + Duration::from_millis(100));
        }
    }
}
