//! Documents in a bucket: `PREFIX/NAME/DOCUMENT`.
//!
//! Signatures, regions and the many sources of credentials are those of `object_store`. The connections are the host's
//! own: `object_store` is built without a client of HTTP and without TLS.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bulkhead_net::Connector;
use bytes::Bytes;
use http_body_util::BodyExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, Error, ObjectStoreExt, RetryConfig};

use super::exchange::Exchanges;
use crate::fault::{Cause, Fault};
use crate::{Name, S3, document};

pub(crate) struct Bucket {
    store: AmazonS3,
    prefix: String,
}

impl Bucket {
    pub fn new(s3: &S3, connector: Connector, call: Duration) -> Result<Self, Fault> {
        // What fails is tried again with the next document that is due.
        let retry =
            RetryConfig { backoff: BackoffConfig::default(), max_retries: 1, retry_timeout: call };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&s3.bucket)
            .with_allow_http(true)
            .with_retry(retry)
            .with_http_connector(Own(Arc::new(Exchanges::new(connector, call))));
        for (option, value) in &s3.options {
            if let Ok(key) = option.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                builder = builder.with_config(key, value.expose());
            }
        }
        let store = builder.build().map_err(|error| of(&error))?;
        Ok(Self { store, prefix: s3.prefix.clone() })
    }

    pub async fn put(&self, name: &Name, document: &str, bytes: Bytes) -> Result<(), Fault> {
        let put = self.store.put(&self.path(name, document), bytes.into()).await;
        put.map(drop).map_err(|error| of(&error))
    }

    pub async fn get(&self, name: &Name, document: &str) -> Result<Option<Bytes>, Fault> {
        let got = match self.store.get(&self.path(name, document)).await {
            Ok(got) => got,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(of(&error)),
        };
        if got.meta.size > document::MAX_BYTES as u64 {
            let text = format!("{document} has {} bytes", got.meta.size);
            return Err(Fault::new(Cause::Protocol, text));
        }
        got.bytes().await.map(Some).map_err(|error| of(&error))
    }

    fn path(&self, name: &Name, document: &str) -> Path {
        Path::from(format!("{}/{}/{document}", self.prefix, name.as_str()))
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
        if let Some(fault) = error.downcast_ref::<Fault>() {
            return fault.clone();
        }
        if let Some(status) = status_in(&error.to_string()) {
            cause = Fault::of_status(status).cause;
        }
        next = error.source();
    }
    Fault::new(cause, bulkhead_types::error::chain(error))
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
        let answer = answer.map_err(|fault| HttpError::new(kind_of(&fault), fault))?;
        Ok(answer.map(HttpResponseBody::from))
    }
}

fn kind_of(fault: &Fault) -> HttpErrorKind {
    match fault.cause {
        Cause::Connect => HttpErrorKind::Connect,
        Cause::Deadline => HttpErrorKind::Timeout,
        Cause::Protocol => HttpErrorKind::Interrupted,
        Cause::Refused | Cause::Full | Cause::Disk => HttpErrorKind::Unknown,
    }
}
