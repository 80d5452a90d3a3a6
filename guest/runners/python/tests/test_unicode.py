"""Halves of surrogate pairs, which no text of the host can have."""

import io
import sys
import types
import unittest
from unittest import mock

from componentize_py_types import Err
from wit_world.imports import agent_types, host

from bulkhead import lifecycle, unicode

from .stage import Stage

HANDLER = 'import json\nfrom bulkhead import *\nHALF = json.loads(\'"a\\\\ud83d"\')\n@agent\ndef mayor(ctx, message):\n'


class Text(unittest.TestCase):
    def test_half_of_a_pair_is_replaced(self) -> None:
        for text, expected in [("a\ud83d", "a\ufffd"), ("\ude00b", "\ufffdb"), ("\ud83d\ude00", "😀"), ("\ufeffü\ud83dü", "\ufeffü\ufffdü"), ("\ude00\ud83d\ud83d", "\ufffd\ufffd\ufffd")]:
            self.assertEqual(unicode.well_formed(text), expected)
            self.assertEqual(unicode.utf8(text), expected.encode())

    def test_what_is_right_stays_what_it_is(self) -> None:
        for value in ["a", "ü😀", [("ü", "b")], host.Event("ü", "b"), Err(host.HostError_Invalid("ü")), b"\xff", None, 7, object()]:
            self.assertIs(unicode.passable(value), value)

    def test_values_of_the_contract_are_copied_where_they_are_wrong(self) -> None:
        frame = agent_types.SourceFrame("f", "a.py", 1, None)
        exceptions = [agent_types.Exception("E", "\ud83d", [frame])]
        passed = unicode.passable(exceptions)
        self.assertEqual((passed[0].message, exceptions[0].message), ("\ufffd", "\ud83d"))
        self.assertIs(passed[0].frames[0], frame)
        self.assertEqual(unicode.passable([("a", "\ud83d")]), [("a", "\ufffd")])
        self.assertEqual(unicode.passable(Err(host.HostError_Invalid("\ud83d"))), Err(host.HostError_Invalid("\ufffd")))

    def test_whatever_an_import_gets_goes_through_it(self) -> None:
        passed = []
        runtime = types.ModuleType("componentize_py_runtime")
        runtime.call_import = lambda index, params: passed.append((index, params))
        stdout = io.TextIOWrapper(io.BytesIO(), "utf-8")
        with mock.patch.object(sys, "stdout", stdout), mock.patch.object(sys, "stderr", None):
            unicode.install(runtime)
            print("a\ud83d\ud83d\ude00", flush=True)
        runtime.call_import(3, [host.Event("n", "\ud83d"), "b"])
        self.assertEqual(passed, [(3, [host.Event("n", "\ufffd"), "b"])])
        self.assertEqual(stdout.buffer.getvalue(), "a\ufffd😀\n".encode())


class Exports(Stage):
    def test_a_reply_can_be_passed(self) -> None:
        for body in ["return HALF", "return done(HALF)", "return proceed(HALF)"]:
            self._forget()
            self.assertEqual(self.play(HANDLER + f"    {body}\n"), "a\ufffd")

    def test_an_error_can_be_passed(self) -> None:
        self.start(HANDLER + "    raise ValueError(HALF) if message.text == 'defect' else AgentError('bad', HALF)\n")
        error = self.refused(self.send, "defect")
        self.assertEqual((error.message, error.exceptions[0].message), ("ValueError: a\ufffd", "a\ufffd"))
        self.assertEqual(error.exceptions[0].frames[0].line, 6)
        self.assertEqual(self.refused(self.send).message, "a\ufffd")

    def test_a_state_and_a_conversation_can_be_kept(self) -> None:
        self.play(HANDLER + "    ctx.state['x'] = HALF\n    ctx.history.append({'role': 'user', 'content': HALF})\n")
        self.assertIn('"state":{"x":"a\ufffd"}'.encode(), lifecycle.Lifecycle().snapshot())
