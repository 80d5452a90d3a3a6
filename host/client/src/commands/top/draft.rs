//! A message that is written.

use bulkhead_terminal::words::bytes;
use bulkhead_types::message::MAX_BODY_BYTES;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What is written, and where the next character goes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Draft {
    text: String,
    /// In bytes.
    at: usize,
    /// What was not taken, until the next key.
    pub(super) refused: Option<String>,
}

impl Draft {
    pub(super) fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// Before and after the place of the next character.
    pub(super) fn parts(&self) -> (&str, &str) {
        self.text.split_at(self.at)
    }

    /// All of a text, or nothing of it: the host takes no longer message.
    pub(super) fn paste(&mut self, pasted: &str) {
        let pasted = pasted.replace("\r\n", "\n").replace('\r', "\n");
        self.refused = None;
        if self.text.len() + pasted.len() > MAX_BODY_BYTES {
            let (most, more) = (bytes(MAX_BODY_BYTES as u64), bytes(pasted.len() as u64));
            self.refused = Some(format!("not taken: {more}; a message has at most {most}"));
            return;
        }
        self.text.insert_str(self.at, &pasted);
        self.at += pasted.len();
    }

    pub(super) fn key(&mut self, key: KeyEvent) {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        let (before, after) = self.parts();
        let back = before.chars().next_back().map_or(0, char::len_utf8);
        let forth = after.chars().next().map_or(0, char::len_utf8);
        let word = before.trim_end().rfind(char::is_whitespace).map_or(0, |at| at + 1);
        self.refused = None;
        match key.code {
            KeyCode::Left => self.at -= back,
            KeyCode::Right => self.at += forth,
            KeyCode::Home => self.at = 0,
            KeyCode::End => self.at = self.text.len(),
            KeyCode::Backspace => self.take(self.at - back, self.at),
            KeyCode::Delete => self.take(self.at, self.at + forth),
            KeyCode::Char('a') if is_control => self.at = 0,
            KeyCode::Char('e') if is_control => self.at = self.text.len(),
            KeyCode::Char('u') if is_control => self.take(0, self.at),
            KeyCode::Char('w') if is_control => self.take(word, self.at),
            KeyCode::Char(character) if !is_control => {
                self.paste(character.encode_utf8(&mut [0; 4]));
            }
            _ => {}
        }
    }

    fn take(&mut self, from: usize, to: usize) {
        self.text.replace_range(from..to, "");
        self.at = from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(draft: &mut Draft, codes: &[KeyCode]) {
        for code in codes {
            draft.key(KeyEvent::new(*code, KeyModifiers::NONE));
        }
    }

    #[test]
    fn it_is_edited_in_the_middle() {
        let mut draft = Draft::default();
        draft.paste("grüße an ale");
        press(&mut draft, &[KeyCode::Left, KeyCode::Char('l'), KeyCode::Right, KeyCode::Right]);
        assert_eq!(draft.parts(), ("grüße an alle", ""));
        press(&mut draft, &[KeyCode::Home, KeyCode::Left, KeyCode::Delete, KeyCode::Char('G')]);
        press(&mut draft, &[KeyCode::Right, KeyCode::Right, KeyCode::Backspace]);
        assert_eq!(draft.parts(), ("Gr", "ße an alle"));
        press(&mut draft, &[KeyCode::End, KeyCode::Delete]);
        draft.key(KeyEvent::new(KeyCode::Char('w'), KeyModifiers::CONTROL));
        assert_eq!(draft.parts(), ("Grße an ", ""));
        press(&mut draft, &[KeyCode::Left]);
        draft.key(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL));
        assert_eq!(draft.parts(), ("", " "));
        assert!(draft.is_blank());
    }

    #[test]
    fn a_text_is_taken_whole_or_not_at_all() {
        let mut draft = Draft::default();
        draft.paste(&"x".repeat(MAX_BODY_BYTES - 1));
        draft.paste("yz");
        let refused = draft.refused.clone().unwrap();
        assert_eq!(refused, "not taken: 2 bytes; a message has at most 1 MiB");
        press(&mut draft, &[KeyCode::Char('y')]);
        assert_eq!(draft.refused, None);
        press(&mut draft, &[KeyCode::Char('z')]);
        assert!(draft.refused.is_some());
        let text = draft.into_text();
        assert!(text.len() == MAX_BODY_BYTES && text.ends_with("xy"));
    }
}
