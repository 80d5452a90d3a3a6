//! Callers that wait for the next commit.

use tokio::sync::oneshot;

use super::answers::{NotDurable, Receipt};

/// Most that wait. A caller that comes when all of them still do is answered at once, with a refusal.
const MAX_WAITERS: usize = 4096;

type Waiter = oneshot::Sender<Result<(), NotDurable>>;

/// A bounded list. Those who gave up, because the disk hangs, make room for others.
#[derive(Default)]
pub(super) struct Waiters(Vec<Waiter>);

impl Waiters {
    /// One more, who gets the receipt.
    pub fn push(&mut self) -> Receipt {
        let (waiter, receipt) = oneshot::channel();
        if self.0.len() >= MAX_WAITERS {
            self.0.retain(|waiter| !waiter.is_closed());
        }
        if self.0.len() < MAX_WAITERS {
            self.0.push(waiter);
        } else {
            let _ = waiter.send(Err(NotDurable::too_many()));
        }
        Receipt(receipt)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them are answered alike.
    pub fn answer(self, answer: &Result<(), NotDurable>) {
        for waiter in self.0 {
            let _ = waiter.send(answer.clone());
        }
    }
}

impl Receipt {
    /// One that is there already.
    pub(super) fn at_once() -> Self {
        let (waiter, receipt) = oneshot::channel();
        let _ = waiter.send(Ok(()));
        Self(receipt)
    }

    /// One of a database that is closed.
    pub(super) fn never() -> Self {
        Self(oneshot::channel().1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_gave_up_make_room_and_past_the_bound_one_is_refused_at_once() {
        let mut waiters = Waiters::default();
        for _ in 0..10 * MAX_WAITERS {
            drop(waiters.push());
        }
        assert!(waiters.0.len() <= MAX_WAITERS, "{} wait", waiters.0.len());
        let patient: Vec<_> = (0..MAX_WAITERS).map(|_| waiters.push()).collect();
        let refused = waiters.push().wait().unwrap_err();
        assert!(refused.to_string().contains("too many"), "{refused}");
        waiters.answer(&Ok(()));
        assert!(patient.into_iter().all(|receipt| receipt.wait().is_ok()));
    }
}
