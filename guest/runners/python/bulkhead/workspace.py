"""The repository that the agent works on, in ``/workspace``.

The role has ``git = true``, and the start names a rig. What needs the network is done by the host: the agent has no
credential.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wit_world.imports import workspace as raw

from .errors import calling, kebab, workspace_error


@dataclass
class Change:
    """A changed file. ``staged`` and ``unstaged`` are ``unchanged``, ``modified``, ``added``, ``deleted``, ``untracked``, …"""

    path: str
    before: str | None
    staged: str
    unstaged: str


@dataclass
class Status:
    """What is checked out, and what is changed: at most 1000 files, or ``truncated``."""

    branch: str | None
    head: str | None
    ahead: int
    behind: int
    changes: list[Change]
    truncated: bool


def _call(function: Any, *arguments: Any) -> Any:
    return calling(workspace_error, function, *arguments)


def status() -> Status:
    """What is checked out, and what is changed."""
    tree = _call(raw.status)
    changes = [Change(c.path, c.before, kebab(c.staged.name), kebab(c.unstaged.name)) for c in tree.changes]
    return Status(tree.branch, tree.head, tree.ahead, tree.behind, changes, tree.truncated)


def diff(against: str = "head", max_bytes: int = 1 << 20) -> str:
    """What is changed since ``head``, or since ``upstream``: where the agent's branch left the remote's. Cut at the bound."""
    return _call(raw.diff, raw.Base[against.upper()], max_bytes).text.decode(errors="replace")


def commit(message: str, paths: Sequence[str] = ()) -> str | None:
    """Commits these files, or everything that is not ignored. Returns the commit's id, or None: nothing to commit."""
    return _call(raw.commit, message, list(paths))


def log(max_commits: int = 20) -> list[raw.LogEntry]:
    """The newest commits, at most 1000: ``id``, ``author``, ``time`` (seconds since 1970), ``subject``."""
    return _call(raw.log, max_commits)


def fetch() -> str | None:
    """Fetches the remote's branches. Returns the commit of the one that the agent's branch started from."""
    return _call(raw.fetch)


def rebase() -> str:
    """Puts the agent's commits on top of what was fetched last. Returns the new commit."""
    return _call(raw.rebase)


def push() -> str:
    """Sends the agent's branch to the remote. Returns the commit."""
    return _call(raw.push)


def checkpoint(name: str) -> int:
    """Keeps the tree as it is. Returns its number. At most 20 are kept."""
    return _call(raw.checkpoint, name)


def restore(number: int) -> None:
    """Puts the tree back to a checkpoint."""
    _call(raw.restore, number)
