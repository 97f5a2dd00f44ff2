"""How code is mutated: operators of Cosmic Ray, and a few of our own for what numerical code gets wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import parso
from cosmic_ray.operators.operator import Example, Operator
from cosmic_ray.plugins import get_operator
from parso.python.tree import Keyword, Leaf

#: Of the many replacements that Cosmic Ray knows, those that are hard to notice: a comparison off by its boundary or
#: turned round, an operator exchanged for its neighbour. The others fail at once, and would only flatter the score.
REPLACED = {
    "ReplaceBinaryOperator": (
        "Add_Sub",
        "Add_Mul",
        "Sub_Add",
        "Mul_Add",
        "Mul_FloorDiv",
        "Div_Mul",
        "Div_FloorDiv",
        "FloorDiv_Mul",
        "FloorDiv_Div",
        "Mod_FloorDiv",
        "Pow_Mul",
        "BitOr_BitAnd",
        "BitAnd_BitOr",
        "LShift_RShift",
        "RShift_LShift",
        "BitXor_BitOr",
    ),
    "ReplaceComparisonOperator": (
        "Eq_NotEq",
        "Eq_LtE",
        "Eq_GtE",
        "NotEq_Eq",
        "Lt_LtE",
        "Lt_GtE",
        "LtE_Lt",
        "LtE_Gt",
        "Gt_GtE",
        "Gt_LtE",
        "GtE_Gt",
        "GtE_Lt",
        "Is_IsNot",
        "IsNot_Is",
    ),
    "ReplaceUnaryOperator": ("Delete_USub", "Delete_Not", "Delete_Invert"),
}
SIMPLE = (
    "AddNot",
    "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "ExceptionReplacer",
    "NumberReplacer",
    "RemoveDecorator",
    "ZeroIterationForLoop",
)
#: Each becomes the other.
OPPOSITES = (
    ("min", "max"),
    ("any", "all"),
    ("floor", "ceil"),
    ("minimum", "maximum"),
    ("argmin", "argmax"),
    ("bisect_left", "bisect_right"),
    ('"left"', '"right"'),
)
_OPPOSITE = {**dict(OPPOSITES), **{second: first for first, second in OPPOSITES}}

Span = tuple[tuple[int, int], tuple[int, int]]


class ReplaceWithOpposite(Operator):  # type: ignore[misc]
    """Minimum for maximum, any for all, and so on."""

    def mutation_positions(self, node: Any) -> Iterator[Span]:
        """Yield where the node can be mutated."""
        if isinstance(node, Leaf) and node.type in ("name", "string") and node.value in _OPPOSITE:
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, _: int) -> Any:
        """Exchange the name."""
        node.value = _OPPOSITE[node.value]
        return node

    @classmethod
    def examples(cls) -> Iterable[Example]:
        """What it does."""
        return (Example("x = min(a)", "x = max(a)"),)


class NegateMembership(Operator):  # type: ignore[misc]
    """Not in for in, and the other way round."""

    def mutation_positions(self, node: Any) -> Iterator[Span]:
        """Yield where the node can be mutated."""
        if node.type == "comparison":
            for operator in node.children[1::2]:
                if _words(operator) in (["in"], ["not", "in"]):
                    yield operator.start_pos, operator.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Exchange the operator."""
        places = [i for i in range(1, len(node.children), 2) if _words(node.children[i])[-1] == "in"]
        place = places[index]
        old = node.children[place]
        text = "in" if _words(old) == ["not", "in"] else "not in"
        node.children[place] = Keyword(text, old.start_pos, prefix=" ")
        return node

    @classmethod
    def examples(cls) -> Iterable[Example]:
        """What it does."""
        return (Example("x = a in b", "x = a not in b"), Example("x = a not in b", "x = a in b"))


class RemoveStatement(Operator):  # type: ignore[misc]
    """Pass for a call, for a change in place, and for an error raised."""

    def mutation_positions(self, node: Any) -> Iterator[Span]:
        """Yield where the node can be mutated."""
        if node.type == "simple_stmt" and _acts(node.children[0]):
            yield node.children[0].start_pos, node.children[0].end_pos

    def mutate(self, node: Any, _: int) -> Any:
        """Put ``pass`` in its place."""
        node.children[0] = Keyword("pass", node.start_pos, prefix=node.children[0].get_first_leaf().prefix)
        return node

    @classmethod
    def examples(cls) -> Iterable[Example]:
        """What it does."""
        return (Example("f(x)\n", "pass\n"), Example("x[0] = 1\n", "pass\n"), Example("x += 1\n", "pass\n"))


def _words(operator: Any) -> list[str]:
    return str(operator.get_code()).split()


def _acts(statement: Any) -> bool:
    """Whether a statement does something that is not only a name for a value."""
    if statement.type in ("atom_expr", "raise_stmt", "del_stmt"):
        return True
    if statement.type != "expr_stmt":
        return False
    target, assignment = statement.children[:2]
    is_augmented = isinstance(assignment, parso.python.tree.PythonNode | Leaf) and (
        assignment.type == "operator" and assignment.value not in ("=", ":")
    )
    return is_augmented or (target.type == "atom_expr" and assignment.type == "operator")


OWN = (ReplaceWithOpposite, NegateMembership, RemoveStatement)


@cache
def operators() -> dict[str, Any]:
    """Every operator by its name, ready to be applied."""
    names = [f"{family}_{pair}" for family, pairs in REPLACED.items() for pair in pairs]
    found = {name: get_operator(f"core/{name}")() for name in (*names, *SIMPLE)}
    return found | {operator.__name__: operator() for operator in OWN}
