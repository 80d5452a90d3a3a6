//! What the model may ask the polecat to do.

use bulkhead_guest::model::{Tool, ToolCall};
use bulkhead_guest::{host, info};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::edit::{self, Edit};
use crate::git::Git;
use crate::repository;
use crate::run::{self, Order};
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

/// The tools with their schemas. `run` is among them if there are programs, and those of a
/// repository in one.
pub fn offered(programs: &[String], in_repository: bool) -> Vec<Tool> {
    let mut tools = on_files();
    tools.push(edit::offered());
    tools.extend(run::offered(programs));
    if in_repository {
        tools.extend(repository::offered());
    }
    tools.push(Tool::new(
        "done",
        "End the task.",
        object(
            json!({
                "summary": { "type": "string", "description": "What was done, or why not." },
            }),
            &["summary"],
        ),
    ));
    tools
}

fn on_files() -> Vec<Tool> {
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
    ]
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({ "type": "object", "properties": properties, "required": required })
}

/// All that the other tools take; each looks at its own.
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
pub fn run(call: &ToolCall, workspace: &Workspace, git: Option<&dyn Git>) -> Result {
    let _active = host::ActiveTools::set(&[&call.name]);
    if call.name == "done" {
        // The end counts even where its form is wrong: a model that is told to try again may never
        // end.
        let arguments = call.arguments::<Arguments>().unwrap_or_default();
        info!("tool called", tool = "done", ok = true);
        let summary = Some(arguments.summary.unwrap_or_default());
        return Result { text: "ended".to_owned(), summary };
    }
    let outcome = work(call, workspace, git);
    info!("tool called", tool = call.name, ok = outcome.is_ok());
    let text = outcome.unwrap_or_else(|error| format!("error: {error}"));
    Result { text, summary: None }
}

fn work(
    call: &ToolCall,
    workspace: &Workspace,
    git: Option<&dyn Git>,
) -> std::result::Result<String, String> {
    if let Some(git) = git.filter(|_| repository::NAMES.contains(&call.name.as_str())) {
        return repository::run(call, workspace, git);
    }
    match call.name.as_str() {
        "edit" => call.arguments::<Edit>()?.run(workspace),
        "run" => call.arguments::<Order>()?.run(workspace, run::by_host),
        tool => on_file(tool, call.arguments()?, workspace),
    }
}

fn on_file(
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
    use crate::git::tests::Scripted;

    fn call(tool: &str, arguments: &str) -> ToolCall {
        ToolCall { id: "a".into(), name: tool.into(), arguments: arguments.into() }
    }

    #[test]
    fn every_offered_tool_is_known() {
        let workspace = Workspace::new("/nonexistent");
        let git = Scripted::new();
        let known = |tool: &str, git: Option<&dyn Git>| {
            let error = work(&call(tool, "{}"), &workspace, git).err();
            error.is_none_or(|error| !error.contains(&format!("no such tool: {tool}")))
        };
        for tool in offered(&["sh".to_owned()], true).iter().filter(|tool| tool.name != "done") {
            assert!(known(&tool.name, Some(&git)), "{}", tool.name);
            let of_repository = repository::NAMES.contains(&tool.name.as_str());
            assert_eq!(known(&tool.name, None), !of_repository, "{}", tool.name);
        }
        assert!(!known("rm", Some(&git)));
    }

    #[test]
    fn nothing_is_run_where_there_are_no_programs() {
        let names = |programs: &[String]| -> Vec<_> {
            offered(programs, false).into_iter().map(|tool| tool.name).collect()
        };
        assert!(!names(&[]).contains(&"run".to_owned()));
        assert!(names(&["sh".to_owned()]).contains(&"run".to_owned()));
    }

    #[test]
    fn a_missing_argument_is_named() {
        let workspace = Workspace::new("/nonexistent");
        for (tool, name) in [("write", "path"), ("edit", "path"), ("run", "program")] {
            let error = work(&call(tool, "{}"), &workspace, None).unwrap_err();
            assert!(error.contains(&format!("`{tool}`")), "{error}");
            assert!(error.contains(&format!("`{name}`")), "{error}");
        }
    }

    #[test]
    fn a_file_is_edited() {
        let directory = tempfile::tempdir().unwrap();
        let workspace = Workspace::new(directory.path());
        workspace.write("a", "one").unwrap();
        let arguments = r#"{"path":"a","old":"one","new":"two"}"#;
        assert_eq!(work(&call("edit", arguments), &workspace, None).unwrap(), "replaced");
        assert_eq!(workspace.read("a", 0).unwrap(), "two");
    }
}
