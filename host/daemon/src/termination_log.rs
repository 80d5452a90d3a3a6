//! Why this container ended, where Kubernetes shows it: the file that it mounts for that, `/dev/termination-log`.
//!
//! Kubernetes reads the file when the container is gone, and after a kill nobody is there to write. So the file always
//! says what is true if the container ends at this moment:
//!
//! | when | says | by |
//! | --- | --- | --- |
//! | the boot is through its judgement | that this run ended without a word of its own; what became of the run before it | supervisor |
//! | somebody asked it to end | who, and how long it had: it did not get through its drain | supervisor |
//! | a panic | its message and place | supervisor |
//! | the end | that it ended as asked, and what of the agents | supervisor |
//! | a failure to start | the error | supervisor, init |
//! | the init process gives up | the verdict about the supervisor that died last | init |
//!
//! Where there is no such file nothing is written, and none is made. At most 4096 bytes, which is all that is read.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use bulkhead_terminal::reason::confidence;
use bulkhead_types::{Cause, PreviousRun};
use rustix::fs::OFlags;

/// Names the file where it is another one.
const VARIABLE: &str = "BULKHEAD_TERMINATION_LOG";

const DEFAULT: &str = "/dev/termination-log";

/// Kubernetes reads no more.
const MAX_BYTES: usize = 4096;

/// The file, if there is one.
pub fn path() -> Option<PathBuf> {
    let named = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
    let path = named.map_or_else(|| PathBuf::from(DEFAULT), PathBuf::from);
    path.metadata().is_ok_and(|meta| meta.is_file()).then_some(path)
}

/// Puts a text in the place of the one before it. What goes wrong is nobody's trouble.
pub fn write(text: &str) {
    let Some(path) = path() else { return };
    let text = bulkhead_printable::lines(text);
    let end = text.floor_char_boundary(MAX_BYTES);
    // A pipe that took its place must not hold the end.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().write(true).truncate(true).custom_flags(flags).open(path);
    let _ = opened.and_then(|mut file| file.write_all(text[..end].as_bytes()));
}

/// While a run goes on: what there is to say if it says nothing any more.
pub fn while_running(run_id: &str, before: &PreviousRun) -> String {
    format!(
        "run {run_id} ended without a word of its own: it was killed, ran out of memory, or its machine went away\n\n\
         the run before it: {}",
        verdict(before)
    )
}

/// Somebody asked for the end, which may take `drain_ms`.
pub fn while_ending(run_id: &str, by: &str, drain_ms: u64) -> String {
    format!(
        "run {run_id} was asked to end by {by}, and did not get through its drain, for which it had {drain_ms} ms: \
         the platform's grace period may be shorter"
    )
}

/// What is known of an end, one sentence a line, the cause first.
pub fn verdict(run: &PreviousRun) -> String {
    let id = run.previous_run_id.as_ref().map_or_else(String::new, |id| format!(", run {id}"));
    let mut text = match run.cause {
        Cause::None => "there was none".to_owned(),
        cause => format!("{} ({}){id}", cause.as_str(), confidence(run.confidence)),
    };
    run.evidence.iter().for_each(|reason| text.push_str(&format!("\n- {reason}")));
    for work in &run.in_flight {
        let message = work.message_id.as_ref();
        let message = message.map_or_else(String::new, |id| format!(", message {id}"));
        let (agent, number, phase) = (&work.agent_id, work.incarnation, &work.phase);
        text.push_str(&format!("\n- in flight: {agent} {number} in {phase}{message}"));
    }
    run.excluded.iter().for_each(|reason| text.push_str(&format!("\n- not {reason}")));
    text
}

#[cfg(test)]
mod tests {
    use bulkhead_types::Confidence;
    use bulkhead_types::previous::InFlight;

    use super::*;

    #[test]
    fn the_cause_comes_first_and_then_what_speaks_for_it() {
        let since = bulkhead_types::Timestamp(0);
        let run = PreviousRun {
            previous_run_id: Some("r1".into()),
            cause: Cause::OomKill,
            confidence: Confidence::High,
            evidence: vec!["the count rose".into()],
            excluded: vec!["clean: there is no clean marker".into()],
            last_state: None,
            last_seq: None,
            last_ts: None,
            last_memory: None,
            in_flight: vec![InFlight {
                agent_id: "a1".into(),
                incarnation: 3,
                phase: "handle".into(),
                message_id: Some("m1".into()),
                since,
            }],
            exit_code: None,
            signal: None,
        };
        assert_eq!(
            verdict(&run),
            "oom_kill (high confidence), run r1\n- the count rose\n- in flight: a1 3 in handle, message m1\n\
             - not clean: there is no clean marker"
        );
        assert_eq!(
            verdict(&PreviousRun {
                cause: Cause::None,
                evidence: vec![],
                excluded: vec![],
                in_flight: vec![],
                ..run
            }),
            "there was none"
        );
    }
}
