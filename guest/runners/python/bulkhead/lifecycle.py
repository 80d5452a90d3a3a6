"""The component's exports: the author's functions between the host's calls."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import random
from collections.abc import Callable
from typing import Any

from componentize_py_types import Err
from wit_world.imports import agent_types, host, runner

from . import bounds, image, loop, report, snapshot, source
from .agent import declared
from .context import Context, Message, Outcome
from .errors import AgentError, call, kebab, located
from .unicode import passable


def _guarded(export: Callable[..., Any]) -> Callable[..., Any]:
    """Whatever leaves the author's code becomes an error of the contract, and can be passed to the host."""

    @functools.wraps(export)
    def guard(self: Lifecycle, *arguments: Any) -> Any:
        try:
            return passable(export(self, *arguments))
        except BaseException as error:
            failure = passable(report.agent_error(error))
        raise Err(failure)

    return guard


#: The agent's, once its code is imported. Each call of the host makes a new `Lifecycle`.
_context: Context | None = None


class Lifecycle:
    """An agent whose source the host gives. It is no subclass of the bindings' protocol, of which each call would make an instance."""

    @_guarded
    def start(self, request: agent_types.StartRequest) -> None:
        ctx = _the_context()
        ctx.begin(request)
        for hook in declared.start:
            _run(hook, ctx)

    @_guarded
    def handle(self, message: agent_types.Message) -> Outcome:
        ctx = _the_context()
        function = ctx.agent.function
        return _outcome(function, _run(function, ctx, Message.of(message)))

    @_guarded
    def snapshot(self) -> bytes:
        saved = snapshot.save(_the_context())
        if most := bounds.too_large(len(saved)):
            raise AgentError("snapshot-failed", f"the snapshot has {len(saved)} bytes, and a call copies at most {most}")
        return saved

    @_guarded
    def restore(self, saved: bytes) -> None:
        snapshot.load(_the_context(), saved)

    @_guarded
    def shutdown(self, reason: agent_types.ShutdownReason) -> None:
        for hook in declared.shutdown:
            _run(hook, _the_context(), kebab(reason.name))


def _the_context() -> Context:
    """The first call, `restore` or `start`, imports the author's code."""
    global _context
    if _context is None:
        # The state of the image's generator is the same for all.
        random.seed(os.urandom(32))
        _enter_workspace()
        _context = Context(_import_agent())
    return _context


def _run(function: Callable[..., Any], ctx: Context, *arguments: Any) -> Any:
    """Runs one of the author's functions, and what it leaves behind."""
    ctx.renew()
    crashed = True
    try:
        result = loop.complete(call(function, ctx, *arguments))
        crashed = False
        return result
    except AgentError as error:
        crashed = error.fatal
        raise
    finally:
        loop.settle(crashed)
        image.collect()


def _enter_workspace() -> None:
    """Relative paths are those of the workspace, if there is one."""
    with contextlib.suppress(OSError):
        os.chdir("/workspace")


def prepare() -> None:
    """While the component is built: what is the same for all agents."""
    loop.install()
    logging.basicConfig(handlers=[_HostLog()], level=logging.INFO, format="%(message)s", force=True)


def forget() -> None:
    """While the component is built: as if there never was an agent."""
    global _context
    _context = None
    declared.clear()
    source.unload()
    loop.close()


def _import_agent() -> Any:
    bundle = runner.source()
    source.load(source.Source(bundle.entry, {file.path: file.contents for file in bundle.files}))
    if declared.agent is None:
        raise AgentError("no-agent", f"{bundle.entry} makes no function the agent with `@agent`", fatal=True)
    return declared.agent


def _outcome(function: Callable[..., Any], result: Any) -> Outcome:
    """What the author's function returned, as the contract wants it."""
    if result is None or isinstance(result, str):
        result = Outcome(result, agent_types.Next.IDLE)
    if isinstance(result, Outcome) and result.reply is None:
        return result
    if isinstance(result, Outcome) and isinstance(result.reply, str):
        return Outcome(bounds.cut(result.reply, bounds.MAX_REPLY_BYTES), result.next)
    what = "a reply" if isinstance(result, Outcome) else "what the agent returns"
    kind = type(result.reply if isinstance(result, Outcome) else result).__name__
    message = f"{what} is text, None, done() or proceed(), and `{function.__name__}` returned {kind}"
    raise located(TypeError(message), function)


class _HostLog(logging.Handler):
    """The module `logging` writes to the host's log."""

    def emit(self, record: logging.LogRecord) -> None:
        # The standard levels are 10, 20, 30 and 40.
        level = host.Level(min(max(record.levelno // 10, 0), 4))
        bounds.log(level, self.format(record), {"logger": record.name})
