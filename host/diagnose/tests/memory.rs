//! The bound on memory. A test binary of its own: what is measured is the process.

use std::io::{self, Read};

use bulkhead_diagnose::{Input, Options, Report, diagnose};

fn read(reader: impl Read + Send + 'static) -> Result<Report, String> {
    let inputs = vec![Input::new("endless", reader)];
    diagnose(inputs, &Options::default(), |_| {}).map_err(|error| error.to_string())
}

/// The most memory that this process held since it was last asked, in bytes.
fn peak_since(work: impl FnOnce()) -> u64 {
    let read = |name: &str| {
        let status = std::fs::read_to_string("/proc/self/status").expect("read the status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the line");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    };
    let before = read("VmRSS:");
    std::fs::write("/proc/self/clear_refs", "5").expect("reset the peak");
    work();
    read("VmHWM:").saturating_sub(before)
}

/// Lines without end, as a reader; `make` writes the next ones.
struct Endless<F> {
    make: F,
    buffer: Vec<u8>,
    left: u64,
}

impl<F: FnMut(&mut Vec<u8>)> Read for Endless<F> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        if self.buffer.is_empty() {
            (self.make)(&mut self.buffer);
        }
        let count = out.len().min(self.buffer.len()).min(self.left as usize);
        out[..count].copy_from_slice(&self.buffer[..count]);
        self.buffer.drain(..count);
        self.left -= count as u64;
        Ok(count)
    }
}

/// Everything that could grow does: towns, runs, agents, texts, times, all different, out of order.
#[test]
fn memory_has_a_bound_whatever_comes() {
    const BOUND: u64 = 100 << 20;
    let mut random = fastrand::Rng::with_seed(1);
    let different = move |out: &mut Vec<u8>| {
        for _ in 0..100 {
            let (a, b, c) = (random.u32(..), random.u32(..), random.u8(..60));
            let event = ["agent.crash", "container.cold_start", "container.unhandled_rejection"];
            let event = event[a as usize % 3];
            let (month, day, hour) = (random.u8(1..13), random.u8(1..29), random.u8(..24));
            let line = format!(
                "{{\"ts\":\"2026-{month:02}-{day:02}T{hour:02}:{c:02}:{c:02}.000Z\",\"level\":\"error\",\"event\":\"{event}\",\"agentId\":\"agent-{b}\",\"message\":\"this is the message number {a}, which is long enough to fill what is kept of it, and then some more\",\"schema\":1,\"townId\":\"town-{}\",\"runId\":\"run-{a}\",\"uptimeMs\":{b},\"seq\":{a}}}\n",
                a % 100_000
            );
            out.extend_from_slice(line.as_bytes());
        }
    };
    let peak = peak_since(|| {
        let endless = Endless { make: different, buffer: Vec::new(), left: 150 << 20 };
        let report = read(endless).expect("a report");
        assert!(report.summary.notes.iter().any(|note| note.contains("more than can be kept")));
        assert!(report.json().len() > 1000 && report.text(100).len() < 1 << 20);
    });
    println!("different lines: {} MiB", peak >> 20);
    assert!(peak < BOUND, "{} MiB", peak >> 20);
    let peak = peak_since(|| {
        let mut first = true;
        let one_line = move |out: &mut Vec<u8>| {
            let line = if first {
                "{\"level\":\"info\",\"msg\":\"container.cold_start\",\"ts\":\"2026-01-15T09:30:00.000Z\"}\n"
            } else {
                ""
            };
            first = false;
            out.extend_from_slice(line.as_bytes());
            out.resize(1 << 20, b'x');
        };
        let endless = Endless { make: one_line, buffer: Vec::new(), left: 1 << 30 };
        let report = read(endless).expect("a report");
        assert_eq!(report.summary.input.lines, 2);
    });
    println!("one line: {} MiB", peak >> 20);
    assert!(peak < BOUND, "{} MiB", peak >> 20);
}
