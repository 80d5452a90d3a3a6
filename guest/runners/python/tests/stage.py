"""A host to play with: bindings as componentize-py generates them, with functions of the test's own."""

from __future__ import annotations

import unittest
from typing import Any

from componentize_py_types import Err
from wit_world.imports import agent_types, host, model, runner

from bulkhead import lifecycle, loop, source

loop.install()


class Answer:
    """An answer of a model: its parts, in order."""

    def __init__(self, stage: Stage, parts: list[Any]) -> None:
        self._stage = stage
        self._parts = list(parts)

    def next(self) -> Any:
        part = self._parts.pop(0)
        if isinstance(part, Err):
            raise part
        return part

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self._stage.open_answers -= 1


class Stage(unittest.TestCase):
    """Plays the host of one agent, and keeps what the agent did."""

    def setUp(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.lines: list[tuple[str, str, list[tuple[str, str]]]] = []
        self.unhandled: list[Any] = []
        self.requests: list[Any] = []
        self.answers: list[list[Any]] = []
        self.open_answers = 0
        self.tools: list[list[str]] = []
        self.deadline_ms = 30_000
        host.emit = lambda event: self.events.append((event.name, event.data))
        host.log = lambda level, message, fields: self.lines.append((level.name.lower(), message, fields))
        host.unhandled_rejection = self.unhandled.append
        host.set_active_tools = self.tools.append
        host.deadline = lambda: self.deadline_ms
        host.settings = lambda: host.AgentSettings(1, None, None, None, None)
        host.config = {"key": "value"}.get
        host.memory = lambda: host.MemoryUsage(0, 0, 0, 0, 64 * 1024 * 1024)
        host.send = self._send
        model.chat = self._chat
        self.addCleanup(self._forget)

    def _send(self, agent_id: str, body: str) -> str:
        if agent_id == "nobody":
            raise Err(host.HostError_NotFound(agent_id))
        return f"{agent_id}:{body}"

    def _chat(self, request: Any) -> Answer:
        self.requests.append(request)
        self.open_answers += 1
        return Answer(self, self.answers.pop(0))

    def _forget(self) -> None:
        if source.current:
            lifecycle.forget()

    def give(self, text: str, entry: str = "agent.py", files: dict[str, str] = {}, **modules: str) -> None:
        """The agent's source; further files by their path, or as `name=text` for `name.py`."""
        texts = {entry: text, **files, **{f"{name}.py": text for name, text in modules.items()}}
        bundle = runner.SourceBundle(entry, [runner.SourceFile(path, text.encode()) for path, text in sorted(texts.items())])
        runner.source = lambda: bundle

    def start(self, text: str | None = None, **files: Any) -> None:
        if text is not None:
            self.give(text, **files)
        lifecycle.Lifecycle().start(agent_types.StartRequest("a", "r", "n", None, None, 1, "", None, None, None, False))

    def send(self, text: str = "hi") -> Any:
        return lifecycle.Lifecycle().handle(agent_types.Message("m1", agent_types.Sender_Operator(), text, 1))

    def play(self, text: str, message: str = "hi", **files: Any) -> Any:
        """Starts an agent and sends it one message. Returns the reply."""
        self.start(text, **files)
        return self.send(message).reply

    def refused(self, call: Any, *arguments: Any, **files: Any) -> agent_types.AgentError:
        """The error of the contract that a call ends with."""
        with self.assertRaises(Err) as raised:
            call(*arguments, **files)
        self.assertIsInstance(raised.exception.value, agent_types.AgentError)
        return raised.exception.value


def places(exception: agent_types.Exception) -> list[tuple[str | None, str, int]]:
    return [(frame.function, frame.file, frame.line) for frame in exception.frames]


def says(text: str) -> list[Any]:
    """An answer that is this text."""
    return [model.Part_Text(text), model.Part_End(model.End(model.FinishReason.STOP, None, None))]


def calls(name: str, arguments: str) -> list[Any]:
    """An answer that calls a tool."""
    return [model.Part_ToolCall(model.ToolCall("c1", name, arguments)), model.Part_End(model.End(model.FinishReason.TOOL_CALLS, None, '{"of": "the call"}'))]
