//! Curves of memory as SVG. Colours come from the style sheet, so that a curve is readable in the dark as well.

use std::fmt::Write as _;

use bulkhead_api::SeriesView;
use bulkhead_terminal::words::bytes;
use bulkhead_types::Timestamp;
use bulkhead_types::memory::MemorySample;
use maud::{Markup, html};

use crate::words::clock;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 26.0;

/// More time than this many samples take is a time without any: the agent was down.
const BREAK_SAMPLES: u64 = 4;

/// One line in a chart.
pub(crate) struct Line<'a> {
    pub label: &'a str,
    /// How it looks, in the style sheet: `line-1` to `line-3`.
    pub class: &'a str,
    pub samples: Vec<MemorySample>,
}

/// A chart of memory over time.
pub(crate) struct Chart<'a> {
    /// Makes the ids in it unique on the page.
    pub id: &'a str,
    pub title: &'a str,
    pub lines: Vec<Line<'a>>,
    pub limit: Option<u64>,
    /// Longest time between two samples that belong together.
    pub sample_ms: u64,
}

/// Three hours by the minute, and the last ten minutes as fine as there are.
pub(crate) fn joined(series: &SeriesView) -> Vec<MemorySample> {
    let fine_from = series.fine.first().map_or(Timestamp(i64::MAX), |first| first.ts);
    let older = series.coarse.iter().filter(|sample| sample.ts < fine_from);
    older.chain(&series.fine).copied().collect()
}

impl Chart<'_> {
    /// The curve, or a sentence when there is nothing to draw.
    pub(crate) fn draw(&self) -> Markup {
        let all = || self.lines.iter().flat_map(|line| &line.samples);
        let (Some(begin), Some(end)) =
            (all().map(|sample| sample.ts).min(), all().map(|sample| sample.ts).max())
        else {
            return html! { p.empty { "No samples of memory yet." } };
        };
        let most = all().map(|sample| sample.bytes).max().unwrap_or_default();
        let top = most.max(self.limit.unwrap_or_default()).max(1);
        let scale = Scale { begin, end, top };
        let (title_id, text_id) = (format!("{}-title", self.id), format!("{}-text", self.id));
        let base = HEIGHT - BOTTOM;
        html! {
            figure.chart {
                svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-labelledby={ (title_id) " " (text_id) } {
                    title id=(title_id) { (self.title) }
                    desc id=(text_id) { (self.in_words(begin, end)) }
                    @for part in [0, 1, 2] {
                        @let value = top / 2 * part;
                        @let y = scale.y(value);
                        line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(y) y2=(y) {}
                        text.label x=(LEFT - 6.0) y=(y + 4.0) text-anchor="end" { (bytes(value)) }
                    }
                    @if let Some(limit) = self.limit {
                        @let y = scale.y(limit);
                        line.limit x1=(LEFT) x2=(WIDTH - RIGHT) y1=(y) y2=(y) {}
                        text.limit-label x=(WIDTH - RIGHT) y=(y - 5.0) text-anchor="end" { "limit " (bytes(limit)) }
                    }
                    @for line in &self.lines {
                        path class={ "line " (line.class) } d=(self.path(&line.samples, &scale)) {}
                    }
                    text.label x=(LEFT) y=(base + 18.0) { (clock(begin)) }
                    text.label x=(WIDTH - RIGHT) y=(base + 18.0) text-anchor="end" { (clock(end)) " UTC" }
                }
                @if self.lines.len() > 1 {
                    figcaption {
                        @for line in &self.lines { span class={ "key " (line.class) } { (line.label) } " " }
                    }
                }
            }
        }
    }

    fn path(&self, samples: &[MemorySample], scale: &Scale) -> String {
        let mut path = String::with_capacity(samples.len() * 14);
        let mut before: Option<Timestamp> = None;
        for (index, sample) in samples.iter().enumerate() {
            let (x, y) = (scale.x(sample.ts), scale.y(sample.bytes));
            let goes_on = before.is_some_and(|before| !self.is_break(before, sample.ts));
            let _ = write!(path, "{}{x:.1} {y:.1}", if goes_on { 'L' } else { 'M' });
            let next = samples.get(index + 1);
            if !goes_on && next.is_none_or(|next| self.is_break(sample.ts, next.ts)) {
                // One sample alone is a dot: line ends are round.
                path.push_str("h0.1");
            }
            before = Some(sample.ts);
        }
        path
    }

    fn is_break(&self, from: Timestamp, to: Timestamp) -> bool {
        // Coarse samples come twelve times as seldom.
        to.since(from).as_millis() > u128::from(self.sample_ms * 12 * BREAK_SAMPLES)
    }

    fn in_words(&self, begin: Timestamp, end: Timestamp) -> String {
        let mut words = format!("From {} to {} UTC.", clock(begin), clock(end));
        for line in &self.lines {
            let Some(last) = line.samples.last() else { continue };
            let least = line.samples.iter().map(|sample| sample.bytes).min().unwrap_or_default();
            let most = line.samples.iter().map(|sample| sample.bytes).max().unwrap_or_default();
            let (last, least, most) = (bytes(last.bytes), bytes(least), bytes(most));
            let _ = write!(words, " {}: from {least} to {most}, at last {last}.", line.label);
        }
        if let Some(limit) = self.limit {
            let _ = write!(words, " The limit is {}.", bytes(limit));
        }
        words
    }
}

struct Scale {
    begin: Timestamp,
    end: Timestamp,
    top: u64,
}

impl Scale {
    fn x(&self, at: Timestamp) -> f64 {
        let span = self.end.since(self.begin).as_secs_f64();
        let part = if span > 0.0 { at.since(self.begin).as_secs_f64() / span } else { 1.0 };
        tenth(LEFT + part * (WIDTH - LEFT - RIGHT))
    }

    fn y(&self, bytes: u64) -> f64 {
        let part = bytes as f64 / self.top as f64;
        tenth(HEIGHT - BOTTOM - part * (HEIGHT - BOTTOM - TOP))
    }
}

fn tenth(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// A small curve for a table, without words: the figures stand beside it.
pub(crate) fn spark(samples: &[MemorySample], limit: u64) -> Markup {
    const WIDE: f64 = 96.0;
    const HIGH: f64 = 24.0;
    let most = samples.iter().map(|sample| sample.bytes).max().unwrap_or_default();
    let top = most.max(limit).max(1) as f64;
    let step = WIDE / (samples.len().max(2) - 1) as f64;
    let mut path = String::new();
    for (index, sample) in samples.iter().enumerate() {
        let (x, y) = (index as f64 * step, HIGH - 1.0 - sample.bytes as f64 / top * (HIGH - 2.0));
        let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' });
    }
    html! {
        @if samples.len() > 1 {
            svg.spark viewBox={ "0 0 " (WIDE) " " (HIGH) } aria-hidden="true" focusable="false" {
                path.line.line-1 d=(path) {}
            }
        }
    }
}
