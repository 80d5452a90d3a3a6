"""Errors with codes. A code is kebab case and stable; a message is one sentence for a person."""

from __future__ import annotations

import functools
import re
from typing import Any

from componentize_py_types import Err


_MAX_CODE = 64
_KEBAB_CASE = re.compile("[a-z][a-z0-9]*(-[a-z0-9]+)*")


class AgentError(Exception):
    """A failure that the agent reports about itself.

    Raise it where something went wrong that is no mistake in the code. Without ``fatal`` it fails this turn only, and
    the agent takes the next message; with ``fatal``, and always in a start hook, it ends the incarnation.
    """

    def __init__(self, code: str, message: str, fatal: bool = False) -> None:
        super().__init__(message)
        if len(code) > _MAX_CODE or not _KEBAB_CASE.fullmatch(code):
            what = f'at most {_MAX_CODE} lower-case letters, digits and "-", as in "bad-input"'
            raise ValueError(f"the code of an AgentError is {what}, not {code[:100]!r}")
        self.code = code
        self.message = message
        self.fatal = fatal


class HostError(Exception):
    """The host refused a call. If nobody catches it, it ends the incarnation as every other exception does.

    ``code`` is the contract's word: ``invalid``, ``too-large``, ``not-found``, ``unavailable`` or ``rate-limited``.
    """

    def __init__(self, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        #: Seconds after which another try makes sense. Of ``rate-limited`` only.
        self.retry_after = retry_after


class ToolError(HostError):
    """A native program was not run (``invalid``, ``denied``, ``not-found``, ``unavailable``), or it ``failed``."""


class WorkspaceError(HostError):
    """Git did not do it: ``invalid``, ``conflict``, ``rejected``, ``unclean``, ``too-large``, ``remote-failed``,
    ``unavailable``.
    """


class ModelError(AgentError):
    """A language model gave no answer. If nobody catches it, it fails the turn, and the agent stays alive.

    Codes: ``model-unavailable`` (what may pass), ``model-refused``, ``model-bad-answer``, ``model-denied``,
    ``model-invalid``, ``model-cancelled``, ``budget-exceeded``.
    """

    def __init__(self, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(code, message)
        #: Seconds after which there is room again, if that is known.
        self.retry_after = retry_after


class FetchError(AgentError, OSError):
    """There is no answer to a request. If nobody catches it, it fails the turn, and the agent stays alive.

    Codes: ``http-denied`` (by the role's ``http_allow``), ``http-invalid``, ``http-timeout``, ``http-unavailable`` (no
    connection), ``http-broken``, ``http-too-large``, ``http-status`` (`Response.raise_for_status`). It is an `OSError` too, as
    libraries of Python expect it.
    """


def call(function: Any, *arguments: Any, **named: Any) -> Any:
    """Calls one of the author's functions. That it does not take these arguments is an exception at its place."""
    try:
        return function(*arguments, **named)
    except TypeError as error:
        if error.__traceback__ is None or error.__traceback__.tb_next is None:
            located(error, function)
        raise


def located(error: BaseException, function: Any) -> BaseException:
    """Gives an exception that comes of the SDK a place in the author's code: where the function begins."""
    error.__bulkhead_place__ = getattr(function, "__code__", None)  # type: ignore[attr-defined]
    return error


def calling(raise_as: Any, function: Any, *arguments: Any) -> Any:
    """Calls the host. A refusal is raised as ``raise_as(function's name, case, payload)`` makes it."""
    try:
        return function(*arguments)
    except Err as error:
        refusal = refused(error)
    raise raise_as(function.__name__, case_of(refusal), getattr(refusal, "value", None))


def refused(error: Err) -> Any:
    """What the host said, for one who catches it. The traceback and the frame that raised it hold each other, and with them
    whatever all callers have; without the traceback that is free at once, and not at some collection of garbage.
    """
    error.with_traceback(None)
    return error.value


def case_of(value: Any) -> str:
    """The case of a variant of the bindings: ``HostError_TooLarge`` is ``too-large``."""
    return _case_of_type(type(value))


@functools.cache
def _case_of_type(of: type) -> str:
    return kebab(of.__name__.partition("_")[2])


def kebab(name: str) -> str:
    """``TooLarge`` is ``too-large``, and so is ``TOO_LARGE``."""
    if name.isupper():
        return name.lower().replace("_", "-")
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).strip("-_")


def host_error(call: str, case: str, payload: Any) -> HostError:
    """The exception for a ``host-error`` of the contract."""
    text = {
        "invalid": f"invalid argument: {payload}",
        "too-large": f"larger than {payload} bytes",
        "not-found": f"no such agent: {payload}",
        "unavailable": f"not available now: {payload}",
        "rate-limited": f"rate used up, try again in {payload} ms",
    }[case]
    return HostError(case, f"{call}: {text}", payload / 1000 if case == "rate-limited" else None)


_MODEL_CODES = {"unavailable": "model-unavailable", "rate-limited": "model-unavailable", "timeout": "model-unavailable",
                "rejected": "model-refused", "budget-exceeded": "budget-exceeded"}


def model_error(_call: str, case: str, payload: Any) -> ModelError:
    """The exception for a ``model-error`` of the contract."""
    retry_ms = None
    match case:
        case "budget-exceeded":
            message, retry_ms = f"budget exceeded: {payload.message}", payload.retry_ms
        case "rate-limited":
            message, retry_ms = "model is rate limited", payload
        case "rejected":
            message = f"model refused the request with status {payload.status}: {payload.message}"
        case "cancelled":
            message = "answer of the model was cancelled"
        case _:
            message = f"model {case.replace('-', ' ')}: {payload}"
    return ModelError(_MODEL_CODES.get(case, f"model-{case}"), message, None if retry_ms is None else retry_ms / 1000)


def tool_error(call: str, case: str, payload: Any) -> ToolError:
    """The exception for a ``tool-error`` of the contract."""
    return ToolError(case, f"{call}: {payload}")


def workspace_error(call: str, case: str, payload: Any) -> WorkspaceError:
    """The exception for a ``workspace-error`` of the contract."""
    what = f"conflict in {', '.join(payload)}" if case == "conflict" else str(payload)
    return WorkspaceError(case, f"{call}: {what}")
