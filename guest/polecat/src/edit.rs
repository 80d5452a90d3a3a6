//! Replaces text in a file, exactly or not at all.

use std::borrow::Cow;

use bulkhead_guest::model::Tool;
use serde::Deserialize;
use serde_json::json;

use crate::workspace::{MAX_WRITE_BYTES, Workspace};

/// Occurrences that are counted where one is wanted. They may overlap.
const MAX_COUNTED: usize = 100;
/// Line numbers in one error.
const MAX_NAMED: usize = 10;
/// Characters of the file in one error.
const MAX_SHOWN_CHARS: usize = 1000;

/// What the model asks for.
#[derive(Debug, Deserialize)]
pub struct Edit {
    path: String,
    old: String,
    new: String,
    #[serde(default)]
    all: bool,
}

/// The tool with its schema.
pub fn offered() -> Tool {
    Tool::new(
        "edit",
        "Replace text in a file of up to 1 MiB. Nothing changes if `old` is not found.",
        json!({
            "type": "object",
            "properties": {
                "path": { "type": "string", "description": "Relative to the workspace." },
                "old": {
                    "type": "string",
                    "description": "Text as it is in the file, with its white space. It has to occur \
                        exactly once, so take enough of the lines around the change.",
                },
                "new": { "type": "string", "description": "What stands there then." },
                "all": {
                    "type": "boolean",
                    "description": "Replace every occurrence. Default: false.",
                },
            },
            "required": ["path", "old", "new"],
        }),
    )
}

impl Edit {
    /// Edits the file and reports how often.
    pub fn run(&self, workspace: &Workspace) -> Result<String, String> {
        let problem = |problem| format!("edit {}: {problem}", self.path);
        let text = workspace.load(&self.path)?;
        let (edited, times) = self.apply(&text).map_err(problem)?;
        workspace.store(&self.path, &edited)?;
        Ok(if times == 1 { "replaced".to_owned() } else { format!("replaced {times} times") })
    }

    /// The text after the edit, and how many occurrences were replaced.
    fn apply(&self, text: &str) -> Result<(String, usize), String> {
        let (old, new) = (with_ends_of(text, &self.old), with_ends_of(text, &self.new));
        if old.is_empty() {
            return Err("`old` is empty".to_owned());
        }
        if old == new {
            return Err("`old` and `new` are the same".to_owned());
        }
        let times = if self.all { text.matches(&*old).count() } else { once(text, &old)? };
        if times == 0 {
            return Err(not_found(text, &old));
        }
        let kept = text.len() - times * old.len();
        if kept.saturating_add(times.saturating_mul(new.len())) > MAX_WRITE_BYTES {
            return Err(format!("the file would have more than {MAX_WRITE_BYTES} bytes"));
        }
        Ok((text.replace(&*old, &new), times))
    }
}

/// A model writes line feeds. In a file whose every line ends in CRLF, they mean that.
fn with_ends_of<'a>(file: &str, text: &'a str) -> Cow<'a, str> {
    let feeds = file.matches('\n').count();
    if feeds == 0 || feeds != file.matches("\r\n").count() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace("\r\n", "\n").replace('\n', "\r\n"))
}

/// 0 or 1 occurrences; more are an error that says where they are.
fn once(text: &str, old: &str) -> Result<usize, String> {
    let at: Vec<usize> = occurrences(text, old).take(MAX_COUNTED).collect();
    if at.len() < 2 {
        return Ok(at.len());
    }
    let lines: Vec<_> =
        at.iter().take(MAX_NAMED).map(|at| line_of(text, *at).to_string()).collect();
    let more = if at.len() > MAX_NAMED { ", ..." } else { "" };
    let least = if at.len() == MAX_COUNTED { "at least " } else { "" };
    Err(format!(
        "`old` occurs {least}{} times, at lines {}{more}; take more of the lines around it, or set `all`",
        at.len(),
        lines.join(", "),
    ))
}

/// Where it begins, overlaps included: of those, nobody knows which one is meant.
fn occurrences<'a>(text: &'a str, old: &'a str) -> impl Iterator<Item = usize> + 'a {
    let step = old.chars().next().map_or(1, char::len_utf8);
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = from + text.get(from..)?.find(old)?;
        from = at + step;
        Some(at)
    })
}

/// Counted from 1.
fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The error, with what is nearest to the text.
fn not_found(text: &str, old: &str) -> String {
    if let Some((start, end)) = but_for_white_space(text, old) {
        let shown: String = text[start..end].chars().take(MAX_SHOWN_CHARS).collect();
        let line = line_of(text, start);
        return format!(
            "`old` does not occur; from line {line} on only white space differs. There it is:\n{shown}"
        );
    }
    match first_line(text, old) {
        Some(line) => format!(
            "`old` does not occur; its first line is at line {line}, and what follows differs. Read the file again"
        ),
        None => "`old` does not occur, and nothing like it. Read the file again".to_owned(),
    }
}

/// The whole lines that are the same when white space is left out: begin and end in bytes.
fn but_for_white_space(text: &str, old: &str) -> Option<(usize, usize)> {
    let squeeze = |text: &str| text.split_whitespace().collect::<String>();
    let (squeezed, wanted) = (squeeze(text), squeeze(old));
    if wanted.is_empty() {
        return None;
    }
    let first = squeezed.find(&wanted)?;
    let start = unsqueezed(text, first)?;
    let last = unsqueezed(text, first + wanted.len() - last_char_bytes(&wanted))?;
    let start = text[..start].rfind('\n').map_or(0, |feed| feed + 1);
    let end = text[last..].find('\n').map_or(text.len(), |feed| last + feed);
    Some((start, end))
}

fn last_char_bytes(text: &str) -> usize {
    text.chars().next_back().map_or(0, char::len_utf8)
}

/// Where in the text the character is that begins at this byte once white space is left out.
fn unsqueezed(text: &str, squeezed: usize) -> Option<usize> {
    let visible = text.char_indices().filter(|(_, char)| !char.is_whitespace());
    let mut places = visible.scan(0, |passed, (at, char)| {
        let here = *passed;
        *passed += char.len_utf8();
        Some((here, at))
    });
    places.find(|(here, _)| *here == squeezed).map(|(_, at)| at)
}

/// Number of the line that is the same as the first line of `old`, the margins aside.
fn first_line(text: &str, old: &str) -> Option<usize> {
    let wanted = old.lines().map(str::trim).find(|line| !line.is_empty())?;
    text.lines().position(|line| line.trim() == wanted).map(|index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(old: &str, new: &str) -> Edit {
        Edit { path: "a.rs".into(), old: old.into(), new: new.into(), all: false }
    }

    fn everywhere(old: &str, new: &str) -> Edit {
        Edit { all: true, ..edit(old, new) }
    }

    #[track_caller]
    fn refused(text: &str, edit: &Edit) -> String {
        edit.apply(text).unwrap_err()
    }

    #[test]
    fn one_occurrence_is_replaced_and_nothing_else_changes() {
        let (text, times) = edit("b", "x\ny").apply("a\nb\nc").unwrap();
        assert_eq!((text.as_str(), times), ("a\nx\ny\nc", 1));
        assert_eq!(edit("b\n", "").apply("a\nb\n").unwrap().0, "a\n");
        assert_eq!(edit("ü", "€").apply("grün").unwrap().0, "gr€n");
    }

    #[test]
    fn several_occurrences_are_refused_with_their_number_and_lines() {
        let error = refused("one\ntwo\none one\n", &edit("one", "x"));
        assert!(error.contains("occurs 3 times, at lines 1, 3, 3;"), "{error}");
        let many = "x\n".repeat(5000);
        let error = refused(&many, &edit("x", "y"));
        assert!(error.contains("at least 100 times, at lines 1, 2,"), "{error}");
        assert!(error.contains("10, ...;") && error.len() < 200, "{error}");
    }

    #[test]
    fn occurrences_that_overlap_are_two() {
        let error = refused("}\n}\n}\n", &edit("}\n}\n", "}\n"));
        assert!(error.contains("occurs 2 times, at lines 1, 2;"), "{error}");
        assert!(refused("ééé", &edit("éé", "x")).contains("occurs 2 times"));
    }

    #[test]
    fn all_replaces_every_one() {
        assert_eq!(everywhere("a", "b").apply("a.a\na").unwrap(), ("b.b\nb".to_owned(), 3));
        assert_eq!(everywhere("a", "b").apply("a").unwrap().1, 1);
        assert!(refused("x", &everywhere("a", "b")).contains("does not occur"));
    }

    #[test]
    fn lines_of_a_crlf_file_keep_their_ends() {
        let file = "one\r\ntwo\r\nthree";
        let (text, _) = edit("one\ntwo\n", "1\n2\n").apply(file).unwrap();
        assert_eq!(text, "1\r\n2\r\nthree");
        assert_eq!(edit("two", "2\r\n2").apply(file).unwrap().0, "one\r\n2\r\n2\r\nthree");
        assert!(refused(file, &edit("one\n", "one\r\n")).contains("the same"));
    }

    #[test]
    fn a_file_of_both_ends_is_taken_literally() {
        let file = "one\r\ntwo\nthree\n";
        assert_eq!(edit("two\nthree", "2\n3").apply(file).unwrap().0, "one\r\n2\n3\n");
        assert!(refused(file, &edit("one\ntwo", "x")).contains("only white space differs"));
        assert_eq!(edit("one\r\n", "one\n").apply(file).unwrap().0, "one\ntwo\nthree\n");
    }

    #[test]
    fn a_last_line_without_an_end_stays_so() {
        assert_eq!(edit("b", "c").apply("a\nb").unwrap().0, "a\nc");
        let error = refused("a\nb", &edit("b\n", "c\n"));
        assert!(error.contains("from line 2 on only white space differs"), "{error}");
    }

    #[test]
    fn white_space_that_differs_is_shown_as_it_is() {
        let file = "fn a() {\n\tif x {\n\t\treturn  1;\n\t}\n}\n";
        let error = refused(file, &edit("if x {\n    return 1;\n}", "x"));
        assert!(error.contains("from line 2 on only white space differs"), "{error}");
        assert!(error.ends_with("\n\tif x {\n\t\treturn  1;\n\t}"), "{error}");
        let long = format!("a {}", "é ".repeat(5000));
        assert!(refused(&long, &edit(&"é".repeat(4000), "x")).chars().count() < 1200);
    }

    #[test]
    fn a_first_line_that_is_there_is_named() {
        let error = refused("a\n  begin\nb\n", &edit("\nbegin\nc\n", "x"));
        assert!(error.contains("its first line is at line 2"), "{error}");
        assert!(refused("a", &edit("b", "x")).contains("nothing like it"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(refused("a", &edit("", "x")).contains("`old` is empty"));
        assert!(refused("a", &edit("a", "a")).contains("the same"));
        assert!(refused("a", &edit(" \n ", "x")).contains("does not occur"));
    }

    #[test]
    fn the_result_is_bounded_before_it_is_made() {
        let (file, new) = ("a".repeat(MAX_WRITE_BYTES), "b".repeat(MAX_WRITE_BYTES));
        assert!(refused(&file, &everywhere("a", &new)).contains("more than 1048576 bytes"));
        assert!(edit("a", &new).apply("a").is_ok());
    }

    #[test]
    fn a_file_is_edited_where_it_is_and_none_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let workspace = Workspace::new(directory.path());
        workspace.write("a.rs", "a\r\nlong line\r\nc").unwrap();
        assert_eq!(edit("long line", "b").run(&workspace).unwrap(), "replaced");
        assert_eq!(workspace.read("a.rs", 0).unwrap(), "a\r\nb\r\nc");
        assert_eq!(everywhere("\n", "\n\n").run(&workspace).unwrap(), "replaced 2 times");
        let error = edit("z", "y").run(&workspace).unwrap_err();
        assert!(error.starts_with("edit a.rs: `old` does not occur"), "{error}");
        let none = Edit { path: "none".into(), ..edit("a", "b") };
        assert!(none.run(&workspace).unwrap_err().starts_with("edit none: "));
        assert!(!directory.path().join("none").exists());
        for path in ["", "../a.rs"] {
            let outside = Edit { path: path.into(), ..edit("a", "b") };
            assert!(outside.run(&workspace).is_err(), "{path}");
        }
    }
}
