//! Messages that wait for an agent: bounded in number and in bytes, in order.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use bulkhead_model::Message;
use tokio::sync::{Notify, oneshot};

use crate::refusal::TurnReport;

/// A mailbox. Any number of senders, one reader.
pub struct Mailbox {
    max_messages: usize,
    max_bytes: usize,
    inner: Mutex<Inner>,
    arrived: Notify,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Envelope>,
    bytes: usize,
    closed: bool,
}

/// A message with the one who waits for its turn.
pub(crate) struct Envelope {
    pub message: Message,
    /// Told how the turn ended. Nobody may listen any more.
    pub report: Option<oneshot::Sender<TurnReport>>,
}

/// The mailbox takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailboxFull {
    /// Messages that wait.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
    /// It is full for ever: the agent has ended.
    pub closed: bool,
}

impl Mailbox {
    /// An empty mailbox.
    pub fn new(max_messages: usize, max_bytes: usize) -> Self {
        Self { max_messages, max_bytes, inner: Mutex::default(), arrived: Notify::new() }
    }

    /// Takes a message, or says how full it is.
    pub(crate) fn push(&self, envelope: Envelope) -> Result<(), MailboxFull> {
        let mut inner = self.lock();
        let bytes = inner.bytes + envelope.message.body.len();
        if inner.closed || inner.waiting.len() >= self.max_messages || bytes > self.max_bytes {
            let (messages, bytes, closed) = (inner.waiting.len(), inner.bytes, inner.closed);
            return Err(MailboxFull { messages, bytes, closed });
        }
        inner.bytes = bytes;
        inner.waiting.push_back(envelope);
        drop(inner);
        self.arrived.notify_one();
        Ok(())
    }

    /// The next message. Dropping the future loses nothing.
    pub(crate) async fn next(&self) -> Envelope {
        loop {
            if let Some(envelope) = self.pop() {
                return envelope;
            }
            // A push between the look above and this wait leaves a permit behind.
            self.arrived.notified().await;
        }
    }

    fn pop(&self) -> Option<Envelope> {
        let mut inner = self.lock();
        let envelope = inner.waiting.pop_front()?;
        inner.bytes -= envelope.message.body.len();
        Some(envelope)
    }

    /// Takes nothing more, and hands out what still waits.
    pub(crate) fn close(&self) -> Vec<Envelope> {
        let mut inner = self.lock();
        inner.closed = true;
        inner.bytes = 0;
        std::mem::take(&mut inner.waiting).into()
    }

    /// Messages that wait.
    pub fn depth(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Messages that wait, and their bytes.
    pub fn waiting(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.waiting.len(), inner.bytes)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_model::Sender;

    use super::*;

    fn envelope(id: &str, bytes: usize) -> Envelope {
        let body = "x".repeat(bytes).into();
        let message = Message { id: id.into(), sender: Sender::Operator, body };
        Envelope { message, report: None }
    }

    #[tokio::test]
    async fn messages_come_out_in_order_and_make_room() {
        let mailbox = Mailbox::new(2, 100);
        mailbox.push(envelope("1", 10)).unwrap();
        mailbox.push(envelope("2", 10)).unwrap();
        let full = mailbox.push(envelope("3", 10)).unwrap_err();
        assert_eq!(full, MailboxFull { messages: 2, bytes: 20, closed: false });
        assert_eq!(mailbox.waiting(), (2, 20));
        assert_eq!(mailbox.next().await.message.id, "1");
        mailbox.push(envelope("3", 10)).unwrap();
        assert_eq!(mailbox.next().await.message.id, "2");
        assert_eq!(mailbox.next().await.message.id, "3");
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mailbox = Mailbox::new(100, 100);
        mailbox.push(envelope("1", 60)).unwrap();
        assert!(mailbox.push(envelope("2", 60)).is_err());
        mailbox.push(envelope("3", 40)).unwrap();
    }

    #[test]
    fn a_closed_mailbox_hands_out_what_waits_and_takes_nothing() {
        let mailbox = Mailbox::new(10, 100);
        mailbox.push(envelope("1", 1)).unwrap();
        assert_eq!(mailbox.close().len(), 1);
        assert_eq!(mailbox.waiting(), (0, 0));
        assert!(mailbox.push(envelope("2", 1)).unwrap_err().closed);
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken() {
        let mailbox = std::sync::Arc::new(Mailbox::new(10, 100));
        let reader = std::sync::Arc::clone(&mailbox);
        let (read, pushed) = tokio::join!(async move { reader.next().await.message.id }, async {
            tokio::task::yield_now().await;
            mailbox.push(envelope("1", 1))
        });
        pushed.unwrap();
        assert_eq!(read, "1");
    }
}
