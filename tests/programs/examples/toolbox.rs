//! Runs native programs as its messages say, and replies with how they ended. It misbehaves in no way of its own.
//!
//! A body is a JSON object with `do` and the fields below, or plain words, which are a program and its arguments for
//! `run`.
//!
//! | `do` | what it does | reply |
//! | --- | --- | --- |
//! | `run` | runs a program to its end | what came of it |
//! | `spawn` | starts one and keeps it, also beyond this turn | `{"kept": N}` |
//! | `read` | reads stdout of the kept program to its end, at most `take` bytes | `{"stdout"}` |
//! | `write` | writes `stdin` to the kept program, and closes its stdin | `{"written": BYTES}` |
//! | `wait` | waits for the kept program | how it ended |
//! | `kill` | kills it | `{"kept": N}` |
//! | `drop` | drops it | `{"kept": 0}` |
//! | `programs` | lists the programs that it may run | `{"programs"}` |
//! | `panic` | starts a program and panics | exit reason `panic` |
//! | `status`, `commit`, `push`, `fetch`, `rebase`, `log`, `diff` | the same of its repository; `say` is the message | what came of it, or `{"error"}` |
//! | `checkpoint`, `restore` | of its repository; `take` is the number | `{"number"}` |
//! | `write-file` | writes `stdin` to the file `directory` of the workspace | `{"written": BYTES}` or `{"error"}` |
//!
//! Fields: `run` (program and arguments), `directory`, `env` (an object), `stdin`, `memoryBytes`, `wallMs`, `cpuMs`,
//! `pids`, `outputBytes`, `take`.
//!
//! What came of it: `{"end", "code", "stdout", "stderr", "stdoutBytes", "usage"}`, with texts cut to 4,000 bytes; or
//! `{"error": CASE, "message"}`.

use std::time::Duration;

use bulkhead_guest::tools::{self, Child, Command, End, Error, Finished, Usage};
use bulkhead_guest::{Agent, AgentError, Message, Outcome, workspace};
use serde_json::{Value, json};
use wasip2::io::streams::InputStream;

/// Of a text in a reply.
const MAX_TEXT: usize = 4000;

#[derive(Default)]
struct Toolbox {
    kept: Option<Child>,
}

impl Agent for Toolbox {
    fn handle(&mut self, message: Message) -> Result<Outcome, AgentError> {
        let body = &message.body;
        let order: Value = match serde_json::from_str(body) {
            Ok(order @ Value::Object(_)) => order,
            _ => json!({ "do": "run", "run": body.split(' ').collect::<Vec<_>>() }),
        };
        Ok(Outcome::reply(self.obey(&order)?.to_string()))
    }
}

impl Toolbox {
    fn obey(&mut self, order: &Value) -> Result<Value, AgentError> {
        Ok(match order["do"].as_str().unwrap_or_default() {
            "run" => command(order).run().map_or_else(|error| refused(&error), |it| finished(&it)),
            "spawn" => match command(order).spawn() {
                Ok(child) => {
                    self.kept = Some(child);
                    json!({ "kept": 1 })
                }
                Err(error) => refused(&error),
            },
            "read" => json!({ "stdout": cut(&read(self.child()?, take(order))) }),
            "write" => json!({ "written": write(self.child()?, text(order, "stdin"))? }),
            "wait" => {
                let ended = self.child()?.wait();
                with_end(ended.end, ended.usage, json!({}))
            }
            "kill" => {
                self.child()?.kill();
                json!({ "kept": 1 })
            }
            "drop" => {
                self.kept = None;
                json!({ "kept": 0 })
            }
            "programs" => json!({ "programs": tools::programs() }),
            "panic" => {
                let _child = command(order).spawn();
                panic!("told to panic beside a program");
            }
            "write-file" => write_file(text(order, "directory"), text(order, "stdin")),
            verb => repository(verb, order)?,
        })
    }

    fn child(&self) -> Result<&Child, AgentError> {
        self.kept.as_ref().ok_or_else(|| AgentError::failed("no-child", "no program is kept"))
    }
}

fn text<'a>(order: &'a Value, key: &str) -> &'a str {
    order[key].as_str().unwrap_or_default()
}

fn take(order: &Value) -> usize {
    order["take"].as_u64().map_or(usize::MAX, |bytes| bytes as usize)
}

fn command(order: &Value) -> Command {
    let words: Vec<&str> =
        order["run"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let (program, arguments) = words.split_first().unwrap_or((&"", &[]));
    let mut command = Command::new(*program).args(arguments.iter().copied());
    command = command.stdin(text(order, "stdin"));
    if let Some(directory) = order["directory"].as_str() {
        command = command.directory(directory);
    }
    for (name, value) in order["env"].as_object().into_iter().flatten() {
        command = command.env(name, value.as_str().unwrap_or_default());
    }
    let number = |key: &str| order[key].as_u64();
    if let Some(bytes) = number("memoryBytes") {
        command = command.memory(bytes);
    }
    if let Some(ms) = number("wallMs") {
        command = command.wall(Duration::from_millis(ms));
    }
    if let Some(ms) = number("cpuMs") {
        command = command.cpu(Duration::from_millis(ms));
    }
    if let Some(pids) = number("pids") {
        command = command.pids(pids as u32);
    }
    if let Some(bytes) = number("outputBytes") {
        command = command.output(bytes);
    }
    command
}

fn refused(error: &Error) -> Value {
    json!({ "error": error.code(), "message": error.to_string() })
}

fn finished(finished: &Finished) -> Value {
    let output = json!({
        "stdout": cut(&finished.stdout()),
        "stderr": cut(&finished.stderr()),
        "stdoutBytes": finished.stdout_bytes().len(),
    });
    with_end(finished.end(), finished.usage(), output)
}

fn with_end(end: End, usage: Usage, mut rest: Value) -> Value {
    let (name, code) = match end {
        End::Exited(code) => ("exited", Some(code)),
        End::Signalled(signal) => ("signalled", Some(signal)),
        End::WallDeadline => ("wall-deadline", None),
        End::CpuDeadline => ("cpu-deadline", None),
        End::MemoryLimit => ("memory-limit", None),
        End::OutputLimit => ("output-limit", None),
        End::PidsLimit => ("pids-limit", None),
        End::WorkspaceLimit => ("workspace-limit", None),
        End::Cancelled => ("cancelled", None),
        End::Evicted => ("evicted", None),
        End::Lost => ("lost", None),
    };
    rest["end"] = name.into();
    rest["code"] = code.into();
    rest["usage"] = json!({
        "wallMs": usage.wall_ms,
        "cpuMs": usage.cpu_ms,
        "peakMemoryBytes": usage.peak_memory_bytes,
        "outputBytes": usage.output_bytes,
    });
    rest
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

/// Reads to the end, or so many bytes.
fn read(child: &Child, most: usize) -> String {
    let Some(stream) = child.stdout() else { return "taken".to_owned() };
    let mut bytes = Vec::new();
    while bytes.len() < most {
        match piece(&stream, most - bytes.len()) {
            Some(piece) => bytes.extend(piece),
            None => break,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn piece(stream: &InputStream, most: usize) -> Option<Vec<u8>> {
    stream.blocking_read(most.min(64 * 1024) as u64).ok()
}

fn write(child: &Child, text: &str) -> Result<usize, AgentError> {
    let stream = child.stdin().ok_or_else(|| AgentError::failed("taken", "stdin was taken"))?;
    for piece in text.as_bytes().chunks(4096) {
        if stream.blocking_write_and_flush(piece).is_err() {
            return Err(AgentError::failed("closed", "the program does not read"));
        }
    }
    Ok(text.len())
}

/// Something of the repository that it works on.
fn repository(verb: &str, order: &Value) -> Result<Value, AgentError> {
    let done = match verb {
        "status" => workspace::status().map(|status| {
            let paths: Vec<_> = status.changes.iter().map(|change| change.path.clone()).collect();
            json!({ "branch": status.branch, "head": status.head, "ahead": status.ahead, "changes": paths })
        }),
        "commit" => workspace::commit(text(order, "say"), &[]).map(|id| json!({ "commit": id })),
        "push" => workspace::push().map(|id| json!({ "commit": id })),
        "fetch" => workspace::fetch().map(|id| json!({ "upstream": id })),
        "rebase" => workspace::rebase().map(|id| json!({ "commit": id })),
        "log" => workspace::log(10).map(|log| {
            json!({ "subjects": log.iter().map(|it| it.subject.clone()).collect::<Vec<_>>() })
        }),
        "diff" => workspace::diff(workspace::Base::Upstream, 100_000)
            .map(|patch| json!({ "text": cut(&String::from_utf8_lossy(&patch.text)) })),
        "checkpoint" => workspace::checkpoint(text(order, "say")).map(|it| json!({ "number": it })),
        "restore" => {
            let number = order["take"].as_u64().unwrap_or_default();
            workspace::restore(number).map(|()| json!({ "number": number }))
        }
        other => return Err(AgentError::failed("bad-body", format!("cannot do {other:?}"))),
    };
    Ok(done.unwrap_or_else(|error| json!({ "error": error.code(), "message": error.message() })))
}

fn write_file(name: &str, text: &str) -> Value {
    match std::fs::write(format!("/workspace/{name}"), text) {
        Ok(()) => json!({ "written": text.len() }),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

bulkhead_guest::export!(Toolbox);
