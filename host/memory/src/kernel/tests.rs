use proptest::prelude::*;

use super::*;

/// A machine whose files were recorded: see `machines/README.md`.
struct Machine(tempfile::TempDir);

const KUBERNETES: &str = include_str!("../../machines/v2-kubernetes.txt");
const NAMESPACE: &str = include_str!("../../machines/v2-namespace.txt");
const MICRO_VM: &str = include_str!("../../machines/micro-vm.txt");
const DOCKER: &str = include_str!("../../machines/v1-docker.txt");
const NESTED: &str = include_str!("../../machines/v1-nested.txt");
const HYBRID: &str = include_str!("../../machines/hybrid.txt");
const BARE: &str = include_str!("../../machines/no-groups-no-psi.txt");

const ALL: [&str; 7] = [KUBERNETES, NAMESPACE, MICRO_VM, DOCKER, NESTED, HYBRID, BARE];

/// This process's cgroup on the machine `KUBERNETES`.
const OWN: &str = "sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/\
                   kubepods-burstable-pod7f2a.slice/cri-containerd-91ab.scope";

fn files(recorded: &str) -> impl Iterator<Item = (&str, &str)> {
    recorded.split("==> ").filter_map(|part| part.split_once(" <==\n"))
}

impl Machine {
    fn new(recorded: &str) -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        for (path, text) in files(recorded) {
            machine.write(path, text.as_bytes());
        }
        machine
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn with(self, path: &str, text: &str) -> Self {
        self.write(path, text.as_bytes());
        self
    }

    fn without(self, path: &str) -> Self {
        std::fs::remove_file(self.0.path().join(path)).unwrap();
        self
    }

    fn kernel(&self) -> Kernel {
        Kernel::at(self.0.path())
    }

    /// What it says, and what is wrong: `<path from the root>: <error>`.
    fn read(&self) -> (Reading, Vec<String>) {
        let mut faults = Faults::default();
        let reading = self.kernel().read(&mut faults);
        let root = self.0.path().display().to_string();
        let reported = |fault: Fault| {
            let source = fault.source.strip_prefix(&root).unwrap_or(&fault.source).to_owned();
            format!("{source}: {}", fault.error)
        };
        (reading, faults.take_new().into_iter().map(reported).collect())
    }

    /// The same where nothing is wrong.
    #[track_caller]
    fn reading(&self) -> Reading {
        let (reading, faults) = self.read();
        assert_eq!(faults, [""; 0]);
        reading
    }
}

#[track_caller]
fn assert_limit(reading: &Reading, bytes: u64, source: LimitSource, used: u64, available: u64) {
    assert_eq!(reading.limit, Some(Limit { bytes, source }));
    assert_eq!((reading.used_bytes, reading.available_bytes), (Some(used), Some(available)));
}

fn psi(some_avg10: f64, full_avg10: f64) -> Option<Psi> {
    Some(Psi { some_avg10, full_avg10 })
}

#[test]
fn the_smallest_limit_above_the_own_group_counts_with_the_use_of_that_group() {
    let reading = Machine::new(KUBERNETES).reading();
    let (limit, used) = (402_653_184, 314_572_800);
    assert_limit(&reading, limit, LimitSource::Cgroup2Above, used, limit - used);
    assert_eq!((reading.group_oom_kills, reading.limit_hits), (Some(2), Some(31)));
    assert_eq!((reading.oom_kills, reading.psi), (Some(7), psi(9.0, 7.25)));
    let page = rustix::param::page_size() as u64;
    assert_eq!(
        (reading.rss_bytes, reading.process_anon_bytes),
        (Some(9216 * page), Some(5120 * page))
    );
}

#[test]
fn in_a_namespace_the_own_group_is_the_root_of_what_is_seen() {
    let reading = Machine::new(NAMESPACE).reading();
    let (limit, used) = (268_435_456, 92_274_688);
    assert_limit(&reading, limit, LimitSource::Cgroup2, used, limit - used);
    assert_eq!((reading.group_oom_kills, reading.psi), (Some(0), psi(0.0, 0.0)));
}

#[test]
fn a_group_without_a_limit_has_that_of_the_machine() {
    let (total, available) = (502_748 * 1024, 120_404 * 1024);
    for no_limit in ["max\n", "9223372036854771712\n", "18446744073709551615\n"] {
        let machine = Machine::new(MICRO_VM).with("sys/fs/cgroup/memory.max", no_limit);
        let reading = machine.reading();
        assert_limit(&reading, total, LimitSource::Meminfo, total - available, available);
        assert_eq!((reading.group_oom_kills, reading.psi), (Some(0), psi(1.0, 0.5)));
    }
}

#[test]
fn version_1_says_also_the_limit_of_groups_that_cannot_be_seen() {
    let reading = Machine::new(DOCKER).reading();
    let (limit, used) = (524_288_000, 480_000_000);
    assert_limit(&reading, limit, LimitSource::Cgroup1Above, used, limit - used);
    assert_eq!((reading.group_oom_kills, reading.limit_hits), (Some(3), Some(12)));
    assert_eq!(reading.psi, None, "an old kernel");
}

#[test]
fn version_1_is_read_as_a_real_kernel_writes_it() {
    let reading = Machine::new(NESTED).reading();
    let (limit, used) = (536_870_912, 41_947_136);
    assert_limit(&reading, limit, LimitSource::Cgroup1Above, used, limit - used);
    assert_eq!((reading.group_oom_kills, reading.limit_hits), (Some(0), Some(0)));
    assert!(reading.psi.is_some() && reading.oom_kills > Some(0));
}

#[test]
fn beside_version_1_the_groups_of_version_2_report_pressure() {
    let machine = Machine::new(HYBRID);
    let reading = machine.reading();
    let (limit, used) = (536_870_912, 100_000_000);
    assert_limit(&reading, limit, LimitSource::Cgroup1, used, limit - used);
    assert_eq!(reading.psi, psi(3.0, 2.5));
    let file = "sys/fs/cgroup/unified/system.slice/host.service/memory.pressure";
    assert!(machine.kernel().pressure_file().ends_with(file));
    let without = machine.without(file);
    assert_eq!(without.reading().psi, psi(1.0, 0.5));
    assert!(without.kernel().pressure_file().ends_with("proc/pressure/memory"));
}

#[test]
fn without_groups_the_machine_speaks() {
    let machine = Machine::new(BARE);
    let reading = machine.reading();
    let (total, available) = (1_020_092 * 1024, 400_404 * 1024);
    assert_limit(&reading, total, LimitSource::Meminfo, total - available, available);
    let absent = (reading.oom_kills, reading.group_oom_kills, reading.limit_hits);
    assert_eq!((absent, reading.psi), ((None, None, None), None));
    assert_eq!(machine.kernel().boot_id().unwrap().len(), 36);
}

#[test]
fn what_is_not_there_is_absent_and_no_fault() {
    let machine = Machine::new("");
    assert_eq!(machine.reading(), Reading::default());
    assert_eq!(machine.kernel().counters(), MemoryFigures::default());
    assert_eq!(machine.kernel().boot_id(), None);
    // Any file of any machine.
    for recorded in ALL {
        let mut machine = Machine::new(recorded);
        for (path, text) in files(recorded) {
            machine = machine.without(path);
            machine.reading();
            machine.write(path, text.as_bytes());
        }
    }
}

#[test]
fn what_is_there_and_broken_is_a_fault_that_names_file_and_cause() {
    let (machine, own) = (Machine::new(KUBERNETES), |name: &str| format!("{OWN}/{name}"));
    for (path, text, error) in [
        (own("memory.max"), "", "it is no number"),
        (own("memory.max"), "lots\n", "it is no number"),
        (own("memory.max"), "-1\n", "it is no number"),
        (own("memory.max"), "99999999999999999999999\n", "it is no number"),
        (own("memory.stat"), "file 5\nanonymous 3\n", "it does not say anon"),
        (own("memory.stat"), "anon many\n", "anon is no number"),
        (own("memory.stat"), "anon", "anon is no number"),
        (own("memory.events"), "low 0\nhigh 2\n", "it does not say max"),
        (own("memory.events"), "max 0\noom_kill x\n", "oom_kill is no number"),
        (own("memory.pressure"), "some avg10=1 total=5", "it does not say avg10 of full"),
        (
            own("memory.pressure"),
            "some avg10=NaN total=5\nfull avg10=1\n",
            "avg10 of some is no percentage",
        ),
        (
            own("memory.pressure"),
            "some avg10=1 total=5\nfull avg10=101\n",
            "avg10 of full is no percentage",
        ),
        ("proc/meminfo".into(), "MemFree: 5 kB\n", "it does not say MemTotal:"),
        ("proc/meminfo".into(), "MemTotal: 5000000 kB\n", "it does not say MemAvailable:"),
        ("proc/self/statm".into(), "1 2", "shared is no number"),
        ("proc/self/statm".into(), "", "resident is no number"),
        ("proc/vmstat".into(), "oom_kill 0x5\n", "oom_kill is no number"),
    ] {
        let recorded = files(KUBERNETES).find(|(name, _)| *name == path).unwrap().1;
        machine.write(&path, text.as_bytes());
        let (_, faults) = machine.read();
        machine.write(&path, recorded.as_bytes());
        assert!(faults.contains(&format!("/{path}: {error}")), "{path} {text:?}: {faults:?}");
        assert_eq!(faults.len(), 1, "{faults:?}");
    }
}

#[test]
fn what_a_broken_file_does_not_say_the_others_do() {
    let stat = format!("{OWN}/memory.stat");
    let (reading, faults) = Machine::new(KUBERNETES).with(&stat, "no such thing\n").read();
    assert_eq!(faults.len(), 1);
    assert_limit(&reading, 402_653_184, LimitSource::Cgroup2Above, 314_572_800, 88_080_384);
    let (reading, _) = Machine::new(KUBERNETES).with("proc/meminfo", "\0\0\0").read();
    assert_limit(&reading, 402_653_184, LimitSource::Cgroup2Above, 314_572_800, 88_080_384);
    let pressure = format!("{OWN}/memory.pressure");
    let (reading, _) = Machine::new(KUBERNETES).with(&pressure, "nothing").read();
    assert_eq!(reading.psi, psi(1.0, 0.5), "that of the machine");
}

#[test]
fn huge_numbers_are_taken_as_they_are() {
    let meminfo = format!("MemTotal: {0} kB\nMemAvailable: {0} kB\n", u64::MAX);
    let (reading, faults) = Machine::new(BARE).with("proc/meminfo", &meminfo).read();
    assert_eq!(faults, [""; 0]);
    assert_limit(&reading, u64::MAX, LimitSource::Meminfo, 0, u64::MAX);
    let statm = format!("{0} {0} 0\n", u64::MAX);
    let (reading, _) = Machine::new(BARE).with("proc/self/statm", &statm).read();
    assert_eq!(reading.rss_bytes, Some(u64::MAX));
}

#[test]
fn a_file_that_is_no_text_or_too_long_or_no_file_is_a_fault() {
    let machine = Machine::new(BARE);
    machine.write("proc/meminfo", &[0xff; 100]);
    machine.write("proc/vmstat", &vec![b'a'; 2 * 1024 * 1024]);
    let statm = machine.0.path().join("proc/self/statm");
    std::fs::remove_file(&statm).unwrap();
    std::fs::create_dir(&statm).unwrap();
    let (reading, faults) = machine.read();
    assert_eq!(reading, Reading::default());
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert_eq!(faults[0].split(": it cannot be read").count(), 2, "{faults:?}");
    assert_eq!(faults[1], "/proc/vmstat: it is longer than 1 MiB");
    assert_eq!(faults[2], "/proc/meminfo: it is no text");
}

#[test]
fn a_fault_is_reported_once_and_another_cause_once_more() {
    let machine = Machine::new(BARE).with("proc/vmstat", "oom_kill x\n");
    let (kernel, mut faults) = (machine.kernel(), Faults::default());
    let mut reported = || {
        kernel.read(&mut faults);
        faults.take_new().len()
    };
    assert_eq!((reported(), reported()), (1, 0));
    machine.write("proc/vmstat", b"oom_kill y\n");
    assert_eq!(reported(), 0, "what it says is not the cause");
    machine.write("proc/vmstat", b"\xff");
    assert_eq!((reported(), reported()), (1, 0));
}

#[test]
fn no_more_than_so_many_faults_are_remembered() {
    let mut faults = Faults::default();
    for n in 0..1000 {
        faults.note(Path::new("/proc/vmstat"), format!("cause {n}"));
    }
    assert_eq!(faults.take_new().len(), 64);
}

#[test]
fn counters_are_those_of_the_reading() {
    let figures = Machine::new(KUBERNETES).kernel().counters();
    let expected = MemoryFigures {
        oom_kills: Some(7),
        group_oom_kills: Some(2),
        limit_hits: Some(31),
        ..MemoryFigures::default()
    };
    assert_eq!(figures, expected);
}

#[test]
fn a_mount_with_a_blank_in_its_path_is_found() {
    let machine = Machine::new(BARE)
        .with("proc/self/cgroup", "0::/\n")
        .with("proc/self/mountinfo", "29 23 0:26 / /sys/my\\040groups rw - cgroup2 cgroup2 rw\n")
        .with("sys/my groups/memory.stat", "anon 5\n")
        .with("sys/my groups/memory.max", "100\n");
    assert_limit(&machine.reading(), 100, LimitSource::Cgroup2, 5, 95);
}

#[test]
fn this_machine_says_something() {
    let mut faults = Faults::default();
    let reading = Kernel::here().read(&mut faults);
    assert_eq!(faults.take_new(), []);
    assert!(reading.rss_bytes > Some(0) && reading.limit.is_some(), "{reading:?}");
    assert!(reading.available_bytes < reading.limit.map(|limit| limit.bytes), "{reading:?}");
    assert!(Kernel::here().boot_id().is_some());
}

/// What a broken kernel, or a file that is read while it changes, could say.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let words =
        ["anon", "max", "some avg10=", "full avg10=", "MemTotal:", "total_rss", "0::/", " - "];
    let word = (prop::sample::select(words.to_vec()), any::<u64>())
        .prop_map(|(word, number)| format!("{word} {number}\n"));
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec(word, 0..8).prop_map(|words| words.concat().into_bytes()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_in_any_file_break_anything(
        recorded in prop::sample::select(ALL.to_vec()),
        contents in prop::collection::vec(prop::option::of(content()), 32),
        cut in any::<prop::sample::Index>(),
    ) {
        let machine = Machine::new(recorded);
        for ((path, text), content) in files(recorded).zip(contents) {
            match content {
                Some(content) => machine.write(path, &content),
                None => machine.write(path, &text.as_bytes()[..cut.index(text.len() + 1)]),
            }
        }
        let kernel = machine.kernel();
        let reading = kernel.read(&mut Faults::default());
        kernel.counters();
        kernel.boot_id();
        if let (Some(limit), Some(available)) = (reading.limit, reading.available_bytes) {
            prop_assert!(available <= limit.bytes);
        }
    }
}
