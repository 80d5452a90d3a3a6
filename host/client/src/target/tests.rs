use std::collections::BTreeMap;

use super::*;

const NO_FILE: ReadConfig = |path| Err(format!("no {}", path.display()));

const FILE: ReadConfig = |_| {
    let token = Some(Secret::from("of-the-file".to_owned()));
    let state_dir = "/nowhere".into();
    Ok(Configured { listen: SocketAddr::from(([0, 0, 0, 0], 9000)), token, state_dir })
};

fn args(url: Option<&str>, config: Option<&str>) -> HostArgs {
    HostArgs {
        url: url.map(str::to_owned),
        token_file: None,
        ca_file: None,
        config: config.map(PathBuf::from),
        timeout: None,
    }
}

fn find_in(
    args: &HostArgs,
    variables: &[(&str, &str)],
    read_config: ReadConfig,
) -> Result<(String, Option<String>), String> {
    let variables: BTreeMap<_, _> = variables.iter().copied().collect();
    let target = find(args, |name| variables.get(name).map(OsString::from), read_config)?;
    let header = |value: HeaderValue| value.to_str().expect("ASCII").to_owned();
    Ok((target.url, target.authorization.map(header)))
}

fn bearer(token: &str) -> Option<String> {
    Some(format!("Bearer {token}"))
}

#[test]
fn the_first_that_names_an_address_is_believed() {
    let listen = [("BULKHEAD_LISTEN", "127.0.0.1:7000")];
    let url = |args: &HostArgs, variables: &[(&str, &str)], config| {
        find_in(args, variables, config).map(|found| found.0)
    };
    let ok = |text: &str| Ok(text.to_owned());
    assert_eq!(url(&args(None, None), &[], NO_FILE), ok("http://127.0.0.1:8080"));
    assert_eq!(url(&args(None, Some("x")), &[], FILE), ok("http://127.0.0.1:9000"));
    assert_eq!(url(&args(None, Some("x")), &listen, FILE), ok("http://127.0.0.1:7000"));
    let named = args(Some("http://town:81/api/"), Some("x"));
    assert_eq!(url(&named, &listen, FILE), ok("http://town:81/api"));
    let any = [("BULKHEAD_LISTEN", "[::]:7000")];
    assert_eq!(url(&args(None, None), &any, NO_FILE), ok("http://[::1]:7000"));
}

#[test]
fn the_token_that_a_host_left_in_its_state_directory_is_found() {
    const CONFIGURED: ReadConfig = |path| {
        let listen = SocketAddr::from(([127, 0, 0, 1], 9000));
        Ok(Configured { listen, token: None, state_dir: path.join("state") })
    };
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let token = |args: &HostArgs, variables: &[(&str, &str)]| {
        find_in(args, variables, CONFIGURED).map(|found| found.1)
    };
    let own = args(None, dir.path().to_str());
    assert_eq!(token(&own, &[]), Ok(None));
    std::fs::write(state.join(TOKEN_FILE), "of-the-state\n").unwrap();
    assert_eq!(token(&own, &[]), Ok(bearer("of-the-state")));
    assert_eq!(token(&own, &[("BULKHEAD_CONTROL_TOKEN", "t")]), Ok(bearer("t")));
    assert_eq!(token(&own, &[("BULKHEAD_STATE_DIR", "/nowhere")]), Ok(None));
    let variable = [("BULKHEAD_STATE_DIR", state.to_str().unwrap())];
    assert_eq!(token(&args(None, None), &variable), Ok(bearer("of-the-state")));
    assert_eq!(token(&args(Some("http://town"), dir.path().to_str()), &variable), Ok(None));
}

#[test]
fn the_token_of_the_configuration_goes_to_no_other_host() {
    let token = |args: &HostArgs, variables: &[(&str, &str)]| {
        find_in(args, variables, FILE).map(|found| found.1)
    };
    let own = args(None, Some("x"));
    let other = args(Some("http://town"), Some("x"));
    let variable = [("BULKHEAD_CONTROL_TOKEN", "of-the-variable")];
    assert_eq!(token(&own, &[]), Ok(bearer("of-the-file")));
    assert_eq!(token(&own, &variable), Ok(bearer("of-the-variable")));
    assert_eq!(token(&other, &[]), Ok(None));
    assert_eq!(token(&other, &variable), Ok(bearer("of-the-variable")));

    // The very address where the configuration has the host listen is no other host.
    let named = |url| args(Some(url), Some("x"));
    assert_eq!(token(&named("http://127.0.0.1:9000/"), &[]), Ok(bearer("of-the-file")));
    for url in [
        "https://127.0.0.1:9000",
        "http://127.0.0.1:9001",
        "http://127.0.0.2:9000",
        "http://localhost:9000",
        "http://127.0.0.1:9000/api",
    ] {
        assert_eq!(token(&named(url), &[]), Ok(None), "{url}");
    }
    let listen = [("BULKHEAD_LISTEN", "127.0.0.1:7000")];
    assert_eq!(token(&named("http://127.0.0.1:9000"), &listen), Ok(None));
    assert_eq!(token(&named("http://127.0.0.1:7000"), &listen), Ok(bearer("of-the-file")));
    let broken = find_in(&named("http://127.0.0.1:9000"), &[], NO_FILE);
    assert_eq!(broken, Ok(("http://127.0.0.1:9000".to_owned(), None)));

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let with_file =
        || HostArgs { token_file: Some(file.clone()), ..args(Some("http://town"), None) };
    assert!(token(&with_file(), &variable).unwrap_err().contains("cannot read the secret"));
    std::fs::write(&file, "hunter2\n").unwrap();
    assert_eq!(token(&with_file(), &variable), Ok(bearer("hunter2")));
    for (text, problem) in [("\n", "no secret"), ("hunter2\nmore", "more than one line")] {
        std::fs::write(&file, text).unwrap();
        let error = token(&with_file(), &[]).unwrap_err();
        assert!(error.contains(problem) && !error.contains("hunter2"), "{error}");
    }
    std::fs::write(&file, "hunter2\u{7}").unwrap();
    let error = token(&with_file(), &[]).unwrap_err();
    assert!(error.contains("no header") && !error.contains("hunter2"), "{error}");
}

#[test]
fn a_file_that_a_variable_names_has_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "of-the-file\n").unwrap();
    let named = ("BULKHEAD_CONTROL_TOKEN_FILE", file.to_str().unwrap());
    let token = |variables: &[(&str, &str)]| {
        find_in(&args(Some("http://town"), None), variables, NO_FILE).map(|found| found.1)
    };
    assert_eq!(token(&[named]), Ok(bearer("of-the-file")));
    assert_eq!(token(&[named, ("BULKHEAD_CONTROL_TOKEN", "x")]), Ok(bearer("x")));
    std::fs::remove_file(&file).unwrap();
    assert!(token(&[named]).unwrap_err().contains("cannot read the secret"));
}

#[test]
fn a_token_in_the_clear_is_warned_of_unless_it_stays_on_this_machine() {
    let warns = |url: &str, token: Option<&str>| {
        let api = parse(url).unwrap();
        let authorization = token.map(|token| HeaderValue::from_str(token).unwrap());
        let connector = Connector::default();
        let target =
            Target { url: url.to_owned(), api, connector, authorization, is_default: false };
        let warning = target.warning();
        // At the address of the configuration it would get the token of the host there.
        let is_safe = |text: &str| !text.contains("hunter2") && text.contains("a port that is not");
        assert!(warning.as_deref().is_none_or(is_safe), "{warning:?}");
        warning.is_some()
    };
    for url in ["http://town:81", "http://10.0.0.1", "http://[fd00::1]", "http://localhost.example"]
    {
        assert!(warns(url, Some("hunter2")), "{url}");
        assert!(!warns(url, None), "{url}");
    }
    for url in [
        "https://town",
        "http://127.0.0.1",
        "http://127.9.9.9",
        "http://[::1]",
        "http://LocalHost.",
        "http://a.localhost",
    ] {
        assert!(!warns(url, Some("hunter2")), "{url}");
    }
}

#[test]
fn a_configuration_that_was_named_must_be_there() {
    let error = find_in(&args(None, Some("gone.toml")), &[], NO_FILE).unwrap_err();
    assert!(error.contains("no gone.toml") && error.contains("--url"), "{error}");
}

#[test]
fn an_address_that_cannot_be_asked_says_why() {
    for (url, why) in [
        ("127.0.0.1:18080", "expected http://127.0.0.1:18080"),
        ("town.example/api", "expected http://town.example/api"),
        ("hunter2@town", "must not contain a user"),
        ("localhost", "http://"),
        ("ftp://town", "https://"),
        ("http://", "not a host address"),
        ("http://town?x=1", "query"),
        ("http://town:99999", "port"),
        ("http://town:0", "port \"0\""),
        ("http://hunter2@town", "must not contain a user"),
        ("http://a b", "not a host address"),
        ("", "not a host address"),
    ] {
        let error = parse(url).unwrap_err();
        assert!(error.contains(why) && !error.contains("hunter2"), "{url}: {error}");
    }
    assert_eq!(parse("http://[::1]:9/").unwrap().to_string(), "http://[::1]:9");
    assert_eq!(parse("https://town/").unwrap().to_string(), "https://town");
}

#[test]
fn certificates_and_proxies_are_read_where_they_have_a_part() {
    let bad = [("SSL_CERT_FILE", "/nowhere/ca.pem"), ("HTTPS_PROXY", "socks5://p:1")];
    let found = |url: &str, variables: &[(&str, &str)]| {
        find_in(&args(Some(url), None), variables, NO_FILE).map(|found| found.0)
    };
    assert_eq!(found("http://127.0.0.1:1", &bad), Ok("http://127.0.0.1:1".to_owned()));
    let error = found("https://town", &bad[..1]).unwrap_err();
    assert!(error.starts_with("SSL_CERT_FILE: cannot read /nowhere/ca.pem"), "{error}");
    let error = found("http://town", &bad[1..]).unwrap_err();
    assert!(error.starts_with("HTTPS_PROXY"), "{error}");
    let own =
        HostArgs { ca_file: Some("/nowhere/own.pem".into()), ..args(Some("https://town"), None) };
    let error = find_in(&own, &bad[..1], NO_FILE).unwrap_err();
    assert!(error.starts_with("--ca-file: cannot read /nowhere/own.pem"), "{error}");
}
