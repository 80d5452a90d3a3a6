//! `bulkhead:agent/runner`: the source code of an agent that is text.

use wasmtime::Result;

use crate::bindings::bulkhead::agent::runner::{Host, SourceBundle, SourceFile};
use crate::state::State;

impl Host for State {
    /// Empty for an agent that is a component and nothing else.
    fn source(&mut self) -> Result<SourceBundle> {
        let Some(source) = &self.source else {
            return Ok(SourceBundle { entry: String::new(), files: Vec::new() });
        };
        let file = |file: &bulkhead_source::File| SourceFile {
            path: file.path.clone(),
            contents: file.contents.clone(),
        };
        let files = source.files().iter().map(file).collect();
        Ok(SourceBundle { entry: source.entry().to_owned(), files })
    }
}
