use std::collections::BTreeSet;

use super::*;

struct Dir {
    dir: tempfile::TempDir,
    brought: Brought,
    catalog: Catalog,
}

impl Dir {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let configured = dir.path().join("echo.wasm");
        fs::write(&configured, "configured").unwrap();
        let brought = Brought::new(dir.path().join("upgrades"));
        let catalog = crate::catalog::one_role("echo", configured);
        Self { dir, brought, catalog }
    }

    fn bring(&self, bytes: &[u8]) -> Digest {
        let mut incoming = self.brought.begin().unwrap();
        let (first, second) = bytes.split_at(bytes.len() / 2);
        incoming.write_all(first).unwrap();
        incoming.write_all(second).unwrap();
        let component = incoming.finish().unwrap();
        let sha256 = component.sha256;
        assert_eq!(self.brought.keep(component).unwrap(), self.brought.path(sha256));
        sha256
    }

    fn replacement(&self, sha256: Digest, before: Option<Digest>) -> Replacements {
        let replaces = digest_of(&self.dir.path().join("echo.wasm")).unwrap();
        let replacement = Replacement { component: "echo".into(), sha256, replaces, before };
        Replacements::from([("echo".into(), replacement)])
    }

    /// No role has anything, and so many notices say why.
    #[track_caller]
    fn has_nothing(&self, notices: usize) {
        let (replacements, said) = self.brought.read(&self.catalog);
        assert!(replacements.is_empty() && said.len() == notices, "{replacements:?} {said:?}");
    }

    fn files(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.dir.path().join("upgrades")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[test]
fn what_was_written_is_read_and_what_nobody_has_is_removed() {
    let dir = Dir::new();
    let [first, second, third] = ["one", "two", "three"].map(|text| dir.bring(text.as_bytes()));
    let replacements = dir.replacement(third, Some(second));
    dir.brought.write(&replacements).unwrap();
    dir.brought.sweep(&replacements);
    assert_eq!(dir.brought.read(&dir.catalog), (replacements, Vec::new()));
    let left = [format!("{second}.wasm"), format!("{third}.wasm"), ROLES.to_owned()];
    assert_eq!(dir.files(), BTreeSet::from(left));
    assert!(!dir.brought.path(first).exists());
}

#[test]
fn a_configuration_that_names_another_file_wins() {
    let dir = Dir::new();
    let sha256 = dir.bring(b"one");
    dir.brought.write(&dir.replacement(sha256, None)).unwrap();
    fs::write(dir.dir.path().join("echo.wasm"), "deployed anew").unwrap();
    dir.has_nothing(1);
}

#[test]
fn a_file_that_is_damaged_or_gone_is_not_used() {
    let dir = Dir::new();
    let sha256 = dir.bring(b"one");
    dir.brought.write(&dir.replacement(sha256, None)).unwrap();
    fs::write(dir.brought.path(sha256), "other").unwrap();
    dir.has_nothing(1);
    fs::remove_file(dir.brought.path(sha256)).unwrap();
    dir.has_nothing(1);
}

#[test]
fn a_role_that_is_gone_or_has_another_component_has_nothing() {
    let dir = Dir::new();
    let sha256 = dir.bring(b"one");
    let mut replacements = dir.replacement(sha256, None);
    let replacement = replacements.remove("echo").unwrap();
    let other = Replacement { component: "other".into(), ..replacement.clone() };
    for (role, replacement) in [("gone", replacement), ("echo", other)] {
        let replacements = Replacements::from([(Arc::from(role), replacement)]);
        dir.brought.write(&replacements).unwrap();
        dir.has_nothing(1);
    }
}

#[test]
fn nothing_and_nonsense_are_read_as_nothing() {
    let dir = Dir::new();
    dir.has_nothing(0);
    dir.bring(b"one");
    fs::write(dir.dir.path().join("upgrades").join(ROLES), "{").unwrap();
    dir.has_nothing(1);
}

#[test]
fn what_is_not_whole_leaves_nothing() {
    let dir = Dir::new();
    let mut incoming = dir.brought.begin().unwrap();
    incoming.write_all(b"ha").unwrap();
    assert_eq!(dir.files().len(), 1);
    // As after a kill.
    std::mem::forget(incoming);
    let kept = dir.bring(b"one");
    dir.brought.sweep(&dir.replacement(kept, None));
    assert_eq!(dir.files(), BTreeSet::from([format!("{kept}.wasm")]));
    drop(dir.brought.begin().unwrap().finish().unwrap());
    assert_eq!(dir.files().len(), 1);
}
