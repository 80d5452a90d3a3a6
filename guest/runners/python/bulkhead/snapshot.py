"""What outlives an incarnation: ``{"v": 1, "state": ..., "history": [...]}`` as JSON."""

from __future__ import annotations

import json
from typing import Any

from .agent import Agent
from .context import Context
from .errors import AgentError, call
from .unicode import utf8

_PLAIN = (str, int, float, bool, type(None))


def save(ctx: Context) -> bytes:
    """The snapshot; empty if state and history are as they were in the beginning."""
    try:
        if ctx.state == ctx.agent.state and not ctx.history:
            return b""
        _check(ctx.state, "state", set())
        kept = {"v": ctx.agent.version, "state": ctx.state, "history": ctx.history}
        return utf8(json.dumps(kept, ensure_ascii=False, separators=(",", ":")))
    except RecursionError:
        raise _unwritable("state", "is nested too deep") from None
    except (TypeError, ValueError) as wrong:
        # What the author put into the history, or a number of too many digits.
        raise AgentError("snapshot-failed", f"state and history cannot be written as JSON: {wrong}") from None


def load(ctx: Context, snapshot: bytes) -> None:
    """Takes over what an earlier incarnation saved, maybe of an older version of the agent."""
    try:
        kept = json.loads(snapshot)
        version, state, history = kept["v"], kept["state"], kept["history"]
    except (ValueError, KeyError, TypeError):
        raise AgentError("bad-snapshot", "snapshot is not one of this SDK", fatal=True) from None
    ctx.state = _with_defaults(ctx.agent, _upgraded(ctx.agent, version, state))
    ctx.history[:] = history


def _upgraded(agent: Agent, version: int, state: Any) -> Any:
    if version == agent.version:
        return state
    if version < agent.version and agent.upgrade:
        return call(agent.upgrade, version, state)
    raise AgentError("bad-snapshot", f"snapshot has version {version}, this agent reads version {agent.version}", fatal=True)


def _with_defaults(agent: Agent, state: Any) -> Any:
    """A key that the author added since has the value that it has in a new state."""
    return {**agent.new_state(), **state} if isinstance(state, dict) and isinstance(agent.state, dict) else state


def _check(value: Any, path: str, around: set[int]) -> None:
    """JSON would turn keys into text silently, and says of other values only their type."""
    if id(value) in around:
        raise _unwritable(path, "is a part of itself")
    if isinstance(value, (dict, list, tuple)):
        around.add(id(value))
        _check_inside(value, path, around)
        around.remove(id(value))
    elif not isinstance(value, _PLAIN):
        raise _unwritable(path, f"is a {type(value).__name__}")


def _check_inside(value: Any, path: str, around: set[int]) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise _unwritable(path, f"has the key {key!r}, and JSON's keys are text")
            _check(item, f"{path}[{key!r}]", around)
    else:
        for index, item in enumerate(value):
            _check(item, f"{path}[{index}]", around)


def _unwritable(path: str, what: str) -> AgentError:
    return AgentError("snapshot-failed", f"state cannot be written as JSON: {path} {what}")
