//! The loop: does what the protocol says next, and reports what that changes.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::clock::{Clock, System};
use crate::document::MAX_TEXT;
use crate::fault::RegisterError;
use crate::protocol::{
    Boottime, Identity, Lost, Permit, Protocol, Record, Step, Wrote, request_patience,
};
use crate::register::{self, Register, Written};
use crate::settings::{Settings, Ttl};

/// The lease of one town, and this process as one that asks for it.
pub struct Lease {
    register: Box<dyn Register>,
    protocol: Protocol,
    clock: Arc<dyn Clock>,
    ttl: Duration,
    /// The register was tried, and does what it has to do.
    is_probed: bool,
    /// What the last request that failed said, while none of its kind has succeeded.
    failing: Option<Failing>,
}

struct Failing {
    is_write: bool,
    said: String,
}

/// How the lease is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It is not held here.
    Waiting {
        /// Of the record that was read last. `None`: there is none, or it was not read yet.
        holder: Option<Holder>,
        /// When this process may take it, if the register stays as it was read last: later with each renewal.
        free_at: Option<Boottime>,
        /// Why the register does not answer, while it does not.
        failing: Option<String>,
    },
    /// It is held here. Reported for each renewal, with later moments.
    Held(Permit),
    /// It is not held here any more, and there was no time or no way to give it back. What runs has to end before
    /// [`Permit::until`] of the last [`Status::Held`].
    Lost {
        /// What became of it.
        why: Lost,
        /// What the register said to the last request, if that failed.
        failing: Option<String>,
    },
}

/// Which process holds the lease, or held it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its name.
    pub name: Arc<str>,
    /// Where it is reached. May be empty.
    pub endpoint: Arc<str>,
    /// Its epoch.
    pub epoch: u64,
    /// It gave the lease back.
    pub released: bool,
}

/// How [`Lease::hold`] ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The register has that it is given back, or it was not held.
    Released,
    /// It was not given back: the register did not answer in time, or the caller gave up. Others wait for the TTL.
    Abandoned,
    /// As the last [`Status`] says.
    Lost(Lost),
}

/// Tries a register as a process does before it asks for the lease: whether it is there, lets this user write, and honours
/// conditions. Returns who holds the lease, or held it last. The lease is not changed.
pub async fn try_register(settings: &Settings) -> Result<Option<Holder>, RegisterError> {
    let register = register::open(settings)?;
    let patience = settings.ttl.get();
    let tried = timeout(patience, register.probe()).await;
    tried.unwrap_or_else(|_| Err(too_late(patience)))?;
    let patience = request_patience(patience);
    let read = timeout(patience, register.read()).await.unwrap_or_else(|_| Err(too_late(patience)));
    Ok(read?.map(|(_, record)| Holder::of(&record)))
}

impl Lease {
    /// Nothing is called yet. `floor` is the highest epoch that this machine knows of, or 0. Texts of the identity are
    /// shortened to 256 bytes.
    pub fn open(settings: &Settings, me: Identity, floor: u64) -> Result<Self, RegisterError> {
        let register = register::open(settings)?;
        Ok(Self::new(register, me, settings.ttl, floor, Arc::new(System)))
    }

    /// The same with a register and a clock of one's own.
    pub fn new(
        register: Box<dyn Register>,
        me: Identity,
        ttl: Ttl,
        floor: u64,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let short = |text: &str| Arc::from(&text[..text.floor_char_boundary(MAX_TEXT)]);
        let me = Identity { holder: short(&me.holder), endpoint: short(&me.endpoint) };
        let (ttl, protocol) = (ttl.get(), Protocol::new(me, ttl.get(), floor));
        Self { register, protocol, clock, ttl, is_probed: false, failing: None }
    }

    /// This machine gave the lease of this epoch back so that another one takes it. It leaves it to others for 30 % of the TTL.
    pub fn yields(&mut self, epoch: u64) {
        self.protocol.yields(epoch);
    }

    /// The highest epoch that was seen. Worth keeping: see [`Lease::open`].
    pub fn floor(&self) -> u64 {
        self.protocol.floor()
    }

    /// Waits for the lease, holds it until `release` is ready, and gives it back. `notify` is called at each change, on
    /// this task, and must not block. Nothing that needs the permit may run when `release` is ready.
    ///
    /// It also ends when the lease is lost. It may be called again, once nothing of the lost one runs. An error is a
    /// register that misbehaves when it is tried first; everything else is tried again for ever, and reported.
    ///
    /// If the future is dropped the lease is not given back, and others wait for the TTL.
    pub async fn hold(
        &mut self,
        mut notify: impl FnMut(&Status),
        release: impl Future<Output = ()>,
    ) -> Result<Ended, RegisterError> {
        let mut release = pin!(release);
        let mut shown = None;
        let mut release_by = None;
        self.protocol.resume();
        loop {
            if release_by.is_none() && is_ready(release.as_mut()).await {
                release_by = Some(self.release());
            }
            let step = if self.is_probed || release_by.is_some() {
                self.protocol.step(self.clock.now(), nonce())
            } else {
                tokio::select! {
                    step = self.probe() => step?,
                    () = release.as_mut() => {
                        release_by = Some(self.release());
                        continue;
                    }
                }
            };
            if let Some(ended) = self.report(&mut shown, &mut notify, release_by) {
                return Ok(ended);
            }
            match step {
                Step::Released => return Ok(Ended::Released),
                Step::Wait(until) => {
                    let pause = sleep(until.since(self.clock.now()));
                    match release_by {
                        Some(_) => pause.await,
                        None => tokio::select! {
                            () = pause => {}
                            () = release.as_mut() => release_by = Some(self.release()),
                        },
                    }
                }
                Step::Read | Step::Write { .. } => self.ask(step).await,
            }
        }
    }

    /// Says until when it is tried to give the lease back.
    fn release(&mut self) -> Boottime {
        self.protocol.release();
        self.clock.now().after(self.ttl)
    }

    /// Tries the register. What is to be done after it is the next step's.
    async fn probe(&mut self) -> Result<Step, RegisterError> {
        let probed = timeout(self.ttl, self.register.probe()).await;
        let pause = match probed.unwrap_or_else(|_| Err(too_late(self.ttl))) {
            Ok(()) => {
                self.is_probed = true;
                self.failing = None;
                Duration::ZERO
            }
            Err(error @ RegisterError::Misbehaves(_)) => return Err(error),
            Err(error) => {
                self.failing = Some(Failing { is_write: true, said: error.to_string() });
                request_patience(self.ttl)
            }
        };
        Ok(Step::Wait(self.clock.now().after(pause)))
    }

    /// Makes the request, within its time and that of the permit.
    async fn ask(&mut self, step: Step) {
        let mut patience = request_patience(self.ttl);
        if let Some(permit) = self.protocol.permit() {
            patience = patience.min(permit.fence_at.since(self.clock.now()));
        }
        let late = |_| Err(too_late(patience));
        match step {
            Step::Read => {
                let read = timeout(patience, self.register.read()).await.unwrap_or_else(late);
                let now = self.clock.now();
                match &read {
                    Err(error) => {
                        self.failing = Some(Failing { is_write: false, said: error.to_string() });
                    }
                    // A register that can be read may still refuse what is written.
                    Ok(_) => _ = self.failing.take_if(|failing| !failing.is_write),
                }
                self.protocol.read(now, read.ok());
            }
            Step::Write { expected, record } => {
                let write = self.register.write_if(expected.as_ref(), &record);
                let wrote =
                    timeout(patience, write).await.unwrap_or_else(|_| Err(too_late(patience)));
                let now = self.clock.now();
                self.failing = wrote
                    .as_ref()
                    .err()
                    .map(|error| Failing { is_write: true, said: error.to_string() });
                self.protocol.wrote(
                    now,
                    match wrote {
                        Ok(Written::Stored(version)) => Wrote::Written(version),
                        Ok(Written::Conflict) | Err(_) => Wrote::Unclear,
                    },
                );
            }
            Step::Wait(_) | Step::Released => {}
        }
    }

    /// Reports what is another than was shown. Says how it ends, if it does.
    fn report(
        &mut self,
        shown: &mut Option<Status>,
        notify: &mut impl FnMut(&Status),
        release_by: Option<Boottime>,
    ) -> Option<Ended> {
        let lost = self.protocol.take_lost();
        if let Some(release_by) = release_by {
            return (self.clock.now() >= release_by).then_some(Ended::Abandoned);
        }
        let was_held = matches!(shown, Some(Status::Held(_)));
        if let Some(why) = lost.filter(|_| was_held) {
            let failing = self.failing.as_ref().map(|failing| failing.said.clone());
            notify(&Status::Lost { why: why.clone(), failing });
            return Some(Ended::Lost(why));
        }
        let status = match self.protocol.permit() {
            Some(permit) => Status::Held(permit),
            None => Status::Waiting {
                holder: self.protocol.record().map(Holder::of),
                free_at: self.protocol.free_at(),
                failing: self.failing.as_ref().map(|failing| failing.said.clone()),
            },
        };
        if shown.as_ref() != Some(&status) {
            notify(&status);
            *shown = Some(status);
        }
        None
    }
}

impl Holder {
    fn of(record: &Record) -> Self {
        Self {
            name: Arc::clone(&record.holder),
            endpoint: Arc::clone(&record.endpoint),
            epoch: record.epoch,
            released: record.released,
        }
    }
}

fn too_late(patience: Duration) -> RegisterError {
    RegisterError::unavailable(format!("no answer within {} ms", patience.as_millis()))
}

async fn is_ready(mut future: Pin<&mut impl Future<Output = ()>>) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await
}

/// Of one write alone. The address of a variable and the time would not do: two machines may be copies of each other.
fn nonce() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the kernel has random numbers");
    u128::from_ne_bytes(bytes)
}
