//! The events and turns of one agent, as lines.

use std::collections::VecDeque;

use bulkhead_api::{DeltaView, GapFrame, StreamFrame};

use bulkhead_printable as text;
use bulkhead_printable::Pieces;

/// Lines that are kept.
const MAX_LINES: usize = 2000;

/// Bytes of a line, about. The next ones begin another.
const MAX_LINE: usize = 1000;

/// Who says a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Voice {
    /// The host, of the agent.
    Event,
    /// The agent's model, to whom it answers.
    Text,
    /// The agent's model, to itself.
    Reasoning,
    /// A tool, or this program.
    Remark,
}

/// A line. Safe for a terminal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) voice: Voice,
    pub(super) text: String,
}

/// The last lines, oldest first.
#[derive(Debug, Default)]
pub(super) struct Log {
    lines: VecDeque<Line>,
    /// All lines that ever were, up to the last one.
    end: u64,
    /// The last line may go on.
    is_open: bool,
    pieces: Pieces,
}

impl Log {
    pub(super) fn lines(&self) -> &VecDeque<Line> {
        &self.lines
    }

    /// The number of the last line; the first one ever is 1.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// What a frame shows.
    pub(super) fn frame(&mut self, frame: &StreamFrame) {
        match frame {
            StreamFrame::Event(event) => {
                let time = event.timestamp.to_string();
                // Of the day alone: the line is short.
                let time = time.get(11..19).unwrap_or_default();
                let (name, data) = (text::line(&event.event), text::line(event.data.get()));
                let data = text::line(&data);
                self.add(Voice::Event, &format!("{time} {name} {data}"));
            }
            StreamFrame::Delta(frame) => {
                frame.deltas.iter().for_each(|delta| self.delta(delta));
            }
            StreamFrame::Gap(GapFrame::Events { upto, .. }) => {
                self.remark(&format!("events up to #{upto} are not kept any more"));
            }
            StreamFrame::Gap(GapFrame::Deltas) => {
                self.remark("some of the turn is not shown: it came faster than it was read");
            }
            StreamFrame::Turn(_) | StreamFrame::Error(_) => {}
        }
    }

    /// A line of this program.
    pub(super) fn remark(&mut self, what: &str) {
        self.add(Voice::Remark, &format!("· {}", text::line(what)));
    }

    fn delta(&mut self, delta: &DeltaView) {
        match delta {
            DeltaView::Text { text } => self.say(Voice::Text, text),
            DeltaView::Reasoning { text } => self.say(Voice::Reasoning, text),
            DeltaView::ToolBegin { name, arguments, .. } => {
                self.remark(&format!("{name} {arguments}"));
            }
            DeltaView::ToolEnd { .. } => {}
        }
    }

    /// Goes on with the open line of this voice, or begins one.
    fn say(&mut self, voice: Voice, piece: &str) {
        if !self.is_open || self.lines.back().is_none_or(|line| line.voice != voice) {
            self.close();
            self.push(voice, String::new());
            self.is_open = true;
        }
        let shown = self.pieces.push(piece);
        for (at, part) in shown.split('\n').enumerate() {
            if at > 0 {
                self.push(voice, String::new());
            }
            for character in part.chars() {
                if self.lines.back().is_none_or(|line| line.text.len() >= MAX_LINE) {
                    self.push(voice, String::new());
                }
                if let Some(line) = self.lines.back_mut() {
                    line.text.push(character);
                }
            }
        }
    }

    /// A line that ends the one that is open.
    fn add(&mut self, voice: Voice, whole: &str) {
        self.close();
        self.push(voice, whole.chars().take(MAX_LINE).collect());
    }

    fn close(&mut self) {
        let left = self.pieces.end();
        if let Some(line) = self.lines.back_mut().filter(|_| self.is_open) {
            line.text.push_str(&left);
            if line.text.is_empty() {
                self.lines.pop_back();
                self.end -= 1;
            }
        }
        self.is_open = false;
    }

    fn push(&mut self, voice: Voice, text: String) {
        if self.lines.len() == MAX_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(Line { voice, text });
        self.end += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(log: &Log) -> Vec<(Voice, &str)> {
        log.lines().iter().map(|line| (line.voice, &*line.text)).collect()
    }

    #[test]
    fn text_goes_on_in_its_line_and_lines_end_where_it_says() {
        let mut log = Log::default();
        log.say(Voice::Text, "hel");
        log.say(Voice::Text, "lo\nwor");
        log.say(Voice::Text, "ld\n");
        log.remark("read_file {}");
        log.say(Voice::Reasoning, "hm");
        log.say(Voice::Text, "so\x1b");
        log.say(Voice::Text, "[2J");
        let expected = [
            (Voice::Text, "hello"),
            (Voice::Text, "world"),
            (Voice::Remark, "· read_file {}"),
            (Voice::Reasoning, "hm"),
            (Voice::Text, "so\\u{1b}[2J"),
        ];
        assert_eq!(shown(&log), expected);
    }

    #[test]
    fn it_keeps_the_last_lines_and_no_line_is_without_bound() {
        let mut log = Log::default();
        log.say(Voice::Text, &"x".repeat(3 * MAX_LINE));
        assert_eq!(log.lines().len(), 3);
        for number in 0..2 * MAX_LINES {
            log.remark(&number.to_string());
        }
        assert_eq!(log.lines().len(), MAX_LINES);
        assert_eq!(log.lines().back().unwrap().text, format!("· {}", 2 * MAX_LINES - 1));
    }
}
