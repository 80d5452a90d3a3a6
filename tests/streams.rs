//! Streams of events, and of turns.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::client::Client;
use harness::streams::{Reader, text_of};
use harness::{Host, HostBuilder, Value, json, model_server, wait_until};
use parking_lot::Mutex;
use rustix::process::Signal;

fn is_turn_end(frame: &Value) -> bool {
    frame["event"] == "agent.turn"
}

#[test]
fn a_turn_is_seen_as_it_happens() {
    let model = model_server();
    let host = Host::builder().guest("mayor").model(&model, "").start();
    host.client().start("mayor", "mayor");
    let mut reader = Reader::open(host.client(), "/agents/mayor/events/stream");
    let mut all = Reader::open(host.client(), "/events/stream?deltas=true");
    let mut blind = Reader::open(host.client(), "/events/stream?event=agent.turn");
    let reply = host.client().ask("mayor", "hello");
    for reader in [&mut reader, &mut all] {
        let frames = reader.until(is_turn_end);
        assert_eq!(text_of(&frames, "text"), reply, "{frames:?}");
        let ids: Vec<_> = frames.iter().filter_map(|frame| frame["messageId"].as_str()).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "one message: {frames:?}");
    }
    let frames = blind.until(is_turn_end);
    assert_eq!((frames.len(), text_of(&frames, "text").as_str()), (1, ""));
    host.finish();
}

#[test]
fn a_message_streams_its_turn_and_ends_with_the_answer() {
    let model = model_server();
    let host = Host::builder().guest("mayor").guest("puppet").model(&model, "").start();
    host.client().start("mayor", "mayor");
    host.client().start("puppet", "puppet");
    let frames = Reader::of_turn(host.client(), "mayor", "hello").rest();
    let last = frames.last().expect("an end");
    assert_eq!((&last["type"], &last["outcome"]), (&json!("turn"), &json!("idle")));
    assert_eq!(last["reply"], text_of(&frames, "text"));
    let frames = Reader::of_turn(host.client(), "puppet", "panic").rest();
    let last = frames.last().expect("an end");
    assert_eq!((&last["type"], &last["exitReason"]), (&json!("error"), &json!("panic")), "{last}");
    assert!(last["crashId"].is_string());
    host.finish();
}

#[test]
fn tools_are_seen_to_begin_and_to_end() {
    let model = model_server();
    let host = Host::builder().guest("mayor").model(&model, "").start();
    host.client().start("mayor", "mayor");
    let mut reader = Reader::open(host.client(), "/agents/mayor/events/stream");
    host.client().ask("mayor", "emit town.square {\"people\":3}");
    let frames = reader.until(is_turn_end);
    let deltas: Vec<_> =
        frames.iter().filter_map(|frame| frame["deltas"].as_array()).flatten().collect();
    let of = |kind: &str| deltas.iter().find(|delta| delta["kind"] == kind).map(|it| (*it).clone());
    let begin = of("tool_begin").unwrap_or_else(|| panic!("no tool: {frames:?}"));
    let end = of("tool_end").unwrap_or_else(|| panic!("no end: {frames:?}"));
    assert_eq!(begin["id"], end["id"]);
    assert!(
        begin["name"].is_string()
            && begin["arguments"].as_str().is_some_and(|it| it.starts_with('{'))
    );
    host.finish();
}

#[test]
fn a_role_can_keep_its_turns_to_itself() {
    let model = model_server();
    let builder = Host::builder().guest("mayor").model(&model, "");
    let host =
        builder.role("quiet", "mayor", "models = [\"default\"]\nlive_output = false").start();
    host.client().start("quiet", "quiet");
    let frames = Reader::of_turn(host.client(), "quiet", "hello").rest();
    assert_eq!(frames.len(), 1, "{frames:?}");
    host.finish();
}

#[test]
fn a_stream_is_no_activity_of_its_agent() {
    let builder = Host::builder().role("idler", "puppet", "idle_ms = 500\nrestart = \"temporary\"");
    let host = builder.guest("puppet").start();
    host.client().start("one", "idler");
    let mut reader = Reader::open(host.client(), "/agents/one/events/stream");
    let frames = reader.until(|frame| frame["event"] == "agent.exit");
    let message = frames.last().unwrap()["data"]["message"].as_str();
    assert!(message.is_some_and(|it| it.starts_with("had nothing to do")), "{frames:?}");
    host.finish();
}

#[test]
fn streams_end_before_a_drained_host_does() {
    let host = Host::builder().guest("puppet").start();
    host.client().start("one", "puppet");
    let mut reader = Reader::open(host.client(), "/events/stream");
    host.finish();
    let frames = reader.rest();
    assert!(frames.iter().any(|frame| frame["event"] == "agent.exit"), "{frames:?}");
}

/// What a follower saw, over all its connections.
#[derive(Default)]
struct Seen {
    events: Mutex<Vec<Value>>,
    gaps: AtomicUsize,
}

/// Follows until it is over: comes back after each end with the last id that it has.
fn follow(path: &str, client: &Mutex<Client>, seen: &Seen, is_over: &AtomicBool) {
    let mut last_id = Some(0);
    while !is_over.load(Ordering::Relaxed) {
        let opened = Reader::try_open(&client.lock(), path, last_id);
        let Ok(mut reader) = opened else {
            std::thread::yield_now();
            continue;
        };
        while let Ok(Some(frame)) = reader.read() {
            if frame["type"] == "gap" {
                seen.gaps.fetch_add(1, Ordering::Relaxed);
            } else {
                seen.events.lock().push(frame);
            }
            last_id = reader.last_id;
            if is_over.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

fn builder() -> HostBuilder {
    Host::builder()
        .role("hog", "hog", "restart = \"permanent\"")
        .component("hog", &harness::files::component("hog"))
}

/// `STREAM_KILLS` says how often.
#[test]
fn whoever_follows_a_host_that_is_killed_sees_each_event_once_and_in_order() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let kills = number("STREAM_KILLS").unwrap_or(8);
    let seed = number("STREAM_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("STREAM_SEED={seed}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut host = builder().start().ready();
    for agent in ["a", "b"] {
        host.client().start(agent, "hog");
    }
    let new_client = |host: &Host| Client::new(host.address(), &host.state_dir());
    let client = Mutex::new(new_client(&host));
    let (of_all, of_a, slow) = (Seen::default(), Seen::default(), Seen::default());
    let is_over = AtomicBool::new(false);
    let (last, all) = std::thread::scope(|scope| {
        for (path, seen) in [
            ("/events/stream", &of_all),
            ("/agents/a/events/stream", &of_a),
            ("/events/stream?agent=a", &slow),
        ] {
            let (client, is_over) = (&client, &is_over);
            scope.spawn(move || follow(path, client, seen, is_over));
        }
        for kill in 0..kills {
            let wanted = of_all.events.lock().len() + dice.usize(1..40);
            let until = Instant::now() + Duration::from_secs(60);
            while of_all.events.lock().len() < wanted {
                assert!(Instant::now() < until, "kill {kill}: events do not come");
                for agent in ["a", "b"] {
                    host.client().send(agent, "events 10 40");
                }
            }
            host.signal(Signal::KILL);
            host.wait();
            host = host.restart().ready();
            *client.lock() = new_client(&host);
        }
        for agent in ["a", "b"] {
            host.client().ask(agent, "events 1 10");
        }
        let mut reader = Reader::open(host.client(), "/events/stream?after=0");
        let done = |frame: &Value| {
            is_turn_end(frame) && frame["agentId"] == "b" && frame["data"]["reply"] == "1"
        };
        let all = reader.until(done);
        let last = all.last().and_then(|frame| frame["id"].as_u64()).unwrap();
        let reached = |seen: &Seen, id: u64| {
            seen.events.lock().last().and_then(|frame| frame["id"].as_u64()) >= Some(id)
        };
        let is_of_a = |frame: &&Value| frame["agentId"] == "a";
        let last_of_a = all.iter().rfind(is_of_a).and_then(|frame| frame["id"].as_u64()).unwrap();
        wait_until("all of them have all", || {
            reached(&of_all, last) && reached(&of_a, last_of_a) && reached(&slow, last_of_a)
        });
        is_over.store(true, Ordering::Relaxed);
        // Each waits for one more frame, and sees that it is over.
        host.client().ask("a", "events 1 10");
        (last, all)
    });
    let first = all.iter().find_map(|frame| frame["id"].as_u64()).unwrap();
    for (name, seen, is_wanted) in [
        ("all", &of_all, (|_: &Value| true) as fn(&Value) -> bool),
        ("a", &of_a, |frame: &Value| frame["agentId"] == "a"),
        ("filtered", &slow, |frame: &Value| frame["agentId"] == "a"),
    ] {
        assert_eq!(seen.gaps.load(Ordering::Relaxed), 0, "{name} had gaps");
        let seen = seen.events.lock();
        let within =
            |frame: &&Value| frame["id"].as_u64().is_some_and(|id| (first..=last).contains(&id));
        let seen: Vec<_> = seen.iter().filter(within).collect();
        let kept: Vec<_> =
            all.iter().filter(|frame| frame["type"] == "event" && is_wanted(frame)).collect();
        assert_eq!(seen.len(), kept.len(), "{name}");
        for (seen, kept) in seen.iter().zip(&kept) {
            assert_eq!(seen, kept, "{name}");
        }
    }
    println!("{} events over {kills} kills", all.len());
    host.finish();
}
