//! What a host shows when it starts.

use std::fmt::Write as _;

use bulkhead_printable::line as safe;

use crate::colour::{Colour, paint};

/// Who may call the control API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Callers with the token in this file, which the commands find by themselves.
    TokenInFile(String),
    /// Callers with the token that the configuration or the environment has.
    TokenConfigured,
    /// Nobody: there is no token that anybody knows.
    Closed,
    /// Everybody who reaches the address.
    Open,
}

/// The first block on a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Banner {
    /// Of the program.
    pub version: String,
    /// Address of the control API, as a URL.
    pub url: String,
    /// Page of the console, where there is one.
    pub console: Option<String>,
    /// The state directory.
    pub state: String,
    /// Agents that the configuration starts.
    pub configured: usize,
    /// Agents that earlier runs left.
    pub earlier: usize,
    /// Who may call.
    pub access: Access,
    /// What another terminal has to set before the commands, if anything.
    pub setup: Option<String>,
    /// What to type next.
    pub commands: Vec<String>,
}

impl Banner {
    /// The block, with an empty line behind it.
    pub fn text(&self, colours: bool) -> String {
        let paint = |text: &str, colour| match colours {
            true => paint(text, colour),
            false => text.to_owned(),
        };
        let title = format!("bulkhead {}", safe(&self.version));
        let mut text = format!("{}\n\n", paint(&title, Colour::Bold));
        let mut row = |name: &str, value: &str| {
            let _ =
                writeln!(text, "  {} {}", paint(&format!("{name:<12}"), Colour::Grey), safe(value));
        };
        row("control API", &self.url);
        if let Some(console) = &self.console {
            row("console", console);
        }
        row("token", &self.token());
        row("state", &self.state);
        row("agents", &self.agents());
        let _ = writeln!(text, "\n  {}", paint("Next, in another terminal:", Colour::Grey));
        for command in self.setup.iter().chain(&self.commands) {
            let _ = writeln!(text, "    {}", safe(command));
        }
        text + "\n"
    }

    fn token(&self) -> String {
        match &self.access {
            Access::TokenInFile(file) => format!("in {file}; the commands find it"),
            Access::TokenConfigured => "the configured one".to_owned(),
            Access::Closed => "none that anybody knows: the API is closed".to_owned(),
            Access::Open => "none: everybody who reaches the address may call".to_owned(),
        }
    }

    fn agents(&self) -> String {
        match self.earlier {
            0 => format!("{} configured", self.configured),
            earlier => format!("{} configured, {earlier} known from earlier runs", self.configured),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn banner() -> Banner {
        Banner {
            version: "0.1.0".into(),
            url: "http://127.0.0.1:8080".into(),
            console: None,
            state: "target/town".into(),
            configured: 2,
            earlier: 0,
            access: Access::TokenInFile("target/town/control-token".into()),
            setup: Some("export BULKHEAD_CONFIG=guest/town.toml".into()),
            commands: vec!["bulkhead ps".into(), "bulkhead events mayor --follow".into()],
        }
    }

    #[test]
    fn a_banner_says_where_the_host_is_and_what_to_type_next() {
        expect![[r#"
            bulkhead 0.1.0

              control API  http://127.0.0.1:8080
              token        in target/town/control-token; the commands find it
              state        target/town
              agents       2 configured

              Next, in another terminal:
                export BULKHEAD_CONFIG=guest/town.toml
                bulkhead ps
                bulkhead events mayor --follow

        "#]]
        .assert_eq(&banner().text(false));
    }

    #[test]
    fn a_banner_with_everything() {
        let banner = Banner {
            console: Some("http://127.0.0.1:8080/console".into()),
            earlier: 3,
            access: Access::Open,
            setup: None,
            ..banner()
        };
        expect![[r#"
            bulkhead 0.1.0

              control API  http://127.0.0.1:8080
              console      http://127.0.0.1:8080/console
              token        none: everybody who reaches the address may call
              state        target/town
              agents       2 configured, 3 known from earlier runs

              Next, in another terminal:
                bulkhead ps
                bulkhead events mayor --follow

        "#]]
        .assert_eq(&banner.text(false));
    }

    #[test]
    fn a_directory_cannot_send_escape_sequences() {
        let banner = Banner { state: "a\x1b[2Jb".into(), ..banner() };
        assert!(!banner.text(true).contains("\x1b[2J"));
        assert!(!banner.text(false).contains('\x1b'));
    }
}
