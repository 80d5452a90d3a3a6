//! `bulkhead chat`: turns as they happen, without a terminal and on one.

use std::io::Write;
use std::net::TcpListener;
use std::process::{ChildStdin, Stdio};

use harness::processes::children;
use harness::{Host, files, model_server, wait_for, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use super::terminal::on_a_terminal;
use super::{Person, Running};

/// A conversation with `one` on a terminal, at its first prompt, and the keys of that terminal.
fn chat_on_a_terminal(person: &Person) -> (Running, ChildStdin) {
    let mut chat = on_a_terminal(person, 80, "chat one", Stdio::piped());
    let keys = chat.child.stdin.take().expect("stdin is a pipe");
    chat.shows("one> ");
    (chat, keys)
}

/// A conversation whose lines a test writes.
fn chat(person: &Person, agent: &str) -> (Running, ChildStdin) {
    let mut command = person.command(&["chat", agent]);
    command.stdin(Stdio::piped());
    let mut running = Running::of(command);
    let stdin = running.child.stdin.take().expect("stdin is a pipe");
    (running, stdin)
}

#[test]
fn text_comes_as_the_model_writes_it_and_then_the_reply() {
    let model = model_server();
    let program = files::component("models");
    let host = Host::builder()
        .component("models", &program)
        .role("models", "models", "models = [\"default\"]\n")
        .model(&model, "sk-0123456789")
        .start()
        .ready();
    host.client().start("models", "models");
    let person = Person::of(&host);
    let order = "{\"do\":\"stream\",\"say\":\"hello\"}\n";
    let said = person.types(&["chat", "models"], order).ok();
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some("Hello. I answer from a script."), "{said}");
    let reply = lines.next().expect("the reply");
    assert!(reply.starts_with('{') && reply.contains("\"text\":"), "{said}");
    assert_eq!(lines.next(), None, "{said}");
    host.finish();
}

#[test]
fn each_line_is_a_message_and_the_end_of_them_is_the_end() {
    let host = Host::builder().guest("puppet").start().ready();
    let person = Person::of(&host);
    host.client().start("one", "puppet");
    let (mut chat, mut stdin) = chat(&person, "one");
    for words in ["first", "second"] {
        writeln!(stdin, "{words}\n").expect("write a line");
        assert_eq!(chat.line(), format!("{words}\n"));
    }
    drop(stdin);
    assert_eq!(chat.ends().ok(), "");
    host.finish();
}

#[test]
fn a_turn_that_fails_and_an_agent_that_is_not_there_are_reported_as_elsewhere() {
    let host = Host::builder().guest("trap").start().ready();
    let person = Person::of(&host);
    person.says(&["chat", "ghost"]).fails(3, &["ghost", "status 404"]);
    host.client().start("one", "trap");
    let ended = person.types(&["chat", "one"], "error\nnever sent\n");
    ended.fails(4, &["turn of one failed (status 502, told-to-fail): told to fail by a message"]);
    assert_eq!(ended.stdout, "");
    host.finish();
}

#[test]
fn a_wait_that_is_interrupted_leaves_the_turn_alone() {
    let host = Host::builder().guest("puppet").start().ready();
    let person = Person::of(&host);
    host.client().start("one", "puppet");
    let (piped, mut stdin) = chat(&person, "one");
    writeln!(stdin, "wait hello").expect("write a line");
    wait_until("the turn is under way", || host.client().status("one").busy);
    piped.interrupt();
    piped.ends().fails(130, &["stopped waiting; the turn of one continues"]);
    assert!(host.client().status("one").busy, "it does go on");
    host.release("one");
    wait_until("the turn is over", || !host.client().status("one").busy);
    host.finish();
}

#[test]
fn one_that_waits_for_its_first_answer_can_be_interrupted() {
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("listen");
    silent.set_nonblocking(true).expect("set a flag");
    let person = Person::at(&format!("http://{}", silent.local_addr().expect("an address")));
    for words in [&["chat", "one"][..], &["top"], &["top", "--once"]] {
        let waiting = Running::of(person.command(words));
        let _connection = wait_for("a connection", || silent.accept());
        waiting.interrupt();
        waiting.ends().fails(130, &["interrupted"]);
    }
    let mut top = on_a_terminal(&person, 80, "top", Stdio::piped());
    top.shows("waiting for the list of agents: ");
    top.child.stdin.take().expect("stdin is a pipe").write_all(b"\x03").expect("type");
    assert_eq!(top.ends().code, 130);
}

#[test]
fn signals_end_it_during_a_turn_and_at_the_prompt() {
    let host = Host::builder().guest("puppet").start().ready();
    let person = Person::of(&host);
    host.client().start("one", "puppet");
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129)] {
        let (chat, _keys) = chat_on_a_terminal(&person);
        kill_process(within(&chat), signal).expect("send a signal");
        let ended = chat.ends();
        assert_eq!(ended.code, code, "{ended:?}");
        assert!(ended.stdout.contains("\x1b[?2004l"), "no bracketed paste: {ended:?}");

        let (chat, mut keys) = chat_on_a_terminal(&person);
        keys.write_all(b"wait here\r").expect("type");
        wait_until("the turn is under way", || host.client().status("one").busy);
        kill_process(within(&chat), signal).expect("send a signal");
        assert_eq!(chat.ends().code, code);
        host.release("one");
        wait_until("the turn is over", || !host.client().status("one").busy);
    }
    host.finish();
}

/// The `bulkhead` that `script` runs.
fn within(script: &Running) -> Pid {
    let [child] = children(Pid::from_child(&script.child))[..] else {
        panic!("no child of script")
    };
    child
}

#[test]
fn what_a_person_types_ahead_is_sent_line_by_line_and_whole() {
    let host = Host::builder().guest("puppet").start().ready();
    let person = Person::of(&host);
    host.client().start("one", "puppet");
    let (mut chat, mut keys) = chat_on_a_terminal(&person);
    keys.write_all(b"first\rsecond\rwait here\r").expect("type");
    chat.shows("\nfirst\r\n");
    chat.shows("\nsecond\r\n");
    wait_until("the turn is under way", || host.client().status("one").busy);
    // Longer than a line of a terminal.
    let long = "x".repeat(5000);
    keys.write_all(format!("\x1b[200~{long}\x1b[201~\r").as_bytes()).expect("paste");
    host.release("one");
    chat.shows(&format!("\n{long}\r\n"));
    chat.shows("one> ");
    keys.write_all(b"caf\xe9 au lait\r").expect("type");
    chat.shows("what was typed is not UTF-8: it was thrown away");
    chat.shows("one> ");
    keys.write_all(b"wait again\r").expect("type");
    wait_until("the turn is under way", || host.client().status("one").busy);
    keys.write_all(b"never sent\r\x03").expect("type");
    chat.shows("stopped waiting; the turn of one continues");
    chat.shows("one> ");
    host.release("one");
    keys.write_all(b"\x04").expect("type");
    let ended = chat.ends();
    assert!(ended.code == 0 && !ended.stdout.contains("never"), "{ended:?}");
    host.finish();
}

#[test]
fn a_terminal_without_an_editor_shows_what_is_typed_and_ends_by_its_keys() {
    let host = Host::builder().guest("puppet").start().ready();
    let person = Person::of(&host).with("TERM", "dumb");
    host.client().start("one", "puppet");
    for end in [b"\x04", b"\x03"] {
        let (mut chat, mut keys) = chat_on_a_terminal(&person);
        keys.write_all(b"hello\r").expect("type");
        chat.shows("hello\r\nhello\r\n");
        chat.shows("one> ");
        keys.write_all(end).expect("type");
        let ended = chat.ends();
        assert!(ended.code == 0 && !ended.stdout.contains('\x1b'), "{ended:?}");
    }
    host.finish();
}

#[test]
fn a_line_without_end_is_refused() {
    let host = Host::builder().guest("puppet").start().ready();
    let person = Person::of(&host);
    host.client().start("one", "puppet");
    let mut command = person.command(&["chat", "one"]);
    command.stdin(std::fs::File::open("/dev/zero").expect("open a device"));
    Running::of(command).ends().fails(2, &["the message is longer than 1 MiB"]);
    host.finish();
}

#[test]
fn a_person_writes_at_a_prompt() {
    let host = Host::builder().guest("puppet").start().ready();
    let person = Person::of(&host);
    host.client().start("one", "puppet");
    let (mut chat, mut keys) = chat_on_a_terminal(&person);
    keys.write_all(b"hellx\x7fo\r").expect("type");
    chat.shows("\nhello\r\n");
    chat.shows("one> ");
    keys.write_all(b"wait here\r").expect("type");
    wait_until("the turn is under way", || host.client().status("one").busy);
    // The terminal makes a signal of it, as no line is being written.
    keys.write_all(b"\x03").expect("type");
    chat.shows("stopped waiting; the turn of one continues");
    chat.shows("one> ");
    host.release("one");
    keys.write_all(b"\x04").expect("type");
    assert_eq!(chat.ends().code, 0);
    host.finish();
}
