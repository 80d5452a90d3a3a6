//! A real registry server, and pushing to it by the plain protocol.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulkhead_oci::Reference;
use bulkhead_types::Digest;
use sha2::{Digest as _, Sha256};
use support::launcher::spawn_bound;

pub const USER: &str = "toaster";
pub const PASSWORD: &str = "hunter2";

/// The password, as bcrypt writes it.
const HTPASSWD: &str = "toaster:$2y$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.\n";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A running registry on a port of its own. It ends with the test.
pub struct Registry {
    pub at: SocketAddr,
    child: Child,
    authorization: String,
    _dir: tempfile::TempDir,
}

impl Registry {
    /// Nothing, where there is no such program.
    pub fn start(has_users: bool) -> Option<Self> {
        let program = program("docker-registry")?;
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().display();
        fs::write(dir.path().join("htpasswd"), HTPASSWD).unwrap();
        let auth = format!("auth:\n  htpasswd:\n    realm: test\n    path: {place}/htpasswd\n");
        let config = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {place}/data\n\
             http:\n  addr: 127.0.0.1:0\n{}",
            if has_users { &auth } else { "" }
        );
        fs::write(dir.path().join("config.yml"), config).unwrap();
        let mut command = Command::new(program);
        command.arg("serve").arg(dir.path().join("config.yml"));
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = spawn_bound(command).unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let at = lines.find_map(|line| {
            let (_, rest) = line.split_once("listening on ")?;
            rest.split(['"', ' ', ',']).next()?.parse().ok()
        });
        // It must not be held up by a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let at = at.expect("the registry says where it listens");
        let authorization = match has_users {
            true => format!(
                "Authorization: Basic {}\r\n",
                STANDARD.encode(format!("{USER}:{PASSWORD}"))
            ),
            false => String::new(),
        };
        Some(Self { at, child, authorization, _dir: dir })
    }

    pub fn reference(&self, repository: &str, digest: Digest) -> Reference {
        Reference::parse(&format!("oci://{}/{repository}@sha256:{digest}", self.at)).unwrap()
    }

    /// A component in one layer; returns the digest of its manifest.
    pub fn push(&self, repository: &str, media_type: &str, component: &[u8]) -> Digest {
        let config = self.push_blob(repository, b"{}");
        let layer = self.push_blob(repository, component);
        let manifest = manifest(config, media_type, layer, component.len());
        self.push_manifest(repository, MANIFEST, &manifest)
    }

    /// An index with one component for wasm.
    pub fn index(&self, repository: &str, component: &[u8]) -> Digest {
        let manifest = self.push(repository, "application/wasm", component);
        let size = manifest_size(component);
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"{MANIFEST}","digest":"sha256:{manifest}","size":{size},"platform":{{"architecture":"wasm","os":"wasip2"}}}}]}}"#
        );
        self.push_manifest(repository, INDEX, &index)
    }

    /// A signature, where cosign puts it.
    pub fn push_signature(&self, repository: &str, of: Digest, payload: &[u8], signature: &[u8]) {
        let config = self.push_blob(repository, b"{}");
        let layer = self.push_blob(repository, payload);
        let (signature, size) = (STANDARD.encode(signature), payload.len());
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{config}","size":2}},"layers":[{{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json","digest":"sha256:{layer}","size":{size},"annotations":{{"dev.cosignproject.cosign/signature":"{signature}"}}}}]}}"#
        );
        let path = format!("/v2/{repository}/manifests/sha256-{of}.sig");
        let (status, _) = self.ask("PUT", &path, MANIFEST, manifest.as_bytes());
        assert_eq!(status, 201);
    }

    fn push_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = digest(bytes);
        let (status, location) =
            self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"");
        assert_eq!(status, 202);
        let location = location.expect("an upload has a place");
        let path = &location[location.find("/v2/").expect("it is of the registry")..];
        let mark = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{mark}digest=sha256:{digest}");
        let (status, _) = self.ask("PUT", &path, "application/octet-stream", bytes);
        assert_eq!(status, 201);
        digest
    }

    fn push_manifest(&self, repository: &str, media_type: &str, text: &str) -> Digest {
        let digest = digest(text.as_bytes());
        let path = format!("/v2/{repository}/manifests/sha256:{digest}");
        let (status, _) = self.ask("PUT", &path, media_type, text.as_bytes());
        assert_eq!(status, 201);
        digest
    }

    /// The status, and where it leads.
    fn ask(
        &self,
        method: &str,
        path: &str,
        media_type: &str,
        body: &[u8],
    ) -> (u16, Option<String>) {
        let mut stream = TcpStream::connect(self.at).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{}Content-Type: {media_type}\r\nContent-Length: {}\r\n\r\n",
            self.at,
            self.authorization,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).and_then(|it| it.parse().ok());
        let location = answer.lines().find_map(|line| line.strip_prefix("Location: "));
        (status.expect("it answers by HTTP"), location.map(str::to_owned))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// An image layout on the disk with the tag `v1`; returns the digest of the manifest.
pub fn layout(dir: &Path, component: &[u8]) -> Digest {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        fs::write(blobs.join(digest(bytes).to_string()), bytes).unwrap();
        digest(bytes)
    };
    let manifest = manifest(put(b"{}"), "application/wasm", put(component), component.len());
    let (digest, size) = (put(manifest.as_bytes()), manifest.len());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{MANIFEST}","digest":"sha256:{digest}","size":{size},"annotations":{{"org.opencontainers.image.ref.name":"v1"}}}}]}}"#
    );
    fs::write(dir.join("index.json"), index).unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    digest
}

fn manifest(config: Digest, media_type: &str, layer: Digest, size: usize) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.wasm.config.v0+json","digest":"sha256:{config}","size":2}},"layers":[{{"mediaType":"{media_type}","digest":"sha256:{layer}","size":{size}}}]}}"#
    )
}

fn manifest_size(component: &[u8]) -> usize {
    manifest(digest(b"{}"), "application/wasm", digest(component), component.len()).len()
}

/// A program on the path. A machine that has to have a registry has to have all that this test runs.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|dir| dir.join(name)).find(|it| super::is_program(it));
    if found.is_none() {
        support::skip(support::Need::Registry, &format!("there is no {name} on the path"));
    }
    found
}
