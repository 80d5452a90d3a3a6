//! Components that were compiled when an image was built: `bulkhead compile --out`, `state.aot_seed`, `engine.cpu`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use harness::{Host, HostBuilder, Value, files, json};
use tempfile::TempDir;

/// What an image is built from, and what it has then.
struct Image {
    dir: TempDir,
}

impl Image {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("make a directory") }
    }

    fn seed(&self) -> PathBuf {
        self.dir.path().join("seed")
    }

    /// Compiles what a host of these settings runs.
    fn compile(&self, host: HostBuilder) -> Output {
        let config = self.dir.path().join("bulkhead.toml");
        fs::write(&config, host.render(&self.dir.path().join("build"))).expect("write it");
        let mut command = Command::new(files::binary());
        command.args(["compile", "--config"]).arg(config).arg("--out").arg(self.seed());
        command.output().expect("run bulkhead compile")
    }

    /// Settings of a host with an empty state directory.
    fn settings(&self) -> HostBuilder {
        Host::builder().toml(&format!("[state]\naot_seed = {:?}", self.seed()))
    }
}

fn host_for(cpu: &str) -> HostBuilder {
    Host::builder().toml(&format!("[engine]\ncpu = {cpu:?}"))
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// Where the component of an agent came from, and which entries were of no use for what reason.
fn source_and_rejections(host: HostBuilder) -> (Value, Vec<String>) {
    let host = host.start();
    host.client().start("one", "echo");
    assert_eq!(host.client().ask("one", "hi"), "hi");
    let loaded = host.wait_for_number(&["container.component_loaded"], 1);
    let rejected = host.events_named("container.cache_entry_rejected");
    let reasons = rejected.iter().map(|it| it["reason"].as_str().unwrap_or_default().to_owned());
    let reasons = reasons.collect();
    host.finish();
    (loaded["source"].clone(), reasons)
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).expect("read it").map(|entry| entry.expect("an entry").path()).collect()
}

#[test]
fn what_was_compiled_when_the_image_was_built_is_not_compiled_again() {
    let image = Image::new();
    let said = succeeds(&image.compile(Host::builder()));
    assert!(said.contains("compiled components for native are in"), "{said}");
    let made = entries(&image.seed());
    assert_eq!(made.len(), 1, "{made:?}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&image.seed()), mode(&made[0])), (0o755, 0o644), "other users read it");
    assert_eq!(source_and_rejections(image.settings()), (json!("seed"), Vec::new()));
    // What is there already is not made again.
    let before = fs::metadata(&made[0]).unwrap().modified().unwrap();
    succeeds(&image.compile(Host::builder()));
    assert_eq!(entries(&image.seed()), made);
    assert_eq!(fs::metadata(&made[0]).unwrap().modified().unwrap(), before);
}

#[test]
fn an_entry_that_is_not_used_is_named_with_the_reason() {
    let image = Image::new();
    succeeds(&image.compile(host_for("baseline")));
    let (source, reasons) = source_and_rejections(image.settings());
    assert_eq!(source, "compiled");
    assert!(reasons.len() == 1 && reasons[0].contains("engine.cpu"), "{reasons:?}");
    let same = image.settings().toml("[engine]\ncpu = \"baseline\"");
    assert_eq!(source_and_rejections(same), (json!("seed"), Vec::new()));
    fs::set_permissions(image.seed(), Permissions::from_mode(0o777)).unwrap();
    let open = image.settings().toml("[engine]\ncpu = \"baseline\"");
    let (source, reasons) = source_and_rejections(open);
    assert_eq!(source, "compiled", "anybody could have written it");
    assert!(reasons[0].contains("others may write to"), "{reasons:?}");
}

#[test]
fn a_directory_that_cannot_be_made_and_an_unknown_processor_are_named() {
    let image = Image::new();
    fs::write(image.seed(), "a file").unwrap();
    let output = image.compile(Host::builder());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write to") && said.contains("seed"), "{said}");
    let output = image.compile(host_for("pentium"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("pentium") && said.contains("x86-64-v2"), "{said}");
}
