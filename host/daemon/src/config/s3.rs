//! Keys of a bucket, which several tables have: `region`, `endpoint`, `access_key_id`, `secret_access_key`.

use std::ops::Range;

use bulkhead_bucket::{OptionError, S3};
use bulkhead_types::Secret;
use toml::Spanned;

use super::problem::Problem;

/// A key of a table, and where it stands if it is given. An empty range is looked up when it is shown.
pub(super) type Given = (&'static str, Option<Range<usize>>);

/// What one table says of its bucket.
pub(super) struct S3Keys<'a> {
    pub table: &'static str,
    pub region: &'a Option<Spanned<String>>,
    pub endpoint: &'a Option<Spanned<String>>,
    pub access_key_id: &'a Option<Spanned<String>>,
    pub secret_access_key: &'a Option<Spanned<Secret>>,
    /// What AWS's variables say. The table goes before them.
    pub aws: &'a [(&'static str, Secret)],
}

impl S3Keys<'_> {
    pub fn given(&self) -> [Given; 4] {
        [
            ("region", self.region.as_ref().map(Spanned::span)),
            ("endpoint", self.endpoint.as_ref().map(Spanned::span)),
            ("access_key_id", self.access_key_id.as_ref().map(Spanned::span)),
            ("secret_access_key", self.secret_access_key.as_ref().map(Spanned::span)),
        ]
    }

    /// Hands them to a bucket, or says what is wrong or missing. `problem` is one with the bucket.
    pub fn set(&self, s3: &mut S3, problem: impl Fn(String) -> Problem) -> Result<(), Problem> {
        s3.options = self.aws.to_vec();
        let text = |text: &Option<Spanned<String>>| {
            text.clone().map(|text| Secret::from(text.into_inner()))
        };
        let given = [
            ("AWS_REGION", text(self.region)),
            ("AWS_ENDPOINT_URL_S3", text(self.endpoint)),
            ("AWS_ACCESS_KEY_ID", text(self.access_key_id)),
            (
                "AWS_SECRET_ACCESS_KEY",
                self.secret_access_key.as_ref().map(|key| key.get_ref().clone()),
            ),
        ];
        s3.options.extend(given.into_iter().filter_map(|(name, value)| Some((name, value?))));
        let has = |name: &str| s3.options.iter().any(|(it, _)| *it == name);
        let table = self.table;
        if has("AWS_ACCESS_KEY_ID") != has("AWS_SECRET_ACCESS_KEY") {
            return Err(problem(format!(
                "needs both {table}.access_key_id and {table}.secret_access_key, or neither"
            )));
        }
        s3.check().map_err(|OptionError { name, message }| {
            let given = match name {
                "AWS_ENDPOINT_URL_S3" => self.endpoint.as_ref().map(|it| ("endpoint", it.span())),
                "AWS_REGION" => self.region.as_ref().map(|it| ("region", it.span())),
                _ => None,
            };
            match given {
                Some((key, span)) => Problem::at(span, format!("{table}.{key}"), message),
                None => Problem::at(0..0, name.to_owned(), message),
            }
        })
    }
}

/// Keys of a table that mean nothing beside another one.
pub(super) fn refuse(table: &str, given: &[Given], why: &str) -> Result<(), Problem> {
    match given.iter().find_map(|(key, span)| Some((key, span.clone()?))) {
        Some((key, span)) => Err(Problem::at(span, format!("{table}.{key}"), why.to_owned())),
        None => Ok(()),
    }
}
