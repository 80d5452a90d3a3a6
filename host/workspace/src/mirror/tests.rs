use super::*;
use crate::credential::NoCredentials;
use crate::disk::gate::{drop_at, runtime};
use crate::run::{Command, End, Finished, Run, RunError};
use crate::settings::Settings;
use futures_util::future::BoxFuture;
use tempfile::TempDir;

/// Git that does nothing.
struct NoGit;

impl Run for NoGit {
    fn run(&self, _: Command) -> BoxFuture<'_, Result<Finished, RunError>> {
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
