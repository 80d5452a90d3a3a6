//! Where a message says that something is wrong, and what is not passed over in silence.

use super::*;

#[track_caller]
fn refused(text: &str, env: &[(&str, &str)], parts: &[&str]) {
    let error = with_env(text, env).map(|_| ()).unwrap_err();
    assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
}

#[test]
fn what_lacks_a_key_or_has_it_beside_another_is_shown_with_its_line() {
    let lease = "[lease]\nregister = \"file:///r\"\nname = \"town\"\n";
    for (text, parts) in [
        ("[secrets.g]\nhosts = [\"a.example:443\"]".into(), ["line 1, secrets.g:", "has no value"]),
        ("[tools.env]\nA = \"1\"\n\"B=\" = \"2\"".into(), ["line 3, tools.env.B=", "no name"]),
        (format!("{BASE}durable = \"fleet\""), ["line 6, roles.echo.durable", "set ship.to"]),
        (format!("{BASE}git_save = true"), ["line 6, roles.echo.git_save", "of no use"]),
        (
            format!("{BASE}git = true\nworkspace = false"),
            ["line 6, roles.echo.git:", "workspace = false"],
        ),
        ("[roles.a]\nrestart_max = 1".into(), ["line 1, roles.a", "component"]),
        ("[registries.\"https://h\"]".into(), ["line 1, registries.https://h", "host:port"]),
        ("[ship]\ninterval_ms = 5".into(), ["line 2, ship.interval_ms", "without a place"]),
        ("[ship]\nworkspaces = false".into(), ["line 2, ship.workspaces", "without a place"]),
        (
            "[evidence]\nheartbeat_ms = 5".into(),
            ["line 2, evidence.heartbeat_ms", "without a sink"],
        ),
        ("[evidence]\nfetch_ms = 5".into(), ["line 2, evidence.fetch_ms", "without a sink"]),
        (
            format!("{lease}[ship]\nto = \"file:///etc/bulkhead/state/place\""),
            ["line 5, ship.to", "in the state directory"],
        ),
        (
            "[rigs.a]\nurl = \"https://a.example/b\"\ndefault_branch = \"--upload-pack=x\"".into(),
            ["line 3, rigs.a.default_branch", "dash"],
        ),
        (
            "[models.a]\nbase_url = \"http://a\"\nprices.x = { inpt = 1 }".into(),
            ["line 3, models.a.prices.x.inpt", "unknown field"],
        ),
        (
            "[models.a]\nbase_url = \"http://a\"\n[models.a.prices.\"x y\"]".into(),
            ["line 3, models.a.prices.\"x y\"", "has none"],
        ),
    ] {
        refused(&text, &[], &parts);
    }
}

#[test]
fn what_a_variable_brought_is_named_by_the_variable() {
    for (env, parts) in [
        (("BULKHEAD_EVIDENCE_NAME", "n"), ["BULKHEAD_EVIDENCE_NAME: ", "without a sink"]),
        (("BULKHEAD_EVIDENCE_TOKEN", "t"), ["BULKHEAD_EVIDENCE_TOKEN: ", "without a sink"]),
    ] {
        refused("", &[env], &parts);
    }
    let proxy = ("HTTPS_PROXY", "http://a:1");
    for wrong in ["10.0.0.0/99", "10.1.2.3/x", "a.example,http://a"] {
        refused("", &[proxy, ("NO_PROXY", wrong)], &["NO_PROXY: entry"]);
    }
    with_env("", &[proxy, ("NO_PROXY", "a.example, .b, 10.0.0.0/8,fd00::/8,*")]).unwrap();
}

#[test]
fn an_endpoint_that_makes_no_url_is_refused() {
    let lease = "[lease]\nregister = \"s3://bucket\"\nname = \"town\"\n";
    for bad in ["minio:9000", "127.0.0.1:1", "http://", "http:///x", "https://x y", "", "ftp://x"] {
        refused(&format!("{lease}endpoint = {bad:?}"), &[], &["line 4, lease.endpoint"]);
        let sink = format!("[evidence]\nsink = \"s3://bucket\"\nname = \"n\"\nendpoint = {bad:?}");
        refused(&sink, &[], &["line 4, evidence.endpoint"]);
        if !bad.is_empty() {
            refused(lease, &[("AWS_ENDPOINT_URL", bad)], &["AWS_ENDPOINT_URL: "]);
            with_env("", &[("AWS_ENDPOINT_URL", bad)]).unwrap();
        }
    }
    refused(&format!("{lease}region = \"a b\""), &[], &["line 4, lease.region"]);
    settings(&format!("{lease}endpoint = \"http://minio:9000\"")).unwrap();
}
