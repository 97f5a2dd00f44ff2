"""The benchmark of re-solving: every step is a relaxation that all ways are given, and they agree on its optimum."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.resolve.instances import CASES
from benchmarks.resolve.peers import PEERS
from benchmarks.resolve.run import AGREED, WARM, WHOLE, collect_models, measure


# PuLP 3 warns of what PuLP 4 will do otherwise; a rival is used as it is.
@pytest.mark.filterwarnings("ignore::DeprecationWarning:pulp")
@pytest.mark.parametrize("number", [0, 1])
def test_every_step_is_relaxed_and_all_ways_agree(number: int) -> None:
    case = replace(CASES[number], steps=WARM + 3)
    models = collect_models(case)
    assert len(models) >= case.steps
    for model in models[-2:]:
        found = {way: make()(model) for way, make in PEERS.items()}
        assert found == pytest.approx(dict.fromkeys(found, next(iter(found.values()))), rel=AGREED)


def test_what_is_measured_is_told_for_the_steps_after_the_first() -> None:
    case = replace(CASES[0], steps=WARM + 3)
    ours = measure(case, WHOLE)
    assert (ours["solves"], ours["models_built"], ours["steps_short_of_devices"]) == (3, 1, 0)
    assert 0 < ours["median_ms"] <= ours["p90_ms"] <= ours["p99_ms"] <= ours["most_ms"]
    kept = measure(case, "HiGHS kept")
    assert len(kept["objectives"]) == case.steps
