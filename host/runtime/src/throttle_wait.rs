//! The wait of a call whose agent used its percent of a core.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep};

use crate::instance_context::InstanceContext;

/// A wait under way. Its time is counted when this is dropped.
pub(crate) struct ThrottleWait {
    context: Arc<InstanceContext>,
    began: Instant,
    timer: Pin<Box<Sleep>>,
}

impl ThrottleWait {
    /// Whether a call of `context` has to wait. `wait` is the one under way, if any.
    pub(crate) fn poll(
        wait: &mut Option<Self>,
        context: &Arc<InstanceContext>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        while let Some(throttled) = context.meter.throttled() {
            let begin = || Self {
                context: Arc::clone(context),
                began: Instant::now(),
                timer: Box::pin(sleep(throttled.wait)),
            };
            if throttled.begins {
                context.port.cpu_throttle_begins(context.meter.usage().cpu_us);
            }
            let timer = &mut wait.get_or_insert_with(begin).timer;
            timer.as_mut().reset(Instant::now() + throttled.wait);
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        *wait = None;
        Poll::Ready(())
    }
}

impl Drop for ThrottleWait {
    fn drop(&mut self) {
        let waited = self.began.elapsed();
        self.context.meter.was_throttled(waited);
        self.context.port.cpu_throttled(waited);
    }
}
