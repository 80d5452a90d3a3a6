"""Sockets that speak HTTP, for libraries that make their requests with `socket` and `ssl`.

```text
  urllib, requests, httpx ─▶ socket ─▶ the request, read out of what is written ─▶ exchange ─▶ the host
```

A component has no sockets of its own, and the host keeps the connections, so what is written to one of these has to be a request of
HTTP/1. What is read from it is the answer, as if the server closed the connection after it. To encrypt and to check certificates is the
host's work.
"""

from __future__ import annotations

import contextlib
import io
import socket
import sys
from collections.abc import Coroutine
from http import HTTPStatus
from types import ModuleType
from typing import Any
from urllib.parse import SplitResult, urlsplit

from .exchange import Exchange, Patience

_MAX_HEAD = 64 * 1024
#: About the connection, which is the host's.
_HOP_BY_HOP = {"connection", "expect", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
_REASONS = {status.value: status.phrase for status in HTTPStatus}
_PORTS = {"http": 80, "https": 443}


class Socket:
    """In the place of `socket.socket`."""

    scheme = "http"

    def __init__(self, family: int = socket.AF_INET, type: int = socket.SOCK_STREAM, proto: int = 0, fileno: int | None = None) -> None:
        self.family = family
        self.type = type
        self.proto = proto
        self._peer: tuple[str, int] | None = None
        self._timeout: float | None = socket.getdefaulttimeout()
        self._request = bytearray()
        self._exchange: Exchange | None = None
        self._patience = Patience()
        #: Sends the request, or reads the next part of the answer.
        self._work: Coroutine[Any, Any, bytes] | None = None
        self._is_chunked = False
        #: Why there is no answer: who asks may hear it when it sends, or when it reads.
        self._failure: OSError | None = None
        #: Of the answer, and not read yet.
        self._rest = b""
        #: Files of `makefile` that are open.
        self._readers = 0

    def connect(self, address: Any) -> None:
        """Remembers the server. The host connects when the request is complete."""
        if self.type != socket.SOCK_STREAM or not isinstance(address, tuple):
            raise OSError("the runner's sockets are for HTTP over TCP")
        self._peer = str(address[0]), int(address[1])

    def bind(self, address: Any) -> None:
        """A client may say where it is. Nobody asks."""

    def listen(self, backlog: int = 0) -> None:
        raise OSError("an agent is no server")

    accept = listen

    def connect_ex(self, address: Any) -> int:
        self.connect(address)
        return 0

    def sendall(self, data: Any, flags: int = 0) -> None:
        """A part of a request. The last part sends it. What is known at once is raised here, and what takes longer where it is read."""
        if self._peer is None:
            raise OSError("the socket is not connected")
        if self._exchange is not None:
            if self._rest or self._next(self._timeout):
                raise OSError("the answer to the last request was not read to its end")
            self._exchange = self._failure = None
        self._request += data
        if request := _parsed(self._request):
            self._request = bytearray()
            self._work = self._answer(*request)
            with contextlib.suppress(TimeoutError):
                self._rest = self._next(self._timeout)

    def send(self, data: Any, flags: int = 0) -> int:
        self.sendall(data)
        return len(memoryview(data).cast("B"))

    def recv(self, size: int, flags: int = 0) -> bytes:
        """A part of the answer; nothing at its end."""
        if self._request:
            raise OSError("an answer was asked for before the request was complete")
        if not self._rest:
            self._rest = self._next(self._timeout)
        part, self._rest = self._rest[:size], self._rest[size:]
        return part

    def _next(self, timeout: float | None) -> bytes:
        """The next part of the answer."""
        if self._failure is not None:
            raise self._failure
        if self._work is None:
            if self._exchange is None:
                return b""
            self._work = self._part(self._exchange)
        try:
            part: bytes = self._patience.go_on(self._work, timeout)
        except TimeoutError as late:
            what = "" if self._exchange is None else f"{self._exchange.what}: "
            raise TimeoutError(f"{what}{late}") from None
        except OSError as failure:
            self._work, self._failure = None, failure
            raise
        self._work = None
        return part

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        view = memoryview(buffer).cast("B")
        part = self.recv(size or len(view))
        view[: len(part)] = part
        return len(part)

    def makefile(self, mode: str = "r", buffering: int | None = None, **options: Any) -> Any:
        if "w" in mode:
            raise OSError("the runner's sockets are written to with sendall()")
        raw = _Reader(self)
        self._readers += 1
        reader: Any = raw if buffering == 0 else io.BufferedReader(raw)
        return reader if "b" in mode else io.TextIOWrapper(reader, **options)

    def settimeout(self, value: float | None) -> None:
        self._timeout = value

    def gettimeout(self) -> float | None:
        return self._timeout

    def setblocking(self, flag: bool) -> None:
        self._timeout = None if flag else 0.0

    def getpeername(self) -> tuple[str, int]:
        if self._peer is None:
            raise OSError("the socket is not connected")
        return self._peer

    def getsockname(self) -> tuple[str, int]:
        return "0.0.0.0", 0

    def setsockopt(self, *_: Any) -> None:
        pass

    def getsockopt(self, *_: Any) -> int:
        return 0

    def shutdown(self, how: int) -> None:
        pass

    def fileno(self) -> int:
        return -1

    def detach(self) -> int:
        return -1

    def close(self) -> None:
        """Closes it, when all files of `makefile` are closed as well."""
        self._peer = None
        self._end()

    def reader_closed(self) -> None:
        """One of the files of `makefile` is closed."""
        self._readers -= 1
        self._end()

    def _end(self) -> None:
        if self._peer is None and self._readers == 0 and self._exchange is not None:
            self._exchange.close()
            self._exchange = self._work = None

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _answer(self, method: str, target: str, headers: list[tuple[str, str]], content: bytes | None) -> bytes:
        """Sends a request. The head of the answer."""
        host, port = self.getpeername()
        literal = f"[{host}]" if ":" in host else host
        netloc = literal if port == _PORTS[self.scheme] else f"{literal}:{port}"
        if not target.startswith("/"):
            raise OSError("proxies are the host's: it takes HTTP_PROXY and HTTPS_PROXY of its environment")
        parts = urlsplit(f"{self.scheme}://{netloc}{target}")
        self._exchange = Exchange(method, SplitResult(parts.scheme, parts.netloc, parts.path or "/", parts.query, ""), self._patience.wait, None)
        own = {netloc.lower(), f"{literal}:{port}".lower()}
        if asked := [value for name, value in headers if name.lower() == "host" and value.lower() not in own]:
            raise OSError(f"the header `host` is the host's, and not {asked[0]!r}")
        headers = [(name, value) for name, value in headers if name.lower() != "host"]
        if content is not None:
            headers.append(("content-length", str(len(content))))
        status, received = await self._exchange.send(headers, content)
        has_length = any(name.lower() == "content-length" for name, _ in received)
        self._is_chunked = not has_length and method != "HEAD" and status not in (204, 304)
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, '')}",
                 *(f"{name}: {value}" for name, value in received if name.lower() not in _HOP_BY_HOP),
                 *(["transfer-encoding: chunked"] if self._is_chunked else []), "connection: close", "", ""]
        return "\r\n".join(lines).encode("latin-1")

    async def _part(self, answer: Exchange) -> bytes:
        part = await answer.read()
        if not self._is_chunked:
            return part
        # In chunks, a reader has each part at once.
        self._is_chunked = bool(part)
        return b"%x\r\n%b\r\n" % (len(part), part)


class TlsSocket(Socket):
    """In the place of `ssl.SSLSocket`."""

    scheme = "https"

    def __init__(self, plain: Socket) -> None:
        self.__dict__.update(plain.__dict__)

    @property
    def _sslobj(self) -> TlsSocket:
        return self

    def getpeercert(self, binary_form: bool = False) -> Any:
        """The host has seen a certificate of this name, or there is no connection."""
        return b"" if binary_form else {"subjectAltName": (("DNS", self.getpeername()[0]),)}

    def selected_alpn_protocol(self) -> str | None:
        return None

    def version(self) -> str:
        return "TLSv1.3"

    def cipher(self) -> None:
        return None

    def unwrap(self) -> TlsSocket:
        return self


class _Reader(io.RawIOBase):
    def __init__(self, of: Socket) -> None:
        self._of = of

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._of.recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._of.reader_closed()


def _parsed(request: bytearray) -> tuple[str, str, list[tuple[str, str]], bytes | None] | None:
    """Method, target, headers and body, if all of it is there."""
    end = request.find(b"\r\n\r\n")
    if end < 0:
        if len(request) > _MAX_HEAD:
            raise OSError("the runner's sockets speak HTTP only")
        return None
    line, *lines = request[:end].decode("latin-1").split("\r\n")
    words = line.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise OSError("the runner's sockets speak HTTP only")
    pairs = [(name, value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines)]
    named = {name.lower(): value for name, value in pairs}
    headers = [(name, value) for name, value in pairs if name.lower() not in _HOP_BY_HOP and name.lower() != "content-length"]
    start = end + 4
    try:
        if "chunked" in named.get("transfer-encoding", "").lower():
            # Clients send no trailers.
            if not request.endswith(b"0\r\n\r\n"):
                return None
            content = _dechunked(request, start)
            return None if content is None else (words[0], words[1], headers, content)
        length = int(named.get("content-length", 0))
    except ValueError as wrong:
        raise OSError(f"the request is no HTTP: {wrong}") from None
    if len(request) < start + length:
        return None
    if len(request) > start + length:
        raise OSError("another request was written before the answer to this one was read")
    return words[0], words[1], headers, bytes(request[start:]) if "content-length" in named else None


def _dechunked(data: bytearray, at: int) -> bytes | None:
    """The content of chunks, if the last one is there."""
    content = bytearray()
    while (end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:end].split(b";")[0], 16)
        if size == 0:
            return bytes(content)
        if len(data) < end + 2 + size + 2:
            return None
        content += data[end + 2 : end + 2 + size]
        at = end + 2 + size + 2
    return None


def _getaddrinfo(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> list[Any]:
    """The host resolves names, so a name is its own address."""
    name = host.decode() if isinstance(host, bytes) else host or "localhost"
    number = {"http": 80, "https": 443}.get(port, port)
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (name, int(number or 0)))]


def _create_connection(address: Any, timeout: Any = None, source_address: Any = None, **_: Any) -> Socket:
    made = Socket()
    if isinstance(timeout, (int, float)):
        made.settimeout(timeout)
    made.connect(address)
    return made


def install() -> None:
    """While the component is built: libraries find these."""
    socket.socket = Socket  # type: ignore[misc, assignment]
    socket.create_connection = _create_connection  # type: ignore[assignment]
    socket.getaddrinfo = _getaddrinfo  # type: ignore[assignment]
    socket.has_ipv6 = False
    sys.modules["ssl"] = _ssl()


class SSLError(OSError):
    """As in the standard library. Nothing raises it."""


class SSLContext:
    """Takes what a real one takes. The host alone says which certificates are good."""

    def __init__(self, protocol: int | None = None) -> None:
        self.protocol = protocol
        self.check_hostname = True
        self.verify_mode = 2
        self.verify_flags = 0
        self.options = 0
        self.minimum_version = self.maximum_version = 0
        self.post_handshake_auth = False
        self.hostname_checks_common_name = False
        self.keylog_filename: str | None = None

    def load_verify_locations(self, cafile: Any = None, capath: Any = None, cadata: Any = None) -> None:
        pass

    def load_default_certs(self, purpose: Any = None) -> None:
        pass

    def set_default_verify_paths(self) -> None:
        pass

    def load_cert_chain(self, certfile: Any, keyfile: Any = None, password: Any = None) -> None:
        raise SSLError("an agent has no certificate of its own")

    def set_alpn_protocols(self, protocols: Any) -> None:
        pass

    def set_ciphers(self, ciphers: str) -> None:
        pass

    def cert_store_stats(self) -> dict[str, int]:
        return {"x509": 0, "crl": 0, "x509_ca": 0}

    def get_ca_certs(self, binary_form: bool = False) -> list[Any]:
        return []

    def wrap_socket(self, sock: Socket, *_: Any, **__: Any) -> TlsSocket:
        if self.verify_mode == 0:
            raise SSLError("the host checks certificates, whatever an agent wants; a CA of one's own is a key of the configuration")
        return TlsSocket(sock)


def _ssl() -> ModuleType:
    """The module `ssl`, as far as clients need it."""
    module = ModuleType("ssl", "Encryption is the host's work: this has the names that clients want.")
    names = {
        "SSLContext": SSLContext, "SSLError": SSLError, "SSLSocket": TlsSocket, "SSLObject": TlsSocket,
        "create_default_context": lambda *_, **__: SSLContext(),
        "_create_default_https_context": lambda *_, **__: SSLContext(),
        "_create_unverified_context": lambda *_, **__: SSLContext(),
        "get_default_verify_paths": lambda: None,
        "CERT_NONE": 0, "CERT_OPTIONAL": 1, "CERT_REQUIRED": 2, "PROTOCOL_TLS": 2, "PROTOCOL_SSLv23": 2, "PROTOCOL_TLS_CLIENT": 16,
        "PROTOCOL_TLS_SERVER": 17, "PROTOCOL_TLSv1": 3, "PROTOCOL_TLSv1_1": 4, "PROTOCOL_TLSv1_2": 5,
        "OP_ALL": 0, "OP_NO_SSLv2": 0, "OP_NO_SSLv3": 0, "OP_NO_COMPRESSION": 0, "OP_NO_TICKET": 0, "OP_NO_TLSv1": 0, "OP_NO_TLSv1_1": 0,
        "VERIFY_X509_STRICT": 0, "VERIFY_X509_PARTIAL_CHAIN": 0, "VERIFY_DEFAULT": 0, "HAS_SNI": True, "HAS_ALPN": True,
        "HAS_NEVER_CHECK_COMMON_NAME": True, "HAS_TLSv1_3": True, "OPENSSL_VERSION": "OpenSSL 3.0.0 (in name: the host encrypts)",
        "OPENSSL_VERSION_NUMBER": 0x30000000, "OPENSSL_VERSION_INFO": (3, 0, 0, 0, 0),
    }
    kinds = "SSLZeroReturnError SSLWantReadError SSLWantWriteError SSLSyscallError SSLEOFError SSLCertVerificationError CertificateError"
    errors: dict[str, Any] = {name: type(name, (SSLError,), {"__module__": "ssl"}) for name in kinds.split()}
    version = type("TLSVersion", (), {"MINIMUM_SUPPORTED": -2, "MAXIMUM_SUPPORTED": -1, "SSLv3": 768, "TLSv1": 769, "TLSv1_1": 770,
                                      "TLSv1_2": 771, "TLSv1_3": 772})
    purpose = type("Purpose", (), {"SERVER_AUTH": 1, "CLIENT_AUTH": 2})
    module.__dict__.update(names, **errors, TLSVersion=version, Purpose=purpose)
    return module
