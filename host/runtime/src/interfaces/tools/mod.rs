//! `bulkhead:agent/tools`: native programs.
//!
//! ```text
//!   run, spawn ─▶ its rules (`ask`) ─▶ may it? (`access`) ─▶ the launcher, another process ─▶ the program
//!   wait, read ◀───────────────────── pipes and an end (`running`, `streams`) ◀──────────────────┘
//! ```
//!
//! A wait here has the bounds of the program and of the turn, and not that of other host calls. A program belongs to
//! the incarnation that started it: it is killed when that ends.

mod access;
mod ask;
mod exec;
mod running;
mod streams;

use wasmtime::Result;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};

pub use self::access::Tools;
pub(crate) use self::access::{Access, Starter};
pub use self::exec::{Exec, ExecError, Executed};
pub use self::running::Running;
use crate::bindings::bulkhead::agent::tools::{
    Command, Ended, Finished, Host, HostChild, ToolError,
};
use crate::state::State;

impl Host for State {
    fn programs(&mut self) -> Result<Vec<String>> {
        Ok(self.tools.programs())
    }

    async fn run(
        &mut self,
        command: Command,
        stdin: Vec<u8>,
    ) -> Result<std::result::Result<Finished, ToolError>> {
        self.meter.set_own_bounds();
        let began = match ask::check_stdin(&stdin) {
            Ok(()) => self.tools.begin(command, access::Wait::InTheTurn).await,
            Err(error) => Err(error),
        };
        let ended = match began {
            Ok(running) => Ok(running.finish(stdin).await),
            Err(error) => Err(error),
        };
        self.quota.recount();
        Ok(ended)
    }

    async fn spawn(
        &mut self,
        command: Command,
    ) -> Result<std::result::Result<Resource<Running>, ToolError>> {
        self.meter.set_own_bounds();
        match self.tools.begin(command, access::Wait::BeyondTurns).await {
            Ok(running) => {
                self.touched = true;
                Ok(Ok(self.table.push(running)?))
            }
            Err(error) => Ok(Err(error)),
        }
    }
}

impl HostChild for State {
    fn stdin(&mut self, child: Resource<Running>) -> Result<Option<Resource<DynOutputStream>>> {
        let Some(stream) = self.child(&child)?.take_stdin() else { return Ok(None) };
        self.touched = true;
        Ok(Some(self.table.push(stream)?))
    }

    fn stdout(&mut self, child: Resource<Running>) -> Result<Option<Resource<DynInputStream>>> {
        let Some(stream) = self.child(&child)?.take_stdout() else { return Ok(None) };
        self.touched = true;
        Ok(Some(self.table.push(stream)?))
    }

    fn stderr(&mut self, child: Resource<Running>) -> Result<Option<Resource<DynInputStream>>> {
        let Some(stream) = self.child(&child)?.take_stderr() else { return Ok(None) };
        self.touched = true;
        Ok(Some(self.table.push(stream)?))
    }

    async fn wait(&mut self, child: Resource<Running>) -> Result<Ended> {
        self.meter.set_own_bounds();
        let ended = self.child(&child)?.wait().await;
        self.quota.recount();
        Ok(ended)
    }

    fn kill(&mut self, child: Resource<Running>) -> Result<()> {
        self.child(&child)?.kill();
        Ok(())
    }

    fn drop(&mut self, child: Resource<Running>) -> Result<()> {
        self.touched = true;
        self.table.delete(child)?;
        self.quota.recount();
        Ok(())
    }
}

impl State {
    fn child(&mut self, child: &Resource<Running>) -> Result<&mut Running> {
        Ok(self.table.get_mut(child)?)
    }
}
