//! The functions that the SDK is made of.
//!
//! Most take the list of their arguments as JSON text and return JSON text: a result of the contract as serde writes it,
//! `{"Ok": …}` or `{"Err": {"NotFound": "…"}}`. Those with bytes take and return them beside the text.

mod bytes;
pub mod handles;
mod json;
mod plain;

use rquickjs::{Ctx, Object, Result};

use crate::bindings::bulkhead::agent::{host, model, tools, workspace};
use crate::{bounds, files, http, programs, urls};
use handles::Handles;
use json::{Nothing, json};

pub use bytes::{Reply, bytes};

thread_local! {
    static ANSWERS: Handles<model::ChatStream> = const { Handles::new() };
}

/// Makes the object with all of them.
pub fn object<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    add_host(&object)?;
    add_model(&object)?;
    add_tools(&object)?;
    add_workspace(&object)?;
    add_files(&object)?;
    add_http(&object)?;
    bytes::add_text_and_random(&object)?;
    plain::add_is_plain(&object)?;
    Ok(object)
}

fn add_host(object: &Object<'_>) -> Result<()> {
    json(object, "emit", |(event,): (host::Event,)| bounds::emit(&event))?;
    json(object, "send", |(to, body): (String, String)| bounds::send(&to, &body))?;
    json(object, "setActiveTools", |(names,): (Vec<String>,)| host::set_active_tools(&names))?;
    json(object, "nudges", |_: Nothing| host::nudges())?;
    json(object, "settings", |_: Nothing| host::settings())?;
    json(object, "config", |(key,): (String,)| host::config(&key))?;
    json(object, "log", |(level, message, fields): (_, String, Vec<_>)| {
        host::log(level, &message, &fields);
    })?;
    json(object, "deadline", |_: Nothing| host::deadline())?;
    json(object, "memory", |_: Nothing| host::memory())
}

fn add_model(object: &Object<'_>) -> Result<()> {
    json(object, "complete", |(request,): (model::Request,)| {
        bounds::ask(&request)?;
        model::complete(&request)
    })?;
    json(object, "chatOpen", |(request,): (model::Request,)| {
        bounds::ask(&request)?;
        model::chat(&request).map(|answer| ANSWERS.with(|answers| answers.add(answer)))
    })?;
    json(object, "chatNext", |(id,): (u32,)| {
        let part = ANSWERS.with(|answers| answers.with(id, |answer| answer.next()));
        part.unwrap_or(Err(model::ModelError::Cancelled))
    })?;
    json(object, "chatClose", |(id,): (u32,)| ANSWERS.with(|answers| answers.close(id)))
}

fn add_tools(object: &Object<'_>) -> Result<()> {
    json(object, "programs", |_: Nothing| tools::programs())?;
    json(object, "spawn", |(command,): (tools::Command,)| programs::spawn(&command))?;
    json(object, "childWait", |(id,): (u32,)| programs::wait(id))?;
    json(object, "childKill", |(id,): (u32,)| programs::kill(id))?;
    json(object, "childClose", |(id,): (u32,)| programs::close(id))?;
    bytes(object, "run", |(command,): (tools::Command,), stdin| programs::run(&command, stdin))?;
    bytes(object, "childWrite", |(id,): (u32,), input| programs::write(id, input))?;
    bytes(object, "childCloseStdin", |(id,): (u32,), _| programs::close_stdin(id))?;
    bytes(object, "childRead", |(id, stderr): (u32, bool), _| programs::read(id, stderr))
}

fn add_workspace(object: &Object<'_>) -> Result<()> {
    json(object, "workspaceStatus", |_: Nothing| workspace::status())?;
    json(object, "workspaceCommit", |(message, paths): (String, Vec<String>)| {
        workspace::commit(&message, &paths)
    })?;
    json(object, "workspaceLog", |(max,): (u32,)| workspace::log(max))?;
    json(object, "workspaceFetch", |_: Nothing| workspace::fetch())?;
    json(object, "workspaceRebase", |_: Nothing| workspace::rebase())?;
    json(object, "workspacePush", |_: Nothing| workspace::push())?;
    json(object, "workspaceCheckpoint", |(name,): (String,)| workspace::checkpoint(&name))?;
    json(object, "workspaceRestore", |(id,): (u64,)| workspace::restore(id))?;
    bytes(
        object,
        "workspaceDiff",
        |(against, max): (workspace::Base, u64), _| match workspace::diff(against, max) {
            Ok(patch) => {
                Reply::new(Ok::<_, workspace::WorkspaceError>(patch.truncated), [patch.text])
            }
            Err(error) => Reply::new(Err::<bool, _>(error), [Vec::new()]),
        },
    )
}

fn add_http(object: &Object<'_>) -> Result<()> {
    bytes(object, "httpSend", |(ask,): (http::Ask,), body| http::send(ask, body))?;
    json(object, "httpWait", |(id,): (u32,)| http::wait(id))?;
    json(object, "httpHead", |(id,): (u32,)| http::head(id))?;
    bytes(object, "httpRead", |(id,): (u32,), _| http::read(id))?;
    json(object, "httpClose", |(id,): (u32,)| http::close(id))?;
    json(object, "formRead", |(text,): (String,)| urls::read_form(&text))?;
    json(object, "formWrite", |(pairs,): (Vec<(String, String)>,)| urls::write_form(&pairs))?;
    json(object, "urlParse", |(text, base): (String, Option<String>)| {
        urls::parse(&text, base.as_deref())
    })?;
    json(object, "urlSet", |(href, part, value): (String, String, String)| {
        urls::set(&href, &part, &value)
    })
}

fn add_files(object: &Object<'_>) -> Result<()> {
    bytes(object, "fileRead", |(path,): (String,), _| match files::read(&path) {
        Ok(contents) => Reply::new(Ok::<_, files::Error>(()), [contents]),
        Err(error) => Reply::new(Err::<(), _>(error), [Vec::new()]),
    })?;
    bytes(object, "fileWrite", |(path, append): (String, bool), input| {
        Reply::plain(files::write(&path, append, input))
    })?;
    bytes(object, "fileList", |(path,): (String,), _| Reply::plain(files::list(&path)))?;
    bytes(object, "fileStat", |(path,): (String,), _| Reply::plain(files::stat(&path)))?;
    bytes(object, "fileMkdir", |(path,): (String,), _| Reply::plain(files::make_dir(&path)))?;
    bytes(object, "fileRemove", |(path, recursive): (String, bool), _| {
        Reply::plain(files::remove(&path, recursive))
    })?;
    bytes(object, "fileRename", |(from, to): (String, String), _| {
        Reply::plain(files::rename(&from, &to))
    })
}
