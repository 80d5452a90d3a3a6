//! The lines that are typed, or come from a pipe.

use std::io::IsTerminal;

use bulkhead_terminal::Colour;
use tokio::task::{JoinHandle, spawn_blocking};

use super::output::Output;
use crate::failure::Failure;
use crate::prompt::{Prompt, Terminal, read_line, unreadable};

/// What is read next.
pub(super) enum Typed {
    Line(String),
    /// There are no more, and there were some.
    End,
    /// There never were any: nobody types.
    Nobody,
}

type Read = (Option<Prompt>, Result<Option<String>, Failure>);

/// Stdin.
pub(super) struct Input {
    /// Of a terminal, while no line is read.
    prompt: Option<Prompt>,
    terminal: Option<Terminal>,
    /// The line that is being read.
    reading: Option<JoinHandle<Read>>,
    had_some: bool,
    is_over: bool,
}

impl Input {
    pub(super) fn open(output: &Output) -> Result<Self, Failure> {
        let (mut prompt, mut terminal) = (None, None);
        if std::io::stdin().is_terminal() && output.screen.is_terminal {
            let (mut new, on) = (Prompt::new()?, Terminal::enter()?);
            // Nothing is printed above a line that is not edited.
            if on.is_edited() {
                output.print_above(Box::new(new.0.create_external_printer().map_err(unreadable)?));
            }
            (prompt, terminal) = (Some(new), Some(on));
        }
        Ok(Self { prompt, terminal, reading: None, had_some: false, is_over: false })
    }

    /// The next line, with this prompt before it on a terminal. Cancelled, it goes on with the same line. Never returns
    /// after `Nobody`.
    pub(super) async fn next(&mut self, prompt: &str, output: &Output) -> Result<Typed, Failure> {
        if self.is_over {
            return std::future::pending().await;
        }
        let reading = self.reading.get_or_insert_with(|| {
            let words = output.screen.paint(prompt, Colour::Bold);
            let prompt = self.prompt.take();
            if let Some(terminal) = &mut self.terminal {
                terminal.begin_line();
            }
            spawn_blocking(move || read(prompt, &words))
        });
        let read = match &mut self.terminal {
            None => reading.await,
            Some(terminal) => {
                let read = tokio::select! {
                    read = reading => read,
                    never = terminal.stay() => match never {},
                };
                terminal.end_line();
                read
            }
        };
        self.reading = None;
        let (prompt, line) = read.map_err(unreadable)?;
        self.prompt = prompt;
        let line = line?;
        self.is_over = line.is_none();
        let typed = match line {
            Some(line) => Typed::Line(line),
            None if self.terminal.is_some() || self.had_some => Typed::End,
            None => Typed::Nobody,
        };
        self.had_some = true;
        Ok(typed)
    }

    /// Gives the terminal back as it was.
    pub(super) fn leave(&mut self) {
        self.terminal = None;
    }
}

fn read(prompt: Option<Prompt>, words: &str) -> Read {
    let Some(mut prompt) = prompt else { return (None, read_line()) };
    let line = prompt.read(words);
    (Some(prompt), line)
}
