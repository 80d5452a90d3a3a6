//! The figures as text.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_types::{AgentState, Event, ExitReason};

use super::fake::Rig;

/// `name{labels}` to value. Every line must be a comment or a sample.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    let mut samples = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with("# ")) {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
        let (family, labels) = name.split_once('{').unwrap_or((name, "x=\"\"}"));
        let in_family = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(!family.is_empty() && family.chars().all(in_family), "{line:?}");
        for one in labels.strip_suffix('}').unwrap_or_else(|| panic!("{line:?}")).split(',') {
            let (label, text) = one.split_once("=\"").unwrap_or_else(|| panic!("{line:?}"));
            assert!(!label.is_empty() && label.chars().all(in_family), "{line:?}");
            assert!(text.ends_with('"') && text.matches('"').count() == 1, "{line:?}");
        }
        let value = value.parse().unwrap_or_else(|_| panic!("{line:?}"));
        assert_eq!(samples.insert(name, value), None, "twice: {name}");
    }
    samples
}

fn scrape(rig: &Rig) -> String {
    let answer = rig.client().ask("GET", "/metrics", OPENMETRICS, "");
    assert_eq!(answer.status, 200);
    answer.body
}

const OPENMETRICS: &str = "accept: application/openmetrics-text\r\n";

/// The names of families, as their `# TYPE` lines give them.
fn families(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split(' ').next().unwrap_or_default())
        .collect()
}

/// Of samples, after the name of their family.
const SUFFIXES: [&str; 6] = ["", "_total", "_info", "_bucket", "_count", "_sum"];

/// The family of a sample in the text of Prometheus: a histogram has three kinds of them.
fn family_of<'a>(name: &'a str, kind: &str) -> &'a str {
    let suffixes = if kind == "histogram" { &SUFFIXES[3..] } else { &[] };
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

#[test]
fn the_answer_is_openmetrics_text() {
    let rig = Rig::start();
    let answer = rig.client().ask("GET", "/metrics", OPENMETRICS, "");
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.header("content-type"), Some(content_type));
    assert!(answer.body.ends_with("\n# EOF\n"), "{}", answer.body);
    assert_eq!(answer.body.matches("# EOF").count(), 1);
    for line in answer.body.lines().filter(|line| line.starts_with('#')) {
        let known = ["# HELP ", "# TYPE ", "# UNIT ", "# EOF"];
        assert!(known.iter().any(|start| line.starts_with(start)), "{line:?}");
    }
    let families = families(&answer.body);
    let once: BTreeSet<_> = families.iter().collect();
    assert_eq!(once.len(), families.len(), "a family is described twice");
    for name in samples(&answer.body).into_keys() {
        let name = name.split('{').next().unwrap();
        let described = SUFFIXES.iter().any(|suffix| {
            name.strip_suffix(suffix).is_some_and(|family| families.contains(&family))
        });
        assert!(described, "{name} has no TYPE");
    }
}

#[test]
fn a_copy_that_waits_has_the_same_families_and_few() {
    let text = |format| crate::exposition::text(crate::exposition::Standby, format);
    let openmetrics = text(crate::exposition::Format::OpenMetrics);
    let version = concat!("bulkhead_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}");
    let expected = BTreeMap::from([("bulkhead_standby", 1.0), (version, 1.0)]);
    assert_eq!(samples(&openmetrics), expected);
    let (own, all) = (families(&openmetrics), scrape(&Rig::start()));
    assert!(own.iter().all(|family| families(&all).contains(family)), "{own:?}");
    assert_eq!(samples(&all)["bulkhead_standby"], 0.0);
    assert_eq!(samples(&text(crate::exposition::Format::Prometheus)), expected);
}

/// What the text format of Prometheus asks for: see `promtool check metrics`.
#[test]
fn who_asks_for_nothing_else_gets_the_text_of_prometheus() {
    let rig = Rig::start();
    let mut client = rig.client();
    let answer = client.get("/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(answer.header("vary"), Some("accept"));
    let text = answer.body;
    let openmetrics = client.ask("GET", "/metrics", OPENMETRICS, "").body;
    let names = |text| samples(text).into_keys().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(names(&text), names(&openmetrics));
    let (mut described, mut family, mut kind_of) = (BTreeSet::new(), String::new(), "");
    for line in text.lines() {
        if let Some(said) = line.strip_prefix("# HELP ") {
            let (name, said) = said.split_once(' ').expect("a name and words");
            assert!(!said.is_empty() && described.insert(name.to_owned()), "{line}");
            family = name.to_owned();
        } else if let Some(said) = line.strip_prefix("# TYPE ") {
            let (name, kind) = said.split_once(' ').expect("a name and a type");
            assert_eq!(name, family, "HELP comes right before TYPE");
            kind_of = kind;
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            let not_base = [
                "_ms",
                "_us",
                "_milliseconds",
                "_kb",
                "_mb",
                "_percent",
                "_ratios",
                "_count",
                "_sum",
            ];
            assert!(!not_base.iter().any(|unit| name.ends_with(unit)), "{line}");
        } else {
            assert!(!line.starts_with('#'), "{line}");
            // A family's samples stand together, under its name.
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            assert_eq!(family_of(name, kind_of), family, "{line}");
        }
    }
}

#[test]
fn the_figures_of_the_backend_are_shown_under_their_names() {
    let rig = Rig::start();
    let text = scrape(&rig);
    let samples = samples(&text);
    for (name, value) in [
        ("bulkhead_events_total{event=\"agent.start\"}", 7.0),
        ("bulkhead_agent_exits_total{reason=\"trap\"}", 2.0),
        ("bulkhead_log_lines_dropped_total{level=\"info\"}", 1.0),
        ("bulkhead_agents{state=\"running\"}", 3.0),
        ("bulkhead_agents_missing{state=\"failed\"}", 43.0),
        ("bulkhead_agent_start_duration_seconds_bucket{le=\"0.001\"}", 1.0),
        ("bulkhead_agent_start_duration_seconds_bucket{le=\"300.0\"}", 1.0),
        ("bulkhead_agent_start_duration_seconds_bucket{le=\"+Inf\"}", 2.0),
        ("bulkhead_agent_start_duration_seconds_count", 2.0),
        ("bulkhead_agent_start_duration_seconds_sum", 301.5),
        ("bulkhead_agent_turn_duration_seconds_bucket{le=\"0.002\"}", 0.0),
        ("bulkhead_agent_turn_duration_seconds_bucket{le=\"0.005\"}", 3.0),
        ("bulkhead_role_agents{role=\"polecat\",state=\"running\"}", 44.0),
        ("bulkhead_role_agents{role=\"polecat\",state=\"failed\"}", 0.0),
        ("bulkhead_role_starts_total{role=\"polecat\"}", 45.0),
        ("bulkhead_role_crashes_total{role=\"polecat\"}", 46.0),
        ("bulkhead_role_restarts_total{role=\"polecat\"}", 47.0),
        ("bulkhead_role_cpu_throttled_seconds_total{role=\"polecat\"}", 47.5),
        ("bulkhead_stores", 4.0),
        ("bulkhead_tasks", 5.0),
        ("bulkhead_places_used", 6.0),
        ("bulkhead_places_max", 1000.0),
        ("bulkhead_mailbox_messages", 8.0),
        ("bulkhead_mailbox_bytes", 9.0),
        ("bulkhead_guest_memory_bytes", 65536.0),
        ("bulkhead_memory_committed_bytes", 131_072.0),
        ("bulkhead_memory_limit_bytes", 1000.0),
        ("bulkhead_memory_used_bytes", 400.0),
        ("bulkhead_memory_available_bytes", 600.0),
        ("bulkhead_memory_pressure_ratio{tasks=\"some\"}", 0.5),
        ("bulkhead_memory_pressure_ratio{tasks=\"full\"}", 0.25),
        ("bulkhead_memory_high", 1.0),
        ("bulkhead_oom_kills_total", 3.0),
        ("bulkhead_heap_used_bytes", 70.0),
        ("bulkhead_heap_bytes", 90.0),
        ("bulkhead_memory_sweeps_total", 12.0),
        ("bulkhead_memory_last_sweep_seconds", 0.001),
        ("bulkhead_memory_longest_sweep_seconds", 0.002),
        ("bulkhead_agent_host_memory_bytes", 4096.0),
        (
            "bulkhead_model_calls_total{role=\"polecat\",endpoint=\"main\",model=\"large\",outcome=\"ok\"}",
            2.0,
        ),
        (
            "bulkhead_model_calls_total{role=\"polecat\",endpoint=\"main\",model=\"large\",outcome=\"timeout\"}",
            1.0,
        ),
        (
            "bulkhead_model_tokens_total{role=\"polecat\",endpoint=\"main\",model=\"large\",type=\"input\"}",
            30.0,
        ),
        (
            "bulkhead_model_tokens_total{role=\"polecat\",endpoint=\"main\",model=\"large\",type=\"reasoning\"}",
            33.0,
        ),
        ("bulkhead_model_cost_total{role=\"polecat\",endpoint=\"main\",model=\"large\"}", 1.5),
        ("bulkhead_model_call_duration_seconds_bucket{le=\"0.5\",endpoint=\"main\"}", 0.0),
        ("bulkhead_model_call_duration_seconds_bucket{le=\"1.0\",endpoint=\"main\"}", 2.0),
        ("bulkhead_model_call_duration_seconds_bucket{le=\"300.0\",endpoint=\"main\"}", 2.0),
        ("bulkhead_model_call_duration_seconds_bucket{le=\"+Inf\",endpoint=\"main\"}", 3.0),
        ("bulkhead_model_call_duration_seconds_count{endpoint=\"main\"}", 3.0),
        ("bulkhead_model_call_duration_seconds_sum{endpoint=\"main\"}", 401.5),
        ("bulkhead_model_usage_merged_total", 27.0),
        ("bulkhead_spans_total{outcome=\"exported\"}", 28.0),
        ("bulkhead_spans_total{outcome=\"dropped\"}", 29.0),
        ("bulkhead_spans_total{outcome=\"failed\"}", 30.0),
        ("bulkhead_symbolizer_look_ups_total", 10.0),
        ("bulkhead_symbolizer_repeated_total", 11.0),
        ("bulkhead_symbolizer_dropped_total", 12.0),
        ("bulkhead_symbolizer_unavailable_total", 13.0),
        ("bulkhead_symbolizer_kept_bytes", 14.0),
        ("bulkhead_crash_records_kept", 15.0),
        ("bulkhead_crash_records_kept_bytes", 16.0),
        ("bulkhead_crash_records_evicted_total", 17.0),
        ("bulkhead_crash_records_written_total", 18.0),
        ("bulkhead_crash_record_errors_total", 19.0),
        ("bulkhead_crash_records_dropped_total", 20.0),
        ("bulkhead_crash_records_waiting", 24.0),
        ("bulkhead_evidence_documents_total{outcome=\"stored\"}", 34.0),
        ("bulkhead_evidence_documents_total{outcome=\"failed\"}", 35.0),
        ("bulkhead_evidence_crash_records_dropped_total", 36.0),
        ("bulkhead_evidence_age_seconds", 1.5),
        ("bulkhead_core_dumps_kept_total", 21.0),
        ("bulkhead_core_dumps_refused_total", 22.0),
        ("bulkhead_workspace_writes_refused_total{by=\"quota\"}", 25.0),
        ("bulkhead_workspace_writes_refused_total{by=\"disk\"}", 26.0),
        ("bulkhead_untracked_work_total", 23.0),
        ("bulkhead_untracked_messages_total", 24.0),
        ("bulkhead_town_calls_total{call=\"heartbeat\",outcome=\"ok\"}", 24.0),
        ("bulkhead_town_calls_total{call=\"heartbeat\",outcome=\"deadline\"}", 25.0),
        ("bulkhead_town_waiting{what=\"events\"}", 26.0),
        ("bulkhead_town_dropped_total{what=\"events\"}", 27.0),
        ("bulkhead_town_given_up_total{call=\"completed\"}", 28.0),
        ("bulkhead_town_reachable", 1.0),
        ("bulkhead_town_fenced", 0.0),
        ("bulkhead_control_connections", 1.0),
        ("bulkhead_control_connections_evicted_total", 0.0),
        ("bulkhead_streams", 0.0),
        ("bulkhead_streams_opened_total", 0.0),
        ("bulkhead_stream_gaps_total", 0.0),
        ("bulkhead_ready", 1.0),
        ("bulkhead_durable", 1.0),
        ("bulkhead_draining", 0.0),
        ("bulkhead_uptime_seconds", 1.5),
        ("bulkhead_build_info{version=\"0\"}", 1.0),
        ("bulkhead_previous_run_info{cause=\"oom_kill\",confidence=\"high\"}", 1.0),
        ("process_start_time_seconds", 1.75),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}\n{text}");
    }
    let process =
        ["process_open_fds", "process_resident_memory_bytes", "process_cpu_seconds_total"];
    for name in process {
        assert!(samples[name] > 0.0, "{name}\n{text}");
    }
}

#[test]
fn every_name_state_and_reason_is_there_from_the_start() {
    let rig = Rig::start();
    let text = scrape(&rig);
    let samples = samples(&text);
    for (family, label, values) in [
        ("bulkhead_events_total", "event", Event::NAMES),
        ("bulkhead_agent_exits_total", "reason", ExitReason::NAMES),
        ("bulkhead_agents", "state", AgentState::NAMES),
    ] {
        for value in values {
            let name = format!("{family}{{{label}=\"{value}\"}}");
            assert!(samples.contains_key(name.as_str()), "{name}\n{text}");
        }
    }
}

#[test]
fn not_ready_is_a_figure_and_not_a_refusal() {
    let rig = Rig::start();
    rig.backend.set_ready(false);
    assert_eq!(samples(&scrape(&rig))["bulkhead_ready"], 0.0);
}

#[test]
fn nothing_durable_is_a_figure() {
    let rig = Rig::start();
    rig.backend.lose_store("read-only");
    assert_eq!(samples(&scrape(&rig))["bulkhead_durable"], 0.0);
}

#[test]
fn a_connection_that_is_gone_does_not_count() {
    let rig = Rig::start();
    let others: Vec<_> = (0..3)
        .map(|_| {
            let mut client = rig.client();
            assert_eq!(client.get("/livez").status, 200);
            client
        })
        .collect();
    let mut client = rig.client();
    let mut taken = || samples(&client.get("/metrics").body)["bulkhead_control_connections"];
    assert_eq!(taken(), 4.0);
    drop(others);
    while taken() != 1.0 {
        std::thread::yield_now();
    }
}

#[test]
fn the_page_for_people_lists_exactly_these() {
    // Under a lease that outlives this test.
    bulkhead_fence::put(1, u64::MAX - 1);
    let rig = Rig::start();
    let text = scrape(&rig);
    let shown: BTreeSet<_> =
        samples(&text).into_keys().map(|name| name.split('{').next().unwrap()).collect();
    // A histogram is one row.
    let histograms: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" histogram"))
        .collect();
    let row = |name| histograms.iter().find(|family| family_of(name, "histogram") == **family);
    let shown: BTreeSet<_> =
        shown.into_iter().map(|name| row(name).copied().unwrap_or(name)).collect();
    let page = include_str!("../../../../docs/metrics.md");
    let listed: BTreeSet<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next())
        .collect();
    // The one that a machine without a limit does not have.
    let shown: BTreeSet<_> = shown.into_iter().chain(["process_max_fds"]).collect();
    assert_eq!(shown, listed);
}
