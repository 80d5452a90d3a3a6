"""What the author's functions get: the context and the message."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wit_world.imports import agent_types, host, tools

from . import bounds, loop, programs, workspace
from .chat import Chat, History
from .errors import calling, case_of, host_error

if TYPE_CHECKING:
    from .agent import Agent

#: What a turn ends with, when it is more than a reply: see `done` and `proceed`.
Outcome = agent_types.Outcome


def done(reply: str | None = None) -> Outcome:
    """Return it from the agent's function when the work is finished: the incarnation ends as `completed`, and its state is
    removed.
    """
    return Outcome(reply, agent_types.Next.DONE)


def proceed(reply: str | None = None) -> Outcome:
    """Return it for another turn at once, for the same message. In between the host may take a snapshot, or stop the agent."""
    return Outcome(reply, agent_types.Next.CONTINUE)


@dataclass(frozen=True)
class Me:
    """Who the agent is, and what it was asked to do."""

    id: str
    role: str
    name: str
    town: str | None
    #: The repository that it works on.
    rig: str | None
    #: Counts the lives of this agent's id upward.
    incarnation: int
    #: What to do first; it is the first message too.
    prompt: str
    #: Whether state and history come from an earlier incarnation.
    restored: bool


@dataclass(unsafe_hash=True)
class Message:
    """One message of the mailbox."""

    id: str
    text: str
    #: ``operator``, ``agent``, ``prompt``, ``nudge`` or ``continuation``.
    sender: str
    #: Of an agent its id, of a nudge the nudge's.
    sender_id: str | None
    #: More than 1: an earlier delivery ended with the incarnation, and some of its work may be done.
    attempt: int

    @classmethod
    def of(cls, raw: agent_types.Message) -> Message:
        return cls(raw.id, raw.body, case_of(raw.sender), getattr(raw.sender, "value", None), raw.attempt)


def _bounded(call: str, text: str, most: int) -> None:
    """Refuses what the host would refuse."""
    if bounds.is_over(text, most):
        raise host_error(call, "too-large", most)


class Log:
    """Writes structured log lines: ``ctx.log("text", key=value)``, ``ctx.log.warn("text")``."""

    def __call__(self, message: object, **fields: object) -> None:
        self._write(host.Level.INFO, message, fields)

    def trace(self, message: object, **fields: object) -> None:
        self._write(host.Level.TRACE, message, fields)

    def debug(self, message: object, **fields: object) -> None:
        self._write(host.Level.DEBUG, message, fields)

    def info(self, message: object, **fields: object) -> None:
        self._write(host.Level.INFO, message, fields)

    def warn(self, message: object, **fields: object) -> None:
        self._write(host.Level.WARN, message, fields)

    def error(self, message: object, **fields: object) -> None:
        self._write(host.Level.ERROR, message, fields)

    def _write(self, level: host.Level, message: object, fields: Mapping[str, object]) -> None:
        bounds.log(level, str(message), {key: str(value) for key, value in fields.items()})


class Context:
    """What an agent has and may do. One for each incarnation."""

    log = Log()
    workspace = workspace

    done = staticmethod(done)
    proceed = staticmethod(proceed)

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        #: Kept in the snapshot: what JSON can hold.
        self.state: Any = agent.new_state()
        #: The conversation with the model, kept in the snapshot.
        self.history = History([], agent.max_messages, agent.max_bytes)
        self.chat = Chat(self)
        self._me: Me | None = None
        self._settings: host.AgentSettings | None = None

    @property
    def me(self) -> Me:
        if self._me is None:
            raise RuntimeError("ctx.me is not known before the start")
        return self._me

    @property
    def settings(self) -> host.AgentSettings:
        """What to go by in this turn: ``model``, ``small_model``, ``system_prompt``, ``dashboard_context``, ``revision``."""
        self._settings = self._settings or host.settings()
        return self._settings

    @property
    def deadline(self) -> float:
        """Seconds of wall time that this call may still take."""
        return host.deadline() / 1000

    @property
    def memory(self) -> host.MemoryUsage:
        """``used_bytes``, ``host_bytes``, ``peak_bytes``, ``soft_bytes``, ``limit_bytes``, as the host counts."""
        return host.memory()

    def config(self, key: str, default: str | None = None) -> str | None:
        """A value of the configuration. The town may change it between two calls. May be a secret: do not log it."""
        value = host.config(key)
        return default if value is None else value

    def emit(self, name: str, data: Any = None) -> None:
        """Publishes an event. ``data`` becomes JSON of at most 64 KiB. Raises `HostError`."""
        text = json.dumps(data, ensure_ascii=False)
        if len(name) > bounds.MAX_EVENT_NAME:
            raise host_error("emit", "invalid", "event name must have 1 to 64 characters")
        _bounded("emit", text, bounds.MAX_EVENT_BYTES)
        calling(host_error, host.emit, host.Event(name, text))

    def send(self, agent_id: str, body: Any) -> str:
        """Puts a message into another agent's mailbox; what is no text goes as JSON. Returns its id. Raises `HostError`."""
        text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
        _bounded("send", text, bounds.MAX_BODY_BYTES)
        return calling(host_error, host.send, agent_id, text)

    def nudges(self) -> list[host.Nudge]:
        """Takes the nudges that wait: ``id``, ``body``, ``source``. Each is returned once."""
        return host.nudges()

    def active_tools(self, *names: str) -> None:
        """Says what the agent works with right now, for status displays."""
        host.set_active_tools(list(names))

    def wait_until(self, awaitable: Awaitable[Any]) -> Awaitable[Any]:
        """Has the turn end only when this has ended, within the turn's time. Who sent the message waits as long."""
        return loop.loop().wait_until(awaitable)

    def programs(self) -> list[str]:
        """Names of the native programs that this agent may run."""
        return tools.programs()

    def run(self, program: str, args: Sequence[str] = (), *, stdin: str | bytes = b"", **options: Any) -> programs.Finished:
        """Runs a native program to its end, whatever that is. Raises `ToolError` if it was not run.

        Options: ``directory``, ``env``, ``wall`` and ``cpu`` (seconds), ``memory`` and ``output`` (bytes), ``pids``.
        """
        return programs.run(programs.command(program, args, **options), stdin)

    def spawn(self, program: str, args: Sequence[str] = (), **options: Any) -> programs.Child:
        """Starts a native program. Options as those of `run`."""
        return programs.spawn(programs.command(program, args, **options))

    def begin(self, request: agent_types.StartRequest) -> None:
        """Takes over who the agent is."""
        r = request
        self._me = Me(r.agent_id, r.role, r.name, r.town_id, r.rig_id, r.incarnation, r.prompt, r.restored)

    def renew(self) -> None:
        """A new call: settings may have changed."""
        self._settings = None
