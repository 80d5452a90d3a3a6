//! Every answer that a test of this crate gets is one that the document of the API allows.

use std::sync::LazyLock;

use boon::{Compiler, Schemas};
use serde_json::Value;

use super::fake::Fake;
use crate::openapi::Document;

/// Names the document to the validator. Nothing is loaded from there.
const URL: &str = "mem:///openapi.json";

static DOCUMENT: LazyLock<(Document, Value)> = LazyLock::new(|| {
    let (_, document) = crate::routes::routes::<Fake>();
    let json = serde_json::from_slice(&document.json()).expect("JSON");
    (document, json)
});

/// The document.
pub(super) fn api() -> Value {
    DOCUMENT.1.clone()
}

/// Its methods and paths, in the order of the routes.
pub(super) fn calls() -> Vec<(String, &'static str)> {
    DOCUMENT.0.calls()
}

/// Panics when the answer to a request is none that the document allows. `path` may have a query. Requests that have no
/// operation are none of its business.
pub(super) fn check_answer(method: &str, path: &str, status: u16, media_type: &str, body: &str) {
    let Some((template, operation)) = operation(method, path) else { return };
    // The listener for probes has few of the routes.
    if status == 404 && body.contains("\"no-such-path\"") {
        return;
    }
    let call = format!("{method} {template} {status}");
    let said = &operation["responses"][status.to_string()];
    assert!(said.is_object(), "{call} is not documented: {body}");
    let (place, said) = match said["$ref"].as_str() {
        Some(reference) => {
            let place = reference.trim_start_matches('#').to_owned();
            let said = DOCUMENT.1.pointer(&place).expect("a response");
            (place, said)
        }
        None => (
            pointer(&["paths", template, &method.to_lowercase(), "responses", &status.to_string()]),
            said,
        ),
    };
    let Some(content) = said["content"].as_object() else {
        assert!(body.is_empty(), "{call} has a body: {body}");
        return;
    };
    let kind = content.keys().find(|kind| *kind == media_type);
    let kind = kind.unwrap_or_else(|| panic!("{call} is no {media_type:?}"));
    if kind == "application/json" {
        check(&format!("{place}{}", pointer(&["content", kind, "schema"])), &call, body);
        // What OpenAI's clients read has it as `code`.
        let is_named = body.contains("\"error_type\":\"") || body.contains("\"code\":");
        assert!(status < 400 || is_named, "{call} has no name: {body}");
    }
}

/// Panics when the document does not allow the body of a request.
pub(super) fn check_request(method: &str, path: &str, body: &str) {
    let (template, _) = operation(method, path).expect("an operation");
    let method = method.to_lowercase();
    let place =
        ["paths", template, &method, "requestBody", "content", "application/json", "schema"];
    check(&pointer(&place), &format!("{method} {template}"), body);
}

fn check(schema: &str, call: &str, body: &str) {
    let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
    compiler.add_resource(URL, api()).expect("a document");
    let schema = compiler.compile(&format!("{URL}#{schema}"), &mut schemas);
    let schema = schema.unwrap_or_else(|error| panic!("{call}: {error}"));
    let json: Value =
        serde_json::from_str(body).unwrap_or_else(|_| panic!("{call} is no JSON: {body}"));
    let fits = schemas.validate(&json, schema);
    fits.unwrap_or_else(|error| panic!("{call} is not as documented: {error}\n{body}"));
}

/// The operation that a request means, if there is one.
fn operation(method: &str, path: &str) -> Option<(&'static str, &'static Value)> {
    let path = path.split('?').next().unwrap_or_default();
    let fits = |template: &str| {
        let (parts, templates) = (path.split('/'), template.split('/'));
        path.split('/').count() == template.split('/').count()
            && parts.zip(templates).all(|(part, template)| {
                part == template || (template.starts_with('{') && !part.is_empty())
            })
    };
    let paths = DOCUMENT.1["paths"].as_object().expect("paths");
    let named = paths.keys().find(|template| *template == path);
    let template = named.or_else(|| paths.keys().find(|template| fits(template)))?;
    Some((template, paths[template].get(method.to_lowercase())?))
}

fn pointer(parts: &[&str]) -> String {
    parts.iter().map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect()
}
