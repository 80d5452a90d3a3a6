use super::*;

#[test]
fn a_lease_is_that_of_the_town() {
    assert!(settings("").unwrap().lease.is_none());
    let shown = |text: &str, env: &[(&str, &str)]| {
        let lease = with_env(text, env).unwrap().lease.unwrap().settings;
        (lease.register.to_string(), lease.town.as_str().to_owned(), lease.ttl.get().as_millis())
    };
    let town = "[town]\nid = \"t-1\"\n";
    let text = format!("{town}[lease]\nregister = \"s3://towns/leases\"\nttl_ms = 20000");
    assert_eq!(shown(&text, &[]), ("s3://towns/leases".into(), "t-1".into(), 20_000));
    let env = [("BULKHEAD_LEASE_REGISTER", "file:///a")];
    assert_eq!(shown(town, &env), ("file:///a".into(), "t-1".into(), 10_000));
    let text = "[lease]\nregister = \"etcd://a:2379\"\nname = \"n\"\nusername = \"u\"\npassword = \"hunter2\"";
    let lease = settings(text).unwrap().lease.unwrap();
    assert!(!format!("{lease:?}").contains("hunter2"));
}

#[test]
fn a_lease_in_kubernetes_is_reached_from_its_pod() {
    let text = "[lease]\nregister = \"kubernetes://towns\"\nname = \"hill\"\n";
    let lease = |text: &str, env: &[(&str, &str)]| {
        let settings = with_env(text, env).unwrap().lease.unwrap().settings;
        let bulkhead_lease::Address::Kubernetes(at) = settings.register else { panic!() };
        let server = at.server.map(|server| server.to_string());
        (server, at.token_file.is_some(), at.ca_file.is_some())
    };
    let pod = [("KUBERNETES_SERVICE_HOST", "fd00::1"), ("KUBERNETES_SERVICE_PORT", "443")];
    assert_eq!(lease(text, &pod), (Some("https://[fd00::1]".into()), true, true));
    assert_eq!(lease(text, &[]), (None, true, true));
    let proxied = format!("{text}endpoint = \"http://127.0.0.1:8001\"");
    assert_eq!(lease(&proxied, &pod), (Some("http://127.0.0.1:8001".into()), false, false));
}

#[test]
fn a_lease_in_nats_has_one_login() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("seed");
    std::fs::write(&file, "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY\n").unwrap();
    for (more, shown) in [
        (String::new(), "None"),
        ("username = \"u\"\npassword = \"hunter2\"".into(), "User(\"u\", [redacted])"),
        ("token = \"hunter2\"".into(), "Token([redacted])"),
        (
            format!("credentials_file = {file:?}"),
            "Key(UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4, None)",
        ),
    ] {
        let text = format!("[lease]\nregister = \"nats://a,b/towns\"\nname = \"hill\"\n{more}");
        let register = settings(&text).unwrap().lease.unwrap().settings.register;
        assert_eq!(register.to_string(), "nats://a:4222,b:4222/towns");
        let bulkhead_lease::Address::Nats(nats) = register else { panic!() };
        assert_eq!(format!("{:?}", nats.login), shown);
    }
}

#[test]
fn a_register_that_cannot_be_used_is_refused_and_no_secret_is_shown() {
    let lease = |register: &str, more: &str| format!("[lease]\nregister = {register:?}\n{more}");
    for (text, parts) in [
        (lease("redis://x", "name = \"n\""), ["lease.register", "it has to begin with"]),
        (lease("nats://x", "name = \"n\""), ["lease.register", "a bucket of"]),
        (lease("nats://u:hunter2@x/b", "name = \"n\""), ["lease.register", "a password"]),
        (lease("nats://x/b", "name = \"n\"\nregion = \"r\""), ["lease.region", "in S3"]),
        (
            lease("nats://x/b", "name = \"n\"\npassword = \"hunter2\""),
            ["lease.register", "needs both"],
        ),
        (
            lease("nats://x/b", "name = \"n\"\ntoken = \"hunter2\"\ncredentials_file = \"x\""),
            ["lease.register", "takes one of"],
        ),
        (lease("etcd://a", "name = \"n\"\ntoken = \"hunter2\""), ["lease.token", "in NATS"]),
        (
            lease("nats://x/b", "name = \"n\"\ncredentials_file = \"/nowhere\""),
            ["lease.credentials_file", "nowhere"],
        ),
        (lease("file:///x", ""), ["lease.register", "lease.name or town.id"]),
        (lease("file:///x", "name = \"a/b\""), ["lease.name", "1 to 128"]),
        (lease("file:///x", "name = \"n\"\nregion = \"r\""), ["lease.region", "in S3"]),
        (lease("s3://bucket", "name = \"n\"\nusername = \"u\""), ["lease.username", "in etcd"]),
        (lease("etcd://a", "name = \"n\"\nusername = \"u\""), ["lease.register", "needs both"]),
        (
            lease("s3://bucket", "name = \"n\"\nsecret_access_key = \"hunter2\""),
            ["lease.register", "needs both"],
        ),
        (lease("kubernetes://x", "name = \"N\""), ["lease.register", "set lease.name"]),
        (lease("kubernetes://x", "name = \"n\"\nregion = \"r\""), ["lease.region", "in S3"]),
        (lease("kubernetes://x", "name = \"n\"\nendpoint = \"x\""), ["lease.endpoint", "begin"]),
        (lease("file:///x", "name = \"n\"\nttl_ms = 1999"), ["lease.ttl_ms", "2 s to 600 s"]),
        ("[lease]\nname = \"n\"".into(), ["lease.name", "without a register"]),
        ("[lease]\npassword = \"hunter2\"".into(), ["lease.password", "without a register"]),
        (
            "[town]\nid = \"a b\"\n[lease]\nregister = \"file:///x\"".into(),
            ["lease.register", "set lease.name"],
        ),
    ] {
        let error = settings(&text).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_register_that_the_command_line_names_is_wrong_by_the_name_of_its_option() {
    let error = register(None, Some("junk")).unwrap_err().to_string();
    assert!(error.starts_with("--register: it has to begin with"), "{error}");
}
