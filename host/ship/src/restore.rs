//! What happens at a boot, before the database is opened: the log is claimed, and if it is newer than this disk, the database
//! is made from it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_store::database;
use tokio::time::{sleep, timeout};

use crate::archives::Index;
use crate::fault::ShipError;
use crate::image::Image;
use crate::log::Log;
use crate::marker::{self, Marker};
use crate::place::Place;
use crate::segment::{Kind, SegmentHead};
use crate::{Outbox, Settings};

/// Between two tries.
const AGAIN: Duration = Duration::from_millis(500);

/// A log that this process may write, and a database that it goes on from.
pub struct Opened {
    pub(crate) settings: Settings,
    pub(crate) log: Log,
    pub(crate) index: Option<Index>,
    /// Hears what is committed from now on.
    pub outbox: Arc<Outbox>,
    /// What was done.
    pub restored: Restored,
}

/// What a boot found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    /// Nothing was shipped yet.
    Nothing,
    /// This disk has all that was shipped, or more.
    Kept,
    /// The database was made from what was shipped.
    From {
        /// Segments that were read.
        segments: u64,
        /// Bytes of the file.
        bytes: u64,
        /// How long it took.
        took: Duration,
        /// The writer had shipped all at its end. If not, numbers of incarnations are left out.
        ended: bool,
        /// Where the database is now that was there.
        set_aside: Option<PathBuf>,
    },
}

/// Claims the log for this epoch of the lease, and restores the database in `dir` if the log is newer. Nobody may have it open.
/// What may pass is tried again until [`Settings::restore`] is over; the first time, `on_failure` gets it.
pub async fn open(
    settings: Settings,
    epoch: u64,
    dir: &Path,
    on_failure: impl Fn(&ShipError),
) -> Result<Opened, ShipError> {
    let until = Instant::now() + settings.restore;
    let mut last = None;
    let opened = timeout(settings.restore, async {
        loop {
            match try_open(&settings, epoch, dir).await {
                Err(error) if error.may_pass_soon() && Instant::now() < until => {
                    if last.is_none() {
                        on_failure(&error);
                    }
                    last = Some(error);
                    sleep(AGAIN).await;
                }
                opened => return opened,
            }
        }
    });
    let opened = opened.await;
    let (log, index, restored) = opened.unwrap_or_else(|_| {
        if let Some(local @ ShipError::Local(_)) = last {
            return Err(local);
        }
        let patience = settings.restore;
        let why = last.map_or_else(String::new, |error| format!(": {error}"));
        let text = format!("{} was not read in {patience:?} (ship.restore_ms){why}", settings.to);
        Err(ShipError::Unavailable(text))
    })?;
    let outbox = Arc::new(Outbox::new(settings.wait));
    Ok(Opened { settings, log, index, outbox, restored })
}

async fn try_open(
    settings: &Settings,
    epoch: u64,
    dir: &Path,
) -> Result<(Log, Option<Index>, Restored), ShipError> {
    let began = Instant::now();
    let place = Arc::new(Place::new(settings)?);
    place.probe().await?;
    let shown = settings.to.to_string();
    let to = settings.to.identity();
    let marker = marker::read(dir).filter(|marker| marker.to == to).unwrap_or_default();
    let has_database = database::exists(dir);
    let is_known = has_database && !marker.sessions.is_empty();
    let mut log = Log::claim(Arc::clone(&place), epoch, is_known).await?;
    let index = match settings.workspace_bytes {
        Some(_) => Some(Index::claim(&place, epoch, &log.session).await?),
        None => None,
    };
    make_dir(dir)?;
    let mut image = Image::new(dir)?;
    let (mut segments, mut pages) = (0, 0);
    loop {
        log.read_on(|object, segment| {
            segments += 1;
            let SegmentHead { page_bytes, page_count, .. } = segment.head;
            if page_count > 0 {
                pages = u64::from(page_bytes) * u64::from(page_count);
            }
            image.apply(object, segment)
        })
        .await?;
        let is_here = log.last.as_ref().is_some_and(|(session, _)| {
            has_database && marker.sessions.contains(session) && marker.is_of_this_start()
        });
        let before = log.last.clone();
        let session_before = before.as_ref().map(|it| it.0.clone()).filter(|_| is_here);
        let keeps = is_here || !image.is_whole();
        match keeps {
            // First: a log with this session and a disk that does not know it would be newer than the disk.
            true => mark(dir, &to, [session_before, Some(log.session.clone())])?,
            // First: until the database is made, this disk is older than the log.
            false => marker::forget(dir)
                .map_err(|error| ShipError::local("remove shipped.json", &error))?,
        }
        let begin = log.make(Kind::Begin, (0, 0), std::iter::empty())?;
        match log.append(&begin).await {
            // The writer before this one was not at its end yet.
            Err(ShipError::Fenced { .. }) => continue,
            begun => begun?,
        }
        if keeps {
            let restored = if is_here { Restored::Kept } else { Restored::Nothing };
            return Ok((log, index, restored));
        }
        let ended = before.is_some_and(|(_, kind)| kind == Kind::End);
        let losses = image.losses();
        let Some(made) = image.finish()? else { return Ok((log, index, Restored::Nothing)) };
        let set_aside =
            database::install(dir, &made, losses).map_err(|error| match error.is_damage {
                true => ShipError::damaged(&shown, error.to_string()),
                false => ShipError::Local(error.to_string()),
            })?;
        mark(dir, &to, [None, Some(log.session.clone())])?;
        let (bytes, took) = (pages, began.elapsed());
        return Ok((log, index, Restored::From { segments, bytes, took, ended, set_aside }));
    }
}

fn mark(dir: &Path, to: &str, sessions: [Option<String>; 2]) -> Result<(), ShipError> {
    let sessions = sessions.into_iter().flatten().collect();
    marker::write(dir, &Marker { to: to.to_owned(), sessions, boot_id: marker::boot_id() })
}

fn make_dir(dir: &Path) -> Result<(), ShipError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| ShipError::local(&format!("make {}", dir.display()), &error))
}
