"""An event loop without sockets: tasks, timers, requests, and what becomes of them at the end of a turn.

One call of the host is one run of the loop. Nothing runs between two calls, because the host enters the component for a
call only.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import time
import warnings
import weakref
from collections import deque
from collections.abc import Awaitable
from typing import Any

from wit_world.imports import host

from . import bounds, exchange, report

#: Longest single sleep, in seconds. The host bounds the time of one host call.
_SLICE = 10.0
#: For cancelled tasks to clean up, in seconds.
_GRACE = 0.25
#: Of the turn's time that is left for the outcome after `wait_until`, in seconds.
_RESERVE = 0.5
_MAX_FAILED = 64
_MAX_NAMES = 8


class Stuck(RuntimeError):
    """The code waits for something that nothing can bring about any more."""


class AgentLoop(asyncio.BaseEventLoop):
    """Runs one coroutine at a time to its end, and with it the tasks and timers that it made."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = self
        self._main: asyncio.Task[Any] | None = None
        self._stuck = False
        self._touched = False
        self._awaited: set[asyncio.Future[Any]] = set()
        self._polled: dict[asyncio.Future[None], Any] = {}
        self._abandoned: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._failed: deque[asyncio.Task[Any]] = deque(maxlen=_MAX_FAILED)
        self.set_exception_handler(_report)

    def run(self, coroutine: Any) -> Any:
        """Runs a coroutine to its end."""
        self._stuck = False
        self._main = self.create_task(_awaiting(coroutine))
        try:
            return self.run_until_complete(self._main)
        except asyncio.CancelledError as cancelled:
            if not self._stuck:
                raise
            raise _stuck().with_traceback(cancelled.__traceback__) from None
        finally:
            self._main = None

    def wait_until(self, awaitable: Awaitable[Any]) -> asyncio.Future[Any]:
        """Has the turn end only when this has ended, or when its time is over."""
        future = asyncio.ensure_future(awaitable, loop=self)
        self._awaited.add(future)
        return future

    async def ready(self, pollable: Any, until: float) -> None:
        """Waits for a pollable of the host, but not past a time of `time.monotonic`, and lets other tasks go on."""
        future = self.create_future()
        self._polled[future] = pollable
        timer = self.call_at(until, exchange.resolve, future)
        try:
            await future
        finally:
            timer.cancel()
            self._polled.pop(future, None)

    def is_touched(self) -> bool:
        """Whether anything was done with it since the last turn ended."""
        return bool(self._touched or self._ready or self._scheduled)

    def settle(self, seconds: float) -> None:
        """Ends a turn: awaits what `wait_until` got, cancels and reports everything else."""
        self._wait(self._awaited, seconds)
        self._awaited.clear()
        left = asyncio.all_tasks(self) - set(self._abandoned)
        for task in left:
            task.cancel("the turn has ended")
        timers = self._wait(left, _GRACE)
        self._abandon({task for task in left if not task.done()})
        self._report_failed()
        _warn_of([task.get_name() for task in left], timers)
        self._touched = False

    def select(self, timeout: float | None) -> list[Any]:
        """What `BaseEventLoop` asks its selector: wait for events, which are time and what the host has."""
        if self._polled:
            self._poll(timeout)
        elif timeout is None:
            self._unstick()
        elif timeout > 0:
            time.sleep(min(timeout, _SLICE))
        return []

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        self._touched = True
        task = super().create_task(coro, **options)
        task.add_done_callback(self._note_failure)
        return task

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:
        """There are no threads: the function runs at once, and everything else waits for it."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def _process_events(self, event_list: Any) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def _poll(self, timeout: float | None) -> None:
        if gone := [future for future, pollable in self._polled.items() if exchange.is_gone(pollable)]:
            # Somebody has closed what another task waits for.
            for future in gone:
                exchange.resolve(future)
                del self._polled[future]
            return
        futures, pollables = list(self._polled), list(self._polled.values())
        if timeout is not None and timeout <= 0:
            ready = [place for place, pollable in enumerate(pollables) if pollable.ready()]
        else:
            ready = exchange.wait_for(pollables, _SLICE if timeout is None else timeout)
        for place in ready:
            exchange.resolve(futures[place])

    def _unstick(self) -> None:
        if self._main is None or self._stuck:
            raise _stuck()
        self._stuck = True
        self._main.cancel()

    def _wait(self, futures: set[Any], seconds: float) -> int:
        """Runs these, at most so long. Returns how many timers are left, of those that somebody set."""
        if futures or self._ready:
            self.run_until_complete(_pause(futures, max(seconds, 0)))
        return sum(not timer.cancelled() for timer in self._scheduled)

    def _abandon(self, tasks: set[asyncio.Task[Any]]) -> None:
        """A task that ignores its cancellation must not go on in another turn."""
        self._abandoned.update(tasks)
        for task in tasks:
            # The warning about them comes once.
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._polled.clear()
        self._scheduled.clear()
        self._timer_cancelled_count = 0
        self._ready.clear()

    def _note_failure(self, task: asyncio.Task[Any]) -> None:
        # `exception()` would count as if somebody had asked for it.
        if not task.cancelled() and task._exception is not None:  # type: ignore[attr-defined]
            self._failed.append(task)

    def _report_failed(self) -> None:
        for task in self._failed:
            if task._log_traceback:  # type: ignore[attr-defined]
                report.unhandled(task.exception())  # type: ignore[arg-type]
        self._failed.clear()
        # Finds coroutines and tasks that hold each other.
        gc.collect()


_loop: AgentLoop | None = None


def loop() -> AgentLoop:
    """The loop of this agent, made when it is first needed."""
    global _loop
    if _loop is None or _loop.is_closed():
        _loop = AgentLoop()
    return _loop


def is_running() -> bool:
    """Whether a coroutine calls this."""
    return asyncio._get_running_loop() is not None


def complete(result: Any) -> Any:
    """What a function returned. If it is an asynchronous one, runs it to its end."""
    # To ask abstract classes takes a twentieth of the time of a short turn.
    if result is None or isinstance(result, str) or not inspect.isawaitable(result):
        return result
    return loop().run(result)


def settle(crashed: bool) -> None:
    """Ends a turn and its requests, see `AgentLoop.settle`. Of one that crashed nothing is awaited any more."""
    if _loop is not None and not _loop.is_closed() and _loop.is_touched():
        _loop.settle(0 if crashed else host.deadline() / 1000 - _RESERVE)
    exchange.drop_all()


def close() -> None:
    """As if the loop never was."""
    global _loop
    if _loop is not None:
        _loop.close()
    _loop = None


def install() -> None:
    """Makes failures that nobody waits for visible, and `asyncio.run` work."""
    sys.set_coroutine_origin_tracking_depth(8)
    sys.unraisablehook = lambda unraisable: report.unhandled(unraisable.exc_value or RuntimeError(str(unraisable.err_msg)))
    warnings._warn_unawaited_coroutine = report.unawaited  # type: ignore[attr-defined]
    # `asyncio.run` asks the module for a loop; a policy would be deprecated.
    asyncio.events.new_event_loop = asyncio.new_event_loop = AgentLoop  # type: ignore[assignment]


async def _awaiting(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def _pause(futures: set[Any], seconds: float) -> None:
    await asyncio.sleep(0)
    pending = [future for future in futures if not future.done()]
    if pending:
        await asyncio.wait(pending, timeout=seconds)
    await asyncio.sleep(0)


def _stuck() -> Stuck:
    return Stuck("waits for something that nothing can bring about any more: no task is ready, and no timer is set")


def _report(_loop: Any, context: dict[str, Any]) -> None:
    if error := context.get("exception"):
        report.unhandled(error)
    else:
        bounds.log(host.Level.WARN, str(context.get("message")))


def _warn_of(tasks: list[str], timers: int) -> None:
    if not tasks and not timers:
        return
    names = ", ".join(sorted(tasks)[:_MAX_NAMES])
    message = f"{len(tasks)} tasks and {timers} timers were left at the end of the turn, and were cancelled"
    bounds.log(host.Level.WARN, message, {"tasks": names} if names else {})
