use bulkhead_oci::Login;

use super::*;

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What openssl made, for no other purpose.
const KEY: &str = include_str!("../../../../oci/tests/signed/cosign.pub");

fn toast(more: &str) -> String {
    format!("[components.toast]\nreference = \"oci://h.example/toast:v1@sha256:{HEX}\"\n{more}")
}

#[test]
fn a_component_of_a_registry_has_a_path_where_it_will_be() {
    let settings = settings(&format!("{BASE}{}", toast("[limits]\ncomponent_mb = 3"))).unwrap();
    let place = format!("state/components/{HEX}/component.wasm");
    let files = &settings.catalog.components;
    assert!(files["toast"].ends_with(&place), "{files:?}");
    assert!(files["echo"].ends_with("echo.wasm"), "{files:?}");
    assert!(settings.runtime.components.contains(&files["toast"]));
    let components = settings.components;
    assert_eq!(components.wanted.keys().map(|it| &**it).collect::<Vec<_>>(), ["toast"]);
    assert_eq!(components.registries.bounds.max_component_bytes, 3 * 1024 * 1024);
}

#[test]
fn a_registry_has_a_user_or_a_file_of_credentials() {
    let text = "[registries.\"H.example:5000\"]\nusername = \"u\"\npassword = \"hunter2\"\nplain_http = true\n\
        [registries.\"*\"]\ncredentials_file = \"config.json\"";
    let components = settings(text).unwrap().components;
    let access = &components.registries.registries["h.example:5000"];
    assert!(matches!(&access.login, Login::User { name, .. } if name == "u"));
    assert_eq!(access.plain_http, Some(true));
    let Login::File(path) = &components.registries.others.login else { panic!("{components:?}") };
    assert_eq!(&components.files, std::slice::from_ref(path));
    assert!(path.ends_with("config.json") && path.is_absolute(), "{}", path.display());
    assert!(!format!("{components:?}").contains("hunter2"));
}

#[test]
fn a_public_key_is_of_a_component_or_of_a_registry() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cosign.pub");
    std::fs::write(&path, KEY).unwrap();
    let key = format!("public_key_file = {path:?}\n");
    let text = format!("{}[registries.\"*\"]\n{key}", toast(&key));
    let components = settings(&text).unwrap().components;
    assert!(components.wanted["toast"].public_key.is_some());
    assert!(components.registries.others.public_key.is_some());
    std::fs::write(&path, "hello").unwrap();
    let error = settings(&toast(&key)).unwrap_err();
    assert!(error.contains("public_key_file") && error.contains("no public key in PEM"), "{error}");
}

#[test]
fn what_cannot_be_is_refused_by_its_key() {
    let registry = |text: &str| format!("[registries.\"h.example\"]\n{text}");
    for (text, parts) in [
        ("[components.toast]\n".into(), ["components.toast.path", "`path` or `reference`"]),
        (toast("path = \"a.wasm\""), ["components.toast.reference", "both set"]),
        (
            "[components.toast]\nreference = \"oci://h/toast:v1\"".into(),
            ["components.toast.reference", "the tag v1 may move"],
        ),
        (
            "[components.toast]\npath = \"a.wasm\"\npublic_key_file = \"k\"".into(),
            ["public_key_file", "with a reference"],
        ),
        (toast("public_key_file = \"/nowhere/k\""), ["public_key_file", "cannot be read"]),
        (registry("username = \"u\""), ["username", "needs password"]),
        (registry("password = \"hunter2\""), ["password", "needs username"]),
        (registry("username = \"u\"\npassword_file = \"/nowhere\""), ["password_file", "nowhere"]),
        (
            registry("username = \"u\"\npassword = \"hunter2\"\npassword_file = \"x\""),
            ["password", "remove one"],
        ),
        (registry("username = \"u\"\ncredentials_file = \"x\""), ["credentials_file", "both set"]),
        (registry("ca_file = \"/nowhere/ca.pem\""), ["ca_file", "cannot read"]),
        ("[registries.\"*\"]\nca_file = \"ca.pem\"".into(), ["ca_file", "all others"]),
        ("[registries.\"https://h\"]".into(), ["registries.https://h", "host:port"]),
    ] {
        let error = settings(&text).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
