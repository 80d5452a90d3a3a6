//! Rings, event file and subscriptions together.

use std::sync::Arc;
use std::time::Duration;

use bulkhead_account::Account;
use bulkhead_types::AgentId;
use futures_util::FutureExt;
use serde_json::value::RawValue;
use tokio::time::timeout;

use crate::feed::LOOKED;
use crate::{Delta, Feed, Follow, Item, Ring, RingLimits, Subscription};

fn id(name: &str) -> AgentId {
    AgentId::parse(name).unwrap()
}

fn ring(feed: &Arc<Feed>, name: &str) -> Arc<Ring> {
    Arc::new(Ring::new(feed, id(name), RingLimits::default(), &Arc::default()))
}

fn all() -> Follow {
    Follow::All { agents: Vec::new() }
}

fn text(data: &RawValue) -> String {
    serde_json::from_str(data.get()).unwrap()
}

/// What came, in short: events by their data, text as it is, gaps.
fn short(batch: &[Item]) -> Vec<String> {
    let short = |item: &Item| match item {
        Item::Event(entry) => format!("#{}", text(&entry.event.data)),
        Item::Deltas(frame) => {
            let texts = frame.deltas.iter().map(|delta| match delta {
                Delta::Text(text) => text.clone(),
                other => format!("{other:?}"),
            });
            texts.collect()
        }
        Item::Gap { .. } => "gap".into(),
        Item::DeltaGap => "delta gap".into(),
    };
    batch.iter().map(short).collect()
}

/// Does the work beside the relay. What it waits for comes within seconds of a paused clock, or never.
async fn relayed<T>(feed: &Arc<Feed>, work: impl Future<Output = T>) -> T {
    tokio::select! {
        () = feed.relay() => unreachable!("a relay has no end"),
        done = timeout(Duration::from_secs(60), work) => done.expect("it comes"),
    }
}

#[tokio::test(start_paused = true)]
async fn all_agents_have_one_order_and_each_has_its_own() {
    let feed = Arc::new(Feed::default());
    let (a, b) = (ring(&feed, "a"), ring(&feed, "b"));
    let mut of_all = Subscription::new(&feed, all(), Some(0), false);
    let mut of_b = Subscription::new(&feed, Follow::Agent(Arc::clone(&b)), Some(0), false);
    let mut of_a = Subscription::new(&feed, Follow::All { agents: vec![id("a")] }, Some(0), false);
    relayed(&feed, async {
        assert_eq!((a.push_value("e", &"1"), b.push_value("e", &"2")), (1, 2));
        feed.publish("container.x", serde_json::value::to_raw_value("3").unwrap());
        a.push_value("e", &"4");
        assert_eq!(short(&of_all.next().await.unwrap()), ["#1", "#2", "#3", "#4"]);
        assert_eq!(short(&of_b.next().await.unwrap()), ["#2"]);
        assert_eq!(short(&of_a.next().await.unwrap()), ["#1", "#4"]);
        b.push_value("e", &"5");
        assert_eq!(short(&of_all.next().await.unwrap()), ["#5"]);
        assert_eq!(short(&of_b.next().await.unwrap()), ["#5"]);
        assert!(of_a.now().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_follows_is_woken_and_who_comes_back_goes_on() {
    let feed = Arc::new(Feed::default());
    let ring = ring(&feed, "a");
    ring.push_value("e", &"before");
    let mut reader = Subscription::new(&feed, Follow::Agent(Arc::clone(&ring)), None, false);
    relayed(&feed, async {
        let late = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            ring.push_value("e", &"now");
        };
        let (batch, ()) = tokio::join!(reader.next(), late);
        assert_eq!(short(&batch.unwrap()), ["#now"]);
        drop(reader);
        ring.push_value("e", &"away");
        let mut again = Subscription::new(&feed, Follow::Agent(Arc::clone(&ring)), Some(2), false);
        assert_eq!(short(&again.next().await.unwrap()), ["#away"]);
        ring.close();
        assert!(again.next().await.is_none(), "a forgotten agent has an end");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_too_slow_has_a_gap_and_goes_on_behind_it() {
    let feed = Arc::new(Feed::default());
    let limits = RingLimits { events: 10, bytes: 1 << 20 };
    let ring = Arc::new(Ring::new(&feed, id("a"), limits, &Arc::default()));
    let mut reader = Subscription::new(&feed, Follow::Agent(Arc::clone(&ring)), Some(0), true);
    relayed(&feed, async {
        for n in 0..25 {
            ring.say(|| Delta::Text(format!("t{n}")));
            ring.push_value("e", &n.to_string());
        }
        let mut batch = Vec::new();
        while !batch.iter().any(|item| matches!(item, Item::Event(_))) {
            batch.extend(reader.next().await.unwrap());
        }
        let gaps: Vec<_> = batch.iter().filter(|item| matches!(item, Item::Gap { .. })).collect();
        let [Item::Gap { after: 0, upto: 15 }] = gaps[..] else { panic!("no gap, or two") };
        let events: Vec<_> = short(&batch).into_iter().filter(|it| it.starts_with('#')).collect();
        assert_eq!(events, (15..25).map(|n| format!("#{n}")).collect::<Vec<_>>());
        ring.push_value("e", &"on");
        assert_eq!(short(&reader.next().await.unwrap()), ["#on"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn text_comes_before_the_event_that_follows_it_at_most_twenty_times_a_second() {
    let feed = Arc::new(Feed::default());
    let ring = ring(&feed, "a");
    let mut one = Subscription::new(&feed, Follow::Agent(Arc::clone(&ring)), None, true);
    let mut of_all = Subscription::new(&feed, all(), None, true);
    let mut blind = Subscription::new(&feed, all(), None, false);
    relayed(&feed, async {
        ring.begin_turn("m");
        let speaks = async {
            for _ in 0..1000 {
                ring.say(|| Delta::Text("x".into()));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            ring.push_value("e", &"end");
        };
        let reads = async {
            let mut seen = Vec::new();
            while seen.last().is_none_or(|last| last != "#end") {
                seen.extend(short(&one.next().await.unwrap()));
            }
            seen
        };
        let (seen, ()) = tokio::join!(reads, speaks);
        assert!((20..=23).contains(&seen.len()), "{} frames", seen.len());
        let texts: String = seen[..seen.len() - 1].concat();
        assert_eq!(texts, "x".repeat(1000));
        let mut seen = Vec::new();
        while seen.last().is_none_or(|last| last != "#end") {
            seen.extend(short(&of_all.next().await.unwrap()));
        }
        assert_eq!(seen.concat(), "x".repeat(1000) + "#end");
        assert_eq!(short(&blind.next().await.unwrap()), ["#end"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_of_turns_that_nobody_sees() {
    let feed = Arc::new(Feed::default());
    let ring = ring(&feed, "a");
    ring.say(|| panic!("nobody looks"));
    let mut blind = Subscription::new(&feed, Follow::Agent(Arc::clone(&ring)), None, false);
    ring.say(|| panic!("nobody looks"));
    let mut seeing = Subscription::new(&feed, Follow::Agent(Arc::clone(&ring)), None, true);
    ring.say(|| Delta::Text("x".into()));
    assert_eq!(short(&seeing.now()), ["x"]);
    assert!(blind.now().is_empty());
    drop(seeing);
    ring.say(|| panic!("nobody looks any more"));
}

#[tokio::test(start_paused = true)]
async fn who_stops_looking_takes_nothing_from_others_and_leaves_nothing() {
    let feed = Arc::new(Feed::default());
    let account = Arc::new(Account::default());
    let ring = Arc::new(Ring::new(&feed, id("a"), RingLimits::default(), &account));
    let mut of_all = Subscription::new(&feed, all(), None, true);
    let one = Subscription::new(&feed, Follow::Agent(Arc::clone(&ring)), None, true);
    relayed(&feed, async {
        ring.say(|| Delta::Text("so".into()));
        assert_eq!(short(&of_all.next().await.unwrap()), ["so"]);
        // It waits to go out when one of the two leaves.
        ring.say(|| Delta::Text(" much".into()));
        drop(one);
        assert_eq!(short(&of_all.next().await.unwrap()), [" much"]);
        ring.say(|| Delta::Text("!".into()));
        drop(of_all);
        tokio::time::sleep(Duration::from_secs(1)).await;
    })
    .await;
    assert_eq!(account.reading().host.events, 0, "nobody looks any more");
}

#[tokio::test(start_paused = true)]
async fn no_event_is_shown_before_the_text_that_it_follows() {
    let feed = Arc::new(Feed::default());
    let ring = ring(&feed, "a");
    let mut of_all = Subscription::new(&feed, all(), None, true);
    let mut one = Subscription::new(&feed, Follow::Agent(Arc::clone(&ring)), None, true);
    for round in 0..2 {
        ring.say(|| Delta::Text(format!("{round}")));
        ring.push_value("e", &"end");
        // The relay has not had its turn: what it has to bring is not there yet.
        let early = [&mut of_all, &mut one].map(|reader| reader.next().now_or_never().flatten());
        let early = early.map(|batch| short(&batch.unwrap_or_default()));
        assert!(early.iter().flatten().all(|item| item != "#end"), "{early:?}");
        ring.say(|| Delta::Text("later".into()));
        relayed(&feed, async {
            for (reader, mut seen) in [&mut of_all, &mut one].into_iter().zip(early) {
                while seen.len() < 3 {
                    seen.extend(short(&reader.next().await.unwrap()));
                }
                assert_eq!(seen, [round.to_string(), "#end".into(), "later".into()]);
            }
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_two_agents_say_keeps_the_order_of_their_events() {
    let feed = Arc::new(Feed::default());
    let (a, b) = (ring(&feed, "a"), ring(&feed, "b"));
    let mut of_all = Subscription::new(&feed, all(), None, true);
    a.say(|| Delta::Text("a1".into()));
    b.say(|| Delta::Text("b1".into()));
    b.push_value("e", &"b");
    a.push_value("e", &"a");
    a.say(|| Delta::Text("a2".into()));
    relayed(&feed, async {
        let mut seen = Vec::new();
        while seen.len() < 5 {
            seen.extend(short(&of_all.next().await.unwrap()));
        }
        assert_eq!(seen, ["a1", "b1", "#b", "#a", "a2"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_said_now_comes_after_the_history() {
    let feed = Arc::new(Feed::default());
    let ring = ring(&feed, "a");
    (0..3).for_each(|n| _ = ring.push_value("e", &n.to_string()));
    let mut one = Subscription::new(&feed, Follow::Agent(Arc::clone(&ring)), Some(0), true);
    ring.say(|| Delta::Text("now".into()));
    relayed(&feed, async {
        let mut seen = Vec::new();
        while seen.len() < 4 {
            seen.extend(short(&one.next().await.unwrap()));
        }
        assert_eq!(seen, ["#0", "#1", "#2", "now"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn those_who_follow_all_agents_learn_that_text_of_one_was_lost() {
    let feed = Arc::new(Feed::default());
    let account = Arc::new(Account::default());
    account.begin(64 * 1024, 80, None);
    let ring = Arc::new(Ring::new(&feed, id("a"), RingLimits::default(), &account));
    let mut of_all = Subscription::new(&feed, all(), None, true);
    let mut one = Subscription::new(&feed, Follow::Agent(Arc::clone(&ring)), None, true);
    relayed(&feed, async {
        for reader in [&mut of_all, &mut one] {
            ring.say(|| Delta::Text("x".repeat(80 * 1024)));
            assert_eq!(short(&reader.next().await.unwrap()), ["delta gap"]);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_gap_begins_where_the_reader_was() {
    let feed = Arc::new(Feed::default());
    let limits = RingLimits { events: 10, bytes: 1 << 20 };
    let ring = Arc::new(Ring::new(&feed, id("a"), limits, &Arc::default()));
    let mut reader = Subscription::new(&feed, Follow::Agent(Arc::clone(&ring)), Some(0), true);
    (0..5).for_each(|_| _ = ring.push_value("e", &"x"));
    relayed(&feed, tokio::task::yield_now()).await;
    let ids: Vec<_> = (0..20).map(|_| ring.push_value("e", &"x")).collect();
    // The relay has not had its turn since.
    let mut items = reader.next().now_or_never().flatten().unwrap_or_default();
    relayed(&feed, async {
        while items.iter().filter(|item| matches!(item, Item::Event(_))).count() < 10 {
            items.extend(reader.next().await.unwrap());
        }
    })
    .await;
    let mut missing = 0;
    for item in &items {
        if let Item::Gap { after, upto } = item {
            assert_eq!(*after, missing, "it begins where the last one ended");
            missing = *upto;
        }
    }
    assert_eq!(missing, ids[9]);
}

#[test]
fn what_is_kept_ends_and_is_whole() {
    let feed = Arc::new(Feed::default());
    let (a, b) = (ring(&feed, "a"), ring(&feed, "b"));
    (0..2 * LOOKED).for_each(|_| _ = b.push_value("e", &"x"));
    a.push_value("e", &"kept");
    let follow = Follow::All { agents: vec![id("a")] };
    let mut reader = Subscription::new(&feed, follow, Some(0), false);
    a.push_value("e", &"later");
    assert_eq!(short(&reader.kept()), ["#kept"]);
    assert!(reader.kept().is_empty());
}

#[test]
fn a_reader_of_few_events_among_many_gets_all_of_them() {
    let feed = Arc::new(Feed::default());
    let (a, b) = (ring(&feed, "a"), ring(&feed, "b"));
    for n in 0..3 {
        (0..2 * LOOKED).for_each(|_| _ = b.push_value("e", &"x"));
        a.push_value("e", &n.to_string());
    }
    let follow = Follow::All { agents: vec![id("a")] };
    let mut reader = Subscription::new(&feed, follow, Some(0), false);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut read = Vec::new();
    while read.len() < 3 {
        read.extend(short(&runtime.block_on(reader.next()).unwrap()));
    }
    assert_eq!(read, ["#0", "#1", "#2"]);
}

#[test]
fn a_run_goes_on_where_the_one_before_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut last, mut written) = (0, Vec::new());
    for run in 0..20 {
        let (feed, problems) = Feed::open(dir.path());
        assert!(problems.is_empty(), "{problems:?}");
        let feed = Arc::new(feed);
        let ring = ring(&feed, "a");
        // What is dropped without a word is what a kill leaves.
        for n in 0..run * 7 % 5 + 1 {
            let id = ring.push_value("e", &format!("{run}.{n}"));
            assert!(id > last, "numbers rise over runs");
            last = id;
            written.push((id, format!("{run}.{n}")));
        }
        let kept = ring.after(0).events;
        let kept: Vec<_> = kept.iter().map(|event| (event.id, text(&event.data))).collect();
        assert_eq!(kept, written);
        let middle = written[written.len() / 2].0;
        let page = ring.after(middle);
        assert_eq!(page.dropped_before, None);
        assert_eq!(page.events.len(), written.iter().filter(|(id, _)| *id > middle).count());
        let page = feed.after(0, |_| true);
        assert_eq!(page.entries.len(), written.len());
        assert_eq!(feed.after(middle, |_| true).dropped_to, None);
    }
}

#[test]
fn nothing_is_kept_after_the_end_of_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let (feed, _) = Feed::open(dir.path());
    let null = || RawValue::NULL.to_owned();
    feed.publish("container.drained", null());
    feed.end("container.stopped", null());
    let late = feed.publish("container.component_loaded", null());
    let last = |feed: &Feed| feed.after(0, |_| true).entries.pop().unwrap().event;
    assert_eq!(&*last(&feed).event, "container.stopped");
    assert!(last(&feed).id < late);
    drop(feed);
    let (next, problems) = Feed::open(dir.path());
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(&*last(&next).event, "container.stopped");
    next.publish("container.cold_start", null());
    assert_eq!(&*last(&next).event, "container.cold_start");
}

#[test]
fn the_journal_goes_round_and_says_what_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = fastrand::Rng::with_seed(3);
    let mut first = 0;
    for _ in 0..4 {
        let (feed, problems) = Feed::open(dir.path());
        assert!(problems.is_empty(), "{problems:?}");
        let feed = Arc::new(feed);
        let (a, b) = (ring(&feed, "a"), ring(&feed, "b"));
        for n in 0..300 {
            let ring = if n % 3 == 0 { &a } else { &b };
            let id = ring.push_value("e", &"x".repeat(dice.usize(0..40_000)));
            if first == 0 {
                first = id;
            }
        }
        let page = feed.after(first, |_| true);
        let oldest = page.entries[0].event.id;
        assert_eq!(page.dropped_to, Some(oldest - 1));
    }
    let (feed, _) = Feed::open(dir.path());
    let feed = Arc::new(feed);
    let page = feed.after(first, |_| true);
    assert!(page.dropped_to.is_some() && page.entries.len() > 100);
    let a = ring(&feed, "a");
    assert!(a.after(first).dropped_before.is_some(), "some of its events are gone");
    assert!(a.after(0).events.iter().all(|event| event.id > page.dropped_to.unwrap()));
}

#[test]
fn a_reader_of_a_journal_that_is_lost_has_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let (feed, _) = Feed::open(dir.path());
    let feed = Arc::new(feed);
    let last = ring(&feed, "a").push_value("e", &"1");
    drop(feed);
    std::fs::write(dir.path().join("events"), "what is this").unwrap();
    let (feed, problems) = Feed::open(dir.path());
    assert!(matches!(problems[..], [crate::Problem::Unreadable { .. }]), "{problems:?}");
    let feed = Arc::new(feed);
    let a = ring(&feed, "a");
    assert!(a.push_value("e", &"2") > last);
    assert!(a.after(last).dropped_before.is_some());
    assert!(feed.after(last, |_| true).dropped_to.is_some());
    assert!(dir.path().join("events.corrupt").exists());
}

#[test]
fn a_file_that_cannot_be_renamed_stays_and_nobody_says_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("events"), "what is this").unwrap();
    std::fs::create_dir_all(dir.path().join("events.corrupt/in-the-way")).unwrap();
    let (feed, problems) = Feed::open(dir.path());
    assert!(matches!(problems[1], crate::Problem::Absent(_)), "{problems:?}");
    let text = problems[0].to_string();
    assert!(text.contains("it stays where it is") && !text.contains("corrupt"), "{text}");
    assert!(ring(&Arc::new(feed), "a").push_value("e", &"1") > 0);
    assert_eq!(std::fs::read(dir.path().join("events")).unwrap(), b"what is this");
}

#[test]
fn any_byte_that_is_damaged_costs_what_follows_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (feed, _) = Feed::open(dir.path());
    let feed = Arc::new(feed);
    let a = ring(&feed, "a");
    let ids: Vec<_> = (0..20).map(|n| a.push_value("e", &n.to_string())).collect();
    drop((a, feed));
    let path = dir.path().join("events");
    let whole = std::fs::read(&path).unwrap();
    let mut dice = fastrand::Rng::with_seed(11);
    for _ in 0..300 {
        let mut damaged = whole.clone();
        let at = dice.usize(0..4096 + 1600);
        damaged[at] ^= 1 << dice.u32(0..8);
        std::fs::write(&path, &damaged).unwrap();
        let (feed, _) = Feed::open(dir.path());
        let page = feed.after(0, |_| true);
        let found: Vec<_> = page.entries.iter().map(|entry| entry.event.id).collect();
        assert!(ids.starts_with(&found) || found.is_empty(), "byte {at}: {found:?}");
        let next = feed.publish("container.x", RawValue::NULL.to_owned());
        assert!(found.last().is_none_or(|last| next > *last));
        drop(feed);
        let (feed, problems) = Feed::open(dir.path());
        assert!(problems.is_empty(), "byte {at}: {problems:?}");
        assert_eq!(feed.after(next - 1, |_| true).entries.len(), 1, "byte {at}");
    }
}
