//! Takes the start slot's source as it is, and makes broken versions of it, and of what the model does with mail.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

const SLOT: &str = "../../host/agent/src/slot.rs";
/// What the slot hands out, the same for all versions.
const ENTRY: &str = "../../host/agent/src/slot_entry.rs";
const MAIL: &str = "src/mail.rs";

/// A way to break the slot, or the mail: what stands in the source, and what replaces it.
struct Mutation {
    name: &'static str,
    find: &'static str,
    replace: &'static str,
}

const MUTATIONS: [Mutation; 7] = [
    // Between the end of the rest and the next incarnation the slot looks vacant.
    Mutation {
        name: "drop_the_lock",
        find: "let entry = make(inner.count());\n        inner.holder",
        replace: "drop(inner);\n        let mut inner = self.lock();\n        \
                  let entry = make(inner.count());\n        inner.holder",
    },
    // The cancelled one needs the lock to end.
    Mutation {
        name: "cancel_inside_the_lock",
        find: "let holder = inner.release_holder();\n        let backoff = inner.backoff.take();\n        \
               inner.past = backoff.clone().or(inner.past.take());\n        drop(inner);\n        \
               self.notify();\n        Ok(Before",
        replace: "let holder = inner.release_holder();\n        let backoff = inner.backoff.take();\n        \
                  inner.past = backoff.clone().or(inner.past.take());\n        \
                  if let Some(holder) = &holder { super::cancel_and_wait(holder.incarnation()); }\n        \
                  drop(inner);\n        self.notify();\n        Ok(Before",
    },
    // A restart may begin with a higher number before it.
    Mutation {
        name: "number_too_early",
        find: ".filter(|next| next.ready || is_first);",
        replace: ".filter(|_| true || is_first);",
    },
    // What came up since the start was let in is ended, equal or not.
    Mutation {
        name: "replace_an_equal",
        find: "if let Some(joined) = inner.join(ticket) {\n            drop(inner);",
        replace: "if let Some(joined) = None {\n            drop(inner);",
    },
    Mutation {
        name: "reuse_an_incarnation",
        find: "let entry = make(inner.count());\n        inner.holder",
        replace: "let entry = make(number);\n        inner.holder",
    },
    // A stop that comes while the agent crashes does not keep it from being restarted.
    Mutation { name: "forget_the_release", find: "holder.released = true;", replace: "" },
    // A turn that does not wait for the holder.
    Mutation {
        name: "do_not_wait",
        find: "if self.holder.is_some() {\n            return None;\n        }",
        replace: "",
    },
];

const OF_MAIL: [Mutation; 3] = [
    // A start that takes over finds the record of the one before.
    Mutation {
        name: "leave_the_record",
        find: "if !adopts_mail {\n            books.record = None;\n        }",
        replace: "let _ = adopts_mail;",
    },
    // A message whose turn did not end comes again, and its sender gets the answer that it does not.
    Mutation {
        name: "answer_what_comes_again",
        find: "mail.waiting.insert(0, letter);",
        replace: "self.office.answer(Letter { id: letter.id, deliveries: 0 });\n        \
                  mail.waiting.insert(0, letter);",
    },
    // What waits is lost when a start takes over.
    Mutation {
        name: "lose_what_waits",
        find: "std::mem::replace(&mut mail.waiting, letters)",
        replace: "{ drop(letters); std::mem::take(&mut mail.waiting) }",
    },
];

fn main() {
    println!("cargo::rerun-if-changed={SLOT}");
    println!("cargo::rerun-if-changed={ENTRY}");
    println!("cargo::rerun-if-changed={MAIL}");
    println!("cargo::rerun-if-changed=build.rs");
    let (slot, mail) = (as_item(&read(SLOT)), read(MAIL));
    write_out("slot_entry.rs", &as_item(&read(ENTRY)));
    write("as_it_is", &slot, &mail);
    for mutation in MUTATIONS {
        write(mutation.name, &mutation.of(&slot), &mail);
    }
    for mutation in OF_MAIL {
        write(mutation.name, &slot, &mutation.of(&mail));
    }
}

impl Mutation {
    fn of(&self, source: &str) -> String {
        let Self { name, find, replace } = self;
        let matches = source.matches(find).count();
        assert_eq!(
            matches, 1,
            "mutation {name} does not fit its source any more: adapt it in build.rs"
        );
        source.replacen(find, replace, 1)
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).expect("read a source")
}

fn write(name: &str, slot: &str, mail: &str) {
    write_out(&format!("{name}.rs"), slot);
    write_out(&format!("{name}.mail.rs"), mail);
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
