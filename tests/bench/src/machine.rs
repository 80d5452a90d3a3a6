//! Where the figures were taken.

use std::fs;

pub fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let model =
        model.and_then(|line| line.split_once(": ")).map_or("unknown CPU", |(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let version = env!("CARGO_PKG_VERSION");
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    format!("{model}, {cores} cores, Linux {}, bulkhead {version} ({profile})", kernel.trim())
}

/// The time and how busy the machine is: what other programs do at once is noise in every figure.
pub fn now(what: &str) -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<_> = load.split(' ').take(3).collect();
    let time = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC");
    format!("{what} {time}, load average {}", load.join(" "))
}
