//! The documents that are made from the program. `UPDATE_DOCS=1` rewrites them.

use std::path::Path;

#[track_caller]
fn check(file: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, made).expect("write the document");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == made, "{file} differs from the program: run with UPDATE_DOCS=1");
}

#[test]
fn the_rules_are_told_as_they_are() {
    check("../../docs/diagnose-rules.md", &bulkhead_diagnose::rules::document());
}

#[test]
fn the_schema_is_told_as_it_is() {
    check("report.schema.json", &bulkhead_diagnose::schema());
}
