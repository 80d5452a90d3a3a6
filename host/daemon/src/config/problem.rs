//! Values of the configuration that are wrong.

use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bulkhead_client::line_of;
use bulkhead_net::Trust;
use bulkhead_types::error::chain;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::SECTIONS;

/// A value that is wrong beside others.
#[derive(Debug)]
pub struct Problem {
    /// For example `roles.mayor.component`.
    pub(super) key: String,
    /// What is wrong and what would be right.
    pub(super) message: String,
    /// Where in the file; empty when the value came from the environment.
    pub(super) span: Range<usize>,
}

impl Problem {
    /// A problem with the value at `span`.
    pub fn at(span: Range<usize>, key: String, message: String) -> Self {
        Self { key, message, span }
    }

    /// The problem with the place that it is about. Of the line only a key is shown that the file knows: anything else
    /// may be a secret, or the rest of one that was broken over two lines.
    pub fn show(&self, file: &str, text: &str) -> String {
        let Self { key, message, span } = self;
        let mut at = span.start;
        if span.is_empty() && !key.is_empty() {
            // Variables of the environment have no dot in their names.
            let variable = if key.contains('.') { variable_of(key) } else { Some(&**key) };
            if let Some(variable) = variable {
                return format!("{variable}: {message}");
            }
            let Some(place) = place_of(key, text) else {
                return format!("the configuration {file} is wrong, {key}: {message}");
            };
            at = place;
        }
        let line = line_of(text, at);
        let source = text.lines().nth(line - 1).unwrap_or_default();
        let known = |key: &&str| SECTIONS.iter().any(|it| it.keys.iter().any(|it| it.name == *key));
        let shown = source.split_once('=').map(|(key, _)| key.trim()).filter(known);
        let place = format!("the configuration {file} is wrong at line {line}");
        match (key.as_str(), shown) {
            ("", None) => format!("{place}: {message}"),
            ("", Some(key)) | (key, _) => format!("{place}, {key}: {message}"),
        }
    }
}

/// The variable that a value came from that has no place in the file.
fn variable_of(key: &str) -> Option<&'static str> {
    let (table, name) = key.rsplit_once('.')?;
    let keys = SECTIONS.iter().filter(|it| it.of_variables == table).flat_map(|it| it.keys);
    keys.filter(|it| it.name == name).find_map(|it| it.variable.as_ref()).map(|it| it.name)
}

/// Where a key stands in the file, or else the table that lacks it.
fn place_of(key: &str, text: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let (mut table, mut rest, mut place) = (document.get_ref(), key, None);
    while let Some((name, value, after)) =
        table.iter().find_map(|(name, value)| Some((name, value, after(name.get_ref(), rest)?)))
    {
        place = Some(name.span().start);
        match value.get_ref() {
            DeValue::Table(inner) => (table, rest) = (inner, after),
            _ => break,
        }
    }
    place
}

/// What follows a name in a key, if the key begins with it.
fn after<'a>(name: &str, key: &'a str) -> Option<&'a str> {
    [name, &format!("{name:?}")].into_iter().find_map(|name| {
        let rest = key.strip_prefix(name)?;
        match rest.strip_prefix('.') {
            Some(rest) => Some(rest),
            None => (rest.is_empty() || rest.starts_with('[')).then_some(rest),
        }
    })
}

/// The number, unless it is out of its bounds.
pub(super) fn within<T: Copy + PartialOrd + std::fmt::Display>(
    key: &str,
    given: &Spanned<T>,
    bounds: RangeInclusive<T>,
) -> Result<T, Problem> {
    let number = *given.get_ref();
    if bounds.contains(&number) {
        return Ok(number);
    }
    let message = format!("{number} is not between {} and {}", bounds.start(), bounds.end());
    Err(Problem { key: key.to_owned(), message, span: given.span() })
}

/// The certificates in a file that the configuration names.
pub(super) fn trust(key: &str, file: &Spanned<PathBuf>, base: &Path) -> Result<Trust, Problem> {
    Trust::from_file(&base.join(file.get_ref()))
        .map_err(|error| Problem::at(file.span(), key.to_owned(), chain(&error)))
}

pub(super) fn known<'a>(names: impl Iterator<Item = &'a Arc<str>>) -> String {
    let names: Vec<&str> = names.map(AsRef::as_ref).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
