//! Limits of writable binds. A tool that goes above one would go on for long otherwise.

use std::fs;
use std::time::{Duration, Instant};

use bulkhead_tools::{Bind, Command, DiskLimit, End, Finished, Layer, Settings};

use crate::machine::{Machine, patient, text};

const MIB: u64 = 1 << 20;
/// Behind the second walk.
const TWO_WALKS: &str = "select(undef, undef, undef, 1.6);";

fn limited(mut command: Command, bytes: u64, entries: u64) -> Command {
    command.sandbox.binds[0].limit = Some(DiskLimit { bytes, entries });
    command
}

fn perl(machine: &Machine, script: &str, bytes: u64, entries: u64) -> Finished {
    let script = format!(
        "sub fill {{ open(my $f, '>', $_[0]) or die $!; print $f 'x' x $_[1]; close $f; $f }} {script}"
    );
    let command = machine.command("/usr/bin/env", &["perl", "-e", &script]);
    machine.run(&limited(command, bytes, entries))
}

fn end(machine: &Machine, script: &str, bytes: u64, entries: u64) -> End {
    let begun = Instant::now();
    let finished = perl(machine, script, bytes, entries);
    assert!(begun.elapsed() < patient(Duration::from_secs(15)), "{script}");
    assert_eq!(text(&finished.stderr), "", "{script}");
    finished.ended.end
}

#[test]
fn one_large_file_ends_its_tool_at_the_limit() {
    let machine = Machine::new();
    let args = ["if=/dev/zero", "of=big", "bs=65536", "count=1000"];
    let finished = machine.run(&limited(machine.command("/bin/dd", &args), 8 * MIB, 100));
    assert_eq!(finished.ended.end, End::DiskLimit);
    assert_eq!(fs::metadata(machine.workspace.path().join("big")).unwrap().len(), 8 * MIB);
}

#[test]
fn several_large_files_end_their_tool() {
    let machine = Machine::new();
    let script = "fill($_, 3 << 20) for 1..3; sleep 100";
    assert_eq!(end(&machine, script, 8 * MIB, 100), End::DiskLimit);
}

#[test]
fn many_small_files_end_their_tool() {
    let machine = Machine::new();
    assert_eq!(end(&machine, "fill($_, 0) for 1..1100; sleep 100", MIB, 1000), End::DiskLimit);
    // Each has a block.
    let machine = Machine::new();
    assert_eq!(end(&machine, "fill($_, 1) for 1..300; sleep 100", MIB, 1000), End::DiskLimit);
}

#[test]
fn directories_and_links_end_their_tool() {
    let machine = Machine::new();
    assert_eq!(end(&machine, "mkdir $_ for 1..300; sleep 100", MIB, 1000), End::DiskLimit);
    let machine = Machine::new();
    assert_eq!(end(&machine, "symlink '/', $_ for 1..300; sleep 100", MIB, 1000), End::DiskLimit);
    let machine = Machine::new();
    let deep = "for (1..300) { mkdir 'd'; chdir 'd' } sleep 100";
    assert_eq!(end(&machine, deep, 1000 * MIB, 1_000_000), End::DiskLimit);
}

#[test]
fn a_file_with_many_names_counts_once_and_each_name_is_an_entry() {
    let machine = Machine::new();
    let links = "fill('a', 1 << 20); link('a', \"b$_\") for 1..100;";
    let script = format!("{links} {TWO_WALKS}");
    assert_eq!(end(&machine, &script, 2 * MIB, 101), End::Exited(0));
    assert_eq!(end(&machine, "sleep 100", 2 * MIB, 100), End::DiskLimit);
}

#[test]
fn a_deleted_file_that_is_open_does_not_count() {
    let machine = Machine::new();
    let script = format!(
        "my @f; for (1..8) {{ open(my $f, '>', 'a'); print $f 'x' x (1 << 20); unlink 'a'; push @f, $f }} {TWO_WALKS}"
    );
    assert_eq!(end(&machine, &script, 2 * MIB, 10), End::Exited(0));
}

#[test]
fn nothing_is_hidden_by_its_mode() {
    let machine = Machine::new();
    let script = "mkdir 'd'; fill(\"d/$_\", 1 << 20) for 1..3; chmod 0, 'd'; sleep 100";
    assert_eq!(end(&machine, script, 2 * MIB, 100), End::DiskLimit);
    let machine = Machine::new();
    let script = format!("mkdir 'd'; fill('d/a', 1000); chmod 0, 'd'; {TWO_WALKS} chmod 0700, 'd'");
    if machine.has(&[Layer::MountNamespace]) {
        assert_eq!(end(&machine, &script, 2 * MIB, 100), End::Exited(0));
    }
}

#[test]
fn a_tool_below_its_limit_is_left_alone() {
    let machine = Machine::new();
    // Exactly at it.
    let script =
        format!("mkdir 'd'; fill('d/a', 4096); symlink '/usr', 'l'; {TWO_WALKS} print 'x'");
    let finished = perl(&machine, &script, 3 * 4096, 3);
    assert_eq!((finished.ended.end, finished.stdout), (End::Exited(0), b"x".to_vec()));
    assert_eq!(end(&machine, "sleep 100", 3 * 4096 - 1, 3), End::DiskLimit);
    assert_eq!(end(&machine, "sleep 100", 3 * 4096, 2), End::DiskLimit);
}

#[test]
fn children_are_reaped_while_a_tree_is_counted() {
    let machine = Machine::new();
    let script = "fill($_, 0) for 1..20000; my $end = time + 3; \
        while (time < $end) { if (!fork) { exit if fork; exit } wait }";
    let command = machine.command(
        "/usr/bin/env",
        &[
            "perl",
            "-e",
            &format!("sub fill {{ open(my $f, '>', $_[0]) or die $! }} {script} exit 3"),
        ],
    );
    let mut command = limited(command, 100 * MIB, 100_000);
    // Orphans that nobody reaps would be too many: thousands. On a busy machine some dozens wait for their turn.
    command.limits.pids = 512;
    assert_eq!(machine.run(&command).ended.end, End::Exited(3));
}

#[test]
fn what_is_mounted_in_a_bind_is_not_part_of_it() {
    let machine = Machine::new();
    if !machine.has(&[Layer::MountNamespace]) {
        return;
    }
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("big"), vec![0; 3 << 20]).unwrap();
    fs::create_dir(machine.workspace.path().join("inner")).unwrap();
    let command = machine.command("/bin/sh", &["-c", "cat inner/big | wc -c; sleep 1.6"]);
    let mut command = limited(command, MIB, 10);
    let (host, inside) = (other.path().to_owned(), "/workspace/inner".into());
    command.sandbox.binds.push(Bind { host, inside, writable: false, limit: None });
    let finished = machine.run(&command);
    assert_eq!(
        (finished.ended.end, text(&finished.stdout)),
        (End::Exited(0), "3145728\n".to_owned())
    );
}

#[test]
fn without_namespaces_the_limit_holds_where_the_host_has_the_files() {
    let without = vec![Layer::Cgroup, Layer::PidNamespace];
    let machine = Machine::with(&Settings { without, ..Settings::default() });
    let script = "mkdir 'd'; fill(\"d/$_\", 1 << 20) for 1..3; chmod 0, 'd'; sleep 100";
    assert_eq!(end(&machine, script, 2 * MIB, 100), End::DiskLimit);
    let below =
        Machine::with(&Settings { without: vec![Layer::PidNamespace], ..Settings::default() });
    assert_eq!(end(&below, &format!("fill('a', 1); {TWO_WALKS}"), 2 * MIB, 100), End::Exited(0));
}
