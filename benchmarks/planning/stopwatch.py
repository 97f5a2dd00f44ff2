"""Split the time of a planning call by wrapping the functions of each phase; nested phases do not count twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

#: Phase, module (or module:class) and name of each function that is timed. What is not wrapped is "other".
PHASES = (
    ("trace analysis", "mipplan.planner.instance", "realise"),
    ("trace analysis", "mipplan.planner.oracle", "analyse_paths"),
    ("trace analysis", "mipplan.planner.oracle:CertificateOracle", "_seed"),
    ("waits", "mipplan.options.table", "wait_bounds"),
    ("waits", "mipplan.planner.heuristics", "replicas_on_path"),
    ("options", "mipplan.planner.instance", "find_families"),
    ("options", "mipplan.planner.instance", "expand"),
    ("options", "mipplan.options.table", "frontier"),
    ("build", "mipplan.planner.cuts", "build_problem"),
    ("build", "mipplan_formulations.time_cost.paths", "add_choices"),
    ("solve", "mipplan.planner.benders", "solve_problem"),
    ("relax", "mipplan.planner.choices:LpBound", "within"),
    ("enumerate", "mipplan.planner.enumeration:Enumeration", "raise_bound"),
    ("enumerate", "mipplan.planner.enumeration:Enumeration", "halve"),
    ("certify", "mipplan.certificate.classic", "stage_exits_ns"),
    ("certify", "mipplan.planner.oracle:CertificateOracle", "query_cuts"),
    ("certify", "mipplan.planner.instance", "strengthen"),
    ("certify", "mipplan.planner.benders", "repair"),
)

#: Phases in the order of the columns.
MEASURED = ("trace analysis", "waits", "options", "build", "relax", "solve", "enumerate", "certify")


class Stopwatch:
    """Seconds per phase of the calls made while it runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys((phase for phase, _, _ in PHASES), 0.0)
        self.calls: dict[str, int] = dict.fromkeys(self.seconds, 0)
        self._stack: list[str] = []
        self._since = 0.0

    def _switch(self) -> None:
        """Book the time since the last change to the innermost phase."""
        now = time.perf_counter()
        if self._stack:
            self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def _wrapped(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **keywords: Any) -> Any:
            self._switch()
            self._stack.append(phase)
            self.calls[phase] += 1
            try:
                return function(*arguments, **keywords)
            finally:
                self._switch()
                self._stack.pop()

        return timed

    @contextmanager
    def running(self) -> Iterator[None]:
        """Wrap the functions for the time of the block."""
        originals = [(_owner(place), name) for _, place, name in PHASES]
        saved = [getattr(owner, name) for owner, name in originals]
        for (phase, _, _), (owner, name), function in zip(PHASES, originals, saved, strict=True):
            setattr(owner, name, self._wrapped(phase, function))
        try:
            yield
        finally:
            for (owner, name), function in zip(originals, saved, strict=True):
                setattr(owner, name, function)


def _owner(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name) if name else import_module(module)
