//! `POST /agents/{id}/exec`: runs a program as the agent would.

use std::collections::BTreeMap;

use bulkhead_types::ToolEnd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Issue, required};
use crate::unknown::parse_own;

/// A program of the agent's role, in the agent's workspace and under its limits.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecRequest {
    /// Its name, one of the role's `tools`.
    #[schemars(length(min = 1))]
    pub program: String,
    /// Its arguments, without its name.
    #[schemars(with = "Option<Vec<String>>")]
    pub arguments: Vec<String>,
    /// Where it begins, relative to the workspace; the workspace when the request does not say.
    pub directory: Option<String>,
    /// Variables beside those that every tool has.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub environment: BTreeMap<String, String>,
    /// What it reads.
    #[schemars(with = "Option<String>")]
    pub stdin: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    program: Option<String>,
    arguments: Option<Vec<String>>,
    directory: Option<String>,
    environment: Option<BTreeMap<String, String>>,
    stdin: Option<String>,
}

impl ExecRequest {
    /// Parses and checks a body.
    pub fn parse(body: &[u8]) -> Result<Self, Vec<Issue>> {
        let Raw { program, arguments, directory, environment, stdin } = parse_own(body)?;
        if let Some(issue) = required("program", program.as_deref()) {
            return Err(vec![issue]);
        }
        Ok(Self {
            program: program.unwrap_or_default(),
            arguments: arguments.unwrap_or_default(),
            directory,
            environment: environment.unwrap_or_default(),
            stdin: stdin.unwrap_or_default(),
        })
    }
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecAnswer {
    /// What ended it.
    pub end: ToolEnd,
    /// Its exit code, if it ended by itself.
    pub code: Option<i32>,
    /// The signal, if one ended it.
    pub signal: Option<i32>,
    /// From its start to its end.
    pub wall_ms: u64,
    /// With all that it started.
    pub cpu_ms: u64,
    /// With all that it started.
    pub peak_memory_bytes: u64,
    /// What it wrote. What is not UTF-8 is replaced.
    pub stdout: String,
    /// The same of stderr.
    pub stderr: String,
    /// Whether both are UTF-8, and nothing is replaced. Older hosts do not say it.
    #[serde(default = "assumed_utf8")]
    pub utf8: bool,
}

/// What is taken for the encoding where a host does not say it.
pub(crate) fn assumed_utf8() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_an_older_host_is_read() {
        let answer: ExecAnswer = serde_json::from_str(
            r#"{"end":"exited","code":0,"wallMs":1,"cpuMs":1,"peakMemoryBytes":1,"stdout":"x","stderr":""}"#,
        )
        .unwrap();
        assert!(answer.utf8);
    }

    #[test]
    fn only_the_program_is_needed() {
        let request = ExecRequest::parse(br#"{"program":"git"}"#).unwrap();
        assert_eq!((&*request.program, request.arguments.len()), ("git", 0));
        for (body, path) in [
            (&b"{}"[..], "program"),
            (br#"{"program":""}"#, "program"),
            (br#"{"program":"git","args":[]}"#, "args"),
            (br#"{"program":"git","arguments":"status"}"#, "arguments"),
        ] {
            assert_eq!(ExecRequest::parse(body).unwrap_err()[0].path, path);
        }
    }
}
