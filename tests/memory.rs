//! Memory over time: of agents, and of the container.

use std::cell::RefCell;

use harness::host::CLEAN;
use harness::{Host, HostBuilder, Value, json, wait_until};
use rustix::process::Signal;

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;

/// Between two samples, in milliseconds. Ten of them are two and a half seconds.
const SAMPLE_MS: f64 = 250.0;

/// Samples often and reports often.
fn host(sample_ms: f64) -> HostBuilder {
    let settings = format!("[memory]\nsample_ms = {sample_ms}\nreport_ms = 500");
    Host::builder().guest("leak").role("leak", "leak", "memory_limit_mb = 64").toml(&settings)
}

fn memory(host: &Host, agent: &str) -> Value {
    host.client().get(&format!("/agents/{agent}/memory")).expect(200)
}

#[track_caller]
fn number(of: &Value, field: &str) -> f64 {
    of[field].as_f64().unwrap_or_else(|| panic!("no number in {field}: {of}"))
}

#[track_caller]
fn assert_within_a_tenth(what: &str, found: f64, expected: f64) {
    let off = (found / expected - 1.0).abs();
    assert!(off <= 0.1, "{what}: {found} is off by {:.1} % from {expected}", off * 100.0);
}

fn samples<'a>(view: &'a Value, series: &str) -> &'a Vec<Value> {
    view[series].as_array().unwrap_or_else(|| panic!("no {series}: {view}"))
}

/// An agent that leaks 64 KiB every 25 ms within one long turn: 2.5 MiB a second.
#[test]
fn a_leak_of_a_known_rate_has_its_trend_and_its_time_left_after_ten_samples() {
    let host = host(SAMPLE_MS).start();
    let client = host.client();
    client.start("steady", "echo");
    // As its prompt, so that it leaks from its first sample on.
    let prompt = json!({"prompt": "leak 64 every 25 times 200"});
    client.start_with("leaker", "leak", prompt).expect(201);
    let seen = RefCell::new(Value::Null);
    wait_until("ten samples of a leak that goes on", || {
        let view = memory(&host, "leaker");
        let enough =
            view["trend"]["samples"].as_u64() >= Some(10) && view["trend"]["grows"] == true;
        seen.replace(view);
        enough
    });
    let view = seen.into_inner();
    let trend = &view["trend"];
    let bytes_a_second = 64.0 * KIB / 0.025;
    assert_within_a_tenth("rate", number(trend, "bytesPerMinute"), bytes_a_second * 60.0);
    let last = number(samples(&view, "fine").last().expect("a sample"), "bytes");
    let left_ms = (64.0 * MIB - last) / bytes_a_second * 1000.0;
    assert_within_a_tenth("time left", number(trend, "timeLeftMs"), left_ms);
    assert!(number(trend, "fit") > 0.9, "{trend}");
    assert_eq!(view["limitBytes"], 64.0 * MIB, "{view}");
    assert!(number(&view, "peakBytes") >= number(&view, "usedBytes"), "{view}");

    // The same in the container's answer and line; the other agent does not grow.
    let container = client.get("/memory").expect(200);
    let largest = &container["largest"][0];
    assert_eq!((&largest["agentId"], &largest["trend"]["grows"]), (&"leaker".into(), &true.into()));
    let line = host.wait_for_line("memory_usage with the leak's trend", |line| {
        line["event"] == "container.memory_usage" && line["largest"][0]["trend"]["grows"] == true
    });
    assert_eq!(line["largest"][0]["agentId"], "leaker", "{line}");
    let steady = memory(&host, "steady");
    assert_eq!(steady["trend"]["grows"], false, "{steady}");
    assert_eq!(steady["trend"]["bytesPerMinute"], 0, "{steady}");

    // It goes on to its end, and the record has its last samples.
    client.send("leaker", "leak 65536").expect(200);
    let crash = host.wait_for_line("the leak's end", |line| line["event"] == "agent.crash");
    let samples = crash["resources"]["samples"].as_array().expect("samples");
    assert_eq!(samples.len(), 10, "{crash}");
    let bytes: Vec<f64> = samples.iter().map(|sample| number(sample, "bytes")).collect();
    assert!(bytes.is_sorted() && bytes[9] > bytes[0], "{bytes:?}");
    assert!(number(&crash, "rssMB") > 1.0, "{crash}");
    let ended = memory(&host, "leaker");
    assert_eq!((&ended["usedBytes"], &ended["trend"]), (&Value::Null, &Value::Null), "{ended}");
    assert!(!samples_of_both(&ended).is_empty(), "what was is still there: {ended}");
    host.finish();
}

fn samples_of_both(view: &Value) -> Vec<&Value> {
    samples(view, "fine").iter().chain(samples(view, "coarse")).collect()
}

#[test]
fn series_are_bounded_and_in_order() {
    // 100 ms is the least: 12 s fill the fine series.
    let host = host(100.0).start();
    host.client().start("steady", "echo");
    let full = RefCell::new(Value::Null);
    wait_until("the fine series is full and the coarse one goes beyond it", || {
        let view = memory(&host, "steady");
        let enough = samples(&view, "coarse").len() > 11;
        full.replace(view);
        enough
    });
    let view = full.into_inner();
    assert_eq!(samples(&view, "fine").len(), 120, "{view}");
    for series in ["fine", "coarse"] {
        let times: Vec<_> =
            samples(&view, series).iter().map(|sample| sample["ts"].as_str()).collect();
        assert!(times.is_sorted() && times.iter().all(Option::is_some), "{series}: {times:?}");
    }
    let container = host.client().get("/memory").expect(200);
    for series in ["used", "rss", "guests"] {
        assert_eq!(samples(&container[series], "fine").len(), 120, "{series}: {container}");
    }
    host.finish();
}

#[test]
fn the_container_says_how_its_memory_is_and_where_it_knows_it_from() {
    let host = host(SAMPLE_MS).toml("[memory]\nbudget_mb = 4096").start();
    let client = host.client();
    client.start("one", "echo");
    let line = host.wait_for_line("memory_usage with an agent", |line| {
        line["event"] == "container.memory_usage" && line["activeAgents"] == 1
    });
    assert_eq!((&line["level"], &line["agents"]), (&"info".into(), &1.into()), "{line}");
    let (limit, used) = (number(&line, "limitMB"), number(&line, "usedMB"));
    assert!(used > 1.0 && used < limit && limit <= 4096.0, "{line}");
    assert!(number(&line, "rssMB") >= used, "the budget is held against this process: {line}");
    assert!(number(&line, "externalMB") > 0.5, "{line}");
    assert!(number(&line, "availableMB") <= limit - used + 1.0, "{line}");
    let start = &host.events_named("container.cold_start")[0]["memory"];
    let sources = client.get("/memory").expect(200)["sources"].clone();
    assert_eq!(*start, sources);
    assert!(start["limit"].is_string() && number(start, "limitBytes") > 0.0, "{start}");
    let metrics = client.metrics();
    assert_eq!(metrics["bulkhead_memory_limit_bytes"], number(start, "limitBytes"));
    assert!(metrics["bulkhead_memory_sweeps_total"] >= 1.0, "{metrics:?}");
    assert!(metrics["bulkhead_memory_last_sweep_seconds"] > 0.0, "{metrics:?}");

    // Once more when the drain begins, however long ago the last one was.
    let lines = host.finish_with(Signal::TERM, CLEAN);
    let place = |wanted: &dyn Fn(&Value) -> bool| lines.iter().position(wanted);
    let stop = place(&|line| line["event"] == "container.stop_intent").expect("a stop");
    let draining = place(&|line| line["event"] == "container.draining").expect("a drain");
    let between = lines[stop..draining].iter();
    let reports = between.filter(|line| line["event"] == "container.memory_usage").count();
    assert!((1..=2).contains(&reports), "{reports}, of which one may be due by itself");
}

#[test]
fn a_start_of_the_same_id_begins_a_new_trend_and_a_forgotten_id_is_404() {
    let host = host(SAMPLE_MS).toml("[limits]\nmax_agents = 1\nkeep_ended = 0").start();
    let client = host.client();
    client.get("/agents/nobody/memory").expect_error(404, &["nobody"]);
    client.get("/agents/a%2Fb/memory").expect_error(400, &["agentId"]);
    client.start("first", "leak");
    client.ask("first", "leak 4096");
    wait_until("a sample of what it leaked", || {
        let view = memory(&host, "first");
        samples(&view, "fine").iter().any(|sample| number(sample, "bytes") > 4.0 * MIB)
    });
    client.start_afresh("first", "leak");
    let view = memory(&host, "first");
    assert_eq!((&view["incarnation"], &view["trend"]), (&2.into(), &Value::Null), "{view}");
    assert!(number(&view, "peakBytes") < 4.0 * MIB, "{view}");
    client.stop("first").expect(200);
    assert_eq!(memory(&host, "first")["usedBytes"], Value::Null);
    client.start("second", "echo");
    // A reader at that moment keeps it until the next check, seconds later.
    wait_until("it is forgotten", || client.get("/agents/first/memory").status == 404);
    client.get("/agents/first/memory").expect_error(404, &["first"]);
    let known = || client.get("/memory").expect(200)["agents"].clone();
    wait_until("a sweep without it", || known() == 1);
    host.finish();
}
