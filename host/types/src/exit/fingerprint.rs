//! Which ends have one cause.

use sha2::{Digest as _, Sha256};

use super::Exit;
use crate::exception::{Exception, SourceFrame};

/// Frames that take part in a fingerprint.
const FRAMES: usize = 3;

/// Words of a panic's message that take part. Few: a fourth may well be a name that nobody quoted.
const WORDS: usize = 3;

impl Exit {
    /// Groups ends of one cause: the reason, and where it happened by name. Offsets and lines are left out,
    /// because a rebuild of other code moves them. The names have no hash of a build in them: `runtime` takes
    /// it out of every way to mangle, and the build machine out of the file.
    ///
    /// An optimized guest often has its whole turn in one function, so a panic has its column, which only a
    /// change of its own statement moves, and the beginning of its message as well.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.reason.as_str());
        for part in [self.trap, self.code.as_deref()].into_iter().flatten() {
            hash.update([0]);
            hash.update(part);
        }
        // The place of an exception is that of its first frame.
        if let Some(location) = self.location.as_ref().filter(|_| self.exceptions.is_empty()) {
            hash.update([0]);
            hash.update(&location.file);
            hash.update(location.column.to_le_bytes());
            for word in literal_words(&self.message) {
                hash.update([0]);
                hash.update(word);
            }
        }
        for part in exception_parts(&self.exceptions) {
            hash.update([0]);
            hash.update(part);
        }
        let functions = self.frames.iter().filter_map(|frame| frame.function.as_deref());
        for function in functions.filter(|name| is_of_the_agent(name)).take(FRAMES) {
            hash.update([0]);
            hash.update(function);
        }
        hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What of a chain of exceptions takes part in a fingerprint: of each the kind, the beginning of its message, and functions
/// and files of the innermost frames, with the column of the first. Lines are left out, because an edit above moves
/// them. The frames are the author's: who makes the chain leaves those of libraries out.
pub fn exception_parts(exceptions: &[Exception]) -> impl Iterator<Item = String> {
    exceptions.iter().flat_map(|exception| {
        let words = literal_words(&exception.message).map(|word| format!("word {word}"));
        let frames = exception.frames.iter().take(FRAMES).map(frame_part);
        let column = exception.frames.first().and_then(|frame| frame.column);
        let column = column.map(|column| format!("column {column}"));
        [format!("kind {}", exception.kind)].into_iter().chain(words).chain(frames).chain(column)
    })
}

fn frame_part(frame: &SourceFrame) -> String {
    format!("in {} of {}", frame.function.as_deref().unwrap_or_default(), frame.file)
}

/// The words that a message begins with as long as they are the program's and not data: few, and none from
/// the first number, quote or other mark on that what follows was put in.
fn literal_words(message: &str) -> impl Iterator<Item = &str> {
    let is_plain = |word: &str| !word.is_empty() && word.chars().all(char::is_alphabetic);
    message.split(' ').take(WORDS).take_while(move |word| is_plain(word))
}

/// Whether a function is the agent's own, and not the standard library's way into a panic.
fn is_of_the_agent(function: &str) -> bool {
    let library =
        ["std::", "core::", "alloc::", "<core::", "<alloc::", "<std::", "__rust", "rust_"];
    function != "abort"
        && !library.iter().any(|prefix| function.starts_with(prefix))
        && !function.contains("rust_panic")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Location;
    use crate::{ExitReason, Frame, Phase};

    fn panic_at(functions: &[&str]) -> Exit {
        let mut exit = Exit::new(ExitReason::Panic, Phase::Handle, "message");
        exit.frames = functions
            .iter()
            .enumerate()
            .map(|(index, name)| Frame {
                index,
                function: Some((*name).to_owned()),
                function_index: index as u32,
                module_offset: Some(index as u64),
                ..Frame::default()
            })
            .collect();
        exit
    }

    #[test]
    fn a_fingerprint_distinguishes_causes_and_nothing_else() {
        let here =
            panic_at(&["core::panicking::panic_fmt", "mayor::step", "mayor::run"]).fingerprint();
        let mut again = panic_at(&["std::rt::begin_panic", "mayor::step", "mayor::run"]);
        again.message = "another message".into();
        let mut moved = again.frames.to_vec();
        moved[1].module_offset = Some(99);
        again.frames = moved.into();
        assert_eq!(here, again.fingerprint());
        assert_ne!(here, panic_at(&["mayor::other", "mayor::run"]).fingerprint());
        assert_eq!(here.len(), 16);
    }

    #[test]
    fn a_fingerprint_survives_a_rebuild_of_other_code() {
        let mut before = panic_at(&["std::rt::begin_panic", "mayor::step", "mayor::run"]);
        let mut after = before.clone();
        // Other code moved everything, the panic's line included, and one more function of the library
        // is in line now.
        let moved = after.frames[1..].iter().enumerate().map(|(index, frame)| Frame {
            index,
            function_index: frame.function_index + 100,
            module_offset: frame.module_offset.map(|offset| offset + 12_345),
            ..frame.clone()
        });
        after.frames = moved.collect();
        for (exit, line) in [(&mut before, 10), (&mut after, 99)] {
            let file = "guest/mayor/src/lib.rs".to_owned();
            exit.location = Some(Location { file, line, column: 5 });
        }
        assert_eq!(before.fingerprint(), after.fingerprint());
        // What is found out afterwards has no part in it.
        let found = |frame: &Frame| {
            let file = Some("guest/mayor/src/lib.rs".into());
            Frame { file, line: Some(7), ..frame.clone() }
        };
        after.frames = after.frames.iter().map(found).collect();
        assert_eq!(before.fingerprint(), after.fingerprint());
        assert_ne!(before.fingerprint(), panic_at(&["mayor::step", "mayor::run"]).fingerprint());
    }

    fn panic_in_one_function(column: u32, message: &str) -> String {
        let mut exit = panic_at(&["core::panicking::panic_fmt", "handle"]);
        let file = "guest/mayor/src/lib.rs".to_owned();
        exit.location = Some(Location { file, line: 7, column });
        exit.message = message.to_owned();
        exit.fingerprint()
    }

    #[test]
    fn panics_of_one_function_are_distinguished() {
        let causes = [
            (24, "told to panic by message msg-7"),
            (24, "no rig named docs"),
            (24, "called `Option::unwrap()` on a `None` value"),
            (24, "index out of bounds: the len is 3 but the index is 3"),
            (24, "attempt to divide by zero"),
            (24, "attempt to add with overflow"),
            (31, "attempt to add with overflow"),
        ];
        let mut prints = causes.map(|(column, message)| panic_in_one_function(column, message));
        prints.sort();
        let mut once = prints.to_vec();
        once.dedup();
        assert_eq!(once, prints);
    }

    #[test]
    fn data_in_a_message_has_no_part_in_a_fingerprint() {
        for [one, other] in [
            ["told to panic by message msg-7", "told to panic by message msg-12"],
            [
                "index out of bounds: the len is 3 but the index is 3",
                "index out of bounds: the len is 0 but",
            ],
            [
                "called `Result::unwrap()` on an `Err` value: Os",
                "called `Result::unwrap()` on an `Err` value: No",
            ],
            ["17 is too many", "4 is not enough"],
            ["no rig named docs", "no rig named web"],
            ["agent \"a\" is gone", "agent \"b\" is gone"],
            ["bead-12 is lost", "bead-40 is lost"],
            ["cannot read: no such file", "cannot read: permission denied"],
            ["", "7"],
        ] {
            let [a, b] = [one, other].map(|message| panic_in_one_function(5, message));
            assert_eq!(a, b, "{one:?} and {other:?}");
        }
    }

    fn thrown(kind: &str, message: &str, frames: &[(&str, u32, u32)]) -> Exception {
        let frame = |(function, line, column): &(&str, u32, u32)| SourceFrame {
            function: Some((*function).to_owned()),
            file: "agent.ts".into(),
            line: *line,
            column: Some(*column),
        };
        let frames = frames.iter().map(frame).collect();
        Exception { kind: kind.into(), message: message.into(), frames }
    }

    fn parts(exceptions: &[Exception]) -> Vec<String> {
        exception_parts(exceptions).collect()
    }

    #[test]
    fn five_bugs_have_five_sets_of_parts() {
        let [find, handle] = [("find", 7, 3), ("handle", 20, 1)];
        let message = "cannot read property 'name' of undefined";
        let cause = thrown("TypeError", message, &[find, handle]);
        let bugs = [
            vec![cause.clone()],
            vec![thrown("RangeError", message, &[find, handle])],
            vec![thrown("TypeError", "not a function", &[find, handle])],
            vec![thrown("TypeError", message, &[("find", 7, 18), handle])],
            vec![thrown("TypeError", message, &[("close", 7, 3), handle])],
            vec![thrown("TypeError", message, &[find, ("start", 20, 1)])],
            vec![thrown("NoRig", "", &[handle]), cause],
            vec![thrown("NoRig", "", &[handle])],
        ];
        let mut all = bugs.map(|bug| parts(&bug)).to_vec();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn a_bug_keeps_its_parts_when_its_file_is_edited_and_its_data_differ() {
        let before = thrown("KeyError", "no rig 'docs'", &[("find", 7, 3), ("handle", 20, 1)]);
        let after = thrown("KeyError", "no rig 'web'", &[("find", 99, 3), ("handle", 112, 5)]);
        assert_eq!(parts(std::slice::from_ref(&before)), parts(&[after]));
        let deeper = ["find", "handle", "run", "main", "more"].map(|name| (name, 1, 3));
        let [short, long] = [3, 5].map(|frames| thrown("KeyError", "", &deeper[..frames]));
        assert_eq!(parts(&[short]), parts(&[long]), "only the innermost frames count");
        assert_eq!(
            parts(&[before]),
            [
                "kind KeyError",
                "word no",
                "word rig",
                "in find of agent.ts",
                "in handle of agent.ts",
                "column 3"
            ]
        );
        assert_eq!(parts(&[]), Vec::<String>::new());
    }
}
