//! Components that a registry has: fetched at boot, kept, and used without it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use harness::{Host, HostBuilder, files, json};
use hyper::Method;
use sha2::{Digest, Sha256};

/// A registry with one component, `town/echo`. It serves until the test ends.
struct Registry {
    address: SocketAddr,
    /// Of the manifest.
    digest: String,
    requests: Arc<AtomicUsize>,
}

impl Registry {
    fn start() -> Self {
        Self::with(std::fs::read(files::component("echo")).expect("read the component"))
    }

    fn with(wasm: Vec<u8>) -> Self {
        let (layer, config) = (digest(&wasm), b"{}".to_vec());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.wasm.config.v0+json", "digest": digest(&config), "size": 2},
            "layers": [{"mediaType": "application/wasm", "digest": layer, "size": wasm.len()}],
        });
        let manifest = manifest.to_string().into_bytes();
        let named = digest(&manifest);
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let served = BTreeMap::from([
            (format!("/v2/town/echo/manifests/{named}"), (kind, manifest)),
            (format!("/v2/town/echo/blobs/{layer}"), ("application/octet-stream", wasm)),
        ]);
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::Relaxed);
                // A client that goes away is none of the server's troubles.
                let _ = answer(stream, &served);
            }
        });
        Self { address, digest: named, requests }
    }

    fn reference(&self) -> String {
        format!("oci://{}/town/echo@{}", self.address, self.digest)
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn answer(
    mut stream: TcpStream,
    served: &BTreeMap<String, (&str, Vec<u8>)>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let line = lines.next().transpose()?.unwrap_or_default();
    lines.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).for_each(drop);
    let path = line.split(' ').nth(1).unwrap_or_default();
    let (status, kind, body) = match served.get(path) {
        Some((kind, body)) => ("200 OK", *kind, &body[..]),
        None => ("404 Not Found", "application/json", &b"{}"[..]),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    )?;
    stream.write_all(body)
}

fn host_with(reference: &str) -> HostBuilder {
    Host::builder()
        .toml(&format!("[components.fetched]\nreference = {reference:?}"))
        .role("fetched", "fetched", "")
}

/// `bulkhead check` of a host's configuration.
fn check(host: HostBuilder) -> Output {
    let dir = tempfile::tempdir().expect("make a directory");
    let config = dir.path().join("bulkhead.toml");
    std::fs::write(&config, host.render(&dir.path().join("state"))).expect("write it");
    let mut command = Command::new(files::binary());
    command.arg("check").arg("--config").arg(config).output().expect("run bulkhead check")
}

#[test]
fn a_component_is_fetched_at_boot_and_used_without_the_registry_afterwards() {
    let registry = Registry::start();
    let mut host = host_with(&registry.reference()).start();
    host.client().start("one", "fetched");
    assert_eq!(host.client().ask("one", "hi"), "hi");
    let asked = registry.requests.load(Ordering::Relaxed);
    assert!(asked >= 2, "{asked}");
    host.signal(rustix::process::Signal::KILL);
    host.wait();

    let host = host.restart().ready();
    host.client().start("two", "fetched");
    assert_eq!(host.client().ask("two", "hi"), "hi");
    assert_eq!(registry.requests.load(Ordering::Relaxed), asked, "it is kept");
    host.finish();
}

#[test]
fn an_upgrade_takes_what_a_reference_names_and_needs_the_registry_once() {
    // A module of nothing: other bytes, and it answers alike.
    let wasm = files::echo_with(b"\0asm\x01\0\0\0");
    let code = digest(&wasm).replace("sha256:", "");
    let registry = Registry::with(wasm);
    let mut host = Host::builder().start();
    host.client().start("one", "echo");
    assert_eq!(host.client().ask("one", "hi"), "hi");
    let upgrade = |reference: &str| {
        let mut command = Command::new(files::binary());
        let url = format!("http://{}", host.address());
        command.args(["upgrade", "echo", "--prove", "100ms", "--component", reference]);
        command.env("BULKHEAD_URL", url);
        command.env("BULKHEAD_CONTROL_TOKEN", host.client().token().expect("a token"));
        command.output().expect("run bulkhead upgrade")
    };
    let said = |output: &Output, what: &str| {
        let all = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(all.contains(what), "{all}");
    };

    let nothing = format!("oci://{}/town/echo@{}", registry.address, digest(b"nothing"));
    let refused = upgrade(&nothing);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    said(&refused, "town/echo");
    let refused = upgrade("oci://town/echo:latest");
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    said(&refused, "sha256");
    assert!(std::fs::read_dir(host.state_dir().join("upgrades")).map_or(0, Iterator::count) == 0);

    let done = upgrade(&registry.reference());
    assert!(done.status.success(), "{done:?}");
    said(&done, &format!("done, 1 of 1 agent upgraded to {}", &code[..12]));
    assert_eq!(host.client().ask("one", "again"), "again");
    let asked = registry.requests.load(Ordering::Relaxed);
    host.signal(rustix::process::Signal::KILL);
    host.wait();

    let host = host.restart().ready();
    assert_eq!(host.client().ask("one", "and again"), "and again");
    let loaded = host.wait_for_number(&["container.component_loaded"], 1);
    assert_eq!(loaded["sha256"], code.as_str());
    assert_eq!(registry.requests.load(Ordering::Relaxed), asked, "it is kept");
    host.finish();
}

/// A public key, by which nothing is signed here.
const KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEWdLj/gLGd3d1y+6AAze26tdfuG9l
ThfOI9C6EQ5zhT2qu7GHKgK/1+iKGRuHSIT+vVMw1PhyORXbooPBoTJVBA==
-----END PUBLIC KEY-----
";

/// The file of that key, in a directory that goes with the first.
fn key() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("make a directory");
    let file = dir.path().join("key.pem");
    std::fs::write(&file, KEY).expect("write a key");
    (dir, file)
}

#[test]
fn what_takes_the_place_of_a_signed_component_has_to_be_signed_as_well() {
    let registry = Registry::start();
    let (_dir, key) = key();
    let wanted = format!("[components.fetched]\npublic_key_file = {key:?}");
    let host = host_with(&registry.reference()).toml(&wanted).start();
    let upgrade = |role: &str| {
        let path = format!("/roles/{role}/upgrade?reference={}", registry.reference());
        host.client().request(Method::POST, &path, "")
    };
    let refused = upgrade("fetched").expect_error(502, &["sign"]);
    assert_eq!(refused.error_type.as_deref(), Some("not-fetched"), "{refused:?}");
    // That of another role needs no signature.
    upgrade("echo").expect(202);
    host.finish();
}

#[test]
fn a_component_that_is_not_signed_as_it_has_to_be_does_not_start() {
    let registry = Registry::start();
    let (_dir, key) = key();
    let wanted = format!("[components.fetched]\npublic_key_file = {key:?}");
    let host = host_with(&registry.reference()).toml(&wanted).start();
    host.client().start_with("one", "fetched", json!({})).expect_error(422, &["not signed"]);
    let kept = std::fs::read_dir(host.state_dir().join("components"));
    assert!(kept.map_or(0, Iterator::count) == 0, "nothing of it is kept");
    host.finish();

    // Kept without a key, which the configuration has later: of a component, and of its registry.
    let of_registry = format!("[registries.\"*\"]\npublic_key_file = {key:?}");
    for wanted in [wanted, of_registry] {
        // It is there when the host begins.
        let mut host = host_with(&registry.reference()).start();
        host.signal(rustix::process::Signal::KILL);
        host.wait();
        let config = host_with(&registry.reference()).toml(&wanted).render(&host.state_dir());
        std::fs::write(host.dir().join("bulkhead.toml"), config).expect("write it");
        let host = host.restart().ready();
        host.client().start_with("two", "fetched", json!({})).expect_error(422, &["not signed"]);
        host.finish();
    }
}

#[test]
fn what_is_kept_of_a_registry_is_believed_for_its_digest_at_every_start() {
    let registry = Registry::start();
    let host = host_with(&registry.reference()).start();
    host.client().start("one", "fetched");
    let entry = registry.digest.replace("sha256:", "");
    let file = host.state_dir().join("components").join(entry).join("component.wasm");
    std::fs::write(&file, files::echo_with(b"\0asm\x01\0\0\0")).expect("write another one");
    let refused = host.client().start_with("two", "fetched", json!({}));
    let refused = refused.expect_error(422, &["not what its reference names"]);
    assert_eq!(refused.error_type.as_deref(), Some("component-invalid"), "{refused:?}");
    assert_eq!(host.client().ask("one", "hi"), "hi");
    host.finish();
}

#[test]
fn a_registry_that_is_away_keeps_nobody_else_from_starting() {
    // Nobody listens there.
    let address = support::free_address();
    let reference = format!("oci://{address}/town/echo@{}", digest(b"nothing"));
    let host = host_with(&reference).start();
    host.client().start("one", "echo");
    assert_eq!(host.client().ask("one", "hi"), "hi");
    let refused = host.client().start_with("two", "fetched", json!({}));
    refused.expect_error(422, &["fetched"]);
    let said = host.events_named("container.log");
    let named = |line: &harness::Value| line.to_string().contains(&address.to_string());
    assert!(said.iter().any(named), "the log says which registry: {said:?}");
    host.finish();
}

#[test]
fn a_check_reads_files_of_credentials() {
    let dir = tempfile::tempdir().expect("make a directory");
    let file = dir.path().join("config.json");
    let host =
        || Host::builder().toml(&format!("[registries.\"ghcr.io\"]\ncredentials_file = {file:?}"));
    for (text, is_good) in [("hunter2", false), ("{\"auths\": {}}", true)] {
        std::fs::write(&file, text).expect("write it");
        let output = check(host());
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.success(), is_good, "{output:?}");
        assert_eq!(said.contains("registries.ghcr.io.credentials_file"), !is_good, "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn a_check_names_what_a_registry_does_not_have() {
    let registry = Registry::start();
    let output = check(host_with(&registry.reference()));
    assert!(output.status.success(), "{output:?}");
    let missing = format!("oci://{}/town/echo@{}", registry.address, digest(b"nothing"));
    let output = check(host_with(&missing));
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("town/echo"), "{said}");
    let output = check(host_with("oci://127.0.0.1:5000/town/echo:latest"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(2) && said.contains("components.fetched.reference"),
        "{said}"
    );
}
