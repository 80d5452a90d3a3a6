//! A guest that burns CPU time.

use std::time::{Duration, Instant};

use bulkhead_api::StopAnswer;
use harness::{Host, Trial, wait_until};

#[test]
fn an_endless_loop_ends_at_its_cpu_deadline_while_others_answer() {
    let trial = Trial::of(&["spin"]);
    trial.client().start("spin", "spin");
    let before = trial.bystander().answered();
    let crash = trial.crashes("spin", 1, "spin", "cpu_deadline");
    let answered = trial.bystander().answered() - before;
    assert!(answered >= 5, "the bystander got {answered} answers while another agent was spinning");
    assert!(crash["resources"]["cpuUs"].as_u64() >= Some(400_000), "{crash}");
    trial.starts_again("spin", 1);
    trial.finish();
}

#[test]
fn work_within_the_budget_is_not_cut_short() {
    let trial = Trial::of(&["spin"]);
    trial.client().start("spin", "spin");
    let rounds: u64 = trial.client().ask("spin", "spin 50").parse().expect("a number");
    assert!(rounds > 0);
    // The budget is for one call, not for an incarnation.
    for _ in 0..20 {
        trial.client().ask("spin", "spin 50");
    }
    assert!(trial.host().crashes().is_empty());
    trial.finish();
}

#[test]
fn many_spinners_do_not_stop_the_host_from_answering() {
    let trial = Trial::begin(Host::builder().guest("spin").role("spin", "spin", "cpu_ms = 1500"));
    let agents = ["s1", "s2", "s3", "s4", "s5", "s6"];
    for agent in agents {
        trial.client().start(agent, "spin");
        trial.client().send(agent, "spin").expect(200);
    }
    for agent in agents {
        trial.bystander().wait_for_more();
        trial.client().health();
        trial.reported(agent, 1, "cpu_deadline");
    }
    trial.finish();
}

#[test]
fn a_spinning_agent_can_be_stopped() {
    let settings = "cpu_ms = 80000\nshutdown_ms = 300";
    let trial = Trial::begin(Host::builder().guest("spin").role("spin", "spin", settings));
    trial.client().start("spin", "spin");
    trial.client().send("spin", "spin").expect(200);
    wait_until("it is spinning", || trial.client().status("spin").busy);
    let stopped: StopAnswer = trial.client().stop("spin").read(200);
    assert!(stopped.stopped);
    assert_eq!(stopped.exit_reason, "killed", "{stopped:?}");
    trial.starts_again("spin", 1);
    trial.finish();
}

#[test]
fn one_with_a_percent_of_a_core_waits_and_goes_on_while_its_neighbour_answers() {
    // The turn takes longer than that, but for the time in which it waits.
    let settings = "cpu_max_percent = 10\nwall_ms = 2000\ncpu_ms = 60000\nshutdown_ms = 300";
    let trial = Trial::begin(Host::builder().guest("spin").role("spin", "spin", settings));
    let (client, host) = (trial.client(), trial.host());
    client.start("spin", "spin");
    client.send("spin", "spin").expect(200);
    let event = host.wait_for_event("spin", "agent.cpu_throttled");
    assert_eq!((&event["cpuMaxPercent"], &event["level"]), (&10.into(), &"warn".into()), "{event}");
    let reading = || {
        let status = client.status("spin");
        let us = Duration::from_micros;
        (Instant::now(), us(status.cpu_us), us(status.cpu_throttled_us))
    };
    let (began, used, waited) = reading();
    let mut answers = Vec::new();
    while began.elapsed() < Duration::from_secs(4) {
        let asked = Instant::now();
        trial.bystander().wait_for_more();
        answers.push(asked.elapsed());
    }
    let (ended, used_then, waited_then) = reading();
    let (wall, used, waited) = (ended - began, used_then - used, waited_then - waited);
    let percent = used.as_secs_f64() / wall.as_secs_f64() * 100.0;
    println!("{percent:.1} % of a core over {wall:.2?}, {waited:.2?} of it throttled");
    answers.sort_unstable();
    println!("answers beside it: {:.2?} at the most, n = {}", answers.last(), answers.len());
    // A machine that is busy gives it less.
    assert!((2.0..15.0).contains(&percent), "{percent} %");
    assert!(waited > wall / 4, "{waited:?} of {wall:?}");
    assert!(answers.len() >= 5, "{answers:?}");
    assert_eq!(host.events_of("spin", "agent.cpu_throttled").len(), 1, "one event, many waits");
    let name = "bulkhead_role_cpu_throttled_seconds_total{role=\"spin\"}";
    let counted = client.metrics()[name];
    assert!(counted > waited.as_secs_f64() * 0.9, "{counted} s");
    assert!(host.crashes().is_empty(), "{:?}", host.crashes());
    // A stop does not wait for CPU time.
    let stopped: StopAnswer = client.stop("spin").read(200);
    assert_eq!((&*stopped.exit_reason, client.status("spin").incarnation.0), ("killed", 1));
    trial.finish();
}

#[test]
fn an_agent_that_never_stops_taking_turns_can_be_stopped_and_holds_nobody_up() {
    let trial = Trial::of(&["spin"]);
    let agents = ["s1", "s2", "s3", "s4"];
    for agent in agents {
        trial.client().start(agent, "spin");
        trial.client().send(agent, "turns").expect(200);
    }
    for agent in agents {
        wait_until("it burns CPU time, turn by turn", || {
            trial.client().status(agent).cpu_us > 50_000
        });
        trial.bystander().wait_for_more();
        let stopped: StopAnswer = trial.client().stop(agent).read(200);
        assert_eq!(stopped.exit_reason, "stopped", "{stopped:?}");
    }
    assert!(trial.host().crashes().is_empty());
    trial.finish();
}

#[test]
fn callers_that_wait_for_endless_turns_get_an_error_when_the_agent_is_stopped() {
    let trial = Trial::of(&["spin"]);
    for agent in ["s1", "s2", "s3", "s4"] {
        trial.client().start(agent, "spin");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| trial.client().send_wait(agent, "turns"));
            wait_until("it takes turns", || trial.client().status(agent).cpu_us > 20_000);
            trial.client().stop(agent).expect(200);
            let answer = waiting.join().expect("an answer").expect_error(502, &[]);
            assert_eq!(answer.exit_reason.as_deref(), Some("stopped"), "{answer:?}");
        });
    }
    trial.finish();
}

#[test]
fn what_burns_in_pieces_or_in_one_instruction_holds_nobody_up() {
    let settings = "memory_limit_mb = 128";
    let trial = Trial::begin(Host::builder().guest("spin").role("spin", "spin", settings));
    for (agent, message) in
        [("nap", "nap 500 2500"), ("fill", "fill 64 8"), ("blank", "blank 4000")]
    {
        trial.client().start(agent, "spin");
        trial.client().ask(agent, message);
        trial.bystander().wait_for_more();
        assert_eq!(trial.client().ask(agent, "well?"), "well?");
    }
    trial.finish();
}
