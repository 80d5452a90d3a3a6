"""Native programs, run by the host under limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from componentize_py_types import Err
from wit_world.imports import tools

from . import bounds
from .errors import ToolError, calling, case_of, refused, tool_error
from .unicode import utf8

_CHUNK = 64 * 1024
#: The most that one write to a stream may have.
_WRITE = 4096


@dataclass
class Finished:
    """A program that has ended."""

    #: ``exited``, ``signalled``, ``wall-deadline``, ``cpu-deadline``, ``memory-limit``, ``output-limit``, ``pids-limit``,
    #: ``workspace-limit``, ``cancelled``, ``evicted``, ``lost``.
    end: str
    #: What it returned, if it exited.
    code: int | None
    #: Of what it died, if it was a signal.
    signal: int | None
    stdout_bytes: bytes
    stderr_bytes: bytes
    #: What it used: ``wall_ms``, ``cpu_ms``, ``peak_memory_bytes``, ``output_bytes``.
    usage: tools.Usage

    @property
    def ok(self) -> bool:
        """It returned 0."""
        return self.code == 0

    @property
    def stdout(self) -> str:
        """What it wrote to stdout. What is no UTF-8 is replaced."""
        return self.stdout_bytes.decode(errors="replace")

    @property
    def stderr(self) -> str:
        """What it wrote to stderr. The same."""
        return self.stderr_bytes.decode(errors="replace")

    def check(self) -> Finished:
        """Raises `ToolError` (``failed``) unless it returned 0."""
        if self.ok:
            return self
        how = f"exited with code {self.code}" if self.end == "exited" else f"ended: {self.end}"
        raise ToolError("failed", f"program {how}: {self.stderr[-500:].strip()}")


class Child:
    """A program that runs. It goes on between turns. Leaving its ``with`` block, or forgetting it, kills it."""

    def __init__(self, raw: tools.Child) -> None:
        self._raw = raw
        self._stdin = raw.stdin()
        self._stdout = raw.stdout()
        self._stderr = raw.stderr()

    def write(self, data: str | bytes) -> None:
        """Writes to its stdin, and waits until that took it."""
        if self._stdin is None:
            raise ValueError("the program's stdin is closed")
        data = utf8(data) if isinstance(data, str) else data
        try:
            for start in range(0, len(data), _WRITE):
                self._stdin.blocking_write_and_flush(data[start : start + _WRITE])
        except Err as broken:
            refused(broken)
            raise ToolError("unavailable", "the program reads its stdin no more") from None

    def close_stdin(self) -> None:
        """Ends its stdin."""
        if self._stdin is not None:
            self._stdin.__exit__(None, None, None)
            self._stdin = None

    def read(self) -> Iterator[bytes]:
        """What it writes to stdout, as it comes, until it closes that."""
        return _chunks(self._stdout)

    def read_stderr(self) -> Iterator[bytes]:
        """The same of stderr."""
        return _chunks(self._stderr)

    def wait(self) -> Finished:
        """Waits for its end. What it wrote stays to be read."""
        ended = self._raw.wait()
        return _finished(ended.end, ended.usage, b"", b"")

    def kill(self) -> None:
        """Kills it, with all that it started."""
        self._raw.kill()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close_stdin()
        for stream in (self._stdout, self._stderr, self._raw):
            if stream is not None:
                stream.__exit__(None, None, None)


def run(command: tools.Command, stdin: str | bytes) -> Finished:
    """Runs a program to its end."""
    data = utf8(stdin) if isinstance(stdin, str) else stdin
    if most := bounds.too_large(len(data) + _size("run", command)):
        text = f"stdin is too large: a call copies at most {most} bytes; spawn the program and write to it"
        raise tool_error("run", "invalid", text)
    raw = calling(tool_error, tools.run, command, data)
    return _finished(raw.end, raw.usage, raw.stdout, raw.stderr)


def spawn(command: tools.Command) -> Child:
    """Starts a program."""
    _size("spawn", command)
    return Child(calling(tool_error, tools.spawn, command))


def _size(what: str, command: tools.Command) -> int:
    """What the host copies of a command, about. What no program takes is refused before a call copies it."""
    if (size := bounds.command_bytes(command)) > (most := bounds.MAX_COMMAND_BYTES):
        raise tool_error(what, "invalid", f"arguments and environment have {size} bytes, at most {most} fit")
    return size


def command(
    program: str,
    args: Sequence[str] = (),
    *,
    directory: str | None = None,
    env: Mapping[str, str] | None = None,
    wall: float | None = None,
    cpu: float | None = None,
    memory: int | None = None,
    pids: int | None = None,
    output: int | None = None,
) -> tools.Command:
    """What to run. ``wall`` and ``cpu`` in seconds, ``memory`` and ``output`` in bytes; None is what the role says."""
    if isinstance(args, str):
        raise TypeError("args is a list of arguments, not one text")
    limits = tools.Limits(memory, _ms(wall), _ms(cpu), pids, output)
    return tools.Command(program, [str(argument) for argument in args], directory, list((env or {}).items()), limits)


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000)


def _finished(end: Any, usage: tools.Usage, stdout: bytes, stderr: bytes) -> Finished:
    case, value = case_of(end), getattr(end, "value", None)
    code, signal = value if case == "exited" else None, value if case == "signalled" else None
    return Finished(case, code, signal, stdout, stderr, usage)


def _chunks(stream: Any) -> Iterator[bytes]:
    while stream is not None:
        try:
            yield stream.blocking_read(_CHUNK)
        except Err as ended:
            if case_of(refused(ended)) == "closed":
                return
            raise ToolError("unavailable", "the program's output broke off") from None
