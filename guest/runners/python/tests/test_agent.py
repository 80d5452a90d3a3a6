"""The life of an agent: state, snapshots, modules, hooks."""

import random

from wit_world import exports
from wit_world.imports import agent_types, host

from bulkhead import lifecycle

from .stage import Stage

COUNTER = """
from bulkhead import *
@agent(state={"n": 0, "new": "default"}, version=2, upgrade=lambda version, state: {"n": state["count"]})
def counter(ctx, message):
    ctx.state["n"] += 1
    return str(ctx.state["n"])
"""
HANDLER = "from bulkhead import *\n@agent\ndef mayor(ctx, message):\n"


class Life(Stage):
    def restore(self, snapshot: bytes) -> None:
        lifecycle.Lifecycle().restore(snapshot)

    def snapshot(self) -> bytes:
        return lifecycle.Lifecycle().snapshot()

    def test_every_export_is_there(self) -> None:
        for name in exports.Lifecycle.__abstractmethods__:
            self.assertTrue(callable(getattr(lifecycle.Lifecycle, name, None)), name)

    def test_state_goes_from_one_incarnation_to_the_next(self) -> None:
        self.assertEqual(self.play(COUNTER), "1")
        kept = self.snapshot()
        self.assertEqual(kept, b'{"v":2,"state":{"n":1,"new":"default"},"history":[]}')
        self._forget()
        self.give(COUNTER)
        self.restore(kept)
        self.start()
        self.assertEqual(self.send().reply, "2")

    def test_a_new_agent_has_nothing_to_keep(self) -> None:
        self.start(COUNTER)
        self.assertEqual(self.snapshot(), b"")

    def test_an_older_state_is_upgraded_and_has_new_keys(self) -> None:
        self.give(COUNTER)
        self.restore(b'{"v":1,"state":{"count":7},"history":[]}')
        self.start()
        self.assertEqual(self.send().reply, "8")
        self.assertIn(b'"new":"default"', self.snapshot())

    def test_a_newer_state_and_garbage_are_refused(self) -> None:
        for snapshot in (b'{"v":3,"state":{},"history":[]}', b"{}", b"\xff", b"[]"):
            with self.subTest(snapshot):
                self.give(COUNTER)
                error = self.refused(self.restore, snapshot)
                self.assertEqual((error.code, error.fatal), ("bad-snapshot", True))

    def test_a_state_that_json_would_change_is_not_saved(self) -> None:
        for value, part in [("{1}", "state['x'] is a set"), ("ctx.state", "state['x'] is a part of itself"), ("[ctx.state]", "state['x'][0] is a part of itself"), ("{1: 2}", "has the key 1"), ("[b'']", "state['x'][0] is a bytes")]:
            with self.subTest(part):
                self._forget()
                self.play(HANDLER + f"    ctx.state['x'] = {value}\n")
                error = self.refused(self.snapshot)
                self.assertEqual((error.code, error.fatal), ("snapshot-failed", False))
                self.assertIn(part, error.message)

    def test_a_state_that_is_nested_too_deep_is_not_saved(self) -> None:
        self.play(HANDLER + "    for _ in range(2000):\n        ctx.state = {'x': ctx.state}\n")
        error = self.refused(self.snapshot)
        self.assertEqual((error.code, error.message), ("snapshot-failed", "state cannot be written as JSON: state is nested too deep"))

    def test_what_json_refuses_otherwise_is_said(self) -> None:
        for code, part in [("ctx.state['x'] = 10 ** 5000", "4300 digits"), ("ctx.history.append({'x': {1}})", "set is not JSON")]:
            with self.subTest(part):
                self._forget()
                self.play(HANDLER + f"    {code}\n")
                error = self.refused(self.snapshot)
                self.assertEqual((error.code, error.fatal), ("snapshot-failed", False))
                self.assertIn(part, error.message)

    def test_a_value_may_be_in_a_state_twice(self) -> None:
        self.play(HANDLER + "    x = [1]\n    ctx.state['x'] = [x, x]\n")
        self.assertIn(b'"state":{"x":[[1],[1]]}', self.snapshot())

    def test_replies_and_ends(self) -> None:
        self.start(HANDLER + "    return {'text': 'hi', 'none': None, 'done': done('bye'), 'proceed': proceed(), 'ctx': ctx.done()}[message.text]\n")
        for text, reply, following in [("text", "hi", "IDLE"), ("none", None, "IDLE"), ("done", "bye", "DONE"), ("proceed", None, "CONTINUE"), ("ctx", None, "DONE")]:
            outcome = self.send(text)
            self.assertEqual((outcome.reply, outcome.next.name), (reply, following))

    def test_what_is_too_large_does_not_go_to_the_host(self) -> None:
        self.start("from bulkhead import *\n@agent\ndef mayor(ctx, message):\n    large = 'ä' * 3_000_000\n"
                   "    try:\n        exec(message.text)\n    except HostError as error:\n        return error.code\n")
        for text, code in [("ctx.emit('a', large)", "too-large"), ("ctx.emit(large)", "invalid"), ("ctx.send('b', large)", "too-large")]:
            self.assertEqual(self.send(text).reply, code)
        self.assertEqual(self.events, [])
        self.send("ctx.log(large, a=large)")
        [(_, message, [(_, value)])] = self.lines
        self.assertEqual((len(message), len(value)), (16 * 1024, 2 * 1024))

    def test_a_large_reply_and_a_large_error_are_cut(self) -> None:
        self.start(HANDLER + "    if message.text == 'fail':\n        raise AgentError('no', 'x' * 5_000_000)\n    return done('ä' * 3_000_000)\n")
        outcome = self.send()
        self.assertEqual((len(outcome.reply), outcome.next), (512 * 1024 + 2, agent_types.Next.DONE))
        self.assertEqual(len(self.refused(self.send, "fail").message), 4000)

    def test_a_snapshot_that_no_call_can_copy_is_refused(self) -> None:
        self.play(HANDLER + "    ctx.state['x'] = 'x' * 5_000_000\n")
        host.memory = lambda: host.MemoryUsage(0, 0, 0, 0, 20 * 1024 * 1024)
        error = self.refused(self.snapshot)
        self.assertEqual((error.code, error.fatal), ("snapshot-failed", False))
        self.assertIn("copies at most 2097152", error.message)

    def test_a_code_is_kebab_case(self) -> None:
        for code in ("My Code!", "HTTP_500", "", "a--b", "a" * 65):
            with self.subTest(code):
                self._forget()
                self.start(HANDLER + f"    raise AgentError({code!r}, 'no')\n")
                [exception] = self.refused(self.send).exceptions
                self.assertEqual(exception.kind, "ValueError")
                self.assertIn(f"not {code!r}", exception.message)

    def test_hooks_run(self) -> None:
        self.start("from bulkhead import *\n@start\ndef a(ctx):\n    ctx.emit('start', ctx.me.incarnation)\n"
                   "@shutdown\ndef b(ctx, reason):\n    ctx.emit('end', reason)\n@agent\ndef c(ctx, message):\n    pass\n")
        lifecycle.Lifecycle().shutdown(agent_types.ShutdownReason.DRAINED)
        self.assertEqual(self.events, [("start", "1"), ("end", '"drained"')])

    def test_a_message_says_who_sent_it(self) -> None:
        self.start(HANDLER + "    return f'{message.sender} {message.sender_id} {message.attempt}'\n")
        sender = agent_types.Sender_Agent("b")
        self.assertEqual(lifecycle.Lifecycle().handle(agent_types.Message("m", sender, "hi", 2)).reply, "agent b 2")
        self.assertEqual(self.send().reply, "operator None 1")

    def test_random_numbers_differ_between_incarnations(self) -> None:
        seen = set()
        for _ in range(3):
            self._forget()
            random.seed(1)
            seen.add(self.play("import random\n" + HANDLER + "    return str(random.random())\n"))
        self.assertEqual(len(seen), 3)

    def test_log_lines_have_fields(self) -> None:
        self.play(HANDLER + "    ctx.log('a', n=1)\n    ctx.log.warn('b')\n")
        self.assertEqual(self.lines, [("info", "a", [("n", "1")]), ("warn", "b", [])])

    def test_the_logging_module_writes_to_the_host(self) -> None:
        import logging

        root = logging.getLogger()
        before = root.handlers[:], root.level
        self.addCleanup(lambda: (setattr(root, "handlers", before[0]), root.setLevel(before[1])))
        lifecycle.prepare()
        self.play("import logging\n" + HANDLER + "    logging.getLogger('x').warning('a %s', 1)\n")
        self.assertEqual(self.lines, [("warn", "a 1", [("logger", "x")])])


class Modules(Stage):
    def test_relative_absolute_and_vendored_imports(self) -> None:
        reply = self.play("import helper, vendored\nfrom package import deep\n" + HANDLER + "    return helper.X + vendored.Y + deep.Z\n",
                          helper="X = 'x'\n", files={"vendor/vendored.py": "Y = 'y'\n", "package/__init__.py": "",
                                                     "package/deep.py": "from .other import Z\n", "package/other.py": "Z = 'z'\n"})
        self.assertEqual(reply, "xyz")

    def test_the_entry_may_be_in_a_folder(self) -> None:
        self.give("import helper\n" + HANDLER + "    return helper.X\n", entry="src/agent.py", files={"src/helper.py": "X = 'x'\n"})
        self.start()
        self.assertEqual(self.send().reply, "x")

    def test_the_entry_may_be_in_a_package(self) -> None:
        self.give("from . import helper\n" + HANDLER + "    return helper.X\n", entry="package/agent.py",
                  files={"package/__init__.py": "", "package/helper.py": "X = 'x'\n"})
        self.start()
        self.assertEqual(self.send().reply, "x")

    def test_an_authors_module_goes_before_the_standard_librarys(self) -> None:
        import colorsys
        import sys

        self.addCleanup(sys.modules.__setitem__, "colorsys", colorsys)
        self.assertEqual(self.play("import colorsys\n" + HANDLER + "    return colorsys.X\n", colorsys="X = 'mine'\n"), "mine")

    def test_a_module_that_the_interpreter_needs_cannot_be_replaced(self) -> None:
        error = self.refused(self.start, HANDLER + "    pass\n", json="X = 1\n")
        self.assertIn("`json.py`", error.message)

    def test_data_of_packages_can_be_read(self) -> None:
        self.give("import importlib.resources, pkgutil\nfrom bulkhead import *\n"
                  "@agent\ndef mayor(ctx, message):\n"
                  "    return importlib.resources.files('package').joinpath('t.py').read_text() + source_text('package/t.py')"
                  " + pkgutil.get_data('package', 't.py').decode()\n", files={"package/__init__.py": "", "package/t.py": "#"})
        self.start()
        self.assertEqual(self.send().reply, "###")

    def test_source_lines_are_known(self) -> None:
        self.assertEqual(self.play("import inspect\n" + HANDLER + "    return inspect.getsource(mayor)\n").splitlines()[1], "def mayor(ctx, message):")
