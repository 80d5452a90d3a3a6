//! Components that are made to cost the host more than they may.

use bulkhead_types::Phase;

use super::*;

/// A stock component with these core modules, the last of which is `$m` and exports `run`.
fn program(modules: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            {modules}
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $exports (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $exports)))"#
    );
    wat::parse_str(text).unwrap()
}

const MAIN: &str = "(core module $m (func (export \"run\") (result i32) i32.const 0))";

/// So many instances of a module with this in it, and a main module.
fn instances(count: usize, contents: &str) -> Vec<u8> {
    let instances = "(core instance (instantiate $other))".repeat(count);
    program(&format!("(core module $other {contents}) {instances} {MAIN}"))
}

/// A symbol whose name becomes twice as long with each of `depth` references back.
fn doubling(depth: usize) -> String {
    let base_62 = |mut number: usize| {
        let digits = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let mut text = String::from("_");
        while number > 0 {
            number -= 1;
            text.insert(0, digits[number % 62] as char);
            number /= 62;
        }
        text
    };
    let mut symbol = String::from("INvC1a1b");
    let mut at = symbol.len();
    symbol += "TaaE";
    for _ in 0..depth {
        let back = base_62(at);
        at = symbol.len();
        symbol += &format!("TB{back}B{back}E");
    }
    format!("_R{symbol}E")
}

/// An error of a host call, below 64 frames of a function with this name.
fn fails_in_a_host_call(name: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (import "wasi:io/poll@0.2.0" (instance $poll
                (export "pollable" (type $p (sub resource)))
                (export "poll" (func (param "in" (list (borrow $p))) (result (list u32))))))
            (core module $libc (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024))
            (core instance $libc (instantiate $libc))
            (core func $poll (canon lower (func $poll "poll") (memory (core memory $libc "memory"))
                (realloc (core func $libc "realloc"))))
            (core module $m
                (import "h" "poll" (func $poll (param i32 i32 i32)))
                (func $f (@name "{name}") (param i32)
                    (if (local.get 0) (then (call $f (i32.sub (local.get 0) (i32.const 1)))))
                    (call $poll (i32.const 8) (i32.const 0) (i32.const 16)))
                (func (export "run") (result i32) (call $f (i32.const 70)) (i32.const 0)))
            (core instance $i (instantiate $m (with "h" (instance (export "poll" (func $poll))))))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $exports (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $exports)))"#
    );
    wat::parse_str(text).unwrap()
}

#[test]
fn a_symbol_of_many_copy_numbers_takes_no_stack() {
    let rig = Rig::new(1);
    let name = format!("a{}", ".1".repeat(30_000));
    let component = program(&format!(
        "(core module $m (func (@name \"{name}\") (export \"run\") (result i32) unreachable))"
    ));
    let loaded = rig.load(&rig.write(&component)).unwrap();
    let exit = rig.run_loaded(&loaded, &roomy(), limits(5000)).unwrap_err();
    assert_eq!(exit.reason, ExitReason::Trap);
    let name = exit.frames[0].function.as_deref().unwrap();
    assert!(name.starts_with("a.1.1") && name.len() <= 1024, "{name}");
    rig.end();
}

#[test]
fn a_name_without_measure_is_no_name() {
    let rig = Rig::new(1);
    let name = "x".repeat(1 << 20);
    let component = program(&format!(
        "(core module $m (func (@name \"{name}\") (export \"run\") (result i32) unreachable))"
    ));
    let loaded = rig.load(&rig.write(&component)).unwrap();
    let exit = rig.run_loaded(&loaded, &roomy(), limits(5000)).unwrap_err();
    assert_eq!((exit.frames.len(), exit.frames[0].function.as_deref()), (1, None));
    rig.end();
}

#[test]
fn a_symbol_that_doubles_is_cut_and_the_message_of_its_error_is_the_cause() {
    let rig = Rig::new(1);
    let loaded = rig.load(&rig.write(&fails_in_a_host_call(&doubling(24)))).unwrap();
    let incarnation = rig.instantiate(&loaded, &roomy()).unwrap();
    let end = rig.block_on(incarnation.run(limits(5000)));
    let CallEnd::Ended(exit, _) = end else { panic!("it returned") };
    assert_eq!(exit.message, "empty poll list");
    assert_eq!(exit.frames.len(), 64);
    let names = exit.frames.iter().filter_map(|frame| frame.function.as_ref());
    assert!(names.map(String::len).all(|length| length <= 1024));
    rig.end();
}

/// Fills its heap with arrays of 4 KiB that it keeps.
const FILLS_ITS_HEAP: &str = r#"(core module $m
    (type $bytes (array (mut i32)))
    (type $node (struct (field (ref null $node)) (field (ref $bytes))))
    (func (export "run") (result i32) (local (ref null $node))
        (loop
            (local.set 0 (struct.new $node (local.get 0) (array.new $bytes (i32.const 1) (i32.const 1024))))
            br 0)
        unreachable))"#;

#[test]
fn a_heap_over_the_limit_is_the_memory_limit_whatever_the_agent_may_see() {
    let component = program(FILLS_ITS_HEAP);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("heap.wasm");
    std::fs::write(&path, &component).unwrap();
    let rig = Rig::with(1, dir, |config| config.components = vec![path.clone()]);
    let loaded = rig.load(&path).unwrap();
    for policy in [MemoryPolicy::End, MemoryPolicy::Deny] {
        let context = context(8 << 20, policy);
        let exit = rig.run_loaded(&loaded, &context, limits(20_000)).unwrap_err();
        assert_eq!(exit.reason, ExitReason::MemoryLimit, "{exit:?}");
        assert!(exit.requested_bytes.is_some() && exit.host_call.is_none(), "{exit:?}");
        assert!(exit.message.contains("garbage-collected heap"), "{}", exit.message);
        assert!(context.meter.usage().denied_growths > 0);
    }
    let huge = r#"(core module $m (type $bytes (array (mut i64)))
        (func (export "run") (result i32)
            (drop (array.new_default $bytes (i32.const -1))) i32.const 0))"#;
    let loaded = rig.load(&rig.write(&program(huge))).unwrap();
    let exit =
        rig.run_loaded(&loaded, &context(8 << 20, MemoryPolicy::End), limits(5000)).unwrap_err();
    assert_eq!(exit.reason, ExitReason::MemoryLimit, "{exit:?}");
    rig.end();
}

#[test]
fn every_agent_of_a_full_host_has_room_for_its_heap() {
    const AGENTS: usize = 100;
    let component = program(
        r#"(core module $m (type $s (struct)) (memory 1)
            (func (export "run") (result i32) (drop (struct.new $s)) i32.const 0))"#,
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("heap.wasm");
    std::fs::write(&path, &component).unwrap();
    let rig = Rig::with(AGENTS, dir, |config| config.components = vec![path.clone()]);
    assert_eq!(rig.runtime.capacity().max_agents, AGENTS);
    let loaded = rig.load(&path).unwrap();
    let live = |number| match rig.instantiate(&loaded, &roomy()) {
        Ok(incarnation) => match rig.block_on(incarnation.run(limits(5000))) {
            CallEnd::Returned(incarnation, _) => incarnation,
            CallEnd::Ended(exit, _) => panic!("agent {number}: {exit:?}"),
        },
        Err(exit) => panic!("agent {number}: {exit:?}"),
    };
    drop((0..AGENTS).map(live).collect::<Vec<_>>());
    rig.end();
}

/// With a pool and without one.
fn rigs() -> [Rig; 2] {
    [true, false].map(|pooling| {
        Rig::with(2, tempfile::tempdir().unwrap(), |config| config.pooling = pooling)
    })
}

#[test]
fn more_instances_memories_and_tables_than_a_component_may_have_are_refused_with_the_figures() {
    for rig in rigs() {
        for (component, named) in [
            (
                instances(900, ""),
                "901 instances of core modules, and limits.component_instances is 256",
            ),
            (
                instances(17, "(memory 0)"),
                "17 linear memories, and limits.component_memories is 16",
            ),
            (instances(65, "(table 0 funcref)"), "65 tables, and limits.component_tables is 64"),
        ] {
            let error = rig.load(&rig.write(&component)).err().unwrap();
            assert!(matches!(error, LoadError::DoesNotFit { .. }), "{error:?}");
            assert!(error.to_string().contains(named), "{error}");
        }
        let fits = rig.load(&rig.write(&instances(255, ""))).unwrap();
        rig.run_loaded(&fits, &roomy(), limits(5000)).unwrap();
        rig.end();
    }
}

#[test]
fn one_component_that_is_too_large_takes_no_room_from_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.wasm");
    std::fs::write(&path, instances(99, "(memory 0)")).unwrap();
    let rig = Rig::with(1000, dir, |config| config.components = vec![path]);
    let capacity = rig.runtime.capacity();
    assert_eq!(capacity.max_agents, 1000, "{:?}", capacity.notes);
    rig.end();
}

#[test]
fn what_the_engine_keeps_of_instances_is_the_agents_where_no_pool_bounds_it() {
    let globals = "(global (mut i64) (i64.const 1))".repeat(20_000);
    let [pooled, rig] = rigs();
    let component = instances(100, &globals);
    let error = pooled.load(&pooled.write(&component)).err().unwrap();
    assert!(matches!(error, LoadError::DoesNotFit { .. }), "{error:?}");
    pooled.end();
    let loaded = rig.load(&rig.write(&component)).unwrap();
    let exit = rig.instantiate(&loaded, &context(8 << 20, MemoryPolicy::Deny)).err().unwrap();
    assert_eq!((exit.reason, exit.phase), (ExitReason::MemoryLimit, Phase::Instantiate));
    assert!(exit.message.contains("records of its instances"), "{}", exit.message);
    let account_of = |context: &InstanceContext| Arc::clone(context.meter.memory().account());
    let large = context(64 << 20, MemoryPolicy::End);
    let incarnation = rig.instantiate(&loaded, &large).unwrap();
    let account = account_of(&large);
    assert!((32_000_000..34_000_000).contains(&account.reading().host.instances));
    drop(incarnation);
    assert_eq!(account.reading().used_bytes(), 0);
    let ordinary = rig.load(&rig.write(&command(1, OK))).unwrap();
    let small = context(64 << 20, MemoryPolicy::End);
    let incarnation = rig.instantiate(&ordinary, &small).unwrap();
    let account = account_of(&small);
    assert_eq!(account.reading().host.total(), 0, "an ordinary one costs nothing");
    drop(incarnation);
    rig.end();
}
