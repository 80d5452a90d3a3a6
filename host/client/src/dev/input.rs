//! The lines that are typed, or come from a pipe.

use std::io::IsTerminal;

use bulkhead_terminal::Colour;
use rustix::termios::{Termios, tcgetattr};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use tokio::task::{JoinHandle, spawn_blocking};

use super::output::Output;
use crate::commands::chat::{leave_prompt, read_line, unreadable};
use crate::failure::Failure;

/// What is read next.
pub(super) enum Typed {
    Line(String),
    /// There are no more, and there were some.
    End,
    /// There never were any: nobody types.
    Nobody,
}

type Read = (Option<DefaultEditor>, Result<Option<String>, Failure>);

/// Stdin.
pub(super) struct Input {
    /// Of a terminal, while no line is read.
    editor: Option<DefaultEditor>,
    /// How the terminal was; the editor changes it while it reads.
    modes: Option<Termios>,
    /// The line that is being read.
    reading: Option<JoinHandle<Read>>,
    is_terminal: bool,
    had_some: bool,
    is_over: bool,
}

impl Input {
    pub(super) fn open(output: &Output) -> Result<Self, Failure> {
        let is_terminal = std::io::stdin().is_terminal() && output.screen.is_terminal;
        let (mut editor, mut modes) = (None, None);
        if is_terminal {
            let mut new = DefaultEditor::new().map_err(unreadable)?;
            output.print_above(Box::new(new.create_external_printer().map_err(unreadable)?));
            editor = Some(new);
            modes = tcgetattr(std::io::stdin()).ok();
        }
        Ok(Self { editor, modes, reading: None, is_terminal, had_some: false, is_over: false })
    }

    /// The next line, with this prompt before it on a terminal. Cancelled, it goes on with the same line. Never returns
    /// after `Nobody`.
    pub(super) async fn next(&mut self, prompt: &str, output: &Output) -> Result<Typed, Failure> {
        if self.is_over {
            return std::future::pending().await;
        }
        let reading = self.reading.get_or_insert_with(|| {
            let prompt = output.screen.paint(prompt, Colour::Bold);
            let editor = self.editor.take();
            spawn_blocking(move || read(editor, &prompt))
        });
        let read = reading.await;
        self.reading = None;
        let (editor, line) = read.map_err(unreadable)?;
        self.editor = editor;
        let line = line?;
        self.is_over = line.is_none();
        let typed = match line {
            Some(line) => Typed::Line(line),
            None if self.is_terminal || self.had_some => Typed::End,
            None => Typed::Nobody,
        };
        self.had_some = true;
        Ok(typed)
    }

    /// Gives the terminal back as it was.
    pub(super) fn leave(&mut self) {
        if let (Some(modes), Some(_)) = (&self.modes, &self.reading) {
            leave_prompt(modes);
        }
    }
}

fn read(editor: Option<DefaultEditor>, prompt: &str) -> Read {
    let Some(mut editor) = editor else { return (None, read_line()) };
    let line = match editor.readline(prompt) {
        Ok(line) => {
            let _ = editor.add_history_entry(&line);
            Ok(Some(line))
        }
        Err(ReadlineError::Eof | ReadlineError::Interrupted) => Ok(None),
        Err(error) => Err(unreadable(error)),
    };
    (Some(editor), line)
}
