//! The crate against a registry that others made: Debian's `docker-registry`, filled by the plain protocol, by `skopeo`
//! and by the Python SDK of ORAS, as far as they are there.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a panic is their failure")]

mod real;

use std::fs;
use std::path::Path;
use std::process::Command;

use bulkhead_net::{Connector, Credential};
use bulkhead_oci::{Access, Cause, Component, FetchError, Login, Reference, Registries, Settings};
use bulkhead_types::Digest;
use sha2::{Digest as _, Sha256};

use self::real::{Registry, digest, program};

/// A component, in its binary form: the preamble alone, which is an empty one.
const WASM: &[u8] = b"\0asm\x0d\0\x01\0";

struct Host {
    dir: tempfile::TempDir,
    settings: Settings,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::new(dir.path().join("components"), Connector::default());
        Self { dir, settings }
    }

    async fn get(&self, reference: &Reference) -> Result<Component, FetchError> {
        Registries::open(self.settings.clone()).get(reference, None).await
    }
}

/// Several megabytes, so that a body has pieces.
fn large() -> Vec<u8> {
    WASM.iter().copied().chain((0..1_000_000_u32).flat_map(u32::to_le_bytes)).collect()
}

#[tokio::test]
async fn a_component_that_was_pushed_is_fetched() {
    let Some(registry) = Registry::start(false) else { return };
    let host = Host::new();
    for component in [WASM.to_vec(), large()] {
        let manifest = registry.push("town/toast", "application/wasm", &component);
        let reference = registry.reference("town/toast", manifest);
        let got = host.get(&reference).await.unwrap();
        assert!(fs::read(&got.path).unwrap() == component);
        assert_eq!(got.digest, Digest(Sha256::digest(&component).into()));
    }
    let index = registry.index("town/toast", WASM);
    let got = host.get(&registry.reference("town/toast", index)).await.unwrap();
    assert_eq!(fs::read(&got.path).unwrap(), WASM);
}

#[tokio::test]
async fn what_is_kept_needs_no_registry() {
    let Some(registry) = Registry::start(false) else { return };
    let host = Host::new();
    let manifest = registry.push("a", "application/vnd.wasm.content.layer.v1+wasm", WASM);
    let reference = registry.reference("a", manifest);
    host.get(&reference).await.unwrap();
    drop(registry);
    assert_eq!(fs::read(&host.get(&reference).await.unwrap().path).unwrap(), WASM);
}

#[tokio::test]
async fn what_is_not_there_and_what_is_no_component_are_named() {
    let Some(registry) = Registry::start(false) else { return };
    let host = Host::new();
    let error = host.get(&registry.reference("town/toast", digest(b"x"))).await.unwrap_err();
    assert!(matches!(*error.cause, Cause::NotFound { .. }), "{error}");
    let manifest = registry.push("town/toast", "application/vnd.oci.image.layer.v1.tar", WASM);
    let error = host.get(&registry.reference("town/toast", manifest)).await.unwrap_err();
    assert!(error.to_string().contains("no layer of a component"), "{error}");
}

#[tokio::test]
async fn a_registry_with_users_wants_one() {
    let Some(registry) = Registry::start(true) else { return };
    let mut host = Host::new();
    let manifest = registry.push("town/toast", "application/wasm", WASM);
    let reference = registry.reference("town/toast", manifest);
    let error = host.get(&reference).await.unwrap_err();
    assert!(matches!(*error.cause, Cause::Unauthorized { .. }), "{error}");
    let login = |password: &str| {
        let password = Credential::fixed(password.to_owned().into());
        let login = Login::User { name: real::USER.into(), password };
        Access { login, ..Access::default() }
    };
    host.settings.registries.insert(reference.registry().to_owned(), login("wrong"));
    let error = host.get(&reference).await.unwrap_err();
    assert!(matches!(*error.cause, Cause::Unauthorized { .. }), "{error}");
    host.settings.registries.insert(reference.registry().to_owned(), login(real::PASSWORD));
    host.get(&reference).await.unwrap();
}

#[tokio::test]
async fn skopeo_logs_in_and_pushes_a_component() {
    let Some(registry) = Registry::start(true) else { return };
    let Some(skopeo) = program("skopeo") else { return };
    let mut host = Host::new();
    let config = host.dir.path().join("config.json");
    run(Command::new(&skopeo)
        .args(["login", "--tls-verify=false", "--authfile"])
        .arg(&config)
        .args(["-u", real::USER, "-p", real::PASSWORD, &registry.at.to_string()]));
    let layout = host.dir.path().join("layout");
    let manifest = real::layout(&layout, WASM);
    run(Command::new(&skopeo)
        .args([
            "--insecure-policy",
            "copy",
            "--preserve-digests",
            "--dest-tls-verify=false",
            "--authfile",
        ])
        .arg(&config)
        .arg(format!("oci:{}:v1", layout.display()))
        .arg(format!("docker://{}/town/toast:v1", registry.at)));
    host.settings.others.login = Login::File(config);
    let got = host.get(&registry.reference("town/toast", manifest)).await.unwrap();
    assert_eq!(fs::read(&got.path).unwrap(), WASM);
}

/// The directory that the Python package `oras` is in: `just registry`.
const ORAS: &str = "ORAS_SDK";

#[tokio::test]
async fn oras_pushes_a_component() {
    let Some(registry) = Registry::start(false) else { return };
    let Some(sdk) = std::env::var_os(ORAS) else {
        return support::skip(support::Need::Registry, &format!("{ORAS} names no directory"));
    };
    let host = Host::new();
    fs::write(host.dir.path().join("toast.wasm"), WASM).unwrap();
    let script = "import sys, oras.client\n\
        client = oras.client.OrasClient(hostname=sys.argv[1], insecure=True)\n\
        answer = client.push(target=sys.argv[1] + '/town/toast:v1', files=['toast.wasm:application/wasm'])\n\
        print(answer.headers['Docker-Content-Digest'])";
    let mut python = Command::new("python3");
    python.current_dir(host.dir.path()).env("PYTHONPATH", sdk);
    let pushed = run(python.args(["-c", script, &registry.at.to_string()]));
    let hex = pushed.trim().strip_prefix("sha256:");
    let manifest = Digest::parse(hex.expect("a digest")).unwrap();
    let got = host.get(&registry.reference("town/toast", manifest)).await.unwrap();
    assert_eq!(fs::read(&got.path).unwrap(), WASM);
}

#[tokio::test]
async fn what_openssl_signs_and_the_protocol_stores_is_believed() {
    let Some(registry) = Registry::start(false) else { return };
    let Some(openssl) = program("openssl") else { return };
    let host = Host::new();
    let key = |name: &str| host.dir.path().join(name);
    run(Command::new(&openssl)
        .args(["ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out"])
        .arg(key("a.key")));
    run(Command::new(&openssl)
        .args(["ec", "-pubout", "-in"])
        .arg(key("a.key"))
        .arg("-out")
        .arg(key("a.pub")));
    let manifest = registry.push("town/toast", "application/wasm", WASM);
    let payload = format!(
        r#"{{"critical":{{"identity":{{"docker-reference":""}},"image":{{"docker-manifest-digest":"sha256:{manifest}"}},"type":"cosign container image signature"}},"optional":null}}"#
    );
    fs::write(key("payload"), &payload).unwrap();
    run(Command::new(&openssl)
        .args(["dgst", "-sha256", "-sign"])
        .arg(key("a.key"))
        .arg("-out")
        .arg(key("sig"))
        .arg(key("payload")));
    registry.push_signature(
        "town/toast",
        manifest,
        payload.as_bytes(),
        &fs::read(key("sig")).unwrap(),
    );
    let public = bulkhead_oci::PublicKey::from_pem(&fs::read(key("a.pub")).unwrap()).unwrap();
    let registries = Registries::open(host.settings.clone());
    let reference = registry.reference("town/toast", manifest);
    registries.get(&reference, Some(&public)).await.unwrap();
    let signed_by_none = registry.push("town/toast", "application/wasm", &large());
    let reference = registry.reference("town/toast", signed_by_none);
    let error = registries.get(&reference, Some(&public)).await.unwrap_err();
    assert!(matches!(*error.cause, Cause::Unsigned { .. }), "{error}");
}

/// Runs a program to a good end.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a file is there that can be run.
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}
