//! The real host as a process of its own, over HTTP: one module a subject, `components` for the guests.
//!
//! One program, so that it is linked once. It belongs to the package `bulkhead` (`host/daemon`): Cargo builds the
//! binary before the tests of its package, and no test runs against a host of yesterday.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is their failure")]

mod aot_seed;
mod api_document;
mod bad_input;
mod browser;
mod cancel;
mod capacity;
mod client_commands;
mod clients;
mod command_line;
mod compiler_process;
mod compiling;
mod components;
mod crash_looper;
mod crash_records;
mod credentials;
mod dev_command;
mod diagnose_command;
mod diagnose_corpus;
mod drain;
mod durable;
mod durable_kills;
mod evidence;
mod exit_matrix;
mod fetch;
mod full_disk;
mod host_deaths;
mod host_faults;
mod idle;
mod init_process;
mod kill_matrix;
mod kill_twice;
mod killed_run;
mod lease;
mod local_users;
mod machines;
mod mailbox;
mod memory;
mod memory_idle;
mod memory_return;
mod metrics;
mod model_endpoints;
mod old_kernel;
mod oom_kill;
mod outgoing;
mod previous_run;
mod properties;
mod redelivery;
mod registries;
mod repositories;
mod restart;
mod runners;
mod service_manager;
mod shedding;
mod ship;
mod signals;
mod snapshots;
mod start_slot;
mod streams;
mod telemetry;
mod test_command;
mod tool_kills;
mod toolchains;
mod town;
mod typescript;
mod volumes;
