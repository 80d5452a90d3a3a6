//! The log of a town: claiming it, reading it to its end, the next segment.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::join_all;

use crate::fault::ShipError;
use crate::head::{self, Head};
use crate::place::{Place, Put};
use crate::segment::{self, Kind, Segment, SegmentHead};

/// Segments that are read at once. So many behind the end must not be there either: then one is missing.
const WINDOW: u64 = 8;

/// The first segment. It stays, so that a log whose head is lost is not taken for a new one.
const FIRST: u64 = 1;

/// Times that a head is read again which another process has just written.
const CLAIMS: u32 = 8;

/// A log that this process has claimed.
pub(crate) struct Log {
    place: Arc<Place>,
    epoch: u64,
    pub session: String,
    head: Head,
    head_version: String,
    /// The number of the next segment.
    next: u64,
    /// The digest of the one before it.
    previous: String,
    /// Who wrote that, and what.
    pub last: Option<(String, Kind)>,
    /// The lowest number that is there, beside the first one.
    oldest: u64,
}

/// A segment that was made and may be there already.
pub(crate) struct Made {
    pub number: u64,
    pub bytes: Bytes,
    digest: String,
    kind: Kind,
}

/// The first segment of a copy of all pages.
pub(crate) struct First {
    number: u64,
    digest: String,
}

impl Made {
    /// Where the copy begins that this is the first part of.
    pub fn first(&self) -> First {
        First { number: self.number, digest: self.digest.clone() }
    }
}

impl Log {
    /// Writes this epoch into the head, so that no lower one may write it any more. `is_known`: it was there before, as the
    /// local disk has it.
    pub async fn claim(place: Arc<Place>, epoch: u64, is_known: bool) -> Result<Self, ShipError> {
        let session = format!("{:032x}", segment::random()?);
        let object = place.shown(head::KEY);
        for _ in 0..CLAIMS {
            let found = head::read(&place).await?;
            let (head, put) = match found {
                None => {
                    let first = segment::key(FIRST);
                    if is_known {
                        let why = "this disk has shipped there before: name the right place, or remove shipped.json from the \
                                   store in the state directory to begin anew";
                        return Err(ShipError::Missing { object, why: why.into() });
                    }
                    if place.get(&first).await?.is_some() {
                        let why = format!("{} is there", place.shown(&first));
                        return Err(ShipError::Missing { object, why });
                    }
                    let head = Head::new(epoch, &session);
                    let put = place.create(head::KEY, head.encode()).await?;
                    (head, put)
                }
                Some((head, _)) if head.epoch > epoch => {
                    return Err(ShipError::Newer { object, found: head.epoch, own: epoch });
                }
                Some((before, version)) => {
                    let head = Head { epoch, session: session.clone(), ..before };
                    let put = place.replace(head::KEY, head.encode(), &version).await?;
                    (head, put)
                }
            };
            if let Put::Stored(head_version) = put {
                let (next, oldest) = (head.first(), head.removed.max(FIRST + 1));
                let previous = String::new();
                let last = None;
                return Ok(Self {
                    place,
                    epoch,
                    session,
                    head,
                    head_version,
                    next,
                    previous,
                    last,
                    oldest,
                });
            }
        }
        Err(ShipError::Unavailable(format!("{object} is written by others all the time")))
    }

    /// Reads on to the end.
    pub async fn read_on(
        &mut self,
        mut each: impl FnMut(&str, &Segment) -> Result<(), ShipError>,
    ) -> Result<(), ShipError> {
        loop {
            let numbers = self.next..self.next + WINDOW;
            let keys: Vec<_> = numbers.clone().map(segment::key).collect();
            let found = join_all(keys.iter().map(|key| self.place.get(key))).await;
            let (mut is_at_end, mut behind_it) = (false, None);
            for (number, found) in numbers.zip(found) {
                let object = self.place.shown(&segment::key(number));
                match found? {
                    None => is_at_end = true,
                    Some(_) if is_at_end => behind_it = Some(object),
                    Some((bytes, _)) => {
                        let segment = segment::decode(&object, &bytes)?;
                        self.check(&object, number, &segment)?;
                        each(&object, &segment)?;
                        self.next = number + 1;
                        self.last = Some((segment.head.session.clone(), segment.head.kind));
                        self.previous = segment.digest;
                    }
                }
            }
            if let Some(behind_it) = behind_it {
                self.look_again(&behind_it).await?;
                continue;
            }
            if !is_at_end {
                continue;
            }
            if self.next <= self.head.seen {
                let object = self.place.shown(&segment::key(self.next));
                let why = format!("{} knows of it", self.place.shown(head::KEY));
                return Err(ShipError::Missing { object, why });
            }
            return Ok(());
        }
    }

    /// The segments of a window are read beside each other: the next one may have been written after it was read, and before
    /// the one behind it. Then it is there now.
    async fn look_again(&self, behind_it: &str) -> Result<(), ShipError> {
        let key = segment::key(self.next);
        match self.place.get(&key).await? {
            Some(_) => Ok(()),
            None => {
                let why = format!("{behind_it} is there");
                Err(ShipError::Missing { object: self.place.shown(&key), why })
            }
        }
    }

    fn check(&self, object: &str, number: u64, segment: &Segment) -> Result<(), ShipError> {
        let SegmentHead { number: own, previous, .. } = &segment.head;
        if *own != number {
            return Err(ShipError::damaged(object, format!("it is the segment {own}")));
        }
        // The first one that is read follows one that may be removed.
        let follows = *previous == self.previous || (number == self.head.copy && number > 1);
        if !follows {
            return Err(ShipError::damaged(object, "it does not follow the segment before it"));
        }
        if number == self.head.copy && segment.digest != self.head.copy_digest {
            let what = format!("{} knows it with another checksum", self.place.shown(head::KEY));
            return Err(ShipError::damaged(object, what));
        }
        Ok(())
    }

    /// Makes the next segment. Nothing is written.
    pub fn make<'a>(
        &self,
        kind: Kind,
        (page_bytes, page_count): (u32, u32),
        pages: impl Iterator<Item = (u32, &'a [u8])>,
    ) -> Result<Made, ShipError> {
        let written_at = SystemTime::now().duration_since(UNIX_EPOCH);
        let head = SegmentHead {
            number: self.next,
            previous: self.previous.clone(),
            epoch: self.epoch,
            session: self.session.clone(),
            nonce: format!("{:032x}", segment::random()?),
            kind,
            page_bytes,
            page_count,
            written_at: written_at
                .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let (bytes, digest) = segment::encode(&head, pages)?;
        Ok(Made { number: self.next, bytes, digest, kind })
    }

    /// Writes a segment that was made. May be called again after an error that [may pass](ShipError::may_pass): what is there
    /// already is recognized.
    pub async fn append(&mut self, made: &Made) -> Result<(), ShipError> {
        let key = segment::key(made.number);
        if self.place.create(&key, made.bytes.clone()).await? == Put::Conflict {
            match self.place.get(&key).await? {
                Some((there, _)) if there == made.bytes => {}
                Some(_) => return Err(ShipError::Fenced { object: self.place.shown(&key) }),
                None => {
                    let text = format!("{} is neither taken nor there", self.place.shown(&key));
                    return Err(ShipError::Unavailable(text));
                }
            }
        }
        self.next = made.number + 1;
        self.previous.clone_from(&made.digest);
        self.last = Some((self.session.clone(), made.kind));
        Ok(())
    }

    /// A copy of all pages is in the log, from `first` on: readers begin there, and what is older than the copy before it [may
    /// go](Self::remove_oldest). May be called again after an error that [may pass](ShipError::may_pass).
    pub async fn begin_at(&mut self, first: &First) -> Result<(), ShipError> {
        if self.head.copy != first.number {
            let head = Head {
                copy: first.number,
                copy_digest: first.digest.clone(),
                copy_before: self.head.copy.max(1),
                removed: self.oldest,
                seen: self.next - 1,
                ..self.head.clone()
            };
            self.write_head(head).await?;
        }
        Ok(())
    }

    /// How many segments nobody reads any more.
    pub fn old_segments(&self) -> u64 {
        self.head.copy_before.saturating_sub(self.oldest)
    }

    /// Removes the oldest one of them.
    pub async fn remove_oldest(&mut self) -> Result<(), ShipError> {
        if self.old_segments() > 0 {
            self.place.remove(&segment::key(self.oldest)).await?;
            self.oldest += 1;
        }
        Ok(())
    }

    async fn write_head(&mut self, head: Head) -> Result<(), ShipError> {
        let object = self.place.shown(head::KEY);
        for _ in 0..2 {
            let put = self.place.replace(head::KEY, head.encode(), &self.head_version).await?;
            if let Put::Stored(version) = put {
                (self.head, self.head_version) = (head, version);
                return Ok(());
            }
            // An answer of this process may have been lost.
            match head::read(&self.place).await? {
                Some((there, version)) if there.session == self.session => {
                    self.head_version = version;
                }
                _ => return Err(ShipError::Fenced { object }),
            }
        }
        // One that was given up may still be on its way.
        Err(ShipError::Unavailable(format!("{object} is not written, and is this host's")))
    }
}
