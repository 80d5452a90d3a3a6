use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bulkhead_types::message::MAX_BODY_BYTES;
use proptest::prelude::*;

use super::*;

const AGENTS: usize = 4;

fn id(name: &str) -> AgentId {
    AgentId::parse(name).unwrap()
}

fn begin(dir: &Path) -> Journal {
    let Opened { journal, problems } = open(dir, AGENTS);
    assert!(problems.is_empty(), "{problems:?}");
    journal
}

fn mark() -> PromptMark {
    PromptMark::of("the prompt")
}

fn take(journal: &Journal, agent: &str) -> JournalSlot {
    journal.take(&id(agent), Takes { prompt: mark(), resumes: false, adopts_mail: false })
}

/// A start that goes on with what an earlier run began.
fn resume(journal: &Journal, agent: &str, prompt: PromptMark) -> JournalSlot {
    journal.take(&id(agent), Takes { prompt, resumes: true, adopts_mail: false })
}

/// One whose mailbox has the message that waits to be delivered again.
fn adopt(journal: &Journal, agent: &str) -> JournalSlot {
    journal.take(&id(agent), Takes { prompt: mark(), resumes: false, adopts_mail: true })
}

/// What the next run finds of an agent, were this one killed now.
fn left(dir: &Path, agent: &str) -> Left {
    resume(&begin(dir), agent, mark()).left()
}

fn mail(id: &str, bytes: usize) -> Message {
    let body: String = ('a'..='z').cycle().take(bytes).collect();
    Message::new(id, Sender::Agent(self::id("sender")), body)
}

fn prompt(id: &str) -> Message {
    Message::new(id, Sender::Prompt, "the prompt")
}

#[test]
fn a_message_in_its_turn_is_found_whole_whatever_its_size() {
    for bytes in [0, 1, 7, 8, 1000, 1200, 1300, 1400, 8192, 8193, 100_000, MAX_BODY_BYTES] {
        let dir = tempfile::tempdir().unwrap();
        let journal = begin(dir.path());
        let slot = take(&journal, "a1");
        let message = Message { attempt: 2, ..mail(&format!("m{bytes}"), bytes) };
        assert!(slot.delivers(&message, 1, &["c1".into()]), "{bytes} bytes");
        drop(journal);
        let kept = left(dir.path(), "a1").mail.unwrap();
        let crash_ids = vec!["c1".to_owned()];
        assert_eq!(kept, Kept { message, faults: 1, crash_ids, in_turn: true }, "{bytes} bytes");
    }
}

#[test]
fn what_is_done_is_not_found_and_gives_its_blocks_back() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begin(dir.path());
    let slot = take(&journal, "a1");
    // More than the file holds at once.
    for n in 0..10 {
        let message = mail(&n.to_string(), MAX_BODY_BYTES);
        assert!(slot.delivers(&message, 0, &[]), "body {n} found no room");
        slot.is_done(&message.sender);
    }
    assert_eq!(left(dir.path(), "a1"), Left::default());
    assert_eq!(journal.untracked(), 0);
}

#[test]
fn a_message_that_waits_again_keeps_its_body_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begin(dir.path());
    let slot = take(&journal, "a1");
    let message = mail("m1", MAX_BODY_BYTES);
    assert!(slot.delivers(&message, 0, &[]));
    // There is no room for it twice, and it needs none.
    let again = Message { attempt: 2, ..message };
    assert!(slot.waits(&again, 1, &["c1".into()]));
    let kept = left(dir.path(), "a1").mail.unwrap();
    assert_eq!((&kept.message, kept.faults, kept.in_turn), (&again, 1, false));
    assert!(slot.delivers(&again, 1, &["c1".into()]));
    assert!(left(dir.path(), "a1").mail.unwrap().in_turn);
}

#[test]
fn a_prompt_has_a_lane_of_its_own_and_no_text() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begin(dir.path());
    let slot = take(&journal, "a1");
    assert!(slot.waits(&mail("m1", 10), 1, &[]));
    assert!(slot.delivers(&prompt("p1"), 0, &[]));
    let both = left(dir.path(), "a1");
    let KeptPrompt::Open(kept) = both.prompt else { panic!("{both:?}") };
    assert_eq!((kept.message.id.as_str(), &*kept.message.body), ("p1", ""));
    assert_eq!(both.mail.unwrap().message.id, "m1");
    slot.is_done(&Sender::Prompt);
    let after = left(dir.path(), "a1");
    assert_eq!((after.prompt, after.mail.is_some()), (KeptPrompt::Done, true));
}

#[test]
fn a_prompt_counts_for_the_start_that_has_it_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let prompt_of = |mark, resumes| {
        let journal = begin(dir.path());
        let slot = take(&journal, "a1");
        slot.is_done(&Sender::Prompt);
        assert!(slot.waits(&mail("m1", 10), 1, &[]));
        drop(journal);
        let takes = Takes { prompt: mark, resumes, adopts_mail: false };
        let left = begin(dir.path()).take(&id("a1"), takes).left();
        assert!(left.mail.is_some(), "mail is for the next start");
        left.prompt
    };
    assert_eq!(prompt_of(mark(), true), KeptPrompt::Done);
    assert_eq!(prompt_of(mark(), false), KeptPrompt::Undelivered, "somebody asked for it again");
    assert_eq!(prompt_of(PromptMark::of("another"), true), KeptPrompt::Undelivered);
}

#[test]
fn what_an_earlier_run_left_is_given_out_once_and_stays_until_it_is_done() {
    let dir = tempfile::tempdir().unwrap();
    take(&begin(dir.path()), "a1").delivers(&mail("m1", 5000), 0, &[]);
    let journal = begin(dir.path());
    let slot = resume(&journal, "a1", mark());
    assert!(slot.left().mail.is_some());
    assert_eq!(slot.left(), Left::default());
    // Killed before it was delivered again.
    assert!(left(dir.path(), "a1").mail.is_some());
    slot.is_done(&Sender::Operator);
    assert_eq!(left(dir.path(), "a1"), Left::default());
}

#[test]
fn what_an_earlier_run_left_waits_for_a_start_that_can_deliver_it() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begin(dir.path());
    let slot = take(&journal, "a1");
    slot.is_done(&Sender::Prompt);
    assert!(slot.waits(&mail("m1", 5000), 1, &[]));
    let journal = begin(dir.path());
    // Replaced before it could ask, by a start of its own, which has its turn twice.
    let _first = resume(&journal, "a1", mark());
    let second = take(&journal, "a1");
    assert!(left(dir.path(), "a1").mail.is_some(), "a kill right then loses nothing");
    let found = second.left();
    assert_eq!(found.mail.map(|kept| kept.message.id).as_deref(), Some("m1"));
    assert_eq!(found.prompt, KeptPrompt::Undelivered, "somebody asked for it again");
    // Stopped before it could ask: nobody is to have it.
    take(&begin(dir.path()), "a1").release();
    assert_eq!(left(dir.path(), "a1"), Left::default());
}

#[test]
fn of_an_agent_that_ended_the_prompt_stays_done_until_its_slot_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begin(dir.path());
    let slot = take(&journal, "a1");
    slot.is_done(&Sender::Prompt);
    assert!(slot.waits(&mail("m1", 20_000), 1, &[]));
    slot.retire();
    let killed = left(dir.path(), "a1");
    assert_eq!((killed.prompt, killed.mail), (KeptPrompt::Done, None), "its sender is answered");
    slot.release();
    assert_eq!(left(dir.path(), "a1"), Left::default());
}

#[test]
fn of_an_agent_that_ended_the_slot_is_another_ones_when_there_is_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begin(dir.path());
    let mut slots: Vec<_> = (0..AGENTS).map(|n| take(&journal, &format!("a{n}"))).collect();
    slots[2].retire();
    slots[1].retire();
    // It is back, and nobody takes its slot from it.
    slots.push(take(&journal, "a1"));
    slots[1].release();
    for (agent, has_room) in [("b1", true), ("b2", false)] {
        slots.push(take(&journal, agent));
        let slot = slots.last().unwrap();
        assert_eq!(slot.delivers(&mail(agent, 10), 0, &[]), has_room, "{agent}");
    }
    slots[2].release();
    assert!(left(dir.path(), "b1").mail.is_some(), "the slot is not the ended one's any more");
}

#[test]
fn a_start_that_takes_over_finds_no_record_of_the_one_before() {
    for (sender, bytes) in [(Sender::Operator, 10), (Sender::Operator, 20_000), (Sender::Prompt, 0)]
    {
        let dir = tempfile::tempdir().unwrap();
        let journal = begin(dir.path());
        let message = Message { sender: sender.clone(), ..mail("m1", bytes) };
        assert!(take(&journal, "a1").waits(&message, 1, &[]));
        // The one before is answered, or was lost: nobody cleared it.
        let _next = resume(&journal, "a1", mark());
        assert_eq!(left(dir.path(), "a1"), Left::default(), "{sender:?}, {bytes} bytes");
        let free = journal.open.as_ref().unwrap().bodies.free();
        assert_eq!(free, Geometry::of(AGENTS).blocks as usize, "{sender:?}, {bytes} bytes");
    }
    // One that takes over the mail as well goes on with its record.
    let dir = tempfile::tempdir().unwrap();
    let journal = begin(dir.path());
    assert!(take(&journal, "a1").waits(&mail("m1", 20_000), 1, &[]));
    let _next = adopt(&journal, "a1");
    assert!(left(dir.path(), "a1").mail.is_some());
}

#[test]
fn what_waited_is_forgotten_by_the_start_that_has_the_slot_only() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begin(dir.path());
    let first = take(&journal, "a1");
    assert!(first.waits(&mail("m1", 10), 1, &[]));
    first.forgets(&Sender::Operator);
    assert_eq!(left(dir.path(), "a1"), Left::default());
    let next = take(&journal, "a1");
    assert!(next.delivers(&mail("m2", 10), 0, &[]));
    first.forgets(&Sender::Operator);
    assert!(left(dir.path(), "a1").mail.is_some());
}

#[test]
fn two_messages_of_one_id_are_two() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begin(dir.path());
    let slot = take(&journal, "a1");
    for bytes in [20_000, 30_000] {
        let message = Message::new("n1", Sender::Nudge("n1".into()), "x".repeat(bytes));
        assert!(slot.delivers(&message, 0, &[]));
        assert_eq!(left(dir.path(), "a1").mail.unwrap().message, message);
    }
}

#[test]
fn the_oldest_crash_ids_go_when_a_record_has_no_room_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begin(dir.path());
    let slot = take(&journal, "a1");
    let ids: Vec<_> = (0..MAX_CRASH_IDS).map(|n| format!("{n}{}", "i".repeat(200))).collect();
    for bytes in [1000, 20_000] {
        let message = mail("m1", bytes);
        assert!(slot.delivers(&message, 9, &ids[..1]), "{bytes} bytes");
        assert!(slot.waits(&message, 10, &ids), "{bytes} bytes");
        let kept = left(dir.path(), "a1").mail.expect("a record with fewer ids");
        assert_eq!((&kept.message, kept.faults), (&message, 10));
        assert_eq!(kept.crash_ids.last(), ids.last(), "the newest stay");
        assert!(!kept.crash_ids.is_empty() && kept.crash_ids.len() < ids.len());
    }
    assert!(slot.waits(&prompt("p1"), 10, &ids));
    let KeptPrompt::Open(kept) = left(dir.path(), "a1").prompt else { panic!("no record") };
    assert_eq!(kept.crash_ids.last(), ids.last());
    assert_eq!(journal.untracked(), 0);
}

#[test]
fn a_file_that_was_copied_with_holes_has_all_its_blocks_before_it_is_mapped() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    assert!(take(&begin(dir.path()), "a1").delivers(&mail("m1", 20_000), 0, &[]));
    let path = dir.path().join("journal");
    let (bytes, sparse) = (fs::read(&path).unwrap(), dir.path().join("sparse"));
    let copy = fs::File::create(&sparse).unwrap();
    copy.set_len(bytes.len() as u64).unwrap();
    for (index, page) in
        bytes.chunks(4096).enumerate().filter(|(_, page)| page.iter().any(|byte| *byte != 0))
    {
        std::os::unix::fs::FileExt::write_all_at(&copy, page, index as u64 * 4096).unwrap();
    }
    assert!(copy.metadata().unwrap().blocks() * 512 < bytes.len() as u64, "no hole to try");
    fs::rename(&sparse, &path).unwrap();
    let journal = begin(dir.path());
    assert!(
        fs::metadata(&path).unwrap().blocks() * 512 >= bytes.len() as u64,
        "it still has holes"
    );
    assert_eq!(resume(&journal, "a1", mark()).left().mail.unwrap().message, mail("m1", 20_000));
}

#[test]
fn a_slot_is_cleared_before_its_owner_is() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begin(dir.path());
    let slot = take(&journal, "a1");
    assert!(slot.delivers(&mail("m1", 20_000), 0, &[]));
    let open = Arc::clone(journal.open.as_ref().unwrap());
    let index = slot.taken.unwrap().index;
    std::thread::scope(|scope| {
        // The release comes as far as the body of its record, and is held up there.
        let held_up = open.bodies.hold();
        scope.spawn(|| slot.release());
        while open.lane(index, Lane::Mail).has_blocks() {
            std::thread::yield_now();
        }
        let owner = open.slot(index)[0].load(Relaxed);
        drop(held_up);
        assert_ne!(owner, 0, "a kill now leaves records that nobody owns");
    });
    assert_eq!(open.slot(index)[0].load(Relaxed), 0);
}

#[test]
fn slots_are_one_for_each_agent_until_it_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begin(dir.path());
    let slots: Vec<_> = (0..AGENTS).map(|n| take(&journal, &n.to_string())).collect();
    let late = take(&journal, "late");
    assert!(!late.delivers(&mail("m1", 1), 0, &[]), "no slot, and nobody waits");
    assert_eq!(journal.untracked(), 1);
    slots[0].release();
    assert!(take(&journal, "late").delivers(&mail("m1", 1), 0, &[]));
    // The same agent once more: its first holder gives nothing back any more.
    let again = take(&journal, "1");
    slots[1].release();
    assert!(again.delivers(&mail("m2", 1), 0, &[]));
    assert!(left(dir.path(), "1").mail.is_some());
}

#[test]
fn those_that_nobody_brings_back_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begin(dir.path());
    for agent in ["stays", "goes"] {
        take(&journal, agent).delivers(&mail(agent, 10), 0, &[]);
    }
    let journal = begin(dir.path());
    journal.keep_only(&HashSet::from([id("stays")]));
    assert!(resume(&journal, "goes", mark()).left().mail.is_none());
    assert!(resume(&journal, "stays", mark()).left().mail.is_some());
}

#[test]
fn an_agent_that_was_started_before_the_others_were_brought_back_keeps_its_slot_and_its_mail() {
    let dir = tempfile::tempdir().unwrap();
    take(&begin(dir.path()), "a1").delivers(&mail("m1", 10), 0, &[]);
    let journal = begin(dir.path());
    let slot = take(&journal, "a1");
    journal.keep_only(&HashSet::new());
    assert!(slot.left().mail.is_some());
    assert!(slot.delivers(&mail("m2", 10), 0, &[]));
    let _others: Vec<_> = (1..AGENTS).map(|n| take(&journal, &n.to_string())).collect();
    assert_eq!(left(dir.path(), "a1").mail.unwrap().message.id, "m2");
}

#[test]
fn a_file_of_other_sizes_is_carried_over() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begin(dir.path());
    let slot = take(&journal, "a1");
    slot.is_done(&Sender::Prompt);
    let message = mail("m1", 100_000);
    assert!(slot.waits(&message, 1, &["c1".into()]));
    for agents in [2000, 1, AGENTS] {
        let opened = open(dir.path(), agents);
        assert!(opened.problems.is_empty(), "{:?}", opened.problems);
    }
    let found = left(dir.path(), "a1");
    assert_eq!(found.prompt, KeptPrompt::Done);
    let crash_ids = vec!["c1".to_owned()];
    assert_eq!(found.mail, Some(Kept { message, faults: 1, crash_ids, in_turn: false }));
}

#[test]
fn only_its_owner_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    begin(dir.path());
    let mode = fs::metadata(dir.path().join("journal")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_that_says_nothing_is_kept_and_a_new_one_made() {
    let dir = tempfile::tempdir().unwrap();
    for text in [&b""[..], &[b'x'; 5000]] {
        fs::write(dir.path().join("journal"), text).unwrap();
        let Opened { journal, problems } = open(dir.path(), AGENTS);
        assert!(matches!(&problems[..], [Problem::Unreadable { .. }]), "{problems:?}");
        assert_eq!(fs::read(dir.path().join("journal.corrupt")).unwrap(), text);
        assert!(take(&journal, "a1").delivers(&mail("m1", 10), 0, &[]));
    }
}

#[test]
fn a_file_that_cannot_be_renamed_stays_and_nobody_says_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("journal"), "what is this").unwrap();
    fs::create_dir_all(dir.path().join("journal.corrupt/in-the-way")).unwrap();
    let Opened { journal, problems } = open(dir.path(), AGENTS);
    assert!(matches!(problems[1], Problem::Absent(_)), "{problems:?}");
    let text = problems[0].to_string();
    assert!(text.contains("it stays where it is") && !text.contains("corrupt"), "{text}");
    assert!(!take(&journal, "a1").delivers(&mail("m1", 10), 0, &[]));
    assert_eq!(fs::read(dir.path().join("journal")).unwrap(), b"what is this");
}

#[test]
fn a_directory_that_takes_no_file_costs_the_journal_only() {
    let Opened { journal, problems } = open(Path::new("/dev/null/nowhere"), AGENTS);
    assert!(problems.iter().any(|it| matches!(it, Problem::Absent(_))), "{problems:?}");
    assert!(!take(&journal, "a1").delivers(&mail("m1", 10), 0, &[]));
}

#[test]
fn bodies_that_find_no_room_are_counted_and_not_mixed_up() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begin(dir.path());
    let (first, second) = (take(&journal, "a1"), take(&journal, "a2"));
    assert!(first.delivers(&mail("m1", MAX_BODY_BYTES), 0, &[]));
    assert!(second.delivers(&mail("m2", 10), 0, &[]));
    assert!(!second.delivers(&mail("m3", MAX_BODY_BYTES), 0, &[]));
    assert_eq!(journal.untracked(), 1);
    assert_eq!(left(dir.path(), "a2"), Left::default(), "m2 is done with");
    assert_eq!(left(dir.path(), "a1").mail.unwrap().message, mail("m1", MAX_BODY_BYTES));
}

/// One thing that a task does with its slot.
#[derive(Debug, Clone)]
enum Step {
    Delivers { message: u8, bytes: usize },
    Waits,
    Done,
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = prop_oneof![0..2000_usize, 8000..9000_usize, 100_000..100_002_usize];
    prop_oneof![
        3 => (any::<u8>(), bytes).prop_map(|(message, bytes)| Step::Delivers { message, bytes }),
        2 => Just(Step::Waits),
        2 => Just(Step::Done),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// After any sequence, the next run finds what was not done last, and only that.
    #[test]
    fn the_next_run_finds_the_last_record(steps in prop::collection::vec(step(), 1..20)) {
        let dir = tempfile::tempdir().unwrap();
        let journal = begin(dir.path());
        let slot = take(&journal, "a1");
        let mut expected: Option<Kept> = None;
        for step in steps {
            match step {
                Step::Delivers { message, bytes } => {
                    let message = mail(&message.to_string(), bytes);
                    // As an agent's task does: the message before is done with.
                    slot.is_done(&message.sender);
                    prop_assert!(slot.delivers(&message, 0, &[]));
                    expected = Some(Kept { message, faults: 0, crash_ids: vec![], in_turn: true });
                }
                Step::Waits => {
                    if let Some(kept) = &mut expected {
                        kept.message.attempt += 1;
                        kept.faults += 1;
                        kept.in_turn = false;
                        prop_assert!(slot.waits(&kept.message, kept.faults, &[]));
                    }
                }
                Step::Done => {
                    slot.is_done(&Sender::Operator);
                    expected = None;
                }
            }
        }
        prop_assert_eq!(left(dir.path(), "a1").mail, expected);
    }

    /// Whatever bytes a slot has: no panic, and no message that nobody wrote.
    #[test]
    fn a_damaged_slot_says_nothing_wrong(at in 0..4096_usize, flip in 1..=255_u8) {
        let dir = tempfile::tempdir().unwrap();
        let message = mail("m1", 1000);
        take(&begin(dir.path()), "a1").delivers(&message, 0, &[]);
        let path = dir.path().join("journal");
        let mut bytes = fs::read(&path).unwrap();
        bytes[4096 + at] ^= flip;
        fs::write(&path, &bytes).unwrap();
        let found = resume(&open(dir.path(), AGENTS).journal, "a1", mark()).left();
        if let Some(kept) = found.mail {
            prop_assert_eq!(kept.message, message);
        }
    }
}
