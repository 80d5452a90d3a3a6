use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::*;

/// Blocks in `write` until the test lets it go on.
struct Gate {
    opened: Receiver<()>,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.opened.recv();
        self.written.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn gated(buffer_bytes: usize) -> (Arc<Log>, SyncSender<()>, Arc<Mutex<Vec<u8>>>) {
    let (open, opened) = sync_channel(1024);
    let written = Arc::new(Mutex::new(Vec::new()));
    let gate = Gate { opened, written: Arc::clone(&written) };
    let context = Arc::new(RunContext::new("run".into(), None));
    let config = LogConfig { buffer_bytes, ..LogConfig::default() };
    (Log::start(config, context, Box::new(gate)).unwrap(), open, written)
}

fn info() -> Event {
    Event::StopIntent { by: "test".into(), reason: "x".repeat(100), drain_ms: None }
}

fn fatal() -> Event {
    Event::UncaughtException { name: "panic", message: "m".into(), stack: None, active_agents: 0 }
}

#[test]
fn a_blocked_output_drops_and_counts_and_keeps_room_for_what_matters() {
    let (log, open, written) = gated(4 * 1024);
    for _ in 0..1000 {
        log.record(info());
    }
    let dropped = log.dropped();
    assert!(dropped > 900, "{dropped} dropped");
    log.record(fatal());
    assert_eq!(log.dropped(), dropped, "a fatal line still has room");
    drop(open);
    assert!(log.flush(Duration::from_secs(10)));
    let text = String::from_utf8(written.lock().clone()).unwrap();
    let seqs: Vec<u64> = text
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(seqs.last(), Some(&1000), "dropped lines spend their numbers");
    assert!(seqs.is_sorted());
    assert_eq!(seqs.len() as u64 + dropped, 1001);
}

#[test]
fn lines_of_an_agent_are_held_by_it_until_they_are_written_and_dropped_without_room() {
    let (log, open, _written) = gated(1024 * 1024);
    let account = Arc::new(Account::default());
    account.begin(4096, 80, None);
    // With one line in hand the writer stands at the gate, and takes none of those that follow.
    log.record_for(info(), &account);
    while !log.shared.queue.lock().writing || account.reading().host.log > 0 {
        std::thread::yield_now();
    }
    for _ in 0..100 {
        log.record_for(info(), &account);
    }
    let held = account.reading().host.log;
    assert!((3000..=4096).contains(&held), "{held} bytes are held");
    assert_eq!(log.dropped(), account.reading().refused);
    assert!(log.dropped() > 80, "{} dropped", log.dropped());
    log.record(info());
    assert_eq!(log.dropped(), account.reading().refused, "others have room");
    drop(open);
    assert!(log.flush(Duration::from_secs(10)));
    assert_eq!(account.reading().host.log, 0);
    assert_eq!(log.last_seq(), Some(101), "dropped lines spend their numbers");
}

/// A disk: takes as many bytes as there is room, and refuses the rest.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<(usize, Vec<u8>)>>);

impl Disk {
    fn make_room(&self, bytes: usize) {
        self.0.lock().0 += bytes;
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().1.clone()).unwrap()
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let (room, written) = &mut *self.0.lock();
        let taken = bytes.len().min(*room);
        if taken == 0 {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        *room -= taken;
        written.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The numbers of the lines of a log, each of which is whole.
fn seqs(text: &str) -> Vec<u64> {
    let seq = |line: &str| -> u64 {
        let line: serde_json::Value = serde_json::from_str(line).expect(line);
        line["seq"].as_u64().unwrap()
    };
    text.lines().map(seq).collect()
}

/// Lines that are missing between the first and the last.
fn gap(seqs: &[u64]) -> u64 {
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
    seqs.last().map_or(0, |last| last + 1) - seqs.len() as u64
}

#[test]
fn a_half_line_is_completed_when_there_is_room_and_what_is_dropped_is_the_gap() {
    let mut dice = fastrand::Rng::with_seed(7);
    let disk = Disk::default();
    let context = Arc::new(RunContext::new("run".into(), None));
    let output = Box::new(disk.clone());
    let log = Log::start(LogConfig::default(), context, output).unwrap();
    for _ in 0..300 {
        disk.make_room(dice.usize(0..1500));
        (0..dice.usize(1..6)).for_each(|_| log.record(info()));
        assert!(log.flush(Duration::from_secs(10)));
    }
    disk.make_room(1 << 20);
    log.record(fatal());
    assert!(log.flush(Duration::from_secs(10)));
    let seqs = seqs(&disk.text());
    assert_eq!(seqs.last().copied(), log.last_seq(), "it takes bytes again");
    assert!(gap(&seqs) > 20 && seqs.len() > 100, "{} of {}", gap(&seqs), seqs.len());
    assert_eq!(log.dropped(), gap(&seqs));
}

#[test]
fn a_long_record_takes_a_number_for_each_part_and_is_dropped_whole() {
    let (log, open, written) = gated(256 * 1024);
    let long = || Event::HostLog {
        level: Level::Info,
        target: "t".into(),
        message: "x".repeat(20_000),
        fields: Default::default(),
    };
    let mut records = 0;
    while log.dropped() == 0 {
        log.record(long());
        records += 1;
    }
    let dropped = log.dropped();
    assert!((4..12).contains(&records) && dropped == 3, "{dropped} lines of {records} records");
    log.record(fatal());
    drop(open);
    assert!(log.flush(Duration::from_secs(10)));
    let text = String::from_utf8(written.lock().clone()).unwrap();
    assert!(text.lines().all(|line| line.len() < LogConfig::MAX_LINE_BYTES));
    let seqs = seqs(&text);
    assert_eq!((gap(&seqs), seqs.last().copied()), (dropped, log.last_seq()));
    assert_eq!(log.last_seq(), Some(3 * records));
}

fn for_a_person() -> (Arc<Log>, Disk) {
    let disk = Disk::default();
    disk.make_room(1 << 20);
    let context = Arc::new(RunContext::new("run".into(), None));
    let config =
        LogConfig { format: Format::Text(Look::in_utc(false, false)), ..LogConfig::default() };
    (Log::start(config, context, Box::new(disk.clone())).unwrap(), disk)
}

fn crash_and_its_lines() -> [Event; 2] {
    let is_one =
        |event: &Event| matches!(event, Event::AgentCrash(_) | Event::CrashSymbolized { .. });
    let both: Vec<_> = crate::examples::all().into_iter().filter(is_one).collect();
    both.try_into().unwrap()
}

#[test]
fn a_person_is_shown_a_crash_once_with_its_files_and_lines() {
    let (log, disk) = for_a_person();
    let [crash, symbolized] = crash_and_its_lines();
    log.record(crash);
    log.record(info());
    log.record(symbolized);
    log.close(Duration::from_secs(10));
    let text = disk.text();
    assert_eq!(text.matches("crashed").count(), 1, "{text}");
    assert!(text.contains("rigs.rs:48"), "{text}");
    assert!(text.find("host ") < text.find("crashed"), "nobody waits for a crash: {text}");
}

#[test]
fn a_crash_whose_lines_do_not_come_is_shown_at_the_end_at_the_latest() {
    let (log, disk) = for_a_person();
    let [crash, symbolized] = crash_and_its_lines();
    log.record(crash);
    log.close(Duration::from_secs(10));
    assert_eq!(disk.text().matches("crashed").count(), 1, "{}", disk.text());
    log.record(symbolized);
    assert_eq!(disk.text().matches("crashed").count(), 1, "{}", disk.text());
}

#[test]
fn a_crash_whose_lines_do_not_come_wakes_the_writer() {
    let (log, disk) = for_a_person();
    let [crash, _] = crash_and_its_lines();
    log.record(crash);
    let until = Instant::now() + Duration::from_secs(30);
    while disk.text().is_empty() && Instant::now() < until {
        std::thread::yield_now();
    }
    assert!(disk.text().contains("files and lines are not known yet"), "{}", disk.text());
}

#[test]
fn flush_waits_for_the_write_itself() {
    let (log, open, written) = gated(1024 * 1024);
    log.record(info());
    assert!(!log.flush(Duration::from_millis(20)), "the output is blocked");
    open.send(()).unwrap();
    assert!(log.flush(Duration::from_secs(10)));
    assert!(!written.lock().is_empty());
}

#[test]
fn nothing_comes_after_the_end_of_the_run() {
    let (log, open, written) = gated(1024 * 1024);
    drop(open);
    let stopped =
        crate::examples::all().into_iter().find(|event| matches!(event, Event::Stopped(_)));
    log.record(info());
    log.record(stopped.unwrap());
    log.record(info());
    let [crash, _] = crash_and_its_lines();
    log.record(crash);
    log.close(Duration::from_secs(10));
    let text = String::from_utf8(written.lock().clone()).unwrap();
    assert!(text.trim_end().lines().last().unwrap().contains("container.stopped"), "{text}");
    assert_eq!(seqs(&text), [0, 1]);
    assert_eq!(log.dropped(), 2);
}

#[test]
fn a_person_is_shown_a_crash_before_the_end_of_the_run_and_none_after_it() {
    let (log, disk) = for_a_person();
    let [crash, symbolized] = crash_and_its_lines();
    let stopped =
        crate::examples::all().into_iter().find(|event| matches!(event, Event::Stopped(_)));
    log.record(crash.clone());
    log.record(stopped.unwrap());
    log.record(crash);
    log.record(symbolized);
    let began = Instant::now();
    log.close(Duration::from_secs(60));
    assert!(began.elapsed() < Duration::from_secs(60), "nobody writes it, and nobody waits for it");
    let text = disk.text();
    assert_eq!(text.matches("crashed").count(), 1, "{text}");
    assert!(text.find("crashed") < text.find("stopped"), "{text}");
}

#[test]
fn lines_below_the_level_get_no_number() {
    let (log, open, written) = gated(1024 * 1024);
    drop(open);
    log.record(Event::HostLog {
        level: Level::Debug,
        target: "t".into(),
        message: "m".into(),
        fields: Default::default(),
    });
    log.record(info());
    log.close(Duration::from_secs(10));
    let text = String::from_utf8(written.lock().clone()).unwrap();
    assert_eq!(seqs(&text), [0]);
    let mut counted = log.context().counts().events().filter(|(_, count)| *count > 0);
    assert_eq!(counted.next(), Some(("container.stop_intent", 1)));
    assert_eq!(counted.next(), Some(("container.log", 1)), "without a line, and yet it happened");
}
