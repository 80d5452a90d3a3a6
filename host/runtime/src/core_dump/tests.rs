//! Core dumps of stock components written as text, read with a reader that is not the engine's writer.

use std::sync::Arc;
use std::time::Duration;

use bulkhead_types::{AgentSpec, Exit, ExitReason, Limits};
use parking_lot::Mutex;
use wasmparser::{DataKind, KnownCustom, Parser, Payload};

use super::*;
use crate::port::fake::FakePort;
use crate::tests::{Rig, command, limits, spec};
use crate::{CallEnd, Incarnation, InstanceContext, Loaded, Logs};

/// What a dump says.
#[derive(Debug, Default)]
struct Read {
    name: String,
    modules: Vec<String>,
    /// Module of each instance, with its memories.
    instances: Vec<(u32, Vec<u32>)>,
    /// Instance, function and offset in it.
    frames: Vec<(u32, u32, u32)>,
    /// Pages of each memory.
    memories: Vec<u64>,
    data: Vec<u8>,
    note: Option<String>,
}

fn read(bytes: &[u8]) -> Read {
    let mut read = Read::default();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.unwrap() {
            Payload::MemorySection(memories) => {
                read.memories.extend(memories.into_iter().map(|memory| memory.unwrap().initial));
            }
            Payload::DataSection(segments) => {
                for segment in segments {
                    let segment = segment.unwrap();
                    assert!(matches!(segment.kind, DataKind::Active { .. }));
                    read.data.extend(segment.data);
                }
            }
            Payload::CustomSection(section) => match section.as_known() {
                KnownCustom::CoreDump(core) => read.name = core.name.to_owned(),
                KnownCustom::CoreDumpModules(modules) => {
                    read.modules = modules.modules.iter().map(|name| (*name).to_owned()).collect();
                }
                KnownCustom::CoreDumpInstances(instances) => {
                    let instance = |instance: &wasmparser::CoreDumpInstance| {
                        (instance.module_index, instance.memories.clone())
                    };
                    read.instances = instances.instances.iter().map(instance).collect();
                }
                KnownCustom::CoreDumpStack(stack) => {
                    let frame = |frame: &wasmparser::CoreDumpStackFrame| {
                        (frame.instanceidx, frame.funcidx, frame.codeoffset)
                    };
                    read.frames = stack.frames.iter().map(frame).collect();
                }
                _ => {
                    assert_eq!(section.name(), "bulkhead.note");
                    read.note = Some(String::from_utf8_lossy(section.data()).into_owned());
                }
            },
            _ => {}
        }
    }
    read
}

/// A runtime with core dumps, and `agents` in its pool.
fn rig(agents: usize, change: impl FnOnce(&mut CoreDumpRules)) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let mut rules = CoreDumpRules::in_dir(dir.path().join("cores"));
    change(&mut rules);
    Rig::with(agents, dir, |config| config.core_dumps = Some(rules))
}

fn dumps(rig: &Rig) -> &CoreDumps {
    rig.runtime.core_dumps().unwrap()
}

fn born(rig: &Rig, loaded: &Arc<Loaded>, core_dump: bool) -> Incarnation {
    let limits = Limits { memory_bytes: 4 << 20, ..Limits::default() };
    let spec = AgentSpec { limits, core_dump, ..spec() };
    let log_budget = Arc::new(Mutex::new(Logs::budget(50)));
    let port = Arc::new(FakePort::default());
    rig.instantiate(
        loaded,
        &Arc::new(InstanceContext::new(
            Arc::new(spec),
            port,
            None,
            log_budget,
            Arc::default(),
            Arc::default(),
            Arc::default(),
        )),
    )
    .unwrap()
}

fn ends(rig: &Rig, loaded: &Arc<Loaded>, core_dump: bool) -> (Exit, Option<Box<TrappedStore>>) {
    match rig.block_on(born(rig, loaded, core_dump).run(limits(50))) {
        CallEnd::Ended(exit, remains) => (exit, remains),
        CallEnd::Returned(..) => panic!("it returned"),
    }
}

fn loaded(rig: &Rig, body: &str) -> Arc<Loaded> {
    rig.load(&rig.write(&command(1, body))).unwrap()
}

fn bytes(rig: &Rig, kept: &KeptCoreDump) -> Vec<u8> {
    std::fs::read(rig.dir.path().join("cores").join(&kept.file)).unwrap()
}

/// Writes a word at 70 and at the end of the page, and traps.
const SECRET: &str = "(i32.store (i32.const 70) (i32.const 0x41424344))
    (i32.store (i32.const 65532) (i32.const 0x45464748)) unreachable";

#[test]
fn a_dump_has_the_stack_and_the_memory() {
    let rig = rig(1, |_| {});
    let (exit, remains) = ends(&rig, &loaded(&rig, SECRET), true);
    assert_eq!(exit.reason, ExitReason::Trap);
    assert_eq!(rig.runtime.stores(), 1, "the store is still there");
    let kept = dumps(&rig).keep(*remains.unwrap(), "019a-b").wait().unwrap();
    assert_eq!(rig.runtime.stores(), 0);
    assert_eq!((kept.file.as_str(), kept.note), ("019a-b.wasm.core", None));
    let bytes = bytes(&rig, &kept);
    assert_eq!(kept.bytes, bytes.len() as u64);
    let read = read(&bytes);
    assert_eq!((read.name.as_str(), read.modules.as_slice()), ("test", &["m".to_owned()][..]));
    assert_eq!((read.memories.as_slice(), read.data.as_slice()), (&[1][..], &b"DCBAHGFE"[..]));
    assert_eq!(read.instances, [(0, vec![0])]);
    assert_eq!(read.frames.len(), exit.frames.len());
    for ((instance, function, offset), frame) in read.frames.iter().zip(&exit.frames) {
        assert_eq!((*instance, *function), (0, frame.function_index));
        assert!(*offset > 0);
    }
    rig.end();
}

#[test]
fn one_that_is_too_large_keeps_the_stack() {
    let rig = rig(1, |rules| rules.max_bytes = 30);
    let (exit, remains) = ends(&rig, &loaded(&rig, SECRET), true);
    let kept = dumps(&rig).keep(*remains.unwrap(), "a").wait().unwrap();
    assert!(kept.note.unwrap().contains("larger than allowed"), "{kept:?}");
    let read = read(&bytes(&rig, &kept));
    assert_eq!(read.note.as_deref(), kept.note);
    assert_eq!((read.memories.len(), read.data.len()), (0, 0));
    assert_eq!((read.name.as_str(), read.modules.as_slice()), ("test", &["m".to_owned()][..]));
    assert_eq!(read.instances, [(0, vec![])]);
    assert_eq!(read.frames.len(), exit.frames.len());
    assert_eq!(read.frames[0].1, exit.frames[0].function_index);
    rig.end();
}

#[test]
fn only_who_asks_gets_one() {
    let with = rig(2, |_| {});
    let (_, remains) = ends(&with, &loaded(&with, SECRET), false);
    assert!(remains.is_none());
    assert_eq!(with.runtime.stores(), 0);
    with.end();
    let without = Rig::with(2, tempfile::tempdir().unwrap(), |_| {});
    let (_, remains) = ends(&without, &loaded(&without, SECRET), true);
    assert!(remains.is_none() && without.runtime.core_dumps().is_none());
    assert_eq!(without.runtime.stores(), 0);
    without.end();
}

#[test]
fn an_end_that_the_host_imposed_leaves_one_too_and_its_message_stays_short() {
    let rig = rig(1, |_| {});
    let grow = "(loop (drop (memory.grow (i32.const 1))) br 0) unreachable";
    for (body, reason) in
        [("(loop br 0) unreachable", ExitReason::CpuDeadline), (grow, ExitReason::MemoryLimit)]
    {
        let (exit, remains) = ends(&rig, &loaded(&rig, body), true);
        assert_eq!(exit.reason, reason);
        assert!(!exit.message.contains("coredump") && exit.message.len() < 200, "{exit:?}");
        let kept = dumps(&rig).keep(*remains.unwrap(), "a").wait().unwrap();
        assert_eq!(read(&bytes(&rig, &kept)).frames.len(), exit.frames.len());
    }
    rig.end();
}

#[test]
fn a_composed_component_leaves_one_whatever_the_engine_makes_of_it() {
    let composed = r#"(component
        (component $inner
            (core module $m (memory 1) (func (export "f") (result i32)
                (i32.store (i32.const 70) (i32.const 0x41424344)) unreachable))
            (core instance $i (instantiate $m))
            (func (export "f") (result u32) (canon lift (core func $i "f"))))
        (component $outer
            (import "f" (func $f (result u32)))
            (core func $lowered (canon lower (func $f)))
            (core module $m
                (import "" "f" (func $f (result i32)))
                (func (export "run") (result i32) call $f))
            (core instance $i (instantiate $m (with "" (instance (export "f" (func $lowered))))))
            (func (export "run") (result (result)) (canon lift (core func $i "run"))))
        (instance $inner (instantiate $inner))
        (instance $outer (instantiate $outer (with "f" (func $inner "f"))))
        (instance $exports (export "run" (func $outer "run")))
        (export "wasi:cli/run@0.2.0" (instance $exports)))"#;
    let rig = rig(1, |_| {});
    let loaded = rig.load(&rig.write(&wat::parse_str(composed).unwrap())).unwrap();
    let (exit, remains) = ends(&rig, &loaded, true);
    assert_eq!(exit.reason, ExitReason::Trap);
    let kept = dumps(&rig).keep(*remains.unwrap(), "a").wait().unwrap();
    let read = read(&bytes(&rig, &kept));
    let functions: Vec<_> = read.frames.iter().map(|(_, function, _)| *function).collect();
    let expected: Vec<_> = exit.frames.iter().map(|frame| frame.function_index).collect();
    assert_eq!(functions, expected, "{kept:?}");
    assert_eq!((read.memories.as_slice(), read.data.as_slice()), (&[1][..], &b"DCBA"[..]));
    assert!(read.frames.iter().all(|(instance, ..)| (*instance as usize) < read.instances.len()));
    rig.end();
}

#[test]
fn a_store_goes_at_once_when_too_many_wait() {
    let agents = QUEUE + 3;
    let rig = rig(agents, |_| {});
    let loaded = loaded(&rig, SECRET);
    let held = dumps(&rig).directory.lock();
    let keep = |index| dumps(&rig).keep(*ends(&rig, &loaded, true).1.unwrap(), format!("{index}"));
    let mut first = keep(0);
    rig.block_on(first.released(Duration::MAX));
    let mut others: Vec<_> = (1..=QUEUE).map(keep).collect();
    assert_eq!(rig.runtime.stores(), QUEUE);
    let refused = keep(agents);
    assert_eq!(rig.runtime.stores(), QUEUE);
    assert_eq!(refused.wait(), Err(CoreDumpError::QueueFull));
    drop(held);
    // Each store is gone before its file is there.
    rig.block_on(async {
        for other in &mut others {
            let released = other.released(Duration::MAX);
            tokio::time::timeout(Duration::from_secs(30), released).await.unwrap();
        }
    });
    assert_eq!(rig.runtime.stores(), 0);
    for keeping in others.into_iter().chain([first]) {
        keeping.wait().unwrap();
    }
    let kept = QUEUE as u64 + 1;
    assert_eq!(dumps(&rig).figures(), CoreDumpFigures { kept, refused: 1 });
    rig.end();
}

#[test]
fn a_disk_that_hangs_holds_no_store() {
    let rig = rig(2, |_| {});
    let loaded = loaded(&rig, SECRET);
    // The thread waits for it when it has made its first dump.
    let hangs = dumps(&rig).directory.lock();
    let keep = |name: &str| dumps(&rig).keep(*ends(&rig, &loaded, true).1.unwrap(), name);
    let mut written = keep("written");
    rig.block_on(written.released(Duration::MAX));
    let mut behind = keep("behind");
    assert_eq!(rig.runtime.stores(), 1);
    let released = behind.released(Duration::from_millis(20));
    rig.block_on(async { tokio::time::timeout(Duration::from_secs(30), released).await.unwrap() });
    assert_eq!(rig.runtime.stores(), 0);
    assert_eq!(rig.block_on(behind), Err(CoreDumpError::GivenUp));
    drop(hangs);
    written.wait().unwrap();
    let mut next = keep("next");
    rig.block_on(next.released(Duration::MAX));
    next.wait().unwrap();
    assert_eq!(dumps(&rig).figures(), CoreDumpFigures { kept: 2, refused: 1 });
    rig.end();
}

#[test]
fn a_dump_that_nobody_waits_for_is_made_all_the_same() {
    let rig = rig(1, |_| {});
    let (_, remains) = ends(&rig, &loaded(&rig, SECRET), true);
    drop(dumps(&rig).keep(*remains.unwrap(), "a"));
    let (_, remains) = loop {
        // Until the first store is gone, the pool is full.
        if rig.runtime.stores() == 0 {
            break ends(&rig, &loaded(&rig, SECRET), true);
        }
        std::thread::yield_now();
    };
    let second = dumps(&rig).keep(*remains.unwrap(), "b").wait().unwrap();
    assert_eq!(
        bytes(&rig, &second),
        bytes(&rig, &KeptCoreDump { file: "a.wasm.core".into(), ..second.clone() })
    );
    rig.end();
}
