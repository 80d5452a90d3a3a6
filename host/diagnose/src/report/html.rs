//! For a browser: one file, the pictures as SVG in it, nothing to load.

use std::fmt::Write as _;

use plotters::prelude::{
    ChartBuilder, Circle, EmptyElement, IntoDrawingArea, IntoFont, LineSeries, PathElement,
    RGBColor, Rectangle, SVGBackend, Text, WHITE,
};
use plotters::style::Color as _;

use super::text::duration;
use super::{Picture, Report, Verdict};
use crate::read::stamp;

/// Towns with a picture, those with the most restarts.
const MAX_TOWNS: usize = 20;

/// Restarts in the table, the last ones.
const MAX_ROWS: usize = 500;

/// Ends with a label in a picture; more would only cover each other.
const MAX_LABELS: usize = 60;

const SIZE: (u32, u32) = (1100, 320);

const MEMORY: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const RUNS: RGBColor = RGBColor(0xcc, 0xd6, 0xdd);
const EVENT: RGBColor = RGBColor(0x8c, 0x56, 0x4b);
const LIMIT: RGBColor = RGBColor(0x99, 0x99, 0x99);

const STYLE: &str = "\
body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1140px;padding:0 1em;color:#222}\
table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #ddd;padding:.35em .6em;\
text-align:left;vertical-align:top}summary{cursor:pointer}svg{width:100%;height:auto}\
.v{font-weight:600;white-space:nowrap}.t{white-space:nowrap}.k{color:#555;font-size:13px}\
.k b{font-weight:400;margin-right:1.5em}.k i{display:inline-block;width:.8em;height:.8em;margin-right:.4em}.against{color:#777}code{font-size:13px;overflow-wrap:anywhere}";

pub fn page(report: &Report) -> Result<String, String> {
    let mut page = String::new();
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Restarts</title>\
         <style>{STYLE}</style></head><body><h1>{}, {} undecided</h1>",
        report.summary.ends(),
        report.summary.undecided
    );
    summary(&mut page, report);
    let mut pictures: Vec<_> =
        report.pictures.iter().filter(|picture| !picture.ends.is_empty()).collect();
    pictures.sort_by_key(|picture| std::cmp::Reverse(picture.ends.len()));
    for picture in pictures.into_iter().take(MAX_TOWNS) {
        let _ = write!(page, "<h2>{}</h2>", escape(&picture.town));
        page.push_str(&draw(picture).map_err(|error| format!("draw the timeline: {error}"))?);
        legend(&mut page, picture);
    }
    table(&mut page, report);
    page.push_str("</body></html>\n");
    Ok(page)
}

fn escape(text: &str) -> String {
    let text = bulkhead_printable::line(text);
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

fn summary(page: &mut String, report: &Report) {
    let summary = &report.summary;
    page.push_str("<ul>");
    for (id, count) in &summary.causes {
        let hypothesis = crate::rules::Hypothesis::ALL.into_iter().find(|one| one.id() == id);
        let title = hypothesis.map_or(String::new(), |one| format!(" {}", one.title()));
        let _ = write!(page, "<li><span class=v>{id}</span>{title}: {count}</li>");
    }
    if let Some(intervals) = &summary.intervals {
        let _ = write!(
            page,
            "<li>every {} (median; half of them between {} and {})</li>",
            duration(intervals.median_ms),
            duration(intervals.lower_quartile_ms),
            duration(intervals.upper_quartile_ms)
        );
    }
    for note in &summary.notes {
        let _ = write!(page, "<li>{}</li>", escape(note));
    }
    page.push_str("</ul>");
}

/// What the colours of a picture are.
fn legend(page: &mut String, picture: &Picture) {
    page.push_str("<p class=k>");
    let mut add = |RGBColor(red, green, blue): RGBColor, text: &str| {
        let _ = write!(
            page,
            "<b><i style=\"background:#{red:02x}{green:02x}{blue:02x}\"></i>{text}</b>"
        );
    };
    if has_memory(picture) {
        add(MEMORY, "memory");
    }
    if picture.limit_mb.is_some() {
        add(LIMIT, "its limit");
    }
    add(RUNS, "a run");
    if !picture.events.is_empty() {
        add(EVENT, "an event that is a sign");
    }
    page.push_str("upright lines: ends of runs, with the verdict</p>");
}

fn has_memory(picture: &Picture) -> bool {
    picture.memory.iter().any(|(_, mb)| !mb.is_nan())
}

fn table(page: &mut String, report: &Report) {
    page.push_str(
        "<h2>Restarts</h2><table><tr><th>when<th>town<th>lived<th>verdict<th>evidence</tr>",
    );
    let from = report.restarts.len().saturating_sub(MAX_ROWS);
    for restart in &report.restarts[from..] {
        let when = restart.at.as_deref().or(restart.last_line_at.as_deref()).unwrap_or("?");
        let _ = write!(
            page,
            "<tr><td class=t>{}<td>{}<td class=t>{}<td><span class=v>{}</span>{}<td><details>\
             <summary>{}; next: {}</summary><ul>",
            escape(when),
            escape(restart.town.as_deref().unwrap_or("(no town)")),
            duration(restart.lived_ms),
            restart.verdict.id(),
            match restart.verdict {
                Verdict::Of(hypothesis) => format!(" {}", hypothesis.title()),
                Verdict::Undecided(_) => String::new(),
            },
            match restart.evidence.len() {
                0 => "no sign".to_owned(),
                1 => "1 sign".to_owned(),
                count => format!("{count} signs"),
            },
            escape(&restart.next)
        );
        for evidence in &restart.evidence {
            let class = if evidence.r#for { "for" } else { "against" };
            let place = match (&evidence.file, evidence.line) {
                (Some(file), Some(line)) => format!("{}:{line}", escape(file)),
                _ => String::new(),
            };
            let _ = write!(
                page,
                "<li class={class}>{} {:+}: {} <code>{place}</code><br><i>{}</i></li>",
                evidence.hypothesis.id(),
                evidence.weight,
                escape(&evidence.text),
                escape(&evidence.reason)
            );
        }
        page.push_str("</ul></details></tr>");
    }
    page.push_str("</table>");
}

fn color(verdict: Verdict) -> RGBColor {
    const COLORS: [RGBColor; 7] = [
        RGBColor(0xd6, 0x27, 0x28),
        RGBColor(0xff, 0x7f, 0x0e),
        RGBColor(0x94, 0x67, 0xbd),
        RGBColor(0x2c, 0xa0, 0x2c),
        RGBColor(0xe3, 0x77, 0xc2),
        RGBColor(0xbc, 0xbd, 0x22),
        RGBColor(0x17, 0xbe, 0xcf),
    ];
    match verdict {
        Verdict::Of(hypothesis) => COLORS[hypothesis as usize % COLORS.len()],
        Verdict::Undecided(_) => RGBColor(0x44, 0x44, 0x44),
    }
}

fn draw(picture: &Picture) -> Result<String, Box<dyn std::error::Error>> {
    let times = picture.runs.iter().flat_map(|(from, to)| [*from, *to]);
    let (from, to) = (times.clone().min().unwrap_or(0), times.max().unwrap_or(0));
    let to = to.max(picture.ends.iter().map(|(ts, _)| *ts).max().unwrap_or(to)).max(from + 1000);
    let highest = picture.memory.iter().map(|(_, mb)| *mb).fold(1.0, f32::max);
    let top = highest.max(picture.limit_mb.unwrap_or(0.0)) * 1.15;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .margin_right(36)
            .x_label_area_size(32)
            .y_label_area_size(56)
            .build_cartesian_2d(from..to, 0f32..top)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .max_light_lines(1)
            .x_labels(8)
            .y_desc(if has_memory(picture) { "MB" } else { "no memory in the log" })
            .y_labels(if has_memory(picture) { 6 } else { 0 })
            .x_label_formatter(&|ts: &i64| stamp::format(*ts)[11..19].to_owned())
            .y_label_formatter(&|mb: &f32| format!("{mb:.0}"))
            .draw()?;
        let strip = top * 0.03;
        chart.draw_series(
            picture
                .runs
                .iter()
                .map(|(from, to)| Rectangle::new([(*from, 0.0), (*to, strip)], RUNS.filled())),
        )?;
        for run in picture.memory.split(|(_, mb)| mb.is_nan()) {
            chart.draw_series(LineSeries::new(run.iter().copied(), MEMORY.stroke_width(2)))?;
        }
        if let Some(limit) = picture.limit_mb {
            chart.draw_series(LineSeries::new([(from, limit), (to, limit)], LIMIT))?;
        }
        chart.draw_series(picture.events.iter().map(|(ts, _)| {
            EmptyElement::at((*ts, strip * 1.8)) + Circle::new((0, 0), 3, EVENT.filled())
        }))?;
        chart.draw_series(picture.ends.iter().map(|(ts, verdict)| {
            PathElement::new([(*ts, 0.0), (*ts, top)], color(*verdict).stroke_width(1))
        }))?;
        let labelled = picture.ends.len().saturating_sub(MAX_LABELS);
        chart.draw_series(picture.ends[labelled..].iter().enumerate().map(
            |(at, (ts, verdict))| {
                let style = ("sans-serif", 12).into_font().color(&color(*verdict));
                let down = i32::try_from(at % 4).unwrap_or(0) * 13;
                let text = if *verdict == Verdict::Undecided(super::Undecided::Undecided) {
                    "?".to_owned()
                } else {
                    verdict.id().to_owned()
                };
                EmptyElement::at((*ts, top)) + Text::new(text, (3, down), style)
            },
        ))?;
        area.present()?;
    }
    Ok(svg)
}
