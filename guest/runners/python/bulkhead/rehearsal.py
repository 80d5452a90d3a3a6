"""Agents that are run while the component is built."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from componentize_py_types import Err
from wit_world.imports import agent_types, host, runner

from . import lifecycle

#: How often code runs before the interpreter stops rewriting it, at least.
_REHEARSALS = 20

_TEXT = b"""
import asyncio
from bulkhead import agent, done, shutdown, start, tool

@tool
def note(ctx, text: str, often: int = 1):
    'Write something down.'
    ctx.state["notes"].append(text)

@start
def begin(ctx):
    ctx.log("started", id=ctx.me.id)

async def think():
    await asyncio.sleep(0)

@agent(system="", tools=[note], state={"notes": []})
async def rehearse(ctx, message):
    note(ctx, message.text)
    await asyncio.gather(think(), think())
    note.offer()
    if message.sender == "agent":
        return ctx.state["nothing"]
    return f"{message.text} {len(ctx.state)}"
"""

_SOURCE = runner.SourceBundle("rehearsal.py", [runner.SourceFile("rehearsal.py", _TEXT)])


def rehearse() -> None:
    """Runs agents, so that what the first turns cache, and what they specialize of the code, is a part of the image."""
    with _played(runner, "source", lambda: _SOURCE), _played(host, "log", lambda *_: None), _played(host, "deadline", lambda: 1000):
        for _ in range(_REHEARSALS):
            _play()
            lifecycle.forget()


@contextlib.contextmanager
def _played(interface: ModuleType, name: str, function: Any) -> Iterator[None]:
    """There is no host while the component is built."""
    real = getattr(interface, name)
    setattr(interface, name, function)
    yield
    setattr(interface, name, real)


def _play() -> None:
    agent = lifecycle.Lifecycle()
    agent.restore(b'{"v":1,"state":{"notes":["x"]},"history":[]}')
    agent.start(agent_types.StartRequest("a", "r", "n", None, None, 1, "", None, None, None, True))
    agent.handle(agent_types.Message("m", agent_types.Sender_Operator(), "hi", 1))
    agent.snapshot()
    with contextlib.suppress(Err):
        agent.handle(agent_types.Message("m", agent_types.Sender_Agent("b"), "hi", 1))
