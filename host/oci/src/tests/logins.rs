//! Who asks, and whom credentials reach.

use bulkhead_net::Credential;

use super::server::{Asked, Reply};
use super::*;
use crate::{Access, Login};

/// `toaster:hunter2`.
const BASIC: &str = "Basic dG9hc3RlcjpodW50ZXIy";

fn toaster() -> Access {
    let password = Credential::fixed("hunter2".to_owned().into());
    let login = Login::User { name: "toaster".into(), password };
    Access { login, ..Access::default() }
}

/// Wants a token of its realm, which grants one to `granted_to`.
fn wants_a_token(town: &Town, granted_to: Option<&'static str>) {
    let realm = format!("http://{}/token?x=1", town.server.at);
    town.server.answers(move |asked, _| {
        if asked.path.starts_with("/token") {
            return Some(match asked.authorization.as_deref() == granted_to {
                true => Reply::new(200, br#"{"access_token":"t0k3n","expires_in":60}"#),
                false => {
                    Reply::new(401, br#"{"errors":[{"code":"UNAUTHORIZED","message":"who?"}]}"#)
                }
            });
        }
        let challenge =
            format!(r#"Bearer realm="{realm}",service="a b",scope="repository:other:push""#);
        let is_known = asked.authorization.as_deref() == Some("Bearer t0k3n");
        (!is_known).then(|| Reply::new(401, b"").with("WWW-Authenticate", challenge))
    });
}

fn wants_a_password(town: &Town) {
    town.server.answers(|asked, _| {
        let is_known = asked.authorization.as_deref() == Some(BASIC);
        (!is_known).then(|| Reply::new(401, b"").with("WWW-Authenticate", "Basic realm=\"x\""))
    });
}

fn authorizations(asked: &[Asked]) -> Vec<Option<&str>> {
    asked.iter().map(|it| it.authorization.as_deref()).collect()
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_for_this_repository_alone() {
    let town = Town::new();
    let digest = town.server.push(&wasm());
    wants_a_token(&town, None);
    town.get(digest).await.unwrap();
    let tokens = town.server.asked_for("/token");
    let [token] = &*tokens else { panic!("{tokens:?}") };
    assert_eq!(token.path, "/token?x=1&service=a+b&scope=repository%3Atown%2Ftoast%3Apull");
    let bearer = Some("Bearer t0k3n");
    let asked = town.server.asked_for("/v2/");
    assert_eq!(authorizations(&asked), [None, bearer, bearer], "{asked:?}");
}

#[tokio::test]
async fn a_user_is_shown_to_the_realm_and_to_nobody_else() {
    let mut town = Town::new();
    let digest = town.server.push(&wasm());
    wants_a_token(&town, Some(BASIC));
    town.settings.registries.insert(town.server.at.to_string(), toaster());
    town.get(digest).await.unwrap();
    assert_eq!(authorizations(&town.server.asked_for("/token")), [Some(BASIC)]);
    let asked = town.server.asked_for("/v2/");
    assert!(authorizations(&asked).iter().all(|it| *it != Some(BASIC)), "{asked:?}");
}

#[tokio::test]
async fn a_password_is_sent_to_a_registry_that_wants_one() {
    let mut town = Town::new();
    let digest = town.server.push(&wasm());
    wants_a_password(&town);
    let path = town.dir.path().join("config.json");
    fs::write(
        &path,
        format!(r#"{{"auths":{{"{}":{{"auth":"{}"}}}}}}"#, town.server.at, &BASIC[6..]),
    )
    .unwrap();
    town.settings.others.login = Login::File(path);
    town.get(digest).await.unwrap();
    assert_eq!(authorizations(&town.server.asked())[..2], [None, Some(BASIC)]);
}

#[tokio::test]
async fn a_refusal_names_the_registry_and_the_setting_and_no_secret() {
    let mut town = Town::new();
    let digest = town.server.push(&wasm());
    let at = town.server.at.to_string();
    wants_a_token(&town, Some("Basic nobody"));
    let cause = town.get(digest).await.unwrap_err().to_string();
    for part in [
        &*at,
        "no credentials are set for it",
        "UNAUTHORIZED: who?",
        "credentials_file",
        "password_file",
    ] {
        assert!(cause.contains(part), "{part}: {cause}");
    }
    assert!(cause.contains(&format!("[registries.\"{at}\"]")), "{cause}");
    town.settings.registries.insert(at, toaster());
    let cause = town.get(digest).await.unwrap_err();
    let text = format!("{cause} {cause:?} {:?}", town.settings);
    assert!(text.contains("the password of user \"toaster\" is not enough"), "{text}");
    assert!(!text.contains("hunter2") && !text.contains(&BASIC[6..]), "{text}");
    wants_a_password(&town);
    town.settings.registries.clear();
    let cause = town.get(digest).await.unwrap_err().to_string();
    assert!(cause.contains("no credentials are set for it"), "{cause}");
    town.has_nothing();
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_host() {
    let mut town = Town::new();
    let store = server::Server::start();
    let digest = town.server.push(&wasm());
    store.push(&wasm());
    let elsewhere = store.at;
    town.server.answers(move |asked, _| {
        if asked.authorization.as_deref() != Some(BASIC) {
            return Some(Reply::new(401, b"").with("WWW-Authenticate", "Basic realm=\"x\""));
        }
        let location = format!("http://{elsewhere}{}", asked.path);
        asked.path.contains("/blobs/").then(|| Reply::new(307, b"").with("Location", location))
    });
    town.settings.others = toaster();
    town.get(digest).await.unwrap();
    assert_eq!(authorizations(&store.asked()), [None]);
}

#[tokio::test]
async fn another_host_that_wants_credentials_gets_none() {
    let mut town = Town::new();
    let store = server::Server::start();
    let digest = town.server.push(&wasm());
    let elsewhere = store.at;
    store.answers(|_, _| Some(Reply::new(401, b"").with("WWW-Authenticate", "Basic realm=\"x\"")));
    town.server.answers(move |asked, _| {
        let location = format!("http://{elsewhere}{}", asked.path);
        asked.path.contains("/blobs/").then(|| Reply::new(302, b"").with("Location", location))
    });
    town.settings.others = toaster();
    let cause = town.get(digest).await.unwrap_err().to_string();
    assert!(cause.contains(&format!("{elsewhere} wants credentials")), "{cause}");
    assert_eq!(authorizations(&store.asked()), [None]);
}

#[tokio::test]
async fn a_realm_without_tls_elsewhere_gets_no_password() {
    let mut town = Town::new();
    let digest = town.server.push(&wasm());
    town.settings.others = toaster();
    for (realm, reason) in [
        ("http://auth.example/token", "wants a token of auth.example:80 over HTTP without TLS"),
        ("not a url", "wants a token of a realm that is no URL"),
    ] {
        let challenge = format!("Bearer realm=\"{realm}\"");
        town.server.answers(move |_, _| {
            Some(Reply::new(401, b"").with("WWW-Authenticate", challenge.clone()))
        });
        let cause = town.get(digest).await.unwrap_err().to_string();
        assert!(cause.ends_with(reason), "{cause}");
    }
}

#[tokio::test]
async fn a_realm_that_grants_nothing_is_named_without_its_answer() {
    let town = Town::new();
    let digest = town.server.push(&wasm());
    let realm = format!("Bearer realm=\"http://{}/token\"", town.server.at);
    town.server.answers(move |asked, _| {
        Some(match asked.path.starts_with("/token") {
            true => Reply::new(200, br#"{"refresh_token":"hunter2"}"#),
            false => Reply::new(401, b"").with("WWW-Authenticate", realm.clone()),
        })
    });
    let cause = town.get(digest).await.unwrap_err().to_string();
    assert!(cause.ends_with("grants tokens, and answered without one"), "{cause}");
}
