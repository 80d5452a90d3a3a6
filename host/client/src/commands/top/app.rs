//! What `top` shows and what keys do, without a terminal, a clock or a host.
//!
//! ```text
//!  keys ──────────────┐
//!  polls, each second ┼─▶ App ──▶ view: what a screen shows of it
//!  frames of a stream ┤    └────▶ Order: what the host is asked
//!  answers to orders ─┘
//! ```

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bulkhead_api::{AgentList, AgentView, ContainerMemoryView, StreamFrame, UsageView};
use bulkhead_types::{AgentId, Timestamp};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::draft::Draft;
use super::log::Log;
use super::rows::{BORDERS, HELP, rows_in_window};
use crate::commands::status::{is_active, is_alive};
use bulkhead_printable as text;

/// Samples of an agent that are kept: a wide column has so many.
pub(super) const SAMPLES: usize = 120;

/// The part of its limit from which on an agent is about to reach it, in percent.
pub(super) const NEAR_LIMIT: u64 = 90;

/// Polls for which a notice stays.
const NOTICE_POLLS: u32 = 8;

/// Lines of a page that a key passes.
const PAGE: usize = 10;

/// What one poll brings.
#[derive(Debug)]
pub(super) struct Poll {
    pub(super) agents: AgentList,
    pub(super) memory: ContainerMemoryView,
    pub(super) usage: UsageView,
    /// The host's clock.
    pub(super) now: Timestamp,
    /// Since the program started; never goes back.
    pub(super) at: Duration,
}

/// What the host is asked because of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    /// Follow the stream of this agent, and no other.
    Follow(AgentId),
    /// Follow none.
    Unfollow,
    /// Send a message.
    Send { agent: AgentId, text: String },
    /// Start it.
    Start(Start),
    /// Stop it.
    Stop(AgentId),
    /// Fetch a crash record.
    Crash(String),
    /// End.
    Quit,
}

/// An agent that is started as the host knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) agent: AgentId,
    pub(super) name: String,
    pub(super) role: String,
    pub(super) town: Option<String>,
    pub(super) rig: Option<String>,
    pub(super) model: Option<String>,
    /// It is quarantined.
    pub(super) force: bool,
}

/// What stands over the page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Over {
    Nothing,
    /// `first`, as of a crash: the row at the top.
    Help {
        first: usize,
    },
    Message {
        agent: AgentId,
        draft: Draft,
    },
    Confirm(Order),
    Crash {
        lines: Vec<String>,
        first: usize,
    },
}

/// An agent on a page of its own.
#[derive(Debug)]
pub(super) struct Detail {
    pub(super) agent: AgentId,
    pub(super) log: Log,
    /// Lines between the last one and the bottom of the screen. 0: it follows.
    pub(super) scrolled: usize,
}

/// The last samples of an agent, oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    /// In use, in bytes.
    pub(super) memory: VecDeque<u64>,
    /// Thousandths of a core.
    pub(super) cpu: VecDeque<u64>,
    /// Tokens since the sample before.
    pub(super) tokens: VecDeque<u64>,
    last: Option<(Duration, u64, u64)>,
}

/// Something to read that goes by itself.
#[derive(Debug)]
pub(super) struct Notice {
    pub(super) text: String,
    pub(super) is_bad: bool,
    polls_left: u32,
}

/// All of it.
#[derive(Debug)]
pub(super) struct App {
    /// The address of the host.
    pub(super) host: String,
    /// The last that it answered.
    pub(super) poll: Option<Poll>,
    /// Why it does not answer, when it does not.
    pub(super) away: Option<String>,
    pub(super) histories: HashMap<AgentId, History>,
    /// The line that keys act on. An agent, so that it stays the same one when the order changes.
    pub(super) selected: Option<AgentId>,
    pub(super) detail: Option<Detail>,
    pub(super) over: Over,
    pub(super) notice: Option<Notice>,
    /// Of the screen.
    pub(super) columns: usize,
    /// Of the screen.
    pub(super) rows: usize,
}

impl App {
    pub(super) fn new(host: &str) -> Self {
        Self {
            host: text::line(host).into_owned(),
            poll: None,
            away: None,
            histories: HashMap::new(),
            selected: None,
            detail: None,
            over: Over::Nothing,
            notice: None,
            columns: 80,
            rows: 24,
        }
    }

    /// A second went by, and this is what the host said.
    pub(super) fn polled(&mut self, poll: Result<Poll, String>) {
        if let Some(notice) = &mut self.notice {
            notice.polls_left -= 1;
            if notice.polls_left == 0 {
                self.notice = None;
            }
        }
        let mut poll = match poll {
            Ok(poll) => poll,
            Err(problem) => {
                let problem = text::first_line(&problem);
                // The address stands there already.
                let problem = problem.strip_prefix(&*self.host).unwrap_or(&problem);
                self.away = Some(problem.trim_start_matches([':', ' ']).to_owned());
                return;
            }
        };
        self.away = None;
        poll.agents.sort_by(|one, other| {
            rank(one).cmp(&rank(other)).then_with(|| one.agent_id.cmp(&other.agent_id))
        });
        self.histories.retain(|id, _| poll.agents.iter().any(|agent| agent.agent_id == *id));
        for agent in &poll.agents {
            self.histories.entry(agent.agent_id.clone()).or_default().add(agent, poll.at);
        }
        let is_there = |id: &AgentId| poll.agents.iter().any(|agent| agent.agent_id == *id);
        if !self.selected.as_ref().is_some_and(is_there) {
            self.selected = poll.agents.first().map(|agent| agent.agent_id.clone());
        }
        self.poll = Some(poll);
    }

    /// Something of the stream of the agent that has its own page.
    pub(super) fn frame(&mut self, frame: &StreamFrame) {
        self.log(|log| log.frame(frame));
    }

    /// Something that the stream did not say.
    pub(super) fn remark(&mut self, what: &str) {
        self.log(|log| log.remark(what));
    }

    fn log(&mut self, add: impl FnOnce(&mut Log)) {
        let Some(Detail { log, scrolled, .. }) = &mut self.detail else { return };
        let before = log.end();
        add(log);
        if *scrolled > 0 {
            // What a person reads stays where it is, as long as it is kept.
            let more = usize::try_from(log.end().saturating_sub(before)).unwrap_or(usize::MAX);
            *scrolled = scrolled.saturating_add(more).min(log.lines().len());
        }
    }

    /// What came of an order.
    pub(super) fn did(&mut self, what: Result<String, String>) {
        let (text, is_bad) = match what {
            Ok(text) => (text, false),
            Err(text) => (text, true),
        };
        let text = text::line(&text).into_owned();
        self.notice = Some(Notice { text, is_bad, polls_left: NOTICE_POLLS });
    }

    /// A crash record as a page, unless a person is at something else by now.
    pub(super) fn crash(&mut self, page: &str) {
        if self.over != Over::Nothing {
            return self.did(Ok("the crash record is there: press c again to see it".to_owned()));
        }
        let lines = page.lines().map(|line| text::line(line).into_owned()).collect();
        self.over = Over::Crash { lines, first: 0 };
    }

    /// A text that was pasted.
    pub(super) fn paste(&mut self, pasted: &str) {
        if let Over::Message { draft, .. } = &mut self.over {
            draft.paste(pasted);
        }
    }

    /// A key.
    pub(super) fn key(&mut self, key: KeyEvent) -> Option<Order> {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if is_control && key.code == KeyCode::Char('c') {
            return Some(Order::Quit);
        }
        match std::mem::replace(&mut self.over, Over::Nothing) {
            Over::Nothing => self.key_of_page(key),
            Over::Help { first } => {
                let height = self.rows.saturating_sub(BORDERS);
                let last = rows_in_window(&HELP, self.columns).count().saturating_sub(height);
                if let Some(by) = moved(key.code) {
                    self.over = Over::Help { first: first.saturating_add_signed(by).min(last) };
                }
                None
            }
            Over::Message { agent, draft } => self.key_of_message(key, agent, draft),
            Over::Confirm(order) => (key.code == KeyCode::Char('y')).then_some(order),
            Over::Crash { lines, first } => {
                let last = rows_in_window(&lines, self.columns).count().saturating_sub(1);
                let first = match (moved(key.code), key.code) {
                    (Some(by), _) => first.saturating_add_signed(by).min(last),
                    (None, KeyCode::Char('?')) => first,
                    (None, KeyCode::Char('q')) => return Some(Order::Quit),
                    _ => return None,
                };
                self.over = Over::Crash { lines, first };
                None
            }
        }
    }

    fn key_of_page(&mut self, key: KeyEvent) -> Option<Order> {
        if let Some(by) = moved(key.code) {
            match &mut self.detail {
                Some(detail) => {
                    let most = detail.log.lines().len();
                    detail.scrolled = detail.scrolled.saturating_add_signed(-by).min(most);
                }
                None => self.select(by),
            }
            return None;
        }
        match key.code {
            KeyCode::Char('q') => return Some(Order::Quit),
            KeyCode::Char('?' | 'h') => self.over = Over::Help { first: 0 },
            KeyCode::Esc | KeyCode::Left | KeyCode::Backspace if self.detail.is_some() => {
                self.detail = None;
                return Some(Order::Unfollow);
            }
            KeyCode::Enter | KeyCode::Right if self.detail.is_none() => {
                let agent = self.selected.clone()?;
                self.detail =
                    Some(Detail { agent: agent.clone(), log: Log::default(), scrolled: 0 });
                return Some(Order::Follow(agent));
            }
            KeyCode::Char('m') => {
                let agent = self.current()?.agent_id.clone();
                self.over = Over::Message { agent, draft: Draft::default() };
            }
            KeyCode::Char('s') => self.over = Over::Confirm(start_or_stop(self.current()?)),
            KeyCode::Char('c') => {
                let agent = self.current()?;
                let Some(crash_id) = last_crash(agent) else {
                    let words = format!("{} has no crash record", agent.agent_id);
                    self.did(Err(words));
                    return None;
                };
                return Some(Order::Crash(crash_id));
            }
            _ => {}
        }
        None
    }

    fn key_of_message(&mut self, key: KeyEvent, agent: AgentId, mut draft: Draft) -> Option<Order> {
        match key.code {
            KeyCode::Esc => return None,
            KeyCode::Enter if draft.is_blank() => return None,
            KeyCode::Enter => return Some(Order::Send { agent, text: draft.into_text() }),
            _ => draft.key(key),
        }
        self.over = Over::Message { agent, draft };
        None
    }

    fn select(&mut self, by: isize) {
        let Some(poll) = &self.poll else { return };
        let at =
            poll.agents.iter().position(|agent| Some(&agent.agent_id) == self.selected.as_ref());
        let last = poll.agents.len().saturating_sub(1);
        let at = at.unwrap_or(0).saturating_add_signed(by).min(last);
        self.selected = poll.agents.get(at).map(|agent| agent.agent_id.clone());
    }

    /// The agent that keys act on.
    pub(super) fn current(&self) -> Option<&AgentView> {
        let id = self.detail.as_ref().map(|detail| &detail.agent).or(self.selected.as_ref())?;
        self.poll.as_ref()?.agents.iter().find(|agent| agent.agent_id == *id)
    }
}

impl History {
    fn add(&mut self, agent: &AgentView, at: Duration) {
        let tokens = agent.usage.total.tokens.total();
        let used = if is_alive(&agent.status) { agent.memory.used_bytes } else { 0 };
        push(&mut self.memory, used);
        if let Some((before, cpu_us, tokens_before)) = self.last {
            let passed_us = at.saturating_sub(before).as_micros().max(1);
            let used_us = u128::from(agent.cpu_us.saturating_sub(cpu_us));
            push(&mut self.cpu, u64::try_from(used_us * 1000 / passed_us).unwrap_or(u64::MAX));
            push(&mut self.tokens, tokens.saturating_sub(tokens_before));
        }
        self.last = Some((at, agent.cpu_us, tokens));
    }
}

fn push(samples: &mut VecDeque<u64>, sample: u64) {
    if samples.len() == SAMPLES {
        samples.pop_front();
    }
    samples.push_back(sample);
}

/// Lines that a key passes.
fn moved(code: KeyCode) -> Option<isize> {
    const FAR: isize = isize::MAX;
    const PAGES: isize = PAGE.cast_signed();
    Some(match code {
        KeyCode::Up | KeyCode::Char('k') => -1,
        KeyCode::Down | KeyCode::Char('j') => 1,
        KeyCode::PageUp => -PAGES,
        KeyCode::PageDown | KeyCode::Char(' ') => PAGES,
        KeyCode::Home | KeyCode::Char('g') => -FAR,
        KeyCode::End | KeyCode::Char('G') => FAR,
        _ => return None,
    })
}

/// What needs a person comes first: what ended and stays so, what crashes, what is about to reach its limit; then what
/// works, what waits, and what is over.
pub(super) fn rank(agent: &AgentView) -> u8 {
    match &*agent.status {
        "quarantined" | "failed" => 0,
        "backoff" => 1,
        _ if is_near_limit(agent) => 2,
        status if is_alive(status) && (agent.busy || status != "running") => 3,
        "running" => 4,
        _ => 5,
    }
}

/// Whether its memory is about to reach its limit.
pub(super) fn is_near_limit(agent: &AgentView) -> bool {
    let memory = &agent.memory;
    let (used, limit) = (u128::from(memory.used_bytes), u128::from(memory.limit_bytes));
    is_alive(&agent.status) && limit > 0 && used * 100 >= limit * u128::from(NEAR_LIMIT)
}

fn start_or_stop(agent: &AgentView) -> Order {
    if is_active(&agent.status) {
        return Order::Stop(agent.agent_id.clone());
    }
    Order::Start(Start {
        agent: agent.agent_id.clone(),
        name: agent.name.clone(),
        role: agent.role.to_string(),
        town: agent.town_id.clone(),
        rig: agent.rig_id.clone(),
        model: agent.model.clone(),
        force: agent.status == "quarantined",
    })
}

fn last_crash(agent: &AgentView) -> Option<String> {
    let exit = agent.exit.as_ref().and_then(|exit| exit.crash_id.clone());
    let earlier = || agent.restart.history.iter().rev().find_map(|end| end.crash_id.clone());
    exit.or_else(earlier).map(|crash_id| crash_id.to_string())
}
