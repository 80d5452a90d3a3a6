//! The types of the SDK in JavaScript are written by hand: here they are compared with the contract, and with the SDK.

// `FUNCTIONS` and `TYPES`: the names of the contract.
include!(concat!(env!("OUT_DIR"), "/contract.rs"));

const DECLARATIONS: &str = include_str!("../../../../guest/runners/js/sdk/agent.d.ts");

/// Names of one type: in the contract, and in the SDK where it has another one.
type Names = &'static [(&'static str, Option<&'static str>)];

/// Where functions of an interface are declared, and what they are called there. `None`: the runner calls it in the author's
/// place.
const DECLARED: &[(&str, Names)] = &[
    (
        "interface Context",
        &[
            ("host.emit", Some("emit")),
            ("host.send", Some("send")),
            ("host.set-active-tools", Some("setActiveTools")),
            ("host.nudges", Some("nudges")),
            ("host.settings", Some("settings")),
            ("host.config", Some("config")),
            ("host.log", Some("log")),
            ("host.unhandled-rejection", None),
            ("host.deadline", Some("deadline")),
            ("host.memory", Some("memory")),
            ("tools.programs", Some("programs")),
            ("tools.run", Some("run")),
            ("tools.spawn", Some("spawn")),
        ],
    ),
    (
        "interface Model",
        &[
            ("model.chat", Some("stream")),
            ("model.complete", Some("complete")),
            ("model.[method]chat-stream.next", None),
            ("model.[method]chat-stream.cancel", None),
        ],
    ),
    (
        "interface Child",
        &[
            ("tools.[method]child.stdin", Some("write")),
            ("tools.[method]child.stdout", Some("readBytes")),
            ("tools.[method]child.stderr", Some("lines")),
            ("tools.[method]child.wait", Some("wait")),
            ("tools.[method]child.kill", Some("kill")),
        ],
    ),
    (
        "interface Workspace",
        &[
            ("workspace.status", Some("status")),
            ("workspace.diff", Some("diff")),
            ("workspace.commit", Some("commit")),
            ("workspace.log", Some("log")),
            ("workspace.fetch", Some("fetch")),
            ("workspace.rebase", Some("rebase")),
            ("workspace.push", Some("push")),
            ("workspace.checkpoint", Some("checkpoint")),
            ("workspace.restore", Some("restore")),
        ],
    ),
    (
        "interface AgentSpec",
        &[
            ("lifecycle.start", Some("start")),
            ("lifecycle.handle", Some("message")),
            ("lifecycle.snapshot", None),
            ("lifecycle.restore", None),
            ("lifecycle.shutdown", Some("shutdown")),
        ],
    ),
];

/// A type of the contract: the declarations that have its members, and members of another name there, or of none.
type Shown =
    (&'static str, &'static [&'static str], &'static [(&'static str, Option<&'static str>)]);

const SHOWN: &[Shown] = &[
    (
        "agent-types.start-request",
        &["readonly me:"],
        &[("agent-id", Some("id")), ("town-id", Some("town")), ("rig-id", Some("rig"))],
    ),
    ("agent-types.sender", &["readonly sender:"], &[]),
    ("agent-types.message", &["interface Message"], &[("body", Some("text"))]),
    ("agent-types.next", &["interface Outcome"], &[]),
    ("agent-types.outcome", &["interface Outcome"], &[]),
    // What is thrown is the language's own.
    ("agent-types.source-frame", &[], &[]),
    ("agent-types.exception", &[], &[]),
    // `Error` has the message.
    ("agent-types.agent-error", &["class AgentError"], &[("exceptions", None)]),
    ("agent-types.shutdown-reason", &["shutdown?(reason:"], &[]),
    ("host.level", &["readonly log:"], &[]),
    ("host.event", &["emit(name"], &[]),
    ("host.nudge", &["nudges():"], &[]),
    ("host.memory-usage", &["memory():"], &[]),
    ("host.agent-settings", &["settings():"], &[]),
    ("host.host-error", &["class HostError"], &[]),
    ("model.role", &["interface ChatMessage"], &[]),
    // As model servers have it; an image in the request is a `data:` URL.
    ("model.content", &["type Content"], &[("image-url", Some("image_url")), ("image", None)]),
    ("model.image-data", &[], &[]),
    ("model.tool-call", &["interface ToolCall"], &[]),
    (
        "model.chat-message",
        &["interface ChatMessage"],
        &[
            ("tool-calls", Some("tool_calls")),
            ("tool-call-id", Some("tool_call_id")),
            ("reasoning-state", Some("reasoning_state")),
        ],
    ),
    ("model.tool", &["interface ModelRequest"], &[]),
    ("model.tool-choice", &["toolChoice?:"], &[("named", Some("name"))]),
    ("model.response-format", &["responseFormat?:"], &[("json-schema", Some("schema"))]),
    ("model.request", &["interface ModelOptions", "interface ModelRequest"], &[]),
    ("model.finish-reason", &["type FinishReason"], &[]),
    ("model.usage", &["interface Usage"], &[]),
    ("model.end", &["type Part"], &[]),
    ("model.part", &["type Part"], &[]),
    ("model.completion", &["complete(request"], &[("end", Some("finishReason"))]),
    ("model.rejection", &["class ModelError"], &[("message", None)]),
    ("model.exhausted-budget", &["class ModelError"], &[("message", None)]),
    ("model.model-error", &["class ModelError"], &[]),
    ("tools.limits", &["interface RunOptions"], &[]),
    (
        "tools.command",
        &["run(program", "interface RunOptions"],
        &[("arguments", Some("args")), ("environment", Some("env")), ("limits", Some("wallMs"))],
    ),
    ("tools.end", &["interface Ended"], &[]),
    ("tools.usage", &["interface Ended"], &[]),
    ("tools.ended", &["interface Ended"], &[]),
    ("tools.finished", &["interface Ended", "interface Finished"], &[]),
    ("tools.tool-error", &["class ToolError"], &[]),
    ("workspace.change-kind", &["type ChangeKind"], &[]),
    ("workspace.change", &["status():"], &[]),
    ("workspace.tree-status", &["status():"], &[]),
    ("workspace.base", &["diff(options"], &[]),
    ("workspace.patch", &["diff(options"], &[]),
    ("workspace.log-entry", &["log(max"], &[]),
    ("workspace.workspace-error", &["class WorkspaceError"], &[]),
];

/// A declaration from its first words to its end: a semicolon or a closing brace outside of all braces.
#[track_caller]
fn declaration(beginning: &str) -> &'static str {
    let is_word = |rest: &str| {
        !beginning.ends_with(char::is_alphanumeric)
            || !rest[beginning.len()..].starts_with(char::is_alphanumeric)
    };
    let at = DECLARATIONS.match_indices(beginning).map(|(at, _)| &DECLARATIONS[at..]);
    let text = at.into_iter().find(|rest| is_word(rest));
    let text = text.unwrap_or_else(|| panic!("agent.d.ts has no {beginning:?}"));
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        let is_block =
            c == '}' && ["interface", "class"].iter().any(|it| beginning.starts_with(it));
        if depth == 0 && (c == ';' || is_block) {
            return &text[..=at];
        }
    }
    panic!("{beginning:?} does not end");
}

fn camel(name: &str) -> String {
    let mut words = name.split('-');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..])
}

/// As a member, a parameter, a text of a union, or a word of a comment.
fn has(text: &str, name: &str) -> bool {
    let names = [format!("\"{name}\""), format!("`{name}`")];
    let members = ["?:", ":", "(", "<", "?("].map(|end| format!("{}{end}", camel(name)));
    let is_member = |member: &String| {
        text.match_indices(member).any(|(at, _)| {
            !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.')
        })
    };
    names.iter().any(|name| text.contains(name)) || members.iter().any(is_member)
}

#[test]
fn every_function_of_the_contract_is_declared() {
    let mut known = Vec::new();
    for (place, functions) in DECLARED {
        for (function, name) in *functions {
            known.push(*function);
            if let Some(name) = name {
                assert!(has(declaration(place), name), "{function}: no {name} in {place}");
            }
        }
    }
    let mut contract = FUNCTIONS.to_vec();
    known.sort_unstable();
    contract.sort_unstable();
    assert_eq!(known, contract, "say where each function of the contract is declared");
}

#[test]
fn every_field_and_case_of_the_contract_is_declared() {
    for (name, members) in TYPES {
        let shown = SHOWN.iter().find(|(shown, ..)| shown == name);
        let (_, places, renamed) =
            shown.unwrap_or_else(|| panic!("say where {name} of the contract is declared"));
        for other in renamed.iter().map(|(member, _)| member) {
            assert!(members.contains(other), "{name} has no {other}");
        }
        for member in members.iter().filter(|_| !places.is_empty()) {
            let renamed = renamed.iter().find(|(other, _)| other == member);
            let Some(shown) = renamed.map_or(Some(*member), |(_, shown)| *shown) else { continue };
            let is_there = places.iter().any(|place| has(declaration(place), shown));
            assert!(is_there, "{name}: no {shown} in {places:?}");
        }
    }
    for (name, ..) in SHOWN {
        assert!(TYPES.iter().any(|(known, _)| known == name), "the contract has no {name}");
    }
}

#[test]
fn what_is_declared_is_what_the_module_has() {
    let module = include_str!("../../../../guest/runners/js/sdk/index.js");
    let exported =
        module.lines().filter_map(|line| line.strip_prefix("export { ")?.split_once(" }"));
    let mut exported: Vec<_> = exported.flat_map(|(names, _)| names.split(", ")).collect();
    let values = ["export function ", "export class ", "export const "];
    let mut declared: Vec<_> = DECLARATIONS
        .lines()
        .filter_map(|line| values.iter().find_map(|value| line.trim().strip_prefix(value)))
        .filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next())
        .collect();
    exported.sort_unstable();
    declared.sort_unstable();
    assert_eq!(declared, exported);
}

/// The context is made by `Life`: of functions of the host, of files, and of what it makes itself.
#[test]
fn what_a_context_has_is_declared_and_the_other_way_round() {
    let agent = include_str!("../../../../guest/runners/js/sdk/agent.js");
    let files = include_str!("../../../../guest/runners/js/sdk/files.js");
    let made = agent.split_once("const context = {").unwrap().1.split_once("};").unwrap().0;
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let names = |text: &'static str| text.split(|c| !word(c)).filter(|name| !name.is_empty());
    let declared = declaration("interface Context");
    let mut depth = 0;
    for line in declared.lines().skip(1) {
        if depth == 0 && !line.trim_start().starts_with(['/', '*']) {
            let line = line.trim_start().trim_start_matches("readonly ");
            let name = line.split(|c| !word(c)).next().unwrap();
            let is_there = names(made).chain(names(files)).any(|known| known == name);
            assert!(is_there || name.is_empty(), "a context has no {name}");
        }
        depth += line.matches('{').count() as i32 - line.matches('}').count() as i32;
    }
    // Each on a line of its own, up to the colon.
    let of_files = files.lines().filter_map(|line| line.strip_prefix("  ")?.split_once(": async"));
    for name in of_files.map(|(name, _)| name.trim()).chain(["emit", "send", "state", "chat"]) {
        assert!(has(declared, name), "{name} is not declared");
    }
}
