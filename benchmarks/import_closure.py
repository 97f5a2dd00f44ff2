"""What a file of tests can reach: rooms of the package, and files that tests share or of benchmarks, which it imports.

Whole rooms count, not their modules: a room's front imports these late, so that which of them run cannot be read off.
Where there is doubt, more counts.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TypeVar

PACKAGE, BENCHMARKS = "mipplan", "benchmarks"
T = TypeVar("T", bound=Hashable)
#: By these functions of `mipplan.core` a room asks for what one above it offers; the second asks this room.
LATE, DRAWING = {"from_front", "drawn"}, "plots"
#: In texts of tests: parts of a command line, code for another process, folders that are looked through.
NAMED = re.compile(rf"\b{PACKAGE}\b(?:[./](\w+))?")
#: Benchmarks that are started in a process of their own, or imported by a name.
STARTED = re.compile(rf"\b{BENCHMARKS}(?:\.\w+)+")
#: Of what tests share: says what campaigns ran on, by what benchmarks say it with, on which no test depends.
RECORDING = "campaigns.py"
#: Most of what there is in code, which names nothing.
EMPTY = (ast.Name, ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop)
#: Names of Hypothesis's profiles, which these are given, mean no package.
PROFILES = {"register_profile", "load_profile"}


@dataclass
class Named:
    """What one file names."""

    modules: set[str] = field(default_factory=set)
    """Modules imported, and what is imported from them, since that may be a module, too."""
    attributes: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    """Texts that are no docstrings."""
    late: set[tuple[str, str]] = field(default_factory=set)
    """What is asked for late: a room, or a name that the package offers, after the public method that does, if one."""


class ImportClosure:
    """What each file of tests in a checkout can reach."""

    def __init__(self, root: Path) -> None:
        self._root, self._tests = root, root / "tests"
        self._named = cache(_named_in)
        self._rooms_of_tests = cache(self._named_by_tests)
        self._shared_by = cache(self._shared_named)
        self.rooms = frozenset(path.parent.name for path in root.glob(f"{PACKAGE}/*/__init__.py"))

    def of(self, test: Path) -> tuple[frozenset[str], frozenset[Path]]:
        """Rooms of the package, and files that tests share, or of benchmarks."""
        fixtures = {folder / "conftest.py" for folder in test.parents if folder.is_relative_to(self._tests)}
        files = _reached({test, *(path for path in fixtures if path.exists())}, self._shared_by)
        rooms = {room for path in files for room in self._rooms_of_tests(path)}
        return frozenset(_reached(rooms, self._imports.__getitem__)), frozenset(files - {test})

    @cached_property
    def _front(self) -> Mapping[str, str]:
        """From which room what the package offers comes, by name."""
        stub = self._root / PACKAGE / "__init__.pyi"
        tree = ast.parse(stub.read_text(encoding="utf-8") if stub.exists() else "")
        found = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
        return {
            alias.name: (node.module or alias.name).split(".")[0] for node in found for alias in node.names
        }

    @cached_property
    def _shared(self) -> Mapping[str, Path]:
        """What tests share, and the benchmarks, which have tests too, by the names of the modules."""
        folders = {self._tests: self._tests, self._root / BENCHMARKS: self._root}
        files = {path: top for folder, top in folders.items() for path in folder.rglob("*.py")}
        named = {".".join(path.relative_to(top).with_suffix("").parts): path for path, top in files.items()}
        return {name.removesuffix(".__init__"): path for name, path in named.items()}

    @cached_property
    def _in_package(self) -> Mapping[str, list[Named]]:
        """What the files of each room name."""
        places = {room: self._root / PACKAGE / room for room in self.rooms}
        return {room: [self._named(path) for path in place.rglob("*.py")] for room, place in places.items()}

    @cached_property
    def _imports(self) -> Mapping[str, set[str]]:
        """Rooms that each room imports, asks by names of the front, or asks late by what is no public method."""
        found = {}
        for room, files in self._in_package.items():
            modules = {name for named in files for name in named.modules}
            late = {name for named in files for method, name in named.late if not method}
            asked = {name for named in files if PACKAGE in named.modules for name in named.attributes}
            found[room] = self._rooms(modules) | self._offering(late | asked)
        return found

    @cached_property
    def _methods(self) -> Mapping[str, set[str]]:
        """Rooms that public methods ask late, by the methods' names: ``plan.plot()`` asks what draws."""
        found: dict[str, set[str]] = {}
        for named in (named for files in self._in_package.values() for named in files):
            for method, name in named.late:
                found.setdefault(method, set()).update(self._offering({name}))
        return {method: rooms for method, rooms in found.items() if method}

    def _shared_named(self, path: Path) -> set[Path]:
        found, named = set(), self._named(path)
        started = [name for text in named.texts for name in STARTED.findall(text)]
        for module in (*named.modules, *started):
            parts = module.removeprefix("tests.").split(".")
            if parts[0] == BENCHMARKS and path == self._tests / RECORDING:
                continue
            found |= {self._shared.get(".".join(parts[:end]), path) for end in range(1, len(parts) + 1)}
        return found

    def _named_by_tests(self, path: Path) -> set[str]:
        """Rooms that a file names: by imports, by names that the package or a result offers, or in texts."""
        named = self._named(path)
        texts = {match[1] or "" for text in named.texts for match in NAMED.finditer(text)}
        if any(name not in self.rooms and name not in self._front for name in texts):
            return set(self.rooms)
        late = {room for name in named.attributes for room in self._methods.get(name, ())}
        return self._rooms(named.modules) | self._offering({*named.attributes, *texts}) | late

    def _rooms(self, modules: Iterable[str]) -> set[str]:
        return self._offering(name.split(".")[1] for name in modules if name.startswith(f"{PACKAGE}."))

    def _offering(self, names: Iterable[str]) -> set[str]:
        """Rooms of these names, or which offer what has these names."""
        return {self._front.get(name, name) for name in names} & self.rooms


def _reached(start: Iterable[T], leading_to: Callable[[T], set[T]]) -> set[T]:
    found = set(start)
    under_way = list(found)
    while under_way:
        further = leading_to(under_way.pop()) - found
        found |= further
        under_way += further
    return found


def _named_in(path: Path) -> Named:
    named = Named()
    _take_down(ast.parse(path.read_text(encoding="utf-8")), named, "", in_class=False)
    return named


def _take_down(node: ast.AST, named: Named, method: str, *, in_class: bool) -> None:
    """Take down what a part of a file names that lies in a public method, if it does."""
    match node:
        case ast.Import():
            named.modules.update(alias.name for alias in node.names)
        case ast.ImportFrom(module=str(module)):
            named.modules.update((module, *(f"{module}.{alias.name}" for alias in node.names)))
        case ast.Attribute():
            named.attributes.add(node.attr)
        case ast.Constant(value=str(text)):
            named.texts.add(text)
        case ast.Expr(value=ast.Constant()):
            return  # A docstring.
        case ast.Call(func=ast.Attribute(attr=called)) if called in PROFILES:
            return
        case ast.Call(func=ast.Name(id=called), args=[ast.Constant(), *_]) if called in LATE:
            given = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            asked = DRAWING if called == "drawn" else str(given[-1]).removeprefix(f"{PACKAGE}.")
            named.late.add((method, asked.split(".")[0]))
        case ast.FunctionDef() if in_class and not node.name.startswith("_"):
            method = node.name
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, EMPTY):
            _take_down(child, named, method, in_class=isinstance(node, ast.ClassDef))
