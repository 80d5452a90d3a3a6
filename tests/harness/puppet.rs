//! The guest `puppet` at work: turns that last as long as a test wants.

use std::thread::{Scope, ScopedJoinHandle};

use crate::{Answer, Host, wait_until};

/// A client that waits for the end of a message's turn.
pub type Caller<'scope> = ScopedJoinHandle<'scope, Answer>;

impl Host {
    /// Sends `wait <body>` and returns when the agent is in that turn. It stays there until
    /// [`Host::release`].
    #[track_caller]
    pub fn occupy<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        agent: &'scope str,
        body: &str,
    ) -> Caller<'scope> {
        let body = format!("wait {body}");
        let caller = scope.spawn(move || self.client().send_wait(agent, &body));
        wait_until("the agent is in its turn", || self.client().status(agent).busy);
        caller
    }

    /// Sends messages, each when the one before is in the mailbox, and returns when all are. The agent
    /// must be busy or in backoff.
    #[track_caller]
    pub fn queue<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        agent: &'scope str,
        bodies: &[&'scope str],
    ) -> Vec<Caller<'scope>> {
        let depth = || self.client().status(agent).mailbox_depth;
        let queue_one = |body: &&'scope str| {
            let (body, before) = (*body, depth());
            let caller = scope.spawn(move || self.client().send_wait(agent, body));
            wait_until("the message is in the mailbox", || depth() == before + 1);
            caller
        };
        bodies.iter().map(queue_one).collect()
    }

    /// Lets the turn go on that waits, or the start of a `slow-start`: also the next one.
    #[track_caller]
    pub fn release(&self, agent: &str) {
        let workspace = self.workspace(agent);
        // A start may not have come so far.
        std::fs::create_dir_all(&workspace).expect("make the workspace");
        std::fs::write(workspace.join("go"), "").expect("write into the workspace");
    }
}
