"""What an author declares: the agent's function, and its hooks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from .chat import as_tool
from .errors import call
from .tool import Tool


class Agent:
    """What `@agent` was told."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        system: str | Callable[[Any], str] = "",
        tools: Iterable[Callable[..., Any]] = (),
        state: Any = None,
        version: int = 1,
        upgrade: Callable[[int, Any], Any] | None = None,
        max_rounds: int = 8,
        max_messages: int = 200,
        max_bytes: int = 256 * 1024,
    ) -> None:
        self.function = function
        self.system = system
        self.tools: list[Tool] = [as_tool(tool) for tool in tools]
        self.state = {} if state is None else state
        self.version = version
        self.upgrade = upgrade
        self.max_rounds = max_rounds
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        _refuse_twins(self.tools)

    def new_state(self) -> Any:
        return copy.deepcopy(self.state)

    def instructions(self, ctx: Any) -> str:
        return call(self.system, ctx) if callable(self.system) else self.system


class Declared:
    """What the author's modules have declared so far."""

    def __init__(self) -> None:
        self.agent: Agent | None = None
        self.start: list[Callable[..., Any]] = []
        self.shutdown: list[Callable[..., Any]] = []

    def clear(self) -> None:
        self.agent = None
        self.start.clear()
        self.shutdown.clear()


declared = Declared()


def agent(function: Any = None, **options: Any) -> Any:
    """Makes a function ``(ctx, message)`` the agent. It may be asynchronous. One function of a program is that.

    It returns a reply (text), None, or what `done` or `proceed` make. Options:

    - ``system``: instructions for the model, or a function of the context that returns them
    - ``tools``: what the model may call, see `tool`
    - ``state``: what ``ctx.state`` is at first: anything that JSON can hold
    - ``version`` (default 1) and ``upgrade``: of the state's form. ``upgrade(version, state)`` returns an older state in
      the newest form
    - ``max_rounds``: answers with tool calls in one turn (default 8)
    - ``max_messages``, ``max_bytes``: of the conversation; what is over drops the oldest (default 200, and 256 KiB of JSON)
    """
    if function is None:
        return lambda function: agent(function, **options)
    if declared.agent is not None:
        raise ValueError(f"`{function.__name__}` cannot be the agent: `{declared.agent.function.__name__}` is it already")
    declared.agent = Agent(function, **options)
    return function


def start(function: Callable[..., Any]) -> Callable[..., Any]:
    """Calls a function ``(ctx)`` when the agent starts. Keep it short: somebody waits for the start."""
    declared.start.append(function)
    return function


def shutdown(function: Callable[..., Any]) -> Callable[..., Any]:
    """Calls a function ``(ctx, reason)`` when the agent is asked to end: ``stopped``, ``drained``, ``superseded``,
    ``evicted`` or ``idle``. The last snapshot has been taken by then.
    """
    declared.shutdown.append(function)
    return function


def _refuse_twins(tools: list[Tool]) -> None:
    names = [tool.name for tool in tools]
    if twins := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two tools have the name {', '.join(sorted(twins))}")
