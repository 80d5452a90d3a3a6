//! Compiled components that came with the program: a directory that an image was built with, and that nothing is written to.
//!
//! Its entries are those of the cache, and are checked in the same way. As users that write to them can run code here, the
//! directory and the entry have to belong to root or to this user, and nobody else may write to them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bulkhead_types::Digest;
use wasmtime::Engine;

use crate::aot::{EXTENSION, Format, Found};

/// A directory of compiled components, for one engine.
pub(crate) struct AotSeed {
    dir: PathBuf,
    format: Format,
}

impl AotSeed {
    pub(crate) fn new(dir: PathBuf, engine: &Engine) -> Self {
        Self { dir, format: Format::of(engine) }
    }

    /// The entry of a component. One that is there and of no use is rejected with the reason; it stays where it is.
    pub(crate) fn find(&self, engine: &Engine, digest: &Digest) -> Found {
        let path = self.dir.join(self.format.file_name(digest));
        match self.read(&path) {
            Ok(Some(bytes)) => match self.format.load(engine, digest, &bytes) {
                Ok(component) => Found::Ready(component),
                Err(reason) => Found::Rejected { path, reason },
            },
            Ok(None) => match self.of_another_engine(digest) {
                Some(path) => Found::Rejected { path, reason: OTHER_ENGINE.into() },
                None => Found::Nothing,
            },
            Err(reason) => Found::Rejected { path, reason },
        }
    }

    /// The bytes of an entry, if it is there and nobody else can have written it.
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, String> {
        only_ours(&self.dir, &of(fs::metadata(&self.dir))?)?;
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let about = of(file.metadata())?;
        only_ours(path, &about)?;
        if !about.is_file() {
            return Err("it is no regular file".into());
        }
        let mut bytes = Vec::with_capacity(usize::try_from(about.len()).unwrap_or(0));
        of(io::Read::read_to_end(&mut &file, &mut bytes))?;
        Ok(Some(bytes))
    }

    /// An entry of the same component that another engine made.
    fn of_another_engine(&self, digest: &Digest) -> Option<PathBuf> {
        let (begin, mut entries) = (format!("{digest}-"), fs::read_dir(&self.dir).ok()?);
        let is_one = |name: &str| name.starts_with(&begin) && name.ends_with(EXTENSION);
        entries.find_map(|entry| {
            let entry = entry.ok()?;
            entry.file_name().to_str().is_some_and(is_one).then(|| entry.path())
        })
    }
}

const OTHER_ENGINE: &str = "compiled for another processor (engine.cpu), another version of this program or other settings of the \
     pool; the component is compiled again";

fn of<T>(result: io::Result<T>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

/// Whether nobody but root and this user can write to it.
fn only_ours(path: &Path, about: &fs::Metadata) -> Result<(), String> {
    let (owner, shown) = (about.uid(), path.display());
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(format!("{shown} belongs to user {owner}, who could run code here"));
    }
    match about.mode() & 0o022 {
        0 => Ok(()),
        _ => Err(format!("others may write to {shown} (mode {:o})", about.mode() & 0o7777)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::RuntimeConfig;
    use crate::cpu::Cpu;

    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    struct Seeded {
        dir: tempfile::TempDir,
        engine: Engine,
        digest: Digest,
    }

    impl Seeded {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let engine = Engine::default();
            let digest = Digest(Sha256::digest(EMPTY).into());
            let format = Format::of(&engine);
            let entry = format.entry(&digest, &engine.precompile_component(EMPTY).unwrap());
            fs::write(dir.path().join(format.file_name(&digest)), entry).unwrap();
            Self { dir, engine, digest }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join(Format::of(&self.engine).file_name(&self.digest))
        }

        fn outcome(&self, engine: &Engine, digest: Digest) -> String {
            match AotSeed::new(self.dir.path().to_owned(), engine).find(engine, &digest) {
                Found::Ready(_) => "ready".into(),
                Found::Nothing => "nothing".into(),
                Found::Rejected { reason, .. } => reason,
            }
        }
    }

    #[test]
    fn an_entry_is_used_and_stays_whatever_it_is() {
        let seeded = Seeded::new();
        assert_eq!(seeded.outcome(&seeded.engine, seeded.digest), "ready");
        assert_eq!(seeded.outcome(&seeded.engine, Digest([7; 32])), "nothing");
        let path = seeded.path();
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(seeded.outcome(&seeded.engine, seeded.digest), "checksum does not match");
        assert!(path.exists());
    }

    #[test]
    fn an_entry_for_another_processor_says_so() {
        let seeded = Seeded::new();
        let config = RuntimeConfig { cpu: Cpu::Baseline, ..RuntimeConfig::default() };
        let other = crate::engine::build(&config).unwrap().engine;
        assert!(seeded.outcome(&other, seeded.digest).contains("engine.cpu"));
    }

    #[test]
    fn what_others_can_write_is_not_believed() {
        let seeded = Seeded::new();
        let mode = |path: &Path, mode: u32| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let outcome = || seeded.outcome(&seeded.engine, seeded.digest);
        mode(&seeded.path(), 0o666);
        assert!(outcome().contains("others may write to"), "{}", outcome());
        mode(&seeded.path(), 0o444);
        assert_eq!(outcome(), "ready");
        mode(seeded.dir.path(), 0o777);
        assert!(outcome().contains("mode 777"), "{}", outcome());
        mode(seeded.dir.path(), 0o555);
        assert_eq!(outcome(), "ready");
        mode(seeded.dir.path(), 0o755);
    }
}
