//! Examples on pages of the documentation.

use std::collections::BTreeSet;

use super::*;

/// Pages with examples that are configurations or parts of them.
const PAGES: [(&str, &str); 5] = [
    ("configuration.md", include_str!("../../../../../docs/configuration.md")),
    ("deploying.md", include_str!("../../../../../docs/deploying.md")),
    ("operating.md", include_str!("../../../../../docs/operating.md")),
    ("usage.md", include_str!("../../../../../docs/usage.md")),
    ("writing-agents.md", include_str!("../../../../../docs/writing-agents.md")),
];

/// How examples begin that are for others: Cargo, and `bulkhead test`.
const OF_OTHERS: [&str; 2] = ["[package]\n", "role = \"toast\" "];

/// A part of a configuration with what it leaves out: its role, the components of its roles, and prices. None of an example that
/// abridges a digest, has secrets and keys in files, or lists programs that this machine may lack.
fn completed(example: &str) -> Option<String> {
    if ["_file = ", "…", "\ntools = "].iter().any(|it| example.contains(it)) {
        return None;
    }
    let mut text = example.to_owned();
    if text.contains("[roles.polecat.") && !text.contains("[roles.polecat]") {
        text.push_str("[roles.polecat]\ncomponent = \"polecat\"\n");
    }
    if text.contains("cost_per_day") && !text.contains("price_") {
        text.push_str("[models.m]\nbase_url = \"http://m/v1\"\nmodel = \"m\"\nprice_input = 1.0\n");
    }
    let names = text.split("\ncomponent = \"").skip(1).filter_map(|rest| rest.split('"').next());
    let missing: BTreeSet<_> =
        names.filter(|name| !text.contains(&format!("components.{name}"))).collect();
    let missing =
        missing.iter().map(|name| format!("[components.{name}]\npath = \"{name}.wasm\"\n"));
    let missing: String = missing.collect();
    Some(text + &missing)
}

#[test]
fn examples_of_the_pages_are_accepted() {
    let (mut known, mut whole) = (0, 0);
    for (page, text) in PAGES {
        let examples =
            text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
        for example in examples.filter(|it| !OF_OTHERS.iter().any(|other| it.starts_with(other))) {
            if let Err(problem) = parse::<file::File>(example) {
                panic!("{page}: {}\n{example}", problem.show("example", example));
            }
            known += 1;
            let Some(complete) = completed(example) else { continue };
            settings(&complete).unwrap_or_else(|error| panic!("{page}: {error}\n{complete}"));
            whole += 1;
        }
    }
    assert!(known >= 10 && whole >= 5, "{known} examples, {whole} of them whole");
}
