//! Measures: writes lines of both containers to a file and reads them.
//!
//! `cargo run --release -p bulkhead-diagnose --example throughput -- [MEGABYTES]`; 1000 by default. Prints the time,
//! the rate, and the most memory that the process ever held.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::Instant;

use bulkhead_diagnose::{Input, Options, diagnose};
use fastrand::Rng;

/// A run ends after so many lines.
const RUN_LINES: u64 = 40_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let megabytes: u64 = std::env::args().nth(1).map_or(Ok(1000), |text| text.parse())?;
    let file = tempfile::NamedTempFile::new()?;
    let bytes = write(file.as_file(), megabytes * 1_000_000)?;
    println!("{:.0} MB written", bytes as f64 / 1e6);
    let began = Instant::now();
    let report = diagnose(
        vec![Input::new("throughput", File::open(file.path())?)],
        &Options::default(),
        |_| {},
    )?;
    let took = began.elapsed();
    println!(
        "{} lines, {} restarts in {took:.2?}: {:.0} MB/s; at most {} resident",
        report.summary.input.lines,
        report.summary.restarts,
        bytes as f64 / 1e6 / took.as_secs_f64(),
        peak()
    );
    Ok(())
}

fn write(file: &File, limit: u64) -> std::io::Result<u64> {
    let (mut out, mut random) = (BufWriter::with_capacity(1 << 20, file), Rng::with_seed(7));
    let (mut bytes, mut number) = (0, 0);
    while bytes < limit {
        let line = line(number, &mut random);
        out.write_all(line.as_bytes())?;
        bytes += line.len() as u64;
        number += 1;
    }
    out.flush()?;
    Ok(bytes)
}

/// Of ten lines seven are ours, two the original container's, one is text. One in a hundred matters.
fn line(number: u64, random: &mut Rng) -> String {
    let (run, seq) = (number / RUN_LINES, number % RUN_LINES);
    let seconds = number / 400;
    let time = format!(
        "2026-01-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        1 + seconds / 86_400 % 28,
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60,
        number % 400 * 2
    );
    let agent = format!("agent-{}", random.u8(..40));
    let (id, uptime) = (run, seq * 1000 / 400);
    let head = |level: &str, event: &str| {
        format!(
            "{{\"ts\":\"{time}\",\"level\":\"{level}\",\"event\":\"{event}\",\"schema\":1,\"townId\":\"riverside\",\"runId\":\"019bc0f4-2a40-7c11-9d7e-{id:012}\",\"uptimeMs\":{uptime},\"seq\":{seq},"
        )
    };
    match (seq, random.u8(..100)) {
        (0, _) => head("info", "container.cold_start") + "\"version\":\"0.1.0\",\"pid\":7}\n",
        (_, 0) => {
            let rss = 200 + seq * 600 / RUN_LINES;
            head("info", "container.memory_usage")
                + &format!("\"rssMB\":{rss},\"limitMB\":1024}}\n")
        }
        (_, 1..40) => {
            head("info", "agent.log")
                + &format!(
                    "\"agentId\":\"{agent}\",\"role\":\"polecat\",\"incarnation\":3,\"stream\":\"log\",\"message\":\"looked at rig docs, {} files, nothing to do\"}}\n",
                    random.u16(..)
                )
        }
        (_, 40..70) => {
            head("debug", "agent.turn")
                + &format!(
                    "\"agentId\":\"{agent}\",\"role\":\"polecat\",\"incarnation\":3,\"messageId\":\"019bc0f4-5c02-7e90-b1a4-{:012}\",\"outcome\":\"idle\",\"cpuUs\":{},\"wallUs\":{}}}\n",
                    number,
                    random.u16(..),
                    random.u16(..)
                )
        }
        (_, 70..90) => format!(
            "{{\"level\":\"info\",\"msg\":\"agent.startup_phase\",\"agentId\":\"{agent}\",\"phase\":\"sdk_ready\",\"elapsedMs\":{},\"phaseMs\":12,\"prewarmed\":false,\"ts\":\"{time}\"}}\n",
            random.u16(..)
        ),
        _ => format!(
            "[process-manager] Event #{} for agent {agent}: type=message.part.updated\n",
            random.u16(..)
        ),
    }
}

fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned())
}
