//! Exceptions of code that a bundler made, as its author knows them.
//!
//! A map comes with the agent and may be up to 8 MiB of JSON, so it is never read on a thread of the fast lane. One is
//! read at a time, for all agents that crash.

use std::sync::Arc;

use bulkhead_exception::map_to_sources;
use bulkhead_source::Source;
use bulkhead_types::Exception;
use tokio::sync::Semaphore;

/// Maps that are read at one time.
const READERS: usize = 1;

/// Who reads source maps.
pub(crate) struct SourceMaps {
    readers: Arc<Semaphore>,
}

impl Default for SourceMaps {
    fn default() -> Self {
        Self { readers: Arc::new(Semaphore::new(READERS)) }
    }
}

impl SourceMaps {
    /// [`mapped`], on a thread that may take its time. `None`: the thread is lost.
    pub(crate) async fn mapped(
        &self,
        source: Arc<Source>,
        exceptions: Vec<Exception>,
    ) -> Option<Vec<Exception>> {
        let reader = Arc::clone(&self.readers).acquire_owned().await;
        let work = move || {
            // Until it is read, also when nobody waits any more.
            let _reader = reader;
            mapped(&source, exceptions)
        };
        tokio::task::spawn_blocking(work).await.ok()
    }
}

/// Chains of causes with the places and names of the sources that their code was made from. Frames that no map knows stay.
pub(crate) fn mapped(source: &Source, mut exceptions: Vec<Exception>) -> Vec<Exception> {
    for (file, error) in map_to_sources(&mut exceptions, &|path| source.file(path)) {
        tracing::warn!(file, %error, "a source map is of no use: exceptions have the places of the bundle");
    }
    // Names of the map are the agent's as well.
    Exception::bounded(exceptions)
}
