//! What is answered to what.
//!
//! A rule looks at the last thing that the user said and at what happened since. Words are matched
//! without case. A tool is taken by what its name says and its arguments by what their names say, so
//! agents may call a thing `send_message {agent, text}` or `message {to, body}`. A first line in square
//! brackets, with which an agent says who speaks, is not read.
//!
//! | the user says | answer of a conversational agent |
//! | --- | --- |
//! | `hello ...` | a greeting |
//! | `remember X` | a promise to remember X |
//! | `what did I say` | everything that the user said before, from the history |
//! | `emit NAME [TEXT]` | tool `emit`, then what it returned |
//! | `tell AGENT TEXT` | tool to send a message, then what it returned |
//! | `status [TEXT]` | tool `status`, then what it returned |
//! | `done` | tool `done`, then a word of farewell |
//! | `call NAME` | a tool of that name, offered or not, then what it returned |
//! | `for ever` | tool `status` or `list` again and again |
//! | anything else | the same words back |
//!
//! | the task says | answer of an agent that is offered `list`, `read`, `write` and `search` |
//! | --- | --- |
//! | `summarize ...` | list, read every text file, search, write `summary.md`, done |
//! | `read FILE` | read, then done with what it returned |
//! | `write FILE TEXT` | write, then done |
//! | `search TEXT` | search, then done with what it returned |
//! | `run PROGRAM ARGUMENT...` | run, then done with what it returned |
//! | `repair FILE OLD NEW` | run `sh test.sh`, edit if that fails and run again; if it passes then, commit and push where that is offered; then done with what run and push returned |
//! | others as above | |
//!
//! A task whose `done` did not end it gets the same `done` again.

use serde_json::{Map, Value, json};

use crate::chat::{Message, Reply, Request, Tool};

/// Largest part of a tool's result that is repeated in an answer, in characters.
const QUOTE_CHARS: usize = 2000;

/// The answer to a request.
pub fn reply(request: &Request) -> Reply {
    let scene = Scene::of(request);
    let (verb, rest) = split_word(&scene.said);
    match verb.to_lowercase().as_str() {
        "summarize" => summarize(&scene),
        "read" if scene.works_on_files() => single(&scene, "read", &[(PATH, rest)]),
        "write" if scene.works_on_files() => {
            let (path, text) = split_word(rest);
            single(&scene, "write", &[(PATH, path), (TEXT, text)])
        }
        "search" if scene.works_on_files() => single(&scene, "search", &[(PATTERN, rest)]),
        "run" if scene.works_on_files() => {
            let (program, arguments) = split_word(rest);
            single(&scene, "run", &[(PROGRAM, program), (ARGUMENTS, &list(arguments))])
        }
        "repair" if scene.works_on_files() => repair(&scene, rest),
        _ => converse(&scene, verb, rest),
    }
}

fn converse(scene: &Scene, verb: &str, rest: &str) -> Reply {
    match verb.to_lowercase().as_str() {
        "emit" => {
            let (name, text) = split_word(rest);
            let text = if text.is_empty() { name } else { text };
            single(scene, "emit", &[(NAME, name), (TEXT, text)])
        }
        "tell" => {
            let (agent, text) = split_word(rest);
            single(scene, "send", &[(AGENT, agent), (TEXT, text)])
        }
        "status" if rest.is_empty() => single(scene, "status", &[(TEXT, "all is well")]),
        "status" => single(scene, "status", &[(TEXT, rest)]),
        "done" => single(scene, "done", &[(TEXT, "told to finish")]),
        "call" => single(scene, rest, &[]),
        "for" => scene.call(if scene.works_on_files() { "list" } else { "status" }, &[]),
        "hello" => text("Hello. I answer from a script."),
        "remember" => text(format!("I will remember: {rest}")),
        "what" => text(format!("You said: {}", scene.earlier.join("; "))),
        _ => text(format!("I heard: {}", scene.said)),
    }
}

/// One call of one tool, then an answer with its result.
fn single(scene: &Scene, tool: &str, arguments: &[(Role, &str)]) -> Reply {
    let Some(result) = scene.results.first() else { return scene.call(tool, arguments) };
    let words = format!("{tool} returned: {}", quote(result));
    match scene.calls.last() {
        // A task ends with `done`; a conversation waits for the next message.
        Some(_) if scene.works_on_files() => scene.call("done", &[(TEXT, &words)]),
        _ => text(words),
    }
}

/// Tests, an edit if they fail, and the tests again; then what is repaired goes to the server. The edit is made once: a
/// second failure is reported.
fn repair(scene: &Scene, rest: &str) -> Reply {
    let (path, change) = split_word(rest);
    let (old, new) = split_word(change);
    let is_made = |kind: &str| scene.made(kind) > 0;
    let Some(tested) = scene.returned("run").filter(|_| !scene.ends_with("edit")) else {
        return scene.call("run", &[(PROGRAM, "sh"), (ARGUMENTS, &list("test.sh"))]);
    };
    let passed = tested.starts_with("exited with code 0 ");
    if !passed && !is_made("edit") {
        return scene.call("edit", &[(PATH, path), (OLD, old), (NEW, new)]);
    }
    let is_wanted = |kind: &str| passed && is_made("edit") && scene.offers(kind) && !is_made(kind);
    if is_wanted("commit") {
        return scene.call("commit", &[(TEXT, &format!("Repair {path}"))]);
    }
    if is_wanted("push") {
        return scene.call("push", &[]);
    }
    let returned = |kind| Some(format!("{kind} returned: {}", quote(scene.returned(kind)?)));
    let words = ["run", "push"].into_iter().filter_map(returned).collect::<Vec<_>>();
    scene.call("done", &[(TEXT, &words.join("\n"))])
}

/// The words as a JSON list.
fn list(words: &str) -> String {
    json!(words.split_whitespace().collect::<Vec<_>>()).to_string()
}

/// A task over files in five steps. Which step comes next is decided by the calls made so far.
fn summarize(scene: &Scene) -> Reply {
    let made = |kind: &str| scene.made(kind);
    if made("list") == 0 {
        return scene.call("list", &[]);
    }
    let files = file_names(scene.results.first().map_or("", String::as_str));
    if made("read") < files.len() {
        let missing = &files[made("read")..];
        let calls = missing.iter().map(|file| scene.arranged("read", &[(PATH, file)]));
        return Reply::Calls(calls.collect());
    }
    if made("search") == 0 {
        return scene.call("search", &[(PATTERN, "TODO")]);
    }
    if made("write") == 0 {
        return scene.call("write", &[(PATH, "summary.md"), (TEXT, &summary(scene, &files))]);
    }
    scene.call("done", &[(TEXT, &format!("summarized {} files", files.len()))])
}

/// The first line of each file, in the order of the reads, and what the search found.
fn summary(scene: &Scene, files: &[String]) -> String {
    let mut text = String::from("# Summary\n\n");
    let of_kind = |kind: &'static str| {
        let both = scene.calls.iter().zip(&scene.results);
        both.filter(move |(name, _)| is_kind(name, kind)).map(|(_, result)| content(result))
    };
    for (file, read) in files.iter().zip(of_kind("read")) {
        let first = read.lines().find(|line| !line.trim().is_empty()).unwrap_or("(empty)").trim();
        text.push_str(&format!("- {file}: {first}\n"));
    }
    for found in of_kind("search") {
        text.push_str(&format!("\nOpen points:\n\n{}\n", quote(&found)));
    }
    text
}

/// What a rule looks at.
struct Scene<'a> {
    tools: &'a [Tool],
    /// The last thing that the user said.
    said: String,
    /// What the user said before.
    earlier: Vec<String>,
    /// Names of the tools that were called since.
    calls: Vec<String>,
    /// Their results, in the same order.
    results: Vec<String>,
}

impl<'a> Scene<'a> {
    fn of(request: &'a Request) -> Self {
        let mut scene = Self {
            tools: &request.tools,
            said: String::new(),
            earlier: Vec::new(),
            calls: Vec::new(),
            results: Vec::new(),
        };
        let mut spoken = Vec::new();
        for message in &request.messages {
            match message.role.as_str() {
                "user" => {
                    spoken.push(unframed(&message.text()).trim().to_owned());
                    scene.calls.clear();
                    scene.results.clear();
                }
                "assistant" => scene.calls.extend(names(message)),
                "tool" => scene.results.push(message.text()),
                _ => {}
            }
        }
        scene.said = spoken.pop().unwrap_or_default();
        scene.earlier = spoken;
        scene
    }

    fn works_on_files(&self) -> bool {
        ["list", "read", "write", "search"].iter().all(|kind| self.offers(kind))
    }

    fn offers(&self, kind: &str) -> bool {
        self.tools.iter().any(|tool| is_kind(&tool.function.name, kind))
    }

    /// Calls of that kind.
    fn made(&self, kind: &str) -> usize {
        self.calls.iter().filter(|name| is_kind(name, kind)).count()
    }

    fn ends_with(&self, kind: &str) -> bool {
        self.calls.last().is_some_and(|name| is_kind(name, kind))
    }

    /// The last result of that kind.
    fn returned(&self, kind: &str) -> Option<&str> {
        let both = self.calls.iter().zip(&self.results);
        both.rev().find(|(name, _)| is_kind(name, kind)).map(|(_, result)| result.as_str())
    }

    fn call(&self, kind: &str, arguments: &[(Role, &str)]) -> Reply {
        Reply::Calls(vec![self.arranged(kind, arguments)])
    }

    /// A call of the offered tool of that kind. What is not offered is called all the same: models do.
    fn arranged(&self, kind: &str, arguments: &[(Role, &str)]) -> (String, Value) {
        match self.tools.iter().find(|tool| is_kind(&tool.function.name, kind)) {
            Some(tool) => (tool.function.name.clone(), filled(tool, arguments)),
            None => (kind.to_owned(), json!({})),
        }
    }
}

/// Without the first line, if that is a note in square brackets.
fn unframed(text: &str) -> &str {
    match text.split_once('\n') {
        Some((first, rest)) if first.starts_with('[') && first.ends_with(']') => rest,
        _ => text,
    }
}

fn names(message: &Message) -> Vec<String> {
    message.called().into_iter().map(str::to_owned).collect()
}

/// Whether a tool's name says that it does this.
fn is_kind(name: &str, kind: &str) -> bool {
    let words: Vec<_> = name.split(['_', '-', '.']).collect();
    let meant: &[&str] = match kind {
        "send" => &["send", "message", "tell"],
        "done" => &["done", "finish", "complete"],
        "search" => &["search", "grep", "find"],
        other => return words.contains(&other) || name == other,
    };
    words.iter().any(|word| meant.contains(word))
}

/// Names that a parameter may have.
type Role = &'static [&'static str];

const AGENT: Role = &["agent", "agent_id", "agentId", "agent-id", "to", "recipient", "id"];
const NAME: Role = &["name", "event"];
const PATH: Role = &["path", "file", "name"];
const PROGRAM: Role = &["program", "command"];
const ARGUMENTS: Role = &["arguments", "args"];
const OLD: Role = &["old", "old_text", "old_string"];
const NEW: Role = &["new", "new_text", "new_string"];
const PATTERN: Role = &["pattern", "query", "text", "needle"];
const TEXT: Role =
    &["text", "body", "message", "content", "contents", "data", "summary", "reason", "result"];

/// Arguments for a tool: each value goes to the parameter whose name fits, what the caller does not
/// know is left out unless it is required.
fn filled(tool: &Tool, arguments: &[(Role, &str)]) -> Value {
    let parameters = &tool.function.parameters;
    let mut given = Map::new();
    for (role, value) in arguments {
        if value.is_empty() {
            continue;
        }
        let name = role.iter().find(|name| {
            parameters["properties"].get(**name).is_some() && !given.contains_key(**name)
        });
        if let Some(name) = name {
            let schema = &parameters["properties"][*name];
            given.insert((*name).to_owned(), typed(schema, value));
        }
    }
    for name in parameters["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let schema = &parameters["properties"][name];
        given.entry(name).or_insert_with(|| typed(schema, "."));
    }
    Value::Object(given)
}

/// A value of the type that the schema asks for.
fn typed(schema: &Value, text: &str) -> Value {
    match schema["type"].as_str() {
        Some("string") => text.into(),
        Some("object") => serde_json::from_str::<Map<_, _>>(text)
            .map_or_else(|_| json!({"text": text}), Value::Object),
        Some("integer" | "number") => text.parse::<i64>().unwrap_or(0).into(),
        Some("boolean") => true.into(),
        _ => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
    }
}

/// The text files that a listing names, sorted, whatever the listing looks like.
fn file_names(listing: &str) -> Vec<String> {
    let separators = |c: char| c.is_whitespace() || "\"'[]{},:()`".contains(c);
    let is_text = |name: &&str| name.ends_with(".md") || name.ends_with(".txt");
    let mut names: Vec<_> = listing
        .replace("\\n", " ")
        .split(separators)
        .filter(is_text)
        .filter(|name| *name != "summary.md")
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The text inside a result that is a JSON object with a text, or the result.
fn content(result: &str) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_str(result) else { return result.to_owned() };
    let text = TEXT.iter().find_map(|name| fields.get(*name)).and_then(Value::as_str);
    text.unwrap_or(result).to_owned()
}

fn quote(text: &str) -> String {
    text.chars().take(QUOTE_CHARS).collect()
}

fn text(words: impl Into<String>) -> Reply {
    Reply::Text(words.into())
}

fn split_word(text: &str) -> (&str, &str) {
    let text = text.trim();
    text.split_once(char::is_whitespace).map_or((text, ""), |(word, rest)| (word, rest.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str, parameters: &[&str]) -> Value {
        let properties: Map<_, _> =
            parameters.iter().map(|name| ((*name).to_owned(), json!({"type": "string"}))).collect();
        json!({"type": "function", "function": {"name": name,
            "parameters": {"type": "object", "properties": properties, "required": parameters}}})
    }

    fn mayor() -> Vec<Value> {
        vec![
            tool("emit", &["name", "data"]),
            tool("send_message", &["agent_id", "body"]),
            tool("status", &["text"]),
            tool("done", &["summary"]),
        ]
    }

    fn polecat() -> Vec<Value> {
        vec![
            tool("list", &["path"]),
            tool("read", &["path"]),
            tool("write", &["path", "content"]),
            tool("search", &["pattern"]),
            tool("edit", &["path", "old", "new"]),
            run(),
            tool("done", &["summary"]),
        ]
    }

    fn run() -> Value {
        let mut tool = tool("run", &["program"]);
        tool["function"]["parameters"]["properties"]["arguments"] = json!({"type": "array"});
        tool
    }

    fn user(text: &str) -> Value {
        json!({"role": "user", "content": text})
    }

    fn answer(tools: &[Value], messages: &[Value]) -> Reply {
        let request = json!({"model": "scripted", "tools": tools, "messages": messages});
        reply(&serde_json::from_value(request).unwrap())
    }

    fn words(reply: Reply) -> String {
        match reply {
            Reply::Text(text) => text,
            Reply::Calls(calls) => panic!("calls: {calls:?}"),
        }
    }

    fn call(reply: Reply) -> (String, Value) {
        match reply {
            Reply::Calls(mut calls) if calls.len() == 1 => calls.remove(0),
            other => panic!("not one call: {other:?}"),
        }
    }

    #[test]
    fn memory_is_answered_from_the_history() {
        let said = [user("remember the well is dry"), user("hello"), user("What did I say?")];
        let answer = words(answer(&mayor(), &said));
        assert_eq!(answer, "You said: remember the well is dry; hello");
    }

    #[test]
    fn a_tool_is_called_with_arguments_by_their_names() {
        let (name, arguments) = call(answer(&mayor(), &[user("tell echo good morning")]));
        assert_eq!(name, "send_message");
        assert_eq!(arguments, json!({"agent_id": "echo", "body": "good morning"}));
        let (name, arguments) = call(answer(&mayor(), &[user("emit town.square {\"n\":1}")]));
        assert_eq!(name, "emit");
        assert_eq!(arguments, json!({"name": "town.square", "data": "{\"n\":1}"}));
    }

    #[test]
    fn who_speaks_is_not_part_of_what_is_said() {
        let said = [user("[message from agent echo]\ntell bob hi")];
        assert_eq!(call(answer(&mayor(), &said)).0, "send_message");
    }

    #[test]
    fn a_result_ends_the_answer_of_a_conversation() {
        let calls = json!([{"id": "c", "function": {"name": "status", "arguments": "{}"}}]);
        let said = [
            user("status"),
            json!({"role": "assistant", "content": null, "tool_calls": calls}),
            json!({"role": "tool", "tool_call_id": "c", "content": "all well"}),
        ];
        assert_eq!(words(answer(&mayor(), &said)), "status returned: all well");
    }

    /// Plays the other side of a task: makes the calls on a made-up directory. Programs fail until a file is edited.
    fn play(task: &str, files: &[(&str, &str)]) -> Vec<(String, Value)> {
        play_with(&polecat(), task, files)
    }

    fn play_with(tools: &[Value], task: &str, files: &[(&str, &str)]) -> Vec<(String, Value)> {
        let (mut messages, mut made) = (vec![user(task)], Vec::new());
        while made.last().is_none_or(|(name, _)| name != "done") {
            assert!(made.len() < 20, "{made:?}");
            let Reply::Calls(calls) = answer(tools, &messages) else { break };
            let wire: Vec<_> = calls
                .iter()
                .map(|(name, arguments)| {
                    json!({"id": "c", "function": {"name": name, "arguments": arguments.to_string()}})
                })
                .collect();
            messages.push(json!({"role": "assistant", "content": null, "tool_calls": wire}));
            for (name, arguments) in calls {
                let result = match name.as_str() {
                    "list" => files.iter().map(|(name, _)| format!("{name}\n")).collect(),
                    "read" => files
                        .iter()
                        .find(|(name, _)| arguments["path"] == *name)
                        .map_or("no such file".to_owned(), |(_, text)| (*text).to_owned()),
                    "search" => "one.md:2: TODO paint".to_owned(),
                    "run" => {
                        let edited = made.iter().any(|(name, _)| name == "edit");
                        format!("exited with code {} after 0.1 s", u8::from(!edited))
                    }
                    _ => "ok".to_owned(),
                };
                messages.push(json!({"role": "tool", "tool_call_id": "c", "content": result}));
                made.push((name, arguments));
            }
        }
        made
    }

    #[test]
    fn a_summary_reads_every_file_and_ends() {
        let made = play("summarize the notes", &[("two.txt", "second"), ("one.md", "\n# first")]);
        let names: Vec<_> = made.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["list", "read", "read", "search", "write", "done"]);
        let written = made[4].1["content"].as_str().unwrap();
        assert!(written.contains("- one.md: # first\n- two.txt: second\n"), "{written}");
        assert!(written.contains("TODO paint"), "{written}");
    }

    #[test]
    fn a_small_task_ends_with_done() {
        let made = play("write note.md some words", &[]);
        assert_eq!(made[0].1, json!({"path": "note.md", "content": "some words"}));
        assert_eq!(made[1].0, "done");
        assert_eq!(made.len(), 2);
    }

    #[test]
    fn a_program_is_run_with_its_arguments() {
        let made = play("run sh big.sh 3", &[]);
        assert_eq!(made[0].1, json!({"program": "sh", "arguments": ["big.sh", "3"]}));
        assert_eq!(made[1].1["summary"], "run returned: exited with code 1 after 0.1 s");
    }

    #[test]
    fn a_repair_tests_edits_and_tests_again() {
        let made = play("repair sum.sh 1 2", &[]);
        let names: Vec<_> = made.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["run", "edit", "run", "done"]);
        assert_eq!(made[0].1, json!({"program": "sh", "arguments": ["test.sh"]}));
        assert_eq!(made[1].1, json!({"path": "sum.sh", "old": "1", "new": "2"}));
        assert_eq!(made[3].1["summary"], "run returned: exited with code 0 after 0.1 s");
    }

    fn in_a_repository() -> Vec<Value> {
        let of_repository = [tool("commit", &["message"]), tool("push", &[])];
        polecat().into_iter().chain(of_repository).collect()
    }

    #[test]
    fn a_repair_is_committed_and_pushed_where_that_is_offered() {
        let made = play_with(&in_a_repository(), "repair sum.sh 1 2", &[]);
        let names: Vec<_> = made.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["run", "edit", "run", "commit", "push", "done"]);
        assert_eq!(made[3].1, json!({"message": "Repair sum.sh"}));
        let summary = &made[5].1["summary"];
        assert_eq!(summary, "run returned: exited with code 0 after 0.1 s\npush returned: ok");
    }

    #[test]
    fn what_needs_no_repair_is_not_committed() {
        let calls = json!([{"id": "c", "function": {"name": "run", "arguments": "{}"}}]);
        let passed = "exited with code 0 after 0.1 s";
        let said = [
            user("repair sum.sh 1 2"),
            json!({"role": "assistant", "content": null, "tool_calls": calls}),
            json!({"role": "tool", "tool_call_id": "c", "content": passed}),
        ];
        assert_eq!(call(answer(&in_a_repository(), &said)).0, "done");
    }

    #[test]
    fn a_done_that_did_not_end_the_task_is_said_again() {
        let calls =
            |name: &str| json!([{"id": "c", "function": {"name": name, "arguments": "{}"}}]);
        let turn = |name: &str, content: &str| {
            [
                json!({"role": "assistant", "content": null, "tool_calls": calls(name)}),
                json!({"role": "tool", "tool_call_id": "c", "content": content}),
            ]
        };
        for task in ["read a", "repair a 1 2", "summarize"] {
            let mut said = vec![user(task)];
            for (name, content) in [
                ("list", ""),
                ("search", ""),
                ("write", ""),
                ("run", "exited with code 0 after 0.1 s"),
                ("done", "not yet"),
            ] {
                said.extend(turn(name, content));
            }
            assert_eq!(call(answer(&polecat(), &said)).0, "done", "{task}");
        }
    }

    #[test]
    fn names_are_found_in_any_listing() {
        for listing in ["a.md\nb.txt\nc.bin", "[\"a.md\",\"b.txt\"]", "file a.md (3 bytes), b.txt"]
        {
            assert_eq!(file_names(listing), ["a.md", "b.txt"], "{listing}");
        }
    }
}
