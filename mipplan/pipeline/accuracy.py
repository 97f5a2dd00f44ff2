"""The accuracy of a whole pipeline, from that of what its stages run: the rule, its text in a file, and its value.

Notes
-----
With a(v) the accuracy of what stage v runs (1 where nothing is known of its model), the rules are

- ``product``: Π a(v), over all stages: right if every model is, independently (IPA's PAS);
- ``sum``: Σ w(v)·a(v) / Σ w(v), over all stages, with weights of one's own (IPA's PAS');
- ``worst_path``: the least product along a way from a source to a sink;
- ``path_shares``: the mean of these products, each weighted by the tokens that go that way;
- ``table``: what was measured of whole combinations of variants; others are not allowed.

See [accuracy of a pipeline][accuracy-of-a-pipeline].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from mipplan.core import InputError, is_number, shown

if TYPE_CHECKING:
    from mipplan.pipeline.model import Pipeline

#: A table of combinations has at most 10,000 rows, because each may become a planning problem of its own.
MAX_ROWS: Final = 10_000
#: Ways that differ in the stages with variants are told apart up to this many; beyond, no bound is made of them.
MOST_WAYS: Final = 200


class AccuracyKind(StrEnum):
    """How the accuracies of stages make that of a pipeline."""

    PRODUCT = "product"
    SUM = "sum"
    WORST_PATH = "worst_path"
    PATH_SHARES = "path_shares"
    TABLE = "table"


@dataclass(frozen=True)
class AccuracyRule:
    """By which formula a pipeline's accuracy follows from its stages'."""

    kind: AccuracyKind = AccuracyKind.PRODUCT
    weights: tuple[tuple[str, float], ...] = ()  # Of ``sum``, by stage; () for 1 each.
    #: Of ``table``: variants by stage, and the accuracy measured with these.
    rows: tuple[tuple[tuple[tuple[str, str], ...], float], ...] = ()

    def weight(self, stage: str) -> float:
        """Weight of a stage in a sum."""
        return dict(self.weights).get(stage, 0.0) if self.weights else 1.0

    def total_weight(self, pipeline: Pipeline) -> float:
        """Weight of all stages in a sum, those of unknown accuracy among them."""
        return math.fsum(map(self.weight, pipeline.stages))

    def value(self, pipeline: Pipeline, accuracies: Mapping[str, float]) -> float | None:
        """Accuracy of a pipeline with what its stages run; None for a combination that the table does not have.

        Stages of unknown accuracy are left out of `accuracies` and count as 1.
        """
        if self.kind is AccuracyKind.TABLE:
            runs = {name: stage.model for name, stage in pipeline.stages.items()}
            found = (known for row, known in self.rows if all(runs[stage] == model for stage, model in row))
            return next(found, None)
        if self.kind is AccuracyKind.SUM:
            worth = math.fsum(self.weight(stage) * accuracies.get(stage, 1.0) for stage in pipeline.stages)
            return worth / self.total_weight(pipeline)
        if self.kind is AccuracyKind.PRODUCT:
            return math.prod(accuracies.values())
        worst, flow, good = dict[str, float](), dict[str, float](), dict[str, float]()
        for name in pipeline.topological_order:
            own, edges = accuracies.get(name, 1.0), pipeline.incoming(name)
            worst[name] = own * min((worst[edge.parent] for edge in edges), default=1.0)
            shares = [edge.probability * edge.fanout.mean for edge in edges]
            flow[name] = math.fsum(flow[e.parent] * q for e, q in zip(edges, shares, strict=True)) or 1.0
            carried = math.fsum(good[e.parent] * q for e, q in zip(edges, shares, strict=True))
            good[name] = own * (carried if edges else 1.0)
        sinks = [name for name in pipeline.topological_order if not pipeline.outgoing(name)]
        if self.kind is AccuracyKind.WORST_PATH:
            return min(worst[sink] for sink in sinks)
        return math.fsum(good[sink] for sink in sinks) / math.fsum(flow[sink] for sink in sinks)

    def to_document(self) -> str | dict[str, Any]:
        """Write it as in the file."""
        if self.kind is AccuracyKind.TABLE:
            return {"table": [{**dict(row), "accuracy": known} for row, known in self.rows]}
        return {"sum": dict(self.weights)} if self.weights else str(self.kind)


def ways(pipeline: Pipeline, stages: frozenset[str]) -> dict[frozenset[str], float] | None:
    """Which of some stages lie on a way from a source to a sink, for all ways, with the share of tokens going there.

    None if there are too many different ones.
    """
    reaching: dict[str, dict[frozenset[str], float]] = {}
    for name in pipeline.topological_order:
        here: dict[frozenset[str], float] = {}
        for edge in pipeline.incoming(name):
            for passed, share in reaching[edge.parent].items():
                kept = passed | ({name} & stages)
                here[kept] = here.get(kept, 0.0) + share * edge.probability * edge.fanout.mean
        reaching[name] = here or {frozenset({name} & stages): 1.0}
        if len(reaching[name]) > MOST_WAYS:
            return None
    found: dict[frozenset[str], float] = {}
    for name in pipeline.topological_order:
        for passed, share in {} if pipeline.outgoing(name) else reaching[name].items():
            found[passed] = found.get(passed, 0.0) + share
    total = math.fsum(found.values())
    return None if len(found) > MOST_WAYS else {passed: share / total for passed, share in found.items()}


def accuracy_problem(value: object) -> str | None:
    """Say what is wrong with an accuracy, or None."""
    if not is_number(value) or not 0 < value <= 1:
        return f"expected an accuracy in (0, 1] such as 0.67, found {shown(value)}"
    return None


def check_accuracy(value: object, place: str = "accuracy") -> float:
    """Return a least accuracy; raises `InputError` if it is not in (0, 1]."""
    if (problem := accuracy_problem(value)) is not None:
        raise InputError.one(place, problem)
    return float(str(value))


def is_accurate(accuracy: float | None, least: float, stages: int) -> bool:
    """Whether a plan has the accuracy asked for: programs count billionths, and round once per stage and a bit more."""
    return accuracy is not None and accuracy >= least * (1 - 1e-9 * (stages + 3))


def read_rule(value: object) -> AccuracyRule:
    """Read a rule as in the file; raises `ValueError` with every fault."""
    plain = [str(kind) for kind in AccuracyKind if kind is not AccuracyKind.TABLE]
    if isinstance(value, AccuracyRule):
        return value
    if isinstance(value, str) and value in plain:
        return AccuracyRule(AccuracyKind(value))
    if not isinstance(value, dict) or len(value) != 1 or not set(value) <= {"sum", "table"}:
        raise ValueError(
            f"expected {', '.join(plain)}, {{sum: weights}} or {{table: rows}}, found {shown(value)}"
        )
    ((kind, held),) = value.items()
    problems: list[str] = []
    if kind == "sum":
        if not isinstance(held, dict) or not held:
            raise ValueError("sum: expected weights by stage, such as {detect: 0.7, classify: 0.3}")
        for stage, weight in held.items():
            if not is_number(weight) or not 0 < weight <= 1e6:
                problems.append(
                    f"sum.{stage}: expected a weight above 0, at most 1,000,000, found {shown(weight)}"
                )
        _raise(problems)
        return AccuracyRule(AccuracyKind.SUM, tuple((str(s), float(w)) for s, w in held.items()))
    if not isinstance(held, list) or not 0 < len(held) <= MAX_ROWS:
        raise ValueError(f"table: expected 1 to {MAX_ROWS:,} rows, each with variants by stage and accuracy")
    rows: dict[tuple[tuple[str, str], ...], float] = {}
    for index, row in enumerate(held):
        if not isinstance(row, dict) or "accuracy" not in row or len(row) < 2:
            problems.append(f"table[{index}]: expected variants by stage, and accuracy, found {shown(row)}")
            continue
        if (problem := accuracy_problem(row["accuracy"])) is not None:
            problems.append(f"table[{index}].accuracy: {problem}")
            continue
        named = tuple(sorted((str(stage), str(model)) for stage, model in row.items() if stage != "accuracy"))
        if named in rows:
            problems.append(f"table[{index}]: the combination is given twice")
        rows[named] = float(row["accuracy"])
    if len({tuple(stage for stage, _ in named) for named in rows}) > 1:
        problems.append("table: all rows must name the same stages")
    _raise(problems)
    return AccuracyRule(AccuracyKind.TABLE, rows=tuple(rows.items()))


def _raise(problems: list[str]) -> None:
    if problems:
        raise ValueError("; ".join(problems))
