"""Greedy under other rules for what the paper leaves open: ``python -m benchmarks.compare.ties`` writes ``ties.md``.

Every combination of a rule for equal savings with a rule for larger batches is tried. The one whose plans cost least
(geometric mean) is what `mipplan.baselines` uses, so that greedy is not made worse than it might be.
"""

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
from mipplan.options import Configuration, Option
from mipplan.result import Limit

OUT = Path(__file__).parents[1] / "results" / "compare" / "ties.md"
MACHINE = OUT.with_suffix(".json")
#: One in so many instances, of those that need nothing but this repository.
SHARE = 6

#: What is done otherwise: the methods that are put in place of those of `mipplan.baselines`.
Rule = Mapping[tuple[type, str], Callable[..., Any]]


def _batches_first(search: GreedySearch) -> Limit | None:
    """As `GreedySearch.run`, but a larger batch goes before everything that lowers the cost."""
    search.best = search._start()
    while search.best is not None:
        better = search._larger_batch(search.best, list(search.best)) or search._cheaper(search.best)
        if better is None:
            return None
        search.best = better
    return None


def _bottleneck(actions: Actions, configuration: Configuration) -> Fraction | float:
    return min(actions.queries_per_ns(configuration, stage) for stage in configuration)


def _most_throughput(actions: Actions, configuration: Configuration) -> tuple[int, Fraction | float]:
    return configuration.microusd_per_hour, -_bottleneck(actions, configuration)


def _least_throughput(actions: Actions, configuration: Configuration) -> tuple[int, Fraction | float]:
    return configuration.microusd_per_hour, _bottleneck(actions, configuration)


def _most_money(before: Option, after: Option) -> tuple[Fraction, int]:
    """The money that the added throughput could free, then the added latency."""
    needed = before.replicas * (before.tokens_per_ns / after.tokens_per_ns)
    spare = before.replicas - max(needed, Fraction(before.family.fewest))
    added_ns = int(after.family.service_ns[-1] - before.family.service_ns[-1])
    return -spare * before.family.microusd_per_hour, added_ns


def _least_latency(before: Option, after: Option) -> tuple[int, Fraction]:
    saving, added_ns = _most_money(before, after)
    return added_ns, saving


def _by(promise: Callable[[Option, Option], Any]) -> Callable[..., Configuration | None]:
    """As `GreedySearch._larger_batch`, but the least by `promise` goes first, of a stage before and after."""

    def larger_batch(
        search: GreedySearch, configuration: Configuration, stages: list[str]
    ) -> Configuration | None:
        increases = [(stage, search._actions.increase_batch(configuration, stage)) for stage in stages]
        promises = [
            (promise(configuration[stage], increased[stage]), increased)
            for stage, increased in increases
            if increased is not None
        ]
        ranked = sorted(promises, key=lambda entry: entry[0])
        return search._estimator.first_kept(increased for _, increased in ranked)

    return larger_batch


#: What `mipplan.baselines` does in both respects: sorting, and looking for the first that will do, keep the order.
USUAL = "first in the file"
#: Which of the actions that save equally much is taken.
EQUAL_SAVINGS: Mapping[str, Rule] = {
    USUAL: {},
    "most throughput kept": {(Actions, "rank"): _most_throughput},
    "least throughput kept": {(Actions, "rank"): _least_throughput},
}
#: Which batch cap is increased, where that keeps the objective and nothing lowers the cost.
LARGER_BATCHES: Mapping[str, Rule] = {
    USUAL: {},
    "most money freed": {(GreedySearch, "_larger_batch"): _by(_most_money)},
    "least latency added": {(GreedySearch, "_larger_batch"): _by(_least_latency)},
}
#: All combinations, and larger batches before savings; by what is said of equal savings and of larger batches.
RULES: Mapping[tuple[str, str], Rule] = {
    (saving, batch): {**rank, **larger}
    for saving, rank in EQUAL_SAVINGS.items()
    for batch, larger in LARGER_BATCHES.items()
} | {(USUAL, f"{USUAL}, before anything that saves"): {(GreedySearch, "run"): _batches_first}}


@contextmanager
def _ruled(rule: Rule) -> Iterator[None]:
    with ExitStack() as stack:
        for (owner, name), method in rule.items():
            stack.enter_context(patch.object(owner, name, method))
        yield


def compare_rules(instances: list[Instance]) -> str:
    """Cost of the greedy plans under every rule beside that of the plans as `mipplan.baselines` makes them."""
    usual = _costs(instances)
    lines = [
        "| of equal savings | of larger batches | cost / cost as it is | cheaper | equal | dearer | range |",
        "|---" * 7 + "|",
    ]
    for names, rule in RULES.items():
        with _ruled(rule):
            beside = ((_costs(instances) if rule else usual) / usual).dropna()
        cheaper, dearer = int((beside < 1 - EQUAL).sum()), int((beside > 1 + EQUAL).sum())
        lines.append(
            f"| {' | '.join(names)} | {geometric_mean(beside):.3f} | {cheaper} | {len(beside) - cheaper - dearer} | "
            f"{dearer} | {beside.min():.2f}–{beside.max():.2f} |"
        )
    note = (
        f"Geometric means, over {int(usual.notna().sum())} instances of the suite against greedy. "
        "The first line is greedy as it is."
    )
    return "\n".join([*lines, "", note, ""])


def _costs(instances: list[Instance]) -> pd.Series[float]:
    plans = {made.spec.name: PLANNERS[GREEDY](made) for made in instances}
    return pd.Series({name: plan.usd_per_hour for name, plan in plans.items()}, dtype=float)


if __name__ == "__main__":
    own = [spec for spec in read_frozen() if spec.group != "large" and not spec.needs_shared_data]
    text = compare_rules([build(spec) for spec in own[::SHARE]])
    record(MACHINE, "ties")
    OUT.write_text(f"{headline(MACHINE)}\n\n{text}", encoding="utf-8")
