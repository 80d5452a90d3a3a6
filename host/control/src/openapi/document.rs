//! The document, out of the operations.

use bulkhead_api::ErrorBody;
use bulkhead_types::AgentId;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::operation::{Answer, Body, PathParam, SchemaOf};
use super::{Entry, GENERAL, General, Group, Operation};
use crate::params::{Kind, Param};

const JSON: &str = "application/json";

/// Makes the document.
pub(super) fn make(entries: &[Entry]) -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    for Entry { method, path, operation } in entries {
        let operation = schemas.operation(method, path, operation());
        let path = paths.entry(*path).or_insert_with(|| json!({}));
        path[*method] = operation;
    }
    let refusals: Map<_, _> = GENERAL
        .iter()
        .map(|general| {
            (general.name.to_owned(), schemas.refusal(general.status, general.about, None))
        })
        .collect();
    let tags: Vec<_> = Group::ALL.iter().map(|group| json!({"name": group.heading()})).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Bulkhead control API",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}
        },
        "servers": [{"url": "/"}],
        "tags": tags,
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas.definitions(),
            "responses": refusals,
            "parameters": {"TownConfig": header(
                "X-Town-Config",
                "The content of a body of `POST /sync-config`. An invalid one fails no call.",
            )},
            "securitySchemes": {"token": {
                "type": "http", "scheme": "bearer", "description": "The control token."
            }}
        }
    })
}

/// Generators of schemas. What is optional in a request is not what may be absent in an answer.
struct Schemas {
    of_requests: SchemaGenerator,
    of_answers: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self {
            of_requests: settings.clone().into_generator(),
            of_answers: settings.for_serialize().into_generator(),
        }
    }

    fn operation(&mut self, method: &str, path: &str, operation: Operation) -> Value {
        let id = id(method, path);
        let parameters = self.parameters(&operation);
        let responses = self.responses(&operation);
        let Operation { group, summary, about, open, body, bytes, .. } = operation;
        let mut made = json!({
            "operationId": id, "tags": [group.heading()], "summary": summary, "responses": responses
        });
        if !about.is_empty() {
            made["description"] = about.into();
        }
        if open {
            // With it some answers say more.
            made["security"] = json!([{}, {"token": []}]);
        }
        if !parameters.is_empty() {
            made["parameters"] = parameters.into();
        }
        if let Some(media_type) = bytes {
            made["requestBody"] = json!({"required": false, "content": {media_type: {}}});
        }
        if let Some(Body { schema, example, required }) = body {
            let schema = schema(&mut self.of_requests);
            made["requestBody"] = json!({
                "required": required, "content": {JSON: {"schema": schema, "example": example}}
            });
        }
        made
    }

    fn parameters(&mut self, operation: &Operation) -> Vec<Value> {
        let agent_id = self.of_requests.subschema_for::<AgentId>();
        let in_path = operation.in_path.iter().map(|part| {
            let (name, about, schema) = match part {
                PathParam::Agent => ("id", "The agent's id.", json!(agent_id)),
                PathParam::Text(name, about) => (*name, *about, json!({"type": "string", "minLength": 1})),
            };
            json!({"name": name, "in": "path", "required": true, "description": about, "schema": schema})
        });
        let query = operation.query.iter().map(|Param { name, about, kind }| {
            let schema = match kind {
                // Empty is as if it were absent.
                Kind::Agent => json!({"anyOf": [agent_id, {"const": ""}]}),
                Kind::Text => json!({"type": "string"}),
                Kind::Flag => json!({"enum": ["", "true", "1", "false", "0"]}),
                Kind::Number(min, max) => {
                    json!({"type": "integer", "minimum": min, "maximum": max})
                }
                Kind::Word(words) => json!({"anyOf": [{"enum": words}, {"const": ""}]}),
            };
            json!({"name": name, "in": "query", "description": about, "schema": schema})
        });
        let headers = operation.headers.iter().map(|(name, about)| header(name, about));
        let town = json!({"$ref": "#/components/parameters/TownConfig"});
        let town = (!operation.open).then_some(town);
        in_path.chain(query).chain(headers).chain(town).collect()
    }

    fn responses(&mut self, operation: &Operation) -> Map<String, Value> {
        let mut responses = Map::new();
        for general in &GENERAL {
            let General { status, name, .. } = general;
            let applies = match status {
                401 => !operation.open,
                415 => operation.body.is_some(),
                _ => true,
            };
            if applies && operation.other_refusal.is_some() && *status != 431 {
                let refusal = self.refusal(*status, general.about, operation.other_refusal);
                responses.insert(status.to_string(), refusal);
            } else if applies {
                let reference = json!({"$ref": format!("#/components/responses/{name}")});
                responses.insert(status.to_string(), reference);
            }
        }
        for (status, about) in &operation.refusals {
            let refusal = self.refusal(*status, about, operation.other_refusal);
            responses.insert(status.to_string(), refusal);
        }
        for (status, Answer { about, content }) in &operation.answers {
            let content: Map<_, _> = content
                .iter()
                .map(|(kind, schema)| {
                    ((*kind).to_owned(), json!({"schema": schema(&mut self.of_answers)}))
                })
                .collect();
            let mut answer = json!({"description": about});
            if !content.is_empty() {
                answer["content"] = content.into();
            }
            responses.insert(status.to_string(), answer);
        }
        responses
    }

    fn refusal(&mut self, status: u16, about: &str, other: Option<SchemaOf>) -> Value {
        let mut refusal = json!({"description": about});
        // hyper writes that one, without a body.
        if status != 431 {
            let schema = self.of_answers.subschema_for::<ErrorBody>();
            let schema = match other {
                Some(other) => json!({"anyOf": [other(&mut self.of_answers), schema]}),
                None => json!(schema),
            };
            refusal["content"] = json!({JSON: {"schema": schema}});
        }
        let (name, about, kind) = match status {
            401 => ("WWW-Authenticate", "Always `Bearer`.", json!({"type": "string"})),
            429 | 503 | 504 => (
                "Retry-After",
                "Seconds after which it may go better, where that is likely.",
                json!({"type": "integer", "minimum": 0}),
            ),
            _ => return refusal,
        };
        refusal["headers"] = json!({name: {"description": about, "schema": kind}});
        refusal
    }

    /// All types that something refers to.
    fn definitions(mut self) -> Map<String, Value> {
        let mut all = self.of_answers.take_definitions(true);
        for (name, schema) in self.of_requests.take_definitions(true) {
            let other = all.insert(name.clone(), schema.clone());
            debug_assert!(
                other.is_none_or(|other| other == schema),
                "{name} differs in requests and answers: give one of them another name"
            );
        }
        all
    }
}

fn header(name: &str, about: &str) -> Value {
    json!({"name": name, "in": "header", "description": about, "schema": {"type": "string"}})
}

/// A name for the function that a client gets of it: `get_agents_id_status`.
fn id(method: &str, path: &str) -> String {
    let words = path.split(['/', '{', '}', '-', '.']).filter(|word| !word.is_empty());
    std::iter::once(method).chain(words).collect::<Vec<_>>().join("_")
}
