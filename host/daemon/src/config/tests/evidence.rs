use super::*;

#[test]
fn evidence_goes_to_a_sink_under_a_name() {
    assert!(settings("").unwrap().evidence.is_none());
    let shown = |text: &str, env: &[(&str, &str)]| {
        let evidence = with_env(text, env).unwrap().evidence.unwrap().settings;
        (evidence.sink.to_string(), evidence.name.as_str().to_owned())
    };
    let town = "[town]\nid = \"t-1\"\n";
    let text = format!("{town}[evidence]\nsink = \"https://x.example/a/\"");
    assert_eq!(shown(&text, &[]), ("https://x.example/a".into(), "t-1".into()));
    let env = [("BULKHEAD_EVIDENCE_SINK", "file:///other"), ("BULKHEAD_EVIDENCE_NAME", "n")];
    assert_eq!(shown(town, &env), ("file:///other".into(), "n".into()));
    let text = "[evidence]\nsink = \"s3://bucket/p\"\nname = \"n\"\naccess_key_id = \"k\"\nsecret_access_key = \"hunter2\"";
    let evidence = settings(text).unwrap().evidence.unwrap();
    assert!(!format!("{evidence:?}").contains("hunter2"));
    let env = [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "hunter2")];
    assert_eq!(shown("[evidence]\nsink = \"s3://bucket\"\nname = \"n\"", &env).0, "s3://bucket");
    // They are for other programs as well, and mean nothing without a bucket.
    assert!(with_env("", &env).unwrap().evidence.is_none());
}

#[test]
fn a_sink_that_cannot_be_used_is_refused_and_no_secret_is_shown() {
    let sink = |sink: &str, more: &str| format!("[evidence]\nsink = {sink:?}\n{more}");
    for (text, parts) in [
        (sink("ftp://x", "name = \"n\""), ["evidence.sink", "it has to begin with"]),
        (sink("https://u:hunter2@x", "name = \"n\""), ["evidence.sink", "use evidence.token"]),
        (sink("https://x", ""), ["evidence.sink", "evidence.name"]),
        (sink("https://x", "name = \"a/b\""), ["evidence.name", "1 to 128"]),
        (sink("https://x", "name = \"n\"\nregion = \"r\""), ["evidence.region", "in S3"]),
        (sink("file:///x", "name = \"n\"\ntoken = \"hunter2\""), ["evidence.token", "by HTTP"]),
        (
            sink("s3://bucket", "name = \"n\"\nsecret_access_key = \"hunter2\""),
            ["evidence.sink", "needs both"],
        ),
        ("[evidence]\ntoken = \"hunter2\"".into(), ["evidence.token", "without a sink"]),
        ("[evidence]\nname = \"n\"".into(), ["evidence.name", "without a sink"]),
        (
            "[town]\nid = \"a b\"\n[evidence]\nsink = \"https://x\"".into(),
            ["evidence.sink", "set evidence.name"],
        ),
    ] {
        let error = settings(&text).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    // The token of the file is not for the sink of the variable.
    let text = sink("https://x", "name = \"n\"\ntoken = \"hunter2\"");
    let other = with_env(&text, &[("BULKHEAD_EVIDENCE_SINK", "http://127.0.0.1:1")]).unwrap();
    let bulkhead_evidence::Address::Http { token, .. } = other.evidence.unwrap().settings.sink
    else {
        panic!()
    };
    assert_eq!(token.current(), Ok(None));
}
