"""What the least cost depends on: prices of hardware, speed of models, and every single measurement of the profiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

from mipplan.core import (
    MICRODOLLARS_PER_DOLLAR,
    Deadline,
    InputError,
    LimitReachedError,
    SearchLimits,
    check_all,
    counted,
    first_true,
    is_number,
    shown,
)
from mipplan.pipeline import Pipeline
from mipplan.profiles import LatencyTable, Profiles
from mipplan.questions.costs import (
    MOST_FASTER,
    HardwareSensitivity,
    MeasurementSensitivity,
    ModelSensitivity,
    Sensitivity,
)
from mipplan.questions.problems import Problem, WarmPlanner, check_no_budget, first_plan, is_proven
from mipplan.questions.staircases import PriceWalker
from mipplan.tokens import read_traces
from mipplan.trace import Trace

#: A hardware type is tried down to a price so many times lower, and up to one so many times higher, because where
#: devices cost next to nothing plans of thousands of them are all worth looking at.
_MOST_CHEAPER, _MOST_DEARER = 10, 4


class _Entry(NamedTuple):
    """A measurement: key of its table, and its row there."""

    table: tuple[str, str]
    row: int


def sensitivity(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace | Sequence[Trace],
    *,
    share: float = 0.1,
    time_limit_s: float | None = 60.0,
    progress: Callable[[str], None] | None = None,
    **planning: Any,
) -> Sensitivity:
    """Find what the least cost depends on: prices, speeds of models, and which measurement matters most.

    Parameters
    ----------
    pipeline : Pipeline
    profiles : Profiles
    trace : Trace, or sequence of Trace
        As for `mipplan.plan`: plans keep the objective on each of several by itself.
    share : float
        By which each measurement is varied, up and down; in (0, 1).
    time_limit_s : float or None
        For the whole; what was found by then is returned.
    progress : callable, optional
        Called with one line of text as the work proceeds.
    **planning
        As for `mipplan.plan`, but for its `share`, which the pipeline may say. Cheapest plans must be proven by what
        services certify: guarantee ``trace`` or ``envelope``, classic certificate, no timed dispatch, no budget. Where
        variants make other tokens, or accuracy is a table, all is of those that the cheapest plan runs.

    Returns
    -------
    Sensitivity
        A slower measurement that the plan does not rest on, or with which it is still certified, changes nothing, and
        is not planned anew. Whether faster ones save anything is asked of all together, and of halves where they do.

    Raises
    ------
    NoPlanError
        If there is no plan.
    InputError
        Listing every bad argument.
    """
    check_all(
        lambda: check_share(share), lambda: Deadline.after(time_limit_s), lambda: check_no_budget(planning)
    )
    limits = SearchLimits(Deadline.after(time_limit_s), progress or (lambda _: None))
    made = first_plan(pipeline, profiles, trace, limits, planning).require()
    return sensitivity_of(Problem(made, read_traces(trace)), share, limits)


def sensitivity_of(problem: Problem, share: float, limits: SearchLimits) -> Sensitivity:
    """Find what the least cost of a problem depends on; see `sensitivity`."""
    return _Inquiry(problem, share, limits).run()


def check_share(share: object, name: str = "share") -> float:
    """Return a share; raises `InputError` unless it is a number between 0 and 1."""
    if not is_number(share) or not 0.0 < share < 1.0:
        raise InputError.one(name, f"expected a share between 0 and 1, such as 10%, found {shown(share)}")
    return float(share)


class _Inquiry:
    """Varies one thing after the other."""

    def __init__(self, problem: Problem, share: float, limits: SearchLimits) -> None:
        self._problem, self._share, self._limits = problem, share, limits
        self._planner = WarmPlanner(problem, limits)
        self._plan = replace(self._planner.plan().require(), pipeline=problem.pipeline)
        self._cost = self._plan.microusd_per_hour or 0
        # What each stage may run, chosen or not; with several problems only what the plan runs.
        self._models_of = {name: stage.models for name, stage in problem.asked.pipeline.stages.items()}
        used = {model for models in self._models_of.values() for model in models}
        self._tables = {key: table for key, table in problem.profiles.tables.items() if key[0] in used}
        self._entries = [
            _Entry(key, row) for key, table in self._tables.items() for row in range(table.batch.size)
        ]

    def run(self) -> Sensitivity:
        hardware: list[HardwareSensitivity] = []
        models: list[ModelSensitivity] = []
        changes: dict[_Entry, list[int | None]] = {}
        # What was found until time is up, or Ctrl-C, is the answer: differences of costs that are proven.
        with suppress(KeyboardInterrupt, LimitReachedError):
            if not is_proven(self._plan):
                raise LimitReachedError
            hardware.extend(self._hardware())
            models.extend(self._models())
            for entry, faster in self._savings(self._entries):
                changes.setdefault(entry, [0, 0])[1] = faster
            for entry in self._entries:
                if (slower := self._slower(entry)) != 0:
                    changes.setdefault(entry, [0, 0])[0] = slower
            return self._made(hardware, models, changes, complete=True)
        return self._made(hardware, models, changes, complete=False)

    def _made(
        self,
        hardware: Sequence[HardwareSensitivity],
        models: Sequence[ModelSensitivity],
        changes: dict[_Entry, list[int | None]],
        complete: bool,
    ) -> Sensitivity:
        measurements = [
            MeasurementSensitivity(
                *entry.table,
                int(self._tables[entry.table].batch[entry.row]),
                float(self._tables[entry.table].served_ms[entry.row]),
                slower,
                faster or 0,
            )
            for entry, (slower, faster) in changes.items()
        ]
        return Sensitivity(
            self._plan,
            self._share,
            tuple(hardware),
            tuple(models),
            tuple(sorted(measurements, key=lambda one: -one.weight)),
            len(self._entries),
            self._planner.solves,
            complete,
        )

    def _hardware(self) -> Iterator[HardwareSensitivity]:
        measured = {name for _, name in self._tables}
        for name, device in self._problem.profiles.hardware.items():
            if name not in measured:
                continue
            self._limits.report(f"price of {name}")
            walker = PriceWalker(self._planner, self._problem.profiles, name)
            devices, _ = walker.line(self._plan)
            price = device.microusd_per_hour
            below = walker.turning_price(self._plan, -(-price // _MOST_CHEAPER))
            above = walker.turning_price(self._plan, _MOST_DEARER * price) if devices else None
            usd = [None if found is None else found / MICRODOLLARS_PER_DOLLAR for found in (below, above)]
            yield HardwareSensitivity(name, device.usd_per_hour, devices, *usd)

    def _models(self) -> Iterator[ModelSensitivity]:
        for model in dict.fromkeys(model for models in self._models_of.values() for model in models):
            self._limits.report(f"speed of {model}")
            users = tuple(name for name, models in self._models_of.items() if model in models)
            least = self._least_faster(model)
            yield ModelSensitivity(
                model,
                users,
                None if least is None else least / 100,
                None if least is None else self._cost_faster(model, least),
            )

    def _least_faster(self, model: str) -> int | None:
        """By how many whole percents at least a model must be faster for a plan to be cheaper; None if none will do."""
        if self._cost_faster(model, MOST_FASTER) >= self._cost:
            return None
        return first_true(1, MOST_FASTER, lambda percent: self._cost_faster(model, percent) < self._cost)

    def _cost_faster(self, model: str, percent: int) -> int:
        """Least cost with a model so many percent faster everywhere."""
        factor = 1.0 - percent / 100
        tables = [table.slower(factor) for key, table in self._tables.items() if key[0] == model]
        cost = self._cost_with(tables)
        return self._cost if cost is None else cost

    def _cost_with(self, tables: Sequence[LatencyTable]) -> int | None:
        """Least cost with other tables in place of those of the same model and hardware; None if there is no plan."""
        return self._planner.proven(self._with(tables)).microusd_per_hour

    def _with(self, tables: Sequence[LatencyTable]) -> Profiles:
        profiles = self._problem.profiles
        changed = {(table.model, table.hardware): table for table in tables}
        return Profiles(profiles.hardware, {**profiles.tables, **changed})

    def _varied(self, entries: Sequence[_Entry], factor: float) -> list[LatencyTable]:
        """The tables of some measurements with these multiplied."""
        tables: dict[tuple[str, str], LatencyTable] = {}
        for entry in entries:
            table = tables.get(entry.table, self._tables[entry.table])
            tables[entry.table] = table.slower(factor, entry.row)
        return list(tables.values())

    def _savings(self, entries: Sequence[_Entry]) -> Iterator[tuple[_Entry, int]]:
        """What each measurement saves if it is faster: those that save nothing together save nothing each."""
        if not entries:
            return
        if len(entries) == 1 or self._planner.is_monotone:
            self._limits.report(f"{counted(len(entries), 'measurement')} faster")
            saved = (self._cost_with(self._varied(entries, 1.0 - self._share)) or self._cost) - self._cost
            if saved >= 0:
                return
            if len(entries) == 1:
                yield entries[0], saved
                return
        middle = len(entries) // 2
        yield from self._savings(entries[:middle])
        yield from self._savings(entries[middle:])

    def _slower(self, entry: _Entry) -> int | None:
        """What a measurement costs if it is slower; None if there is no plan then."""
        changed = self._with(self._varied([entry], 1.0 + self._share))
        kept = replace(self._plan, profiles=changed)
        rests = any(
            stage.model == entry.table[0] and self._plan.choices[name].hardware == entry.table[1]
            for name, stage in self._plan.pipeline.stages.items()
        )
        if self._planner.is_monotone and (not rests or self._planner.keeps(kept)):
            return 0
        self._limits.report(f"{entry.table[0]} on {entry.table[1]} slower")
        cost = self._planner.proven(changed).microusd_per_hour
        return None if cost is None else cost - self._cost
