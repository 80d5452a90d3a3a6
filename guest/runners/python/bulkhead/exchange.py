"""One HTTP request over `wasi:http`, and its answer part by part.

An exchange is a coroutine's work, and how it waits is its caller's choice: `blocked` stops the agent, the loop's `ready`
lets other tasks go on, and a `Patience` hands back to its caller when that has waited for long enough.
"""

from __future__ import annotations

import asyncio
import gc
import time
import types as coroutines
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any
from urllib.parse import SplitResult

from componentize_py_types import Err, Ok
from wit_world.imports import host, monotonic_clock, outgoing_handler, poll, types

from .errors import FetchError, case_of, refused

#: Waits for a pollable, but not past a time of `time.monotonic`.
Wait = Callable[[Any, float], Awaitable[None]]

#: As many as the host has of one agent at one time.
MAX_OPEN = 16
#: Of the names and values of headers: as many as the host takes.
MAX_HEADER_BYTES = 32_000
#: Asked of a stream at once. The host decides how much it gives.
_READ = 64 * 1024
#: Of the turn's time that is left for the error of an exchange that took too long, in seconds.
_RESERVE = 1.0
#: Longest single wait, in seconds. The host bounds the time of one host call.
_SLICE = 10.0
#: How long a request is tried again of which the host says that there are too many, in seconds.
_BUSY = 1.0
#: How the host marks a name that leads where the role must not go: "Blocked" of the extended DNS errors.
_BLOCKED = 15

_METHODS = {"GET": types.Method_Get, "HEAD": types.Method_Head, "POST": types.Method_Post, "PUT": types.Method_Put,
            "DELETE": types.Method_Delete, "OPTIONS": types.Method_Options, "PATCH": types.Method_Patch}

_SAYS = {
    "denied": "http-request-denied destination-ip-prohibited",
    "invalid": "http-request-uri-invalid http-request-method-invalid",
    "timeout": "dns-timeout connection-timeout connection-read-timeout connection-write-timeout http-response-timeout",
    "unavailable": "dns-error destination-not-found destination-unavailable destination-ip-unroutable connection-refused "
                   "connection-limit-reached tls-protocol-error tls-certificate-error tls-alert-received",
}
#: What `FetchError` says for a code of `wasi:http`. Every other one is `broken`.
_CODES = {code: says for says, codes in _SAYS.items() for code in codes.split()}

_open: set[_Held] = set()
_waiting: deque[Any] = deque()


class _Held:
    """What an exchange has of the host. Children have to go before their parents, or the component traps; the collector of
    garbage knows no order, so none of it may be garbage before it was let go of.
    """

    def __init__(self) -> None:
        self.stream: Any = None
        self.is_dropped = False
        self.is_closed = False
        self._pollable: Any = None
        self._resources: list[Any] = []

    def keep(self, resource: Any) -> Any:
        self._resources.append(resource)
        return resource

    def give(self, resource: Any) -> Any:
        """For somebody who lets go of it, which is an error the second time."""
        self._resources = [held for held in self._resources if held is not resource]
        return resource

    def wait_for(self, pollable: Any) -> Any:
        self._pollable = pollable
        return pollable

    def is_waited_for(self) -> bool:
        return self._pollable is not None

    def end_wait(self) -> None:
        if self._pollable is not None:
            _release(self._pollable)
            self._pollable = None

    def drop(self) -> None:
        """Closes it at the end of a turn, whoever may still have it."""
        self.is_dropped = self.is_closed = True
        self.close()

    def close(self) -> None:
        self.stream = None
        self.end_wait()
        while self._resources:
            _release(self._resources.pop())
        if self in _open:
            _open.discard(self)
            _wake()


class Exchange:
    """A request, and its answer. Forgetting it closes its connection."""

    def __init__(self, method: str, url: SplitResult, wait: Wait, timeout: float | None, queues: bool = False) -> None:
        self.method = method
        self.url = url
        #: As errors name it: what is secret is in queries.
        self.what = f"{method} {url.scheme}://{url.netloc}{url.path}"
        #: Who reads may wait in another way than who sent.
        self.wait = wait
        self._queues = queues
        self._held = _Held()
        weakref.finalize(self, self._held.close)
        left = max(host.deadline() / 1000 - _RESERVE, 0)
        self._limit = left if timeout is None else min(left, timeout)
        self._until = time.monotonic() + self._limit

    async def send(self, headers: Sequence[tuple[str, str]], content: bytes | None) -> tuple[int, list[tuple[str, str]]]:
        """Sends the request. Returns the answer's status and headers."""
        if len(_open) >= MAX_OPEN and not (self._queues and _waiting):
            # Those that nobody can read any more.
            gc.collect()
        if len(_open) >= MAX_OPEN and self._queues:
            await self._room()
        busy_until, pause = time.monotonic() + _BUSY, 0.001
        while isinstance(answer := await self._ask(headers, content), Err):
            if case_of(answer.value) != "connection-limit-reached" or time.monotonic() > busy_until:
                raise self._failure(answer.value)
            # The host lets go of one that was cancelled a moment later.
            self._held.close()
            await self._wait_for(monotonic_clock.subscribe_duration(int(pause * 1e9)))
            pause *= 2
        response = self._held.keep(answer.value)
        with response.headers() as fields:
            received = [(name, value.decode("latin-1")) for name, value in fields.entries()]
        self._held.stream = self._held.keep(self._held.keep(response.consume()).stream())
        return response.status(), received

    async def read(self) -> bytes:
        """The next part of the body; nothing at its end."""
        while (stream := self._held.stream) is not None:
            try:
                part = stream.read(_READ)
            except Err as ended:
                if case_of(refused(ended)) == "closed":
                    self.close()
                    return b""
                raise self._broken(ended) from None
            # One that is never silent must not go on for ever.
            if time.monotonic() >= self._until:
                raise self._late("reading the answer")
            if part:
                return bytes(part)
            await self._pause(stream, "reading the answer")
        if self._held.is_dropped:
            raise self._gone()
        return b""

    def close(self) -> None:
        """Ends it, at whatever point it is."""
        self._held.is_closed = True
        self._held.close()

    def error(self, code: str, message: str) -> FetchError:
        return FetchError(f"http-{code}", f"{self.what}: {message}")

    async def _ask(self, headers: Sequence[tuple[str, str]], content: bytes | None) -> Any:
        """Sends the request and waits for what comes of it: the head of an answer, or the host's code."""
        request = self._request(headers)
        body = self._held.keep(request.body()) if content is not None else None
        _open.add(self._held)
        try:
            future = self._held.keep(outgoing_handler.handle(request, None))
        except Err as error:
            return Err(refused(error))
        if body is not None:
            await self._upload(body, content or b"")
        while (answer := future.get()) is None:
            await self._pause(future, "waiting for the answer")
        if not isinstance(answer, Ok):
            raise self.error("broken", "the host lost the answer")
        return answer.value

    def _request(self, headers: Sequence[tuple[str, str]]) -> Any:
        size = sum(len(name) + len(value) for name, value in headers)
        if size > MAX_HEADER_BYTES:
            raise self.error("invalid", f"headers of {size} bytes, at most {MAX_HEADER_BYTES}")
        try:
            fields = types.Fields.from_list([(name, value.encode("latin-1")) for name, value in headers])
        except UnicodeEncodeError as wrong:
            raise self.error("invalid", f"a header has {wrong.object[wrong.start]!r}, which is no character of Latin-1") from None
        except Err as wrong:
            raise self.error("invalid", f"{_wrong_header(headers)} ({case_of(refused(wrong)).replace('-', ' ')})") from None
        url, request = self.url, types.OutgoingRequest(fields)
        make = _METHODS.get(self.method)
        try:
            request.set_method(make() if make else types.Method_Other(self.method))
            request.set_scheme(types.Scheme_Https() if url.scheme == "https" else types.Scheme_Http())
            request.set_authority(url.netloc)
            request.set_path_with_query((url.path or "/") + (f"?{url.query}" if url.query else ""))
        except Err as wrong:
            refused(wrong)
            request.__exit__(None, None, None)
            raise self.error("invalid", "the host does not take this method or URL") from None
        return request

    async def _upload(self, body: Any, content: bytes) -> None:
        """Sends the body. What a server answers before it has read everything says more than the pipe that it broke."""
        rest = memoryview(content)
        try:
            stream = self._held.keep(body.write())
            while rest:
                while (room := stream.check_write()) == 0:
                    await self._pause(stream, "sending the request")
                stream.write(bytes(rest[:room]))
                rest = rest[room:]
            stream.flush()
            while stream.check_write() == 0:
                await self._pause(stream, "sending the request")
            _release(self._held.give(stream))
            types.OutgoingBody.finish(self._held.give(body), None)
        except Err as broken:
            refused(broken)

    async def _room(self) -> None:
        """Waits until another one has ended."""
        loop = asyncio.get_running_loop()
        while len(_open) >= MAX_OPEN:
            future = loop.create_future()
            timer = loop.call_at(self._until, resolve, future)
            _waiting.append(future)
            try:
                await future
            except BaseException:
                # It may have been let go in the same moment: then the room is another's.
                _wake()
                raise
            finally:
                timer.cancel()
                if future in _waiting:
                    _waiting.remove(future)
            if time.monotonic() >= self._until:
                raise self._late("waiting for one of its other requests to end")

    async def _pause(self, source: Any, doing: str) -> None:
        if time.monotonic() >= self._until:
            raise self._late(doing)
        if self._held.is_waited_for():
            raise self.error("broken", "another task reads it")
        await self._wait_for(source.subscribe())
        if self._held.is_closed:
            raise self._gone()

    async def _wait_for(self, pollable: Any) -> None:
        try:
            await self.wait(self._held.wait_for(pollable), self._until)
        finally:
            # Also when the task is cancelled: what it waited for goes before the rest.
            self._held.end_wait()

    def _gone(self) -> FetchError:
        dropped = self._held.is_dropped
        return self.error("broken", "it was dropped at the end of a turn" if dropped else "it was closed while a task read it")

    def _late(self, doing: str) -> FetchError:
        self.close()
        return self.error("timeout", f"{doing} took longer than {self._limit * 1000:.0f} ms")

    def _broken(self, failed: Err) -> FetchError:
        with refused(failed).value as error:
            code, text = types.http_error_code(error), error.to_debug_string()
        if code is not None:
            return self._failure(code)
        self.close()
        return self.error("broken", text)

    def _failure(self, code: Any) -> FetchError:
        self.close()
        case, payload = case_of(code), getattr(code, "value", None)
        says, words = _CODES.get(case, "broken"), case.replace("-", " ")
        if case == "dns-error" and payload.info_code == _BLOCKED:
            return self.error("denied", f"denied by the host's policy: {payload.rcode}")
        if says == "denied":
            return self.error("denied", "denied by the host's policy")
        if case == "internal-error" and payload:
            return self.error(says, payload)
        detail = f"{words}: {payload.rcode}" if case == "dns-error" and payload.rcode else words
        if case == "connection-limit-reached":
            return self.error(says, f"{MAX_OPEN} requests of this agent are open, or the host has no connection left")
        return self.error(says, f"no connection: {detail}" if says == "unavailable" else detail)


async def blocked(pollable: Any, until: float) -> None:
    """Waits, and so does the whole agent."""
    while not pollable.ready() and (left := until - time.monotonic()) > 0:
        wait_for([pollable], left)


def wait_for(pollables: list[Any], seconds: float) -> list[int]:
    """Waits for the first of them, at most so long and at most a slice. Returns the places of those that are ready."""
    with monotonic_clock.subscribe_duration(int(min(seconds, _SLICE) * 1e9)) as timer:
        ready = poll.poll([*pollables, timer])
    return [place for place in ready if place < len(pollables)]


def is_gone(pollable: Any) -> bool:
    """Whether it was let go of, so that nobody may ask it any more."""
    return getattr(pollable, "handle", 0) is None


class Patience:
    """Waits as `blocked` does. What takes longer than its caller has time for stops there, and can go on later."""

    def __init__(self) -> None:
        self._until = 0.0

    async def wait(self, pollable: Any, until: float) -> None:
        while not is_gone(pollable) and not pollable.ready() and time.monotonic() < until:
            left = min(until, self._until) - time.monotonic()
            if left > 0:
                wait_for([pollable], left)
            else:
                await _stop()

    def go_on(self, coroutine: Coroutine[Any, Any, Any], seconds: float | None) -> Any:
        """The result of what waits with this. Raises `TimeoutError` when that is not there in time."""
        self._until = time.monotonic() + (float("inf") if seconds is None else seconds)
        try:
            coroutine.send(None)
        except StopIteration as ended:
            return ended.value
        raise TimeoutError(f"nothing came within {seconds} s")


@coroutines.coroutine
def _stop() -> Any:
    yield


def now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs one that waits by `blocked` to its end."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        return ended.value
    finally:
        coroutine.close()
    raise RuntimeError("an exchange that blocks waits for a task")


def drop_all() -> None:
    """At the end of a turn."""
    for held in list(_open):
        held.drop()


def _wake() -> None:
    if _waiting and len(_open) < MAX_OPEN:
        resolve(_waiting.popleft())


def _release(resource: Any) -> None:
    resource.__exit__(None, None, None)


def resolve(future: Any) -> None:
    """Ends a wait, if it has not ended."""
    if not future.done():
        future.set_result(None)


def _wrong_header(headers: Sequence[tuple[str, str]]) -> str:
    """The one that the host refuses."""
    for name, value in headers:
        try:
            types.Fields.from_list([(name, value.encode("latin-1"))]).__exit__(None, None, None)
        except Err as wrong:
            refused(wrong)
            return f"header `{name}` is not allowed"
    return "a header is not allowed"
