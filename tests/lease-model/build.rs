//! Takes the source of the lease's protocol as it is, and makes broken versions of it.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

const PROTOCOL: &str = "../../host/lease/src/protocol.rs";

/// A way to break the protocol: what stands in the source, and what replaces it.
struct Mutation {
    name: &'static str,
    changes: &'static [(&'static str, &'static str)],
}

const MUTATIONS: [Mutation; 13] = [
    // The work of a holder never ends by itself.
    Mutation { name: "no_fence", changes: &[("now < self.until", "now >= Boottime(0)")] },
    // A renewal counts although the fence was reached before its answer.
    Mutation {
        name: "come_again",
        changes: &[(
            "pub fn wrote(&mut self, now: Boottime, wrote: Wrote) {\n        self.fence(now);",
            "pub fn wrote(&mut self, now: Boottime, wrote: Wrote) {",
        )],
    },
    // Belief begins with the answer.
    Mutation {
        name: "count_from_the_answer",
        changes: &[(
            "Some(Attempt { record, asked_at }) = ours {",
            "Some(Attempt { record, .. }) = ours { let asked_at = now;",
        )],
    },
    // Waiting begins where the holder's clock says that it wrote.
    Mutation {
        name: "trust_another_clock",
        changes: &[
            (
                "seen.since.after(takeover_after(record.ttl))",
                "Boottime((record.nonce >> 16) as u64).after(takeover_after(record.ttl))",
            ),
            (
                "            epoch: self.floor + 1,\n            counter: 0,\n            ttl: self.ttl,\n            nonce,",
                "            epoch: self.floor + 1,\n            counter: 0,\n            ttl: self.ttl,\n            nonce: (nonce & 0xffff) | (u128::from(now.0) << 16),",
            ),
            (
                "fn acquisition(&self, nonce: u128)",
                "fn acquisition(&self, now: Boottime, nonce: u128)",
            ),
            ("self.acquisition(nonce)", "self.acquisition(now, nonce)"),
        ],
    },
    // A renewal does not make others wait again.
    Mutation {
        name: "wait_once",
        changes: &[(
            "self.seen = Some(Seen { content, since: now, checked_at: now });",
            "let since = self.seen.as_ref().filter(|seen| seen.content.is_some()).map_or(now, |seen| seen.since);\n        self.seen = Some(Seen { content, since, checked_at: now });",
        )],
    },
    // Clocks are taken to be equally fast.
    Mutation {
        name: "no_margin",
        changes: &[("const MARGIN_PERCENT: u32 = 5;", "const MARGIN_PERCENT: u32 = 0;")],
    },
    // Others wait for as long as the work may begin, and not for as long as it may run.
    Mutation {
        name: "wait_for_the_fence",
        changes: &[(
            "ttl + percent(ttl, MARGIN_PERCENT)",
            "percent(ttl, FENCE_PERCENT + MARGIN_PERCENT)",
        )],
    },
    // Who gave the lease back goes on.
    Mutation {
        name: "take_the_number_again",
        changes: &[(
            "epoch: self.floor + 1,",
            "epoch: self.floor + u64::from(self.record().is_none_or(|record| !record.released)),",
        )],
    },
    // An acquisition goes on with the number of the one before.
    Mutation {
        name: "same_number",
        changes: &[("epoch: self.floor + 1,", "epoch: self.floor.max(1),")],
    },
    // A write without an answer is taken for written.
    Mutation {
        name: "believe_without_an_answer",
        changes: &[(
            "_ => self.must_read = true,",
            "(_, Some(attempt)) => { let record = attempt.record.clone(); let version = Version(format!(\"{:x}\", record.nonce).into()); self.found(now, Some((version, record))); }\n            _ => self.must_read = true,",
        )],
    },
    // A record with the own name is taken for the own one.
    Mutation {
        name: "believe_the_name",
        changes: &[(
            "let ours = attempts.into_iter().find(|attempt| Some(&attempt.record) == record);",
            "drop(attempts);\n        let ours = record.filter(|record| record.holder == self.me.holder).map(|record| Attempt { record: record.clone(), asked_at: now });",
        )],
    },
    // A write without an answer is sent again as it was, and counts from then on.
    Mutation {
        name: "count_from_the_second_try",
        changes: &[(
            "self.attempts.push(Attempt { record: record.clone(), asked_at: now });",
            "let record = match self.attempts.pop() { Some(first) => first.record, None => record };\n        self.attempts.push(Attempt { record: record.clone(), asked_at: now });",
        )],
    },
    // Who receives does not compare.
    Mutation {
        name: "no_gate",
        changes: &[("let admitted = epoch >= self.newest;", "let admitted = true;")],
    },
];

fn main() {
    println!("cargo::rerun-if-changed={PROTOCOL}");
    println!("cargo::rerun-if-changed=build.rs");
    let source = as_item(&fs::read_to_string(PROTOCOL).expect("read the protocol"));
    write_out("as_it_is.rs", &source);
    for mutation in MUTATIONS {
        write_out(&format!("{}.rs", mutation.name), &mutation.of(&source));
    }
}

impl Mutation {
    fn of(&self, source: &str) -> String {
        self.changes.iter().fold(source.to_owned(), |source, (find, replace)| {
            let matches = source.matches(find).count();
            let name = self.name;
            assert_eq!(
                matches, 1,
                "mutation {name} does not fit its source any more, adapt it in build.rs: {find}"
            );
            source.replacen(find, replace, 1)
        })
    }
}

fn write_out(file: &str, source: &str) {
    let out = env::var_os("OUT_DIR").expect("set by cargo");
    fs::write(Path::new(&out).join(file), source).expect("write a source");
}

/// The source as it can be included in a module: without the module's own documentation and its unit tests.
fn as_item(source: &str) -> String {
    let mut text = String::new();
    let is_kept =
        |line: &&str| !line.starts_with("//!") && *line != "#[cfg(test)]" && *line != "mod tests;";
    for line in source.lines().filter(is_kept) {
        writeln!(text, "{line}").expect("write to a string");
    }
    text
}
