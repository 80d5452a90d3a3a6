//! For a terminal.

use std::fmt::Write as _;

use bulkhead_printable as printable;

use super::{Evidence, Picture, Report, Restart, Verdict};
use crate::read::stamp;
use crate::rules::Hypothesis;
use crate::words::counted;

/// Restarts that are shown with their evidence; of more, the last ones.
const MAX_SHOWN: usize = 30;

/// Evidence lines for each restart.
const MAX_EVIDENCE: usize = 8;

/// Towns with a timeline.
const MAX_TOWNS: usize = 20;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

pub fn page(report: &Report, columns: usize) -> String {
    let mut page = String::new();
    let omitted = report.restarts.len().saturating_sub(MAX_SHOWN);
    if omitted > 0 {
        let earlier = counted(omitted as u64, "earlier restart");
        let _ = writeln!(page, "(the summary and --json include {earlier})\n");
    }
    for restart in &report.restarts[omitted..] {
        show(&mut page, restart);
    }
    let with_ends = || report.pictures.iter().filter(|picture| !picture.ends.is_empty());
    for picture in with_ends().take(MAX_TOWNS) {
        timeline(&mut page, picture, columns.clamp(40, 200));
    }
    let more = with_ends().count().saturating_sub(MAX_TOWNS);
    if more > 0 {
        let _ = writeln!(page, "({} with restarts not shown)\n", counted(more as u64, "more town"));
    }
    summary(&mut page, report);
    // Logs hold what guests wrote: nothing of it reaches a terminal but characters.
    printable::lines(&page).into_owned()
}

fn show(page: &mut String, restart: &Restart) {
    let town = printable::line(restart.town.as_deref().unwrap_or("(no town)"));
    let when = match (&restart.at, &restart.last_line_at) {
        (Some(at), _) => format!("restarted {at}"),
        (None, Some(last)) => format!("ended {last}, no restart seen"),
        (None, None) => "ended, no restart seen".into(),
    };
    let run = restart.run_id.as_deref();
    let run = run.map_or_else(String::new, |run| format!(", run {}", printable::line(run)));
    let lived = duration(restart.lived_ms);
    let _ = writeln!(page, "{town}: {when} after {lived}{run}");
    let confidence = match restart.verdict {
        Verdict::Of(_) => format!(" ({} confidence)", word(restart.confidence)),
        Verdict::Undecided(_) => String::new(),
    };
    let id = match restart.verdict {
        Verdict::Of(hypothesis) => format!("{}: ", hypothesis.id()),
        Verdict::Undecided(_) => String::new(),
    };
    let _ = writeln!(page, "  verdict  {id}{}{confidence}", restart.verdict.title());
    if !restart.also.is_empty() {
        let name = if matches!(restart.verdict, Verdict::Of(_)) { "also" } else { "between" };
        let also: Vec<_> =
            restart.also.iter().map(|one| format!("{}: {}", one.id(), one.title())).collect();
        let _ = writeln!(page, "  {name:<8} {}", also.join("; "));
    }
    // What only contradicts something that nothing speaks for is for --json.
    let is_shown =
        |hypothesis| restart.evidence.iter().any(|one| one.hypothesis == hypothesis && one.r#for);
    // Several rules may go by one line.
    let mut evidence: Vec<&Evidence> = Vec::new();
    for one in &restart.evidence {
        let is_it = |known: &&Evidence| {
            (known.hypothesis, known.r#for, &known.text) == (one.hypothesis, one.r#for, &one.text)
        };
        if is_shown(one.hypothesis) && !evidence.iter().any(is_it) {
            evidence.push(one);
        }
    }
    for evidence in evidence.iter().take(MAX_EVIDENCE) {
        let sign = if evidence.r#for { '+' } else { '-' };
        let place = match (&evidence.file, evidence.line) {
            (Some(file), Some(line)) => format!("  [{}:{line}]", printable::line(file)),
            _ => String::new(),
        };
        let _ = writeln!(
            page,
            "  {sign} {:<4} {}{place}",
            evidence.hypothesis.id(),
            printable::line(&evidence.text)
        );
    }
    let more = evidence.len().saturating_sub(MAX_EVIDENCE);
    if more > 0 {
        let _ = writeln!(page, "    ({more} more)");
    }
    let _ = writeln!(page, "  next     {}\n", printable::line(&restart.next));
}

fn word(confidence: crate::judge::Confidence) -> &'static str {
    match confidence {
        crate::judge::Confidence::Low => "low",
        crate::judge::Confidence::Medium => "medium",
        crate::judge::Confidence::High => "high",
    }
}

/// `2 h 03 min`, `4 min 05 s`, `12.5 s`.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{:.1} s", ms as f64 / 1000.0),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// One character for a cause.
fn mark(verdict: Verdict) -> char {
    match verdict {
        Verdict::Of(hypothesis) => {
            char::from_digit(hypothesis as u32 + 1, 36).unwrap_or('*').to_ascii_uppercase()
        }
        Verdict::Undecided(_) => '?',
    }
}

fn timeline(page: &mut String, picture: &Picture, columns: usize) {
    let times = picture.runs.iter().flat_map(|(from, to)| [*from, *to]);
    let (Some(from), Some(to)) = (times.clone().min(), times.max()) else { return };
    let wide = columns - 12;
    let column = |ts: i64| {
        let share = (ts - from) as f64 / (to - from).max(1) as f64;
        ((share * wide as f64) as usize).min(wide - 1)
    };
    let mut line = vec![' '; wide];
    for (from, to) in &picture.runs {
        line[column(*from)..=column(*to).max(column(*from))].fill('─');
    }
    let mut memory = vec![f32::NAN; wide];
    for (ts, mb) in &picture.memory {
        let place = &mut memory[column(*ts)];
        *place = place.max(*mb);
    }
    let mut events = vec![' '; wide];
    for (ts, _) in &picture.events {
        events[column(*ts)] = '•';
    }
    for (ts, verdict) in &picture.ends {
        line[column(*ts)] = mark(*verdict);
    }
    let (start, end) = (stamp::format(from), stamp::format(to));
    let _ =
        writeln!(page, "{}  {} to {}", printable::line(&picture.town), &start[..19], &end[..19]);
    let _ = writeln!(page, "  restarts {}", line.iter().collect::<String>());
    if picture.memory.iter().any(|(_, mb)| !mb.is_nan()) {
        let top = memory.iter().copied().fold(1.0, f32::max);
        let bar = |mb: &f32| match mb.is_nan() {
            true => ' ',
            false => BARS[((mb / top * 7.0) as usize).min(7)],
        };
        let bars: String = memory.iter().map(bar).collect();
        let _ = writeln!(page, "  memory   {bars} top {top:.0} MB");
    }
    let _ = writeln!(page, "  signs    {}\n", events.iter().collect::<String>().trim_end());
}

fn summary(page: &mut String, report: &Report) {
    let summary = &report.summary;
    let _ = writeln!(
        page,
        "{} in {} of {}, {} undecided",
        summary.ends(),
        counted(summary.runs as u64, "run"),
        counted(summary.towns as u64, "town"),
        summary.undecided
    );
    let mut causes: Vec<_> = summary.causes.iter().collect();
    causes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (id, count) in causes {
        let hypothesis = Hypothesis::ALL.into_iter().find(|one| one.id() == *id);
        let title = hypothesis.map_or("", Hypothesis::title);
        let mark = hypothesis.map_or('?', |one| mark(Verdict::Of(one)));
        let share = 100.0 * *count as f64 / summary.restarts as f64;
        let _ = writeln!(page, "  {mark}  {id:<9} {count:>5}  {share:>5.1} %  {title}");
    }
    if let Some(intervals) = &summary.intervals {
        let _ = writeln!(
            page,
            "  every {} (median; half of them between {} and {}; from {} to {})",
            duration(intervals.median_ms),
            duration(intervals.lower_quartile_ms),
            duration(intervals.upper_quartile_ms),
            duration(intervals.min_ms),
            duration(intervals.max_ms)
        );
    }
    let agents: Vec<_> = summary
        .agents
        .iter()
        .take(5)
        .map(|agent| format!("{} ({})", printable::line(&agent.agent), agent.restarts))
        .collect();
    if !agents.is_empty() {
        let _ = writeln!(page, "  agents   {}", agents.join(", "));
    }
    for ongoing in &summary.ongoing {
        let titles: Vec<_> =
            ongoing.hypotheses.iter().map(|one| format!("{}: {}", one.id(), one.title())).collect();
        let town = printable::line(ongoing.town.as_deref().unwrap_or("(no town)"));
        let _ = writeln!(page, "  last run of {town}: {}", titles.join("; "));
    }
    let input = &summary.input;
    let _ = writeln!(
        page,
        "  read     {}, {:.1} MB: {} JSON, {} cut, {} text, {} binary, {} doubled",
        counted(input.lines, "line"),
        input.bytes as f64 / 1e6,
        input.json_lines,
        input.cut_lines,
        input.text_lines,
        input.binary_lines,
        input.doubled_lines
    );
    for note in &summary.notes {
        let _ = writeln!(page, "  note     {}", printable::line(note));
    }
}
