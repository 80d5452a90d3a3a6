"""What is too large for the host. One call may copy so much out of the agent and not more: past that the agent would end, before
the host could refuse or cut what it got.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from wit_world.imports import host, model, tools

from .unicode import utf8

_MIB = 1024 * 1024
MAX_EVENT_BYTES = 64 * 1024
MAX_EVENT_NAME = 64
MAX_BODY_BYTES = _MIB
#: The host keeps 1 MiB of a reply. It gets a character more, and so sees that it cuts.
MAX_REPLY_BYTES = _MIB + 4
#: Characters. The host cuts below these.
MAX_LINE, MAX_NAME, MAX_VALUE = 16 * 1024, 256, 2 * 1024
#: As many as the host takes.
MAX_FIELDS = 32
#: Arguments and environment of a program together.
MAX_COMMAND_BYTES = 128 * 1024
#: What a call copies of any agent.
_LEAST = _MIB + _MIB // 4
#: Beside its texts, of a record.
_RECORD = 256


def is_over(text: str, most: int) -> bool:
    """Whether a text has more bytes."""
    # A character has one to four.
    return len(text) > most or len(text) * 4 > most and len(utf8(text)) > most


def log(level: host.Level, message: str, fields: Mapping[str, str] = {}) -> None:
    """Writes a line of the log."""
    kept = [(name[:MAX_NAME], value[:MAX_VALUE]) for name, value in fields.items()][:MAX_FIELDS]
    host.log(level, message[:MAX_LINE], kept)


def cut(text: str, most: int) -> str:
    """As many whole characters of a text as have so many bytes."""
    return utf8(text)[:most].decode(errors="ignore") if is_over(text, most) else text


def too_large(size: int) -> int | None:
    """What a call may copy, if this is more."""
    if size <= _LEAST:
        return None
    most = min(max(host.memory().limit_bytes // 10, _LEAST), 4 * _MIB)
    return most if size > most else None


def request_bytes(request: model.Request) -> int:
    """What the host copies of a question to a model, about."""
    declared = sum(size_of((tool.name, tool.description, tool.parameters)) for tool in request.tools)
    schema = getattr(request.response_format, "value", None)
    return sum(map(_message_bytes, request.messages)) + declared + size_of((request.extra, schema))


def command_bytes(command: tools.Command) -> int:
    """What the host counts of the arguments and the environment of a program."""
    variables = sum(len(utf8(name)) + len(utf8(value)) + 2 for name, value in command.environment)
    return variables + sum(len(utf8(argument)) + 1 for argument in command.arguments)


def _message_bytes(message: model.ChatMessage) -> int:
    calls = sum(size_of((call.id, call.name, call.arguments)) for call in message.tool_calls)
    contents = (content.value for content in message.content)
    parts: Iterable[Any] = (part.data if isinstance(part, model.ImageData) else part for part in contents)
    return calls + size_of((message.reasoning_state, *parts))


def size_of(parts: Iterable[str | bytes | None]) -> int:
    """What the host copies of a record with these parts, about."""
    return _RECORD + sum(len(utf8(part)) if isinstance(part, str) else len(part or b"") for part in parts)
