//! A register in a bucket with three replicas, on three real servers of NATS: `just lease`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use jetstream::{Real, make_bucket};
use serde_json::json;
use tempfile::TempDir;

use super::identity;
use super::real::{is_a_register, settings};
use crate::register;
use crate::*;

/// For an election, and for a stream on all servers.
const PATIENCE: Duration = Duration::from_secs(60);

struct Cluster {
    servers: Vec<Real>,
    _dirs: Vec<TempDir>,
}

impl Cluster {
    fn start(program: &Path) -> Self {
        let ports: Vec<_> = (0..3).map(|_| support::free_address().port()).collect();
        let routes: Vec<_> = ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let routes = routes.join(", ");
        let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let start = |(number, (port, dir)): (usize, (&u16, &TempDir))| {
            let config = format!(
                "server_name: member-{number}\ncluster {{ name: towns, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}"
            );
            Real::start(program, dir.path(), &config).unwrap()
        };
        let servers = ports.iter().zip(&dirs).enumerate().map(start).collect();
        let cluster = Self { servers, _dirs: dirs };
        // Not before they have found each other and elected one.
        let until = Instant::now() + PATIENCE;
        let replicas = json!({ "num_replicas": 3 });
        while let Err(error) = make_bucket(&cluster.servers[0].at(), &json!({}), "towns", &replicas)
        {
            assert!(Instant::now() < until, "{error}");
            std::thread::sleep(Duration::from_millis(200));
        }
        cluster
    }

    fn settings(&self) -> Settings {
        let servers: Vec<_> = self.servers.iter().map(Real::at).collect();
        let ttl = Ttl::new(Duration::from_secs(20)).unwrap();
        Settings { ttl, ..settings(&format!("nats://{}/towns", servers.join(","))) }
    }
}

fn program(variable: &str) -> PathBuf {
    std::env::var_os(variable).expect("the path of a server").into()
}

#[tokio::test]
#[ignore = "wants servers: just lease"]
async fn real_servers_with_replicas_are_a_register() {
    is_a_register(&Cluster::start(&program("NATS_CLUSTER_SERVER")).settings()).await;
}

/// Each of the three goes and comes back, so one of them led.
#[tokio::test]
#[ignore = "wants servers: just lease"]
async fn a_lease_outlasts_each_member_of_real_servers() {
    let mut cluster = Cluster::start(&program("NATS_CLUSTER_SERVER"));
    let mut lease = Lease::open(&cluster.settings(), identity("a"), 0).unwrap();
    let (sender, mut held) = tokio::sync::watch::channel(Vec::new());
    let notify = move |status: &Status| sender.send_modify(|seen| seen.push(status.clone()));
    let blows = async {
        let renewals = |seen: &Vec<Status>| {
            seen.iter().filter(|it| matches!(it, Status::Held(permit) if permit.epoch == 1)).count()
        };
        for member in 0..3 {
            let so_far = renewals(&held.borrow());
            held.wait_for(|seen| renewals(seen) > so_far).await.unwrap();
            cluster.servers[member].kill().unwrap();
            let so_far = renewals(&held.borrow());
            held.wait_for(|seen| renewals(seen) > so_far).await.unwrap();
            cluster.servers[member].begin().unwrap();
        }
        let lost = held.borrow().iter().any(|it| matches!(it, Status::Lost { .. }));
        assert!(!lost, "{:?}", held.borrow());
    };
    let ended = tokio::time::timeout(3 * PATIENCE, lease.hold(notify, blows)).await.unwrap();
    assert_eq!(ended, Ok(Ended::Released));
}

/// Debian 12 has such servers.
#[tokio::test]
#[ignore = "wants servers: just lease"]
async fn real_servers_that_let_writes_race_are_refused() {
    let program = program("NATS_SERVER");
    let said = Command::new(&program).arg("--version").output().unwrap();
    let version = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    let tried = register::open(&Cluster::start(&program).settings()).unwrap().probe().await;
    match version.contains("v2.9.1") {
        true => {
            let error = tried.unwrap_err();
            assert!(error.to_string().contains("before 2.9.21"), "{version}: {error}");
        }
        false => tried.unwrap(),
    }
}
