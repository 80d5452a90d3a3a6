//! Which runs there were: a small file beside the black box that distinguishes a box of the run before from an older
//! one.
//!
//! ```text
//!   boot ─▶ keep: why those before ended ─▶ black box in place ─▶ begin: this run, with its number
//!        ─▶ the ends before it are reported ─▶ it alone
//! ```
//!
//! A run stays in the list until a later one has reported how it ended, so a boot that is killed before it reported
//! anything does not make the run before it forgotten. The file is replaced whole, and not synced: it is for the death
//! of the process. After a death of the machine it may be the one of an earlier run; the black box, which is synced,
//! then has the higher number and counts.
//!
//! On a full disk there is neither a new file nor a new black box. So the file has at least a block, which is
//! overwritten then: a run that leaves nothing else is listed all the same.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bulkhead_types::PreviousRun;
use serde::{Deserialize, Serialize};

const FILE: &str = "runs";
const NEW: &str = "runs.new";

/// Largest file that is read.
const MAX_BYTES: u64 = 2 * 1024 * 1024;

/// What a file system gives a file at once, as a rule. Has room for all runs without what was judged of them.
const BLOCK_BYTES: usize = 4096;

/// Runs that wait to be reported. The oldest makes room, and is counted.
pub const MAX_UNREPORTED: usize = 8;

/// One run, as the file knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownRun {
    /// Names it.
    pub run_id: String,
    /// Its number among all runs on this disk, from 1.
    pub number: u64,
    /// It had a black box. One that cannot be found later is lost.
    pub has_box: bool,
    /// Why it ended, once a later run has judged that. Only two black boxes are kept, and a series of boots that are
    /// killed is longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Box<PreviousRun>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    runs: Vec<KnownRun>,
    #[serde(default)]
    forgotten: u64,
}

/// The file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Runs {
    dir: PathBuf,
    runs: Vec<KnownRun>,
    forgotten: u64,
    /// There is one, whatever it says.
    is_there: bool,
}

impl Runs {
    /// Reads what there is. A file that says nothing counts as one, and has no runs.
    pub fn read(dir: &Path) -> Self {
        let path = dir.join(FILE);
        let meta = fs::symlink_metadata(&path);
        let is_there = meta.is_ok();
        let readable = meta.is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_BYTES);
        let text = if readable { fs::read(&path).unwrap_or_default() } else { Vec::new() };
        let Kept { mut runs, forgotten } = serde_json::from_slice(&text).unwrap_or_default();
        runs.sort_by_key(|run| run.number);
        Self { dir: dir.to_owned(), runs, forgotten, is_there }
    }

    /// Whether there is such a file: then there was a run.
    pub fn is_there(&self) -> bool {
        self.is_there
    }

    /// Runs whose end was not reported yet, oldest first. The last one is the newest that is known.
    pub fn unreported(&self) -> &[KnownRun] {
        &self.runs
    }

    /// Runs that made room before anybody reported them.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The highest number that is known; 0 without any.
    pub fn last_number(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.number)
    }

    /// Goes on with a list from elsewhere, which is newer than this one.
    pub fn go_on_with(&mut self, mut runs: Vec<KnownRun>, forgotten: u64) {
        runs.sort_by_key(|run| run.number);
        let excess = runs.len().saturating_sub(MAX_UNREPORTED);
        runs.drain(..excess);
        (self.runs, self.forgotten, self.is_there) = (runs, forgotten + excess as u64, true);
    }

    /// A run begins, after those that are `unreported`.
    pub fn begin(&mut self, mut unreported: Vec<KnownRun>, run: KnownRun) -> io::Result<()> {
        unreported.push(run);
        self.keep(unreported)
    }

    /// These are the runs whose end was not reported yet.
    pub fn keep(&mut self, unreported: Vec<KnownRun>) -> io::Result<()> {
        self.runs = unreported;
        let excess = self.runs.len().saturating_sub(MAX_UNREPORTED);
        self.runs.drain(..excess);
        self.forgotten += excess as u64;
        self.write()
    }

    /// The ends of all runs before the newest were reported.
    pub fn set_reported(&mut self) -> io::Result<()> {
        let before = self.runs.len().saturating_sub(1);
        if before == 0 && self.forgotten == 0 {
            return Ok(());
        }
        self.runs.drain(..before);
        self.forgotten = 0;
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        let new = self.dir.join(NEW);
        let result = self
            .text()
            .and_then(|text| fs::write(&new, text))
            .and_then(|()| fs::rename(&new, self.dir.join(FILE)));
        let result = result.or_else(|error| {
            let _ = fs::remove_file(&new);
            match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => self.overwrite(error),
                _ => Err(error),
            }
        });
        self.is_there |= result.is_ok();
        result
    }

    fn text(&self) -> io::Result<Vec<u8>> {
        let kept = Kept { runs: self.runs.clone(), forgotten: self.forgotten };
        let mut text = serde_json::to_vec(&kept)?;
        text.resize(text.len().max(BLOCK_BYTES), b' ');
        Ok(text)
    }

    /// Writes into the blocks that the file has. What was judged goes if there is no room for it. Where there is no file,
    /// an empty one says at least that there was a run.
    fn overwrite(&self, full: io::Error) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600);
        let file = file.open(self.dir.join(FILE))?;
        let room = file.metadata()?.blocks() * 512;
        let mut kept = self.clone();
        let mut text = kept.text()?;
        if text.len() as u64 > room {
            kept.runs.iter_mut().for_each(|run| run.verdict = None);
            text = kept.text()?;
        }
        if text.len() as u64 > room {
            return Err(full);
        }
        // At once, over all that was there: blanks after the text are no part of it.
        let before = usize::try_from(file.metadata()?.len()).unwrap_or(text.len());
        text.resize(text.len().max(before), b' ');
        file.write_all_at(&text, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(number: u64) -> KnownRun {
        KnownRun { run_id: format!("run-{number}"), number, has_box: true, verdict: None }
    }

    /// With a judgement that is as long as they become.
    fn judged(number: u64) -> KnownRun {
        let missing = crate::previous::Missing::Lost("x".repeat(1000));
        let now = crate::previous::Observations::default();
        let verdict = crate::previous::judge_without_box(&missing, Default::default(), &now);
        KnownRun { verdict: Some(Box::new(verdict)), ..run(number) }
    }

    #[test]
    fn a_run_is_listed_until_its_end_was_reported() {
        let dir = tempfile::tempdir().unwrap();
        let mut runs = Runs::read(dir.path());
        assert_eq!((runs.is_there(), runs.last_number()), (false, 0));
        runs.begin(Vec::new(), run(1)).unwrap();
        // The second dies before it reported anything.
        let mut runs = Runs::read(dir.path());
        let unreported = runs.unreported().to_vec();
        runs.begin(unreported, run(2)).unwrap();
        let mut runs = Runs::read(dir.path());
        assert_eq!(runs.unreported(), [run(1), run(2)]);
        let unreported = runs.unreported().to_vec();
        runs.begin(unreported, run(3)).unwrap();
        runs.set_reported().unwrap();
        let runs = Runs::read(dir.path());
        assert_eq!((runs.unreported(), runs.last_number()), (&[run(3)][..], 3));
    }

    #[test]
    fn the_list_has_a_bound_and_the_oldest_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        for number in 1..=20 {
            let mut runs = Runs::read(dir.path());
            let unreported = runs.unreported().to_vec();
            runs.begin(unreported, run(number)).unwrap();
        }
        let runs = Runs::read(dir.path());
        assert_eq!(runs.unreported().len(), MAX_UNREPORTED);
        assert_eq!(runs.unreported().last(), Some(&run(20)));
        assert_eq!(runs.forgotten(), 12);
        let mut runs = runs;
        runs.set_reported().unwrap();
        assert_eq!(Runs::read(dir.path()).forgotten(), 0);
    }

    #[test]
    fn a_newer_list_takes_the_place_of_what_the_disk_has() {
        let dir = tempfile::tempdir().unwrap();
        let mut runs = Runs::read(dir.path());
        runs.begin(Vec::new(), run(1)).unwrap();
        runs.go_on_with((2..=20).rev().map(run).collect(), 3);
        assert_eq!((runs.unreported().len(), runs.forgotten()), (MAX_UNREPORTED, 14));
        assert_eq!((runs.unreported()[0].number, runs.last_number()), (13, 20));
    }

    #[test]
    fn a_file_that_says_nothing_is_a_sign_of_a_run_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let long = vec![b' '; 3_000_000];
        for bytes in [&b""[..], b"\0\0\0", b"{\"runs\":7}", &long] {
            fs::write(dir.path().join(FILE), bytes).unwrap();
            let mut runs = Runs::read(dir.path());
            assert!(runs.is_there() && runs.unreported().is_empty());
            runs.begin(Vec::new(), run(1)).unwrap();
            assert_eq!(Runs::read(dir.path()).unreported(), [run(1)]);
        }
    }

    #[test]
    fn where_there_is_no_room_the_file_is_overwritten_and_loses_at_most_what_was_judged() {
        let dir = tempfile::tempdir().unwrap();
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let mut runs = Runs::read(dir.path());
        runs.begin(Vec::new(), run(1)).unwrap();
        let length = || fs::metadata(dir.path().join(FILE)).unwrap().len();
        assert_eq!(length(), BLOCK_BYTES as u64);
        runs.runs = (1..=MAX_UNREPORTED as u64).map(judged).collect();
        runs.overwrite(full()).unwrap();
        let read = Runs::read(dir.path());
        assert_eq!(read.runs, (1..=MAX_UNREPORTED as u64).map(run).collect::<Vec<_>>());
        runs.runs = vec![judged(2), run(3)];
        runs.overwrite(full()).unwrap();
        assert_eq!((Runs::read(dir.path()).runs, length()), (runs.runs, BLOCK_BYTES as u64));
    }

    #[test]
    fn where_there_is_no_room_for_the_first_file_an_empty_one_is_a_sign_of_a_run() {
        let dir = tempfile::tempdir().unwrap();
        let runs = Runs { runs: vec![run(1)], ..Runs::read(dir.path()) };
        runs.overwrite(io::ErrorKind::StorageFull.into()).unwrap_err();
        let read = Runs::read(dir.path());
        assert!(read.is_there() && read.unreported().is_empty());
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("runs.new/in-the-way")).unwrap();
        let mut runs = Runs::read(dir.path());
        runs.begin(Vec::new(), run(1)).unwrap_err();
        assert_eq!(runs.unreported(), [run(1)], "it goes on in memory");
    }
}
