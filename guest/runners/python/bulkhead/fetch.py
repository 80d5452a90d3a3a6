"""HTTP requests. Where an agent may reach is the role's ``http_allow``.

``fetch`` blocks the agent, as other calls of the host do; ``afetch`` lets its other tasks go on.
"""

from __future__ import annotations

import asyncio
import json as json_module
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from email.message import Message as Headers
from typing import Any, cast
from urllib.parse import SplitResult, quote, urlencode, urljoin, urlsplit

from . import exchange, loop
from .errors import FetchError
from .exchange import Exchange, Wait, blocked
from .unicode import REPLACED, utf8

#: As browsers have it.
MAX_REDIRECTS = 20
#: Of a body that is read as a whole, if the caller says nothing else.
MAX_BYTES = 16 * 1024 * 1024

_REDIRECTS = {301, 302, 303, 307, 308}
#: What a server may want to know of who asks.
_DEFAULTS = [("accept", "*/*"), ("user-agent", "bulkhead")]
#: What the host says.
_HOSTS = {"host", "content-length"}
#: What another origin does not get.
_PRIVATE = {"authorization", "cookie", "proxy-authorization"}
#: What is about a body that a redirect leaves behind.
_OF_BODY = {"content-type", "content-encoding", "content-language", "content-location"}
#: Characters of a URL that mean something or are encoded already.
_SAFE = "%!#$&'()*+,/:;=?@[]~"


class Response:
    """An answer. Its body was read, unless ``stream`` was asked for: then iterate over it, with ``for`` or ``async for``."""

    def __init__(self, answer: Exchange, status: int, headers: list[tuple[str, str]]) -> None:
        self._exchange = answer
        self._content: bytes | None = None
        #: The status, 200 and so on.
        self.status_code = status
        #: Of what was asked last, after redirects.
        self.url = answer.url.geturl()
        #: By name in any case of letters: ``headers["content-type"]``, which is None where there is none, and ``get_all``.
        self.headers = Headers()
        for name, value in headers:
            # Adds it to those of its name.
            self.headers[name] = value

    @property
    def ok(self) -> bool:
        """The status is 200 to 299."""
        return 200 <= self.status_code <= 299

    @property
    def content(self) -> bytes:
        """The whole body."""
        if self._content is None:
            raise ValueError("the body comes in parts: iterate over the response")
        return self._content

    @property
    def text(self) -> str:
        """The whole body as text, in the character set that its type names, or UTF-8. What cannot be decoded is replaced."""
        charset = self.headers.get_content_charset() or "utf-8"
        try:
            return self.content.decode(charset, errors="replace")
        except (LookupError, UnicodeError):
            # What a server calls a character set.
            return self.content.decode(errors="replace")

    def json(self) -> Any:
        """The whole body, which is JSON."""
        return json_module.loads(self.content)

    def raise_for_status(self) -> Response:
        """Raises `FetchError` (``http-status``) unless the status is 200 to 299. Returns itself."""
        if not self.ok:
            raise self._exchange.error("status", f"status {self.status_code}")
        return self

    def close(self) -> None:
        """Leaves the rest of the body."""
        self._exchange.close()

    def __iter__(self) -> Iterator[bytes]:
        """The body in parts, as they come."""
        if self._content is not None:
            yield self._content
            return
        self._exchange.wait = blocked
        while part := exchange.now(self._exchange.read()):
            yield part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._content is not None:
            yield self._content
            return
        self._exchange.wait = _ready()
        while part := await self._exchange.read():
            yield part

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Response [{self.status_code}] {self._exchange.what}>"

    async def _read(self, at_most: int) -> None:
        parts, size = [], 0
        while part := await self._exchange.read():
            size += len(part)
            if size > at_most:
                self.close()
                raise self._exchange.error("too-large", f"answer is larger than {at_most} bytes")
            parts.append(part)
        self._content = b"".join(parts)


def fetch(url: str, method: str | None = None, **options: Any) -> Response:
    """Sends a request and waits for its answer, whatever its status. Everything else of the agent waits too.

    ``method`` is GET, or POST where there is a body. Options:

    - ``params``: a mapping or pairs, added to the URL's query
    - ``headers``: a mapping or pairs
    - ``data``: the body: bytes, text, or a mapping or pairs, which are sent as a form
    - ``json``: the body: what JSON can hold
    - ``timeout``: of all of it, in seconds; in any case it ends a second before the turn's deadline
    - ``follow_redirects`` (default true)
    - ``stream``: the body is not read, see `Response`
    - ``max_bytes``: of a body that is read as a whole (default 16 MiB)

    Raises `FetchError`.
    """
    return cast(Response, exchange.now(_fetch(blocked, url, method, **options)))


async def afetch(url: str, method: str | None = None, **options: Any) -> Response:
    """The same for asynchronous code: other tasks go on. At most 16 requests are open at one time, further ones wait."""
    return await _fetch(_ready(), url, method, **options)


def _ready() -> Wait:
    """How the loop waits that runs, which is one of `asyncio.run` as well."""
    return cast(loop.AgentLoop, asyncio.get_running_loop()).ready


async def _fetch(
    wait: Wait,
    url: str,
    method: str | None,
    *,
    params: Any = None,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    data: Any = None,
    json: Any = None,
    timeout: float | None = None,
    follow_redirects: bool = True,
    stream: bool = False,
    max_bytes: int = MAX_BYTES,
) -> Response:
    content, kind = _body(data, json)
    method = (method or ("GET" if content is None else "POST")).upper()
    sent = list(_pairs(headers))
    named = {name.lower() for name, _ in sent}
    sent += [(name, value) for name, value in [*_DEFAULTS, *kind] if name not in named]
    target, until = _target(url, params), _until(timeout)
    for _ in range(MAX_REDIRECTS + 1):
        asked = Exchange(method, target, wait, until and max(until - time.monotonic(), 0), queues=wait is not blocked)
        try:
            response = Response(asked, *await asked.send(_sent(sent, method, content), content))
            location = response.headers["location"]
            if response.status_code not in _REDIRECTS or not location or not follow_redirects:
                if not stream:
                    await response._read(max_bytes)
                return response
        except BaseException:
            # A task that was cancelled among others.
            asked.close()
            raise
        asked.close()
        next_target = _redirected(asked, location)
        if response.status_code == 303 and method != "HEAD" or response.status_code <= 302 and method == "POST":
            method, content = "GET", None
            sent = _without(sent, _OF_BODY)
        if (next_target.scheme, next_target.netloc) != (target.scheme, target.netloc):
            sent = _without(sent, _PRIVATE)
        target = next_target
    raise asked.error("broken", f"more than {MAX_REDIRECTS} redirects")


def _target(url: str, params: Any) -> SplitResult:
    """A URL as the host takes it: no fragment, a name of a host in ASCII, nothing that has to be encoded."""
    if not isinstance(url, str):
        raise TypeError(f"a URL is text, and not {type(url).__name__}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as wrong:
        raise FetchError("http-invalid", f"invalid URL: {wrong}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise FetchError("http-invalid", f"invalid URL: `{parts.scheme}://{parts.hostname or ''}`, and not http or https with a host")
    if parts.username is not None or parts.password is not None:
        raise FetchError("http-invalid", "a URL with a user or a password is not fetched: use a header")
    host = parts.hostname
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            raise FetchError("http-invalid", f"invalid URL: `{host}` is no name of a host") from None
    netloc = (f"[{host}]" if ":" in host else host) + ("" if port is None else f":{port}")
    more = _encoded("params", params) if params else ""
    query = "&".join(part for part in (parts.query, more) if part)
    return SplitResult(parts.scheme, netloc, _quoted(parts.path or "/"), _quoted(query), "")


def _quoted(text: str) -> str:
    return quote(text, safe=_SAFE, errors=REPLACED)


def _redirected(asked: Exchange, location: str) -> SplitResult:
    try:
        # Whatever bytes the server means.
        return _target(urljoin(asked.url.geturl(), quote(location.encode("latin-1"), safe=_SAFE)), None)
    except (ValueError, FetchError):
        raise asked.error("broken", "redirected to an invalid URL") from None


def _body(data: Any, json: Any) -> tuple[bytes | None, list[tuple[str, str]]]:
    """The bytes of a body, and the header of their type."""
    if data is not None and json is not None:
        raise TypeError("a request has `data` or `json`, and not both")
    if json is not None:
        return utf8(json_module.dumps(json, ensure_ascii=False)), [("content-type", "application/json")]
    if data is None:
        return None, []
    if isinstance(data, str):
        return utf8(data), [("content-type", "text/plain; charset=utf-8")]
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data), []
    return _encoded("data", data).encode(), [("content-type", "application/x-www-form-urlencoded")]


def _encoded(what: str, pairs: Any) -> str:
    if isinstance(pairs, str):
        return pairs
    try:
        return urlencode(pairs, doseq=True, errors=REPLACED)
    except (TypeError, ValueError):
        raise TypeError(f"`{what}` is text, a mapping or pairs, and not {type(pairs).__name__}") from None


def _until(timeout: Any) -> float | None:
    if timeout is None:
        return None
    if not isinstance(timeout, (int, float)) or not timeout > 0:
        raise ValueError(f"a timeout is a number of seconds above 0, and not {timeout!r}")
    return time.monotonic() + timeout


def _pairs(headers: Any) -> Iterable[tuple[str, str]]:
    pairs = headers.items() if hasattr(headers, "items") else headers or ()
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"headers are a mapping or pairs of text, and not {pair!r}")
        name, value = pair
        if not isinstance(name, str) or not isinstance(value, (str, int)):
            raise TypeError(f"a header is text: {name!r} has {type(value).__name__}")
        if name.lower() not in _HOSTS:
            yield name, str(value)


def _sent(headers: list[tuple[str, str]], method: str, content: bytes | None) -> list[tuple[str, str]]:
    """With the length. A server may want to know that nothing comes."""
    has_length = content is not None or method in ("PATCH", "POST", "PUT")
    return [*headers, *([("content-length", str(len(content or b"")))] if has_length else [])]


def _without(headers: list[tuple[str, str]], names: set[str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in names]
