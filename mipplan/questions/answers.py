"""What if something were different: each change alone and all together, planned anew, and judged with the plan kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from mipplan.core import (
    Deadline,
    InputError,
    Printable,
    SearchLimits,
    Summary,
    check_all,
    check_jobs,
    effective_jobs,
    format_duration,
    run_apart,
    shown,
    usd_text,
)
from mipplan.questions.changes import set_all
from mipplan.questions.differences import PlanDifference, cost_or_status, diff
from mipplan.questions.problems import Problem, SamePlan, is_proven
from mipplan.replayer import check_plan
from mipplan.result import Plan, PlanStatus
from mipplan.tokens import check_seeds, read_traces
from mipplan.trace import Trace

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class WhatIfCase:
    """What comes of some changes."""

    name: str
    """The changes: ``price.l4=-20%``, or ``all together``."""
    changes: tuple[str, ...]
    plan: Plan
    """Planned anew."""
    same: SamePlan | None
    """The plan asked about, judged under the changes; None if its choices are impossible then."""
    obstacle: str | None
    """Why they are."""
    difference: PlanDifference
    """From the plan asked about, planned as things are, to that planned anew."""


@dataclass(frozen=True, eq=False, repr=False)
class WhatIf(Printable):
    """What would be if something were different.

    Attributes
    ----------
    plan : Plan
        The one asked about.
    base : Plan
        The cheapest one as things are: the same, if that is proven to be the cheapest on these traces.
    same : SamePlan
        The plan asked about, judged as things are.
    traces : tuple of Trace
    cases : tuple of WhatIfCase
        Each change alone, and if there are several, all together.
    complete : bool
        False if Ctrl-C came before the last case.
    """

    plan: Plan
    base: Plan
    same: SamePlan
    traces: tuple[Trace, ...]
    cases: tuple[WhatIfCase, ...]
    complete: bool = True

    def rows(self) -> Iterator[tuple[str, Plan, SamePlan | None, str | None]]:
        """As things are, and every case: name, plan made anew, the same plan judged, and why it is impossible."""
        yield "as it is", self.base, self.same, None
        for case in self.cases:
            yield case.name, case.plan, case.same, case.obstacle

    @property
    def traffic(self) -> str:
        """Names of the traces."""
        return ", ".join(trace.name for trace in self.traces)

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per case: cost and certificate planned anew; cost, latency and verdict of the same plan."""
        import pandas as pd

        return pd.DataFrame(
            {
                "case": name,
                "status": plan.status.value,
                "usd_per_hour": plan.usd_per_hour,
                "certificate_s": plan.certificate_s,
                "same_usd_per_hour": None if same is None else same.plan.usd_per_hour,
                "same_guaranteed_s": None if same is None else same.guaranteed_s,
                "same_replayed_s": None if same is None else same.replayed_s,
                "same_keeps": None if same is None else same.keeps,
            }
            for name, plan, same, _ in self.rows()
        )

    def _summary(self) -> Summary:
        return Summary(
            f"What if: {self.plan.pipeline.name} on {self.traffic}, {self.plan.objective.text}",
            figures=(("not done", None if self.complete else "interrupted before the last case"),),
            headings=("what if", ">planned anew", ">same plan", "kept", "changes"),
            rows=(
                (
                    name,
                    least_cost_text(plan, " $/h"),
                    "" if same is None else cost_or_status(same.plan),
                    verdict(same, why),
                    changed,
                )
                for (name, plan, same, why), changed in zip(self.rows(), self._changes(), strict=True)
            ),
            count=len(self.cases) + 1,
            what="cases",
        )

    def _changes(self) -> Iterator[str]:
        yield ""
        for case in self.cases:
            yield ", ".join(one.text for one in case.difference.stages) or "none"

    def _line(self) -> str:
        return f" {self.plan.pipeline.name}: {', '.join(case.name for case in self.cases)}"


def least_cost_text(plan: Plan, unit: str = "") -> str:
    """Write what the cheapest plan costs, or its status; ``≤`` where a cheaper plan is not excluded."""
    if plan.usd_per_hour is None:
        return plan.status.value
    return f"{'' if is_proven(plan) else '≤ '}{usd_text(plan.usd_per_hour)}{unit}"


def verdict(same: SamePlan | None, obstacle: str | None = None) -> str:
    """Say in a few words whether the same plan would do."""
    if same is None:
        return obstacle or "impossible"
    behind = f"overloaded: {', '.join(same.overloaded)}"
    if same.overloaded and same.guaranteed_ns is not None:
        return behind
    if same.scarce:
        return f"too few {', '.join(same.scarce)}"
    replayed = f"replayed {format_duration(same.replayed_ns)}"
    figure = replayed if same.guaranteed_ns is None else format_duration(same.guaranteed_ns)
    told = f"{'kept' if same.keeps else 'MISSED'}, {figure}"
    return f"{told}, {behind}" if same.overloaded else told


def whatif(
    plan: Plan,
    trace: Trace | Sequence[Trace],
    changes: Mapping[str, object],
    *,
    seeds: int | None = None,
    time_limit_s: float | None = 60.0,
    n_jobs: int = 1,
    progress: Callable[[str], None] | None = None,
) -> WhatIf:
    """Say what would be if something were different: each change alone, and all together.

    Parameters
    ----------
    plan : Plan
        With choices: planned, from a file, or of `Plan.from_choices`.
    trace : Trace, or sequence of Trace
        The traffic to plan for and to judge on, before headroom; the objective is kept on each of several by itself.
    changes : mapping of str to str or number
        ``{"ocr.batch": 8, "price.l4": "-20%", "slo": "300ms", "rate": "2x"}``; `mipplan.questions.SETTINGS` lists what
        can be set.
    seeds : int, optional
        Draws of the tokens of every trace, each of which must be kept; as many as the plan was made for by default.
    time_limit_s : float or None
        For planning each case.
    n_jobs : int
        Cases that are worked on at once, through joblib.
    progress : callable, optional
        Called with one line of text as the work proceeds; only with one job.

    Returns
    -------
    WhatIf
        Each case planned anew under the plan's own guarantee, and the same choices judged under it: by the guarantee,
        and by a replay. Of a stage whose batch cap, replicas or hardware are set, the choice is changed as set.

    Raises
    ------
    NoPlanError
        If the plan holds no choices.
    InputError
        Listing every change that cannot be made, with its place and what would be accepted.
    """
    check_all(
        lambda: check_plan(plan),
        lambda: read_traces(trace),
        lambda: None if seeds is None else check_seeds(seeds),
        lambda: _check_changes(changes),
        lambda: Deadline.after(time_limit_s),
        lambda: check_jobs(n_jobs),
    )
    traces, report = read_traces(trace), progress or (lambda _: None)
    asked = plan if seeds is None else replace(plan, objective=replace(plan.objective, seeds=seeds))
    problem = Problem(asked.require(), traces)
    texts = tuple(f"{key}={value}" for key, value in changes.items())
    # Every fault of all changes comes at once.
    together = set_all(problem, changes)
    problems = {text: set_all(problem, {key: changes[key]}) for key, text in zip(changes, texts, strict=True)}
    if len(problems) > 1:
        problems["all together"] = together
    planned_on = [one.sha256 for one in plan.traces]
    proven = plan.status is PlanStatus.OPTIMAL and planned_on == [one.sha256 for one in traces]
    proven &= asked.seeds == plan.seeds
    report("as it is")
    base = plan if proven else problem.planned(_limits(time_limit_s, report))
    same = problem.judged()
    cases: list[WhatIfCase] = []
    if effective_jobs(n_jobs) == 1:
        with suppress(KeyboardInterrupt):  # what was found until then is the answer
            for name, changed in problems.items():
                report(name)
                cases.append(_case(name, texts, changed, base, time_limit_s, report))
    else:
        tasks = [
            partial(_case, name, texts, changed, base, time_limit_s) for name, changed in problems.items()
        ]
        cases = [case for case in run_apart(tasks, n_jobs) if case is not None]
    return WhatIf(asked, base, same, tuple(traces), tuple(cases), complete=len(cases) == len(problems))


def _check_changes(changes: object) -> None:
    if not isinstance(changes, Mapping) or not changes or not all(isinstance(key, str) for key in changes):
        message = f"expected a mapping such as {{'slo': '300ms'}}, found {shown(changes)}"
        raise InputError.one("changes", message)


def _limits(time_limit_s: float | None, report: Callable[[str], None]) -> SearchLimits:
    return SearchLimits(Deadline.after(time_limit_s), report)


def _case(
    name: str,
    texts: tuple[str, ...],
    problem: Problem,
    base: Plan,
    time_limit_s: float | None,
    report: Callable[[str], None] = lambda _: None,
) -> WhatIfCase:
    planned = problem.planned(_limits(time_limit_s, report))
    same, obstacle = None, None
    try:
        same = problem.judged()
    except InputError as error:
        obstacle = "; ".join(fault.message for fault in error.faults)
    changes = texts if name not in texts else (name,)
    return WhatIfCase(name, changes, planned, same, obstacle, diff(base, planned))
