//! The file, and how one run follows another.
//!
//! ```text
//!   read journal ──┬── of the right sizes ──▶ go on with it
//!                  └── of others, or none ──▶ make journal.new, whole, with what was read ──▶ journal.new → journal
//! ```
//!
//! A file with the name `journal` is always whole, and a boot that dies on the way loses nothing of it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Release;

use bulkhead_types::{AgentId, Message};
use parking_lot::Mutex;
use rustix::fs::OFlags;

use super::bodies::{Blocks, Bodies};
use super::lane::{self, Head, Kind, Lane, Read};
use super::layout::{self, BLOCK_BYTES, Geometry, HEADER_BYTES, SLOT_BYTES};
use super::{Journal, Kept, KeptPrompt, Left, Open, Opened, Problem, PromptMark, Table, TakenSlot};
use bulkhead_blackbox::mapped::{FreeSlots, Map, create_private, fill_holes};

const CURRENT: &str = "journal";
const NEW: &str = "journal.new";
const CORRUPT: &str = "journal.corrupt";

/// What a file has of one agent.
struct Found {
    agent: AgentId,
    index: u64,
    mark: PromptMark,
    left: Left,
    /// Where the body of its mail is, if not in its slot.
    blocks: Option<Blocks>,
}

/// A file that says something.
struct Readable {
    file: File,
    geometry: Geometry,
    found: Vec<Found>,
    damaged: usize,
}

/// Reads what the last run left, and begins a journal that has it: for so many agents, of which 4096 have a slot.
///
/// The directory belongs to one host at a time. Without room for the file there is no journal; one of other sizes
/// then stays as it is, for the next run.
pub fn open(dir: &Path, agents: usize) -> Opened {
    let mut problems = Vec::new();
    let geometry = Geometry::of(agents);
    let opened = match read(dir, &mut problems) {
        Ok(Some(before)) if before.geometry == geometry => Open::go_on(before),
        Ok(before) => create(dir, geometry, before.map_or_else(Vec::new, |before| before.found)),
        Err(error) => Err(error),
    };
    let journal = match opened {
        Ok(open) => Journal { open: Some(Arc::new(open)) },
        Err(error) => {
            let _ = fs::remove_file(dir.join(NEW));
            problems.push(Problem::Absent(error));
            Journal::absent()
        }
    };
    Opened { journal, problems }
}

/// An error: there is one that is neither read nor out of the way.
fn read(dir: &Path, problems: &mut Vec<Problem>) -> io::Result<Option<Readable>> {
    let path = dir.join(CURRENT);
    let mut options = OpenOptions::new();
    // A pipe that nobody writes to must not hold the boot.
    options.read(true).write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let reason = match options.open(&path).and_then(read_file) {
        Ok(Ok(readable)) => {
            if readable.damaged > 0 {
                problems.push(Problem::Damaged(readable.damaged));
            }
            return Ok(Some(readable));
        }
        Ok(Err(reason)) => reason.to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => error.to_string(),
    };
    let kept_as = dir.join(CORRUPT);
    // It makes room for the new one, and is overwritten by none.
    let renamed = fs::rename(&path, &kept_as);
    let kept_as = renamed.is_ok().then_some(kept_as);
    problems.push(Problem::Unreadable { reason, kept_as });
    renamed.map(|()| None)
}

/// What is in a file, or why it says nothing.
fn read_file(file: File) -> io::Result<Result<Readable, &'static str>> {
    let mut header = [0; HEADER_BYTES];
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() < HEADER_BYTES as u64 {
        return Ok(Err("it is too short"));
    }
    file.read_exact_at(&mut header, 0)?;
    let (geometry, used) = match layout::read_header(&header) {
        Ok(read) => read,
        Err(reason) => return Ok(Err(reason)),
    };
    if geometry.bytes() > meta.len() {
        return Ok(Err("it is too short"));
    }
    let mut readable = Readable { file, geometry, found: Vec::new(), damaged: 0 };
    for index in 0..used {
        readable.read_slot(index)?;
    }
    Ok(Ok(readable))
}

impl Readable {
    fn read_slot(&mut self, index: u64) -> io::Result<()> {
        let mut slot = [0; SLOT_BYTES];
        self.file.read_exact_at(&mut slot, Geometry::slot_at(index))?;
        let Ok(owner) = layout::read_owner(&slot) else {
            self.damaged += 1;
            return Ok(());
        };
        let Some(agent) = owner.and_then(|owner| AgentId::parse(owner).ok()) else { return Ok(()) };
        let mark = PromptMark(layout::word(&slot, layout::MARK).unwrap_or(0));
        let (mut left, mut blocks) = (Left::default(), None);
        match lane::read(&slot, Lane::Prompt) {
            Read::Nothing => {}
            Read::Done => left.prompt = KeptPrompt::Done,
            Read::Record(head, _, in_turn) => {
                left.prompt = KeptPrompt::Open(kept(head, String::new(), in_turn));
            }
            Read::Damaged => self.damaged += 1,
        }
        match lane::read(&slot, Lane::Mail) {
            Read::Nothing | Read::Done => {}
            Read::Record(head, body, in_turn) => match self.body(&head, body)? {
                Some(body) => {
                    blocks = Blocks::of(&head);
                    left.mail = Some(kept(head, body, in_turn));
                }
                None => self.damaged += 1,
            },
            Read::Damaged => self.damaged += 1,
        }
        self.found.push(Found { agent, index, mark, left, blocks });
        Ok(())
    }

    /// The body of a record; nothing when it is damaged.
    fn body(&self, head: &Head<'_>, in_slot: &[u8]) -> io::Result<Option<String>> {
        let body = match head.blocks.is_empty() {
            true => in_slot.to_owned(),
            false => read_blocks(&self.file, self.geometry, head)?,
        };
        let is_whole = body.len() == head.bytes as usize
            && (head.blocks.is_empty() || crc32fast::hash(&body) == head.sum);
        Ok(String::from_utf8(body).ok().filter(|_| is_whole))
    }
}

fn read_blocks(file: &File, geometry: Geometry, head: &Head<'_>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    for index in head.blocks.iter() {
        if u32::from(*index) >= geometry.blocks {
            return Ok(Vec::new());
        }
        let from = body.len();
        body.resize(from + BLOCK_BYTES, 0);
        file.read_exact_at(&mut body[from..], geometry.block_at(u64::from(*index)))?;
    }
    body.truncate(head.bytes as usize);
    Ok(body)
}

fn kept(head: Head<'_>, body: String, in_turn: bool) -> Kept {
    let Head { id, sender, attempt, faults, crashes, .. } = head;
    let message = Message { attempt, ..Message::new(id, sender.into_owned(), body) };
    Kept { message, faults, crash_ids: crashes.into_owned(), in_turn }
}

fn create(dir: &Path, geometry: Geometry, found: Vec<Found>) -> io::Result<Open> {
    let path = dir.join(NEW);
    // Messages are in it: nobody else reads them.
    let map = create_private(&path, geometry.bytes())?;
    layout::write_header(map.words(), geometry);
    let open = Open::empty(map, geometry);
    if !found.is_empty() {
        open.carry_over(found);
        // The name must not outlive the machine without what it stands for.
        open.map.sync()?;
    }
    fs::rename(&path, dir.join(CURRENT))?;
    Ok(open)
}

impl Open {
    fn empty(map: Map, geometry: Geometry) -> Self {
        Self {
            free: FreeSlots::new(u64::from(geometry.slots)),
            bodies: Bodies::new(geometry),
            table: Mutex::default(),
            untracked: AtomicU64::new(0),
            geometry,
            map,
        }
    }

    /// Goes on with the file of the run before.
    fn go_on(before: Readable) -> io::Result<Self> {
        let Readable { file, geometry, found, .. } = before;
        fill_holes(&file, geometry.bytes())?;
        let open = Self::empty(Map::of(&file)?, geometry);
        let mut table = Table::default();
        for Found { agent, index, mark, left, blocks } in found {
            open.free.claim(index);
            if let Some(blocks) = blocks {
                open.bodies.adopt(index, blocks);
            }
            // A damaged record is not found again.
            if left.prompt == KeptPrompt::Undelivered {
                open.clear(index, Lane::Prompt, Kind::None);
            }
            if left.mail.is_none() {
                open.clear(index, Lane::Mail, Kind::None);
            }
            table.slots.insert(agent.clone(), TakenSlot { index, taking: 0 });
            table.left.insert(agent, (mark, left));
        }
        *open.table.lock() = table;
        Ok(open)
    }

    /// Writes what the run before left into this file. What finds no room is known to this run only.
    fn carry_over(&self, found: Vec<Found>) {
        let mut table = Table::default();
        for Found { agent, mark, left, .. } in found {
            if let Some(index) = self.claim(&agent) {
                self.slot(index)[layout::MARK].store(mark.0, Release);
                table.slots.insert(agent.clone(), TakenSlot { index, taking: 0 });
                self.carry(index, &left);
            }
            table.left.insert(agent, (mark, left));
        }
        *self.table.lock() = table;
    }

    fn carry(&self, index: u64, left: &Left) {
        let record = |kept: &Kept| {
            let kind = if kept.in_turn { Kind::Delivered } else { Kind::Waits };
            self.write(index, kind, &kept.message, kept.faults, &kept.crash_ids);
        };
        match &left.prompt {
            KeptPrompt::Undelivered => {}
            KeptPrompt::Open(kept) => record(kept),
            KeptPrompt::Done => self.clear(index, Lane::Prompt, Kind::Done),
        }
        left.mail.iter().for_each(record);
    }
}
