//! Names and addresses, in a network namespace with a hosts file of its own: a route that swallows every IPv6
//! packet, private addresses, and IPv6 addresses that carry IPv4 ones.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use harness::{Host, Need, files, model_server, wait_until};
use town_server::{Options, TownServer};

use super::{names, servers};

/// The test below, run by the one above it.
const INNER: &str = "outgoing::network::in_a_network_of_its_own";

/// An address that packets leave for and never reach.
const SWALLOWED: &str = "2606:4700::1";

/// The private address of everything that is there.
const INSIDE: &str = "10.99.0.1";

/// Far less than it takes to give a connection or a name server up. On a busy machine only the quickest of some tries
/// keeps to it.
const SOON: Duration = Duration::from_secs(1);
const TRIES: usize = 5;

/// Whether that can be had.
const PROBE: [&str; 9] = ["ip", "link", "add", "hole", "type", "veth", "peer", "name", "drain"];

#[test]
fn names_lead_where_they_may_and_dead_addresses_are_passed_over() {
    let namespace = ["--net", "--mount"];
    let probe = Command::new("unshare").args(namespace).args(PROBE).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return harness::skip(
            Need::Netns,
            "a network namespace with a pair of interfaces, which takes root, unshare and ip",
        );
    }
    let this = std::env::current_exe().expect("path of this test");
    let inner = Command::new("unshare")
        .args(namespace)
        .arg(this)
        .args(["--exact", INNER, "--ignored", "--nocapture"])
        .output()
        .expect("run the test in a namespace");
    let text = [inner.stdout, inner.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(inner.status.success() && text.contains("1 passed"), "{text}");
    println!("{text}");
}

#[track_caller]
fn run(line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let output = Command::new(words[0]).args(&words[1..]).output().expect(line);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Tries again until it was soon. What waits for something dead never is.
#[track_caller]
fn is_soon(what: &str, mut attempt: impl FnMut(usize) -> Duration) {
    let mut took = Vec::new();
    while took.len() < TRIES {
        took.push(attempt(took.len()));
        if took.last().is_some_and(|last| *last < SOON) {
            return println!("{what}: {took:.2?}");
        }
    }
    panic!("{what}: {took:.2?}");
}

fn prepare(dir: &std::path::Path) {
    let (hosts, resolver) = (dir.join("hosts"), dir.join("resolv.conf"));
    std::fs::write(&resolver, "nameserver 127.0.0.1\n").expect("write the resolver's file");
    run(&format!("mount --bind {} /etc/resolv.conf", resolver.display()));
    let mut text = "127.0.0.1 localhost\n".to_owned();
    let names = [
        (SWALLOWED, "model.test town.test"),
        (INSIDE, "model.test town.test inside.test private.test"),
        ("64:ff9b::5db8:d822", "public64.test"),
        ("64:ff9b::a00:1", "inside64.test"),
        ("100.100.1.1", "shared.test"),
        ("169.254.7.7", "link.test"),
    ];
    for (address, names) in names {
        let _ = writeln!(text, "{address} {names}");
    }
    std::fs::write(&hosts, text).expect("write the hosts file");
    run(&format!("mount --bind {} /etc/hosts", hosts.display()));
    run("ip link set lo up");
    for address in [INSIDE, "100.100.1.1", "169.254.7.7"] {
        run(&format!("ip addr add {address}/32 dev lo"));
    }
    for address in ["64:ff9b::5db8:d822", "64:ff9b::a00:1"] {
        run(&format!("ip addr add {address}/128 dev lo nodad"));
    }
    // The gateway is nobody: what is sent to it is dropped without a word.
    run("ip link add hole type veth peer name drain");
    run("ip addr add 2001:470::2/64 dev hole nodad");
    run("ip link set hole up");
    run("ip link set drain up");
    run("ip -6 neigh add 2001:470::1 lladdr 02:00:00:00:00:01 dev hole");
    run("ip -6 route add default via 2001:470::1 dev hole");
}

#[test]
#[ignore = "run by the test above, in a namespace"]
fn in_a_network_of_its_own() {
    let dir = tempfile::tempdir().expect("make a directory");
    prepare(dir.path());
    let asked = names::serve(Ipv4Addr::LOCALHOST).expect("serve names");
    the_town_and_the_model_are_reached_past_an_address_that_swallows_packets();
    agents_and_commands_pass_dead_addresses_over_as_well();
    names_that_nobody_answers_hold_up_nobody_else(&asked);
    addresses_are_judged();
    check_resolves_and_tries(dir.path());
}

fn the_town_and_the_model_are_reached_past_an_address_that_swallows_packets() {
    let model = model_server();
    let listen = model.base_url();
    let listen = listen.trim_start_matches("http://").split('/').next().expect("an authority");
    let listen: SocketAddr = listen.parse().expect("an address");
    let front = servers::forward(&format!("{INSIDE}:0"), listen);
    let address = format!("{INSIDE}:0").parse().expect("an address");
    let town = TownServer::start(Options { listen: address, ..Options::default() });
    let town = town.expect("start a town server");
    let config = format!(
        "[models.default]\nbase_url = \"http://model.test:{}/v1\"\nmodel = \"scripted\"\n\
         [town]\nid = \"riverside\"\napi_url = \"http://town.test:{}\"\ntoken = \"any\"\n",
        front.port(),
        town.address().port(),
    );
    is_soon("the town and the model are reached past a dead address", |_| {
        let host = Host::builder().guest("mayor").toml(&config).start();
        let began = Instant::now();
        wait_until("the town is notified", || {
            host.client().metrics()["bulkhead_town_reachable"] == 1.0
        });
        let town = began.elapsed();
        assert!(host.events_named("town.unreachable").is_empty());
        host.wait_until_ready();
        host.client().start("mayor", "mayor");
        let began = Instant::now();
        assert_eq!(host.client().ask("mayor", "hello"), "Hello. I answer from a script.");
        let model = began.elapsed();
        host.finish();
        town.max(model)
    });
}

fn agents_and_commands_pass_dead_addresses_over_as_well() {
    let (server, _) = servers::http(&format!("{INSIDE}:0"));
    let port = server.port();
    let name = "[server]\nallowed_hosts = [\"model.test\"]";
    let allow = format!("http_allow = [{{ host = \"model.test:{port}\", private = true }}]");
    let host = Host::builder().guest("hog").role("hog", "hog", &allow).toml(name).start();
    is_soon("an agent's request", |number| {
        let agent = format!("hog-{number}");
        host.client().start(&agent, "hog");
        let began = Instant::now();
        assert_eq!(host.client().ask(&agent, &format!("fetch 1 model.test:{port} /")), "4");
        began.elapsed()
    });
    let front = servers::forward(&format!("{INSIDE}:0"), host.address());
    is_soon("a command", |_| {
        let url = format!("http://model.test:{}", front.port());
        let began = Instant::now();
        let mut command = Command::new(files::binary());
        command
            .args(["ps", "--url", &url])
            .env("BULKHEAD_CONTROL_TOKEN", host.client().token().unwrap_or("any"));
        let output = command.output().expect("run a command");
        let text = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
        began.elapsed()
    });
    host.finish();
}

fn names_that_nobody_answers_hold_up_nobody_else(asked: &Receiver<String>) {
    let (server, _) = servers::http("127.0.0.1:0");
    let port = server.port();
    let role = format!(
        "http_allow = [\"*.evil.test\", {{ host = \"*.good.test:{port}\", private = true }}]"
    );
    let host = Host::builder().guest("hog").role("hog", "hog", &role).start();
    host.client().start("good", "hog");
    is_soon("a name that is known, beside names that nobody answers", |attempt| {
        let mut evil: BTreeSet<_> =
            (0..4).map(|number| format!("evil-{attempt}-{number}")).collect();
        for agent in &evil {
            host.client().start(agent, "hog");
            host.client().send(agent, &format!("fetch 1 {agent}.evil.test /")).expect(200);
        }
        while !evil.is_empty() {
            let name = asked.recv_timeout(SOON * 10).expect("all of them are looked up");
            evil.remove(name.split('.').next().unwrap_or_default());
        }
        let began = Instant::now();
        let name = format!("n{attempt}.good.test:{port}");
        assert_eq!(host.client().ask("good", &format!("fetch 1 {name} /")), "4");
        began.elapsed()
    });
    host.finish();
}

fn addresses_are_judged() {
    let (server, log) = servers::http("[::]:0");
    let port = server.port();
    let allow = format!(
        "http_allow = [\"inside.test:{port}\", \"public64.test:{port}\", \"inside64.test:{port}\", \
         \"shared.test:{port}\", \"169.254.7.7:{port}\", \
         {{ host = \"private.test:{port}\", private = true }}, \
         {{ host = \"link.test:{port}\", private = true }}]"
    );
    let host = Host::builder().guest("hog").role("hog", "hog", &allow).start();
    host.client().start("hog", "hog");
    let fetch = |name: &str| host.client().ask("hog", &format!("fetch 1 {name}:{port} /"));
    for name in ["public64.test", "private.test", "169.254.7.7"] {
        assert_eq!(fetch(name), "4", "{name}");
    }
    let reached = log.all().len();
    for (name, address) in [
        ("inside.test", INSIDE),
        ("inside64.test", "10.0.0.1"),
        ("shared.test", "100.100.1.1"),
        ("link.test", "169.254.7.7"),
    ] {
        let reply = fetch(name);
        for named in [name, address, "http_allow"] {
            assert!(reply.contains(named), "{named} is not named to the guest: {reply}");
        }
        host.wait_for_line(&format!("the line about {name}"), |line| {
            let text = line["message"].as_str().unwrap_or_default();
            line["event"] == "agent.log"
                && [name, address, "http_allow"].iter().all(|named| text.contains(named))
        });
    }
    assert_eq!(log.all().len(), reached);
    host.finish();
}

fn check_resolves_and_tries(dir: &std::path::Path) {
    let (server, _) = servers::http("[::]:0");
    let config = dir.join("bulkhead.toml");
    let component = files::component("hog");
    let check = |port: u16, host: &str, allow: &str| {
        let text = format!(
            "[state]\ndir = \"state\"\n[models.default]\nbase_url = \"http://{host}:{port}/v1\"\n\
             [components.hog]\npath = {component:?}\n\
             [roles.hog]\ncomponent = \"hog\"\nmodels = [\"default\"]\nhttp_allow = [{allow}]\n"
        );
        std::fs::write(&config, text).expect("write the configuration");
        let mut command = Command::new(files::binary());
        let output = command.arg("check").arg("--config").arg(&config).output().expect("run it");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let (code, text) = check(server.port(), "private.test", "");
    let says = format!("model default http://private.test:{}/v1: ok", server.port());
    assert!(code == Some(0) && text.contains(&says) && text.contains(INSIDE), "{text}");
    let (code, text) = check(1, "private.test", "");
    assert!(code == Some(0) && text.contains("warning: ") && text.contains("refused"), "{text}");
    let (code, text) = check(1, "nobody.invalid", "");
    assert!(code == Some(0) && text.contains("resolve nobody.invalid"), "{text}");
    let link = format!("{{ host = \"link.test:{}\", private = true }}", server.port());
    let (code, text) = check(server.port(), "private.test", &link);
    assert!(code == Some(2) && text.contains("169.254.7.7"), "{text}");
    let (code, text) = check(server.port(), "private.test", "\"inside.test\"");
    assert!(code == Some(2) && text.contains("roles.hog.http_allow"), "{text}");
    assert!(text.contains(INSIDE) && text.contains("private = true"), "{text}");
}
