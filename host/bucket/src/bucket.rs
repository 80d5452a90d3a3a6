//! Calls of a bucket.
//!
//! Signatures, regions and the many sources of credentials are those of `object_store`. The connections are the host's
//! own: `object_store` is built without a client of HTTP and without TLS.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bulkhead_net::{Connector, ExchangeError, Exchanges};
use bytes::Bytes;
use http_body_util::BodyExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    RetryConfig, UpdateVersion,
};

use crate::S3;
use crate::fault::{Cause, Fault};

/// Documents in a bucket.
pub struct Bucket {
    store: AmazonS3,
    prefix: String,
    max_bytes: usize,
}

/// What a call may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For a connection, and for tries together. It does not bound a call that hangs: the caller does.
    pub patience: Duration,
    /// Tries after the first one, of what is not stored twice by that.
    pub retries: usize,
    /// Largest document that is read, in bytes.
    pub max_bytes: usize,
}

/// A document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its content.
    pub bytes: Bytes,
    /// Names this content. Empty: the server gave none.
    pub etag: String,
}

/// What became of a document that was put on a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// It is stored.
    Stored {
        /// Names its content. Empty: the server gave none.
        etag: String,
    },
    /// Another one is there, or none. Or the server was busy with another one: it is not stored.
    Conflict,
}

/// A part of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys directly below the prefix of the bucket, without it.
    pub keys: Vec<String>,
    /// Where the next part begins. `None`: this is the last one.
    pub next: Option<String>,
}

impl Bucket {
    /// Nothing is called yet. Options that make no URL are a fault.
    pub fn new(s3: &S3, connector: Connector, limits: Limits) -> Result<Self, Fault> {
        let Limits { patience, retries, max_bytes } = limits;
        s3.check().map_err(|error| Fault { cause: Cause::Protocol, message: error.to_string() })?;
        let backoff = BackoffConfig::default();
        let retry = RetryConfig { backoff, max_retries: retries, retry_timeout: patience };
        let exchanges = Exchanges::new(connector, patience, max_bytes);
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&s3.bucket)
            .with_allow_http(true)
            // One object at a time is removed; not every server knows more than that.
            .with_disable_bulk_delete(true)
            .with_retry(retry)
            .with_http_connector(Own(Arc::new(exchanges)));
        for (option, value) in &s3.options {
            if let Ok(key) = option.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                builder = builder.with_config(key, value.expose());
            }
        }
        let store = builder.build().map_err(|error| of(&error))?;
        Ok(Self { store, prefix: s3.prefix.clone(), max_bytes })
    }

    /// Puts a document in the place of the one before it. `key` comes after the prefix of the bucket.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Fault> {
        let put = self.store.put(&self.path(key), bytes.into()).await;
        put.map(drop).map_err(|error| of(&error))
    }

    /// Puts a document in the place of the one with the tag `expected`, or where there is none. What a server that knows
    /// no conditions does with it is its own: it has to be tried before.
    pub async fn put_if(
        &self,
        key: &str,
        bytes: Bytes,
        expected: Option<&str>,
    ) -> Result<Put, Fault> {
        let mode = expected.map_or(PutMode::Create, |etag| {
            PutMode::Update(UpdateVersion { e_tag: Some(etag.to_owned()), version: None })
        });
        let put = self.store.put_opts(&self.path(key), bytes.into(), PutOptions::from(mode)).await;
        match put {
            Ok(put) => Ok(Put::Stored { etag: put.e_tag.unwrap_or_default() }),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Put::Conflict),
            Err(error) => Err(of(&error)),
        }
    }

    /// Reads a document. `None`: there is none. A bucket that is not there is a fault, where the server tells the two apart.
    pub async fn get(&self, key: &str) -> Result<Option<Object>, Fault> {
        let got = match self.store.get(&self.path(key)).await {
            Ok(got) => got,
            Err(error @ Error::NotFound { .. }) => {
                let fault = of(&error);
                return if fault.cause == Cause::NoBucket { Err(fault) } else { Ok(None) };
            }
            Err(error) => return Err(of(&error)),
        };
        if got.meta.size > self.max_bytes as u64 {
            let message = format!("{key} has {} bytes", got.meta.size);
            return Err(Fault { cause: Cause::Protocol, message });
        }
        let etag = got.meta.e_tag.clone().unwrap_or_default();
        let bytes = got.bytes().await.map_err(|error| of(&error))?;
        Ok(Some(Object { bytes, etag }))
    }

    /// Lists documents, a page at a time: of at most a thousand keys, if the server honours that. `from` is
    /// [`Page::next`] of the page before.
    pub async fn list(&self, from: Option<String>) -> Result<Page, Fault> {
        let prefix = (!self.prefix.is_empty()).then(|| format!("{}/", self.prefix));
        let options = PaginatedListOptions {
            delimiter: Some("/".into()),
            page_token: from,
            ..PaginatedListOptions::default()
        };
        let listed = self.store.list_paginated(prefix.as_deref(), options).await;
        let listed = listed.map_err(|error| of(&error))?;
        let names = listed.result.objects.iter().filter_map(|object| object.location.filename());
        Ok(Page { keys: names.map(str::to_owned).collect(), next: listed.page_token })
    }

    /// Removes a document. One that is not there is no failure.
    pub async fn remove(&self, key: &str) -> Result<(), Fault> {
        match self.store.delete(&self.path(key)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(of(&error)),
        }
    }

    fn path(&self, key: &str) -> Path {
        Path::from(format!("{}/{key}", self.prefix))
    }
}

impl fmt::Debug for Bucket {
    /// Without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// The cause is in the sources, as deep as the library nests them.
fn of(error: &Error) -> Fault {
    let mut cause = match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Cause::Refused,
        _ => Cause::Protocol,
    };
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(of_connection) = error.downcast_ref::<ExchangeError>() {
            let cause = match of_connection {
                ExchangeError::Connect(_) => Cause::Connect,
                ExchangeError::Url(_) | ExchangeError::Protocol(_) => Cause::Protocol,
            };
            return Fault::of(cause, &bulkhead_types::error::chain(error));
        }
        if let Some(status) = status_in(&error.to_string()) {
            cause = Cause::of_status(status);
        }
        next = error.source();
    }
    Fault::of(cause, &bulkhead_types::error::chain(error))
}

/// The status that the library names only in its text: `Server returned non-2xx status code: 503 Service Unavailable`.
fn status_in(text: &str) -> Option<http::StatusCode> {
    let (_, rest) = text.split_once("status code: ")?;
    rest.get(..3)?.parse::<u16>().ok().and_then(|code| http::StatusCode::from_u16(code).ok())
}

/// Connections of the host for `object_store`.
#[derive(Clone)]
struct Own(Arc<Exchanges>);

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Own")
    }
}

impl HttpConnector for Own {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Own {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let request = http::Request::from_parts(parts, body);
        let answer = self.0.exchange(request).await;
        let answer = answer.map_err(|error| HttpError::new(kind_of(&error), error))?;
        Ok(answer.map(HttpResponseBody::from))
    }
}

fn kind_of(error: &ExchangeError) -> HttpErrorKind {
    match error {
        ExchangeError::Connect(_) => HttpErrorKind::Connect,
        ExchangeError::Url(_) | ExchangeError::Protocol(_) => HttpErrorKind::Interrupted,
    }
}
