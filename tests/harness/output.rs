//! The log of a host: its stdout line by line, and what every line must hold.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde_json::Value;

use crate::contract;

/// Lines that a failure shows.
const SHOWN: usize = 30;

/// The longest line that a host writes, with its newline.
const LINE_BYTES: usize = 16 * 1024;

/// A piece of stdout, in its order.
#[derive(Debug, Clone)]
pub enum Drained {
    /// A line of the log.
    Line(Value),
    /// Something else, as text.
    Broken(String),
}

/// Until it is dropped, nobody reads the log.
pub struct Stalled(Arc<Shared>);

impl Drop for Stalled {
    fn drop(&mut self) {
        *self.0.stalled.lock() = false;
        self.0.resumed.notify_all();
    }
}

/// What a process wrote so far, collected by a thread.
pub struct Output {
    shared: Arc<Shared>,
    readers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Nobody reads stdout.
    stalled: Mutex<bool>,
    resumed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<Value>,
    /// Lines of stdout that are no JSON, each with the number of lines before it that are.
    broken: Vec<(usize, String)>,
    stderr: String,
    /// Bytes of the longest line, with its newline.
    longest: usize,
    /// Lines at the front that were drained, and are kept.
    drained: usize,
    /// Lines about agents that were only counted, by their event.
    counted: HashMap<Vec<u8>, u64>,
    ended: bool,
}

impl Output {
    /// Begins to read. `terse`: lines about agents are counted and not kept, for a host that writes more of
    /// them than a reader keeps up with.
    pub fn collect(
        stdout: impl Read + Send + 'static,
        stderr: impl Read + Send + 'static,
        terse: bool,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let (for_stdout, for_stderr) = (Arc::clone(&shared), Arc::clone(&shared));
        let readers = vec![
            std::thread::spawn(move || for_stdout.read_lines(stdout, terse)),
            std::thread::spawn(move || for_stderr.read_stderr(stderr)),
        ];
        Self { shared, readers }
    }

    /// The first line, of those that are there and those to come, that `wanted` says yes to. `None`
    /// when time is up or the process ended.
    pub fn wait_for(&self, patience: Duration, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        let until = Instant::now() + patience;
        let (mut state, mut seen) = (self.shared.state.lock(), 0);
        loop {
            if let Some(line) = state.lines[seen..].iter().find(|line| wanted(line)) {
                return Some(line.clone());
            }
            seen = state.lines.len();
            let left = until.checked_duration_since(Instant::now())?;
            if state.ended {
                return None;
            }
            self.shared.changed.wait_for(&mut state, left);
        }
    }

    /// Every line so far that `wanted` says yes to.
    pub fn lines(&self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.shared.state.lock().lines.iter().filter(|line| wanted(line)).cloned().collect()
    }

    /// What came since the last call. Lines about agents are forgotten here, so that a run of hours fits; those about
    /// the container stay.
    pub fn drain(&self) -> Vec<Drained> {
        let mut state = self.shared.state.lock();
        let from = state.drained;
        let fresh = state.lines.split_off(from);
        let mut broken = std::mem::take(&mut state.broken).into_iter().peekable();
        let mut drained = Vec::with_capacity(fresh.len());
        for (at, line) in (from..).zip(fresh) {
            while let Some((_, text)) = broken.next_if(|(before, _)| *before <= at) {
                drained.push(Drained::Broken(text));
            }
            if line["event"].as_str().is_some_and(|event| event.starts_with("container.")) {
                state.lines.push(line.clone());
            }
            drained.push(Drained::Line(line));
        }
        drained.extend(broken.map(|(_, text)| Drained::Broken(text)));
        state.drained = state.lines.len();
        drained
    }

    /// Reads no more than what is on its way, until the guard is dropped.
    #[must_use]
    pub fn stall(&self) -> Stalled {
        *self.shared.stalled.lock() = true;
        Stalled(Arc::clone(&self.shared))
    }

    /// Lines of an event about agents so far that were counted and not kept.
    pub fn counted(&self, event: &str) -> u64 {
        self.shared.state.lock().counted.get(event.as_bytes()).copied().unwrap_or_default()
    }

    /// What was written to stderr so far.
    pub fn stderr(&self) -> String {
        self.shared.state.lock().stderr.clone()
    }

    /// Waits until everything was read. Only after the process ended.
    pub fn join(&mut self) {
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }

    /// The last lines and all of stderr, for the message of a failure.
    pub fn tail(&self) -> String {
        let state = self.shared.state.lock();
        let from = state.lines.len().saturating_sub(SHOWN);
        let lines: Vec<_> = state.lines[from..].iter().map(Value::to_string).collect();
        format!("last lines of the host:\n{}\nits stderr:\n{}", lines.join("\n"), state.stderr)
    }

    /// Checks that every line so far keeps to the schema of the log.
    pub fn check_contract(&self) -> Result<(), String> {
        let state = self.shared.state.lock();
        state.lines.iter().try_for_each(|line| {
            contract::check(line).map_err(|problem| format!("{problem}: {line}"))
        })
    }

    /// Checks what holds for every log: JSON only, lines that platforms pass on whole, the common fields, numbers without
    /// a gap.
    pub fn check(&self) -> Result<(), String> {
        let state = self.shared.state.lock();
        // Runs that follow each other, each with numbers of its own.
        let begins = |line: &Value| line["event"] == "container.cold_start";
        // A run that is killed may leave its last line cut, before its first byte as well as after any other.
        let is_cut = |at: usize| at > 0 && state.lines.get(at).is_some_and(begins);
        let (mut broken, mut cut_at) = (state.broken.iter(), None);
        let noise = broken.find(|(at, _)| !is_cut(*at) || cut_at.replace(*at) == Some(*at));
        if state.longest > LINE_BYTES {
            return Err(format!("a line of stdout has {} bytes", state.longest));
        }
        if let Some((_, line)) = noise {
            return Err(format!("a line of stdout is no JSON object: {line:?}"));
        }
        for run in state.lines.chunk_by(|_, next| !begins(next)) {
            let first = &run[0];
            if !begins(first) {
                return Err(format!("the first line is no container.cold_start: {first}"));
            }
            for (line, expected) in run.iter().zip(0..) {
                check_line(line, expected).map_err(|problem| format!("{problem}: {line}"))?;
                if line["runId"] != first["runId"] {
                    return Err(format!("it is of another run: {line}"));
                }
            }
        }
        if state.lines.is_empty() { Err("there is no line".to_owned()) } else { Ok(()) }
    }
}

/// The event's name, which stands near the beginning of a line, when it is one about an agent.
fn about_agent(line: &[u8]) -> Option<&[u8]> {
    const KEY: &[u8] = br#""event":""#;
    let at = line.windows(KEY.len()).take(80).position(|window| window == KEY)?;
    let name = line[at + KEY.len()..].split(|byte| *byte == b'"').next()?;
    name.starts_with(b"agent.").then_some(name)
}

fn check_line(line: &Value, seq: u64) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "fatal"];
    let text = |key: &str| line[key].as_str().unwrap_or_default();
    if line["seq"] != seq {
        return Err(format!("seq is {}, not {seq}", line["seq"]));
    }
    if line["schema"] != 1 || !line["uptimeMs"].is_u64() || text("runId").is_empty() {
        return Err("schema, uptimeMs or runId is missing".to_owned());
    }
    if !LEVELS.contains(&text("level")) || !text("event").contains('.') {
        return Err("level or event is not one of ours".to_owned());
    }
    if !matches!(line.get("townId"), Some(Value::Null | Value::String(_))) {
        return Err("townId is missing".to_owned());
    }
    // 2026-01-01T00:00:00.000Z
    if text("ts").len() != 24 || !text("ts").ends_with('Z') {
        return Err("ts is no RFC 3339 in UTC with milliseconds".to_owned());
    }
    Ok(())
}

impl Shared {
    fn read_lines(&self, stdout: impl Read, terse: bool) {
        let (mut stdout, mut line) = (BufReader::with_capacity(1 << 20, stdout), Vec::new());
        while stdout.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            self.resumed.wait_while(&mut self.stalled.lock(), |stalled| *stalled);
            let line = std::mem::take(&mut line);
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            let mut state = self.state.lock();
            state.longest = state.longest.max(line.len() + 1);
            if let Some(event) = about_agent(line).filter(|_| terse) {
                match state.counted.get_mut(event) {
                    Some(count) => *count += 1,
                    None => _ = state.counted.insert(event.to_vec(), 1),
                }
                continue;
            }
            match serde_json::from_slice::<Value>(line) {
                Ok(value) if value.is_object() => state.lines.push(value),
                _ => {
                    let at = state.lines.len();
                    state.broken.push((at, String::from_utf8_lossy(line).into_owned()));
                }
            }
            self.changed.notify_all();
        }
        self.state.lock().ended = true;
        self.changed.notify_all();
    }

    fn read_stderr(&self, stderr: impl Read) {
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            let mut state = self.state.lock();
            state.stderr.push_str(&String::from_utf8_lossy(&line));
            state.stderr.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(lines: &[&str]) -> Output {
        let text = lines.join("\n");
        let mut output = Output::collect(std::io::Cursor::new(text), std::io::empty(), false);
        output.join();
        output
    }

    fn line(event: &str, seq: u64) -> String {
        format!(
            r#"{{"ts":"2026-01-01T00:00:00.000Z","level":"info","event":"{event}","schema":1,"townId":null,"runId":"r","uptimeMs":0,"seq":{seq}}}"#
        )
    }

    #[test]
    fn a_whole_log_is_right() {
        let lines = [line("container.cold_start", 0), line("agent.start", 1)];
        let output = output(&[&lines[0], &lines[1]]);
        assert_eq!(output.check(), Ok(()));
        let found = output.wait_for(Duration::ZERO, |line| line["event"] == "agent.start");
        assert_eq!(found.unwrap()["seq"], 1);
    }

    #[test]
    fn a_terse_reader_counts_lines_about_agents_and_keeps_the_others() {
        let lines = [line("container.cold_start", 0), line("agent.start", 1)].join("\n");
        let mut output = Output::collect(std::io::Cursor::new(lines), std::io::empty(), true);
        output.join();
        assert_eq!(output.lines(|_| true).len(), 1);
        assert_eq!((output.counted("agent.start"), output.counted("agent.exit")), (1, 0));
    }

    #[test]
    fn a_drained_log_comes_in_order_and_keeps_what_is_about_the_container() {
        let (cold, agent) = (line("container.cold_start", 0), line("agent.start", 1));
        let output = output(&[&cold, &agent, "half a", &cold]);
        let drained = output.drain();
        assert!(matches!(&drained[2], Drained::Broken(text) if text == "half a"), "{drained:?}");
        assert_eq!((drained.len(), output.lines(|_| true).len()), (4, 2));
        assert!(output.drain().is_empty());
    }

    #[test]
    fn a_gap_noise_and_a_missing_field_are_found() {
        let cold = line("container.cold_start", 0);
        assert!(output(&[&cold, &line("agent.start", 2)]).check().unwrap_err().contains("seq"));
        assert!(output(&[&cold, "panic!"]).check().unwrap_err().contains("no JSON"));
        assert!(output(&[&cold, r#"{"seq":1}"#]).check().unwrap_err().contains("schema"));
        let long =
            line("agent.start", 1).replace("\"r\"", &format!("\"{}\"", "r".repeat(LINE_BYTES)));
        assert!(output(&[&cold, &long]).check().unwrap_err().contains("bytes"));
        let other = line("agent.start", 1).replace(r#""r""#, r#""s""#);
        assert!(output(&[&cold, &other]).check().unwrap_err().contains("another run"));
    }

    #[test]
    fn only_the_last_line_of_a_killed_run_may_be_cut_and_only_once() {
        let cold = line("container.cold_start", 0);
        let next = cold.replace(r#""r""#, r#""s""#);
        assert_eq!(output(&[&cold, "", &next]).check(), Ok(()));
        assert_eq!(output(&[&cold, &line("agent.start", 1)[..40], &next]).check(), Ok(()));
        let is_noise = |lines: &[&str]| output(lines).check().unwrap_err().contains("no JSON");
        assert!(is_noise(&["", &cold]), "nobody was killed before it");
        assert!(is_noise(&[&cold, "", &line("agent.start", 1)]), "nobody was killed");
        assert!(is_noise(&[&cold, "", "{\"ts\":", &next]), "one run has one last line");
        assert!(is_noise(&[&cold, &line("agent.start", 1), "{\"ts\":"]), "it ended by itself");
    }

    #[test]
    fn a_run_that_follows_another_counts_from_its_own_start() {
        let cold = line("container.cold_start", 0);
        let next = cold.replace(r#""r""#, r#""s""#);
        assert_eq!(output(&[&cold, &line("agent.start", 1), &next]).check(), Ok(()));
    }
}
