//! Agents for tests, which misbehave on demand: see `examples/`. The library itself is empty; Cargo wants one.
