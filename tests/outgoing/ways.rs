//! Proxies and private authorities, for agents, the town and the client commands.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use harness::{Host, HostBuilder, Value, files, model_server, wait_until};
use town_server::{Options, TownServer};

use super::servers;

/// The host with these variables.
fn with(builder: HostBuilder, variables: &[String]) -> HostBuilder {
    let env = std::iter::once("env").chain(variables.iter().map(String::as_str));
    builder.run_by(&env.collect::<Vec<_>>())
}

fn hog(allow: &[&str]) -> HostBuilder {
    let role = format!("memory_limit_mb = 16\nhttp_allow = {allow:?}");
    Host::builder().guest("hog").role("hog", "hog", &role)
}

/// `bulkhead ps` at an address.
fn ps(url: &str, more: &[&str], variables: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new(files::binary());
    command.args(["ps", "--json", "--url", url]).args(more).envs(variables.iter().copied());
    let output = command.output().expect("run bulkhead");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn write(dir: &Path, name: &str, pem: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, pem).expect("write a certificate");
    path.to_str().expect("a path in UTF-8").to_owned()
}

#[test]
fn an_agent_reaches_both_schemes_through_their_proxies() {
    let dir = tempfile::tempdir().expect("make a directory");
    let (server, log) = servers::http("127.0.0.1:0");
    let (encrypted, authority) = servers::tls("town.invalid", server);
    let (proxy, asked) = servers::proxy(encrypted);
    let authority = write(dir.path(), "ca.pem", &authority);
    let builder = with(
        hog(&["town.invalid"]),
        &[
            format!("HTTP_PROXY=http://user:hunter2@{proxy}"),
            format!("https_proxy=http://{proxy}"),
            format!("SSL_CERT_FILE={authority}"),
        ],
    );
    let host = builder.start();
    host.client().start("hog", "hog");
    assert_eq!(host.client().ask("hog", "fetch 1 town.invalid /x"), "7", "from the proxy itself");
    assert_eq!(host.client().ask("hog", "fetch 1 https://town.invalid /y"), "4", "by a tunnel");
    let asked = asked.all();
    assert_eq!(asked[0].head[0], "GET http://town.invalid/x HTTP/1.1");
    assert!(asked[0].has("proxy-authorization: basic dxnlcjpodw50zxiy"), "{asked:?}");
    assert_eq!(asked[1].head[0], "CONNECT town.invalid:443 HTTP/1.1");
    assert_eq!(log.all()[0].head[0], "GET /y HTTP/1.1");
    let denied = host.client().ask("hog", "fetch 1 other.invalid /");
    assert!(denied.contains("HttpRequestDenied"), "a proxy is no way around the list: {denied}");
    host.finish();
}

#[test]
fn an_agent_believes_the_authority_of_the_environment_and_not_of_a_model() {
    let dir = tempfile::tempdir().expect("make a directory");
    let (server, _) = servers::http("127.0.0.1:0");
    let (encrypted, authority) = servers::tls("localhost", server);
    let authority = write(dir.path(), "ca.pem", &authority);
    let model = at(encrypted);
    let fetch = |host: &Host, at: &str| {
        if host.client().list().is_empty() {
            host.client().start("hog", "hog");
        }
        host.client().ask("hog", &format!("fetch 1 https://{at} /"))
    };
    let by_config =
        format!("[models.default]\nbase_url = \"https://{model}/v1\"\nca_file = {authority:?}");
    let host = hog(&[&model]).toml(&by_config).start();
    let refused = fetch(&host, &model);
    assert!(refused.contains("Tls"), "that authority is for the host's calls alone: {refused}");
    host.wait_for_line("the line that says why", |line| {
        let text = line["message"].as_str().unwrap_or_default();
        line["event"] == "agent.log"
            && text.contains("no TLS with localhost: ")
            && text.contains("certificate")
    });
    host.finish();
    let variables = [format!("SSL_CERT_FILE={authority}")];
    let host = with(hog(&[&model]), &variables).start();
    assert_eq!(fetch(&host, &model), "4");
    host.finish();
}

#[test]
fn a_model_is_believed_by_its_own_authority_and_only_there() {
    let dir = tempfile::tempdir().expect("make a directory");
    let model = model_server();
    let (encrypted, authority) = servers::tls("localhost", model.address());
    let (other, _) = servers::tls("localhost", model.address());
    let authority = write(dir.path(), "ca.pem", &authority);
    let endpoint = |name: &str, at: &str| {
        format!(
            "[models.{name}]\nbase_url = \"https://{at}/v1\"\nmodel = \"scripted\"\nca_file = {authority:?}\n"
        )
    };
    let models = endpoint("right", &at(encrypted)) + &endpoint("wrong", &at(other));
    let host = Host::builder()
        .toml(&models)
        .component("mayor", &files::component("mayor"))
        .role("right", "mayor", "models = [\"right\"]")
        .role("wrong", "mayor", "models = [\"wrong\"]")
        .start();
    host.client().start("right", "right");
    host.client().start("wrong", "wrong");
    assert_eq!(host.client().ask("right", "hello"), "Hello. I answer from a script.");
    host.client().send_wait("wrong", "hello").expect_error(502, &["TLS"]);
    assert_eq!(model.asked(), 1);
    host.finish();
}

/// `localhost:port`.
fn at(address: SocketAddr) -> String {
    format!("localhost:{}", address.port())
}

#[test]
fn the_client_commands_speak_tls_and_use_proxies() {
    let dir = tempfile::tempdir().expect("make a directory");
    let allowed = "[server]\nallowed_hosts = [\"town.invalid\"]";
    let host = Host::builder().toml(allowed).start().ready();
    let token = ("BULKHEAD_CONTROL_TOKEN", host.client().token().unwrap_or_default());
    let (encrypted, authority) = servers::tls("town.invalid", host.address());
    let (proxy, asked) = servers::proxy(encrypted);
    let authority = write(dir.path(), "ca.pem", &authority);
    let proxy = format!("http://{proxy}");
    let url = "https://town.invalid";
    let (ok, text) = ps(url, &["--ca-file", &authority], &[token, ("HTTPS_PROXY", &proxy)]);
    assert!(ok && serde_json::from_str::<Value>(&text).is_ok(), "{text}");
    assert_eq!(asked.all()[0].head[0], "CONNECT town.invalid:443 HTTP/1.1");
    let (ok, text) = ps(url, &[], &[token, ("HTTPS_PROXY", &proxy), ("SSL_CERT_FILE", &authority)]);
    assert!(ok, "{text}");
    let (ok, text) = ps(url, &[], &[token, ("HTTPS_PROXY", &proxy)]);
    assert!(!ok && text.contains("certificate"), "{text}");
    let local = format!("http://{}", host.address());
    let (ok, text) = ps(&local, &[], &[token, ("HTTP_PROXY", "http://127.0.0.1:1")]);
    assert!(ok, "this machine needs no proxy: {text}");
    host.finish();
}

#[test]
fn the_town_is_reached_through_a_proxy_and_believed_by_the_authority_of_the_environment() {
    let dir = tempfile::tempdir().expect("make a directory");
    let town = TownServer::start(Options::default()).expect("start a town server");
    let (encrypted, authority) = servers::tls("town.invalid", town.address());
    let (proxy, asked) = servers::proxy(encrypted);
    let authority = write(dir.path(), "ca.pem", &authority);
    let variables = [format!("HTTPS_PROXY=http://{proxy}"), format!("SSL_CERT_FILE={authority}")];
    let config = "[town]\nid = \"riverside\"\napi_url = \"https://town.invalid\"\n\
                  token = \"any\"\n";
    let host = with(Host::builder().toml(config), &variables).start();
    wait_until("the town is asked through the tunnel", || {
        asked.all().iter().any(|it| it.head[0] == "CONNECT town.invalid:443 HTTP/1.1")
    });
    wait_until("the town is reachable", || {
        host.events_named("town.unreachable").is_empty()
            && host.client().metrics()["bulkhead_town_reachable"] == 1.0
    });
    host.finish();
}
