//! The report for a browser: one file, the pictures as SVG in it, nothing to load.

use std::fmt::Write as _;

use crate::report::Report;

const STYLE: &str = "\
body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1240px;padding:0 1em;color:#222}\
table{border-collapse:collapse;width:100%;font-size:13px}td,th{border-bottom:1px solid #ddd;\
padding:.3em .6em;text-align:right;white-space:nowrap}td:first-child,th:first-child{text-align:left;\
white-space:normal}svg{width:100%;height:auto;max-width:1000px}.met{color:#2a7d2a}\
.MISSED{color:#b30000;font-weight:600}";

pub fn page(report: &Report) -> Result<String, String> {
    let mut page = String::new();
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Bulkhead, measured\
         </title><style>{STYLE}</style></head><body><h1>Bulkhead, measured</h1><p>{}",
        escape(&report.machine)
    );
    for line in &report.circumstances {
        let _ = write!(page, "<br>{}", escape(line));
    }
    page.push_str("</p>");
    list(&mut page, &report.notes);
    for plot in &report.plots {
        let svg = plot.svg().map_err(|error| format!("draw a picture: {error}"))?;
        page.push_str(&svg);
    }
    table(&mut page, report);
    page.push_str("</body></html>\n");
    Ok(page)
}

fn list(page: &mut String, notes: &[String]) {
    page.push_str("<ul>");
    for note in notes {
        let _ = write!(page, "<li>{}</li>", escape(note));
    }
    page.push_str("</ul>");
}

fn table(page: &mut String, report: &Report) {
    let mut part = "";
    for row in &report.rows {
        if part != row.part {
            part = &row.part;
            let end = if page.ends_with("</tr>") { "</table>" } else { "" };
            let _ = write!(
                page,
                "{end}<h2>{}</h2><table><tr><th>what<th>n<th>p50<th>p99<th>p25 .. p75<th>against\
                 <th>ratio<th>budget<th></tr>",
                escape(part)
            );
        }
        let verdict = row.verdict();
        let _ = write!(
            page,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td class=\"{verdict}\">{verdict}\
             </tr>",
            escape(&row.name),
            row.n,
            row.p50,
            row.p99,
            row.spread,
            escape(&row.against),
            row.ratio_text(),
            escape(&row.budget),
        );
    }
    page.push_str("</table>");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
