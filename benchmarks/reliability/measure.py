"""One case: every planner at every setting, and on how many parts of tomorrow its plan keeps the objective."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import mipplan as mp
from benchmarks.compare.planners import DISCIPLINE
from benchmarks.reliability.planners import OURS, SETTINGS, Setting, make_plan
from benchmarks.reliability.traffic import CALIBRATION_PARTS, PARTS, Case, make_case
from mipplan.result import Choice

QUANTILE = 0.99
#: Of the token draws of the first part; plans are made with seed 0.
FIRST_SEED = 1

Choices = tuple[tuple[str, Choice], ...]


def measure(
    name: str, parts: int = PARTS, calibration_parts: int = CALIBRATION_PARTS
) -> list[dict[str, Any]]:
    """Rows of one case; see `benchmarks.reliability.run.COLUMNS`."""
    return measure_case(make_case(name, calibration_parts), parts)


def measure_case(
    case: Case, parts: int = PARTS, settings: Sequence[Setting] = SETTINGS
) -> list[dict[str, Any]]:
    """Plan, judge every different plan on the first parts, and those of ours on all of them.

    Settings that come to the same choices share their replays, plans share stages that they configure alike, and a
    replay ends as soon as its verdict is certain.
    """
    begun = time.process_time()
    made = [(setting, *_timed(case, setting)) for setting in settings]
    # Each plan once, in the order of the settings.
    plans = dict.fromkeys(_choices(plan) for _, plan, _ in made if plan.choices)
    ours = dict.fromkeys(
        _choices(plan) for setting, plan, _ in made if plan.choices and setting.planner == OURS
    )
    kept = _judge(case, list(plans), 0, case.parts[:parts])
    more = _judge(case, list(ours), parts, case.parts[parts:])
    rows = [_row(case, setting, plan, seconds, kept, more) for setting, plan, seconds in made]
    total = time.process_time() - begun
    return [{**row, "case_cpu_seconds": total} for row in rows]


def _timed(case: Case, setting: Setting) -> tuple[mp.Plan, float]:
    """The plan, and the time of the processor that it took; limits count that time, too."""
    begun = time.process_time()
    with patch("time.monotonic", time.process_time):
        plan = make_plan(case, setting)
    return plan, time.process_time() - begun


def _choices(plan: mp.Plan) -> Choices:
    return tuple(plan.choices.items())


def _judge(
    case: Case, plans: Sequence[Choices], first: int, parts: Sequence[mp.Trace]
) -> dict[Choices, list[bool]]:
    """Whether each plan keeps the objective on each part, the first of which has this number."""
    verdicts: dict[Choices, list[bool]] = {choices: [] for choices in plans}
    if not plans:
        return verdicts
    judged = [
        mp.Plan.from_choices(case.pipeline, case.profiles, dict(choices), slo_s=case.slo_s)
        for choices in plans
    ]
    for number, trace in enumerate(parts, first):
        found = mp.replay_many(
            judged,
            trace,
            slo_s=case.slo_s,
            quantile=QUANTILE,
            discipline=DISCIPLINE,
            seed=FIRST_SEED + number,
        )
        for choices, verdict in zip(plans, found, strict=True):
            verdicts[choices].append(verdict.keeps)
    return verdicts


def _row(
    case: Case,
    setting: Setting,
    plan: mp.Plan,
    seconds: float,
    kept: dict[Choices, list[bool]],
    more: dict[Choices, list[bool]],
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "case": case.name,
        "fingerprint": case.fingerprint,
        "group": case.group,
        "kind": case.kind,
        "pipeline": case.pipeline.name,
        "stages": len(case.pipeline.stages),
        "queries": len(case.sample),
        "slo_s": case.slo_s,
        "planner": setting.planner,
        "of_slo": setting.of_slo,
        "headroom": setting.headroom,
        "confidence": setting.confidence,
        "status": plan.status.value,
        "usd_per_hour": plan.usd_per_hour if plan.choices else None,
        "cpu_seconds": seconds,
    }
    if plan.choices:
        verdicts = kept[_choices(plan)]
        row |= {"parts": len(verdicts), "kept": sum(verdicts), "first_kept": verdicts[0]}
    test = plan.reliability
    if test is not None:
        row |= {
            "test_scenarios": test.scenarios,
            "test_kept": test.kept,
            "low": test.low,
            "high": test.high,
            "drift": test.drift,
            "chosen_on": test.chosen_on,
            "fastest_rps": test.fastest_rps,
        }
    if test is not None and plan.choices:
        verdicts = [*kept[_choices(plan)], *more[_choices(plan)]]
        fast = [
            is_kept
            for part, is_kept in zip(case.parts, verdicts, strict=True)
            if part.rate_rps > test.fastest_rps
        ]
        row |= {"all_parts": len(verdicts), "all_kept": sum(verdicts)}
        row |= {"fast_parts": len(fast), "fast_kept": sum(fast)}
    return row
