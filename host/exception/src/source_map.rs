//! From the code that a bundler made back to its sources.
//!
//! A map comes with the agent, which is hostile until proven otherwise: its size, its lists and its mappings are bounded
//! before anything is decoded, and the sources' own text in it is skipped.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bulkhead_types::exception::{Exception, SourceFrame};
use oxc_sourcemap::{JSONSourceMap, Token};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};

/// Bytes of a map at most.
const MAX_MAP_BYTES: usize = 8 * 1024 * 1024;

/// Bytes of its mappings at most.
const MAX_MAPPINGS_BYTES: usize = 2 * 1024 * 1024;

/// Segments and lines of its mappings at most, which take 24 and 16 bytes decoded.
const MAX_SEGMENTS: usize = 500_000;

/// Sources and names at most.
const MAX_SOURCES: usize = 4096;
const MAX_NAMES: usize = 100_000;

/// Files whose maps are read for one end at most.
const MAX_FILES: usize = 4;

/// Frames of one exception whose function is looked for in the generated code.
const MAX_NAMED_FRAMES: usize = 16;

/// Segments before a call in which the called function is looked for: QuickJS names the place behind the function.
const MAX_SEGMENTS_BACK: usize = 4;

/// Bytes before a place in which the declaration of its function is looked for.
const MAX_BYTES_BACK: usize = 64 * 1024;

const COMMENT: &str = "//# sourceMappingURL=";

/// Finds a file of the agent's code by its name.
pub type Bundle<'a> = &'a dyn Fn(&str) -> Option<&'a [u8]>;

/// Why a source map is of no use.
#[derive(Debug, thiserror::Error)]
pub enum SourceMapError {
    /// A bound is passed.
    #[error("the source map has more than {0}")]
    TooLarge(&'static str),
    /// A map of maps.
    #[error("the source map consists of sections, which are not supported")]
    Sections,
    /// What stands in a comment is not base64.
    #[error("decode the source map in a comment: {0}")]
    Comment(#[from] base64::DecodeError),
    /// It is no JSON of the right form.
    #[error("parse the source map: {0}")]
    Json(#[from] serde_json::Error),
    /// Its mappings are wrong.
    #[error("decode the mappings of the source map: {0}")]
    Mappings(oxc_sourcemap::Error),
}

/// The map of one generated file.
pub struct SourceMap {
    map: oxc_sourcemap::SourceMap<'static>,
}

/// What counts of a map.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    version: u32,
    #[serde(borrow, default)]
    mappings: Cow<'a, str>,
    #[serde(borrow, default)]
    source_root: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "texts::<_, MAX_SOURCES>")]
    sources: Vec<String>,
    #[serde(default, deserialize_with = "texts::<_, MAX_NAMES>")]
    names: Vec<String>,
    #[serde(default)]
    sections: Option<serde::de::IgnoredAny>,
}

impl fmt::Debug for SourceMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceMap").finish_non_exhaustive()
    }
}

impl SourceMap {
    /// Reads a map.
    ///
    /// # Errors
    ///
    /// When it passes a bound (8 MiB, 2 MiB and 500,000 segments of mappings, 4,096 sources, 100,000 names), consists of
    /// sections, or is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, SourceMapError> {
        if bytes.len() > MAX_MAP_BYTES {
            return Err(SourceMapError::TooLarge("8 MiB"));
        }
        let document: Document<'_> = serde_json::from_slice(bytes)?;
        if document.sections.is_some() {
            return Err(SourceMapError::Sections);
        }
        let marks = document.mappings.bytes().filter(|byte| matches!(byte, b',' | b';')).count();
        if document.mappings.len() > MAX_MAPPINGS_BYTES || marks > MAX_SEGMENTS {
            return Err(SourceMapError::TooLarge("2 MiB or 500,000 segments of mappings"));
        }
        let map = oxc_sourcemap::SourceMap::from_json(document.into());
        map.map(|map| Self { map }).map_err(SourceMapError::Mappings)
    }

    /// The map of a generated file: the one in its comment, or else `FILE.map` beside it.
    ///
    /// # Errors
    ///
    /// As [`SourceMap::parse`], and when the comment is not base64.
    pub fn of(file: &str, bundle: Bundle<'_>) -> Result<Option<Self>, SourceMapError> {
        let code = bundle(file).unwrap_or_default();
        let map = match inline(code)? {
            Some(map) => Some(Cow::Owned(map)),
            None => bundle(&format!("{file}.map")).map(Cow::Borrowed),
        };
        map.map(|map| Self::parse(&map)).transpose()
    }

    /// Maps the frames that are in a generated file, whose code is given: their file, line and column become those of the
    /// source. A function gets its name back when the call of it stands below it in the stack, or its declaration before the
    /// place, and is in the map. Frames that the map does not know stay.
    pub fn map(&self, file: &str, code: &[u8], exception: &mut Exception) {
        let code = std::str::from_utf8(code).unwrap_or_default();
        let lines = self.map.generate_lookup_table();
        let generated: Vec<Option<SourceFrame>> = exception
            .frames
            .iter()
            .map(|frame| Some(frame.clone()).filter(|frame| normal(&frame.file) == file))
            .collect();
        let callers = generated.iter().skip(1).chain([&None]);
        for (at, (here, caller)) in generated.iter().zip(callers).enumerate() {
            let Some(here) = here else { continue };
            let frame = &mut exception.frames[at];
            if let Some(name) = here.function.as_deref().filter(|_| at < MAX_NAMED_FRAMES) {
                // `Module.f`, `Object.f`: the object is the engine's guess.
                let name = name.rsplit('.').next().unwrap_or(name);
                let called = caller.as_ref().and_then(|it| self.called_at(&lines, it, name, code));
                let original = called.or_else(|| self.declared_before(&lines, here, name, code));
                frame.function = original.or(here.function.clone());
            }
            self.place(&lines, here, frame);
        }
    }

    fn place(&self, lines: &[&[Token]], here: &SourceFrame, frame: &mut SourceFrame) {
        let Some(token) = tokens_before(lines, here).last() else { return };
        let source = token.get_source_id().and_then(|id| self.map.get_source(id));
        let Some(source) = source else { return };
        frame.file = self.shown(source);
        frame.line = token.get_src_line().saturating_add(1);
        frame.column = Some(token.get_src_col().saturating_add(1));
    }

    /// What the function is called in its source that is called `name` at this place of the generated code.
    fn called_at(
        &self,
        lines: &[&[Token]],
        caller: &SourceFrame,
        name: &str,
        code: &str,
    ) -> Option<String> {
        let line = code.split('\n').nth(caller.line.saturating_sub(1) as usize)?;
        let mut nearest = tokens_before(lines, caller).iter().rev().take(MAX_SEGMENTS_BACK);
        let token = nearest.find(|token| stands_at(line, token.get_dst_col(), name))?;
        token.get_name_id().and_then(|id| self.map.get_name(id)).map(str::to_owned)
    }

    /// What the function is called in its source that is declared as `name` before this place in the same line, as all code
    /// of a minified file is.
    fn declared_before(
        &self,
        lines: &[&[Token]],
        here: &SourceFrame,
        name: &str,
        code: &str,
    ) -> Option<String> {
        let line = code.split('\n').nth(here.line.saturating_sub(1) as usize)?;
        let end = at_column(line, here.column?.saturating_sub(1))?;
        let begin = line.floor_char_boundary(end.saturating_sub(MAX_BYTES_BACK));
        let mut found = line[begin..end].rmatch_indices(name).map(|(at, _)| begin + at);
        let declared = found.find(|at| is_declared(line, *at, name))?;
        let column = line[..declared].encode_utf16().count() as u32;
        let tokens = tokens_before(lines, here);
        let token = tokens.binary_search_by_key(&column, Token::get_dst_col).ok()?;
        tokens[token].get_name_id().and_then(|id| self.map.get_name(id)).map(str::to_owned)
    }

    /// The path of a source as its author knows it.
    fn shown(&self, source: &str) -> String {
        let root = self.map.get_source_root().unwrap_or_default();
        let path = match root.is_empty() || source.contains("://") || source.starts_with('/') {
            true => source.to_owned(),
            false => format!("{}/{source}", root.trim_end_matches('/')),
        };
        let path = path
            .strip_prefix("webpack://")
            .map_or(path.as_str(), |path| path.split_once('/').map_or(path, |(_, path)| path));
        let mut path = path;
        while let Some(rest) = path.strip_prefix("./").or_else(|| path.strip_prefix("../")) {
            path = rest;
        }
        path.to_owned()
    }
}

impl From<Document<'_>> for JSONSourceMap {
    fn from(document: Document<'_>) -> Self {
        Self {
            version: document.version,
            file: None,
            mappings: document.mappings.into_owned(),
            source_root: document.source_root.map(Cow::into_owned),
            sources: document.sources,
            sources_content: None,
            names: document.names,
            debug_id: None,
            ignore_list: None,
        }
    }
}

/// Maps the frames of a chain of exceptions back to their sources, for four generated files at most. Answers which maps
/// are of no use, and why; the frames of those files stay.
pub fn map_to_sources(
    exceptions: &mut [Exception],
    bundle: Bundle<'_>,
) -> Vec<(String, SourceMapError)> {
    let mut errors = Vec::new();
    for file in generated_files(exceptions) {
        match SourceMap::of(&file, bundle) {
            Ok(Some(map)) => {
                let code = bundle(&file).unwrap_or_default();
                exceptions.iter_mut().for_each(|exception| map.map(&file, code, exception));
            }
            Ok(None) => {}
            Err(error) => errors.push((file, error)),
        }
    }
    errors
}

/// The first files that frames are in.
fn generated_files(exceptions: &[Exception]) -> Vec<String> {
    let mut files: Vec<String> = Vec::new();
    for frame in exceptions.iter().flat_map(|exception| &exception.frames) {
        let file = normal(&frame.file);
        if files.len() < MAX_FILES && !files.iter().any(|known| known == file) {
            files.push(file.to_owned());
        }
    }
    files
}

/// The name of a file in its bundle: QuickJS sees it below `/`, others as a URL.
fn normal(file: &str) -> &str {
    let file = file.strip_prefix("file://").unwrap_or(file);
    file.strip_prefix("./").unwrap_or(file).trim_start_matches('/')
}

/// The map in the last comment of a file.
fn inline(code: &[u8]) -> Result<Option<Vec<u8>>, SourceMapError> {
    let code = std::str::from_utf8(code).unwrap_or_default();
    let Some(at) = code.rfind(COMMENT) else { return Ok(None) };
    let url = code[at + COMMENT.len()..].lines().next().unwrap_or_default().trim();
    let Some(data) = url.strip_prefix("data:application/json;") else { return Ok(None) };
    let Some((_, data)) = data.split_once("base64,") else { return Ok(None) };
    if data.len() / 4 * 3 > MAX_MAP_BYTES {
        return Err(SourceMapError::TooLarge("8 MiB"));
    }
    Ok(Some(BASE64_STANDARD.decode(data)?))
}

/// The segments of a frame's line up to its column.
fn tokens_before<'a>(lines: &[&'a [Token]], frame: &SourceFrame) -> &'a [Token] {
    let line = lines.get(frame.line.saturating_sub(1) as usize).copied().unwrap_or_default();
    let column = frame.column.unwrap_or(1).saturating_sub(1);
    &line[..line.partition_point(|token| token.get_dst_col() <= column)]
}

/// Whether a name stands at a column, which counts units of UTF-16.
fn stands_at(line: &str, column: u32, name: &str) -> bool {
    let Some(at) = at_column(line, column) else { return false };
    line[at..].strip_prefix(name).is_some_and(|rest| !rest.starts_with(is_part_of_a_name))
}

/// The byte at a column, which counts units of UTF-16.
fn at_column(line: &str, column: u32) -> Option<usize> {
    let mut units = 0;
    let is_there = |(_, c): &(usize, char)| {
        let is_there = units >= column;
        units += c.len_utf16() as u32;
        is_there
    };
    line.char_indices().find(is_there).map(|(at, _)| at)
}

/// Whether what stands at this byte declares a function of this name: `function n(`, `n=`.
fn is_declared(line: &str, at: usize, name: &str) -> bool {
    let (before, after) = (&line[..at], &line[at + name.len()..]);
    if before.ends_with(is_part_of_a_name) || after.starts_with(is_part_of_a_name) {
        return false;
    }
    let keyword = before.trim_end_matches([' ', '*']);
    let is_function = keyword.len() < before.len() && keyword.ends_with("function");
    let is_value = after.starts_with('=') && !after.starts_with("==") && !after.starts_with("=>");
    is_function || is_value
}

fn is_part_of_a_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$')
}

/// A list of texts, of which some may be null.
fn texts<'de, D: Deserializer<'de>, const MAX: usize>(from: D) -> Result<Vec<String>, D::Error> {
    struct Texts<const MAX: usize>;

    impl<'de, const MAX: usize> Visitor<'de> for Texts<MAX> {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX} texts")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut texts = Vec::new();
            while let Some(text) = list.next_element::<Option<String>>()? {
                if texts.len() == MAX {
                    return Err(A::Error::invalid_length(MAX + 1, &self));
                }
                texts.push(text.unwrap_or_default());
            }
            Ok(texts)
        }
    }

    from.deserialize_seq(Texts::<MAX>)
}
