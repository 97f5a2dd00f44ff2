"""Every answer is what it was before the house was rebuilt: to the digit, the word, the byte of a plan file."""

from __future__ import annotations

import json
from importlib import import_module

import pytest

import mipplan as mp
from golden.answering import CASES, answer, depends_on, recorded, tried_cases
from golden.cases import NEW_FIELDS
from golden.layout import ANSWERS, HERE, OLD_PLANS, OLD_TRACES, old_trace
from golden.normalising import differences

_SHOWN = 20


@pytest.mark.parametrize("name", tried_cases())
@pytest.mark.filterwarnings("default")
def test_answer(name: str) -> None:
    if other := depends_on(name):
        pytest.skip(f"recorded with other versions: {other}")
    found = list(differences(recorded(name), answer(name), NEW_FIELDS))
    more = f"\n… and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    assert not found, "\n".join(found[:_SHOWN]) + more


def test_no_answer_is_left_over() -> None:
    names = {str(path.relative_to(ANSWERS).with_suffix("")) for path in ANSWERS.rglob("*.json")}
    assert names == {"versions", *CASES}


def test_public_names_are_still_there() -> None:
    before = json.loads((HERE / "inputs" / "public_names.json").read_text(encoding="utf-8"))
    for module, names in before.items():
        assert set(names) <= set(import_module(module).__all__), module


@pytest.mark.parametrize("name", OLD_TRACES)
def test_old_plan_file(name: str) -> None:
    path = OLD_PLANS / f"{name}.json"
    plan = mp.Plan.load(path)
    assert plan.to_json() == path.read_text(encoding="utf-8")
    verification = mp.verify(path, old_trace(name))
    assert verification.verified, verification.problems
    assert mp.certify(plan, old_trace(name)).bound_ns <= plan.slo_ns


def test_old_infeasible_file() -> None:
    path = OLD_PLANS / "infeasible.json"
    plan = mp.Plan.load(path)
    assert (plan.status, dict(plan.choices)) == (mp.PlanStatus.INFEASIBLE, {})
    assert plan.to_json() == path.read_text(encoding="utf-8")
