//! A thread that tells the black box how memory is.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::kernel::Kernel;
use crate::recorder::Recorder;

/// Between two samples: seven small files of the kernel, a tenth of a millisecond. The black box keeps a
/// quarter of an hour of them.
const INTERVAL: Duration = Duration::from_secs(2);

/// Takes samples until it is stopped.
pub struct Vitals {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
}

impl Vitals {
    /// The first sample is taken at once.
    pub fn watch(kernel: Kernel, recorder: Arc<Recorder>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread =
            std::thread::Builder::new().name("bulkhead-vitals".into()).spawn(move || {
                while !asked.load(Acquire) {
                    recorder.sample(&kernel);
                    std::thread::park_timeout(INTERVAL);
                }
            })?;
        Ok(Self { thread, stop })
    }

    /// No sample is taken after this.
    pub fn stop(self) {
        self.stop.store(true, Release);
        self.thread.thread().unpark();
        let _ = self.thread.join();
    }
}
