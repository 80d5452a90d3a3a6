//! TypeScript as JavaScript: its types become spaces, so that lines and columns stay what they are.

use std::sync::{Arc, Mutex};

use swc_common::errors::{DiagnosticBuilder, Emitter, HANDLER, Handler};
use swc_common::sync::Lrc;
use swc_common::{SourceMap, Span};
use swc_ts_fast_strip::{Mode, Options, operate};

/// Why a file is no TypeScript that can be stripped.
#[derive(Debug, PartialEq)]
pub struct Problem {
    pub message: String,
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
}

/// Whether a file is TypeScript, by its name.
pub fn is_typescript(path: &str) -> bool {
    path.ends_with(".ts") || path.ends_with(".mts")
}

/// Replaces everything that is type alone. What would have to be translated, an `enum` for example, is a problem.
pub fn strip(text: String) -> Result<String, Problem> {
    let map: Lrc<SourceMap> = Lrc::default();
    let first = First::default();
    let handler = Handler::with_emitter(false, false, Box::new(first.clone()));
    let options = Options { mode: Mode::StripOnly, module: Some(true), ..Options::default() };
    let stripped = HANDLER.set(&handler, || operate(&map, &handler, text, options));
    stripped.map(|output| output.code).map_err(|error| first.problem(&map, error.message))
}

/// Keeps the first thing that the compiler reports.
#[derive(Clone, Default)]
struct First(Arc<Mutex<Option<Found>>>);

/// What is reported, and where.
type Found = (String, Option<Span>);

impl Emitter for First {
    fn emit(&mut self, diagnostic: &mut DiagnosticBuilder<'_>) {
        let found = (diagnostic.message(), diagnostic.span.primary_span());
        self.0.lock().expect("nobody panics with it").get_or_insert(found);
    }
}

impl First {
    fn problem(&self, map: &SourceMap, otherwise: String) -> Problem {
        let found = self.0.lock().expect("nobody panics with it").take();
        let (message, span) = found.unwrap_or((otherwise, None));
        let (line, column) = span.map_or((1, 1), |span| {
            let place = map.lookup_char_pos(span.lo);
            (place.line, place.col.0 + 1)
        });
        Problem { message, line, column }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_become_spaces() {
        let text = "interface A { x: number }\nexport const f = (a: A): number => a.x as number;\n";
        let stripped = strip(text.to_owned()).unwrap();
        assert_eq!(stripped.len(), text.len());
        assert_eq!(
            stripped.lines().nth(1).unwrap().find("=>"),
            text.lines().nth(1).unwrap().find("=>")
        );
        assert!(!stripped.contains("number") && stripped.contains("a.x"));
    }

    #[test]
    fn a_problem_has_its_place() {
        let problem = strip("const a: number = 1;\nconst b: = 2;\n".to_owned()).unwrap_err();
        assert_eq!((problem.line, problem.column), (2, 10));
        let problem = strip("\n  enum E { A }\n".to_owned()).unwrap_err();
        assert_eq!((problem.line, problem.column), (2, 3));
    }
}
