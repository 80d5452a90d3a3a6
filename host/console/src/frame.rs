//! What all pages have around them.

use maud::{DOCTYPE, Markup, html};

/// Who reads. Not to be printed: the token of its forms is a secret.
#[derive(Clone)]
pub struct Visitor {
    /// Goes with every form, so that no page of others can send one.
    pub form_token: String,
    /// There is a session that can be ended.
    pub has_session: bool,
}

/// Where in the navigation a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Overview,
    Crashes,
    Container,
    /// Nowhere.
    Other,
}

const PLACES: [(Place, &str, &str); 3] = [
    (Place::Overview, "/console", "Agents"),
    (Place::Crashes, "/console/crashes", "Crashes"),
    (Place::Container, "/console/container", "Container"),
];

/// A whole page. `visitor`: `None` where nobody has logged in yet.
pub(crate) fn page(title: &str, place: Place, visitor: Option<&Visitor>, main: Markup) -> String {
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (bulkhead_printable::line(title)) " – Bulkhead" }
                link rel="stylesheet" href="/console/assets/console.css";
                link rel="icon" type="image/svg+xml" href="/console/assets/icon.svg";
                script src="/console/assets/console.js" defer {}
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header {
                    span.brand { "Bulkhead" }
                    @if let Some(visitor) = visitor {
                        nav aria-label="Pages" {
                            ul {
                                @for (this, href, name) in PLACES {
                                    @let current = (this == place).then_some("page");
                                    li { a href=(href) aria-current=[current] { (name) } }
                                }
                            }
                        }
                        @if visitor.has_session {
                            form method="post" action="/console/logout" {
                                (form_token(visitor))
                                button.quiet { "Log out" }
                            }
                        }
                    }
                }
                (main)
            }
        }
    };
    document.into_string()
}

/// The field of every form.
pub(crate) fn form_token(visitor: &Visitor) -> Markup {
    html! { input type="hidden" name="form_token" value=(visitor.form_token); }
}

/// Where the script says what happened. A screen reader reads it out.
pub(crate) fn status(text: Option<&str>) -> Markup {
    html! { p #status.status role="status" { @if let Some(text) = text { (text) } } }
}

/// A table that may be wider than a phone.
pub(crate) fn wide(label: &str, table: Markup) -> Markup {
    html! { div.wide role="region" aria-label=(label) tabindex="0" { (table) } }
}

/// One part of another as a bar, with what it says in words.
pub(crate) fn meter(label: &str, value: u64, most: u64) -> Markup {
    html! {
        @if most > 0 {
            meter aria-label=(label) min="0" max=(most) high=(most / 10 * 9) optimum="0" value=(value.min(most)) {}
        }
    }
}
