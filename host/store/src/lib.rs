//! Durable state: what is still there after the process is gone.
