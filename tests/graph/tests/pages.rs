//! Every link of the Markdown pages leads somewhere: to a file that is there, and to a heading that it has.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is their failure")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What is not ours, or is made by tools.
const NOT_OURS: [&str; 3] = ["target", "node_modules", ".git"];

/// Parts of pages that are made of them, and pages of projects that `bulkhead new` begins: their links are seen from
/// elsewhere.
const PARTS: [&str; 6] = [
    "host/control/src/tests/document",
    "host/daemon/src/cli",
    "host/daemon/src/config/keys",
    "host/diagnose/src",
    "host/log/src/reference",
    "host/scaffold/templates",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// All pages below a directory.
fn pages_in(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            if !NOT_OURS.iter().any(|it| name == *it) {
                pages_in(&path, found);
            }
        } else if path.extension().is_some_and(|it| it == "md") {
            found.push(path);
        }
    }
}

/// The lines of a page that are prose, with their numbers and without what is code.
fn prose(page: &str) -> impl Iterator<Item = (usize, String)> {
    let mut fence: Option<&str> = None;
    page.lines().enumerate().filter_map(move |(index, line)| {
        let start = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (None, None) => return Some((index + 1, line.to_owned())),
            _ => {}
        }
        None
    })
}

/// The line without its inline code.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("x")
}

/// Where the links of a line lead.
fn links(line: &str) -> Vec<String> {
    let line = without_code(line);
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.split(' ').next().unwrap().to_owned()).collect()
}

/// The anchors of a page, as GitHub makes them of its headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut found = BTreeSet::new();
    for (_, line) in prose(page) {
        let level = line.bytes().take_while(|it| *it == b'#').count();
        if !(1..=6).contains(&level) || !line[level..].starts_with(' ') {
            continue;
        }
        let heading = text_of(line[level..].trim());
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let anchor = kept.collect::<String>().to_lowercase().replace(' ', "-");
        let count = counts.entry(anchor.clone()).or_default();
        found.insert(if *count == 0 { anchor } else { format!("{anchor}-{count}") });
        *count += 1;
    }
    found
}

/// A heading without the targets of its links.
fn text_of(heading: &str) -> String {
    let mut text = String::new();
    for (index, part) in heading.split("](").enumerate() {
        let part = if index == 0 { part } else { part.split_once(')').map_or("", |it| it.1) };
        text.push_str(part);
    }
    text
}

/// What is wrong with a link of the page at `from`.
fn problem(from: &Path, target: &str) -> Option<String> {
    if ["http://", "https://", "mailto:"].iter().any(|scheme| target.starts_with(scheme)) {
        return None;
    }
    let (path, anchor) =
        target.split_once('#').map_or((target, None), |(path, it)| (path, Some(it)));
    let file = match path {
        "" => from.to_owned(),
        path => from.parent().unwrap().join(path),
    };
    if !file.exists() {
        return Some("there is no such file".to_owned());
    }
    let anchor = anchor?;
    if file.extension().is_none_or(|it| it != "md") {
        return Some("it has no headings".to_owned());
    }
    let known = anchors(&fs::read_to_string(file).unwrap());
    (!known.contains(anchor)).then(|| format!("there is no heading #{anchor}"))
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    let (root, mut pages) = (root(), Vec::new());
    pages_in(&root, &mut pages);
    let is_part = |page: &PathBuf| PARTS.iter().any(|part| page.starts_with(root.join(part)));
    pages.retain(|page| !is_part(page));
    let (mut count, mut broken) = (0, Vec::new());
    for page in &pages {
        for (line, text) in prose(&fs::read_to_string(page).unwrap()) {
            for target in links(&text) {
                count += 1;
                if let Some(problem) = problem(page, &target) {
                    let page = page.strip_prefix(&root).unwrap().display();
                    broken.push(format!("{page}:{line}: {target}: {problem}"));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    // It reads them at all.
    assert!(pages.len() > 30 && count > 200, "{count} links on {} pages", pages.len());
}

#[test]
fn links_and_anchors_are_found_where_they_are() {
    let page = "# A `b`: c, d\n\n[x](y.md#z) and ![p](q.svg \"title\") `[no](no)`\n\n```sh\n# no\n[no](no)\n```\n## A [b](c)\n## A b\n";
    let found: Vec<_> = prose(page).flat_map(|(_, line)| links(&line)).collect();
    assert_eq!(found, ["y.md#z", "q.svg", "c"]);
    let anchors: Vec<_> = anchors(page).into_iter().collect();
    assert_eq!(anchors, ["a-b", "a-b-1", "a-b-c-d"]);
}
