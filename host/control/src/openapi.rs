//! What the API is, as a document of OpenAPI 3.1.
//!
//! A route comes into the router through [`Routes`], with its [`Operation`], so none can be served and not be in the
//! document. Schemas are made from the types of requests and answers, and the query from the [`Param`]s that the route
//! reads it by. What every request may run into before its route, the document says of all of them: see [`GENERAL`].

mod document;
mod operation;

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, on};
use bytes::Bytes;

pub(crate) use operation::{Group, Operation};

/// Refusals that every operation may answer with, or every one with a token or a body.
const GENERAL: [General; 9] = [
    General::new(
        400,
        "BadRequest",
        "A header, the path, the query or the body is malformed (`invalid-request`); `issues` says where. HTTP that cannot be \
         read has an empty body.",
    ),
    General::new(401, "Unauthorized", "There is no valid token (`unauthorized`)."),
    General::new(403, "Forbidden", "`host-not-allowed`, `origin-not-allowed` or `cross-site`."),
    General::new(408, "RequestTimeout", "The body did not arrive in time (`body-too-slow`)."),
    General::new(413, "ContentTooLarge", "The body is larger than it may be (`body-too-large`)."),
    General::new(
        415,
        "UnsupportedMediaType",
        "The body is not JSON by its `Content-Type` (`not-json`), or has a `Content-Encoding` (`encoded`).",
    ),
    General::new(
        431,
        "HeadTooLarge",
        "The request line and headers are larger than they may be. The body is empty.",
    ),
    General::new(500, "HostFailed", "The host failed; its log has the details (`host`)."),
    General::new(503, "Busy", "Too many requests are under way (`busy`)."),
];

/// One of them.
struct General {
    status: u16,
    /// Its name among the components of the document.
    name: &'static str,
    about: &'static str,
}

impl General {
    const fn new(status: u16, name: &'static str, about: &'static str) -> Self {
        Self { status, name, about }
    }
}

/// A route of the document.
struct Entry {
    method: &'static str,
    path: &'static str,
    /// Called when somebody asks for the document.
    operation: fn() -> Operation,
}

/// The document. Made when it is asked for, once.
#[derive(Clone, Default)]
pub(crate) struct Document(Arc<Shared>);

#[derive(Default)]
struct Shared {
    entries: OnceLock<Vec<Entry>>,
    json: OnceLock<Bytes>,
}

impl Document {
    /// Its text.
    pub(crate) fn json(&self) -> Bytes {
        let make = || document::make(self.entries()).to_string().into();
        self.0.json.get_or_init(make).clone()
    }

    /// Methods and paths, as `GET /agents`, in the order of the routes.
    #[cfg(test)]
    pub(crate) fn calls(&self) -> Vec<(String, &'static str)> {
        self.entries().iter().map(|entry| (entry.method.to_uppercase(), entry.path)).collect()
    }

    fn entries(&self) -> &[Entry] {
        self.0.entries.get().map_or(&[], Vec::as_slice)
    }
}

/// A router, and the document of its routes.
pub(crate) struct Routes<S> {
    router: Router<S>,
    entries: Vec<Entry>,
    document: Document,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// None yet. They go into `document` when they are finished.
    pub(crate) fn new(document: Document) -> Self {
        Self { router: Router::new(), entries: Vec::new(), document }
    }

    pub(crate) fn get<H: Handler<T, S>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
        operation: fn() -> Operation,
    ) -> Self {
        self.on(MethodFilter::GET, Entry { method: "get", path, operation }, handler)
    }

    pub(crate) fn post<H: Handler<T, S>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
        operation: fn() -> Operation,
    ) -> Self {
        self.on(MethodFilter::POST, Entry { method: "post", path, operation }, handler)
    }

    pub(crate) fn put<H: Handler<T, S>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
        operation: fn() -> Operation,
    ) -> Self {
        self.on(MethodFilter::PUT, Entry { method: "put", path, operation }, handler)
    }

    pub(crate) fn delete<H: Handler<T, S>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
        operation: fn() -> Operation,
    ) -> Self {
        self.on(MethodFilter::DELETE, Entry { method: "delete", path, operation }, handler)
    }

    pub(crate) fn patch<H: Handler<T, S>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
        operation: fn() -> Operation,
    ) -> Self {
        self.on(MethodFilter::PATCH, Entry { method: "patch", path, operation }, handler)
    }

    /// The router. The document is complete now.
    pub(crate) fn finish(self) -> Router<S> {
        let Self { router, entries, document } = self;
        let _ = document.0.entries.set(entries);
        router
    }

    fn on<H: Handler<T, S>, T: 'static>(
        mut self,
        method: MethodFilter,
        entry: Entry,
        handler: H,
    ) -> Self {
        self.router = self.router.route(entry.path, on(method, handler));
        self.entries.push(entry);
        self
    }
}
