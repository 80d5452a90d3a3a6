// Messages, as far as they matter here. Included beside each version of the slot, like the world: a mailbox belongs
// to a start and all its restarts, its senders wait, and the journal has one lane for the message in its turn or in
// front of its mailbox (`host/agent/src/actor/delivery.rs`, `host/store/src/journal.rs`).

use std::sync::{Arc, Mutex as Plain};

/// Deliveries of one message.
const MAX_ATTEMPTS: u32 = 2;

/// All messages, and the lane of the journal.
#[derive(Default)]
pub(super) struct Office(Plain<Books>);

#[derive(Default)]
struct Books {
    /// Of each message how often its sender was answered.
    answers: Vec<u32>,
    /// Which start has the lane.
    taking: u64,
    /// The message that the next run would deliver, were this one killed now.
    record: Option<usize>,
}

pub(super) struct Mailbox {
    office: Arc<Office>,
    mail: Plain<Mail>,
}

#[derive(Default)]
struct Mail {
    waiting: Vec<Letter>,
    closed: bool,
    /// Under which taking of the lane its records are.
    taking: Option<u64>,
}

/// A message.
pub(super) struct Letter {
    id: usize,
    deliveries: u32,
}

impl Office {
    /// A mailbox of a new start, with a message that waits.
    pub(super) fn open(self: &Arc<Self>) -> Arc<Mailbox> {
        let mut books = self.0.lock().unwrap();
        books.answers.push(0);
        let letter = Letter { id: books.answers.len() - 1, deliveries: 0 };
        let mail = Mail { waiting: vec![letter], ..Mail::default() };
        Arc::new(Mailbox { office: Arc::clone(self), mail: Plain::new(mail) })
    }

    // What `Journal::take` does.
    fn take(&self, adopts_mail: bool) -> u64 {
        let mut books = self.0.lock().unwrap();
        books.taking += 1;
        if !adopts_mail {
            books.record = None;
        }
        books.taking
    }

    fn write(&self, taking: Option<u64>, letter: &Letter) {
        let mut books = self.0.lock().unwrap();
        assert_eq!(Some(books.taking), taking, "a message is written into another's lane");
        assert_eq!(books.answers[letter.id], 0, "a message is delivered after its answer");
        let has_record = letter.deliveries == 0 || books.record == Some(letter.id);
        assert!(has_record, "a message that waits to be delivered again has no record");
        books.record = Some(letter.id);
    }

    fn is_done(&self, letter: &Letter) {
        let mut books = self.0.lock().unwrap();
        books.record.take_if(|record| *record == letter.id);
    }

    // What `JournalSlot::forgets` does.
    fn forget(&self, taking: Option<u64>) {
        let mut books = self.0.lock().unwrap();
        if Some(books.taking) == taking {
            books.record = None;
        }
    }

    fn answer(&self, letter: Letter) {
        let mut books = self.0.lock().unwrap();
        books.answers[letter.id] += 1;
        assert_eq!(books.answers[letter.id], 1, "a sender was answered twice");
        assert_ne!(books.record, Some(letter.id), "a record outlives its answer");
    }

    /// Nothing waits any more.
    pub(super) fn check_end(&self) {
        let books = self.0.lock().unwrap();
        assert!(books.answers.iter().all(|answers| *answers == 1), "a sender was not answered");
        assert_eq!(books.record, None, "a record is left");
    }
}

impl Mailbox {
    /// Its start has its turn.
    pub(super) fn begins(&self) {
        let mut mail = self.mail.lock().unwrap();
        let adopts_mail = mail.waiting.iter().any(|letter| letter.deliveries > 0);
        mail.taking = Some(self.office.take(adopts_mail));
    }

    /// The next message goes into its turn.
    pub(super) fn take(&self) -> Option<Letter> {
        let mut mail = self.mail.lock().unwrap();
        let first = (!mail.waiting.is_empty()).then(|| mail.waiting.remove(0))?;
        self.office.write(mail.taking, &first);
        Some(Letter { deliveries: first.deliveries + 1, ..first })
    }

    /// Its turn is over, or nobody delivers it again.
    pub(super) fn is_done(&self, letter: &Letter) {
        self.office.is_done(letter);
    }

    pub(super) fn answer(&self, letter: Letter) {
        self.office.answer(letter);
    }

    /// Its turn did not end.
    pub(super) fn put_back(&self, letter: Letter) {
        let mut mail = self.mail.lock().unwrap();
        if mail.closed || letter.deliveries >= MAX_ATTEMPTS {
            self.office.is_done(&letter);
            return self.office.answer(letter);
        }
        self.office.write(mail.taking, &letter);
        mail.waiting.insert(0, letter);
    }

    /// Takes over what waits in the mailbox of a start that rests.
    pub(super) fn adopt(&self, before: &Self) {
        let (letters, taking) = before.close();
        let mut mail = self.mail.lock().unwrap();
        // What was delivered before comes first.
        let own = std::mem::replace(&mut mail.waiting, letters);
        mail.waiting.extend(own);
        mail.taking = mail.taking.or(taking);
    }

    /// No restart takes it.
    pub(super) fn answer_all(&self) {
        let (letters, taking) = self.close();
        for letter in letters {
            if letter.deliveries > 0 {
                self.office.forget(taking);
            }
            self.office.answer(letter);
        }
    }

    fn close(&self) -> (Vec<Letter>, Option<u64>) {
        let mut mail = self.mail.lock().unwrap();
        mail.closed = true;
        (std::mem::take(&mut mail.waiting), mail.taking)
    }
}
