//! `bulkhead diff`: what an agent did in its repository, as a patch.

use std::fmt::Write as _;

use bulkhead_api::DiffView;
use bulkhead_types::AgentId;
use clap::Args;

use crate::args::{CODES_OF_QUESTIONS, HostArgs, OutputArgs, parse_agent};
use crate::failure::Failure;
use crate::session::{Call, LONG, Session, agent_path};
use bulkhead_printable as text;
use bulkhead_terminal::Colour;
use bulkhead_terminal::words::counted;

/// Arguments of `diff`.
#[derive(Debug, Args)]
#[command(after_help = format!("{DIFF_HELP}\n\n{CODES_OF_QUESTIONS}"))]
pub struct DiffArgs {
    /// Id of the agent. It need not run.
    #[arg(value_name = "AGENT", value_parser = parse_agent)]
    pub agent: AgentId,
    /// Only what is not committed, instead of all since the branch left the remote's.
    #[arg(long)]
    pub uncommitted: bool,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The host to call.
    #[command(flatten)]
    pub host: HostArgs,
}

const DIFF_HELP: &str = "\
The patch is on stdout, and what it does not show on stderr. Bytes that are not UTF-8 are replaced by U+FFFD, and stderr
says so: such a patch does not apply, and `git diff` in the workspace has the bytes.";

/// The most that the host returns.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

pub(crate) async fn run(args: &DiffArgs, session: &Session) -> Result<(), Failure> {
    let against = if args.uncommitted { "head" } else { "upstream" };
    let path = agent_path(&args.agent, "diff");
    let path = format!("{path}?against={against}&maxBytes={MAX_BYTES}");
    let call = Call::get(path, format!("diff of {}", args.agent)).within(LONG);
    let answer = session.call(call).await?;
    if session.json {
        return session.print_json::<DiffView>(&answer);
    }
    let diff: DiffView = session.read(&answer)?;
    // Not on stdout, which is a patch.
    eprintln!("bulkhead: {}", summary(&args.agent, &diff));
    match session.screen.is_terminal {
        true => session.screen.print(&coloured(&diff.patch, session)),
        false => session.screen.print(&diff.patch),
    }
}

/// Where the agent's branch is.
fn summary(agent: &AgentId, diff: &DiffView) -> String {
    let branch = diff.branch.as_deref().unwrap_or("a commit without a branch");
    let mut said = format!("{agent} is on {}, ", text::line(branch));
    let _ = match diff.upstream.is_empty() {
        true => write!(said, "which has no remote"),
        false => write!(
            said,
            "{} ahead of {} and {} behind",
            counted(usize::try_from(diff.ahead).unwrap_or(usize::MAX), "commit"),
            text::line(&diff.upstream),
            diff.behind
        ),
    };
    let files = counted(diff.uncommitted.len(), "file");
    let _ = match (diff.uncommitted.is_empty(), diff.more_uncommitted) {
        (true, _) => write!(said, "; all is committed"),
        (false, false) => write!(said, "; {files} not committed"),
        (false, true) => write!(said, "; more than {files} not committed"),
    };
    let untracked = diff.uncommitted.iter().filter(|change| change.unstaged == "untracked").count();
    if untracked > 0 {
        let _ = write!(said, ", {untracked} of them new to git and not below");
    }
    if diff.truncated {
        let _ = write!(said, "; the patch is truncated, see `git diff` in the workspace");
    }
    // A line of a file has a sign before it.
    let is_binary = |line: &&str| line.starts_with("Binary files ") && line.ends_with(" differ");
    let binary = diff.patch.lines().filter(is_binary).count();
    if binary > 0 {
        let files = counted(binary, "binary file");
        let verb = if binary == 1 { "is" } else { "are" };
        let _ = write!(
            said,
            "; {files} {verb} not in the patch, see `git diff --binary` in the workspace"
        );
    }
    if !diff.utf8 {
        let _ =
            write!(said, "; bytes that are not UTF-8 are replaced, so the patch does not apply");
    }
    said
}

fn coloured(patch: &str, session: &Session) -> String {
    let line = |line: &str| {
        let shown = text::lines(line);
        let colour = match line.as_bytes() {
            [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] => return shown.into_owned(),
            [b'+', ..] => Colour::Green,
            [b'-', ..] => Colour::Red,
            [b'@', b'@', ..] => Colour::Cyan,
            _ => return shown.into_owned(),
        };
        session.screen.paint(&shown, colour)
    };
    patch
        .split_inclusive('\n')
        .map(|whole| {
            let (text, end) = whole.strip_suffix('\n').map_or((whole, ""), |text| (text, "\n"));
            line(text) + end
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use bulkhead_api::{ChangeView, DiffBase};

    use super::*;

    #[test]
    fn the_summary_says_what_the_patch_does_not_show() {
        let change = |unstaged: &str| ChangeView {
            path: "a".into(),
            before: None,
            staged: "unchanged".into(),
            unstaged: unstaged.into(),
        };
        let mut diff = DiffView {
            branch: Some("bulkhead/toast".into()),
            head: None,
            upstream: "main".into(),
            ahead: 1,
            behind: 0,
            uncommitted: Vec::new(),
            more_uncommitted: false,
            against: DiffBase::Upstream,
            patch: String::new(),
            truncated: false,
            utf8: true,
        };
        let toast = AgentId::parse("toast").unwrap();
        let expected =
            "toast is on bulkhead/toast, 1 commit ahead of main and 0 behind; all is committed";
        assert_eq!(summary(&toast, &diff), expected);
        diff.uncommitted = vec![change("modified"), change("untracked")];
        let said = summary(&toast, &diff);
        assert!(
            said.ends_with("; 2 files not committed, 1 of them new to git and not below"),
            "{said}"
        );
        diff.upstream.clear();
        assert!(
            summary(&toast, &diff).starts_with("toast is on bulkhead/toast, which has no remote;")
        );
        diff.patch =
            "diff --git a/x b/x\nBinary files /dev/null and b/x differ\n+Binary files differ\n"
                .into();
        let said = summary(&toast, &diff);
        assert!(
            said.ends_with(
                "; 1 binary file is not in the patch, see `git diff --binary` in the workspace"
            ),
            "{said}"
        );
        diff.utf8 = false;
        let said = summary(&toast, &diff);
        assert!(
            said.ends_with("; bytes that are not UTF-8 are replaced, so the patch does not apply")
        );
    }
}
