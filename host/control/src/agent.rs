//! The agent that a path names, for calls that answer when there is none.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use bulkhead_types::AgentId;

use crate::Backend;
use crate::answer::Refusal;
use crate::params::PathId;

/// The agent with the `{id}` of a path. Boot may still have to restore it, so its id is not to be had without a wait.
pub(crate) struct PathAgent<B> {
    backend: B,
    id: AgentId,
}

impl<B: Backend> FromRequestParts<B> for PathAgent<B> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, backend: &B) -> Result<Self, Refusal> {
        let PathId(id) = PathId::from_request_parts(parts, backend).await?;
        Ok(Self { backend: backend.clone(), id })
    }
}

impl<B: Backend> PathAgent<B> {
    /// One that is named elsewhere than in the path.
    pub(crate) fn of(backend: B, id: AgentId) -> Self {
        Self { backend, id }
    }

    /// Resolves when boot has restored the agent, or is not going to.
    ///
    /// # Errors
    ///
    /// Boot takes too long (503).
    pub(crate) async fn restored(self) -> Result<(B, AgentId), Refusal> {
        self.backend.brought_back(&self.id).await?;
        Ok((self.backend, self.id))
    }

    /// Makes the call when boot has restored the agent, or is not going to. Before that "no such agent" may be wrong.
    ///
    /// # Errors
    ///
    /// Boot takes too long (503), or the call is refused.
    pub(crate) async fn when_restored<T, E>(
        self,
        call: impl FnOnce(&B, &AgentId) -> Result<T, E>,
    ) -> Result<T, Refusal>
    where
        Refusal: From<E>,
    {
        let (backend, id) = self.restored().await?;
        Ok(call(&backend, &id)?)
    }
}
