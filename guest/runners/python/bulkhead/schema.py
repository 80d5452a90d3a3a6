"""JSON Schema from Python's annotations, and arguments back from JSON."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

_SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null", dict: "object", list: "array"}


class Mismatch(ValueError):
    """A value does not have the annotated form. The text is for the model."""


def of(annotation: Any) -> dict[str, Any]:
    """The schema of an annotation. What has none allows everything."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        return {**of(arguments[0]), **{"description": text for text in arguments[1:] if isinstance(text, str)}}
    if annotation in _SIMPLE:
        return {"type": _SIMPLE[annotation]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [of(option) for option in arguments]}
    if origin in (list, set, frozenset, Sequence):
        return {"type": "array", "items": of(arguments[0])}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": of(arguments[1])}
    if origin is tuple:
        return {"type": "array", "prefixItems": [of(item) for item in arguments if item is not ...]}
    if isinstance(annotation, type):
        return _of_class(annotation)
    return {}


def _of_class(cls: type) -> dict[str, Any]:
    if issubclass(cls, enum.Enum):
        return {"enum": [member.value for member in cls]}
    if dataclasses.is_dataclass(cls):
        optional = {f.name for f in dataclasses.fields(cls) if not _is_required(f)}
        return object_of(typing.get_type_hints(cls, include_extras=True), optional)
    if typing.is_typeddict(cls):
        optional = set(cls.__optional_keys__)  # type: ignore[attr-defined]
        return object_of(typing.get_type_hints(cls, include_extras=True), optional)
    return {}


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def object_of(annotations: dict[str, Any], optional: set[str]) -> dict[str, Any]:
    """The schema of an object with these fields and no others."""
    return {
        "type": "object",
        "properties": {name: of(annotation) for name, annotation in annotations.items()},
        "required": [name for name in annotations if name not in optional],
        "additionalProperties": False,
    }


def read(annotation: Any, value: Any, name: str) -> Any:
    """A value of JSON as the annotation wants it: a dataclass, an enum's member, a set."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        return read(arguments[0], value, name)
    if origin in (Union, types.UnionType):
        return _read_union(arguments, value, name)
    if origin is Literal:
        return _check(value, value in arguments, f"one of {list(arguments)}", name)
    if origin in (list, set, frozenset, tuple, Sequence):
        return _read_array(origin, arguments, value, name)
    if origin in (dict, Mapping):
        _check(value, isinstance(value, dict), "an object", name)
        return {key: read(arguments[1], item, f"{name}.{key}") for key, item in value.items()}
    return _read_class(annotation, value, name) if isinstance(annotation, type) else value


def _read_class(cls: type, value: Any, name: str) -> Any:
    if cls is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if cls in _SIMPLE:
        fits = isinstance(value, cls) and (cls is bool or not isinstance(value, bool))
        return _check(value, fits, _SIMPLE[cls], name)
    if issubclass(cls, enum.Enum):
        members = [member.value for member in cls]
        return cls(_check(value, value in members, f"one of {members}", name))
    if dataclasses.is_dataclass(cls):
        hints = typing.get_type_hints(cls, include_extras=True)
        return cls(**fields(hints, {f.name for f in dataclasses.fields(cls) if not _is_required(f)}, value, name))
    return value


def _read_array(origin: Any, arguments: tuple[Any, ...], value: Any, name: str) -> Any:
    _check(value, isinstance(value, list), "an array", name)
    item = arguments[0] if arguments else Any
    items = [read(item, each, f"{name}[{index}]") for index, each in enumerate(value)] if origin is not tuple else value
    return items if origin in (list, Sequence) else origin(items)


def _read_union(options: tuple[Any, ...], value: Any, name: str) -> Any:
    for option in options:
        try:
            return read(option, value, name)
        except Mismatch:
            continue
    raise Mismatch(f"`{name}` fits none of {[of(option) for option in options]}")


def fields(annotations: dict[str, Any], optional: set[str], value: Any, name: str) -> dict[str, Any]:
    """The fields of an object, each as its annotation wants it."""
    _check(value, isinstance(value, dict), "an object", name)
    if unknown := sorted(value.keys() - annotations.keys()):
        raise Mismatch(f"{name} takes no {', '.join(unknown)}")
    if missing := sorted(annotations.keys() - optional - value.keys()):
        raise Mismatch(f"{name} wants {', '.join(missing)}")
    return {key: read(annotations[key], item, key) for key, item in value.items()}


def _check(value: Any, fits: bool, wanted: str, name: str) -> Any:
    if not fits:
        raise Mismatch(f"`{name}` is {type(value).__name__}, wanted {wanted}")
    return value
