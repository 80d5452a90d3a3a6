//! What a start begins with: its prompt, and what an earlier run of the host left of its agent.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bulkhead_store::journal::{Kept, KeptPrompt, PromptMark, Takes};
use bulkhead_types::{Determinism, Exit, ExitReason, Message, Phase, Sender};

use super::base::Actor;
use super::delivery::First;
use crate::incarnation::{Announced, StartContext};
use crate::left_mail::Left;
use crate::mailbox::{Envelope, MailboxFull, NotTaken};
use crate::refusal::PROMPT_TOO_LARGE;

impl Actor<'_> {
    /// Queues what the start begins with, now that its memory has an account: its prompt before everything else, then
    /// what an earlier run left.
    pub(super) fn queue_first(&self) -> Result<(), NotTaken> {
        // A start that this one replaced may have given up since.
        self.adopt_left_mail();
        let mut first = self.task.first.lock();
        if let First::Unasked = &*first {
            let journal = self.state.start.journal.get();
            *first =
                First::Left(Box::new(journal.map(|journal| journal.left()).unwrap_or_default()));
        }
        let First::Left(left) = &mut *first else { return Ok(()) };
        if let Some(mail) = left.mail.take() {
            self.take_up(mail);
        }
        match &mut left.prompt {
            // Without room it is still to be queued: the next incarnation fails as well.
            KeptPrompt::Undelivered => self.queue_prompt()?,
            KeptPrompt::Open(kept) => {
                kept.message.body = self.state.start.spec.prompt.as_str().into();
                self.take_up(kept.clone());
            }
            KeptPrompt::Done => {}
        }
        *first = First::Queued;
        Ok(())
    }

    fn take_up(&self, kept: Kept) {
        let crash_id = self.death_of_host_in(&kept.message.id);
        self.state.take_up(kept, crash_id.as_deref());
    }

    /// The crash record of the host's last death that counts against the agent, when that was in the turn of this
    /// message.
    fn death_of_host_in(&self, message_id: &str) -> Option<String> {
        let crash_id = self.task.slot.with_restarts(|restarts| {
            let mut deaths = restarts.ends.iter().filter(|end| end.reason == ExitReason::HostDeath);
            deaths.next_back()?.crash_id.clone()
        })?;
        let record = self.container.crashes.get(&crash_id)?;
        (record.message_id.as_deref() == Some(message_id)).then_some(crash_id)
    }

    fn queue_prompt(&self) -> Result<(), NotTaken> {
        let start = &self.state.start;
        let prompt = &start.spec.prompt;
        if prompt.is_empty() {
            return Ok(());
        }
        let id = self.task.prompt_message_id.clone();
        let message = Message::new(id, Sender::Prompt, prompt.as_str());
        let announced = Announced::from(&message);
        let trace = self.task.trace.clone();
        start.mailbox.push_prompt(Envelope { trace, ..Envelope::new(message, None) })?;
        self.state.log_message(announced);
        Ok(())
    }

    /// Takes over the mail of a start in backoff, with the record of what was delivered before.
    pub(super) fn adopt_mail(&self, before: &StartContext) {
        let start = &self.state.start;
        start.mailbox.adopt(before.mailbox.close());
        if let Some(journal) = before.journal.get().or(before.adopted.get()) {
            // Once: what is in backoff then is this start.
            let _ = start.adopted.set(Arc::clone(journal));
        }
    }

    /// Takes over what the starts before left.
    pub(super) fn adopt_left_mail(&self) {
        let (start, Left { mail, journal }) =
            (&self.state.start, self.state.start.left_mail.take());
        start.inherits.fetch_or(!mail.is_empty(), Relaxed);
        start.mailbox.adopt(mail);
        if let Some(journal) = journal {
            let _ = start.adopted.set(journal);
        }
    }

    /// The slot of the journal is this start's from now on.
    pub(super) fn take_journal(&self) {
        let start = &self.state.start;
        let takes = Takes {
            prompt: PromptMark::of(&start.spec.prompt),
            resumes: self.task.resumes,
            adopts_mail: start.mailbox.has_mail_again(),
        };
        let journal = self.container.journal.take(&start.spec.id, takes);
        // A start has its turn once.
        let _ = start.journal.set(Arc::new(journal));
    }
}

/// The end of a start that has no room for its prompt.
pub(super) fn no_room_for_prompt(refused: NotTaken) -> Exit {
    let why = match refused {
        NotTaken::Full(MailboxFull { bytes, .. }) => {
            format!("the mailbox has no room for it beside {bytes} bytes")
        }
        NotTaken::OverLimit(over) => format!("the agent has no memory for it: {over}"),
    };
    let text = format!("the prompt cannot be delivered: {why}");
    let mut exit = Exit::new(ExitReason::StartFailed, Phase::Instantiate, text);
    exit.code = Some(PROMPT_TOO_LARGE.into());
    exit.deterministic = Determinism::True;
    exit
}
