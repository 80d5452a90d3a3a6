//! Documents below a URL: `PUT` and `GET` of `URL/NAME/DOCUMENT`.
//!
//! A success of PUT is any 2xx. A GET that finds nothing is 404. Redirects are not followed.

use std::time::Duration;

use bulkhead_net::{BaseUrl, Connector, Credential, Exchanges};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request, Response, StatusCode};

use crate::fault::{Cause, Fault};
use crate::{Name, document};

pub(crate) struct Http {
    base: BaseUrl,
    token: Credential,
    exchanges: Exchanges,
}

impl Http {
    pub fn new(base: BaseUrl, token: Credential, connector: Connector, call: Duration) -> Self {
        let exchanges = Exchanges::new(connector, call, document::MAX_BYTES);
        Self { base, token, exchanges }
    }

    pub async fn put(&self, name: &Name, document: &str, bytes: Bytes) -> Result<(), Fault> {
        let answer = self.call(Method::PUT, name, document, bytes).await?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(Fault::of_status(status)),
        }
    }

    pub async fn get(&self, name: &Name, document: &str) -> Result<Option<Bytes>, Fault> {
        let answer = self.call(Method::GET, name, document, Bytes::new()).await?;
        match answer.status() {
            StatusCode::OK => Ok(Some(answer.into_body())),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(Fault::of_status(status)),
        }
    }

    /// Once more with another token, when there is another than the one that was refused.
    async fn call(
        &self,
        method: Method,
        name: &Name,
        document: &str,
        body: Bytes,
    ) -> Result<Response<Bytes>, Fault> {
        let refused = |error| Fault::new(Cause::Refused, error);
        let token = self.token.current().map_err(refused)?;
        let request = |token: Option<&bulkhead_types::Secret>| {
            let uri = format!("{}/{}/{document}", self.base, name.as_str());
            let mut request = Request::builder()
                .method(method.clone())
                .uri(uri)
                .header(USER_AGENT, concat!("bulkhead/", env!("CARGO_PKG_VERSION")))
                .header(ACCEPT, "application/json");
            if method == Method::PUT {
                request = request.header(CONTENT_TYPE, "application/json");
            }
            if let Some(token) = token {
                let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose()))
                    .map_err(|_| refused("the token cannot be sent in a header".into()))?;
                bearer.set_sensitive(true);
                request = request.header(AUTHORIZATION, bearer);
            }
            let made = request.body(body.clone());
            made.map_err(|error| Fault::new(Cause::Protocol, format!("make the request: {error}")))
        };
        let answer = self.exchanges.exchange(request(token.as_ref())?).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        match self.token.other_than(token.as_ref()) {
            Some(other) => Ok(self.exchanges.exchange(request(Some(&other))?).await?),
            None => Ok(answer),
        }
    }
}
