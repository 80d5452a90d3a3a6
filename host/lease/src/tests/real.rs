//! Registers over real files and sockets. Against a real server of S3, a real etcd and a real nats-server: `just lease`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_net::{BaseUrl, Connector};
use bulkhead_types::Secret;

use super::identity;
use crate::protocol::{Record, Version};
use crate::register::{self, Register, Written};
use crate::tests::server::{Kind, Server};
use crate::*;

pub(super) fn settings(address: &str) -> Settings {
    Settings {
        town: Name::parse("town-7").unwrap(),
        register: Address::parse(address).unwrap(),
        ttl: Ttl::new(Duration::from_secs(30)).unwrap(),
        connector: Connector::default(),
    }
}

fn s3(endpoint: &str, bucket: &str) -> Settings {
    let mut settings = settings(&format!("s3://{bucket}/of/towns"));
    let Address::S3(s3) = &mut settings.register else { panic!() };
    s3.options = [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2"),
    ]
    .map(|(name, value)| (name, Secret::from(value.to_owned())))
    .into();
    settings
}

pub(super) fn record(counter: u64) -> Record {
    Record {
        holder: "a".into(),
        endpoint: "10.0.0.7:8080".into(),
        epoch: 3,
        counter,
        ttl: Duration::from_secs(10),
        nonce: u128::from(counter) << 64 | 7,
        released: counter == 3,
    }
}

#[track_caller]
pub(super) fn stored(written: Result<Written, RegisterError>) -> Version {
    match written.unwrap() {
        Written::Stored(version) => version,
        Written::Conflict => panic!("a conflict"),
    }
}

/// What every register has to do.
pub(super) async fn keeps_its_word(settings: &Settings) {
    let register = register::open(settings).unwrap();
    register.probe().await.unwrap();
    // A second time it finds what the first one left.
    register.probe().await.unwrap();
    assert_eq!(register.read().await.unwrap(), None);
    let nothing = Version("7".into());
    assert_eq!(register.write_if(Some(&nothing), &record(1)).await.unwrap(), Written::Conflict);
    let first = stored(register.write_if(None, &record(1)).await);
    assert_eq!(register.write_if(None, &record(2)).await.unwrap(), Written::Conflict);
    assert_eq!(register.read().await.unwrap(), Some((first.clone(), record(1))));
    let second = stored(register.write_if(Some(&first), &record(2)).await);
    assert_ne!(first, second);
    assert_eq!(register.write_if(Some(&first), &record(3)).await.unwrap(), Written::Conflict);
    assert_eq!(register.read().await.unwrap(), Some((second.clone(), record(2))));
    let third = stored(register.write_if(Some(&second), &record(3)).await);
    // Another process sees the same.
    let other = register::open(settings).unwrap();
    assert_eq!(other.read().await.unwrap(), Some((third, record(3))));
    // And another town nothing.
    let other = Settings { town: Name::parse("town-8").unwrap(), ..settings.clone() };
    assert_eq!(register::open(&other).unwrap().read().await.unwrap(), None);
}

/// Of many that write at once one wins, each time.
async fn has_one_winner(settings: &Settings) {
    let settings = Settings { town: Name::parse("contested").unwrap(), ..settings.clone() };
    let registers: Vec<Arc<dyn Register>> =
        (0..4).map(|_| register::open(&settings).unwrap().into()).collect();
    let mut expected: Option<Version> = None;
    for round in 0..10 {
        let mut writers = tokio::task::JoinSet::new();
        for (writer, register) in registers.iter().enumerate() {
            let (register, expected) = (Arc::clone(register), expected.clone());
            let nonce = 1 + (round << 8 | writer as u128);
            let record = Record { nonce, ..record(1) };
            writers.spawn(async move { register.write_if(expected.as_ref(), &record).await });
        }
        let written = writers.join_all().await;
        let won: Vec<_> = written
            .into_iter()
            .filter_map(|written| match written.unwrap() {
                Written::Stored(version) => Some(version),
                Written::Conflict => None,
            })
            .collect();
        let [version] = &won[..] else { panic!("round {round}: {won:?}") };
        let (read, _) = registers[0].read().await.unwrap().unwrap();
        assert_eq!(read, *version);
        expected = Some(read);
    }
}

/// Two copies on the clock of this machine: the second one follows the first.
async fn is_held_by_one_after_the_other(settings: &Settings) {
    let ttl = Ttl::new(Duration::from_secs(2)).unwrap();
    let town = Name::parse("followed").unwrap();
    let settings = Settings { town, ttl, ..settings.clone() };
    let hold = async |holder: &str, is_released: bool| {
        let mut lease = Lease::open(&settings, identity(holder), 0).unwrap();
        let (sender, mut held) = tokio::sync::watch::channel(None);
        let notify = move |status: &Status| {
            if let Status::Held(permit) = status {
                sender.send_replace(Some(*permit));
            }
        };
        let (renewed, is_renewed) = tokio::sync::oneshot::channel();
        let release = async move {
            let first = held.wait_for(Option::is_some).await.unwrap().unwrap();
            assert!(first.is_valid(System.now()));
            if is_released {
                return;
            }
            let is_later = |now: &Option<Permit>| now.is_some_and(|it| it.until > first.until);
            held.wait_for(is_later).await.unwrap();
            renewed.send(()).unwrap();
            std::future::pending().await
        };
        let limit = Duration::from_secs(30);
        let ended = tokio::select! {
            ended = tokio::time::timeout(limit, lease.hold(notify, release)) => {
                Some(ended.expect("it holds the lease, and renews it").unwrap())
            }
            Ok(()) = is_renewed => None,
        };
        (ended, lease.floor())
    };
    // The second one is dropped after a renewal, and the next one waits for it.
    assert_eq!(hold("a", true).await, (Some(Ended::Released), 1));
    assert_eq!(hold("b", false).await, (None, 2));
    let began = std::time::Instant::now();
    assert_eq!(hold("c", true).await, (Some(Ended::Released), 3));
    assert!(began.elapsed() > Duration::from_secs(2));
}

pub(super) async fn is_a_register(settings: &Settings) {
    keeps_its_word(settings).await;
    has_one_winner(settings).await;
    is_held_by_one_after_the_other(settings).await;
    lists_its_towns(settings).await;
    is_tried(settings).await;
}

pub(super) fn fleet(settings: &Settings) -> Fleet {
    Fleet::open(&settings.register, settings.connector.clone()).unwrap()
}

/// More of them than the servers of these tests list at once, and no more than there are.
async fn lists_its_towns(settings: &Settings) {
    for number in 1..=5 {
        let town = Name::parse(&format!("listed-{number}")).unwrap();
        let register = register::open(&Settings { town, ..settings.clone() }).unwrap();
        stored(register.write_if(None, &record(number)).await);
    }
    let seen = fleet(settings).watch(Duration::ZERO).await.unwrap();
    assert!(!seen.has_more);
    let listed = seen.towns.iter().filter(|town| town.name.as_str().starts_with("listed-"));
    let listed: Vec<_> = listed.collect();
    let names: Vec<_> = listed.iter().map(|town| town.name.as_str()).collect();
    assert_eq!(names, ["listed-1", "listed-2", "listed-3", "listed-4", "listed-5"]);
    for (town, number) in listed.into_iter().zip(1..) {
        assert_eq!(town.record, Ok(record(number)), "{town:?}");
        let released = number == 3;
        assert_eq!(town.state, if released { State::Released } else { State::Unchanged });
    }
}

/// As `bulkhead check` tries it: who holds the lease is seen, and nothing is changed.
async fn is_tried(settings: &Settings) {
    let register = register::open(settings).unwrap();
    let before = register.read().await.unwrap();
    let holder = try_register(settings).await.unwrap().expect("a holder");
    let (_, record) = before.clone().expect("a record");
    assert_eq!((holder.name, holder.epoch), (record.holder, record.epoch));
    assert_eq!(register.read().await.unwrap(), before);
    let town = Name::parse("nobody").unwrap();
    assert_eq!(try_register(&Settings { town, ..settings.clone() }).await.unwrap(), None);
}

fn file(dir: &Path) -> Settings {
    settings(&format!("file://{}", dir.display()))
}

#[tokio::test]
async fn a_directory_is_a_register() {
    let dir = tempfile::tempdir().unwrap();
    is_a_register(&file(dir.path())).await;
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_not_empty() {
    let dir = tempfile::tempdir().unwrap();
    let register = register::open(&file(&dir.path().join("mount"))).unwrap();
    let error = register.read().await.unwrap_err();
    assert!(matches!(error, RegisterError::Unavailable(_)), "{error}");
    assert!(register.probe().await.is_err());
    assert!(register.write_if(None, &record(1)).await.is_err());
}

#[tokio::test]
async fn a_writer_that_is_frozen_blocks_others_and_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { ttl: Ttl::new(Ttl::MIN).unwrap(), ..file(dir.path()) };
    let register = register::open(&settings).unwrap();
    register.probe().await.unwrap();
    let version = stored(register.write_if(None, &record(1)).await);
    let lock = std::fs::File::open(dir.path().join("town-7.lease.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let error = register.write_if(Some(&version), &record(2)).await.unwrap_err();
    assert!(error.to_string().contains("another process has locked"), "{error}");
    // Readers see the record all the same.
    assert_eq!(register.read().await.unwrap(), Some((version.clone(), record(1))));
    drop(lock);
    stored(register.write_if(Some(&version), &record(2)).await);
}

#[tokio::test]
async fn a_damaged_record_is_no_free_lease() {
    let dir = tempfile::tempdir().unwrap();
    let register = register::open(&file(dir.path())).unwrap();
    stored(register.write_if(None, &record(1)).await);
    let path = dir.path().join("town-7.lease.json");
    for damaged in ["", "{}", "<html>"] {
        std::fs::write(&path, damaged).unwrap();
        assert!(matches!(register.read().await, Err(RegisterError::Misbehaves(_))));
        assert_eq!(register.write_if(None, &record(2)).await, Ok(Written::Conflict));
    }
}

#[tokio::test]
async fn a_damaged_record_is_listed_as_one_and_other_files_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let settings = file(dir.path());
    stored(register::open(&settings).unwrap().write_if(None, &record(1)).await);
    for (name, text) in [("bad.lease.json", "{"), ("a b.lease.json", "{}"), ("other.json", "{}")] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let seen = fleet(&settings).watch(Duration::ZERO).await.unwrap();
    let [bad, good] = &seen.towns[..] else { panic!("{seen:?}") };
    assert_eq!((bad.name.as_str(), bad.state), ("bad", State::Unreadable));
    assert!(matches!(bad.record, Err(RegisterError::Misbehaves(_))));
    assert_eq!((good.name.as_str(), good.state), ("town-7", State::Unchanged));
    let away = file(&dir.path().join("mount"));
    assert!(fleet(&away).watch(Duration::ZERO).await.is_err());
}

/// One town is renewed, one was left.
#[tokio::test(start_paused = true)]
async fn a_holder_that_is_gone_is_told_from_one_that_renews() {
    let dir = tempfile::tempdir().unwrap();
    let of = |town: &str| {
        let town = Name::parse(town).unwrap();
        register::open(&Settings { town, ..file(dir.path()) }).unwrap()
    };
    stored(of("gone").write_if(None, &record(1)).await);
    let renewed = of("renewed");
    let version = stored(renewed.write_if(None, &record(1)).await);
    let fleet = fleet(&file(dir.path()));
    let renew = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        stored(renewed.write_if(Some(&version), &record(2)).await);
    };
    let (seen, ()) = tokio::join!(fleet.watch(Duration::from_secs(60)), renew);
    let seen = seen.unwrap();
    let states: Vec<_> = seen.towns.iter().map(|town| (town.name.as_str(), town.state)).collect();
    assert_eq!(states, [("gone", State::Expired), ("renewed", State::Held)]);
    assert!(seen.towns[0].unchanged >= Duration::from_millis(10_500), "{seen:?}");
}

#[tokio::test]
async fn a_bucket_with_conditions_is_a_register() {
    let server = Server::start(Kind::Bucket { conditions: true });
    is_a_register(&s3(&server.url(), "leases")).await;
}

#[tokio::test]
async fn a_bucket_that_ignores_conditions_is_refused() {
    let server = Server::start(Kind::Bucket { conditions: false });
    let settings = s3(&server.url(), "leases");
    let mut lease = Lease::open(&settings, identity("a"), 0).unwrap();
    let refused = lease.hold(|_| {}, std::future::pending()).await.unwrap_err();
    let text = "the server of s3://leases/of/towns ignores the condition If-None-Match of a write: \
                it cannot hold leases";
    assert_eq!(refused, RegisterError::Misbehaves(text.into()));
}

#[tokio::test]
async fn etcd_is_a_register() {
    let server = Server::start(Kind::Etcd { login: false });
    let address = format!("etcd://{}/towns", server.at);
    is_a_register(&settings(&address)).await;
}

fn kubernetes(server: &Server, token: &Path) -> Settings {
    let mut settings = settings("kubernetes://towns");
    let Address::Kubernetes(at) = &mut settings.register else { panic!() };
    at.server = Some(BaseUrl::parse(&server.url()).unwrap());
    at.token_file = Some(token.to_owned());
    settings
}

#[tokio::test]
async fn kubernetes_is_a_register() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "hunter2\n").unwrap();
    let server = Server::start(Kind::Kubernetes { versions: true });
    let settings = kubernetes(&server, &token);
    is_a_register(&settings).await;
    // For people.
    let object = server.object("bulkhead-town-7");
    assert_eq!(object["spec"]["holderIdentity"], "", "{object}");
    assert_eq!(object["spec"]["leaseDurationSeconds"], 10);
    assert_eq!(object["spec"]["leaseTransitions"], 3);
}

#[tokio::test]
async fn an_api_server_that_ignores_versions_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "hunter2").unwrap();
    let server = Server::start(Kind::Kubernetes { versions: false });
    let register = register::open(&kubernetes(&server, &token)).unwrap();
    // Without an object there is none to patch.
    register.probe().await.unwrap();
    stored(register.write_if(None, &record(1)).await);
    let error = register.probe().await.unwrap_err();
    assert!(matches!(error, RegisterError::Misbehaves(_)), "{error}");
}

#[tokio::test]
async fn the_token_of_a_pod_is_read_for_each_request() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    let server = Server::start(Kind::Kubernetes { versions: true });
    let settings = kubernetes(&server, &token);
    let register = register::open(&settings).unwrap();
    let error = register.read().await.unwrap_err();
    assert!(matches!(error, RegisterError::Unavailable(_)), "{error}");
    std::fs::write(&token, "old").unwrap();
    let error = register.read().await.unwrap_err();
    assert_eq!(
        error,
        RegisterError::Refused("the API server answered 401 Unauthorized: Unauthorized".into())
    );
    std::fs::write(&token, "hunter2").unwrap();
    assert_eq!(register.read().await.unwrap(), None);
}

#[tokio::test]
async fn an_object_of_another_program_and_a_namespace_that_is_not_there_are_no_free_leases() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "hunter2").unwrap();
    let server = Server::start(Kind::Kubernetes { versions: true });
    server
        .set("bulkhead-town-7", r#"{"metadata":{"name":"bulkhead-town-7","resourceVersion":"9"}}"#);
    let mut settings = kubernetes(&server, &token);
    let register = register::open(&settings).unwrap();
    let error = register.read().await.unwrap_err();
    assert!(error.to_string().contains("another program made it"), "{error}");
    assert_eq!(register.write_if(None, &record(1)).await.unwrap(), Written::Conflict);
    let Address::Kubernetes(at) = &mut settings.register else { panic!() };
    at.namespace = "elsewhere".into();
    let error = register::open(&settings).unwrap().probe().await.unwrap_err();
    assert!(matches!(error, RegisterError::Refused(_)), "{error}");
    settings.town = Name::parse("Town").unwrap();
    assert!(register::open(&settings).is_err());
}

#[tokio::test]
async fn another_member_is_asked_where_one_is_gone() {
    let server = Server::start(Kind::Etcd { login: false });
    is_a_register(&settings(&format!("etcd://127.0.0.1:1,{}/towns", server.at))).await;
}

#[tokio::test]
async fn etcd_with_a_login_is_asked_with_a_token_and_with_another_one_when_that_ends() {
    let server = Server::start(Kind::Etcd { login: true });
    let mut settings = settings(&format!("etcd://{}/towns", server.at));
    let register = register::open(&settings).unwrap();
    let error = register.probe().await.unwrap_err();
    assert!(matches!(error, RegisterError::Refused(_)), "{error}");
    let Address::Etcd(etcd) = &mut settings.register else { panic!() };
    etcd.login = Some(("town".into(), "wrong".to_owned().into()));
    let error = register::open(&settings).unwrap().probe().await.unwrap_err();
    assert!(matches!(error, RegisterError::Refused(_)), "{error}");
    let Address::Etcd(etcd) = &mut settings.register else { panic!() };
    etcd.login = Some(("town".into(), "hunter2".to_owned().into()));
    keeps_its_word(&settings).await;
    let register = register::open(&settings).unwrap();
    register.probe().await.unwrap();
    server.forget_tokens();
    register.read().await.unwrap();
}

#[tokio::test]
async fn what_is_no_etcd_is_refused_and_what_is_not_there_is_waited_for() {
    let server = Server::start(Kind::Bucket { conditions: true });
    let register = register::open(&settings(&format!("etcd://{}", server.at))).unwrap();
    let error = register.probe().await.unwrap_err();
    assert!(matches!(error, RegisterError::Misbehaves(_)), "{error}");
    for nobody in [settings("etcd://127.0.0.1:1"), s3("http://127.0.0.1:1", "leases")] {
        let register = register::open(&nobody).unwrap();
        let error = register.probe().await.unwrap_err();
        assert!(matches!(error, RegisterError::Unavailable(_)), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
#[ignore = "wants a server: just lease"]
async fn a_real_bucket() {
    let endpoint = std::env::var("LEASE_S3").expect("the server's URL");
    is_a_register(&s3(&endpoint, "leases")).await;
    let register = register::open(&s3(&endpoint, "missing")).unwrap();
    let error = register.probe().await.unwrap_err();
    assert!(error.to_string().contains("NoSuchBucket"), "{error}");
}

#[tokio::test]
#[ignore = "wants a server: just lease"]
async fn a_real_etcd() {
    let servers = std::env::var("LEASE_ETCD").expect("host and port");
    is_a_register(&settings(&format!("etcd://{servers}/towns"))).await;
}

#[tokio::test]
#[ignore = "wants a server: just lease"]
async fn a_real_etcd_with_a_login() {
    let servers = std::env::var("LEASE_ETCD_LOGIN").expect("host and port");
    let mut settings = settings(&format!("etcd://{servers}/towns"));
    let error = register::open(&settings).unwrap().probe().await.unwrap_err();
    assert!(matches!(error, RegisterError::Refused(_)), "{error}");
    let Address::Etcd(etcd) = &mut settings.register else { panic!() };
    etcd.login = Some(("root".into(), "wrong".to_owned().into()));
    let error = register::open(&settings).unwrap().probe().await.unwrap_err();
    assert!(matches!(error, RegisterError::Refused(_)), "{error}");
    let Address::Etcd(etcd) = &mut settings.register else { panic!() };
    etcd.login = Some(("root".into(), "hunter2".to_owned().into()));
    keeps_its_word(&settings).await;
}
