//! What a screen shows of [`App`]. Every text of others went through `bulkhead_printable` when it gets here, or does so
//! here.

use std::collections::VecDeque;
use std::time::Duration;

use bulkhead_api::AgentView;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::app::{App, Detail, History, Order, Over, Poll, is_near_limit, rank};
use super::log::Voice;
use super::rows::{BORDERS, FRAME, HELP, rows_in_window, width_of, wrapped};
use super::theme::Theme;
use crate::commands::memory;
use crate::commands::ps::{last_exit, restarts};
use crate::commands::status::{colour_of, is_alive};
use crate::commands::usage::cost;
use crate::sparkline::BARS;
use bulkhead_printable as text;
use bulkhead_terminal::Colour;
use bulkhead_terminal::words::{self, counted, percent, short_bytes, short_count, short_duration};

/// Thousandths of a core that fill a column.
const CORE: u64 = 1000;

const KEYS: &str = "↑↓ select  Enter detail  m message  s start/stop  c crash  ? help  q quit";
const KEYS_OF_DETAIL: &str =
    "↑↓ scroll  Esc back  m message  s start/stop  c crash  ? help  q quit";

/// Draws all of it.
pub(super) fn draw(app: &App, theme: Theme, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < 20 || area.height < 6 {
        frame.render_widget(Paragraph::new("too small"), area);
        return;
    }
    let mut page = Page { frame, area, at: 0 };
    head(app, theme, &mut page);
    match (&app.poll, &app.detail) {
        (Some(poll), Some(detail)) => one(app, poll, detail, theme, &mut page),
        (Some(poll), None) => table(app, poll, theme, &mut page),
        (None, _) => {}
    }
    foot(app, theme, &mut page);
    over(app, theme, page.frame);
}

/// A screen that is filled from the top.
struct Page<'a, 'b> {
    frame: &'a mut Frame<'b>,
    area: Rect,
    at: u16,
}

impl Page<'_, '_> {
    /// Columns of a line.
    fn width(&self) -> usize {
        usize::from(self.area.width)
    }

    /// Lines that are left, but for the last one of the screen.
    fn left(&self) -> usize {
        usize::from((self.area.height - 1).saturating_sub(self.at))
    }

    fn line(&mut self, line: Line<'_>) {
        if self.left() > 0 {
            self.put(self.at, line);
            self.at += 1;
        }
    }

    fn put(&mut self, y: u16, line: Line<'_>) {
        let area = Rect { y, height: 1, ..self.area };
        self.frame.render_widget(line, area);
    }
}

fn head(app: &App, theme: Theme, page: &mut Page<'_, '_>) {
    let mut line = vec![Span::styled(app.host.clone(), Theme::title())];
    match (&app.away, &app.poll) {
        (Some(problem), _) => {
            line.push(Span::styled(format!("  NO ANSWER, trying again: {problem}"), theme.alarm()));
        }
        (None, None) => line.push(Span::raw("  connecting …")),
        (None, Some(poll)) => line.push(Span::raw(format!("  {}", states(poll)))),
    }
    page.line(Line::from(line));
    let Some(poll) = &app.poll else { return };
    let memory = &poll.memory;
    let mut line = vec![
        Span::styled("memory  ", Theme::title()),
        Span::raw(bars(
            memory.used.fine.iter().map(|sample| sample.bytes),
            memory.limit_bytes,
            page.width() / 16,
        )),
        Span::raw("  "),
    ];
    let high = Span::styled(memory::in_use(memory), theme.alarm());
    line.push(if memory.high { high } else { Span::raw(memory::in_use(memory)) });
    line.push(Span::raw(format!("; agents {}", short_bytes(memory.agents_bytes))));
    page.line(Line::from(line));
    page.line(models(poll, theme));
}

/// How many agents are in which state.
fn states(poll: &Poll) -> String {
    let agents = &poll.agents;
    let count = |wanted: u8| agents.iter().filter(|agent| rank(agent) == wanted).count();
    let named = [
        (count(0), "failed or quarantined"),
        (count(1), "in backoff"),
        (count(2), "near their limit"),
        (count(3), "busy"),
    ];
    let mut words = counted(agents.len(), "agent");
    for (count, name) in named.into_iter().filter(|(count, _)| *count > 0) {
        words += &format!(", {count} {name}");
    }
    words
}

/// Use of language models, and the budget of which the largest part is used.
fn models(poll: &Poll, theme: Theme) -> Line<'static> {
    let usage = &poll.usage;
    let total = &usage.total;
    let mut words = format!(
        "{}, {} tokens",
        counted(usize::try_from(total.calls).unwrap_or(usize::MAX), "call"),
        short_count(total.tokens.total())
    );
    if usage.priced {
        words += &format!(", cost {}", cost(total.cost_nano));
    }
    let mut line = vec![Span::styled("models  ", Theme::title()), Span::raw(words)];
    let share = |used: u64, bound: u64| u128::from(used) * 1000 / u128::from(bound.max(1));
    let fullest = usage.budgets.iter().filter(|budget| budget.bound > 0);
    if let Some(budget) = fullest.max_by_key(|budget| share(budget.used, budget.bound)) {
        let whose = budget.role.as_deref().unwrap_or("container");
        let words = format!(
            "; {} of {} of {}",
            percent(budget.used, budget.bound),
            text::line(&budget.budget),
            text::line(whose)
        );
        let is_full = share(budget.used, budget.bound) >= 900;
        line.push(Span::styled(words, if is_full { theme.alarm() } else { Style::new() }));
    }
    Line::from(line)
}

/// Widths of the columns on a screen.
struct Columns {
    agent: usize,
    /// Of each of the three series.
    bars: usize,
    /// Role, restarts, mail.
    has_more: bool,
    has_memory: bool,
    has_cpu: bool,
    has_tokens: bool,
    /// What is left.
    exit: usize,
}

/// At least.
const AGENT: usize = 8;
const STATUS: usize = 13;
const MEMORY: usize = 10;
const CPU: usize = 5;
const TOKENS: usize = 6;
const ROLE: usize = 12;
const RESTARTS: usize = 8;
const MAIL: usize = 5;

impl Columns {
    fn of(width: usize) -> Self {
        let has_more = width >= 110;
        let bars = match width {
            160.. => 24,
            110.. => 12,
            70.. => 6,
            _ => 0,
        };
        let more = if has_more { ROLE + RESTARTS + MAIL + 3 } else { 0 };
        let fixed = STATUS + 1 + 3 * (bars + usize::from(bars > 0)) + more;
        let mut left = width.saturating_sub(fixed);
        // Without the agent the rest says nothing.
        let [has_memory, has_cpu, has_tokens] = [MEMORY, CPU, TOKENS].map(|column| {
            let has_room = left > AGENT + column;
            left -= if has_room { column + 1 } else { 0 };
            has_room
        });
        let agent = if has_more { left.min(24) } else { left };
        let exit = (left - agent).saturating_sub(1);
        Self { agent, bars, has_more, has_memory, has_cpu, has_tokens, exit }
    }
}

fn table(app: &App, poll: &Poll, theme: Theme, page: &mut Page<'_, '_>) {
    let columns = Columns::of(page.width());
    let titles = row(&columns, |column| match column {
        Column::Agent => ("AGENT".to_owned(), Style::new()),
        Column::Role => ("ROLE".to_owned(), Style::new()),
        Column::Status => ("STATUS".to_owned(), Style::new()),
        Column::Memory => ("MEMORY".to_owned(), Style::new()),
        Column::Cpu => ("CPU".to_owned(), Style::new()),
        Column::Tokens => ("TOKENS".to_owned(), Style::new()),
        Column::Restarts => ("RESTARTS".to_owned(), Style::new()),
        Column::Mail => ("MAIL".to_owned(), Style::new()),
        Column::Exit => ("LAST EXIT".to_owned(), Style::new()),
        Column::Bars(_) => (String::new(), Style::new()),
    });
    page.line(titles.style(Theme::title()));
    let selected =
        poll.agents.iter().position(|agent| Some(&agent.agent_id) == app.selected.as_ref());
    let height = page.left();
    // The selected one is on the screen.
    let first = selected.unwrap_or(0).saturating_sub(height.saturating_sub(1));
    if poll.agents.is_empty() {
        page.line(Line::raw("no agents"));
    }
    for (at, agent) in poll.agents.iter().enumerate().skip(first).take(height) {
        let line = agent_row(app, poll, agent, &columns, theme);
        let style = if Some(at) == selected { Theme::bar() } else { Style::new() };
        let style = if app.away.is_some() { style.add_modifier(Modifier::DIM) } else { style };
        page.line(line.style(style));
    }
}

#[derive(Debug, Clone, Copy)]
enum Column {
    Agent,
    Role,
    Status,
    Bars(Series),
    Memory,
    Cpu,
    Tokens,
    Restarts,
    Mail,
    Exit,
}

#[derive(Debug, Clone, Copy)]
enum Series {
    Memory,
    Cpu,
    Tokens,
}

/// The cells of a row, each as wide as its column.
fn row(columns: &Columns, cell: impl Fn(Column) -> (String, Style)) -> Line<'static> {
    let &Columns { agent, bars, has_more, has_memory, has_cpu, has_tokens, exit } = columns;
    let when = |has: bool, width: usize| if has { width } else { 0 };
    let more = |width: usize| when(has_more, width);
    let places = [
        (Column::Agent, agent, false),
        (Column::Role, more(ROLE), false),
        (Column::Status, STATUS, false),
        (Column::Bars(Series::Memory), bars, false),
        (Column::Memory, when(has_memory, MEMORY), true),
        (Column::Bars(Series::Cpu), bars, false),
        (Column::Cpu, when(has_cpu, CPU), true),
        (Column::Bars(Series::Tokens), bars, false),
        (Column::Tokens, when(has_tokens, TOKENS), true),
        (Column::Restarts, more(RESTARTS), true),
        (Column::Mail, more(MAIL), true),
        (Column::Exit, exit, false),
    ];
    let mut spans = Vec::new();
    for (column, width, to_the_right) in places.into_iter().filter(|(_, width, _)| *width > 0) {
        if !spans.is_empty() {
            spans.push(Span::raw(" "));
        }
        let (words, style) = cell(column);
        spans.push(Span::styled(fitted(&words, width, to_the_right), style));
    }
    Line::from(spans)
}

fn agent_row(
    app: &App,
    poll: &Poll,
    agent: &AgentView,
    columns: &Columns,
    theme: Theme,
) -> Line<'static> {
    let history = app.histories.get(&agent.agent_id);
    let alive = is_alive(&agent.status);
    let of_the_living = |words: String| if alive { words } else { "-".to_owned() };
    let memory = &agent.memory;
    row(columns, |column| {
        let plain = |words: String| (words, Style::new());
        match column {
            Column::Agent => plain(agent.agent_id.to_string()),
            Column::Role => plain(text::line(&agent.role).into_owned()),
            Column::Status => (status(agent), style_of(agent, theme)),
            Column::Bars(series) => {
                plain(series_bars(history, series, memory.limit_bytes, columns.bars))
            }
            Column::Memory => {
                let (used, limit) =
                    (short_bytes(memory.used_bytes), short_bytes(memory.limit_bytes));
                let style = if is_near_limit(agent) { theme.alarm() } else { Style::new() };
                (of_the_living(format!("{used}/{limit}")), style)
            }
            Column::Cpu => {
                let last = history.and_then(|history| history.cpu.back());
                plain(of_the_living(last.map_or_else(String::new, |cpu| format!("{}%", cpu / 10))))
            }
            Column::Tokens => match agent.usage.total.tokens.total() {
                0 => plain("-".to_owned()),
                tokens => plain(short_count(tokens)),
            },
            Column::Restarts => plain(restarts(agent)),
            Column::Mail => plain(agent.mailbox_depth.to_string()),
            Column::Exit => plain(last_exit(agent, poll.now)),
        }
    })
}

fn series_bars(history: Option<&History>, series: Series, limit: u64, width: usize) -> String {
    let Some(history) = history else { return String::new() };
    let of =
        |samples: &VecDeque<u64>, most: Option<u64>| bars(samples.iter().copied(), most, width);
    match series {
        Series::Memory => of(&history.memory, Some(limit)),
        Series::Cpu => of(&history.cpu, Some(CORE)),
        Series::Tokens => of(&history.tokens, None),
    }
}

fn status(agent: &AgentView) -> String {
    match &*agent.status {
        "running" if agent.busy => "running, busy".to_owned(),
        status => text::line(status).into_owned(),
    }
}

fn style_of(agent: &AgentView, theme: Theme) -> Style {
    match rank(agent) {
        0 => theme.alarm(),
        _ => theme.of(colour_of(&agent.status)),
    }
}

/// The last samples as bars from nothing to `most`, else to the most of them. Nothing is a blank.
fn bars(samples: impl DoubleEndedIterator<Item = u64>, most: Option<u64>, width: usize) -> String {
    let mut last: Vec<_> = samples.rev().take(width).collect();
    last.reverse();
    let most = most.or_else(|| last.iter().max().copied()).unwrap_or(0).max(1);
    let bar = |sample: &u64| {
        let steps = BARS.len() as u128;
        let height = (u128::from(*sample) * steps).div_ceil(u128::from(most)).min(steps);
        height.checked_sub(1).map_or(' ', |at| BARS[at as usize])
    };
    let blank = " ".repeat(width - last.len());
    blank + &last.iter().map(bar).collect::<String>()
}

/// A text in so many columns.
fn fitted(words: &str, width: usize, to_the_right: bool) -> String {
    let mut fitting = String::new();
    let mut left = width;
    let all = Span::raw(words).width();
    let room = if all > width { width.saturating_sub(1) } else { width };
    let mut used = 0;
    for character in words.chars() {
        let columns = width_of(character);
        if used + columns > room {
            break;
        }
        used += columns;
        fitting.push(character);
    }
    left -= used;
    if all > width && left > 0 {
        fitting.push('…');
        left -= 1;
    }
    let blank = " ".repeat(left);
    if to_the_right { blank + &fitting } else { fitting + &blank }
}

/// One agent: how it is, then its events and turns.
fn one(app: &App, poll: &Poll, detail: &Detail, theme: Theme, page: &mut Page<'_, '_>) {
    let id = &detail.agent;
    let Some(agent) = poll.agents.iter().find(|agent| agent.agent_id == *id) else {
        page.line(Line::styled(format!("{id} is not known to the host any more"), theme.alarm()));
        return log(detail, theme, page);
    };
    let since = short_duration(poll.now.since(agent.started_at));
    page.line(Line::from(vec![
        Span::styled(format!("{id}  "), Theme::title()),
        Span::styled(status(agent), style_of(agent, theme)),
        Span::raw(format!(
            "  role {}, incarnation {}, {} {since}, {} waiting",
            text::line(&agent.role),
            agent.incarnation,
            if is_alive(&agent.status) { "up" } else { "begun before" },
            counted(agent.mailbox_depth, "message"),
        )),
    ]));
    let width = (page.width() / 4).min(super::app::SAMPLES);
    let history = app.histories.get(id);
    let series = |series| series_bars(history, series, agent.memory.limit_bytes, width);
    let memory = &agent.memory;
    let near = if is_near_limit(agent) { theme.alarm() } else { Style::new() };
    let used = format!(
        "{} of {} ({}), at most {}",
        words::bytes(memory.used_bytes),
        words::bytes(memory.limit_bytes),
        percent(memory.used_bytes, memory.limit_bytes),
        words::bytes(memory.peak_bytes)
    );
    let cpu = history.and_then(|history| history.cpu.back()).copied().unwrap_or(0);
    let cpu_time = words::duration(Duration::from_micros(agent.cpu_us));
    let total = &agent.usage.total;
    let calls = counted(usize::try_from(total.calls).unwrap_or(usize::MAX), "call");
    for (name, bars, what, style) in [
        ("memory", series(Series::Memory), used, near),
        ("cpu", series(Series::Cpu), format!("{}%, {cpu_time} in all", cpu / 10), Style::new()),
        (
            "tokens",
            series(Series::Tokens),
            format!("{} in {calls}", short_count(total.tokens.total())),
            Style::new(),
        ),
    ] {
        page.line(Line::from(vec![
            Span::raw(format!("{name:<7} {bars}  ")),
            Span::styled(what, style),
        ]));
    }
    if agent.exit.is_some() {
        page.line(Line::raw(format!("exit    {}", last_exit(agent, poll.now))));
    }
    log(detail, theme, page);
}

/// The last lines that fit, or those above them.
fn log(detail: &Detail, theme: Theme, page: &mut Page<'_, '_>) {
    let width = page.width();
    let title = match detail.scrolled {
        0 => " events and turns ".to_owned(),
        lines => format!(" events and turns, {lines} lines from the end "),
    };
    let rule = "─".repeat(width.saturating_sub(title.chars().count() + 2));
    page.line(Line::styled(format!("──{title}{rule}"), theme.of(Colour::Grey)));
    let lines = detail.log.lines();
    if lines.is_empty() {
        page.line(Line::styled("nothing yet", theme.of(Colour::Grey)));
        return;
    }
    let height = page.left();
    let end = lines.len() - detail.scrolled.min(lines.len() - 1);
    let mut rows: Vec<Line<'_>> = Vec::new();
    for line in lines.range(..end).rev() {
        let style = match line.voice {
            Voice::Event => Style::new(),
            Voice::Text => theme.of(Colour::Green),
            Voice::Reasoning | Voice::Remark => theme.of(Colour::Grey),
        };
        let wrapped = match line.voice {
            // Data may be of any length; the whole of it is in `bulkhead events`.
            Voice::Event => vec![fitted(&line.text, width, false)],
            _ => wrapped(&line.text, width),
        };
        rows.extend(wrapped.into_iter().rev().map(|row| Line::styled(row, style)));
        if rows.len() >= height {
            break;
        }
    }
    rows.truncate(height);
    rows.into_iter().rev().for_each(|row| page.line(row));
}

fn foot(app: &App, theme: Theme, page: &mut Page<'_, '_>) {
    let y = page.area.height - 1;
    let line = match (&app.notice, &app.detail) {
        (Some(notice), _) if notice.is_bad => Line::styled(notice.text.clone(), theme.alarm()),
        (Some(notice), _) => Line::raw(notice.text.clone()),
        (None, Some(_)) => Line::styled(KEYS_OF_DETAIL, theme.of(Colour::Grey)),
        (None, None) => Line::styled(KEYS, theme.of(Colour::Grey)),
    };
    page.put(y, line);
}

fn over(app: &App, theme: Theme, frame: &mut Frame<'_>) {
    let area = frame.area();
    match &app.over {
        Over::Nothing => {}
        Over::Help { first } => {
            let height = usize::from(area.height).saturating_sub(BORDERS);
            let mut rows: Vec<_> = rows_in_window(&HELP, usize::from(area.width)).collect();
            let title = if rows.len() > height { "help: ↑↓ scroll" } else { "help" };
            let first = (*first).min(rows.len().saturating_sub(height));
            let rows = rows.drain(first..).take(height).map(Line::raw).collect();
            window(frame, title, rows);
        }
        Over::Confirm(order) => {
            let columns = usize::from(area.width);
            let rows = question(order);
            let mut lines: Vec<_> = rows_in_window(&rows, columns).map(Line::raw).collect();
            lines.extend([Line::raw(""), Line::raw("y yes   any other key no")]);
            window(frame, "sure?", lines);
        }
        Over::Message { agent, draft } => {
            let width = usize::from(area.width.saturating_sub(4)).min(100).saturating_sub(2);
            let most = usize::from(area.height.saturating_sub(6)).max(1);
            let mut lines: Vec<_> =
                around(draft.parts(), width, most).into_iter().map(Line::raw).collect();
            if let Some(refused) = &draft.refused {
                let rows = wrapped(refused, width).into_iter();
                lines.extend(rows.map(|row| Line::styled(row, theme.alarm())));
            }
            let keys = fitted("Enter send   Esc cancel", width, false);
            lines.push(Line::styled(keys, theme.of(Colour::Grey)));
            window(frame, &format!("message to {agent}"), lines);
        }
        Over::Crash { lines, first } => {
            let height = usize::from(area.height.saturating_sub(4));
            let columns = usize::from(area.width);
            let width = columns.saturating_sub(FRAME);
            let rows = rows_in_window(lines, columns).skip(*first).take(height);
            let mut rows: Vec<_> = rows.map(Line::raw).collect();
            rows.resize(height, Line::raw(""));
            if let Some(row) = rows.first_mut() {
                row.spans.push(Span::raw(" ".repeat(width.saturating_sub(row.width()))));
            }
            window(frame, "crash: ↑↓ scroll, Esc close", rows);
        }
    }
}

/// The rows of a message around the place where it is written, at most so many.
fn around((before, after): (&str, &str), width: usize, most: usize) -> Vec<String> {
    // More is never seen, and a message may have 1 MiB.
    let room = width * most;
    let start = before.char_indices().rev().nth(room).map_or(0, |(at, _)| at);
    let end = after.char_indices().nth(room).map_or(after.len(), |(at, _)| at);
    let before = format!("{}▏", text::line(&before[start..]));
    let here = wrapped(&before, width).len();
    let mut rows = wrapped(&(before + &text::line(&after[..end])), width);
    rows.truncate(here.max(most));
    rows.drain(..rows.len().saturating_sub(most));
    rows
}

fn question(order: &Order) -> Vec<String> {
    match order {
        Order::Stop(agent) => vec![format!("stop {agent}?")],
        Order::Start(start) => {
            let quarantined = if start.force { ", which is quarantined," } else { "" };
            let role = text::line(&start.role);
            vec![
                format!("start {}{quarantined} with role {role}?", start.agent),
                "It keeps its name, town, rig and model. The rest is the role's default,"
                    .to_owned(),
                "also the memory limit; there is no prompt, variable or secret.".to_owned(),
            ]
        }
        _ => Vec::new(),
    }
}

/// Lines in the middle of the screen, over what stands there.
fn window(frame: &mut Frame<'_>, title: &str, lines: Vec<Line<'_>>) {
    let area = frame.area();
    let widest = lines.iter().map(Line::width).max().unwrap_or(0).max(title.chars().count() + 2);
    let fit = |wanted: usize, most: u16| u16::try_from(wanted).unwrap_or(u16::MAX).min(most);
    let (width, height) = (fit(widest + 4, area.width), fit(lines.len() + 2, area.height));
    let (x, y) = ((area.width - width) / 2, (area.height - height) / 2);
    let area = Rect { x, y, width, height };
    let block = Block::bordered().title(format!(" {title} "));
    let inner = block.inner(area);
    frame.render_widget(Clear, area);
    frame.render_widget(block, area);
    let inner = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
    frame.render_widget(Paragraph::new(lines), inner);
}
