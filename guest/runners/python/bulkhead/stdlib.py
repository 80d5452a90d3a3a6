"""The standard library without files: modules in the image, and compressed code of those that agents rarely need.

A component has no file system of its own. What is imported while it is built is a part of its image, which all agents
share; the rest is imported from here when an agent wants it.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import json
import marshal
import os
import sys
import zlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from . import source

#: In the image.
IMPORTED = """
abc argparse array ast asyncio atexit base64 binascii bisect builtins calendar cmath codecs collections collections.abc
concurrent.futures configparser contextlib contextvars copy copyreg csv dataclasses datetime decimal difflib email.message
email.parser email.utils enum errno fnmatch fractions functools gc glob gzip hashlib heapq hmac html html.entities
html.parser http inspect importlib.metadata importlib.resources io ipaddress itertools json keyword linecache locale logging math
mimetypes numbers operator os os.path pathlib pickle pkgutil platform posixpath pprint queue random re reprlib sched
secrets select shlex shutil signal socket sqlite3 stat statistics string string.templatelib struct subprocess sys sysconfig
tempfile textwrap threading time timeit token tokenize tomllib traceback types typing unicodedata unittest urllib.error
urllib.parse urllib.request uuid warnings weakref xml.etree.ElementTree zipfile zlib zoneinfo
""".split()

#: What is left out, and why. The text continues `No module named 'x'`.
MISSING = {
    name: why
    for names, why in {
        "_ssl": "connections to the network are the host's work, which encrypts them",
        "ctypes cffi mmap fcntl resource pwd grp termios tty pty readline syslog curses": "the runner has no native libraries and no Unix",
        "bz2 lzma compression.zstd": "the runner is built without it; zlib and gzip are there",
        "tkinter turtle idlelib": "the runner has no screen",
        "test ensurepip venv lib2to3 pydoc_data turtledemo": "the runner leaves it out",
    }.items()
    for name in names.split()
}

_NOWHERE = "neither in the agent's source nor in its `vendor` folder (packages of pure Python only)"

_LEFT_OUT = {"test", "idlelib", "tkinter", "turtledemo", "turtle", "ensurepip", "venv", "pydoc_data", "curses", "ctypes", "antigravity",
             "this", "__phello__", "lib2to3", "site-packages", "lib-dynload", "config-3.14-wasm32-wasi"}

#: Module name: whether it is a package, and its compressed code.
_stored: dict[str, tuple[bool, bytes]] = {}


def why_missing(name: str) -> str:
    """What to add to `No module named ...`."""
    if name in MISSING:
        return f": {MISSING[name]}"
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return ": this runner's standard library has no such module"
    if top in sys.modules:
        return ""
    beside = "files beside it, and its `vendor` folder (packages of pure Python only),"
    return f": {source.alone(beside) or _NOWHERE}"


def collect() -> None:
    """While the component is built: imports what belongs into the image, keeps the rest, and lets go of the files."""
    for name in IMPORTED:
        importlib.import_module(name)
    home = os.path.dirname(os.path.dirname(json.__file__))
    for name, file in sorted(_modules_in(home, "")):
        if name not in sys.modules and name not in MISSING:
            _store(name, file)
    sys.path[:] = []
    sys.path_importer_cache.clear()
    sys.meta_path.append(_Finder())


def _modules_in(folder: str, prefix: str) -> Any:
    for entry in os.listdir(folder):
        name, path = entry.removesuffix(".py"), f"{folder}/{entry}"
        if entry in _LEFT_OUT or name in _LEFT_OUT:
            continue
        if entry.endswith(".py") and name != "__init__" and name != "__main__":
            yield f"{prefix}{name}", path
        elif os.path.exists(f"{path}/__init__.py"):
            yield f"{prefix}{name}", f"{path}/__init__.py"
            yield from _modules_in(path, f"{prefix}{name}.")


def _store(name: str, file: str) -> None:
    with open(file, "rb") as opened:
        code = compile(opened.read(), file, "exec", dont_inherit=True)
    _stored[name] = file.endswith("/__init__.py"), zlib.compress(marshal.dumps(code), 9)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if fullname not in _stored:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin="stdlib", is_package=_stored[fullname][0])

    def exec_module(self, module: ModuleType) -> None:
        exec(marshal.loads(zlib.decompress(_stored[module.__name__][1])), module.__dict__)
