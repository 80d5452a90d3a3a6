"""What leaves the author's code becomes an exception of the contract, with the author's frames only."""

import unittest

from .stage import Stage, places

HANDLER = "from bulkhead import *\n@agent\ndef mayor(ctx, message):\n"


class Exceptions(Stage):
    def test_a_turn_that_raises_names_kind_message_and_place(self) -> None:
        self.start(HANDLER + "    return ctx.state['missing']\n")
        error = self.refused(self.send)
        self.assertEqual((error.code, error.message, error.fatal), ("exception", "KeyError: 'missing'", True))
        [exception] = error.exceptions
        self.assertEqual((exception.kind, exception.message), ("KeyError", "'missing'"))
        self.assertEqual(places(exception), [("mayor", "agent.py", 4)])
        self.assertEqual(exception.frames[0].column, 12)

    def test_columns_count_characters(self) -> None:
        self.start(HANDLER + "    return 'ü' + ctx.state['missing']\n")
        self.assertEqual(self.refused(self.send).exceptions[0].frames[0].column, 18)

    def test_frames_are_innermost_first_and_across_files(self) -> None:
        self.start(HANDLER + "    import helper\n    helper.fail()\n", helper="def fail():\n    raise OSError('no')\n")
        self.assertEqual(places(self.refused(self.send).exceptions[0]), [("fail", "helper.py", 2), ("mayor", "agent.py", 5)])

    def test_frames_of_libraries_and_of_the_sdk_are_left_out(self) -> None:
        self.start("import json\n" + HANDLER + "    json.loads('{')\n")
        self.assertEqual(places(self.refused(self.send).exceptions[0]), [("mayor", "agent.py", 5)])
        self.start_over(HANDLER + "    ctx.send('nobody', 'hi')\n")
        self.assertEqual(places(self.refused(self.send).exceptions[0]), [("mayor", "agent.py", 4)])

    def start_over(self, text: str) -> None:
        self._forget()
        self.start(text)

    def test_an_import_that_raises_fails_the_start(self) -> None:
        error = self.refused(self.start, "import helper\n", helper="1 / 0\n")
        self.assertEqual(error.exceptions[0].kind, "ZeroDivisionError")
        self.assertEqual(places(error.exceptions[0]), [(None, "helper.py", 1), (None, "agent.py", 1)])

    def test_a_syntax_error_has_its_place(self) -> None:
        error = self.refused(self.start, "import helper\n", helper="x = 1\ndef f(:\n")
        self.assertEqual(error.exceptions[0].kind, "SyntaxError")
        self.assertEqual(places(error.exceptions[0])[0], (None, "helper.py", 2))
        self.assertIn('  File "helper.py", line 2\n    def f(:\nSyntaxError: ', self.lines[-1][1])

    def test_causes_follow(self) -> None:
        self.start(HANDLER + "    try:\n        1 / 0\n    except ArithmeticError as error:\n        raise ValueError('bad') from error\n")
        self.assertEqual([e.kind for e in self.refused(self.send).exceptions], ["ValueError", "ZeroDivisionError"])

    def test_a_context_follows_unless_it_is_suppressed(self) -> None:
        raising = "    try:\n        1 / 0\n    except ArithmeticError:\n        raise ValueError('bad')"
        self.start(HANDLER + raising + "\n")
        self.assertEqual(len(self.refused(self.send).exceptions), 2)
        self.start_over(HANDLER + raising + " from None\n")
        self.assertEqual(len(self.refused(self.send).exceptions), 1)

    def test_what_is_in_a_group_follows_it(self) -> None:
        self.start(HANDLER + "    raise ExceptionGroup('all', [KeyError('a'), ValueError('b')])\n")
        self.assertEqual([e.kind for e in self.refused(self.send).exceptions], ["ExceptionGroup", "KeyError", "ValueError"])

    def test_many_causes_and_frames_are_bounded(self) -> None:
        self.start(HANDLER + "    def fail(n):\n        try:\n            fail(n + 1)\n        finally:\n            raise ValueError(n)\n    fail(0)\n")
        exceptions = self.refused(self.send).exceptions
        self.assertEqual(len(exceptions), 8)
        self.assertTrue(all(len(exception.frames) <= 64 for exception in exceptions))

    def test_recursion_exit_and_memory_are_exceptions_too(self) -> None:
        for body, kind in [("mayor(ctx, message)", "RecursionError"), ("raise SystemExit(3)", "SystemExit"), ("raise MemoryError", "MemoryError"),
                           ("raise KeyboardInterrupt", "KeyboardInterrupt")]:
            with self.subTest(kind):
                self.start_over(HANDLER + f"    {body}\n")
                error = self.refused(self.send)
                self.assertEqual((error.exceptions[0].kind, error.fatal), (kind, True))

    def test_an_exception_whose_text_raises_is_reported(self) -> None:
        self.start("class Odd(Exception):\n    def __str__(self):\n        raise ValueError\n" + HANDLER + "    raise Odd\n")
        self.assertEqual(self.refused(self.send).exceptions[0].message, "(its text raised ValueError)")

    def test_notes_are_a_part_of_the_message(self) -> None:
        self.start(HANDLER + "    error = ValueError('bad')\n    error.add_note('in line 7')\n    raise error\n")
        self.assertEqual(self.refused(self.send).exceptions[0].message, "bad\nin line 7")

    def test_a_wrong_return_type_names_the_function(self) -> None:
        self.start(HANDLER + "    return 7\n")
        [exception] = self.refused(self.send).exceptions
        self.assertEqual(exception.kind, "TypeError")
        self.assertIn("`mayor` returned int", exception.message)
        self.assertEqual((places(exception), exception.frames[0].column), ([("mayor", "agent.py", 2)], 1))

    def test_a_function_that_takes_other_arguments_is_named_with_its_place(self) -> None:
        for text in ["def mayor(ctx):\n    pass\n", "async def mayor(ctx, message, more):\n    pass\n"]:
            self._forget()
            self.start("from bulkhead import *\n@agent\n" + text)
            [exception] = self.refused(self.send).exceptions
            self.assertEqual((exception.kind, places(exception)), ("TypeError", [("mayor", "agent.py", 2)]))
            self.assertIn('  File "agent.py", line 2, in mayor\nTypeError: mayor() ', self.lines[-1][1])

    def test_so_are_hooks_and_other_functions(self) -> None:
        agent = "def mayor(ctx, message):\n    return ctx.chat.ask('x')\n"
        error = self.refused(self.start, "from bulkhead import *\n@start\ndef hook():\n    pass\n@agent\n" + agent)
        self.assertEqual(places(error.exceptions[0]), [("hook", "agent.py", 2)])
        self.start_over("from bulkhead import *\n@agent(system=lambda: '')\n" + agent)
        self.assertEqual(places(self.refused(self.send).exceptions[0])[0], ("<lambda>", "agent.py", 2))

    def test_a_type_error_within_a_function_keeps_its_place(self) -> None:
        self.start(HANDLER + "    len(1, 2)\n")
        self.assertEqual(places(self.refused(self.send).exceptions[0]), [("mayor", "agent.py", 4)])

    def test_an_agent_error_keeps_its_code_and_has_no_exceptions(self) -> None:
        self.start(HANDLER + "    raise AgentError('bad-prompt', 'what?', fatal=message.text == 'fatal')\n")
        error = self.refused(self.send)
        self.assertEqual((error.code, error.message, error.fatal, error.exceptions), ("bad-prompt", "what?", False, []))
        self.assertTrue(self.refused(self.send, "fatal").fatal)

    def test_a_refusal_of_the_host_is_an_exception_with_a_code(self) -> None:
        self.assertEqual(self.play(HANDLER + "    try:\n        ctx.send('nobody', '')\n    except HostError as e:\n        return e.code\n"), "not-found")

    def test_the_log_has_the_traceback_with_lines_of_code(self) -> None:
        self.start(HANDLER + "    return ctx.state['missing']\n")
        self.refused(self.send)
        level, text, _ = self.lines[-1]
        self.assertEqual(level, "error")
        self.assertEqual(text, "Traceback (most recent call last):\n"
                               "  File \"agent.py\", line 4, in mayor\n    return ctx.state['missing']\nKeyError: 'missing'")

    def test_the_log_leaves_out_what_called_the_author(self) -> None:
        self.start(HANDLER.replace("def", "async def") + "    return ctx.state['missing']\n")
        self.refused(self.send)
        self.assertEqual(self.lines[-1][1].splitlines()[1], '  File "agent.py", line 4, in mayor')

    def test_a_missing_module_says_what_to_do(self) -> None:
        self.assertIn("neither in the agent's source nor in its `vendor`", self.refused(self.start, "import requests_of_nobody\n", other="").message)
        self._forget()
        message = self.refused(self.start, "import requests_of_nobody\n").message
        self.assertIn("the agent's source has only the file agent.py; files beside it, and its `vendor` folder", message)
        self.assertIn("`source` of the role names their directory", message)

    def test_a_missing_text_says_the_same(self) -> None:
        self.start(HANDLER + "    source_text('prompt.md')\n")
        self.assertIn("prompt.md (the agent's source has only the file agent.py; files beside it are", self.refused(self.send).message)

    def test_a_program_without_an_agent_is_an_agent_error(self) -> None:
        self.assertEqual(self.refused(self.start, "x = 1\n").code, "no-agent")

    def test_a_second_agent_is_refused_where_it_is_declared(self) -> None:
        error = self.refused(self.start, HANDLER + "    pass\n@agent\ndef second(ctx, message):\n    pass\n")
        self.assertEqual(places(error.exceptions[0]), [(None, "agent.py", 5)])


if __name__ == "__main__":
    unittest.main()
