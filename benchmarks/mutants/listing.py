"""Lists the mutants of a file, leaves out what no test should notice, and draws a sample."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

from benchmarks.mutants.operators import operators
from benchmarks.provenance import ROOT

#: The sample is drawn by it: another seed is another sample.
SEED = 14
#: What prints a result for people: its text is held by other tests.
PRINTING = ("__repr__", "_summary", "_line")
#: An assertion that lengths agree, and nothing more; a mark that only the compiler sees.
ASSERTING, MARKS = ("strict",), ("@compiled", "@_compiled")


@dataclass(frozen=True)
class Mutant:
    """A file with one mutation."""

    file: str
    line: int
    scope: str
    """Function or class around it, as in ``Class.method``."""
    operator: str
    occurrence: int
    """Which of the places in the file that the operator can mutate."""
    place: int
    """Which of those of its line."""
    code: str = field(repr=False)
    """The file, as it is."""

    @cached_property
    def source(self) -> str | None:
        """The mutated file; None if that is no other program."""
        mutated: str | None = mutate_code(self.code, operators()[self.operator], self.occurrence)
        try:
            return None if mutated is None or _meaning(mutated) == _meaning(self.code) else mutated
        except SyntaxError:
            return None

    @cached_property
    def change(self) -> tuple[str, str]:
        """The lines that change, before and after, without what they are indented by."""
        old, new = self.code.splitlines(), (self.source or "").splitlines()
        for _ in range(2):  # what is the same at the beginning, then at the end
            pairs = zip(old, new, strict=False)
            same = next((i for i, (one, other) in enumerate(pairs) if one != other), min(len(old), len(new)))
            old, new = old[same:][::-1], new[same:][::-1]
        before, after = ("\n".join(line.strip() for line in lines).strip() for lines in (old, new))
        return before, after

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What a mutant is known by, wherever its line moves: file, scope, and the lines before and after."""
        return (self.file, self.scope, *self.change)


def list_mutants(files: Iterable[str]) -> list[Mutant]:
    """Every mutant of some files."""
    texts = ((file, (ROOT / file).read_text(encoding="utf-8")) for file in files)
    return [mutant for file, code in texts for mutant in mutants_of(file, code)]


def draw(mutants: Sequence[Mutant], count: int, seed: int = SEED) -> list[Mutant]:
    """Draw a sample, in an order of which any beginning is one: every line gives one mutant before any gives two.

    Lines and their mutants are ordered by a hash of what stands there, so that the sample stays the same where the
    code does.
    """
    by_line: dict[tuple[str, int], list[tuple[bytes, Mutant]]] = {}
    for mutant in mutants:
        text = mutant.code.splitlines()[mutant.line - 1].strip()
        words = repr((seed, mutant.file, mutant.scope, text, mutant.operator, mutant.place))
        number = hashlib.blake2b(words.encode(), digest_size=8).digest()
        by_line.setdefault((mutant.file, mutant.line), []).append((number, mutant))
    for found in by_line.values():
        found.sort(key=lambda pair: pair[0])
    rounds = (
        sorted(group, key=lambda pair: pair[0]) for group in _rounds([[*found] for found in by_line.values()])
    )
    drawn: list[Mutant] = []
    seen: set[tuple[str, str, str, str]] = set()
    for _, mutant in (pair for group in rounds for pair in group):
        if len(drawn) == count:
            break
        if mutant.source is not None and mutant.key not in seen:
            seen.add(mutant.key)
            drawn.append(mutant)
    return drawn


@lru_cache(maxsize=2)
def _meaning(code: str) -> str:
    """The syntax tree without the places."""
    return ast.dump(ast.parse(code))


def _rounds(lines: list[list[tuple[bytes, Mutant]]]) -> Iterator[list[tuple[bytes, Mutant]]]:
    for place in range(max(map(len, lines), default=0)):
        yield [line[place] for line in lines if len(line) > place]


def mutants_of(file: str, code: str) -> Iterator[Mutant]:
    """Every mutant of a file that holds this text."""
    nodes = list(ast_nodes(get_ast(code)))
    for name, operator in operators().items():
        occurrence = 0
        places: dict[int, int] = {}
        for node in nodes:
            for (line, column), _ in operator.mutation_positions(node):
                leaf = node.get_leaf_for_position((line, column)) if hasattr(node, "children") else node
                if not _is_left_out(leaf, name):
                    place = places[line] = places.get(line, -1) + 1
                    yield Mutant(file, line, _scope(leaf), name, occurrence, place, code)
                occurrence += 1


def _parents(node: Any) -> Iterator[Any]:
    while node is not None:
        yield node
        node = node.parent


def _scope(leaf: Any) -> str:
    names = [node.name.value for node in _parents(leaf) if node.type in ("funcdef", "classdef")]
    return ".".join(reversed(names))


def _is_left_out(leaf: Any, operator: str) -> bool:
    """Whether a place is one of annotations, texts, assertions, Protocols or thresholds that no answer depends on."""
    inner = leaf
    for node in _parents(leaf):
        kind = node.type
        if kind in ("fstring", "import_name", "import_from", "assert_stmt"):
            return True
        if kind == "raise_stmt" and operator != "RemoveStatement":
            return True
        if kind in ("param", "funcdef") and node.annotation is not None and inner is node.annotation:
            return True
        if kind == "tfpdef" and inner is not node.children[0]:
            return True
        if kind == "annassign" and inner is node.children[1]:
            return True
        if kind == "argument" and node.children[0].get_code().strip() in ASSERTING:
            return True
        if kind == "decorator" and (
            operator != "RemoveDecorator" or node.get_code().strip().startswith(MARKS)
        ):
            return True
        if kind == "funcdef" and node.name.value in PRINTING:
            return True
        if kind == "classdef" and (node.name.value.endswith("Params") or _is_protocol(node)):
            return True
        inner = node
    return False


def _is_protocol(node: Any) -> bool:
    arguments = node.get_super_arglist()
    return arguments is not None and "Protocol" in arguments.get_code()
