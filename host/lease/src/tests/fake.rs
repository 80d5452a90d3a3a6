//! A register in memory that does what registers should not.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::fault::RegisterError;
use crate::protocol::{Record, Version};
use crate::register::{Register, Written};

/// What the register does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    #[default]
    Works,
    /// Says that it is away.
    Refuses,
    /// Never answers, and does nothing.
    Hangs,
    /// Does nothing, and says so late.
    LosesRequests,
    /// Does what it is asked, and never answers.
    LosesAnswers,
    /// The same of writes alone.
    LosesAnswersOfWrites,
    /// Is none.
    Misbehaves,
}

#[derive(Clone, Default)]
pub struct Fake(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    content: Option<(u64, Record)>,
    versions: u64,
    mood: Mood,
    writes: usize,
    calls: usize,
    /// The longest delay before and after a call, and the state of its random numbers.
    delay: (Duration, u64),
}

impl Fake {
    pub fn set(&self, mood: Mood) {
        self.0.lock().mood = mood;
    }

    pub fn delay_up_to(&self, longest: Duration, seed: u64) {
        self.0.lock().delay = (longest, seed);
    }

    pub fn writes(&self) -> usize {
        self.0.lock().writes
    }

    pub fn calls(&self) -> usize {
        self.0.lock().calls
    }

    /// Somebody else writes.
    pub fn replace(&self, new: impl FnOnce(Option<Record>) -> Option<Record>) {
        let state = &mut *self.0.lock();
        state.versions += 1;
        let record = new(state.content.take().map(|(_, record)| record));
        state.content = record.map(|record| (state.versions, record));
    }

    async fn delay(&self) {
        let delay = {
            let (longest, seed) = &mut self.0.lock().delay;
            let random = super::fastrand(*seed)();
            *seed = random;
            Duration::from_micros(random % (longest.as_micros() as u64 + 1))
        };
        if !delay.is_zero() {
            sleep(delay).await;
        }
    }

    async fn before(&self) -> Result<(), RegisterError> {
        let mood = {
            let mut state = self.0.lock();
            state.calls += 1;
            state.mood
        };
        match mood {
            Mood::Hangs => std::future::pending().await,
            Mood::Refuses => Err(RegisterError::unavailable("the register is away")),
            Mood::Misbehaves => Err(RegisterError::misbehaves("no register")),
            Mood::LosesRequests => {
                sleep(Duration::from_millis(900)).await;
                Err(RegisterError::unavailable("the connection broke"))
            }
            _ => {
                self.delay().await;
                Ok(())
            }
        }
    }

    async fn after(&self, is_write: bool) {
        let mood = self.0.lock().mood;
        if mood == Mood::LosesAnswers || mood == Mood::LosesAnswersOfWrites && is_write {
            std::future::pending::<()>().await;
        }
        self.delay().await;
    }
}

fn version(number: u64) -> Version {
    Version(number.to_string().into())
}

#[async_trait]
impl Register for Fake {
    async fn probe(&self) -> Result<(), RegisterError> {
        self.before().await
    }

    async fn read(&self) -> Result<Option<(Version, Record)>, RegisterError> {
        self.before().await?;
        let found = self.0.lock().content.clone();
        self.after(false).await;
        Ok(found.map(|(number, record)| (version(number), record)))
    }

    async fn write_if(
        &self,
        expected: Option<&Version>,
        record: &Record,
    ) -> Result<Written, RegisterError> {
        self.before().await?;
        let written = {
            let state = &mut *self.0.lock();
            let there = state.content.as_ref().map(|(number, _)| version(*number));
            if there.as_ref() == expected {
                state.writes += 1;
                state.versions += 1;
                state.content = Some((state.versions, record.clone()));
                Written::Stored(version(state.versions))
            } else {
                Written::Conflict
            }
        };
        self.after(true).await;
        Ok(written)
    }
}
