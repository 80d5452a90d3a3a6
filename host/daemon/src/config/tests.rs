use std::ffi::OsString;
use std::time::Duration;

use bulkhead_types::restart::MAX_RESTARTS;
use bulkhead_types::{RestartPolicy, RestartRules};

use super::*;

mod budgets;
mod components;
mod evidence;
mod http_secrets;
mod lease;
mod models;
mod pages;
mod places;
mod ship;

const BASE: &str = r#"
[components.echo]
path = "echo.wasm"
[roles.echo]
component = "echo"
"#;

fn settings(text: &str) -> Result<Settings, String> {
    with_env(text, &[])
}

fn with_env(text: &str, env: &[(&str, &str)]) -> Result<Settings, String> {
    let mut file: super::file::File =
        parse(text).map_err(|problem| problem.show("bulkhead.toml", text))?;
    let lookup = |name: &str| {
        env.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
    };
    env::apply(&mut file, lookup)?;
    let outside = env::outside(lookup)?;
    let base = Path::new("/etc/bulkhead");
    secrets::settle(&mut file, base, lookup)
        .and_then(|()| settings::check(file, base, &outside))
        .map_err(|problem| problem.show("bulkhead.toml", text))
}

#[test]
fn an_empty_file_is_a_configuration() {
    let settings = settings("").unwrap();
    assert_eq!(settings.control.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.state_dir, Path::new("/etc/bulkhead/state"));
}

#[test]
fn secrets_of_the_file_may_lie_in_files_and_must_fit_a_header() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, "hunter2\n").unwrap();
    let shown = path.to_str().unwrap();
    let text = format!(
        "[server]\ntoken_file = \"{shown}\"\n[town]\nid = \"t\"\napi_url = \"http://h\"\ntoken_file = \"{shown}\"\n\
         {BASE}[roles.echo.config_files]\nkey = \"{shown}\""
    );
    let read = settings(&text).unwrap();
    let role = &read.catalog.roles["echo"];
    assert_eq!(read.control.token.unwrap().expose(), "hunter2");
    assert_eq!(read.town.unwrap().token.expose(), "hunter2");
    assert_eq!(role.config["key"].expose(), "hunter2");
    // A variable wins, and then the file is not looked at.
    let env = [("BULKHEAD_CONTROL_TOKEN", "other")];
    let other = with_env("[server]\ntoken_file = \"/nowhere\"", &env).unwrap();
    assert_eq!(other.control.token.unwrap().expose(), "other");
    let town = "[town]\nid = \"t\"\napi_url = \"http://127.0.0.1:1\"\ntoken = ";
    for (text, parts) in [
        ("[server]\ntoken = \"a\\nhunter2\"", ["line 2, server.token", "a newline"]),
        ("[server]\ntoken = \"\"", ["line 2, server.token", "is empty"]),
        ("[server]\ntoken = \"a hunter2\"", ["line 2, server.token", "has blanks"]),
        (&*format!("{town}\"\""), ["line 4, town.token", "is empty"]),
        (&*format!("{town}\"a hunter2\""), ["line 4, town.token", "has blanks"]),
        ("[server]\ntoken_file = \"/dev/zero\"", ["server.token_file", "more than 65536 bytes"]),
        ("[server]\ntoken_file = \"/nowhere\"", ["server.token_file", "cannot read"]),
        ("[server]\ntoken = \"hunter2\"\ntoken_file = \"x\"", ["server.token_file", "set as well"]),
    ] {
        let error = settings(text).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn the_budget_of_the_drain_may_come_from_the_platform() {
    let drain = |value: &str| with_env("[limits]\ndrain_ms = 7", &[("BULKHEAD_DRAIN_MS", value)]);
    assert_eq!(drain("5000").unwrap().drain, Duration::from_secs(5));
    for wrong in ["soon", "0", "-1", "5s", "31536000001"] {
        let error = drain(wrong).unwrap_err();
        assert!(error.starts_with("BULKHEAD_DRAIN_MS: "), "{error}");
        assert!(!error.contains("u64"), "{error}");
    }
}

#[test]
fn what_is_given_up_can_be_relaxed() {
    use crate::hardening::{Security, Want};
    assert_eq!(settings("").unwrap().security, Security::default());
    let text = "[security]\nlandlock = \"off\"\nseccomp = \"required\"\ndebuggable = true";
    let expected = Security { landlock: Want::Off, seccomp: Want::Required, debuggable: true };
    assert_eq!(settings(text).unwrap().security, expected);
    let error = settings("[security]\nlandlock = \"maybe\"").unwrap_err();
    assert!(error.contains("line 2") && error.contains("`required`"), "{error}");
}

#[test]
fn paths_are_relative_to_the_file() {
    let settings = settings(BASE).unwrap();
    assert_eq!(settings.catalog.components["echo"], Path::new("/etc/bulkhead/echo.wasm"));
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_what_would_be_right() {
    let error = settings("[server]\nlisten = \"127.0.0.1:1\"\nlissten = 1").unwrap_err();
    assert!(error.contains("line 3"), "{error}");
    assert!(error.contains("`lissten`, did you mean `listen`? expected one of"), "{error}");
}

#[test]
fn a_configuration_without_an_end_is_not_read_to_its_end() {
    let error = load(Path::new("/dev/zero")).err().unwrap().to_string();
    assert!(error.contains("it has more than 16777216 bytes"), "{error}");
}

#[test]
fn a_wrong_type_or_value_is_refused_with_its_line() {
    for (text, expected) in [
        ("[server]\nlisten = 8080", "line 2"),
        ("[server]\nlisten = \"here\"", "127.0.0.1:8080"),
        ("[limits]\nmax_agents = 0", "at least 1"),
        ("[limits]\nmax_agents = -1", "at least 1"),
        (
            "[limits]\nmax_agents = \"many\"",
            "line 2, limits.max_agents: expected a whole number of",
        ),
        (
            "[limits]\nended_mb = 1048577",
            "limits.ended_mb: expected a whole number of at least 1 and at most 1048576",
        ),
        (
            "[limits]\ncompile_ms = 9223372036854775807",
            "and at most 31536000000, found 922337203685",
        ),
        (
            "[limits]\nkeep_ended = 1.5",
            "limits.keep_ended: expected a whole number of at least 0, found 1.5",
        ),
        (
            "[roles.a]\ncomponent = \"x\"\nrestart_max = -1",
            "line 3, roles.a.restart_max: expected a whole",
        ),
        ("[roles.a]\ncomponent = \"x\"\ncpu_ms = 1.5", "line 3, roles.a.cpu_ms: expected a whole"),
        (
            "[roles.a]\ncomponent = \"x\"\nidle_ms = 31536000001",
            "roles.a.idle_ms: expected a whole",
        ),
        ("[memory]\novercommit = true", "memory.overcommit: expected a number, found true"),
        ("[[agents]]\nid = 7\nrole = \"x\"", "line 2, agents[0].id: expected a string, found 7"),
        ("[limits]\nagent_memory_soft_percent = 0", "0 is not between 1 and 100"),
        ("[roles.a]\ncomponent = \"x\"\nmemory_soft_percent = 101", "line 3"),
        ("[roles.a]\ncomponent = \"x\"\ncpu_max_percent = 0", "0 is not between 1 and 100"),
        ("[log]\nlevel = \"loud\"", "`debug`"),
        ("[log]\nmax_line_kb = 3", "at least 4 and at most 1024"),
        ("[log]\nmax_line_kb = 1025", "at least 4 and at most 1024"),
        ("[roles.a]\ncomponent = \"x\"\nhttp_allow = [\"http://x\"]", "host:port"),
        ("[[agents]]\nid = \"a/b\"\nrole = \"x\"", "line 2"),
        ("[server", "line 1"),
    ] {
        let error = settings(text).unwrap_err();
        assert!(error.contains(expected), "{text}\n{error}");
    }
}

#[test]
fn what_names_something_that_is_not_there_is_refused_with_its_line() {
    let error = settings("[roles.mayor]\ncomponent = \"mayor\"").unwrap_err();
    assert!(error.contains("line 2") && error.contains("roles.mayor.component"), "{error}");
    let error = settings(&format!("{BASE}[[agents]]\nid = \"a\"\nrole = \"mayor\"")).unwrap_err();
    assert!(error.contains("line 8") && error.contains("has echo"), "{error}");
    let error = settings(&format!("{BASE}memory_limit_mb = 2000")).unwrap_err();
    assert!(error.contains("line 6") && error.contains("1024"), "{error}");
    let error = settings("[limits]\nagent_memory_mb = 2000").unwrap_err();
    assert!(error.contains("line 2") && error.contains("limits.agent_memory_mb"), "{error}");
}

#[test]
fn memory_of_a_role_comes_from_the_role_or_else_from_the_container() {
    let limits = |text: &str| {
        let role = settings(text).unwrap().catalog.roles["echo"].limits.clone();
        (role.memory_bytes >> 20, role.memory_soft_percent)
    };
    assert_eq!(limits(BASE), (64, 80));
    assert_eq!(limits(&format!("[limits]\nmax_agent_memory_mb = 32\n{BASE}")), (32, 80));
    let container = "[limits]\nagent_memory_mb = 24\nagent_memory_soft_percent = 70";
    assert_eq!(limits(&format!("{container}\n{BASE}")), (24, 70));
    let role = "memory_limit_mb = 12\nmemory_soft_percent = 90";
    assert_eq!(limits(&format!("{container}\n{BASE}{role}")), (12, 90));
}

#[test]
fn cpu_time_over_time_has_no_bound_unless_the_role_or_the_container_sets_one() {
    let percent = |text: &str| {
        settings(text).map(|it| it.catalog.roles["echo"].limits.cpu_max_percent).unwrap()
    };
    assert_eq!(percent(BASE), 100);
    let container = "[limits]\nagent_cpu_max_percent = 25";
    assert_eq!(percent(&format!("{container}\n{BASE}")), 25);
    assert_eq!(percent(&format!("{container}\n{BASE}cpu_max_percent = 100")), 100);
}

#[test]
fn an_agent_in_python_has_memory_beside_its_interpreter() {
    let limit = |text: &str| settings(text).unwrap().catalog.roles["x"].limits.memory_bytes >> 20;
    let role = |ending: &str| format!("[roles.x]\nsource = \"agent.{ending}\"\n");
    assert_eq!((limit(&role("js")), limit(&role("py"))), (64, 96));
    let python = role("py");
    assert_eq!(limit(&format!("[limits]\nmax_agent_memory_mb = 80\n{python}")), 80);
    assert_eq!(limit(&format!("[limits]\nagent_memory_mb = 48\n{python}")), 48);
    assert_eq!(limit(&format!("{python}memory_limit_mb = 40\n")), 40);
}

#[test]
fn the_environment_wins_and_a_bad_variable_is_named_without_its_value() {
    let env = [
        ("BULKHEAD_LISTEN", "127.0.0.1:9"),
        ("GASTOWN_TOWN_ID", "t"),
        ("BULKHEAD_STATE_DIR", "/s"),
    ];
    let found = with_env("[server]\nlisten = \"127.0.0.1:1\"", &env).unwrap();
    assert_eq!(found.control.listen.port(), 9);
    assert_eq!(found.town_id.as_deref(), Some("t"));
    assert_eq!(found.state_dir, Path::new("/s"));
    let hosts = [("BULKHEAD_ALLOWED_HOSTS", "town.example, *.internal")];
    let from_env = with_env("[server]\nallowed_hosts = [\"x\"]", &hosts).unwrap();
    let from_file =
        settings("[server]\nallowed_hosts = [\"town.example\", \"*.internal\"]").unwrap();
    assert_eq!(from_env.control.allowed_hosts, from_file.control.allowed_hosts);
    assert!(settings("[server]\nallowed_hosts = [\"http://x\"]").unwrap_err().contains("http://x"));
    assert!(from_env.control.probe_listen.is_none());
    let probes = with_env("", &[("BULKHEAD_PROBE_LISTEN", "0.0.0.0:9")]).unwrap();
    assert_eq!(probes.control.probe_listen.map(|at| at.port()), Some(9));
    for name in [
        "BULKHEAD_PROBE_LISTEN",
        "BULKHEAD_LISTEN",
        "BULKHEAD_LOG_LEVEL",
        "BULKHEAD_LOG_FORMAT",
        "BULKHEAD_ALLOWED_HOSTS",
    ] {
        let error = with_env("", &[(name, "non sense")]).unwrap_err();
        assert!(error.contains(name), "{error}");
    }
    let error = with_env("", &[("BULKHEAD_CONTROL_TOKEN", "")]).unwrap_err();
    assert!(error.contains("BULKHEAD_CONTROL_TOKEN"), "{error}");
}

#[test]
fn a_name_may_be_on_a_private_address_where_its_rule_says_so() {
    let text = format!(
        "{BASE}http_allow = [\"plain.example\", {{ host = \"own.example:81\", private = true }}]"
    );
    let http = settings(&text).unwrap().catalog.roles["echo"].http.clone();
    let inside = "10.99.0.1".parse().unwrap();
    assert!(http.admit_address("own.example", 81, inside).is_ok());
    assert!(http.admit_name("plain.example", 443).is_ok());
    assert!(http.admit_address("plain.example", 443, inside).is_err());
    for (rule, what) in [
        ("{ host = \"h:1\", privat = true }", "privat"),
        ("{ private = true }", "host"),
        ("{ host = \"http://h\", private = true }", "host:port"),
        ("7", "private = true"),
    ] {
        let error = settings(&format!("{BASE}http_allow = [{rule}]")).unwrap_err();
        assert!(error.contains(what) && error.contains("line"), "{rule}: {error}");
    }
}

#[test]
fn what_the_environment_says_of_the_way_out_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none.pem").display().to_string();
    let error = with_env("", &[("SSL_CERT_FILE", &missing)]).unwrap_err();
    assert!(error.starts_with("SSL_CERT_FILE: cannot read "), "{error}");
    let error = with_env("", &[("HTTPS_PROXY", "ftp://hunter2@p")]).unwrap_err();
    assert!(error.starts_with("HTTPS_PROXY ") && !error.contains("hunter2"), "{error}");
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let text = "[server]\ntoken = \"hunter2\"\n[models.a]\nbase_url = \"http://h\"\napi_key = \"hunter2\"\n\
         headers = { x-org = \"hunter2\" }";
    assert!(!format!("{:?}", settings(text).unwrap()).contains("hunter2"));
}

#[test]
fn an_error_does_not_show_what_stands_behind_a_key() {
    for text in [
        "[server]\ntokn = \"hunter2\"",
        "[server]\ntoken = [\"hunter2\"]",
        "[server]\ntoken = \"hunter2",
        "[limits]\nmax_agents = \"hunter2\"",
        "[models.default]\nbase_url = \"http://me:hunter2@host/v1\"",
        "[server]\ntoken \"hunter2\"",
        "[server]\nhunter2",
        "[server]\ntoken = \"first half\nhunter2==\"",
        "[server]\ntoken = [\n\"hunter2\"]",
    ] {
        let error = settings(text).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
        assert!(error.contains("line 2") || error.contains("line 3"), "{error}");
    }
    let error = with_env("", &[("BULKHEAD_MODEL_BASE_URL", "http://me:hunter2@h/v1")]).unwrap_err();
    assert!(!error.contains("hunter2") && error.contains("BULKHEAD_MODEL_BASE_URL"), "{error}");
}

#[test]
fn an_error_names_the_line_of_the_value_itself() {
    let twice = format!(
        "{BASE}[[agents]]\nid = \"a\"\nrole = \"echo\"\n[[agents]]\nid = \"a\"\nrole = \"echo\""
    );
    let error = settings(&twice).unwrap_err();
    assert!(error.contains("line 10"), "{error}");
    let error = settings(&format!("{BASE}workspace = true\nmodels = [\"x\"]")).unwrap_err();
    assert!(error.contains("line 7"), "{error}");
}

#[test]
fn workspaces_have_limits_and_leave_some_of_the_disk() {
    let default = settings(BASE).unwrap();
    assert_eq!(default.runtime.disk_floor, bulkhead_runtime::DiskFloor::default());
    let text = format!(
        "[state]\nkeep_free_mb = 0\nkeep_free_inodes = 7\n{BASE}workspace_mb = 3\nworkspace_entries = 5"
    );
    let given = settings(&text).unwrap();
    let floor = bulkhead_runtime::DiskFloor { bytes: 0, inodes: 7 };
    assert_eq!(given.runtime.disk_floor, floor);
    let limits = &given.catalog.roles["echo"].limits;
    assert_eq!((limits.workspace_bytes, limits.workspace_entries), (3 << 20, 5));
    let error = settings(&format!("{BASE}workspace_mb = 0")).unwrap_err();
    assert!(error.contains("workspace_mb"), "{error}");
}

#[test]
fn a_role_says_whether_and_when_its_agents_come_back() {
    let default = &settings(BASE).unwrap().catalog.roles["echo"].restart;
    assert_eq!(*default, RestartRules::default());
    assert_eq!(default.policy, RestartPolicy::Temporary);
    let text = format!(
        "{BASE}restart = \"permanent\"\nrestart_backoff_ms = 1\nrestart_backoff_max_ms = 2\n\
         restart_healthy_ms = 3\nrestart_max = 0\nrestart_window_ms = 4\nrestart_same_fault = 5\nmax_attempts = 6"
    );
    let expected = RestartRules {
        policy: RestartPolicy::Permanent,
        backoff: Duration::from_millis(1),
        backoff_max: Duration::from_millis(2),
        healthy: Duration::from_millis(3),
        max_restarts: 0,
        window: Duration::from_millis(4),
        same_fault: 5,
        max_attempts: 6,
    };
    assert_eq!(settings(&text).unwrap().catalog.roles["echo"].restart, expected);
    let capped = settings(&format!("{BASE}restart_backoff_max_ms = 2")).unwrap();
    let rules = &capped.catalog.roles["echo"].restart;
    assert_eq!((rules.backoff, rules.backoff_max), (expected.backoff_max, expected.backoff_max));
    for (word, policy) in
        [("transient", RestartPolicy::Transient), ("temporary", RestartPolicy::Temporary)]
    {
        let text = format!("{BASE}restart = {word:?}\nrestart_max = {MAX_RESTARTS}");
        let rules = settings(&text).unwrap().catalog.roles["echo"].restart.clone();
        assert_eq!((rules.policy, rules.max_restarts), (policy, MAX_RESTARTS));
    }
}

#[test]
fn how_long_an_agent_may_be_idle_is_by_its_role_when_nothing_is_said() {
    let idle = |role: &str, lines: &str| {
        let text = format!("{BASE}[roles.{role}]\ncomponent = \"echo\"\n{lines}");
        settings(&text).unwrap().catalog.roles[role].limits.idle
    };
    for (role, seconds) in
        [("mayor", None), ("refinery", Some(600)), ("polecat", Some(120)), ("triage", Some(120))]
    {
        assert_eq!(idle(role, ""), seconds.map(Duration::from_secs), "{role}");
        assert_eq!(idle(role, "idle_ms = 7"), Some(Duration::from_millis(7)), "{role}");
        assert_eq!(idle(role, "idle_ms = 0"), None, "{role}");
    }
}

#[test]
fn a_drain_and_a_shutdown_have_their_times() {
    let given = settings("[limits]\ndrain_ms = 9\nshutdown_ms = 8").unwrap();
    assert_eq!((given.drain, given.shutdown), (Duration::from_millis(9), Duration::from_millis(8)));
    let default = settings("").unwrap();
    assert_eq!(
        (default.drain, default.shutdown),
        (Duration::from_secs(300), Duration::from_secs(20))
    );
}

#[test]
fn a_bad_time_or_number_of_restarts_is_refused_with_its_key_and_line() {
    for (line, expected) in [
        ("restart = \"always\"", "`transient`"),
        ("restart = true", "restart"),
        ("restart_backoff_ms = 0", "at least 1"),
        ("restart_backoff_max_ms = -1", "at least 1"),
        ("restart_backoff_ms = 60001", "60001 is above `restart_backoff_max_ms`, which is 60000"),
        ("restart_backoff_ms = 3\nrestart_backoff_max_ms = 2", "3 is above"),
        ("restart_healthy_ms = \"long\"", "at least 1"),
        ("restart_max = -1", "restart_max"),
        ("restart_max = 101", "between 0 and 100"),
        ("restart_max = 99999999999", "restart_max"),
        ("restart_window_ms = 1.5", "at least 1"),
        ("restart_same_fault = 0", "between 1 and 100"),
        ("restart_same_fault = 101", "between 1 and 100"),
        ("max_attempts = 0", "between 1 and 10"),
        ("max_attempts = 11", "between 1 and 10"),
        ("idle_ms = -1", "idle_ms"),
        ("idle_ms = \"never\"", "idle_ms"),
        ("shutdown_ms = 0", "at least 1"),
    ] {
        let error = settings(&format!("{BASE}{line}")).unwrap_err();
        let key = line.split_once(' ').unwrap().0;
        assert!(error.contains("line 6") && error.contains(key), "{line}\n{error}");
        assert!(error.contains(expected), "{line}\n{error}");
    }
    for line in ["drain_ms = 0", "drain_ms = \"soon\"", "shutdown_ms = -1"] {
        let error = settings(&format!("[limits]\n{line}")).unwrap_err();
        let key = line.split_once(' ').unwrap().0;
        assert!(error.contains("line 2") && error.contains(key), "{line}\n{error}");
    }
    let error = settings(&format!("{BASE}restart_backoff = 1")).unwrap_err();
    assert!(error.contains("line 6") && error.contains("`restart_backoff_ms`"), "{error}");
}

#[test]
fn a_role_gives_its_program_arguments_within_bounds() {
    let args = |line: &str| {
        settings(&format!("{BASE}{line}"))
            .map(|settings| settings.catalog.roles["echo"].args.to_vec())
    };
    assert_eq!(args(""), Ok(vec![]));
    let most = vec!["x".repeat(256); 256];
    for given in [vec!["--name".to_owned(), String::new()], most.clone()] {
        assert_eq!(args(&format!("args = {given:?}")), Ok(given));
    }
    let (many, long) = (vec!["x"; 257], [&most[1..], &["x".repeat(257)]].concat());
    for (given, expected) in [
        (format!("{many:?}"), "257 arguments are more than 256"),
        (format!("{long:?}"), "65537 bytes, more than 65536"),
        (r#"["a\u0000b"]"#.to_owned(), "NUL"),
        (r#""a b""#.to_owned(), "args"),
    ] {
        let error = args(&format!("args = {given}")).unwrap_err();
        assert!(error.contains("line 6") && error.contains("args"), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn core_dumps_are_on_when_a_role_wants_them() {
    let without = settings(BASE).unwrap();
    assert_eq!(without.runtime.core_dumps, None);
    assert!(!without.catalog.roles["echo"].core_dump);
    let with = settings(&format!("{BASE}core_dump = true")).unwrap();
    assert!(with.catalog.roles["echo"].core_dump);
    let rules = with.runtime.core_dumps.unwrap();
    assert_eq!(rules.dir, Path::new("/etc/bulkhead/state/cores"));
}

#[test]
fn how_memory_is_watched_has_defaults_and_bounds() {
    let memory = |text: &str| settings(text).map(|settings| settings.memory);
    let second = Duration::from_secs(1);
    let MemorySettings { config, report } = memory("").unwrap();
    assert_eq!((config.budget_bytes, config.sample, report), (None, 5 * second, 30 * second));
    assert!(config.sheds);
    assert_eq!((config.admission.reserve_bytes, config.admission.overcommit), (64 << 20, 10.0));
    let text = "[memory]\nbudget_mb = 3\nsample_ms = 100\nreport_ms = 600000\nreserve_mb = 0\n\
                overcommit = 1.5\nshed = false";
    let MemorySettings { config, report } = memory(text).unwrap();
    assert_eq!((config.budget_bytes, config.sample), (Some(3 << 20), second / 10));
    assert_eq!(report, 600 * second);
    assert!(!config.sheds);
    assert_eq!((config.admission.reserve_bytes, config.admission.overcommit), (0, 1.5));
    for (line, expected) in [
        ("budget_mb = 0", "at least 1"),
        ("sample_ms = 99", "between 100 and 600000"),
        ("sample_ms = 600001", "between 100 and 600000"),
        ("sample_ms = 1.5", "at least 1"),
        ("report_ms = 99", "between 100 and 600000"),
        ("report_ms = \"often\"", "at least 1"),
        ("report = 5", "`report_ms`"),
        ("overcommit = 0.9", "between 1 and 1000"),
        ("overcommit = nan", "between 1 and 1000"),
        ("reserve_mb = -1", "at least 0"),
        ("shed = 1", "true or false"),
    ] {
        let error = memory(&format!("[memory]\n{line}")).unwrap_err();
        let key = line.split_once(' ').unwrap().0;
        assert!(error.contains("line 2") && error.contains(key), "{line}\n{error}");
        assert!(error.contains(expected), "{line}\n{error}");
    }
}

#[test]
fn a_role_says_how_readily_it_is_ended_for_memory() {
    let weight = |line: &str| {
        settings(&format!("{BASE}{line}"))
            .map(|settings| settings.catalog.roles["echo"].eviction_weight_percent)
    };
    assert_eq!(weight(""), Ok(100));
    assert_eq!(weight("eviction_weight_percent = 0"), Ok(0));
    assert!(weight("eviction_weight_percent = 1001").unwrap_err().contains("between 0 and 1000"));
}

#[test]
fn a_town_is_there_when_its_url_is_and_needs_its_id_and_a_token() {
    assert!(settings("[town]\nid = \"t\"").unwrap().town.is_none(), "the id alone names lines");
    let text = "[town]\nid = \"t\"\napi_url = \"https://h/v1/\"\ntoken = \"hunter2\"\ncall_ms = 70";
    let town = settings(text).unwrap().town.unwrap();
    assert_eq!((town.town_id.as_str(), town.token.expose()), ("t", "hunter2"));
    assert_eq!((town.call, town.heartbeat), (Duration::from_millis(70), Duration::from_secs(30)));
    let error = settings(&format!("{text}\nca_file = \"ca.pem\"")).unwrap_err();
    assert!(error.contains("town.ca_file: cannot read /etc/bulkhead/ca.pem: "), "{error}");
    let env = [
        ("GASTOWN_API_URL", "http://127.0.0.1:9"),
        ("GASTOWN_TOWN_ID", "other"),
        ("GASTOWN_CONTAINER_TOKEN", "hunter3"),
    ];
    let town = with_env(text, &env).unwrap().town.unwrap();
    assert_eq!((town.town_id.as_str(), town.token.expose()), ("other", "hunter3"));
    let error = with_env(text, &env[..2]).unwrap_err();
    assert!(
        error.contains("GASTOWN_CONTAINER_TOKEN"),
        "a token of the file goes to no other town: {error}"
    );
}

#[test]
fn a_bad_town_is_refused_by_its_key_and_without_its_token() {
    for (text, key, what) in [
        ("[town]\ntoken = \"hunter2\"", "town.token", "town.api_url"),
        ("[town]\nca_file = \"x\"", "town.ca_file", "town.api_url"),
        ("[town]\nid = \"t\"\napi_url = \"h\"\ntoken = \"hunter2\"", "town.api_url", "http://"),
        ("[town]\nid = \"t\"\napi_url = \"http://a:hunter2@h\"", "town.api_url", "password"),
        ("[town]\napi_url = \"http://h\"\ntoken = \"hunter2\"", "town.api_url", "town.id"),
        ("[town]\nid = \"t\"\napi_url = \"http://h\"", "town.api_url", "town.token"),
        ("[town]\nheartbeat_ms = 0", "line 2", "at least 1"),
    ] {
        let error = settings(text).unwrap_err();
        assert!(error.contains(key) && error.contains(what), "{text}\n{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let error = with_env("", &[("GASTOWN_CONTAINER_TOKEN", "hunter2")]).unwrap_err();
    assert!(
        error.starts_with("GASTOWN_CONTAINER_TOKEN: ") && !error.contains("hunter2"),
        "{error}"
    );
}
