//! Agents without a host: they may call nothing of it.

use super::*;

/// What becomes of an agent whose handler has this body.
fn handler<R>(body: &str, then: impl FnOnce(&Interpreter) -> R) -> R {
    let text = format!(
        "import {{ agent, AgentError }} from \"@bulkhead/agent\";\n\
         export default agent({{ async message(received, ctx) {{ const {{ state }} = ctx; {body} }} }});\n"
    );
    with(|interpreter| {
        interpreter.begin("agent.js", &[("agent.js", &text)]).expect("it starts");
        then(interpreter)
    })
}

fn snapshot_of(body: &str) -> Result<String, AgentError> {
    handler(body, |agent| {
        agent.ask().expect("it answers");
        let snapshot = agent.snapshot();
        agent.ask().expect("and goes on");
        snapshot
    })
}

/// Kinds and messages of the exceptions that leave a handler.
fn thrown(body: &str) -> Vec<(String, String)> {
    let error = handler(body, |agent| agent.ask().expect_err("it throws"));
    error.exceptions.into_iter().map(|each| (each.kind, each.message)).collect()
}

fn kinds(body: &str) -> Vec<String> {
    thrown(body).into_iter().map(|(kind, _)| kind).collect()
}

#[test]
fn a_state_that_json_cannot_hold_is_refused_with_its_path() {
    for (body, why) in [
        ("state.self = state;", "state.self is a part of itself"),
        ("state.a = [{ b: state }];", "state.a[0].b is a part of itself"),
        ("state.n = 1n;", "state.n is a BigInt"),
        ("state.seen = new Set();", "state.seen is a Set"),
        ("state['by id'] = [new Map()];", "state[\"by id\"][0] is a Map"),
        ("state.seen = new (class Seen extends Map { more = 1; })();", "state.seen is a Seen"),
        ("state.f = () => 1;", "state.f is a function"),
        ("state.s = Symbol('s');", "state.s is a symbol"),
        ("state.last = new TypeError('x');", "state.last is a TypeError"),
        ("state.last = new Error('x');", "state.last is an Error"),
        ("state.work = Promise.resolve();", "state.work is a Promise"),
        ("state.bytes = new Uint8Array(2);", "state.bytes is a Uint8Array"),
        ("ctx.state = new Map();", "state is a Map"),
        (
            "Object.defineProperty(state, 'x', { enumerable: true, get() { throw new RangeError('no'); }, configurable: true });",
            "it throws RangeError: no",
        ),
        ("state.x = { toJSON() { throw null; } };", "it throws null"),
        ("state.x = { toJSON() { throw { why: 'no' }; } };", r#"it throws {"why":"no"}"#),
        ("state.x = { toJSON() { throw Symbol('no'); } };", "it throws Symbol(no)"),
        ("state.all = (function* () {})();", "state.all is a Generator"),
    ] {
        let error = snapshot_of(body).expect_err(body);
        assert_eq!((&*error.code, error.fatal), ("snapshot-failed", false), "{body}");
        assert_eq!(error.message, format!("state cannot be written as JSON: {why}"));
        assert!(error.exceptions.is_empty(), "{body}");
    }
}

#[test]
fn a_state_that_json_can_hold_is_kept_as_json_has_it() {
    for (body, state) in [
        ("state.a = [1, 'x', null, true, { b: [] }];", r#"{"a":[1,"x",null,true,{"b":[]}]}"#),
        ("const x = [1]; state.a = [x, x];", r#"{"a":[[1],[1]]}"#),
        ("state.at = new Date(0);", r#"{"at":"1970-01-01T00:00:00.000Z"}"#),
        (
            "class Note { text = 'x'; read() {} } state.note = new Note();",
            r#"{"note":{"text":"x"}}"#,
        ),
        (
            "state.x = undefined; state.n = NaN; state.o = Object.create(null);",
            r#"{"n":null,"o":{}}"#,
        ),
        (
            "class Point { x = 1; get [Symbol.toStringTag]() { return 'Point'; } } state.at = new Point();",
            r#"{"at":{"x":1}}"#,
        ),
        ("(function () { state.all = arguments; })(1, 'x');", r#"{"all":{"0":1,"1":"x"}}"#),
        ("ctx.state = 7;", "7"),
    ] {
        let snapshot = snapshot_of(body).expect(body);
        assert_eq!(snapshot, format!(r#"{{"v":1,"state":{state},"history":[]}}"#), "{body}");
    }
    assert_eq!(snapshot_of("").expect("nothing to keep"), "");
}

#[test]
fn a_state_may_be_nested_deeper_than_calls() {
    let deep = |depth| format!("let x = state; for (let i = 0; i < {depth}; i++) x = x.x = {{}};");
    let kept = snapshot_of(&deep(300)).expect("it is kept");
    assert!(kept.contains(&r#"{"x":"#.repeat(300)));
    // `JSON.stringify` of these would use up the engine's stack.
    let endless =
        "class Twice { toJSON() { return { twice: new Twice() }; } } state.x = new Twice();";
    for body in [&*deep(1_001), &deep(20_000), endless] {
        let error = snapshot_of(body).expect_err(body);
        assert_eq!(error.message, "state cannot be written as JSON: it is nested too deep");
    }
}

#[test]
fn what_is_in_an_aggregate_error_follows_it() {
    let aggregate = "throw new AggregateError([new TypeError('a', { cause: new Error('c') }), new RangeError('b')], 'all', { cause: 'why' });";
    let expected = [
        ("AggregateError", "all"),
        ("TypeError", "a"),
        ("Error", "c"),
        ("RangeError", "b"),
        ("string", "why"),
    ];
    assert_eq!(thrown(aggregate), expected.map(|(kind, text)| (kind.to_owned(), text.to_owned())));
    let any =
        "await Promise.any([Promise.reject(new Error('a')), Promise.reject(new TypeError('b'))]);";
    assert_eq!(kinds(any), ["AggregateError", "Error", "TypeError"]);
}

#[test]
fn of_other_errors_what_is_an_error_follows() {
    let invalid = "throw Object.assign(new TypeError('a'), { errors: ['x', { path: 'y' }, new RangeError('b')] });";
    assert_eq!(kinds(invalid), ["TypeError", "RangeError"]);
}

#[test]
fn a_value_that_is_thrown_is_its_message() {
    for (body, message) in [
        ("throw { code: 7 };", r#"{"code":7}"#),
        ("throw Symbol('a');", "Symbol(a)"),
        (
            "let x = {}; for (let i = 0; i < 20_000; i++) x = { x }; throw x;",
            "{ x: { x: { x: { x: { x: {…} } } } } }",
        ),
    ] {
        assert_eq!(thrown(body)[0].1, message, "{body}");
    }
}

#[test]
fn many_causes_are_bounded() {
    let many =
        "throw new AggregateError(Array.from({ length: 100 }, (_, i) => new Error(`${i}`)));";
    assert_eq!(thrown(many).len(), 8);
    let circle = "const error = new Error('a'); error.cause = error; throw error;";
    assert_eq!(kinds(circle), ["Error"]);
    let unreadable = "throw new AggregateError([{ toJSON() { throw 1; } }, { get constructor() { throw 1; } }, 'b']);";
    assert_eq!(kinds(unreadable).len(), 4);
}

/// Why an agent of these files does not start, and where: the first of them is its entry.
fn refused(files: &[(&str, &str)]) -> (String, String, u32) {
    let error = with(|interpreter| interpreter.begin(files[0].0, files).expect_err("it fails"));
    let exception = &error.exceptions[0];
    let frame = exception.frames.first().expect("a place");
    (exception.message.clone(), frame.file.clone(), frame.line)
}

#[test]
fn an_import_of_a_name_that_is_not_there_has_its_place() {
    let (message, file, line) = refused(&[(
        "agent.js",
        "\nimport { agnt } from \"@bulkhead/agent\";\nexport default agnt({});\n",
    )]);
    assert_eq!(message, "Could not find export 'agnt' in module '@bulkhead/agent'");
    assert_eq!((&*file, line), ("agent.js", 2));
    let (message, file, line) = refused(&[
        ("agent.ts", "import { a } from \"./a\";\nexport default a;\n"),
        (
            "a.ts",
            "import { agent, Context } from \"@bulkhead/agent\";\nexport const a = (c: Context) => agent({});\n",
        ),
    ]);
    assert!(message.ends_with(": if it is a type, import it with `import type`"), "{message}");
    assert_eq!((&*file, line), ("a.ts", 1));
}

#[test]
fn a_file_that_is_not_there_is_explained() {
    let text = "import y from \"./lib/y.js\";\n";
    let (alone, file, line) = refused(&[("agent.js", text)]);
    assert!(alone.contains("has only this file") && alone.contains("`source`"), "{alone}");
    assert_eq!((&*file, line), ("agent.js", 1));
    let (message, ..) = refused(&[("agent.js", text), ("x.js", "")]);
    assert!(message.ends_with("there is no such file"), "{message}");
}

/// The reply of an agent whose file has this before its handler's body. It is of the SDK by its name, and has functions of its own
/// in place of the host's.
fn staged(before: &str, body: &str) -> String {
    let text = format!(
        "import {{ agent }} from \"@bulkhead/agent\";\nimport {{ native }} from \"bulkhead:native\";\n\
         native.settings = () => '{{}}';\nnative.setActiveTools = () => 'null';\n{before}\n\
         export default agent({{ async message(received, ctx) {{ {body} }} }});\n"
    );
    let answer = with(|interpreter| {
        interpreter.begin("bulkhead:test", &[("bulkhead:test", &text)]).expect("it starts");
        interpreter.ask().expect("it answers")
    });
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    answer["reply"].as_str().expect("a reply").to_owned()
}

/// A model whose answers are the questions.
const ECHO: &str = "const asked = [];
    native.chatOpen = (json) => String(asked.push({ text: JSON.parse(json)[0].messages.at(-1).content[0].Text }) - 1);
    native.chatNext = (json) => {
        const answer = asked[JSON.parse(json)[0]];
        const end = { End: { finish_reason: 'Stop', usage: null, reasoning_state: null } };
        const part = answer.isDone ? end : { Text: `echo ${answer.text}` };
        answer.isDone = true;
        return JSON.stringify({ Ok: part });
    };
    native.chatClose = () => 'null';
    const open = native.chatOpen;
    native.chatOpen = (json) => JSON.stringify({ Ok: Number(open(json)) });";

#[test]
fn questions_at_once_have_their_own_answers() {
    let body = "const both = await Promise.all(['one', 'two'].map((text) => ctx.chat.ask(text)));
        let parts = '';
        for await (const part of ctx.chat.stream('three')) parts += part;
        return [...both, parts, ctx.chat.text, ctx.chat.history.length].join();";
    assert_eq!(staged(ECHO, body), "echo one,echo two,echo three,echo three,3");
}

#[test]
fn a_printed_error_has_its_causes_and_no_frames_of_the_sdk() {
    let lines =
        "const lines = []; native.log = (json) => (lines.push(JSON.parse(json)[1]), 'null');";
    let body = "console.error('%s is wrong', 'x', new Error('outer', { cause: new TypeError('inner') })); return lines[0];";
    assert_eq!(staged(lines, body), "x is wrong Error: outer\ncaused by: TypeError: inner");
}

/// Kind, message and places of what leaves a handler of these files.
fn places(files: &[(&str, &str)]) -> (String, String, Vec<(String, u32, u32)>) {
    let error = with(|interpreter| {
        interpreter.begin(files[0].0, files).expect("it starts");
        interpreter.ask().expect_err("it throws")
    });
    let exception = error.exceptions.into_iter().next().expect("an exception");
    let frames = exception.frames.into_iter();
    let places = frames.map(|frame| (frame.file, frame.line, frame.column.unwrap_or(0))).collect();
    (exception.kind, exception.message, places)
}

#[test]
fn an_error_of_an_own_class_is_placed_where_it_is_made() {
    let lib = "export class NotFound extends Error {}
export class Gone extends NotFound {
    constructor(what) {
        super(`${what} is gone`);
    }
}
export const Unnamed = (() => class extends Error {})();";
    for (name, kind) in [("NotFound", "NotFound"), ("Gone", "Gone"), ("Unnamed", "Error")] {
        let agent = format!(
            "import {{ agent }} from \"@bulkhead/agent\";\nimport {{ {name} }} from \"./lib.js\";\n\
             export default agent({{ message() {{\n  throw new {name}('n');\n}} }});\n"
        );
        let (found, _, places) = places(&[("agent.js", &agent), ("lib.js", lib)]);
        assert_eq!(found, kind);
        assert_eq!(places, [("agent.js".to_owned(), 4, 13)], "{name}");
    }
}

#[test]
fn a_constructor_that_fails_itself_is_the_place() {
    let agent = "import { agent } from \"@bulkhead/agent\";
class Bad extends Error {
    constructor(what) {
        super(what());
    }
}
export default agent({ message() { throw new Bad(undefined); } });";
    let (kind, _, places) = places(&[("agent.js", agent)]);
    assert_eq!((&*kind, places[0].1), ("TypeError", 4));
}

#[test]
fn what_is_logged_is_text_that_the_host_takes() {
    let lines = "const lines = []; native.log = (json) => (lines.push(JSON.parse(json)), 'null');";
    let body = "const { info } = ctx.log;
        info({ a: 1 }); info(new TypeError('no')); info('x'.repeat(5_000_000), { y: 'y'.repeat(5_000_000), big: 1n, ['k'.repeat(5_000_000)]: 1 });
        return JSON.stringify([lines[0][1], lines[1][1], lines[2][1].length, lines[2][2].map(([k, v]) => [k.length, v.length])]);";
    assert_eq!(
        staged(lines, body),
        r#"["{\"a\":1}","TypeError: no",16384,[[1,2048],[3,1],[256,1]]]"#
    );
}

#[test]
fn a_file_of_json_is_a_value_and_no_code() {
    // A file that was imported stays imported, by its name.
    let reply = |name: &str, json: &str| {
        let agent = format!(
            "import {{ agent }} from \"@bulkhead/agent\";\nimport value from \"./{name}\";\n\
             export default agent({{ message: () => [Object.hasOwn(value, '__proto__'), value.list.length].join() }});\n"
        );
        with(|interpreter| {
            interpreter.begin("agent.js", &[("agent.js", &agent), (name, json)])?;
            interpreter.ask()
        })
    };
    let json = "{ \"__proto__\": { \"a\": 1 }, \"list\": [1, 2] }\n";
    for (name, json) in [("a.json", json), ("bom.json", &format!("\u{feff}{json}"))] {
        assert_eq!(reply(name, json).unwrap(), r#"{"reply":"true,2","next":"Idle"}"#);
    }
    for (name, json, line) in [
        ("b.json", "{ \"list\": [globalThis.ran = 1] }", 1),
        ("c.json", "{\n  \"list\": [1,\n  2, ]\n}", 3),
        ("d.json", "{\n  list: [] }", 2),
        ("e.json", "", 1),
        ("f.json", "[]\n;", 2),
    ] {
        let exception = reply(name, json).expect_err(json).exceptions.remove(0);
        assert_eq!(exception.kind, "SyntaxError", "{json}");
        let place = (&*exception.frames[0].file, exception.frames[0].line);
        assert_eq!(place, (name, line), "{json}: {}", exception.message);
    }
}

#[test]
fn a_reply_that_json_cannot_hold_is_refused_with_its_path() {
    for (body, what) in [
        ("return new Map([[1, 2]]);", "reply is a Map"),
        ("return { p: Promise.resolve() };", "reply.p is a Promise"),
        ("return { next: 'idle', reply: [new Set()] };", "reply[0] is a Set"),
        ("return new TypeError('no');", "reply is a TypeError"),
        ("const a = {}; a.a = a; return a;", "reply.a is a part of itself"),
    ] {
        let message = format!(
            "message() returned a value that JSON cannot hold: {what}; return text, a JSON value, done() or nothing"
        );
        assert_eq!(thrown(body), [("TypeError".to_owned(), message)]);
    }
    let kept = handler("return { at: new Date(0), list: [1, null] };", |agent| agent.ask());
    assert!(kept.unwrap().contains(r#"{\"at\":\"1970-01-01T00:00:00.000Z\",\"list\":[1,null]}"#));
}

#[test]
fn a_code_is_kebab_case() {
    for code in ["My Code!", "HTTP_500", "", "a--b", "-a"] {
        let body = format!("throw new AgentError({code:?}, 'no');");
        let (kind, message) = thrown(&body).remove(0);
        assert_eq!(kind, "TypeError");
        assert!(message.ends_with(&format!("not \"{code}\"")), "{message}");
    }
    for (code, shown) in
        [("", "undefined"), ("null", "null"), ("['a']", "a"), ("'a'.repeat(65)", &"a".repeat(65))]
    {
        let (kind, message) = thrown(&format!("throw new AgentError({code});")).remove(0);
        assert_eq!(kind, "TypeError", "{code}");
        assert!(message.ends_with(&format!("not \"{shown}\"")), "{message}");
    }
    let error =
        handler("throw new AgentError('http-500', 'x'.repeat(5_000_000));", |agent| agent.ask());
    let error = error.unwrap_err();
    assert_eq!((&*error.code, error.message.len()), ("http-500", 4096));
}
