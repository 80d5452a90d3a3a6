//! Calls about many agents, one agent beside the other.
//!
//! ```text
//!   push ─▶ waiting ─▶ under way ─▶ over ─▶ next
//!              │           │
//!              │           └─ slow: its place is another's, and the call goes on
//!              └─ the town is silent: not made
//! ```
//!
//! So many are under way at one time. One that takes long gives its place to another, so an agent for whom the town
//! hangs delays nobody. Silence ends a sweep, because it is about nobody in particular; anything else is about the
//! one agent.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use bulkhead_types::AgentId;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep;

use super::Loop;
use super::attempts::{Attempts, Failure, Next};
use crate::call::Call;
use crate::client::Client;
use crate::fault::Fault;

/// A call that takes longer than this gives its place to another.
pub(super) const SLOW: Duration = Duration::from_millis(500);

/// Calls under way at one time, slow ones included.
const MAX_UNDER_WAY: usize = 64;

/// Of them, those about agents whose last call failed.
const MAX_SUSPECT: usize = MAX_UNDER_WAY / 2;

/// Calls that wait, where something else can keep what is to be sent.
const MAX_WAITING: usize = 4096;

/// A call that is over, or was not made because the town is silent: then there is no result.
pub(super) type Over<T, R> = (AgentId, T, Option<R>);

/// The calls of one loop. Each agent has one at most.
pub(super) struct Sweep<T, R> {
    parallel: usize,
    /// Whether one call finds out if a silent town is back.
    finds_out: bool,
    waiting: VecDeque<(AgentId, T)>,
    /// The same about agents whose last call failed. They come last.
    suspect: VecDeque<(AgentId, T)>,
    /// Made even if the town is silent.
    finder: Option<(AgentId, T)>,
    queued: HashSet<AgentId>,
    under_way: FuturesUnordered<BoxFuture<'static, Over<T, R>>>,
    began: HashMap<AgentId, UnderWay>,
    /// This sweep has found out that the town is silent.
    is_over: bool,
}

struct UnderWay {
    since: Instant,
    is_suspect: bool,
    /// Finds out whether the town is back.
    is_finder: bool,
}

impl<T: Clone + Send + 'static, R: 'static> Sweep<T, R> {
    /// So many calls at one time.
    pub(super) fn new(parallel: usize) -> Self {
        Self {
            parallel,
            finds_out: true,
            waiting: VecDeque::new(),
            suspect: VecDeque::new(),
            finder: None,
            queued: HashSet::new(),
            under_way: FuturesUnordered::new(),
            began: HashMap::new(),
            is_over: false,
        }
    }

    /// The same whose calls do not find out if a silent town is back.
    pub(super) fn that_waits_for_others(self) -> Self {
        Self { finds_out: false, ..self }
    }

    /// Whether a call about an agent waits or is under way.
    pub(super) fn has(&self, id: &AgentId) -> bool {
        self.queued.contains(id) || self.began.contains_key(id)
    }

    /// Whether so many calls wait that no more should be added.
    pub(super) fn is_full(&self) -> bool {
        self.queued.len() >= MAX_WAITING
    }

    /// Whether no call waits or is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.began.is_empty()
    }

    /// Adds a call about an agent that has none here. `is_suspect`: its last one failed.
    pub(super) fn push(&mut self, id: AgentId, item: T, is_suspect: bool) {
        if self.has(&id) {
            return;
        }
        self.queued.insert(id.clone());
        let queue = if is_suspect { &mut self.suspect } else { &mut self.waiting };
        queue.push_back((id, item));
    }

    /// Adds one that is made next, even if the town is silent.
    pub(super) fn push_finder(&mut self, id: AgentId, item: T) {
        if !self.has(&id) && self.finder.is_none() {
            self.queued.insert(id.clone());
            self.finder = Some((id, item));
        }
    }

    /// The next call that is over. Waits for ever when there is none. What is lost when this is dropped: nothing.
    pub(super) async fn next<F>(&mut self, client: &Client, each: impl Fn(T) -> F) -> Over<T, R>
    where
        F: Future<Output = R> + Send + 'static,
    {
        loop {
            if let Some((id, item)) = self.fill(client, &each) {
                return (id, item, None);
            }
            let is_slow = self.until_slow();
            let over = async {
                match self.under_way.next().await {
                    Some(over) => over,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                over = over => {
                    self.began.remove(&over.0);
                    return over;
                }
                () = work_or_due(std::future::pending(), is_slow) => {}
            }
        }
    }

    /// Waits until every call is over that waits or is under way.
    pub(super) async fn drain<F>(
        &mut self,
        client: &Client,
        each: impl Fn(T) -> F,
        mut over: impl FnMut(Over<T, R>),
    ) where
        F: Future<Output = R> + Send + 'static,
    {
        while !self.is_empty() {
            over(self.next(client, &each).await);
        }
    }

    /// Begins what there is room for. Returns a call that is not made.
    fn fill<F>(&mut self, client: &Client, each: &impl Fn(T) -> F) -> Option<(AgentId, T)>
    where
        F: Future<Output = R> + Send + 'static,
    {
        if let Some(finder) = self.finder.take() {
            self.begin(finder, false, true, each);
        }
        while !self.queued.is_empty() {
            if client.is_reachable() {
                self.is_over = false;
                if self.quick() >= self.parallel || self.began.len() >= MAX_UNDER_WAY {
                    return None;
                }
                let suspects = self.began.values().filter(|call| call.is_suspect).count();
                match self.waiting.pop_front() {
                    Some(next) => self.begin(next, false, false, each),
                    None if suspects >= MAX_SUSPECT => return None,
                    None => {
                        let next = self.suspect.pop_front()?;
                        self.begin(next, true, false, each);
                    }
                }
                continue;
            }
            // One is enough to find out whether it is back. The others wait for it as long as it may be back.
            let finder = self.began.values().find(|call| call.is_finder);
            if finder.is_some_and(UnderWay::is_quick) {
                return None;
            }
            self.is_over |= finder.is_some() || !self.finds_out;
            let next = self.waiting.pop_front().or_else(|| self.suspect.pop_front())?;
            if self.is_over {
                self.queued.remove(&next.0);
                return Some(next);
            }
            self.is_over = true;
            self.begin(next, false, true, each);
        }
        self.is_over = false;
        None
    }

    fn begin<F>(
        &mut self,
        (id, item): (AgentId, T),
        is_suspect: bool,
        is_finder: bool,
        each: &impl Fn(T) -> F,
    ) where
        F: Future<Output = R> + Send + 'static,
    {
        self.queued.remove(&id);
        self.began.insert(id.clone(), UnderWay { since: Instant::now(), is_suspect, is_finder });
        let call = each(item.clone());
        self.under_way.push(Box::pin(async move { (id, item, Some(call.await)) }));
    }

    /// How many take a place.
    fn quick(&self) -> usize {
        self.began.values().filter(|call| call.is_quick()).count()
    }

    /// How long until one gives its place to another that waits for it.
    fn until_slow(&self) -> Option<Duration> {
        let quick = self.began.values().filter(|call| call.is_quick());
        let left = quick.map(|call| SLOW.saturating_sub(call.since.elapsed())).min();
        left.filter(|_| !self.queued.is_empty())
    }
}

impl UnderWay {
    fn is_quick(&self) -> bool {
        self.since.elapsed() < SLOW
    }
}

impl Loop {
    /// A call about an agent failed. Says whether it has to be made again; if not, that was logged and counted.
    pub(super) fn is_tried_again(
        &self,
        attempts: &mut Attempts,
        call: Call,
        id: &AgentId,
        fault: &Fault,
    ) -> bool {
        let failure = match fault.status {
            _ if !self.client().is_reachable() => Failure::Silence,
            Some(401) => Failure::Unauthorized,
            _ => Failure::Refused,
        };
        match attempts.failed(id, failure, Instant::now()) {
            Next::Later => true,
            Next::GiveUp(failures, tried_for) => {
                self.client().gave_up(call, id, failures, tried_for, fault);
                false
            }
        }
    }
}

/// Waits for work, or for what is due after a pause, if there is something.
pub(super) async fn work_or_due(work: impl Future<Output = ()>, pause: Option<Duration>) {
    let due = async {
        match pause {
            Some(pause) => sleep(pause).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = work => {}
        () = due => {}
    }
}
