//! Messages that wait for an agent: bounded in number and in bytes, in order. Nudges wait beside them,
//! with bounds of their own, and come when no message does.
//!
//! A mailbox belongs to a start and survives the restarts of its agent. The start that replaces it takes over what waits.
//! What waits in it is held by the agent's account, and so is a message until its turn is over. A message whose turn did
//! not end is put back, in front of the others. The one that was taken is in hand until somebody says what became of it.

use std::collections::VecDeque;
use std::sync::Arc;

use bulkhead_account::{Account, Charge, OverLimit};
use bulkhead_runtime::Nudge;
use bulkhead_telemetry::TraceContext;
use bulkhead_types::{HostKind, Message, Sender};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::refusal::TurnReport;

/// Nudges that may wait for one agent, and their bytes. They are hints, not work.
const NUDGE_BOUNDS: Bounds = Bounds { messages: 64, bytes: 256 * 1024 };

/// The part of an agent's memory limit that its mail may take, so that senders cannot take its memory
/// from an agent. One message is taken in any case, if there is room for it at all.
const SHARE_OF_LIMIT: u64 = 8;

/// What a message or a nudge takes beside its text: ids, a slot in the queue, the sender that waits for it.
const OVERHEAD_BYTES: usize = 512;

/// A mailbox. Any number of senders, one reader.
pub struct Mailbox {
    bounds: Bounds,
    account: Arc<Account>,
    inner: Mutex<Inner>,
    arrived: Notify,
}

#[derive(Default)]
struct Inner {
    messages: Queue<Envelope>,
    nudges: Queue<HeldNudge>,
    in_hand: Option<InHand>,
    closed: bool,
}

/// A message that was taken, with what became of it before.
pub(crate) struct InHand {
    message: Message,
    past: PastDeliveries,
}

struct Queue<T> {
    waiting: VecDeque<T>,
    bytes: usize,
}

/// Something that waits and takes room.
trait Waiting {
    fn bytes(&self) -> usize;
}

#[derive(Clone, Copy)]
struct Bounds {
    messages: usize,
    bytes: usize,
}

/// What waited when a mailbox was closed.
#[derive(Default)]
pub(crate) struct Undelivered {
    pub messages: Vec<Envelope>,
    pub nudges: Vec<HeldNudge>,
}

impl Undelivered {
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.nudges.is_empty()
    }
}

/// What a nudge takes: its turn carries its id twice.
fn nudge_bytes(nudge: &Nudge) -> usize {
    nudge.body.len() + 2 * nudge.id.len() + nudge.source.len()
}

/// A nudge that waits.
pub(crate) struct HeldNudge {
    nudge: Nudge,
    held: Charge,
}

/// A message with the sender that waits for its turn.
pub(crate) struct Envelope {
    pub message: Message,
    /// Gets how the turn ended. Nobody may listen any more.
    pub report: Option<oneshot::Sender<TurnReport>>,
    /// Its bytes, once it is in a mailbox and until its turn is over.
    pub held: Option<Charge>,
    /// What became of its deliveries so far.
    pub past: PastDeliveries,
    /// The span that caused it, if its sender named one.
    pub trace: Option<TraceContext>,
}

/// Deliveries of a message in which its agent ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PastDeliveries {
    /// Those that ended through the agent, or with the host.
    pub faults: u32,
    /// Their crash records, oldest first, the last [`MAX_CRASH_IDS`]; also those of ends that do not count.
    pub crash_ids: Vec<String>,
}

/// Why a mailbox took nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTaken {
    /// It is full.
    Full(MailboxFull),
    /// The agent may not hold as much.
    OverLimit(OverLimit),
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
    /// An empty mailbox. What waits in it is held by `account`.
    pub fn new(max_messages: usize, max_bytes: usize, account: Arc<Account>) -> Self {
        let bounds = Bounds { messages: max_messages, bytes: max_bytes };
        Self { bounds, account, inner: Mutex::default(), arrived: Notify::new() }
    }

    /// Takes a message, or says why not. `announce` reports that it was taken, before anybody can take it out: what
    /// comes of it is logged later.
    pub(crate) fn push(
        &self,
        mut envelope: Envelope,
        announce: impl FnOnce(),
    ) -> Result<(), NotTaken> {
        let mut inner = self.inner.lock();
        inner.messages.check(envelope.bytes(), self.bounds, inner.closed)?;
        envelope.held = Some(self.charge(envelope.bytes())?);
        inner.messages.put_last(envelope);
        announce();
        drop(inner);
        self.arrived.notify_one();
        Ok(())
    }

    /// Takes the prompt of a start, before everything else. There is room for it when there would be in an empty
    /// mailbox, and its agent may hold it.
    pub(crate) fn push_prompt(&self, mut prompt: Envelope) -> Result<(), NotTaken> {
        let bytes = prompt.bytes();
        let mut inner = self.inner.lock();
        Queue::<Envelope>::default().check(bytes, self.one_more(), inner.closed)?;
        let charged = self.account.charge(HostKind::Mailbox, (bytes + OVERHEAD_BYTES) as u64);
        prompt.held = Some(charged.map_err(NotTaken::OverLimit)?);
        inner.messages.put_first(vec![prompt]);
        drop(inner);
        self.arrived.notify_one();
        Ok(())
    }

    /// Takes a message whose turn its agent ended in, before everything else. It was accepted, so no bound applies.
    /// Yields it when the mailbox is closed.
    pub(crate) fn put_back(&self, mut envelope: Envelope) -> Option<Envelope> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Some(envelope);
        }
        if envelope.held.is_none() {
            // It was held before, by this run or an earlier one: what finds no room now is delivered all the same.
            let bytes = (envelope.bytes() + OVERHEAD_BYTES) as u64;
            envelope.held = self.account.charge(HostKind::Mailbox, bytes).ok();
        }
        inner.messages.put_first(vec![envelope]);
        drop(inner);
        self.arrived.notify_one();
        None
    }

    /// The bounds for a mailbox that takes one message in any case.
    fn one_more(&self) -> Bounds {
        Bounds { messages: self.bounds.messages.max(1), ..self.bounds }
    }

    /// Takes a nudge, or says why not. `announce` is that of [`Self::push`].
    pub(crate) fn push_nudge(&self, nudge: Nudge, announce: impl FnOnce()) -> Result<(), NotTaken> {
        let mut inner = self.inner.lock();
        let bytes = nudge_bytes(&nudge);
        inner.nudges.check(bytes, NUDGE_BOUNDS, inner.closed)?;
        let held = self.charge(bytes)?;
        inner.nudges.put_last(HeldNudge { nudge, held });
        announce();
        drop(inner);
        self.arrived.notify_one();
        Ok(())
    }

    fn charge(&self, text_bytes: usize) -> Result<Charge, NotTaken> {
        let bytes = (text_bytes + OVERHEAD_BYTES) as u64;
        let share = self.account.limit_bytes().map_or(u64::MAX, |limit| limit / SHARE_OF_LIMIT);
        let charged = self.account.charge_within(HostKind::Mailbox, bytes, share);
        charged.map_err(NotTaken::OverLimit)
    }

    /// Takes over what waited in another mailbox, before everything else. Its bounds do not apply: these
    /// messages were accepted. A prompt that waited was the other start's and is left out.
    pub(crate) fn adopt(&self, before: Undelivered) {
        let mut inner = self.inner.lock();
        let is_mail = |envelope: &Envelope| envelope.message.sender != Sender::Prompt;
        inner.messages.put_first(before.messages.into_iter().filter(is_mail).collect());
        inner.nudges.put_first(before.nudges);
        drop(inner);
        self.arrived.notify_one();
    }

    /// The next message, else the next nudge. Dropping the future loses nothing.
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
        let mut inner = self.inner.lock();
        let envelope = inner.messages.pop().or_else(|| inner.nudges.pop().map(Envelope::from))?;
        let (message, past) = (envelope.message.clone(), envelope.past.clone());
        inner.in_hand = Some(InHand { message, past });
        Some(envelope)
    }

    /// The message that was taken, without the sender that waits for it.
    pub(crate) fn in_hand(&self) -> Option<Envelope> {
        self.inner.lock().in_hand.as_ref().map(InHand::envelope)
    }

    /// What was taken is over, and `settle` writes that down before anybody else can. It gets nothing when somebody
    /// said so before.
    pub(crate) fn lay_down<R>(&self, settle: impl FnOnce(Option<Envelope>) -> R) -> R {
        let mut inner = self.inner.lock();
        let in_hand = inner.in_hand.take().as_ref().map(InHand::envelope);
        settle(in_hand)
    }

    /// Takes the nudges that wait.
    pub(crate) fn take_nudges(&self) -> Vec<Nudge> {
        let waiting = std::mem::take(&mut self.inner.lock().nudges).waiting;
        waiting.into_iter().map(|held| held.nudge).collect()
    }

    /// Takes nothing more, and hands out what still waits.
    pub(crate) fn close(&self) -> Undelivered {
        let mut inner = self.inner.lock();
        inner.closed = true;
        let messages = std::mem::take(&mut inner.messages).waiting.into();
        Undelivered { messages, nudges: std::mem::take(&mut inner.nudges).waiting.into() }
    }

    /// Bytes of messages that may wait.
    pub fn max_bytes(&self) -> usize {
        self.bounds.bytes
    }

    /// Whether no message waits, and none is in hand.
    pub(crate) fn is_settled(&self) -> bool {
        let inner = self.inner.lock();
        inner.messages.waiting.is_empty() && inner.in_hand.is_none()
    }

    /// Whether a message waits that was delivered before.
    pub(crate) fn has_mail_again(&self) -> bool {
        self.inner.lock().messages.waiting.iter().any(Envelope::is_mail_again)
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        let inner = self.inner.lock();
        inner.messages.waiting.is_empty() && inner.nudges.waiting.is_empty()
    }

    /// Messages that wait.
    pub fn depth(&self) -> usize {
        self.inner.lock().messages.waiting.len()
    }

    /// Nudges that wait.
    pub fn nudges(&self) -> usize {
        self.inner.lock().nudges.waiting.len()
    }

    /// Messages and nudges that wait, and their bytes.
    pub fn waiting(&self) -> (usize, usize) {
        let Inner { messages, nudges, .. } = &*self.inner.lock();
        (messages.waiting.len() + nudges.waiting.len(), messages.bytes + nudges.bytes)
    }
}

impl<T: Waiting> Queue<T> {
    /// Whether there is room for so many bytes more.
    fn check(&self, more: usize, bounds: Bounds, closed: bool) -> Result<(), NotTaken> {
        let (messages, bytes) = (self.waiting.len(), self.bytes);
        if closed || messages >= bounds.messages || bytes + more > bounds.bytes {
            return Err(NotTaken::Full(MailboxFull { messages, bytes, closed }));
        }
        Ok(())
    }

    fn put_last(&mut self, item: T) {
        self.bytes += item.bytes();
        self.waiting.push_back(item);
    }

    fn put_first(&mut self, items: Vec<T>) {
        for item in items.into_iter().rev() {
            self.bytes += item.bytes();
            self.waiting.push_front(item);
        }
    }

    fn pop(&mut self) -> Option<T> {
        let item = self.waiting.pop_front()?;
        self.bytes -= item.bytes();
        Some(item)
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), bytes: 0 }
    }
}

impl Waiting for Envelope {
    fn bytes(&self) -> usize {
        self.message.body.len()
    }
}

impl Waiting for HeldNudge {
    fn bytes(&self) -> usize {
        nudge_bytes(&self.nudge)
    }
}

impl Envelope {
    /// A message that is on its way to a mailbox.
    pub(crate) fn new(message: Message, report: Option<oneshot::Sender<TurnReport>>) -> Self {
        Self { message, report, held: None, past: PastDeliveries::default(), trace: None }
    }

    /// Whether it was delivered before, and is no prompt.
    pub(crate) fn is_mail_again(&self) -> bool {
        self.message.attempt > 1 && self.message.sender != Sender::Prompt
    }
}

impl InHand {
    fn envelope(&self) -> Envelope {
        Envelope { past: self.past.clone(), ..Envelope::new(self.message.clone(), None) }
    }
}

impl From<HeldNudge> for Envelope {
    /// The turn of a nudge carries its id twice: as the message and as its sender.
    fn from(HeldNudge { nudge, held }: HeldNudge) -> Self {
        let message = Message::new(nudge.id.clone(), Sender::Nudge(nudge.id), nudge.body);
        Self { held: Some(held), ..Self::new(message, None) }
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_types::Sender;

    use super::*;

    fn envelope(id: &str, bytes: usize) -> Envelope {
        Envelope::new(Message::new(id, Sender::Operator, "x".repeat(bytes)), None)
    }

    fn of(messages: usize, bytes: usize) -> Mailbox {
        Mailbox::new(messages, bytes, Arc::default())
    }

    fn quietly() {}

    #[tokio::test]
    async fn messages_come_out_in_order_and_make_room() {
        let mailbox = of(2, 100);
        mailbox.push(envelope("1", 10), quietly).unwrap();
        mailbox.push(envelope("2", 10), quietly).unwrap();
        let full = mailbox.push(envelope("3", 10), quietly).unwrap_err();
        assert_eq!(full, NotTaken::Full(MailboxFull { messages: 2, bytes: 20, closed: false }));
        assert_eq!(mailbox.waiting(), (2, 20));
        assert_eq!(mailbox.next().await.message.id, "1");
        mailbox.push(envelope("3", 10), quietly).unwrap();
        assert_eq!(mailbox.next().await.message.id, "2");
        assert_eq!(mailbox.next().await.message.id, "3");
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mailbox = of(100, 100);
        mailbox.push(envelope("1", 60), quietly).unwrap();
        assert!(mailbox.push(envelope("2", 60), quietly).is_err());
        mailbox.push(envelope("3", 40), quietly).unwrap();
    }

    #[test]
    fn a_closed_mailbox_hands_out_what_waits_and_takes_nothing() {
        let mailbox = of(10, 100);
        mailbox.push(envelope("1", 1), quietly).unwrap();
        assert_eq!(mailbox.close().messages.len(), 1);
        assert_eq!(mailbox.waiting(), (0, 0));
        let not_taken = mailbox.push(envelope("2", 1), quietly).unwrap_err();
        assert!(matches!(not_taken, NotTaken::Full(full) if full.closed), "{not_taken:?}");
    }

    #[tokio::test]
    async fn nudges_come_when_no_message_does_and_have_bounds_of_their_own() {
        let mailbox = of(1, 100);
        let nudge = |id: &str| Nudge { id: id.into(), body: "x".into(), source: "test".into() };
        mailbox.push_nudge(nudge("n1"), quietly).unwrap();
        mailbox.push(envelope("1", 10), quietly).unwrap();
        mailbox.push_nudge(nudge("n2"), quietly).unwrap();
        assert_eq!(mailbox.next().await.message.id, "1");
        assert_eq!(mailbox.next().await.message.id, "n1");
        assert_eq!(mailbox.take_nudges()[0].id, "n2");
        assert!(mailbox.is_empty());
        let mailbox = of(1, 1);
        let taken = (0..2 * NUDGE_BOUNDS.messages)
            .filter(|_| mailbox.push_nudge(nudge("x"), quietly).is_ok());
        assert_eq!(taken.count(), NUDGE_BOUNDS.messages);
    }

    #[tokio::test]
    async fn a_message_is_in_hand_from_the_moment_it_is_taken_until_it_is_laid_down() {
        let mailbox = of(10, 100);
        assert!(mailbox.is_settled());
        mailbox.push(envelope("1", 1), quietly).unwrap();
        assert!(!mailbox.is_settled());
        let taken = mailbox.next().await;
        assert_eq!((mailbox.depth(), mailbox.is_settled()), (0, false));
        assert_eq!(mailbox.in_hand().map(|it| it.message), Some(taken.message));
        assert!(mailbox.lay_down(|it| it.is_some()) && mailbox.is_settled());
        assert!(mailbox.lay_down(|it| it.is_none()), "once");
    }

    #[tokio::test]
    async fn what_waited_elsewhere_comes_first_in_its_order_and_prompts_stay_behind() {
        let (old, new) = (of(10, 100), of(1, 100));
        let mut prompt = envelope("prompt", 1);
        prompt.message.sender = Sender::Prompt;
        old.push(prompt, quietly).unwrap();
        old.push(envelope("1", 1), quietly).unwrap();
        old.push(envelope("2", 1), quietly).unwrap();
        new.push(envelope("3", 1), quietly).unwrap();
        new.adopt(old.close());
        for id in ["1", "2", "3"] {
            assert_eq!(new.next().await.message.id, id);
        }
        assert!(new.is_empty());
    }

    #[tokio::test]
    async fn a_prompt_and_what_is_put_back_are_first_whatever_waits() {
        let account = Arc::new(Account::default());
        account.begin(10_000, 80, None);
        let mailbox = Mailbox::new(1, 100, Arc::clone(&account));
        mailbox.push(envelope("1", 60), quietly).unwrap();
        assert!(mailbox.put_back(envelope("again", 60)).is_none());
        mailbox.push_prompt(envelope("prompt", 60)).unwrap();
        assert_eq!(account.reading().host.mailbox, 3 * (60 + OVERHEAD_BYTES as u64));
        for id in ["prompt", "again", "1"] {
            assert_eq!(mailbox.next().await.message.id, id);
        }
        let too_large = mailbox.push_prompt(envelope("prompt", 101)).unwrap_err();
        assert!(matches!(too_large, NotTaken::Full(_)), "{too_large:?}");
        let _rest = account.charge(HostKind::Events, 9_900).unwrap();
        let no_memory = mailbox.push_prompt(envelope("prompt", 100)).unwrap_err();
        assert!(matches!(no_memory, NotTaken::OverLimit(_)), "{no_memory:?}");
        assert!(mailbox.is_empty());
        assert!(mailbox.put_back(envelope("again", 100)).is_none());
        mailbox.close();
        assert!(mailbox.put_back(envelope("again", 1)).is_some());
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken() {
        let mailbox = std::sync::Arc::new(of(10, 100));
        let reader = std::sync::Arc::clone(&mailbox);
        let (read, pushed) = tokio::join!(async move { reader.next().await.message.id }, async {
            tokio::task::yield_now().await;
            mailbox.push(envelope("1", 1), quietly)
        });
        pushed.unwrap();
        assert_eq!(read, "1");
    }

    #[tokio::test]
    async fn mail_is_held_by_the_agent_until_its_turn_is_over_and_refused_without_room() {
        let account = Arc::new(Account::default());
        account.begin(2000, 80, None);
        let mailbox = Mailbox::new(10, 10_000, Arc::clone(&account));
        mailbox.push(envelope("1", 1000), quietly).unwrap();
        let not_taken = mailbox.push(envelope("2", 1), quietly).unwrap_err();
        assert!(matches!(not_taken, NotTaken::OverLimit(_)), "its share is used: {not_taken:?}");
        assert_eq!(mailbox.waiting(), (1, 1000), "what was refused does not wait");
        let in_its_turn = mailbox.next().await;
        assert_eq!(account.reading().host.mailbox, 1512);
        drop(in_its_turn);
        assert_eq!(account.reading().host.mailbox, 0);
        account.hold_guest(600).unwrap();
        assert!(mailbox.push(envelope("2", 1000), quietly).is_err(), "the guest has the rest");
        account.hold_guest(400).unwrap();
        mailbox.push(envelope("2", 1000), quietly).unwrap();
        drop(mailbox.close());
        assert_eq!(account.reading().host.mailbox, 0);
    }
}
