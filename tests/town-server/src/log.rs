//! What was called.

use crate::call::Call;
use crate::fault::Fault;
use crate::tokens::Standing;

/// One call.
#[derive(Debug, Clone)]
pub struct Record {
    /// When it came, in milliseconds since the server was started.
    pub at_ms: u64,
    /// Which call.
    pub call: Call,
    /// Its path.
    pub path: String,
    /// The town that it was about.
    pub town: String,
    /// The agent that it was about.
    pub agent: Option<String>,
    /// The run that it came from.
    pub run_id: Option<String>,
    /// The generation of its token, when that is one of ours.
    pub generation: Option<u64>,
    /// How good its token was when it came.
    pub standing: Standing,
    /// What happened to it instead of, or beside, an answer.
    pub fault: Option<Fault>,
    /// The status of its answer. None: there was none, or not yet. With a fault that loses answers, the one
    /// that was lost.
    pub status: Option<u16>,
    /// Bytes of its body.
    pub body_bytes: usize,
}
