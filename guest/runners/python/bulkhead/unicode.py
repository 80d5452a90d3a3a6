"""Text for the host. Text of Python may have halves of surrogate pairs, as `json.loads` makes them of ``"\\ud83d"``. That is no Unicode:
UTF-8 cannot hold it, and the component ends when it is to pass it. As in JavaScript it becomes U+FFFD on its way out.
"""

from __future__ import annotations

import codecs
import copy
import dataclasses
import functools
import sys
from io import TextIOWrapper
from types import ModuleType
from typing import Any

from componentize_py_types import Err

#: The name of what `encode`, `print` and `urllib` do with such a half.
REPLACED = "bulkhead-replaced"


def _replaced(error: UnicodeError) -> tuple[bytes, int]:
    """Bytes for halves that are beside each other. Two that belong together become their character."""
    assert isinstance(error, UnicodeEncodeError)
    halves = error.object[error.start:error.end].encode("utf-16-le", "surrogatepass")
    return halves.decode("utf-16-le", "replace").encode(), error.end


codecs.register_error(REPLACED, _replaced)


def install(runtime: ModuleType) -> None:
    """While the component is built: whatever an import of the host gets goes through here. What exports return does in `lifecycle`."""
    real = runtime.call_import

    @functools.wraps(real)
    def call_import(index: int, params: list[Any]) -> Any:
        return real(index, passable(params))

    runtime.call_import = call_import  # type: ignore[attr-defined]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=REPLACED)


def utf8(text: str) -> bytes:
    """Text as bytes."""
    return text.encode(errors=REPLACED)


def well_formed(text: str) -> str:
    """The same text if it is Unicode."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return utf8(text).decode()
    return text


def passable(value: Any) -> Any:
    """A value of the contract with text that can be passed: itself, unless there is something to replace."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, (list, tuple)):
        items = [passable(item) for item in value]
        if all(new is old for new, old in zip(items, value)):
            return value
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, Err):
        return value if (inner := passable(value.value)) is value.value else Err(inner)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _record(value)
    return value


def _record(value: Any) -> Any:
    changed = {name: new for name, old in vars(value).items() if (new := passable(old)) is not old}
    if not changed:
        return value
    record = copy.copy(value)
    vars(record).update(changed)
    return record
