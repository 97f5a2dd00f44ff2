"""Fleets whose pipelines choose variants, against brute force over every plan of every pipeline."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from rich.console import Console

import mipplan as mp
from campaigns import Violations, campaign_size, write_summary
from fleet_instances import arguments_of, small_fleet
from mipplan import reporting
from oracle_fleet import certified_device_vectors, cheapest_selection, check_verdict

#: Shares of what the pipelines would use each by itself that there is of every device.
SCARCITY = (0.5, 0.7, 0.9, 1.2)


def test_fleets_that_choose_variants_cost_what_brute_force_finds() -> None:
    verdicts: Counter[str] = Counter()
    violations, count = Violations(), campaign_size(5, 150)
    for number in range(count):
        with violations.case(number):
            fleet = small_fleet(number, scarcity=SCARCITY[number % len(SCARCITY)], variants=True)
            vectors = [certified_device_vectors(member, fleet) for member in fleet.members]
            optimum, (pipelines, profiles) = cheapest_selection(vectors, fleet), arguments_of(fleet)
            common = {"quantile": fleet.quantile, "gap": 0.0, "n_jobs": 1}
            changing = not fleet.is_one_program
            verdicts["variants change tokens"] += changing
            for method in ("auto",) if changing else ("auto", "joint"):
                made = mp.plan_fleet(pipelines, profiles, method=method, **common)
                verdicts[made.status] += 1
                if not check_verdict(made, optimum, vectors, fleet):
                    continue
                check_plans(fleet.members, made)
            verdicts.update(str(member.pipeline.accuracy.kind) for member in fleet.members)
    often = ("optimal", "infeasible", "path_shares", "variants change tokens")
    assert verdicts["optimal"]
    assert not count > 50 or min(verdicts[kind] for kind in often) >= 0.1 * count
    write_summary(
        "fleet_variants_against_brute_force",
        {"fleets": count, "mismatches": violations.checked(), "verdicts": dict(sorted(verdicts.items()))},
    )


def check_plans(members, made: mp.FleetPlan) -> None:  # type: ignore[no-untyped-def]
    for member in members:
        plan = made.plans[member.name]
        assert plan.objective.min_accuracy == member.min_accuracy
        assert member.min_accuracy is None or plan.accuracy >= member.min_accuracy * (1 - 1e-8)
        assert mp.verify(plan, member.trace).verified
        assert all(
            (choice.variant in stage.models) if stage.variants else choice.variant is None
            for choice, stage in zip(plan.choices.values(), member.pipeline.stages.values(), strict=True)
        )


def two_stages(**edge: object) -> mp.Pipeline:
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("a", variants={"m1": 0.6, "m2": 0.9})
    graph.add_node("b", model="m3")
    graph.add_edge("a", "b", **edge)
    return mp.Pipeline(graph=graph, slo_s=1.0, name="two")


def test_what_fleets_cannot_choose_is_told() -> None:
    _, profiles = arguments_of(small_fleet(0, variants=True))
    trace = mp.Trace.from_ns(np.arange(50) * 10_000_000)
    plain, changing = two_stages(), two_stages(fanout={"m1": 2, "m2": 3})
    with pytest.raises(
        mp.InputError, match=r"method: joint draws tokens once, and variants change them in x"
    ):
        mp.plan_fleet({"x": (changing, trace)}, profiles, method="joint")
    with pytest.raises(mp.InputError, match=r"pipelines.x: accuracy: expected an accuracy in \(0, 1\]"):
        mp.plan_fleet({"x": (plain, trace, None, 1.0, 1.5)}, profiles)
    rows = [{"a": "m1", "accuracy": 0.5}, {"a": "m2", "accuracy": 0.7}]
    table = mp.Pipeline(graph=plain.graph, slo_s=1.0, name="two", accuracy={"table": rows})
    with pytest.raises(mp.InputError, match="fleets know no tables of combinations"):
        mp.plan_fleet({"x": (table, trace, None, 1.0, 0.5)}, profiles)


def test_an_accuracy_that_nothing_has_leaves_no_plan() -> None:
    _, profiles = arguments_of(small_fleet(0, variants=True))
    trace = mp.Trace.from_ns(np.arange(50) * 10_000_000)
    for method in ("columns", "joint"):
        made = mp.plan_fleet({"x": (two_stages(), trace, None, 1.0, 0.95)}, profiles, method=method)
        assert made.status == "infeasible"


def test_numbers_of_numpy_are_kept_in_checkpoints(tmp_path: Path) -> None:
    _, profiles = arguments_of(small_fleet(0, variants=True))
    asked = {"x": (two_stages(), mp.Trace.from_ns(np.arange(50) * 10_000_000), None, 1.0, np.float32(0.6))}
    how = {"gap": np.float32(0.01), "checkpoint": tmp_path / "kept.json", "n_jobs": 1}
    made = [mp.plan_fleet(asked, profiles, **how) for _ in range(2)]
    assert [one.plans["x"].min_accuracy for one in made] == [0.6, 0.6]


def test_accuracies_are_told() -> None:
    fleet = small_fleet(3, scarcity=1.2, variants=True)
    pipelines, profiles = arguments_of(fleet)
    made = mp.plan_fleet(pipelines, profiles, quantile=fleet.quantile, n_jobs=1).require()
    known = {name: plan.accuracy for name, plan in made.plans.items()}
    assert made.to_pandas()["accuracy"].to_dict() == known
    report = reporting.fleet_report("three", fleet.quantile, 0, made, [])
    told = report.model_dump(mode="json")["pipelines"]
    assert {name: member["accuracy"] for name, member in told.items()} == known
    asked = {member.name: member.min_accuracy for member in fleet.members}
    assert {name: member.get("min_accuracy") for name, member in told.items()} == asked
    console = Console(width=200, record=True, file=io.StringIO())
    reporting.show_fleet(console, report)
    for text in (console.export_text(), mp.report(made).html):
        assert "accuracy" in text
        assert all(f"{accuracy:.4g}" in text for accuracy in known.values())
