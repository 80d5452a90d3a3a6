//! `[models.NAME]`, and the roles that use them.

use bulkhead_llm::{Bounds, Dialect};

use super::*;

/// The settings of one endpoint, by name.
fn endpoint<'a>(settings: &'a Settings, name: &str) -> &'a bulkhead_llm::Settings {
    let mut endpoints = settings.models.iter().map(|endpoint| &endpoint.settings);
    endpoints.find(|settings| *settings.name == *name).expect("an endpoint")
}

fn role_models(settings: &Settings) -> Vec<&str> {
    settings.catalog.roles["echo"].models.iter().map(AsRef::as_ref).collect()
}

/// An endpoint with some more lines, which begin at line 3.
fn with(lines: &str) -> String {
    format!("[models.default]\nbase_url = \"http://h/v1\"\n{lines}")
}

#[test]
fn an_endpoint_has_defaults_for_all_but_its_url() {
    let settings = settings("[models.default]\nbase_url = \"http://127.0.0.1:11434/v1/\"").unwrap();
    let found = endpoint(&settings, "default");
    assert_eq!(found.base.to_string(), "http://127.0.0.1:11434/v1");
    assert_eq!((found.dialect, found.headers.len()), (Dialect::OpenAi, 0));
    let bounds = Bounds {
        whole: Duration::from_secs(300),
        first_byte: Duration::from_secs(120),
        attempt: Duration::from_secs(180),
        idle: Duration::from_secs(60),
        retries: 2,
        max_wait: Duration::from_secs(60),
        max_answer_bytes: 4 << 20,
    };
    assert_eq!(found.bounds, bounds);
    let model = settings.runtime.models.get("default").unwrap();
    assert_eq!(model.default_model, "default");
    assert!(model.allowed.admits("anything"));
    assert_eq!(model.endpoint.url(), "http://127.0.0.1:11434/v1/chat/completions");
}

#[test]
fn an_endpoint_is_as_its_keys_say() {
    let text = "[models.big]\nbase_url = \"https://api.anthropic.com\"\ndialect = \"anthropic\"\n\
                model = \"claude-a\"\nmodels = [\"claude-*\", \"other\"]\ntimeout_ms = 1\nfirst_byte_ms = 2\nattempt_ms = 6\n\
                idle_ms = 3\nretries = 10\nmax_wait_ms = 0\nmax_answer_kb = 5\n\
                [models.big.headers]\nX-Org = \"o\"\nanthropic-beta = \"b\"";
    let settings = settings(text).unwrap();
    let found = endpoint(&settings, "big");
    assert_eq!(found.dialect, Dialect::Anthropic);
    let bounds = Bounds {
        whole: Duration::from_millis(1),
        first_byte: Duration::from_millis(2),
        attempt: Duration::from_millis(6),
        idle: Duration::from_millis(3),
        retries: 10,
        max_wait: Duration::ZERO,
        max_answer_bytes: 5 << 10,
    };
    assert_eq!(found.bounds, bounds);
    let headers: Vec<_> = found
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap(), value.is_sensitive()))
        .collect();
    assert_eq!(headers, [("x-org", "o", true), ("anthropic-beta", "b", true)]);
    // An attempt is never over before its first byte may come.
    let slow = "[models.slow]\nbase_url = \"http://a\"\nfirst_byte_ms = 300000";
    let slow = endpoint(&self::settings(slow).unwrap(), "slow").bounds;
    assert_eq!(slow.attempt, Duration::from_secs(300));
    let model = settings.runtime.models.get("big").unwrap();
    assert_eq!(model.default_model, "claude-a");
    assert!(model.allowed.admits("claude-b") && !model.allowed.admits("gpt"));
}

#[test]
fn a_role_has_the_endpoints_that_it_lists_in_its_order() {
    let models = "[models.a]\nbase_url = \"http://a\"\n[models.b]\nbase_url = \"http://b\"\n";
    let with = |line: &str| settings(&format!("{models}{BASE}{line}"));
    assert!(role_models(&with("").unwrap()).is_empty());
    assert_eq!(role_models(&with("models = [\"b\", \"a\"]").unwrap()), ["b", "a"]);
    let found = with("models = [\"a\"]").unwrap();
    let role = &found.catalog.roles["echo"];
    assert!(role.config.is_empty() && role.http.allow.is_empty(), "the host makes the calls");
    for (line, parts) in [
        (
            "models = [\"a\", \"c\"]",
            ["roles.echo.models[1]", "no [models.c]; the configuration has a, b"],
        ),
        ("models = [\"a\", \"b\", \"a\"]", ["roles.echo.models[2]", "a is listed twice"]),
        ("models = [\"\"]", ["roles.echo.models[0]", "has a, b"]),
        ("models = \"a\"", ["roles.echo.models", "a list"]),
    ] {
        let error = with(line).unwrap_err();
        assert!(
            error.contains("line 10") && parts.iter().all(|part| error.contains(part)),
            "{error}"
        );
    }
    let error = settings(&format!("{BASE}models = [\"a\"]")).unwrap_err();
    assert!(error.contains("the configuration has none"), "{error}");
}

#[test]
fn the_forms_of_before_are_refused_with_those_of_now() {
    let error = settings("[model]\nbase_url = \"http://h\"").unwrap_err();
    assert!(error.contains("line 1") && error.contains("[models.default]"), "{error}");
    for value in ["true", "false"] {
        let error = settings(&format!("{}{BASE}model = {value}", with(""))).unwrap_err();
        assert!(error.contains("line 8, roles.echo.model: "), "{error}");
        assert!(error.contains("models = [\"default\"]"), "{error}");
    }
    // Elsewhere there was none.
    let error = settings("[limits]\nmodel = 1").unwrap_err();
    assert!(error.contains("unknown field `model`"), "{error}");
}

#[test]
fn a_name_of_an_endpoint_has_few_characters() {
    let longest = "a".repeat(64);
    for name in ["a", "0", "big-2", &longest] {
        settings(&format!("[models.{name}]\nbase_url = \"http://h\"")).unwrap();
    }
    let too_long = "a".repeat(65);
    for name in ["Big", "a_b", "\"\"", "\"a b\"", "\"a.b\"", "\"ä\"", &too_long] {
        let error =
            settings(&format!("[log]\n[models.{name}]\nbase_url = \"http://h\"")).unwrap_err();
        assert!(error.contains("line 2") && error.contains("models."), "{name}: {error}");
        assert!(error.contains("1 to 64 characters of a-z 0-9 -"), "{name}: {error}");
    }
}

#[test]
fn the_name_of_agents_own_endpoints_is_taken() {
    let error = settings("[log]\n[models.own]\nbase_url = \"http://h\"").unwrap_err();
    assert!(error.contains("line 2") && error.contains("models.own"), "{error}");
    assert!(error.contains("stands for agents' own endpoints"), "{error}");
    settings("[models.own-2]\nbase_url = \"http://h\"").unwrap();
}

#[test]
fn a_bad_url_is_refused_without_what_may_be_a_secret() {
    for (url, part) in [
        ("h/v1", "cannot be used"),
        ("ftp://h", "begin with http:// or https://"),
        ("http://h:99999/v1", "65535"),
        ("http://h:0", "65535"),
        ("http://", "cannot be used"),
        ("", "cannot be used"),
        ("http://me:hunter2@h/v1", "use api_key"),
        ("http://h/v1?key=hunter2", "a query"),
        ("http://h/v1#hunter2", "a query"),
        ("http://h/v1/chat/completions", "which the host appends"),
        ("http://h/v1/chat/completions/", "which the host appends"),
    ] {
        let error = settings(&format!("[models.a]\nbase_url = {url:?}")).unwrap_err();
        assert!(
            error.contains("line 2, models.a.base_url: ") && error.contains(part),
            "{url}: {error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }
    for (end, url) in [("/v1", "https://h/v1"), ("/v1/messages", "https://h/x/v1/messages")] {
        let text = format!("[models.a]\nbase_url = {url:?}\ndialect = \"anthropic\"");
        let error = settings(&text).unwrap_err();
        assert!(error.contains(&format!("ends in {end}, which the host appends")), "{error}");
    }
    let error = settings("[models.a]\nmodel = \"x\"").unwrap_err();
    assert!(error.contains("models.a") && error.contains("`base_url`"), "{error}");
}

#[test]
fn a_value_out_of_bounds_is_refused_with_its_key_and_line() {
    for (line, part) in [
        ("dialect = \"cohere\"", "`openai` or `anthropic`"),
        ("timeout_ms = 0", "at least 1"),
        ("timeout_ms = 31536000001", "at most 31536000000"),
        ("first_byte_ms = 0", "at least 1"),
        ("idle_ms = 0", "at least 1"),
        ("idle_ms = \"long\"", "a whole number"),
        ("retries = 11", "11 is not between 0 and 10"),
        ("retries = -1", "a whole number"),
        ("max_wait_ms = -1", "at least 0"),
        ("max_answer_kb = 0", "at least 1"),
        ("max_answer_kb = 1048577", "at most 1048576"),
        ("model = \"\"", "1 to 256 bytes"),
        ("model = \"a\\tb\"", "no control character"),
        ("models = [\"default\", \"\"]", "an empty text"),
        ("models = [\"default\", \"*-mini\"]", "its last character"),
        ("models = \"qwen3\"", "a list"),
        ("models = [\"qwen3\"]", "\"default\" without being set"),
        ("name = \"qwen3\"", "unknown field `name`"),
    ] {
        let error = settings(&with(line)).unwrap_err();
        assert!(error.contains("line 3") && error.contains("models.default"), "{line}: {error}");
        assert!(error.contains(part), "{line}: {error}");
    }
    let error = settings(&with("models = [\"qwen3\"]\nmodel = \"gpt\"")).unwrap_err();
    assert!(error.contains("line 4") && error.contains("\"gpt\" is not among models"), "{error}");
}

#[test]
fn headers_are_additional_ones_and_secrets() {
    for (header, part) in [
        ("authorization", "set api_key"),
        ("Authorization", "set api_key"),
        ("host", "itself"),
        ("Content-Length", "itself"),
        ("content-type", "itself"),
        ("accept", "itself"),
        ("accept-encoding", "itself"),
        ("connection", "itself"),
        ("transfer-encoding", "itself"),
        ("proxy-authorization", "itself"),
        ("\"x org\"", "letters, digits and -"),
        ("\"x:\"", "letters, digits and -"),
        ("\"\"", "letters, digits and -"),
    ] {
        let text = with(&format!("headers = {{ {header} = \"hunter2\" }}"));
        let error = settings(&text).unwrap_err();
        assert!(error.contains("line 3") && error.contains("models.default.headers."), "{error}");
        assert!(error.contains(part) && !error.contains("hunter2"), "{error}");
    }
    for value in ["hunter2\\n", "hunter2\\u0007", "a\\r\\nhost: hunter2"] {
        let error = settings(&with(&format!("headers = {{ x-org = \"{value}\" }}"))).unwrap_err();
        assert!(
            error.contains("headers.x-org") && error.contains("no header can carry"),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }
    let error = settings(&with("headers = { x-org = \"a\", X-Org = \"b\" }")).unwrap_err();
    assert!(error.contains("is set twice"), "{error}");
    // Another server's header, but the key's own one here.
    settings(&with("headers = { x-api-key = \"k\" }")).unwrap();
    let anthropic = "dialect = \"anthropic\"\nheaders = { x-api-key = \"k\" }";
    let error = settings(&format!("[models.a]\nbase_url = \"http://h\"\n{anthropic}")).unwrap_err();
    assert!(error.contains("set api_key"), "{error}");
}

/// Where a key comes from shows only in the endpoint's requests; what is wrong with it shows here.
#[test]
fn a_key_has_one_source_and_fits_a_header() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("key"), "hunter2\n").unwrap();
    std::fs::write(path("lines"), "hunter2\nhunter2\n").unwrap();
    let (file, lines, gone) = (path("key"), path("lines"), path("gone"));
    let env = [("A_KEY", "hunter2"), ("EMPTY", ""), ("LINES", "hunter2\n"), ("aKey", "hunter2\n")];
    for source in
        ["api_key = \"hunter2\"", "api_key_env = \"A_KEY\"", &format!("api_key_file = {file:?}")]
    {
        let found = with_env(&with(source), &env).unwrap();
        assert!(!format!("{found:?}").contains("hunter2"));
    }
    for (lines, key, part) in [
        ("api_key = \"hunter2\\n\"".to_owned(), "api_key", "a newline"),
        ("api_key = \"hunter2\\u0007\"".into(), "api_key", "no header can carry"),
        ("api_key = \"\"".into(), "api_key", "is empty"),
        ("api_key = 7".into(), "api_key", "a string"),
        (format!("api_key_file = {lines:?}"), "api_key_file", "more than one line"),
        (format!("api_key_file = {gone:?}"), "api_key_file", "cannot read"),
        ("api_key_env = \"NONE\"".into(), "api_key_env", "NONE is not set"),
        ("api_key_env = \"EMPTY\"".into(), "api_key_env", "EMPTY is set and empty"),
        ("api_key_env = \"LINES\"".into(), "api_key_env", "LINES contains a newline"),
        ("api_key_env = \"aKey\"".into(), "api_key_env", "it names contains a newline"),
        ("api_key_env = \"\"".into(), "api_key_env", "no name of an environment variable"),
        // The key itself, by mistake.
        ("api_key_env = \"sk-hunter2\"".into(), "api_key_env", "letters, digits and _"),
        (
            "api_key_env = \"hunter2\"".into(),
            "api_key_env",
            "the variable that it names is not set",
        ),
    ] {
        let error = with_env(&with(&lines), &env).unwrap_err();
        assert!(error.contains(&format!("line 3, models.default.{key}: ")), "{lines}: {error}");
        assert!(error.contains(part) && !error.contains("hunter2"), "{lines}: {error}");
    }
    let sources = ["api_key = \"hunter2\"", "api_key_env = \"A_KEY\"", "api_key_file = \"x\""];
    for (one, other) in [(0, 1), (0, 2), (1, 2), (2, 0)] {
        let text = with(&format!("{}\n{}", sources[one], sources[other]));
        let error = with_env(&text, &env).unwrap_err();
        assert!(error.contains("is set as well; keep one of them"), "{error}");
        assert!(error.contains("models.default.api_key") && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_file_of_a_key_is_relative_to_the_configuration_and_known_to_the_host() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key"), "hunter2").unwrap();
    let text = with(&format!("api_key_file = {:?}", dir.path().join("key")));
    let found = settings(&text).unwrap();
    assert_eq!(found.models[0].key_file, Some(dir.path().join("key")));
    let error = settings(&with("api_key_file = \"key\"")).unwrap_err();
    assert!(error.contains("/etc/bulkhead/key"), "{error}");
    assert_eq!(settings(&with("")).unwrap().models[0].key_file, None);
}

#[test]
fn the_environment_sets_the_default_endpoint() {
    let url = ("BULKHEAD_MODEL_BASE_URL", "http://127.0.0.1:9/v1/");
    let model = |settings: &Settings| {
        settings.runtime.models.get("default").expect("an endpoint").default_model.clone()
    };
    let found = with_env("", &[url, ("BULKHEAD_MODEL_NAME", "qwen3")]).unwrap();
    assert_eq!(endpoint(&found, "default").base.to_string(), "http://127.0.0.1:9/v1");
    assert_eq!(model(&found), "qwen3");
    let found = with_env(&with("model = \"a\""), &[("BULKHEAD_MODEL_NAME", "b")]).unwrap();
    assert_eq!(model(&found), "b");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, "hunter2").unwrap();
    let of_file = ("BULKHEAD_MODEL_API_KEY_FILE", file.to_str().unwrap());
    // A key of the environment takes the place of every other one, and a file stays one that can change.
    for line in ["api_key = \"k\"", "api_key_file = \"/nowhere\"", "api_key_env = \"NONE\""] {
        let found = with_env(&with(line), &[of_file]).unwrap();
        assert_eq!(found.models[0].key_file.as_ref(), Some(&file));
        let found = with_env(&with(line), &[("BULKHEAD_MODEL_API_KEY", "hunter2")]).unwrap();
        assert_eq!(found.models[0].key_file, None);
    }
    for name in ["BULKHEAD_MODEL_NAME", "BULKHEAD_MODEL_API_KEY"] {
        let error =
            with_env("[models.big]\nbase_url = \"http://h\"", &[(name, "hunter2")]).unwrap_err();
        assert!(error.starts_with(name) && error.contains("[models.default]"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let name = ("BULKHEAD_MODEL_NAME", "gpt");
    let error = with_env(&with("models = [\"qwen3\"]\nmodel = \"qwen3\""), &[name]).unwrap_err();
    assert!(error.starts_with("BULKHEAD_MODEL_NAME: ") && error.contains("\"gpt\""), "{error}");
    let url = ("BULKHEAD_MODEL_BASE_URL", "http://me:hunter2@h/v1");
    let error = with_env("", &[url]).unwrap_err();
    assert!(
        !error.contains("hunter2") && error.starts_with("BULKHEAD_MODEL_BASE_URL: "),
        "{error}"
    );
}

#[test]
fn what_is_for_an_endpoint_of_the_file_does_not_go_to_one_of_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key"), "hunter2").unwrap();
    let key = format!("api_key_file = {:?}", dir.path().join("key"));
    let lines =
        format!("{key}\nca_file = \"/nowhere\"\nheaders = {{ x-org = \"o\" }}\n[models.big]");
    let text = with(&format!("{lines}\nbase_url = \"http://big\"\nheaders = {{ x-org = \"o\" }}"));
    let found = with_env(&text, &[("BULKHEAD_MODEL_BASE_URL", "http://127.0.0.1:9")]).unwrap();
    let default = found.models.iter().find(|endpoint| &*endpoint.settings.name == "default");
    let default = default.expect("an endpoint");
    assert_eq!(default.key_file, None);
    assert!(default.settings.headers.is_empty());
    assert_eq!(endpoint(&found, "big").headers.len(), 1, "others stay as they are");
}

#[test]
fn certificates_of_an_endpoint_are_read() {
    let error = settings(&with("ca_file = \"/nowhere/ca.pem\"")).unwrap_err();
    assert!(
        error.contains("line 3, models.default.ca_file: cannot read /nowhere/ca.pem: "),
        "{error}"
    );
}

/// Every block of TOML on a page of the documentation is a configuration, but for the component of its roles.
#[test]
fn the_examples_of_the_documentation_are_accepted() {
    let page = include_str!("../../../../../docs/models.md");
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, "hunter2").unwrap();
    let env = ["OPENAI_API_KEY", "OPENROUTER_API_KEY", "AZURE_OPENAI_API_KEY"]
        .map(|name| (name, "hunter2"));
    let blocks: Vec<_> = page.split("```toml\n").skip(1).collect();
    assert!(blocks.len() >= 8, "{}", blocks.len());
    for block in blocks {
        let block = block.split("```").next().unwrap();
        let text = format!("{block}\n[components.worker]\npath = \"worker.wasm\"\n")
            .replace("/run/secrets/model-key", key.to_str().unwrap());
        let found = with_env(&text, &env).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert!(!found.models.is_empty(), "{text}");
    }
}

#[test]
fn the_configuration_for_production_is_accepted_and_on_its_page() {
    let example = include_str!("../../../../../docs/bulkhead.toml");
    let found = settings(example).unwrap();
    assert_eq!(*found.catalog.roles["worker"].models, ["default".into()]);
    assert!(include_str!("../../../../../docs/operating.md").contains(example));
}
