"""Tools: Python functions that a language model may call."""

from __future__ import annotations

import inspect
import json
import re
import typing
from collections.abc import Callable
from typing import Any

from wit_world.imports import host, model

from . import bounds, schema
from .errors import AgentError, HostError, call

_SECTION = re.compile(r"^(Args|Arguments|Parameters|Returns|Raises|Yields|Example|Examples):\s*$", re.MULTILINE)
_PARAMETER = re.compile(r"^\s{2,}(\w+)\s*(?:\([^)]*\))?:\s*(.+(?:\n\s{6,}.+)*)", re.MULTILINE)


class Tool:
    """A function with what a model has to know of it. Calling it calls the function."""

    def __init__(self, function: Callable[..., Any], name: str | None = None, description: str | None = None) -> None:
        self.function = function
        self.name = name or function.__name__
        self.description, self._documented = _documentation(function, description)
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        parameters = inspect.signature(function).parameters
        self.wants_context = "ctx" in parameters
        self._parameters = {n: p for n, p in parameters.items() if n != "ctx" and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
        self._optional = {name for name, p in self._parameters.items() if p.default is not p.empty}

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.function(*arguments, **named)

    @property
    def annotations(self) -> dict[str, Any]:
        """Read when they are needed: a name in them may be defined further down."""
        hints = typing.get_type_hints(self.function, include_extras=True)
        return {name: hints.get(name, str) for name in self._parameters}

    @property
    def parameters(self) -> dict[str, Any]:
        """JSON Schema of the arguments."""
        found = schema.object_of(self.annotations, self._optional)
        for name, text in self._documented.items():
            found["properties"].get(name, {}).setdefault("description", text)
        return found

    def offer(self) -> model.Tool:
        return model.Tool(self.name, self.description, json.dumps(self.parameters, ensure_ascii=False))

    def call(self, ctx: Any, arguments: str) -> Any:
        """Calls the function with arguments that a model wrote, which are JSON. Of an asynchronous one: its coroutine."""
        try:
            value = json.loads(arguments or "{}")
        except ValueError as error:
            raise schema.Mismatch(f"arguments of `{self.name}` are no JSON: {error}") from None
        named = schema.fields(self.annotations, self._optional, value, f"`{self.name}`")
        return call(self.function, ctx, **named) if self.wants_context else call(self.function, **named)


def tool(function: Any = None, *, name: str | None = None, description: str | None = None) -> Any:
    """Makes a function a tool: ``@tool``, or ``@tool(name=..., description=...)``.

    The model sees its name, its docstring, and a schema made of its signature; descriptions of parameters come from
    ``Annotated[str, "..."]`` or from an ``Args:`` section of the docstring. A parameter ``ctx`` gets the agent's context.
    What it returns is the result: text, or what can be written as JSON; None is ``done``.
    """
    if function is None:
        return lambda function: Tool(function, name, description)
    return Tool(function, name, description)


def result_text(result: Any) -> str:
    """What a tool returned, for the model."""
    if result is None:
        return "done"
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=str)


def failure_text(name: str, error: Exception) -> str:
    """What the model learns of a failure that it can act on. Any other is a defect, and is raised."""
    if getattr(error, "fatal", False) or not isinstance(error, (schema.Mismatch, AgentError, HostError)):
        raise error
    bounds.log(host.Level.DEBUG, f"tool {name} failed: {error}", {"code": getattr(error, "code", "bad-arguments")})
    return f"error: {error}"


def _documentation(function: Any, description: str | None) -> tuple[str, dict[str, str]]:
    text = inspect.getdoc(function) or ""
    head, *sections = _SECTION.split(text)
    documented = {}
    for title, body in zip(sections[::2], sections[1::2]):
        if title.startswith(("Arg", "Param")):
            documented = {name: " ".join(words.split()) for name, words in _PARAMETER.findall(body)}
    return description or head.strip(), documented
