"""Exceptions as the host's crash records want them: kind, message, the author's frames, causes."""

from __future__ import annotations

import importlib
import itertools
import linecache
import os
import traceback
from collections import deque
from types import CodeType, TracebackType
from typing import Any

from wit_world.imports import agent_types, host

from . import source
from .errors import AgentError

MAX_EXCEPTIONS = 8
MAX_FRAMES = 64
MAX_MESSAGE = 4000
_MAX_LOGGED = 7000
_MAX_LOGGED_FRAMES = 30

#: Code that no author has to look at.
_HIDDEN = (f"{os.path.dirname(__file__)}/", f"{os.path.dirname(importlib.__file__)}/", "<frozen importlib")

#: Let go of when memory is used up, so that the report of it has some.
_reserve: bytearray | None = bytearray(256 * 1024)


def agent_error(error: BaseException) -> agent_types.AgentError:
    """What the host gets for an exception that left the author's code."""
    if isinstance(error, AgentError):
        return agent_types.AgentError(str(error.code), str(error.message)[:MAX_MESSAGE], bool(error.fatal), [])
    if isinstance(error, MemoryError):
        _free_memory(error)
    exceptions = records(error)
    _log_traceback(error)
    return agent_types.AgentError("exception", _headline(exceptions[0].kind, exceptions[0].message), True, exceptions)


def unhandled(error: BaseException) -> None:
    """Reports an exception that nobody caught and that ended no call."""
    host.unhandled_rejection(records(error))


def unawaited(coroutine: Any) -> None:
    """Reports a coroutine that was made, never awaited, and is gone."""
    places = [_frame(function, file, line, None) for file, line, function in getattr(coroutine, "cr_origin", None) or ()
              if source.is_authors(file)]
    code = getattr(coroutine, "cr_code", None)
    if code and not places and source.is_authors(code.co_filename):
        places = [_definition(code)]
    message = f"coroutine '{coroutine.__qualname__}' was never awaited"
    host.unhandled_rejection([agent_types.Exception("RuntimeWarning", message, places)])


def records(error: BaseException) -> list[agent_types.Exception]:
    """The exception, then what caused it, and so on; of a group, what is in it first."""
    return [_record(error) for error in _chain(error)]


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    waiting = [error]
    while waiting and len(found) < MAX_EXCEPTIONS:
        error = waiting.pop(0)
        if error not in found:
            found.append(error)
            waiting = [*_causes(error), *waiting]
    return found


def _causes(error: BaseException) -> list[BaseException]:
    inside = list(error.exceptions[:MAX_EXCEPTIONS]) if isinstance(error, BaseExceptionGroup) else []
    cause = error.__cause__ if error.__cause__ or error.__suppress_context__ else error.__context__
    return [*inside, cause] if cause else inside


def _record(error: BaseException) -> agent_types.Exception:
    return agent_types.Exception(type(error).__name__, _message(error), _frames(error))


def _message(error: BaseException) -> str:
    try:
        text = str(error.msg) if isinstance(error, SyntaxError) else str(error)
    except Exception as failure:
        return f"(its text raised {type(failure).__name__})"
    if isinstance(error, ModuleNotFoundError):
        text += _why_missing(error)
    text = "\n".join([text, *map(str, getattr(error, "__notes__", ()))])
    return text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}…"


def _why_missing(error: ModuleNotFoundError) -> str:
    from .stdlib import why_missing

    return why_missing(error.name or "")


def _frames(error: BaseException) -> list[agent_types.SourceFrame]:
    """Places in the author's code, innermost first."""
    frames = [_traced(trace) for trace in reversed(_author_traces(error.__traceback__))]
    if isinstance(error, SyntaxError) and error.lineno and source.is_authors(error.filename or ""):
        frames.insert(0, _frame(None, error.filename, error.lineno, error.offset or None))
    if place := _place(error):
        frames.insert(0, _definition(place))
    return frames[:MAX_FRAMES]


def _place(error: BaseException) -> CodeType | None:
    """What `located` gave it."""
    place = getattr(error, "__bulkhead_place__", None)
    return place if place and source.is_authors(place.co_filename) else None


def _author_traces(trace: TracebackType | None) -> deque[TracebackType]:
    traces: deque[TracebackType] = deque(maxlen=MAX_FRAMES)
    while trace:
        if source.is_authors(trace.tb_frame.f_code.co_filename):
            traces.append(trace)
        trace = trace.tb_next
    return traces


def _traced(trace: TracebackType) -> agent_types.SourceFrame:
    code = trace.tb_frame.f_code
    line, _, start, _ = next(itertools.islice(code.co_positions(), trace.tb_lasti // 2, None), (None,) * 4)
    line = line or trace.tb_lineno or code.co_firstlineno
    column = None if start is None else _characters(code.co_filename, line, start) + 1
    return _frame(code.co_qualname, code.co_filename, line, column)


def _characters(file: str, line: int, width: int) -> int:
    """Python counts columns in bytes of UTF-8."""
    return len(linecache.getline(file, line).encode()[:width].decode(errors="replace")) or width


def _definition(code: CodeType) -> agent_types.SourceFrame:
    text = linecache.getline(code.co_filename, code.co_firstlineno)
    return _frame(code.co_qualname, code.co_filename, code.co_firstlineno, len(text) - len(text.lstrip()) + 1)


def _frame(function: str | None, file: str, line: int, column: int | None) -> agent_types.SourceFrame:
    return agent_types.SourceFrame(None if function == "<module>" else function, file, max(line, 1), column)


def _free_memory(error: BaseException | None) -> None:
    """The frames of the traceback hold what filled the memory."""
    global _reserve
    _reserve = None
    while error:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def _log_traceback(error: BaseException) -> None:
    """The whole of it, with frames of libraries and lines of code, for the log."""
    texts = [_traceback_text(error) for error in reversed(_chain(error))]
    host.log(host.Level.ERROR, "\n\nwhich led to:\n\n".join(texts)[-_MAX_LOGGED:], [])


def _traceback_text(error: BaseException) -> str:
    """As `traceback` writes it, but for marks below the code, for which it would parse every line."""
    lines = [line for trace in _logged_traces(error.__traceback__) for line in _trace_lines(trace)]
    if place := _place(error):
        lines.append(f'  File "{place.co_filename}", line {place.co_firstlineno}, in {place.co_name}')
    if isinstance(error, SyntaxError):
        lines += [f'  File "{error.filename}", line {error.lineno}', f"    {(error.text or '').strip()}"]
    return "\n".join(["Traceback (most recent call last):", *lines, _headline(type(error).__name__, _message(error))])


def _logged_traces(trace: TracebackType | None) -> list[TracebackType]:
    """From the author's code on, if it is there, and without the SDK and the import machinery."""
    traces: deque[TracebackType] = deque(maxlen=_MAX_LOGGED_FRAMES)
    is_inside = False
    while trace:
        file = trace.tb_frame.f_code.co_filename
        if not is_inside and source.is_authors(file):
            is_inside = True
            traces.clear()
        if not file.startswith(_HIDDEN):
            traces.append(trace)
        trace = trace.tb_next
    return list(traces)


def _trace_lines(trace: TracebackType) -> list[str]:
    code, line = trace.tb_frame.f_code, trace.tb_lineno or 0
    text = linecache.getline(code.co_filename, line).strip() if source.is_authors(code.co_filename) else ""
    return [f'  File "{code.co_filename}", line {line}, in {code.co_name}', *([f"    {text}"] if text else [])]


def _headline(kind: str, message: str) -> str:
    return f"{kind}: {message}" if message else kind
