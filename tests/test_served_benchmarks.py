"""The benchmarks that serve: models are put where an export leaves a place for them, and faults are judged rightly."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mipplan as mp
from benchmarks.faults.run import ALLOWANCE_S, judged
from benchmarks.faults.summary import summarise
from benchmarks.ocr import stages
from benchmarks.ocr.run import BATCHES
from benchmarks.ocr.serving import SYSTEMS, fill_in
from benchmarks.ocr.stages import _by_page
from benchmarks.truth.run import plan_of
from mipplan.profiles import Hardware, LatencyTable, Profiles


def ocr_plan(fanout: bool, cap: int) -> mp.Plan:
    document: dict[str, Any] = {
        "slo": "1s",
        "stages": {stage: {"model": stage} for stage in ("find", "turn", "read")},
        "edges": [{"from": "find", "to": "turn"}, {"from": "turn", "to": "read"}],
    }
    if fanout:
        document["edges"][0] |= {"probability": 0.9, "fanout": {"values": [1, 7], "weights": [1, 2]}}
    tables = [
        LatencyTable(stage, "cpu_core", np.array([1, 2]), np.array([10.0, 15.0]))
        for stage in document["stages"]
    ]
    profiles = Profiles.from_parts([Hardware("cpu_core", 0.05)], tables)
    choices = dict.fromkeys(document["stages"], ("cpu_core", cap, 1))
    return mp.Plan.from_choices(mp.Pipeline.from_document(document), profiles, choices)


@pytest.mark.parametrize("cap", [1, 2])
@pytest.mark.parametrize(("to", "file"), [("ray", "app.py"), ("mosec", "server.py")])
def test_models_are_put_where_the_export_leaves_a_place(to: str, file: str, cap: int, tmp_path: Path) -> None:
    plan = ocr_plan(to == "ray", cap)
    mp.export(plan, to=to, directory=tmp_path / "out")
    exported = (tmp_path / "out" / file).read_text(encoding="utf-8")
    filled = fill_in(exported, {stage: f"stages.{stage}()" for stage in plan.choices})
    classes = {
        node.name: ast.unparse(node) for node in ast.parse(filled).body if isinstance(node, ast.ClassDef)
    }
    for stage in plan.choices:
        assert f"return stages.{stage}()" in classes[f"Stage_{stage}"]
        assert f"stages.load('{stage}')" in classes[f"Stage_{stage}"]
    assert "NotImplementedError" in exported
    assert "NotImplementedError" not in filled
    with pytest.raises(AssertionError, match="leaves nothing open for read"):
        fill_in(filled, {"read": "x"})


def test_functions_that_are_measured_are_those_that_are_served() -> None:
    for system in SYSTEMS:
        assert list(system.pipeline) == ["find", "turn", "read"]
        for stage, function in system.pipeline.items():
            work = function.removesuffix("_next")
            assert work in (stage, f"{stage}_page")
            served = f"serve_{stage}" if system.has_dispatcher else work
            assert all(callable(getattr(stages, name)) for name in (function, work, served))
            assert function in BATCHES


def test_lines_come_back_by_page() -> None:
    calls: list[int] = []

    def work(lines: list[int]) -> list[int]:
        calls.append(len(lines))
        return [10 * line for line in lines]

    assert _by_page(work, [list(range(9)), [], [9, 10]]) == [
        [10 * line for line in range(9)],
        [],
        [90, 100],
    ]
    assert calls == [8, 3]


def test_queries_are_held_against_their_own_certificates() -> None:
    plan = plan_of(None)
    trace = mp.Trace.poisson(rate_rps=30, duration_s=5, seed=1)
    replayed = mp.replay(mp.serving.with_allowance(plan, ALLOWANCE_S), trace)
    answers: list[dict[str, Any]] = [
        {"status": 200, "outcome": "served", "ingress_ns": at, "latency_ns": latency, "void": False}
        for at, latency in zip(trace.arrival_ns.tolist(), replayed.latency_ns.tolist(), strict=True)
    ]
    sound = judged(plan, answers[::-1])
    assert (sound["sent"], sound["served"], sound["over"]) == (len(trace), len(trace), 0)
    assert 0.0 < sound["largest_share_of_bound"] <= 1.0

    answers[3] |= {"latency_ns": 10**12}
    answers[4] |= {"latency_ns": 10**12, "void": True}
    answers[5] |= {"status": 500, "outcome": "failed", "void": True}
    answers[6], answers[7] = {"status": "ServerDisconnectedError"}, {"status": None}
    found = judged(plan, answers)
    assert (found["served"], found["errors"], found["unanswered"]) == (len(trace) - 3, 2, 1)
    assert (found["over"], found["over_though_guaranteed"], found["void"]) == (2, 1, 1)

    text = summarise(pd.DataFrame([{"fault": "none", **sound}, {"fault": "some", **found}]))
    assert "| no query that has its guarantee exceeds its certificate | 1 of" in text
    assert text.count("**missed**") == 2
    assert summarise(pd.DataFrame([{"fault": "none", **sound}])).count("kept") == 2
