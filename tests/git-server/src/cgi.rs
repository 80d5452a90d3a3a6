//! `git http-backend` and its output.

use std::io;
use std::path::Path;
use std::process::{Output, Stdio};

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Request, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// What the program answered.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Runs the program for one request.
pub(crate) async fn run(root: &Path, request: &Request<()>, body: &Bytes) -> io::Result<Answer> {
    let mut child = command(root, request, body.len()).spawn()?;
    let mut stdin = child.stdin.take().expect("it is piped");
    let feed = async move {
        // A program that refuses the request does not read it.
        let _ = stdin.write_all(body).await;
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    parse(&output?).ok_or_else(|| io::Error::other("git http-backend answered no CGI header"))
}

fn command(root: &Path, request: &Request<()>, length: usize) -> Command {
    let mut command = Command::new("git");
    command.arg("http-backend").kill_on_drop(true).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs([("GIT_HTTP_EXPORT_ALL", "1"), ("GIT_CONFIG_NOSYSTEM", "1")]);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_PROJECT_ROOT", root);
    command.env("REQUEST_METHOD", request.method().as_str());
    command.env("PATH_INFO", request.uri().path());
    command.env("QUERY_STRING", request.uri().query().unwrap_or_default());
    command.env("CONTENT_LENGTH", length.to_string());
    // Pushes need a user; whether it may is decided before.
    command.env("REMOTE_USER", "tester").env("REMOTE_ADDR", "127.0.0.1");
    for (variable, header) in [
        ("CONTENT_TYPE", "content-type"),
        ("HTTP_CONTENT_ENCODING", "content-encoding"),
        ("GIT_PROTOCOL", "git-protocol"),
    ] {
        if let Some(value) = request.headers().get(header).and_then(|value| value.to_str().ok()) {
            command.env(variable, value);
        }
    }
    command
}

fn parse(output: &Output) -> Option<Answer> {
    let end = output.stdout.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&output.stdout[..end]).ok()?;
    let (mut status, mut headers) = (StatusCode::OK, HeaderMap::new());
    for (name, value) in head.split("\r\n").filter_map(|line| line.split_once(": ")) {
        if name.eq_ignore_ascii_case("status") {
            status = value.split(' ').next()?.parse().ok()?;
        } else {
            headers.insert(
                HeaderName::from_bytes(name.as_bytes()).ok()?,
                HeaderValue::from_str(value).ok()?,
            );
        }
    }
    Some(Answer { status, headers, body: output.stdout[end + 4..].to_vec().into() })
}
