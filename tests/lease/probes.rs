//! A copy that waits answers probes, and its ports are free when its host begins.

use std::cell::Cell;
use std::net::TcpListener;
use std::process::Command;
use std::time::Instant;

use super::ports::Ports;
use super::*;

/// Status and body, if somebody answers.
fn get(address: SocketAddr, path: &str) -> Option<(u16, Value)> {
    let answer = answer(try_request(address, path).ok()?);
    let status = answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}

#[track_caller]
pub fn becomes(what: &str, address: SocketAddr, path: &str, wanted: u16) {
    wait_until(what, || get(address, path).is_some_and(|(status, _)| status == wanted));
}

fn health(flag: &str, address: SocketAddr) -> (Option<i32>, String) {
    let url = format!("http://{address}");
    let mut command = Command::new(files::binary());
    let ended = command.args(["health", flag, "--url", &url]).output().expect("run it");
    let said = [ended.stdout, ended.stderr].concat();
    (ended.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_copy_that_waits_is_alive_and_not_ready() {
    let (fleet, ports) = (Fleet::new(), Ports::free());
    let mut first = fleet.copy("first");
    first.serves(1);
    let second = fleet.copy_of("town", "second", &ports.configured());
    for address in ports.both() {
        becomes("it is alive", address, "/livez", 200);
        let (status, body) = get(address, "/readyz").expect("an answer");
        assert_eq!((status, &body["error_type"]), (503, &Value::from("standby")), "{body}");
        let holder = body["lease"]["holder"].as_str().expect("a holder");
        assert_eq!(body["lease"]["epoch"], 1);
        assert_eq!(
            body["error"],
            format!("standby: {holder} holds the lease of the town (epoch 1)")
        );
        let left = body["lease"]["takeoverInMs"].as_u64().expect("a time");
        assert!((1..=TTL_MS * 105 / 100).contains(&left), "{body}");
        assert_eq!(get(address, "/agents").expect("an answer").0, 503);
        let scraped = try_request(address, "/metrics").map(answer).expect("an answer");
        assert!(scraped.starts_with("HTTP/1.1 200"), "{scraped}");
        assert!(scraped.contains("\nbulkhead_standby 1\n"), "{scraped}");
        assert_eq!(health("--live", address), (Some(0), "ok\n".into()));
        let (code, said) = health("--ready", address);
        assert!(code == Some(1) && said.contains("standby") && said.contains(holder), "{said}");
    }
    // Beside connections that say nothing.
    let silent: Vec<_> = (0..40).map(|_| TcpStream::connect(ports.probes)).collect();
    assert_eq!(get(ports.probes, "/livez").expect("an answer").0, 200);
    first.signal(Signal::TERM);
    first.ends(0);
    second.serves(1);
    for address in ports.both() {
        becomes("the host answers", address, "/readyz", 200);
    }
    drop(silent);
    assert_eq!(one_at_a_time(&[&first, &second]), [1, 2]);
}

/// From the last answer of the copy that waits to the first one of its host. Printed, and bounded by what a probe bears.
#[test]
fn the_ports_are_silent_only_while_the_host_boots() {
    let (fleet, ports) = (Fleet::new(), Ports::free());
    let first = fleet.copy("first");
    first.serves(1);
    let second = fleet.copy_of("town", "second", &ports.configured());
    becomes("it is alive", ports.probes, "/livez", 200);
    first.signal(Signal::TERM);
    let (last, longest) = (Cell::new(Instant::now()), Cell::new(Duration::ZERO));
    wait_until("the host is ready", || {
        if let Some((status, _)) = get(ports.probes, "/readyz") {
            longest.set(longest.get().max(last.replace(Instant::now()).elapsed()));
            return status == 200;
        }
        false
    });
    let longest = longest.get();
    println!("nobody answered for {} ms at most", longest.as_millis());
    assert!(longest < Duration::from_secs(10), "{longest:?}");
    second.serves(1);
}

#[test]
fn a_copy_that_lost_its_lease_answers_probes_until_it_has_it_again() {
    let (fleet, ports) = (Fleet::new(), Ports::free());
    let first = fleet.copy_of("town", "first", &ports.configured());
    first.serves(1);
    let away = fleet.dir.path().join("away");
    std::fs::rename(fleet.register(), &away).expect("take the register away");
    becomes("it waits", ports.probes, "/readyz", 503);
    becomes("it is alive", ports.probes, "/livez", 200);
    wait_until("the register is named", || {
        get(ports.probes, "/readyz").is_some_and(|(_, body)| {
            let error = body["error"].as_str().unwrap_or_default();
            assert!(!error.contains("lease.json"), "{error}");
            error.starts_with("standby: the register of the lease does not answer")
        })
    });
    std::fs::rename(&away, fleet.register()).expect("bring the register back");
    first.serves(2);
    becomes("the host answers", ports.control, "/readyz", 200);
}

/// Until when init may run a supervisor without this keeper, as it says to it.
fn permit_until(keeper: Pid) -> u64 {
    let path = format!("/proc/{}/environ", keeper.as_raw_nonzero());
    let environment = std::fs::read(path).expect("read the environment");
    let mut variables = environment.split(|byte| *byte == 0);
    let order = variables.find_map(|it| it.strip_prefix(b"BULKHEAD_KEEPER=")).expect("an order");
    let third = order.split(|byte| *byte == b':').nth(2).expect("a number");
    String::from_utf8_lossy(third).parse().expect("a number")
}

/// A new keeper waits while the supervisor still runs by what the old one held. It must not take the port of one that is
/// started again.
#[test]
fn a_supervisor_that_is_restarted_finds_its_ports_free() {
    let (fleet, ports) = (Fleet::new(), Ports::free());
    let first = fleet.copy_of("town", "first", &ports.configured());
    first.serves(1);
    let (keeper, supervisor) = (first.named("bulkhead-keeper"), first.named("bulkhead"));
    assert_eq!(permit_until(keeper), 0);
    kill_process(keeper, Signal::KILL).expect("kill the keeper");
    let another = || first.find("bulkhead-keeper").filter(|found| *found != keeper);
    wait_until("there is another keeper", || another().is_some());
    assert!(permit_until(another().expect("the new one")) > 0, "it does not listen before");
    kill_process(supervisor, Signal::KILL).expect("kill the supervisor");
    first.serves(2);
    // By the lease of the new keeper, or that of the old one until its fence.
    becomes("the host answers", ports.probes, "/readyz", 200);
    assert!(is_alive(Pid::from_child(&first.init)));
    let in_use = |line: &Value| line.to_string().contains("is in use by another process");
    assert!(!first.lines().iter().any(in_use), "{:#?}", first.lines());
}

#[test]
fn a_port_that_another_process_has_is_reported() {
    let fleet = Fleet::new();
    let first = fleet.copy("first");
    first.serves(1);
    let taken = TcpListener::bind(support::free_address()).expect("a port");
    let address = taken.local_addr().expect("an address");
    let second = fleet.copy_of("town", "second", &format!("listen = \"{address}\""));
    second.says(&format!(
        "probes are not answered during the wait for the lease: cannot listen on {address}"
    ));
    drop(taken);
    becomes("it is alive", address, "/livez", 200);
}
