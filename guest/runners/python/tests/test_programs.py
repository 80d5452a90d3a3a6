"""Native programs, the repository, and the host's refusals."""

import unittest

from componentize_py_types import Err
from wit_world.imports import host, model, streams, tools, workspace

from bulkhead import HostError, ToolError, WorkspaceError, errors, programs
from bulkhead import workspace as repository

USAGE = tools.Usage(1, 1, 1, 1)


class Pipe:
    """A stream of a program."""

    def __init__(self, chunks: list[bytes] | None = None) -> None:
        self.chunks = chunks or []
        self.is_open = True

    def blocking_read(self, length: int) -> bytes:
        if not self.chunks:
            raise Err(streams.StreamError_Closed())
        return self.chunks.pop(0)

    def blocking_write_and_flush(self, data: bytes) -> None:
        self.chunks.append(data)

    def __exit__(self, *_: object) -> None:
        self.is_open = False


class Running:
    """A program that runs."""

    def __init__(self) -> None:
        self.pipes = {"in": Pipe(), "out": Pipe([b"a", b"b"]), "err": Pipe()}
        self.is_alive = True
        self.stdin, self.stdout, self.stderr = (lambda name=name: self.pipes[name] for name in ("in", "out", "err"))

    def wait(self) -> tools.Ended:
        return tools.Ended(tools.End_Signalled(9), USAGE)

    def __exit__(self, *_: object) -> None:
        self.is_alive = False


class Programs(unittest.TestCase):
    def run_to(self, end: object, *arguments: object, **options: object) -> programs.Finished:
        def run(command: tools.Command, stdin: bytes) -> tools.Finished:
            self.command, self.stdin = command, stdin
            return tools.Finished(end, USAGE, b"out\xff", b"err")

        tools.run = run
        return programs.run(programs.command("git", *arguments, **options), "input")

    def test_options_have_the_units_of_the_contract(self) -> None:
        self.run_to(tools.End_Exited(0), ["log", 5], directory="a", env={"A": "b"}, wall=1.5, cpu=2, memory=7, pids=3, output=9)
        self.assertEqual(self.command, tools.Command("git", ["log", "5"], "a", [("A", "b")], tools.Limits(7, 1500, 2000, 3, 9)))
        self.assertEqual(self.stdin, b"input")

    def test_every_end_is_a_result(self) -> None:
        for end, word, code, signal in [(tools.End_Exited(0), "exited", 0, None), (tools.End_Signalled(9), "signalled", None, 9),
                                        (tools.End_WallDeadline(), "wall-deadline", None, None), (tools.End_PidsLimit(), "pids-limit", None, None)]:
            with self.subTest(word):
                finished = self.run_to(end)
                self.assertEqual((finished.end, finished.code, finished.signal, finished.ok), (word, code, signal, code == 0))
        self.assertEqual((finished.stdout, finished.stdout_bytes), ("out\ufffd", b"out\xff"))

    def test_check_raises_for_what_did_not_succeed(self) -> None:
        self.assertTrue(self.run_to(tools.End_Exited(0)).check().ok)
        with self.assertRaisesRegex(ToolError, "exited with code 1: err"):
            self.run_to(tools.End_Exited(1)).check()

    def test_arguments_are_a_list(self) -> None:
        with self.assertRaises(TypeError):
            programs.command("git", "log")

    def test_a_program_that_runs_is_written_to_and_read(self) -> None:
        running = Running()
        tools.spawn = lambda command: running
        with programs.spawn(programs.command("cat")) as child:
            child.write("x" * 5000)
            child.close_stdin()
            self.assertEqual(list(child.read()), [b"a", b"b"])
            self.assertEqual((child.wait().end, child.wait().signal), ("signalled", 9))
            with self.assertRaises(ValueError):
                child.write("more")
        self.assertEqual([len(chunk) for chunk in running.pipes["in"].chunks], [4096, 904])
        self.assertFalse(running.is_alive or any(pipe.is_open for pipe in running.pipes.values()))

    def test_more_input_than_a_call_copies_is_refused(self) -> None:
        host.memory = lambda: host.MemoryUsage(0, 0, 0, 0, 64 * 1024 * 1024)
        with self.assertRaisesRegex(ToolError, "stdin is too large: a call copies at most 4194304 bytes") as raised:
            programs.run(programs.command("cat"), "x" * 5_000_000)
        self.assertEqual(raised.exception.code, "invalid")

    def test_more_than_a_program_takes_is_told_as_what_it_is(self) -> None:
        large = "ä" * 1_000_000
        for command in (programs.command("cat", [large]), programs.command("cat", env={"A": large})):
            for call in (lambda: programs.run(command, ""), lambda: programs.spawn(command)):
                with self.assertRaisesRegex(ToolError, "arguments and environment have 200000. bytes, at most 131072 fit") as raised:
                    call()
                self.assertEqual(raised.exception.code, "invalid")

    def test_a_refusal_has_its_code(self) -> None:
        def run(*_: object) -> None:
            raise Err(tools.ToolError_NotFound("no program `x`"))

        tools.run = run
        with self.assertRaises(ToolError) as raised:
            programs.run(programs.command("x"), b"")
        self.assertEqual((raised.exception.code, str(raised.exception)), ("not-found", "run: no program `x`"))


class Repository(unittest.TestCase):
    def test_status_has_words(self) -> None:
        change = workspace.Change("a", None, workspace.ChangeKind.UNCHANGED, workspace.ChangeKind.TYPE_CHANGED)
        workspace.status = lambda: workspace.TreeStatus("main", None, 1, 2, [change], False)
        self.assertEqual(repository.status().changes, [repository.Change("a", None, "unchanged", "type-changed")])

    def test_a_difference_is_text(self) -> None:
        workspace.diff = lambda against, max_bytes: workspace.Patch(f"{against.name} {max_bytes}".encode(), False)
        self.assertEqual(repository.diff("upstream", 9), "UPSTREAM 9")

    def test_a_conflict_names_files(self) -> None:
        def rebase() -> str:
            raise Err(workspace.WorkspaceError_Conflict(["a", "b"]))

        workspace.rebase = rebase
        with self.assertRaises(WorkspaceError) as raised:
            repository.rebase()
        self.assertEqual((raised.exception.code, str(raised.exception)), ("conflict", "rebase: conflict in a, b"))


class Refusals(unittest.TestCase):
    def raised(self, raise_as: object, refusal: object) -> Exception:
        def call() -> None:
            raise Err(refusal)

        with self.assertRaises(Exception) as raised:
            errors.calling(raise_as, call)
        self.assertIsNone(raised.exception.__context__)
        return raised.exception

    def test_every_refusal_of_the_host_has_a_code_and_a_sentence(self) -> None:
        for refusal, code, part in [(host.HostError_Invalid("x"), "invalid", "invalid argument: x"), (host.HostError_TooLarge(5), "too-large", "5 bytes"),
                                    (host.HostError_NotFound("x"), "not-found", "no such agent: x"), (host.HostError_Unavailable("x"), "unavailable", "x"),
                                    (host.HostError_RateLimited(1500), "rate-limited", "1500 ms")]:
            error = self.raised(errors.host_error, refusal)
            self.assertIsInstance(error, HostError)
            self.assertEqual(error.code, code)
            self.assertIn(part, str(error))
        self.assertEqual(error.retry_after, 1.5)

    def test_every_failure_of_a_model_has_the_code_of_the_other_sdks(self) -> None:
        budget = model.ExhaustedBudget("used up", 2000)
        for refusal, code, part in [
            (model.ModelError_Invalid("x"), "model-invalid", "x"), (model.ModelError_Denied("x"), "model-denied", "x"),
            (model.ModelError_BudgetExceeded(budget), "budget-exceeded", "used up"), (model.ModelError_Unavailable("x"), "model-unavailable", "x"),
            (model.ModelError_RateLimited(None), "model-unavailable", "rate limited"),
            (model.ModelError_Rejected(model.Rejection(401, "x")), "model-refused", "401: x"), (model.ModelError_BadAnswer("x"), "model-bad-answer", "x"),
            (model.ModelError_Timeout("x"), "model-unavailable", "x"), (model.ModelError_Cancelled(), "model-cancelled", "cancelled"),
        ]:
            with self.subTest(code):
                error = self.raised(errors.model_error, refusal)
                self.assertEqual((error.code, error.fatal), (code, False))
                self.assertIn(part, str(error))
