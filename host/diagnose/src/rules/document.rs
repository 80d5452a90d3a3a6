//! `docs/diagnose-rules.md`, made from the tables.

use std::fmt::Write as _;

use super::{Curve, Hypothesis, RULES, Rule, SIGNS, SignSpec, Source, Test};

const HEAD: &str = "\
# The rules of `bulkhead diagnose`

Made from the tables in `host/diagnose/src/rules`; `UPDATE_EXPECT=1 cargo test -p bulkhead-diagnose` rewrites it.
[diagnose.md](diagnose.md) explains the command.

The weights of all matching rules are added for each hypothesis. A hypothesis with 5 or more is the verdict when it
leads every other by 2 or more. When none does, the verdict is *undecided*. Other hypotheses with 5 or more are
reported with it (`also`). Where the next run reports a cause, the hypotheses about agents (H2, H6, H10, H11) are only
reported with it: a host that reports ends contains its agents.

Confidence is `high` from 9 on, with a lead of 3, no more than -2 against, and one rule of 7 or more: a direct
observation. It is `medium` from 6 on, else `low`. Where only the next run
speaks for a cause, it is no higher than the confidence of that run.

To add a rule, add a row to `table.rs`. When it needs a new kind of line, add a row to `signs.rs`.

";

/// The whole page.
pub fn document() -> String {
    let mut page = HEAD.to_owned();
    page.push_str("## Hypotheses\n");
    for hypothesis in Hypothesis::ALL {
        let _ = writeln!(page, "\n### {}: {}\n", hypothesis.id(), hypothesis.title());
        let _ = writeln!(page, "Next: {}.\n", hypothesis.next());
        page.push_str("| weight | when | why |\n| --: | --- | --- |\n");
        for Rule { test, weight, reason, .. } in
            RULES.iter().filter(|rule| rule.hypothesis == hypothesis)
        {
            let _ = writeln!(page, "| {weight:+} | {} | {reason} |", words(test));
        }
    }
    page.push_str("\n## Signs\n\n| sign | meaning | line |\n| --- | --- | --- |\n");
    for SignSpec { sign, source, says, outside } in SIGNS {
        let outside = if *outside { " (from outside the container)" } else { "" };
        let _ = writeln!(page, "| {sign:?} | {says}{outside} | {} |", line(source));
    }
    page
}

fn line(source: &Source) -> String {
    match source {
        Source::Event { name, with, without, at_least } => {
            let with: String =
                with.iter().map(|(field, value)| format!(", `{field}` = `{value}`")).collect();
            let at_least: String =
                at_least.iter().map(|(field, least)| format!(", `{field}` >= {least}")).collect();
            let without: String = without
                .iter()
                .map(|(field, value)| format!(", not `{field}` = `{value}`"))
                .collect();
            format!("event `{name}`{with}{without}{at_least}")
        }
        Source::Text { parts, .. } => {
            let parts: Vec<_> = parts.iter().map(|part| format!("`{part}`")).collect();
            format!("text with {}", parts.join(" and "))
        }
    }
}

fn window(seconds: u32) -> String {
    if seconds == 0 { "in the run".into() } else { format!("in the last {seconds} s") }
}

fn words(test: &Test) -> String {
    match test {
        Test::Seen { sign, at_least: 1, within_s } => format!("{sign:?} {}", window(*within_s)),
        Test::Seen { sign, at_least, within_s } => {
            format!("{at_least} or more of {sign:?} {}", window(*within_s))
        }
        Test::SeenOfOneAgent { sign, at_least, within_s } => {
            format!("{at_least} or more of {sign:?} for one agent {}", window(*within_s))
        }
        Test::SeenOfAgents { sign, agents, within_s } => {
            format!("{sign:?} for {agents} or more agents {}", window(*within_s))
        }
        Test::Clustered { sign, at_least, within_s, factor } => format!(
            "{at_least} or more of {sign:?} {}, {factor} times its usual rate",
            window(*within_s)
        ),
        Test::Steady { sign, within_s } => {
            format!("{sign:?} comes before that as often as {}", window(*within_s))
        }
        Test::SeenInOtherRuns { sign, runs } => {
            format!("{sign:?} for the same agent in {runs} or more other runs")
        }
        Test::Twins { sign, within_ms, before_end_s } => format!(
            "two of {sign:?} for one agent within {within_ms} ms, {}",
            window(*before_end_s)
        ),
        Test::MoreThanOneEach { sign, within_ms, before_end_s } => format!(
            "two of {sign:?} for one agent within {within_ms} ms of each other, {}",
            window(*before_end_s)
        ),
        Test::Memory(Curve::Rises) => "memory rises".into(),
        Test::Memory(Curve::Doubles) => "memory doubles".into(),
        Test::Memory(Curve::EndsNearCeiling) => "memory ends near its ceiling".into(),
        Test::Memory(Curve::Flat) => "memory is flat".into(),
        Test::LivedLessThan { seconds } => format!("the run was shorter than {seconds} s"),
        Test::OtherBoot => "the next run has another boot id".into(),
        Test::All(tests) => tests.iter().map(words).collect::<Vec<_>>().join(", and "),
        Test::Not(test) => format!("not: {}", words(test)),
    }
}
