//! What an event costs its publisher: kept in memory, with the journal, with somebody who follows.

use std::sync::Arc;

use bulkhead_feed::{Delta, Feed, Follow, Ring, RingLimits, Subscription};
use bulkhead_types::AgentId;
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

fn ring(feed: &Arc<Feed>) -> Arc<Ring> {
    let agent = AgentId::parse("an-agent").expect("an id");
    Arc::new(Ring::new(feed, agent, RingLimits::default(), &Arc::default()))
}

fn push(bencher: Bencher<'_, '_>, ring: &Ring) {
    bencher.bench_local(|| ring.push_value("progress", black_box(&"half of it")));
}

#[divan::bench]
fn in_memory(bencher: Bencher<'_, '_>) {
    push(bencher, &ring(&Arc::default()));
}

#[divan::bench]
fn with_journal(bencher: Bencher<'_, '_>) {
    let dir = tempfile::tempdir().expect("a directory");
    let (feed, problems) = Feed::open(dir.path());
    assert!(problems.is_empty());
    push(bencher, &ring(&Arc::new(feed)));
}

#[divan::bench]
fn followed(bencher: Bencher<'_, '_>) {
    let feed = Arc::default();
    let ring = ring(&feed);
    let _one = Subscription::new(&feed, Follow::Agent(Arc::clone(&ring)), None, false);
    push(bencher, &ring);
}

#[divan::bench]
fn text_that_nobody_sees(bencher: Bencher<'_, '_>) {
    let ring = ring(&Arc::default());
    bencher.bench_local(|| ring.say(|| Delta::Text(black_box("a few words").to_owned())));
}

#[divan::bench]
fn text_that_somebody_sees(bencher: Bencher<'_, '_>) {
    let feed = Arc::default();
    let ring = ring(&feed);
    let _one = Subscription::new(&feed, Follow::Agent(Arc::clone(&ring)), None, true);
    bencher.bench_local(|| ring.say(|| Delta::Text(black_box("a few words").to_owned())));
}
