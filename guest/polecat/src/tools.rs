//! What the model may ask the polecat to do.

use bulkhead_guest::model::{Tool, ToolCall};
use bulkhead_guest::{host, info};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::search::search;
use crate::workspace::Workspace;

/// What a tool did.
#[derive(Debug, Default)]
pub struct Result {
    /// For the model.
    pub text: String,
    /// The summary, when the model says that the task is finished.
    pub summary: Option<String>,
}

/// The tools with their schemas.
pub fn offered() -> Vec<Tool> {
    let path = json!({ "type": "string", "description": "Relative to the workspace." });
    vec![
        Tool::new(
            "list",
            "List a directory: directories end in a slash, files show their size.",
            object(json!({ "path": path }), &[]),
        ),
        Tool::new(
            "read",
            "Read a text file, up to 64 KiB at once.",
            object(
                json!({
                    "path": path,
                    "offset": { "type": "integer", "description": "Byte to begin at, default 0." },
                }),
                &["path"],
            ),
        ),
        Tool::new(
            "write",
            "Create or replace a text file, up to 1 MiB.",
            object(json!({ "path": path, "content": { "type": "string" } }), &["path", "content"]),
        ),
        Tool::new(
            "search",
            "Find the lines that contain a text, in a file or below a directory.",
            object(
                json!({
                    "pattern": { "type": "string", "description": "Plain text, case matters." },
                    "path": path,
                }),
                &["pattern"],
            ),
        ),
        Tool::new(
            "done",
            "End the task.",
            object(
                json!({
                    "summary": { "type": "string", "description": "What was done, or why not." },
                }),
                &["summary"],
            ),
        ),
    ]
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({ "type": "object", "properties": properties, "required": required })
}

/// All that the tools take; each looks at its own.
#[derive(Default, Deserialize)]
struct Arguments {
    path: Option<String>,
    #[serde(default)]
    offset: u64,
    content: Option<String>,
    pattern: Option<String>,
    summary: Option<String>,
}

/// Runs one call. A failure is a result too: the model reads it and goes on.
pub fn run(call: &ToolCall, workspace: &Workspace) -> Result {
    let _active = host::ActiveTools::set(&[&call.name]);
    let arguments = call.arguments::<Arguments>();
    if call.name == "done" {
        // The end counts even where its form is wrong: a model that is told to try again may never
        // end.
        let summary = arguments.unwrap_or_default().summary.unwrap_or_default();
        info!("tool called", tool = "done", ok = true);
        return Result { text: "ended".to_owned(), summary: Some(summary) };
    }
    let outcome = arguments.and_then(|arguments| work(&call.name, arguments, workspace));
    info!("tool called", tool = call.name, ok = outcome.is_ok());
    let text = outcome.unwrap_or_else(|error| format!("error: {error}"));
    Result { text, summary: None }
}

fn work(
    tool: &str,
    arguments: Arguments,
    workspace: &Workspace,
) -> std::result::Result<String, String> {
    let missing = |name: &str| format!("argument `{name}` of `{tool}` is missing");
    let place = arguments.path.as_deref().unwrap_or(".");
    let path = arguments.path.as_deref().ok_or_else(|| missing("path"));
    match tool {
        "list" => workspace.list(place),
        "read" => workspace.read(path?, arguments.offset),
        "write" => workspace.write(path?, &arguments.content.ok_or_else(|| missing("content"))?),
        "search" => search(workspace, &arguments.pattern.ok_or_else(|| missing("pattern"))?, place),
        _ => Err(format!("no such tool: {tool}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offered_tool_is_known() {
        let workspace = Workspace::new("/nonexistent");
        for tool in offered().iter().filter(|tool| tool.name != "done") {
            let error = work(&tool.name, Arguments::default(), &workspace).unwrap_err();
            assert!(!error.contains("no such tool"), "{error}");
        }
    }

    #[test]
    fn a_missing_argument_is_named() {
        let workspace = Workspace::new("/nonexistent");
        let error = work("write", Arguments::default(), &workspace).unwrap_err();
        assert_eq!(error, "argument `path` of `write` is missing");
    }
}
