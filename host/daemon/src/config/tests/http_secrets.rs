//! `[secrets.NAME]`: credentials for HTTP services.

use super::*;

/// A secret that may be used as it is, with one more line.
fn with(line: &str) -> Result<Settings, String> {
    settings(&format!("[secrets.github]\nhosts = [\"api.github.com\"]\n{line}\n"))
}

#[test]
fn a_secret_that_could_never_be_used_is_refused_with_its_key_and_line() {
    let value = "value = \"ghp_hush-hush\"";
    for (line, key, part) in [
        ("headers = []", "headers", "names no header"),
        ("headers = [\"a b\"]", "headers", "letters, digits and -"),
        ("headers = [\"Host\"]", "headers", "the host sets this header itself"),
        ("headers = [\"te\"]", "headers", "the host sets this header itself"),
        ("template = \"Bearer\"", "template", "has to contain {value} once"),
        ("template = \"{value} {value}\"", "template", "has to contain {value} once"),
    ] {
        let error = with(&format!("{line}\n{value}")).unwrap_err();
        assert!(error.contains(&format!("line 3, secrets.github.{key}: ")), "{error}");
        assert!(error.contains(part) && !error.contains("hush"), "{error}");
    }
    let error = with(&format!("{value}\ntemplate = \"a\\n{{value}}\"")).unwrap_err();
    assert!(error.contains("secrets.github.template: "), "{error}");
    let nowhere = format!("[secrets.github]\nhosts = []\n{value}");
    let error = settings(&nowhere).unwrap_err();
    assert!(error.contains("line 2, secrets.github.hosts: names no host"), "{error}");
    let error = settings(&format!("[secrets.\"a b\"]\nhosts = [\"h\"]\n{value}")).unwrap_err();
    assert!(error.contains("a name of a secret has 1 to 64 characters"), "{error}");
}

#[test]
fn a_secret_has_one_value_of_eight_bytes_or_more() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, "short\n").unwrap();
    let short_file = format!("value_file = {:?}", file.to_str().unwrap());
    let missing = "value_file = \"/nowhere/secret\"";
    for (lines, parts) in [
        ("".to_owned(), ["secrets.github", "has no value: set value, value_file or value_env"]),
        (
            "value = \"1234567\"".to_owned(),
            ["secrets.github.value: ", "at least 8 bytes, this one has 7"],
        ),
        (short_file, ["secrets.github.value_file: ", "at least 8 bytes, this one has 5"]),
        (missing.to_owned(), ["secrets.github.value_file: ", "/nowhere/secret"]),
        (format!("value = \"12345678\"\n{missing}"), ["secrets.github", "value_file"]),
        (
            "value_env = \"NO_SUCH_TOKEN\"".to_owned(),
            ["secrets.github.value_env: ", "NO_SUCH_TOKEN"],
        ),
    ] {
        let error = with(&lines).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{lines}: {error}");
        assert!(!error.contains("1234567"), "{error}");
    }
    with("value = \"12345678\"").unwrap();
    std::fs::write(&file, "long-enough\n").unwrap();
    with(&format!("value_file = {:?}", file.to_str().unwrap())).unwrap();
    let text = "[secrets.github]\nhosts = [\"api.github.com\"]\nvalue_env = \"TOKEN\"";
    with_env(text, &[("TOKEN", "long-enough")]).unwrap();
    let error = with_env(text, &[("TOKEN", "1234567")]).err().unwrap();
    assert!(error.contains("at least 8 bytes"), "{error}");
}

#[test]
fn a_role_has_the_secrets_that_it_lists_and_no_other() {
    let secret = "[secrets.github]\nhosts = [\"api.github.com\"]\nvalue = \"ghp_hush-hush\"\n";
    let text = |name: &str| {
        format!("{secret}{BASE}http_allow = [\"api.github.com\"]\nsecrets = [{name:?}]")
    };
    let settings = settings(&text("github")).unwrap();
    let names: Vec<_> =
        settings.catalog.roles["echo"].http.secrets.iter().map(|it| it.to_string()).collect();
    assert_eq!(names, ["github"]);
    let error = self::settings(&text("gitlab")).unwrap_err();
    assert!(error.contains("gitlab"), "{error}");
}
