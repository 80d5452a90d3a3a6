//! Keys of a server of NATS, which several tables have: `username`, `password`, `token`, `credentials_file`.

use std::path::{Path, PathBuf};

use bulkhead_lease::{Login, Nats};
use bulkhead_types::Secret;
use toml::Spanned;

use super::problem::Problem;
use super::s3::Given;
use super::secrets::read_value;

/// What one table says of how it is known to NATS.
pub(super) struct NatsKeys<'a> {
    pub table: &'static str,
    pub username: &'a Option<Spanned<String>>,
    pub password: &'a Option<Spanned<Secret>>,
    pub token: &'a Option<Spanned<Secret>>,
    pub credentials_file: &'a Option<Spanned<PathBuf>>,
}

impl NatsKeys<'_> {
    /// Those that etcd has as well.
    pub fn given_of_users(&self) -> [Given; 2] {
        [
            ("username", self.username.as_ref().map(Spanned::span)),
            ("password", self.password.as_ref().map(Spanned::span)),
        ]
    }

    /// Those that nothing else has.
    pub fn given(&self) -> [Given; 2] {
        [
            ("token", self.token.as_ref().map(Spanned::span)),
            ("credentials_file", self.credentials_file.as_ref().map(Spanned::span)),
        ]
    }

    /// The name and the password, or what is missing.
    pub fn user(&self) -> Result<Option<(String, Secret)>, String> {
        let table = self.table;
        match (self.username, self.password) {
            (None, None) => Ok(None),
            (Some(name), Some(password)) => {
                Ok(Some((name.get_ref().clone(), password.get_ref().clone())))
            }
            (..) => Err(format!("needs both {table}.username and {table}.password, or neither")),
        }
    }

    /// Hands them to a bucket. `problem` is about its address.
    pub fn set(
        &self,
        nats: &mut Nats,
        base: &Path,
        problem: impl Fn(String) -> Problem,
    ) -> Result<(), Problem> {
        let table = self.table;
        let user = self.user().map_err(&problem)?;
        nats.login = match (user, self.token, self.credentials_file) {
            (None, None, None) => Login::None,
            (Some((name, password)), None, None) => Login::User(name, password),
            (None, Some(token), None) => Login::Token(token.get_ref().clone()),
            (None, None, Some(file)) => {
                let wrong = |message: String| {
                    Problem::at(file.span(), format!("{table}.credentials_file"), message)
                };
                let text = read_value(&base.join(file.get_ref())).map_err(wrong)?;
                Login::parse(text.expose()).map_err(|error| wrong(error.to_string()))?
            }
            _ => {
                return Err(problem(format!(
                    "takes one of {table}.username, {table}.token and {table}.credentials_file"
                )));
            }
        };
        Ok(())
    }
}
