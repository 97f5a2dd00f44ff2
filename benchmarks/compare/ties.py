"""Greedy under other rules for what the paper leaves open: ``python -m benchmarks.compare.ties`` writes ``ties.md``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd

from benchmarks.compare.figures import EQUAL, geometric_mean
from benchmarks.compare.instances import Instance, build
from benchmarks.compare.planners import GREEDY, PLANNERS
from benchmarks.compare.specs import read_frozen
from benchmarks.machine import headline, record
from mipplan.baselines.greedy import Actions, GreedySearch
from mipplan.options import Configuration
from mipplan.result import Limit

OUT = Path(__file__).parents[1] / "results" / "compare" / "ties.md"
MACHINE = OUT.with_suffix(".json")
#: One in so many instances, of those that need nothing but this repository.
SHARE = 6


def _batches_first(search: GreedySearch) -> Limit | None:
    """As `GreedySearch.run`, but a larger batch goes before everything that lowers the cost."""
    search.best = search._start()
    while search.best is not None:
        better = search._larger_batch(search.best, list(search.best)) or search._cheaper(search.best)
        if better is None:
            return None
        search.best = better
    return None


def _first_of_file(_: Actions, configuration: Configuration) -> tuple[int, int]:
    return configuration.microusd_per_hour, 0


def _least_throughput(actions: Actions, configuration: Configuration) -> tuple[int, Fraction | float]:
    return configuration.microusd_per_hour, min(
        actions.queries_per_ns(configuration, stage) for stage in configuration
    )


def _any_batch(*_: object) -> tuple[int, int]:
    return 0, 0


def _quickest_batch(actions: Actions, *others: Any) -> tuple[int, Fraction]:
    saving, added_ns = _PROMISE(actions, *others)
    return added_ns, saving


_PROMISE = Actions.promise

#: What is done otherwise, by what it is called.
RULES: Mapping[str, Mapping[tuple[type, str], Callable[..., Any]]] = {
    "equal savings: first in the file": {(Actions, "rank"): _first_of_file},
    "equal savings: least throughput kept": {(Actions, "rank"): _least_throughput},
    "larger batches: first in the file": {(Actions, "promise"): _any_batch},
    "larger batches: least latency added": {(Actions, "promise"): _quickest_batch},
    "larger batches before savings": {(GreedySearch, "run"): _batches_first},
}


@contextmanager
def _ruled(rule: Mapping[tuple[type, str], Callable[..., Any]]) -> Iterator[None]:
    with ExitStack() as stack:
        for (owner, name), method in rule.items():
            stack.enter_context(patch.object(owner, name, method))
        yield


def compare_rules(instances: list[Instance]) -> str:
    """Cost of the greedy plans under every rule beside that of the plans as `mipplan.baselines` makes them."""
    usual = _costs(instances)
    lines = ["| other rule | cost / cost as it is | cheaper | equal | dearer | range |", "|---" * 6 + "|"]
    for name, rule in RULES.items():
        with _ruled(rule):
            beside = (_costs(instances) / usual).dropna()
        cheaper, dearer = int((beside < 1 - EQUAL).sum()), int((beside > 1 + EQUAL).sum())
        counts = f"{cheaper} | {len(beside) - cheaper - dearer} | {dearer}"
        lines.append(
            f"| {name} | {geometric_mean(beside):.3f} | {counts} | {beside.min():.2f}–{beside.max():.2f} |"
        )
    note = f"Geometric means, over {int(usual.notna().sum())} instances of the suite against greedy."
    return "\n".join([*lines, "", note, ""])


def _costs(instances: list[Instance]) -> pd.Series[float]:
    plans = {made.spec.name: PLANNERS[GREEDY](made) for made in instances}
    return pd.Series({name: plan.usd_per_hour for name, plan in plans.items()}, dtype=float)


if __name__ == "__main__":
    own = [spec for spec in read_frozen() if spec.group != "large" and not spec.needs_shared_data]
    text = compare_rules([build(spec) for spec in own[::SHARE]])
    record(MACHINE, "ties")
    OUT.write_text(f"{headline(MACHINE)}\n\n{text}", encoding="utf-8")
