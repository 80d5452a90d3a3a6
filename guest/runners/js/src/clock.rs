//! The clocks. QuickJS asks when it makes a context, and the SDK in the rehearsal. Both happen while the component is built,
//! and there is no host.

use std::cell::Cell;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

thread_local! {
    static STOPPED: Cell<bool> = const { Cell::new(false) };
    static BEGIN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Runs something while the clock stands at 0.
pub fn stopped<R>(run: impl FnOnce() -> R) -> R {
    STOPPED.set(true);
    let result = run();
    STOPPED.set(false);
    result
}

/// Milliseconds since it was asked first.
pub fn monotonic_ms() -> f64 {
    if STOPPED.get() {
        return 0.0;
    }
    let now = Instant::now();
    let begin = BEGIN.get().unwrap_or(now);
    BEGIN.set(Some(begin));
    now.duration_since(begin).as_secs_f64() * 1000.0
}

/// Microseconds since 1970. `c/wasi.h` puts it in the place of `gettimeofday`.
#[expect(unsafe_code, reason = "a name for C")]
// SAFETY: the name is nobody else's.
#[unsafe(no_mangle)]
extern "C" fn bulkhead_clock_us() -> i64 {
    if STOPPED.get() {
        return 0;
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
