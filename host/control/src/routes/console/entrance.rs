//! Logging in with the token, and out.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, http::HeaderMap};
use bulkhead_console::{Visitor, login};
use hyper::StatusCode;
use hyper::header::{ORIGIN, SET_COOKIE};

use super::forms::is_from;
use super::html;
use crate::answer::{Reason, Refusal};
use crate::body::Form;
use crate::params::{Kind, Param, Params};
use crate::sessions::{Sessions, cookie, is_of_console, no_cookie};

/// The page behind the login when none was asked for.
const FIRST: &str = "/console";

const NEXT: Param = Param::new("next", Kind::Text, "The page to go to.");

const UNSENT: Param = Param::new("unsent", Kind::Flag, "A form came without a session.");

/// What the login says then.
const NOT_SENT: &str =
    "The session had ended: what you sent was thrown away. Send it again after the login.";

pub(super) async fn form(
    State(sessions): State<Sessions>,
    visitor: Option<Extension<Visitor>>,
    params: Params,
) -> Result<Response, Refusal> {
    let params = params.only(&[NEXT, UNSENT])?;
    let next = page(params.text(&NEXT));
    if visitor.is_some() || sessions.are_needless() {
        return Ok(Redirect::to(&next).into_response());
    }
    Ok(html(login(&next, params.flag(&UNSENT)?.then_some(NOT_SENT))))
}

pub(super) async fn log_in(
    State(sessions): State<Sessions>,
    headers: HeaderMap,
    mut form: Form,
) -> Response {
    let next = page(Some(form.take("next")));
    if sessions.are_needless() {
        return Redirect::to(&next).into_response();
    }
    let Some(name) = sessions.begin(form.take("token").trim()) else {
        let page = html(login(&next, Some("That is not the control token.")));
        let mut response = (StatusCode::UNAUTHORIZED, page).into_response();
        let reason = "log in to the console: not the control token";
        response.extensions_mut().insert(Reason(Some(reason.to_owned())));
        return response;
    };
    let is_encrypted =
        headers.get(ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https:"));
    ([(SET_COOKIE, cookie(&name, is_encrypted))], Redirect::to(&next)).into_response()
}

pub(super) async fn log_out(
    State(sessions): State<Sessions>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    mut form: Form,
) -> Result<Response, Refusal> {
    is_from(&visitor, &mut form)?;
    sessions.end(&headers);
    Ok(([(SET_COOKIE, no_cookie())], Redirect::to("/console/login")).into_response())
}

/// The page to go to: one of the console, and of nobody else.
fn page(asked: Option<String>) -> String {
    asked.filter(|asked| is_page(asked)).unwrap_or_else(|| FIRST.to_owned())
}

/// Whether a text is the path of a page, with its query. Nothing in it may mean something else to a browser: no escapes,
/// no parts that lead up or are empty, nothing but plain characters.
fn is_page(asked: &str) -> bool {
    let (path, query) = asked.split_once('?').unwrap_or((asked, ""));
    let is_plain = |text: &str, others: &[u8]| {
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte))
    };
    is_of_console(path)
        && is_plain(path, b"/._:-")
        && is_plain(query, b"._:-=&")
        && path.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."))
        && path != "/console/login"
        && path != "/console/logout"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_to_a_page_of_the_console_and_nowhere_else() {
        let page = |path: &str| page(Some(path.to_owned()));
        for path in [
            "/console",
            "/console/agents/a.b:c_d-e",
            "/console/agents/a..b",
            "/console/crashes/1",
            "/console?after=a1",
            "/console/crashes?agent=a.b&before=c-1",
        ] {
            assert_eq!(page(path), path);
        }
        for path in [
            "",
            "//evil.example",
            "https://evil.example",
            "/agents",
            "/console\\..\\x",
            "/console/\\evil.example",
            "/console/../agents",
            "/console/..",
            "/console/./login",
            "/console/agents/../../agents",
            "/console/%2e%2e/agents",
            "/console/%2E./agents",
            "/console//evil.example",
            "/console/login?next=x",
            "/console/logout?x",
            "/console?after=%2e",
            "/console?x=\r\ny",
            "/console?x#y",
            "/console/\r\nx: y",
            "/consolex",
            "/console/login",
        ] {
            assert_eq!(page(path), FIRST, "{path}");
        }
    }
}
