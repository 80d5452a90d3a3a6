"""The agent's source code: files in memory, and how Python imports them."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import linecache
import posixpath
import sys
from collections.abc import Iterable, Sequence
from importlib.resources.abc import Traversable, TraversableResources
from io import BytesIO, TextIOWrapper
from types import ModuleType
from typing import Any

#: What nobody may replace: the interpreter and this SDK stand on it.
_RESERVED = {*sys.builtin_module_names, "asyncio", "bulkhead", "componentize_py_types", "importlib", "io", "json", "linecache",
             "os", "runner", "traceback", "typing", "warnings", "wit_world"}


class Source:
    """The files of one agent."""

    def __init__(self, entry: str, files: dict[str, bytes]) -> None:
        self.entry = entry
        self.files = files
        self.root, self.name = _place_of(entry, files)
        self.roots = list(dict.fromkeys([self.root, _join(self.root, "vendor"), "vendor"]))
        self.folders = {folder for path in files for folder in _parents(path)}

    def find(self, name: str, places: Sequence[str]) -> tuple[str, bool] | None:
        """The path of a module's file and whether it is a package; of a package without a file its folder."""
        for place in places:
            path = _join(place, name)
            if f"{path}/__init__.py" in self.files:
                return f"{path}/__init__.py", True
            if f"{path}.py" in self.files:
                return f"{path}.py", False
        folders = (_join(place, name) for place in places)
        return next(((folder, True) for folder in folders if folder in self.folders), None)

    def top_names(self) -> set[str]:
        """Names of the modules beside the entry, which go before those of the standard library."""
        prefix = f"{self.root}/" if self.root else ""
        inside = (path.removeprefix(prefix) for path in self.files if path.startswith(prefix) and path.endswith(".py"))
        return {path.partition("/")[0].removesuffix(".py") for path in inside}


#: The agent's, once it is known.
current: Source | None = None


def is_authors(file: str) -> bool:
    """Whether code of this file name was written by the agent's author, or is vendored by them."""
    return current is not None and file in current.files


def text_of(path: str) -> str:
    """A file of the agent's source as text: a prompt, a table. ``path`` is relative to the source's folder."""
    if current is None or path not in current.files:
        why = alone("files beside it")
        raise FileNotFoundError(f"no such file in the agent's source: {path}{why and f' ({why})'}")
    return current.files[path].decode()


def alone(beside: str) -> str:
    """Why something may be missing that the author sees beside the source. Empty: that is a directory."""
    if current is None or len(current.files) != 1:
        return ""
    return f"the agent's source has only the file {current.entry}; {beside} are a part of it where `source` of the role names their directory"


def load(source: Source) -> ModuleType:
    """Makes the files importable, and imports the entry."""
    global current
    current = source
    sys.meta_path.insert(0, Finder(source))
    _make_way(source.top_names())
    return importlib.import_module(source.name)


def unload() -> None:
    """While the component is built: forgets the files, and what was imported from them."""
    global current
    assert current is not None
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, Finder)]
    for name in [name for name, module in sys.modules.items() if isinstance(getattr(module, "__loader__", None), Loader)]:
        del sys.modules[name]
    for file in current.files:
        linecache.cache.pop(file, None)
    current = None


def _make_way(names: Iterable[str]) -> None:
    """Forgets imported modules of the standard library that have the names of the author's."""
    for name in names:
        if name in _RESERVED:
            raise ImportError(f"`{name}.py` has the name of a module that the interpreter needs; rename it", name=name)
    _forget(names)


def _forget(names: Iterable[str]) -> None:
    # To look at each name would write its reference count, and copy a page of the image for most of them.
    for name in sys.modules.keys() & names:
        for loaded in [loaded for loaded in sys.modules if loaded == name or loaded.startswith(f"{name}.")]:
            del sys.modules[loaded]


class Finder(importlib.abc.MetaPathFinder):
    """Finds modules among the agent's files. Paths of packages are relative, as the files' paths are."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        places = self._source.roots if path is None else path
        found = self._source.find(fullname.rpartition(".")[2], places)
        if found is None:
            return None
        file, is_package = found
        if file not in self._source.files:
            spec = importlib.machinery.ModuleSpec(fullname, Loader(self._source, None), is_package=True)
            spec.submodule_search_locations = [file]
            return spec
        spec = importlib.machinery.ModuleSpec(fullname, Loader(self._source, file), origin=file, is_package=is_package)
        spec.has_location = True
        if is_package:
            spec.submodule_search_locations = [posixpath.dirname(file)]
        return spec


class Loader(importlib.abc.InspectLoader):
    """Runs one file. The names in its tracebacks are the files' paths."""

    def __init__(self, source: Source, file: str | None) -> None:
        self._source = source
        self._file = file

    def exec_module(self, module: ModuleType) -> None:
        if self._file is not None:
            exec(self.get_code(module.__name__), module.__dict__)

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self._source.files[self._file]) if self._file else ""

    def get_code(self, fullname: str) -> Any:
        text, file = self.get_source(fullname), self._file or f"<{fullname}>"
        # Without a time the cache keeps it though there is no such file on a disk.
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        return compile(text, file, "exec", dont_inherit=True)

    def is_package(self, fullname: str) -> bool:
        return self._file is None or posixpath.basename(self._file) == "__init__.py"

    def get_data(self, path: str) -> bytes:
        try:
            return self._source.files[posixpath.normpath(path)]
        except KeyError:
            raise FileNotFoundError(f"no such file in the agent's source: {path}") from None

    def get_resource_reader(self, fullname: str) -> TraversableResources:
        return _Resources(self._source, posixpath.dirname(self._file or "") or fullname.replace(".", "/"))


class _Resources(TraversableResources):
    """For `importlib.resources`: vendored packages read their data with it."""

    def __init__(self, source: Source, folder: str) -> None:
        self._root = _Entry(source, folder)

    def files(self) -> Traversable:
        return self._root


class _Entry(Traversable):
    def __init__(self, source: Source, path: str) -> None:
        self._source = source
        self._path = path

    @property
    def name(self) -> str:
        return posixpath.basename(self._path)

    def iterdir(self) -> Any:
        inside = {*self._source.files, *self._source.folders}
        return (_Entry(self._source, path) for path in sorted(inside) if path and posixpath.dirname(path) == self._path)

    def is_dir(self) -> bool:
        return self._path in self._source.folders

    def is_file(self) -> bool:
        return self._path in self._source.files

    def joinpath(self, *descendants: Any) -> Any:
        return _Entry(self._source, posixpath.normpath(posixpath.join(self._path, *map(str, descendants))))

    def open(self, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if not self.is_file():
            raise FileNotFoundError(f"no such file in the agent's source: {self._path}")
        stream = BytesIO(self._source.files[self._path])
        return stream if "b" in mode else TextIOWrapper(stream, *arguments, **options)


def _place_of(entry: str, files: dict[str, bytes]) -> tuple[str, str]:
    """The folder that the entry is imported from, and its module name: inside of packages the outermost's folder."""
    folder, name = posixpath.dirname(entry), posixpath.basename(entry).removesuffix(".py")
    while folder and f"{folder}/__init__.py" in files:
        folder, package = posixpath.dirname(folder), posixpath.basename(folder)
        name = f"{package}.{name}"
    return folder, name


def _parents(path: str) -> Iterable[str]:
    while path:
        path = posixpath.dirname(path)
        yield path


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
