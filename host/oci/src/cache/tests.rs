use std::time::Duration;

use super::*;

const ROOMY: Bounds = Bounds { max_component_bytes: 1024, max_bytes: 1024 * 1024, max_entries: 8 };

fn digest_of(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

fn manifest_of(component: &[u8]) -> Vec<u8> {
    let (digest, size) = (digest_of(component), component.len());
    let layer =
        format!(r#"{{"mediaType":"application/wasm","digest":"sha256:{digest}","size":{size}}}"#);
    format!(r#"{{"schemaVersion":2,"layers":[{layer}]}}"#).into_bytes()
}

fn begin(cache: &Cache, component: &[u8]) -> Making {
    let (making, mut file) = cache.begin().unwrap();
    file.write_all(component).unwrap();
    making
}

fn keep(cache: &Cache, component: &[u8]) -> Result<Digest, Cause> {
    let manifest = manifest_of(component);
    let (digest, bytes) = (digest_of(&manifest), component.len() as u64);
    let making = begin(cache, component);
    cache.keep(digest, making, &[manifest], None, bytes).map(|()| digest)
}

fn age(cache: &Cache, digest: Digest, seconds: u64) {
    let then = SystemTime::now() - Duration::from_secs(seconds);
    File::open(cache.place(digest)).unwrap().set_modified(then).unwrap();
}

#[test]
fn what_was_kept_is_found_again_by_another_process() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("deep/components");
    let digest = keep(&Cache::open(place.clone(), ROOMY), b"wasm").unwrap();
    let cache = Cache::open(place, ROOMY);
    let entry = cache.find(digest).unwrap().unwrap();
    assert_eq!(fs::read(&entry.path).unwrap(), b"wasm");
    assert_eq!((entry.digest, entry.bytes), (digest_of(b"wasm"), 4));
    assert!(cache.find(digest_of(b"other")).unwrap().is_none());
    assert!(keep(&cache, b"wasm").is_ok(), "twice is once");
}

#[test]
fn an_index_leads_to_a_component_by_its_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path().into(), ROOMY);
    let manifest = manifest_of(b"wasm");
    let inner = digest_of(&manifest);
    let index = format!(r#"{{"manifests":[{{"digest":"sha256:{inner}","size":1}}]}}"#).into_bytes();
    let digest = digest_of(&index);
    cache.keep(digest, begin(&cache, b"wasm"), &[index, manifest], None, 4).unwrap();
    assert_eq!(cache.find(digest).unwrap().unwrap().digest, digest_of(b"wasm"));
    fs::write(cache.place(digest).join("1.json"), manifest_of(b"evil")).unwrap();
    assert!(cache.find(digest).unwrap().is_none());
}

#[test]
fn no_byte_is_believed_that_has_changed() {
    type Damage = (&'static str, fn(&Path));
    let damages: [Damage; 6] = [
        ("other bytes", |dir| fs::write(dir.join(COMPONENT), "evil").unwrap()),
        ("fewer bytes", |dir| fs::write(dir.join(COMPONENT), "was").unwrap()),
        ("no bytes", |dir| fs::remove_file(dir.join(COMPONENT)).unwrap()),
        ("no manifest", |dir| fs::remove_file(dir.join(DOCUMENTS[0])).unwrap()),
        ("other manifest", |dir| fs::write(dir.join(DOCUMENTS[0]), manifest_of(b"evil")).unwrap()),
        ("both", |dir| {
            fs::write(dir.join(DOCUMENTS[0]), manifest_of(b"evil")).unwrap();
            fs::write(dir.join(COMPONENT), "evil").unwrap();
        }),
    ];
    for (name, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path().into(), ROOMY);
        let digest = keep(&cache, b"wasm").unwrap();
        damage(&cache.place(digest));
        assert!(cache.find(digest).unwrap().is_none(), "{name}");
        assert!(!cache.place(digest).exists(), "{name} stays");
        assert_eq!(keep(&cache, b"wasm").unwrap(), digest, "{name}");
        assert!(cache.find(digest).unwrap().is_some(), "{name}");
    }
}

#[test]
fn what_a_killed_process_left_is_removed_and_what_is_being_made_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let left = dir.path().join(".new-left");
    fs::create_dir(&left).unwrap();
    fs::write(left.join(COMPONENT), "half").unwrap();
    fs::write(dir.path().join("README"), "mine").unwrap();
    let cache = Cache::open(dir.path().into(), ROOMY);
    assert!(!left.exists());
    let making = begin(&cache, b"wasm");
    Cache::open(dir.path().into(), ROOMY);
    assert!(making.path().exists() && dir.path().join("README").exists());
    let path = making.path().to_owned();
    drop(making);
    assert!(!path.exists());
}

#[test]
fn the_least_recently_used_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path().into(), Bounds { max_entries: 2, ..ROOMY });
    let (old, older) = (keep(&cache, b"old").unwrap(), keep(&cache, b"older").unwrap());
    age(&cache, old, 60);
    age(&cache, older, 120);
    drop(cache.find(older).unwrap().unwrap());
    let new = keep(&cache, b"new").unwrap();
    assert!(cache.find(old).unwrap().is_none());
    assert!(cache.find(older).unwrap().is_some() && cache.find(new).unwrap().is_some());
}

#[test]
fn bytes_are_bounded_too() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path().into(), Bounds { max_bytes: 2500, ..ROOMY });
    let first = keep(&cache, &[1; 1000]).unwrap();
    age(&cache, first, 60);
    let second = keep(&cache, &[2; 1000]).unwrap();
    assert!(cache.find(first).unwrap().is_some());
    age(&cache, first, 60);
    keep(&cache, &[3; 1000]).unwrap();
    assert!(cache.find(first).unwrap().is_none());
    assert!(cache.find(second).unwrap().is_some());
}

#[test]
fn what_is_in_use_stays_and_is_named_when_there_is_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path().into(), Bounds { max_entries: 1, ..ROOMY });
    let digest = keep(&cache, b"used").unwrap();
    let used = cache.find(digest).unwrap().unwrap();
    // As another process would.
    let other = Cache::open(dir.path().into(), Bounds { max_entries: 1, ..ROOMY });
    let error = keep(&other, b"new").unwrap_err();
    assert!(matches!(error, Cause::CacheFull { used: 1, max_entries: 1, .. }), "{error}");
    assert!(used.path.exists());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left of the new one");
    drop(used);
    keep(&other, b"new").unwrap();
    assert!(cache.find(digest).unwrap().is_none());
}

#[test]
fn a_signature_is_kept_beside_its_component() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path().into(), ROOMY);
    let digest = keep(&cache, b"wasm").unwrap();
    assert_eq!(cache.signature(digest), None);
    let signature = Signature { payload: "cA==".into(), signature: "cw==".into() };
    cache.keep_signature(digest, &signature).unwrap();
    assert_eq!(cache.signature(digest), Some(signature));
    assert!(cache.find(digest).unwrap().is_some());
    assert_eq!(fs::read_dir(cache.place(digest)).unwrap().count(), 3);
}

#[test]
fn a_disk_that_takes_nothing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let cache = Cache::open(file.clone(), ROOMY);
    let error = cache.begin().err().unwrap().to_string();
    assert!(error.contains(&file.display().to_string()), "{error}");
}
