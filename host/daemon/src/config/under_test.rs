//! The configuration as `bulkhead test` runs it: the roles as they are, and nothing around them.
//!
//! | of the file | under test |
//! | --- | --- |
//! | `[models.NAME]`, and `default` where there is none | the scripted model, which is tried once |
//! | `http_allow`, `tool_network`, `[rigs.NAME]`, `[town]` | nothing is reached |
//! | `[secrets.NAME]` | exist, without their values: no request carries them |
//! | `restart`, `max_attempts` | an agent that ends stays so, and no message is delivered twice |
//! | `model.…` in `config`, `config_files` | left out: they name models of an agent's own |
//! | `probe_listen`, the level of the log | none, `info` |

use bulkhead_types::{RestartPolicy, Secret, ToolNetwork};
use toml::Spanned;

use super::file::{File, HttpSecret, LogLevel, Model, ModelName, Role, Town};

/// Keys of an agent's configuration that begin so name a model of its own.
const OWN_MODEL: &str = "model.";

/// What stands for a credential that no request carries.
const NO_SECRET: &str = "under-test";

/// Leaves a file with one model and no way to anything else.
pub(super) fn isolate(file: &mut File, model_url: &str) {
    file.town = Town::default();
    file.rigs.clear();
    file.server.probe_listen = None;
    file.log.level = LogLevel::Info;
    let at = |url: &str| Model::at(unnamed(url.to_owned()));
    let default = file.models.entry(ModelName::of_variables());
    default.or_insert_with(|| at(model_url));
    for model in file.models.values_mut() {
        let scripted = at(model_url);
        *model = Model {
            model: model.model.take(),
            models: std::mem::take(&mut model.models),
            retries: Some(unnamed(0)),
            price_input: model.price_input.take(),
            price_cached: model.price_cached.take(),
            price_output: model.price_output.take(),
            prices: std::mem::take(&mut model.prices),
            ..scripted
        };
    }
    file.secrets.values_mut().for_each(empty);
    file.roles.values_mut().for_each(isolate_role);
}

fn empty(secret: &mut HttpSecret) {
    secret.value = Some(unnamed(Secret::from(NO_SECRET.to_owned())));
    (secret.value_file, secret.value_env) = (None, None);
}

fn isolate_role(role: &mut Role) {
    role.http_allow.clear();
    role.tool_network = ToolNetwork::None;
    role.restart = Some(RestartPolicy::Temporary);
    role.max_attempts = Some(unnamed(1));
    role.config.retain(|key, _| !key.starts_with(OWN_MODEL));
    role.config_files.retain(|key, _| !key.starts_with(OWN_MODEL));
}

/// A value that stands nowhere in the file.
fn unnamed<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

#[cfg(test)]
mod tests {
    use super::super::{base, load_for_test, parse};
    use super::*;

    const URL: &str = "http://127.0.0.1:9/v1";

    const ALL: &str = r#"
        [server]
        probe_listen = "0.0.0.0:9"
        [town]
        id = "t"
        api_url = "https://town.example"
        [log]
        level = "error"
        [models.big]
        base_url = "https://api.example.com"
        dialect = "anthropic"
        api_key_env = "NOBODY_HAS_THIS_VARIABLE"
        headers = { x-org = "hush" }
        model = "claude-x"
        models = ["claude-*"]
        price_input = 3.0
        [secrets.github]
        hosts = ["api.github.com"]
        value_env = "NOBODY_HAS_THIS_VARIABLE"
        [rigs.demo]
        url = "https://git.example/demo"
        token_file = "nowhere"
        [components.echo]
        path = "echo.wasm"
        [roles.echo]
        component = "echo"
        models = ["big", "default"]
        secrets = ["github"]
        http_allow = ["api.github.com"]
        restart = "permanent"
        max_attempts = 5
        snapshot = "turn"
        tool_network = "open"
        config = { "model.base-url" = "https://own.example", x = "y" }
        config_files = { "model.api-key" = "nowhere" }
        [[agents]]
        id = "a"
        role = "echo"
    "#;

    #[test]
    fn nothing_is_reached_but_the_scripted_model() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bulkhead.toml");
        std::fs::write(&path, ALL).unwrap();
        let settings = load_for_test(&path, URL).unwrap();
        let urls: Vec<_> = settings.models.iter().map(|it| it.settings.base.to_string()).collect();
        assert_eq!(urls, [URL, URL]);
        for model in &settings.models {
            assert!(model.settings.headers.is_empty() && model.key_file.is_none());
            assert_eq!(model.settings.bounds.retries, 0);
        }
        assert!(
            settings.town.is_none() && settings.rigs.is_empty() && settings.telemetry.is_none()
        );
        assert!(settings.control.probe_listen.is_none() && settings.secret_files.is_empty());
        let role = &settings.catalog.roles["echo"];
        assert!(role.http.allow.is_empty());
        assert_eq!(role.restart.policy, RestartPolicy::Temporary);
        assert_eq!(role.restart.max_attempts, 1);
        assert_eq!(role.config.keys().collect::<Vec<_>>(), ["x"]);
        assert_eq!(role.models.iter().map(|it| &**it).collect::<Vec<_>>(), ["big", "default"]);
    }

    #[test]
    fn what_the_roles_are_stays() {
        let mut file: File = parse(ALL).unwrap();
        isolate(&mut file, URL);
        let big = &file.models[&ModelName::try_from("big".to_owned()).unwrap()];
        let model = big.model.as_ref().map(|it| it.get_ref().as_str());
        assert!(
            (model, big.models.len(), big.price_input.is_some()) == (Some("claude-x"), 1, true)
        );
        assert!(file.roles["echo"].snapshot.is_some() && file.agents.len() == 1);
        assert_eq!(base(std::path::Path::new("x.toml")), std::path::Path::new("."));
    }
}
