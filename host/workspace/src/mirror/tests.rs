use super::*;
use crate::credential::NoCredentials;
use crate::disk::gate::{drop_at, hold_at, runtime};
use crate::run::{Command, End, Finished, Run, RunError};
use crate::settings::Settings;
use futures_util::future::BoxFuture;
use tempfile::TempDir;

/// Git that does nothing, but for a pack in quarantine.
struct NoGit;

impl Run for NoGit {
    fn run(&self, command: Command) -> BoxFuture<'_, Result<Finished, RunError>> {
        let quarantine = command.env.iter().find(|(name, _)| name == "GIT_OBJECT_DIRECTORY");
        if let Some((_, quarantine)) = quarantine {
            let quarantine = command.sandbox.folder().join(quarantine);
            fs::write(quarantine.join("pack/some.pack"), "").unwrap();
        }
        let (stdout, stderr) = (Vec::new(), Vec::new());
        let finished = Finished { end: End::Exited(0), stdout, stderr, cut: false };
        Box::pin(std::future::ready(Ok(finished)))
    }

    fn settle<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}

fn rig() -> Rig {
    let [name, url, default_branch] = ["town", "https://example.com/town", "main"].map(Into::into);
    Rig { name, url, default_branch }
}

fn mirror() -> (TempDir, Mirror) {
    let folder = tempfile::tempdir().unwrap();
    let git = Git { run: Arc::new(NoGit), settings: Settings::default() };
    let mirror = Mirror::new(Arc::new(git), Arc::new(NoCredentials), folder.path().to_owned());
    (folder, mirror)
}

#[test]
fn no_git_runs_while_a_dropped_call_goes_on_to_clean_up() {
    runtime().block_on(async {
        let (_folder, mirror) = mirror();
        mirror.open(&rig()).await.unwrap();
        let remains = mirror.path().join("packed-refs.lock");
        fs::write(&remains, "").unwrap();
        let call = Call::mirror(&mirror.git, &mirror.path(), "pack-refs");
        let gate = drop_at(0, mirror.call(call)).await.unwrap();
        assert!(mirror.activity.try_read().is_err(), "a git could run");
        gate.open().await;
        assert!(mirror.activity.try_read().is_ok() && !remains.exists());
    });
}

#[test]
fn a_mirror_is_made_by_one_at_a_time() {
    runtime().block_on(async {
        let (_folder, mirror) = mirror();
        // Behind the lock of the directory.
        let gate = drop_at(1, mirror.open(&rig())).await.unwrap();
        assert!(mirror.set_up.try_lock().is_err(), "another one could be made");
        gate.open().await;
        assert!(mirror.set_up.try_lock().is_ok() && mirror.path().is_dir());
    });
}

/// What is in quarantine, and whether the pack is out of it.
fn packs(mirror: &Mirror) -> (usize, bool) {
    let entries = fs::read_dir(mirror.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let incoming = entries.filter(|name| name.as_encoded_bytes().starts_with(b"incoming-"));
    (incoming.count(), mirror.path().join("objects/pack/some.pack").exists())
}

/// A mirror in which nothing was left behind.
async fn clean_mirror() -> (TempDir, Mirror) {
    let (folder, mirror) = mirror();
    mirror.open(&rig()).await.unwrap();
    drop(mirror.begin().await.unwrap());
    (folder, mirror)
}

fn commit() -> Oid {
    Oid::parse("1".repeat(40).as_bytes()).unwrap()
}

#[test]
fn what_a_dropped_import_leaves_in_quarantine_goes_with_the_next_call() {
    runtime().block_on(async {
        let mut left = 0;
        for step in 0.. {
            let (_folder, mirror) = clean_mirror().await;
            let commit = commit();
            let import = mirror.import(Vec::new(), &commit, "refs/agents/ann/x");
            let Some(gate) = drop_at(step, import).await else { break };
            let (is_held, before) = (mirror.activity.try_write().is_err(), packs(&mirror));
            gate.open().await;
            let after = packs(&mirror);
            assert!(is_held || after == before, "step {step}: a git could clean up meanwhile");
            drop(mirror.begin().await.unwrap());
            assert_eq!(packs(&mirror).0, 0, "step {step}");
            left += after.0;
        }
        assert!(left > 0, "nothing was ever left");
    });
}

#[test]
fn nothing_is_cleaned_up_during_an_import() {
    runtime().block_on(async {
        let (_folder, mirror) = clean_mirror().await;
        let commit = commit();
        let mut import = Box::pin(mirror.import(Vec::new(), &commit, "refs/agents/ann/x"));
        // The pack is in quarantine, and not checked yet.
        let gate = hold_at(2, &mut import).await.unwrap();
        assert_eq!(packs(&mirror), (1, false));
        // Another call is interrupted meanwhile.
        drop(mirror.until_ended());
        gate.open().await;
        import.await.unwrap();
        assert_eq!(packs(&mirror), (0, true));
    });
}
