//! What the process may have open.

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::exit::Exit;
use crate::failure::Failure;

/// Fewest files that a host may have open: what it takes for itself, and a few for agents and callers.
const LEAST: usize = 64;

/// Raises the limit of open files as far as the system lets it. The usual soft limit of 1024 is for
/// programs that use `select`, and this one does not. What the limit then holds is said by the engine's capacity.
/// One under which nothing works is said before anything fails for it that has nothing to do with it.
pub fn raise() -> Result<(), Failure> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    suffices(self::limit()).map_err(|text| Failure::new(Exit::CannotRun, text))
}

/// So many.
pub fn limit() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

fn suffices(files: usize) -> Result<(), String> {
    if files >= LEAST {
        return Ok(());
    }
    Err(format!(
        "this process may have {files} files open at most (RLIMIT_NOFILE), and needs {LEAST} at least, more for \
         agents; raise the hard limit, for example with `ulimit -n`, `--ulimit nofile=` or `LimitNOFILE=`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_under_which_nothing_works_is_named_with_what_is_needed() {
        assert_eq!(suffices(LEAST), Ok(()));
        let error = suffices(5).unwrap_err();
        assert!(error.contains("5 files") && error.contains("RLIMIT_NOFILE"), "{error}");
    }
}
