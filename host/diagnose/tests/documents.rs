//! The documents that are made from the program. `UPDATE_EXPECT=1` rewrites them.

use expect_test::expect_file;

#[test]
fn the_rules_are_written_as_they_are() {
    expect_file!["../../../docs/diagnose-rules.md"]
        .assert_eq(&bulkhead_diagnose::rules::document());
}

#[test]
fn the_schema_is_written_as_it_is() {
    expect_file!["../report.schema.json"].assert_eq(&bulkhead_diagnose::schema());
}
