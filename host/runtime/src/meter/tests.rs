use super::*;

const SLICE: Duration = Duration::from_millis(10);

fn limits(cpu_ms: u64, wall_ms: u64) -> CallLimits {
    CallLimits {
        cpu: Duration::from_millis(cpu_ms),
        wall: Duration::from_millis(wall_ms),
        host_call: Duration::from_secs(1),
    }
}

fn meter() -> Meter {
    Meter::new(&Limits::default(), Arc::default(), Arc::default(), Arc::default())
}

fn burn(time: Duration) {
    let end = thread_cpu_ns() + i64::try_from(time.as_nanos()).unwrap();
    while thread_cpu_ns() < end {}
}

#[test]
fn a_burner_yields_then_is_cut() {
    let meter = meter();
    meter.begin_call(&limits(30, 60_000), Phase::Handle, false);
    meter.begin_poll();
    meter.enter_host();
    assert_eq!(meter.on_tick(SLICE), Verdict::GoOn);
    burn(Duration::from_millis(4));
    meter.enter_host();
    assert_eq!(meter.on_tick(SLICE), Verdict::Yield);
    meter.end_poll();
    assert!(meter.take_yielded());
    assert!(meter.switch.is_away());
    meter.begin_poll();
    meter.lane.store(Lane::Slow as u8, Relaxed);
    meter.enter_host();
    assert_eq!(meter.on_tick(SLICE), Verdict::GoOn);
    burn(Duration::from_millis(31));
    meter.enter_host();
    assert!(matches!(
        meter.on_tick(SLICE),
        Verdict::Interrupt(Interrupt::Cpu { limit_ms: 30, .. })
    ));
    assert_eq!(meter.host_call_number(), 0, "ticks are no host calls");
}

/// One poll of so long, and a wait.
fn poll_of(meter: &Meter, time: Duration) -> Verdict {
    meter.begin_poll();
    burn(time);
    meter.enter_host();
    let verdict = meter.on_tick(SLICE);
    meter.end_poll();
    verdict
}

#[test]
fn short_spins_with_waits_between_them_go_to_the_slow_lane() {
    let meter = meter();
    meter.begin_call(&limits(10_000, 60_000), Phase::Handle, false);
    assert_eq!(poll_of(&meter, Duration::from_millis(2)), Verdict::GoOn);
    assert!(!meter.take_yielded() && !meter.switch.is_away());
    assert_eq!(poll_of(&meter, Duration::from_millis(2)), Verdict::Yield);
    assert!(meter.switch.is_away());
    // The next message changes nothing.
    meter.begin_call(&limits(10_000, 60_000), Phase::Handle, false);
    assert!(meter.switch.is_away());
}

#[test]
fn a_poll_whose_thread_is_held_up_is_not_charged_for_it() {
    let meter = meter();
    meter.begin_call(&limits(10_000, 60_000), Phase::Handle, false);
    meter.begin_poll();
    std::thread::sleep(Duration::from_millis(50));
    meter.end_poll();
    assert!(meter.usage().cpu_us < 5000, "{} us", meter.usage().cpu_us);
    assert!(!meter.switch.is_away());
}

#[test]
fn what_threads_of_low_priority_do_for_a_guest_counts_and_leaves_it_its_lane() {
    let meter = meter();
    meter.begin_call(&limits(30, 60_000), Phase::Handle, false);
    let done = meter.charged(|| {
        burn(Duration::from_millis(31));
        7
    });
    assert_eq!(done, 7);
    assert!(meter.usage().cpu_us >= 31_000 && !meter.switch.is_away());
    meter.begin_poll();
    meter.enter_host();
    assert!(matches!(
        meter.on_tick(SLICE),
        Verdict::Interrupt(Interrupt::Cpu { limit_ms: 30, .. })
    ));
}

#[test]
fn a_guest_that_is_asked_to_yield_does_so_once_at_its_next_tick() {
    let meter = meter();
    meter.begin_call(&limits(1000, 60_000), Phase::Handle, false);
    meter.begin_poll();
    let tick = || {
        meter.enter_host();
        meter.on_tick(SLICE)
    };
    assert_eq!(tick(), Verdict::GoOn);
    meter.ask_to_yield();
    assert_eq!(tick(), Verdict::Yield);
    assert_eq!(tick(), Verdict::GoOn);
}

#[test]
fn what_the_host_does_for_an_agent_on_its_thread_counts_for_its_lane_alone() {
    let meter = meter();
    let done = meter.host_work(|| {
        burn(Duration::from_millis(4));
        7
    });
    assert_eq!((done, meter.usage().cpu_us), (7, 0));
    assert!(meter.switch.is_away());
}

#[test]
fn messages_pay_for_themselves_and_those_that_a_guest_sends_itself_are_paid_by_it() {
    let meter = meter();
    let message = || {
        meter.begin_call(&limits(10_000, 60_000), Phase::Handle, false);
        meter.switch.charge(TURN_NS);
    };
    (0..1000).for_each(|_| message());
    assert!(!meter.switch.is_away(), "a thousand in a row");
    (0..61).for_each(|_| {
        message();
        meter.charge_turn();
    });
    assert!(meter.switch.is_away());
}

#[test]
fn all_turns_of_a_message_have_one_budget() {
    let limits_of_agent = Limits { message_cpu: Duration::from_millis(5), ..Limits::default() };
    let meter = Meter::new(&limits_of_agent, Arc::default(), Arc::default(), Arc::default());
    let turn = |continues| meter.begin_call(&limits(10_000, 60_000), Phase::Handle, continues);
    turn(false);
    assert_eq!(poll_of(&meter, Duration::from_millis(2)), Verdict::GoOn);
    meter.begin_call(&limits(10_000, 60_000), Phase::Snapshot, false);
    turn(true);
    let verdict = poll_of(&meter, Duration::from_millis(4));
    assert!(
        matches!(verdict, Verdict::Interrupt(Interrupt::MessageCpu { limit_ms: 5, .. })),
        "{verdict:?}"
    );
    assert!(meter.is_message_over());
    turn(false);
    assert!(!meter.is_message_over());
    // Turns that do nothing are not for nothing.
    (0..101).for_each(|_| turn(true));
    assert!(meter.is_message_over() && meter.switch.is_away());
}

/// A meter of an agent that may use 10 ms of CPU time at once, and 1 % over time.
fn bounded() -> Meter {
    let limits = Limits { cpu_max_percent: 1, ..Limits::default() };
    Meter::new(&limits, Arc::default(), Arc::default(), Arc::default())
}

#[test]
fn one_that_used_its_percent_yields_at_its_tick_and_waits() {
    let meter = bounded();
    meter.begin_call(&limits(10_000, 60_000), Phase::Handle, false);
    meter.begin_poll();
    meter.lane.store(Lane::Slow as u8, Relaxed);
    let tick = || {
        meter.enter_host();
        meter.on_tick(Duration::from_secs(60))
    };
    burn(Duration::from_millis(5));
    assert_eq!((tick(), meter.throttled()), (Verdict::GoOn, None));
    burn(Duration::from_millis(6));
    assert_eq!(tick(), Verdict::Yield);
    meter.end_poll();
    let throttled = meter.throttled().unwrap();
    assert!(throttled.begins && throttled.wait >= Duration::from_millis(100), "{throttled:?}");
    assert!(!meter.throttled().unwrap().begins, "one episode");
}

#[test]
fn starts_snapshots_stops_and_kills_wait_for_no_cpu_time_and_count() {
    let meter = bounded();
    let begin = |phase| meter.begin_call(&limits(10_000, 60_000), phase, false);
    for phase in [Phase::Instantiate, Phase::Start, Phase::Snapshot, Phase::Shutdown] {
        begin(phase);
        meter.charge(Duration::from_millis(10));
        assert_eq!(meter.throttled(), None, "{phase:?}");
    }
    begin(Phase::Handle);
    assert!(meter.throttled().unwrap().wait > Duration::from_secs(3));
    meter.end_within(Duration::from_secs(5));
    assert_eq!(meter.throttled(), None);
    begin(Phase::Run);
    assert!(meter.throttled().is_some());
    meter.set_kill();
    assert_eq!(meter.throttled(), None);
}

#[test]
fn a_wait_for_cpu_time_puts_the_deadline_of_a_turn_off_and_not_that_of_a_stop() {
    let meter = bounded();
    meter.begin_call(&limits(1, 1000), Phase::Handle, false);
    let wait = Duration::from_secs(3600);
    meter.was_throttled(wait);
    assert!(meter.time_left() > wait);
    meter.end_within(Duration::from_secs(5));
    meter.was_throttled(wait);
    assert!(meter.time_left() <= Duration::from_secs(5));
    assert_eq!(meter.usage().cpu_throttled_us, 7_200_000_000);
}

#[test]
fn a_kill_comes_before_everything_else() {
    let meter = meter();
    meter.begin_call(&limits(0, 0), Phase::Handle, false);
    meter.begin_poll();
    meter.set_kill();
    meter.enter_host();
    assert_eq!(meter.on_tick(SLICE), Verdict::Interrupt(Interrupt::Killed));
}

#[test]
fn a_deadline_can_only_come_nearer() {
    let meter = meter();
    meter.begin_call(&limits(1, 1000), Phase::Handle, false);
    meter.end_within(Duration::from_secs(3600));
    assert!(meter.time_left() <= Duration::from_secs(1));
    assert_eq!(meter.wall_interrupt(), Interrupt::Wall { limit_ms: 1000 });
    meter.end_within(Duration::ZERO);
    assert_eq!(meter.time_left(), Duration::ZERO);
    assert_eq!(meter.wall_interrupt(), Interrupt::Grace);
}
