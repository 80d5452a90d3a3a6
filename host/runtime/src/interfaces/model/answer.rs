//! An answer under way.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bulkhead_account::{Charge, OverLimit};
use bulkhead_llm::{Chat, End, Error, Finish, Part, ToolCall};
use bulkhead_telemetry::TurnScope;
use bulkhead_types::HostKind;
use bulkhead_types::time::millis;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, sleep_until};

use super::report::Report;
use crate::bindings::bulkhead::agent::model as wit;
use crate::bindings::bulkhead::agent::model::ModelError;
use crate::descriptors::Taken;
use crate::interfaces::http::{Carried, UnderWay};
use crate::meter::Meter;

/// Parts that wait for the guest. The server is held up while there are so many.
const MAX_WAITING: usize = 16;

/// Text is merged up to this many bytes.
const MERGE_BYTES: usize = 64 * 1024;

/// The longest wait between two reads of text: what comes meanwhile comes together. Each read wakes a thread that carries
/// it, and then the agent's.
const MAX_GATHER: Duration = Duration::from_millis(40);

/// The wait after a text, by how long ago the first one came. An answer takes at most a sixteenth longer for it.
fn gather(since_first: Duration) -> Duration {
    (since_first / 16).min(MAX_GATHER)
}

/// What an answer takes from its agent until it is over.
pub(super) struct Place {
    pub _under_way: UnderWay,
    pub _socket: Taken,
    /// The request, and the buffers of its connection.
    pub _held: Charge,
}

/// A part that waits for the guest, with what it holds.
type Waiting = (Result<Part, Error>, Option<Charge>);

/// An answer as the guest has it.
pub struct Answer {
    parts: Receiver<Waiting>,
    /// Follows what was returned last.
    next: Option<Waiting>,
    /// Dropping it ends the call. None: it is over.
    task: Option<Carried<()>>,
    /// The turn that it belongs to.
    turn: TurnScope,
    meter: Arc<Meter>,
}

impl Answer {
    /// `carry` starts the task that reads.
    pub(super) fn begin(
        chat: Chat,
        place: Place,
        meter: Arc<Meter>,
        turn: TurnScope,
        report: Report,
        carry: impl FnOnce(Reading) -> Carried<()>,
    ) -> Self {
        let (send, parts) = mpsc::channel(MAX_WAITING);
        let unfinished = meter.memory().account().nothing(HostKind::Http);
        let reported = Reported { chat, unfinished, report: Some(report) };
        let task = carry(Box::pin(read(reported, place, Arc::clone(&meter), send)));
        Self { parts, next: None, task: Some(task), turn, meter }
    }

    /// Waits for the next part.
    pub(super) async fn next(&mut self) -> Result<wit::Part, ModelError> {
        let first = match self.next.take() {
            Some(first) => Some(first),
            None => self.parts.recv().await,
        };
        let Some((part, _held)) = first else { return Err(ModelError::Cancelled) };
        match part {
            Ok(Part::Text(text)) => Ok(wit::Part::Text(self.merge(text, text_of))),
            Ok(Part::Reasoning(text)) => Ok(wit::Part::Reasoning(self.merge(text, reasoning_of))),
            Ok(Part::ToolCall(call)) => {
                self.turn.tool_called(&call.name, &call.id);
                Ok(wit::Part::ToolCall(tool_call(call)))
            }
            Ok(Part::End(end)) => {
                self.cancel();
                Ok(wit::Part::End(self::end(end)))
            }
            Err(error) => {
                self.cancel();
                Err(model_error(error))
            }
        }
    }

    /// Waits for all of it.
    pub(super) async fn whole(&mut self) -> Result<wit::Completion, ModelError> {
        let (mut text, mut reasoning, mut tool_calls) = (String::new(), String::new(), Vec::new());
        let mut held = self.meter.memory().account().nothing(HostKind::Http);
        loop {
            let part = self.next().await?;
            if let Err(over) = held.grow(guest_bytes(&part)) {
                self.cancel();
                return Err(ModelError::BadAnswer(too_large(&over)));
            }
            match part {
                wit::Part::Text(more) => text += &more,
                wit::Part::Reasoning(more) => reasoning += &more,
                wit::Part::ToolCall(call) => tool_calls.push(call),
                wit::Part::End(end) => {
                    return Ok(wit::Completion { text, reasoning, tool_calls, end });
                }
            }
        }
    }

    /// Nothing comes any more.
    pub(super) fn cancel(&mut self) {
        self.task = None;
        self.next = None;
        self.parts.close();
        while self.parts.try_recv().is_ok() {}
    }

    /// Adds what has arrived of the same kind.
    fn merge(&mut self, mut text: String, same: fn(&Waiting) -> Option<&str>) -> String {
        while text.len() < MERGE_BYTES {
            let Ok(waiting) = self.parts.try_recv() else { break };
            match same(&waiting) {
                Some(more) => text += more,
                None => {
                    self.next = Some(waiting);
                    break;
                }
            }
        }
        text
    }
}

fn text_of((part, _): &Waiting) -> Option<&str> {
    match part {
        Ok(Part::Text(text)) => Some(text),
        _ => None,
    }
}

fn reasoning_of((part, _): &Waiting) -> Option<&str> {
    match part {
        Ok(Part::Reasoning(text)) => Some(text),
        _ => None,
    }
}

/// The work of the task.
pub(super) type Reading = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// An answer whose end is reported once, also when it is dropped.
struct Reported {
    chat: Chat,
    /// Tool calls that are not whole, and what the server wants back.
    unfinished: Charge,
    report: Option<Report>,
}

impl Reported {
    async fn next(&mut self) -> Option<Result<Part, Error>> {
        let next = poll_fn(|cx| self.poll_next(cx)).await;
        if let (Some(Ok(part)), Some(report)) = (&next, &mut self.report) {
            report.saw(part);
        }
        next
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Error>>> {
        let polled = self.chat.poll_next(cx);
        match self.unfinished.resize(self.chat.unfinished_bytes()) {
            Ok(()) => polled,
            Err(over) => Poll::Ready(Some(Err(no_room(&over)))),
        }
    }

    fn ended(&mut self, ended: Option<&Result<End, Error>>) {
        if let Some(report) = self.report.take() {
            report.end(&self.chat, ended);
        }
    }
}

impl Drop for Reported {
    fn drop(&mut self) {
        self.ended(None);
    }
}

/// Reads an answer to its end, or until nobody takes it.
async fn read(mut chat: Reported, place: Place, meter: Arc<Meter>, send: Sender<Waiting>) {
    let (mut first, mut gathered) = (None, None);
    let mut ended = loop {
        if let Some(gathered) = gathered.take() {
            sleep_until(gathered).await;
        }
        let part = match chat.next().await {
            Some(Ok(Part::End(end))) => break Ok(end),
            Some(Ok(part)) => part,
            Some(Err(error)) => break Err(error),
            None => return,
        };
        // More of it may come soon, unless something else follows already.
        if matches!(part, Part::Text(_) | Part::Reasoning(_)) && !chat.chat.has_more() {
            let now = Instant::now();
            gathered = Some(now + gather(now - *first.get_or_insert(now)));
        }
        let held = match meter.memory().charge(HostKind::Http, part.bytes()) {
            Ok(held) => held,
            Err(over) => break Err(no_room(&over)),
        };
        if send.send((Ok(part), Some(held))).await.is_err() {
            return;
        }
    };
    let bytes = ended.as_ref().ok().and_then(|end| Some(end.reasoning_state.as_ref()?.bytes()));
    let held = match meter.memory().charge(HostKind::Http, bytes.unwrap_or(0) as u64) {
        Ok(held) => Some(held),
        Err(over) => {
            ended = Err(no_room(&over));
            None
        }
    };
    chat.ended(Some(&ended));
    // Its connection first: who reads the end may ask again at once.
    drop((chat, place));
    let _ = send.send((ended.map(Part::End), held)).await;
}

fn guest_bytes(part: &wit::Part) -> u64 {
    let bytes = match part {
        wit::Part::Text(text) | wit::Part::Reasoning(text) => text.len(),
        wit::Part::ToolCall(call) => call.id.len() + call.name.len() + call.arguments.len(),
        wit::Part::End(end) => end.reasoning_state.as_ref().map_or(0, String::len),
    };
    bytes as u64
}

fn no_room(over: &OverLimit) -> Error {
    Error::BadAnswer { message: too_large(over), cut_off: false }
}

fn too_large(over: &OverLimit) -> String {
    format!("the answer does not fit into the agent's memory: {over}")
}

fn tool_call(call: ToolCall) -> wit::ToolCall {
    wit::ToolCall { id: call.id, name: call.name, arguments: call.arguments }
}

fn end(end: End) -> wit::End {
    let finish_reason = match end.finish {
        Finish::Stop => wit::FinishReason::Stop,
        Finish::ToolCalls => wit::FinishReason::ToolCalls,
        Finish::Length => wit::FinishReason::Length,
        Finish::ContentFilter => wit::FinishReason::ContentFilter,
        Finish::Other => wit::FinishReason::Other,
    };
    let usage = end.usage.map(|usage| wit::Usage {
        input_tokens: usage.input,
        cached_tokens: usage.cached,
        output_tokens: usage.output,
        reasoning_tokens: usage.reasoning,
    });
    let reasoning_state = end.reasoning_state.map(|state| state.to_string());
    wit::End { finish_reason, usage, reasoning_state }
}

fn model_error(error: Error) -> ModelError {
    match error {
        Error::Unavailable(text) => ModelError::Unavailable(text),
        Error::RateLimited { retry_after, .. } => ModelError::RateLimited(retry_after.map(millis)),
        Error::Rejected { status, message } => {
            ModelError::Rejected(wit::Rejection { status, message })
        }
        Error::BadAnswer { message, .. } => ModelError::BadAnswer(message),
        Error::Timeout(text) => ModelError::Timeout(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_for_more_text_grows_with_the_answer_and_has_a_bound() {
        let ms = Duration::from_millis;
        assert_eq!(gather(ms(0)), ms(0), "the first part is not followed by a wait");
        assert_eq!(gather(ms(160)), ms(10));
        assert_eq!(gather(ms(640)), MAX_GATHER);
        assert_eq!(gather(ms(60_000)), MAX_GATHER);
    }
}
