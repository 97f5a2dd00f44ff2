"""What results print: few lines that a person reads, the same in a notebook, one line inside anything else."""

from __future__ import annotations

import copy
import itertools
import pickle
import re
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pytest

import mipplan as mp
from mipplan.calculus import WindowCounts
from mipplan.core import MOST_LINES, Printable, Summary
from mipplan.core.printing import MOST_COLUMNS
from mipplan.result import Figures, Limit, Objective, Provenance, Refinement
from mipplan.solvers import Answer, Termination
from mipplan.trace import TraceReference

ODD = "<b>a & b"


def chain(stages: int) -> mp.Pipeline:
    """Stages one behind the other, the first of them with an odd name."""
    names = [ODD, *(f"stage-{number}" for number in range(2, stages + 1))][:stages]
    graph = nx.DiGraph()
    for stage in names:
        graph.add_node(stage, model="preprocess")
    graph.add_edges_from(itertools.pairwise(names))
    return mp.Pipeline(graph=graph, slo_s=2.0, name="long")


@pytest.fixture(scope="module")
def trace() -> mp.Trace:
    return mp.Trace.gamma(rate_rps=60, cv=2, duration_s=6, seed=4)


def plan_of(stages: int) -> mp.Plan:
    pipeline = chain(stages)
    choices = dict.fromkeys(pipeline.stages, ("cpu", 1, 2))
    return mp.Plan.from_choices(pipeline, mp.Profiles.default(), choices)


@pytest.fixture(scope="module")
def results(trace: mp.Trace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every kind of result, of a pipeline of three stages and of one of a hundred."""
    made: dict[str, Any] = {}
    for stages in (3, 100):
        plan = plan_of(stages)
        file = tmp_path_factory.mktemp("plans") / "plan.json"
        plan.save(file)
        arrivals = tmp_path_factory.mktemp("traces") / "trace.csv"
        arrivals.write_text("arrival_s\n" + "".join(f"{at / 1e9:.9f}\n" for at in trace.arrival_ns))
        made |= {
            f"plan of {stages}": plan,
            f"replay of {stages}": mp.replay(plan, trace),
            f"stream of {stages}": mp.replay_stream(plan, arrivals),
            f"certificate of {stages}": mp.certify(plan, trace),
            f"verification of {stages}": mp.verify(file, trace),
        }
    short, pipeline = plan_of(3), chain(3)
    planned = mp.plan(pipeline, mp.Profiles.default(), trace)
    return made | {
        "planned": planned,
        "infeasible": mp.plan(pipeline, mp.Profiles.default(), trace, slo_s=0.001),
        "explanation": planned.explain(),
        "comparison": mp.compare(pipeline, mp.Profiles.default(), trace, planners=["certified", "half_slo"]),
        "fleet": mp.plan_fleet({ODD: (pipeline, trace), "b": (pipeline, trace)}, mp.Profiles.default()),
        "tuning": (tuning := mp.tune(short, trace, policies=["static", "hpa"], split=0.5)),
        "run": tuning.runs[0],
        "step of 3": retuned(short, trace),
        "step of 100": retuned(plan_of(100), trace),
    }


def retuned(plan: mp.Plan, trace: mp.Trace) -> mp.TuningStep:
    tuner = mp.Tuner(plan, sample=trace)
    tuner.observe(trace.arrival_ns[:200])
    return tuner.retune()


NAMES = [
    *(f"{kind} of {stages}" for stages in (3, 100) for kind in ("plan", "replay", "stream")),
    *(f"{kind} of {stages}" for stages in (3, 100) for kind in ("certificate", "verification")),
    *(
        "planned",
        "infeasible",
        "explanation",
        "comparison",
        "fleet",
        "tuning",
        "run",
        "step of 3",
        "step of 100",
    ),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_result_prints_in_few_lines(results: dict[str, Any], name: str) -> None:
    lines = str(results[name]).splitlines()
    assert 2 <= len(lines) <= MOST_LINES
    if name != "explanation":  # whole sentences, which a terminal wraps
        assert max(map(len, lines)) <= MOST_COLUMNS
    assert lines == [line.rstrip() for line in lines]


@pytest.mark.parametrize("name", NAMES)
def test_a_result_is_one_line_inside_anything_else(results: dict[str, Any], name: str) -> None:
    text = repr([results[name]])
    kind = type(results[name]).__name__
    assert re.fullmatch(rf"\[<{kind}.*>\]", text)
    assert len(text) <= 400
    assert "array" not in text


@pytest.mark.parametrize("name", NAMES)
def test_a_result_equals_its_copies(results: dict[str, Any], name: str) -> None:
    """Comparing results that hold arrays was a `ValueError`, and none that holds a mapping had a hash."""
    result = results[name]
    for again in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        assert again == result
        assert {result: 1}[again] == 1
    assert result not in (None, *(other for key, other in results.items() if key != name))


def test_results_of_equal_questions_are_equal(results: dict[str, Any], trace: mp.Trace) -> None:
    plan = results["planned"]
    once, again = mp.replay(plan, trace), mp.replay(plan, trace)
    assert once == again
    assert once != replace(once, seed=7)
    assert once != replace(once, latency_ns=once.latency_ns + 1)
    assert mp.certify(plan, trace) == mp.certify(plan, trace) != mp.certify(plan, trace.scale(1.5))
    assert mp.Tuner(plan).retune() == pickle.loads(pickle.dumps(mp.Tuner(plan))).retune()


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_shows_escaped_tables(results: dict[str, Any], name: str) -> None:
    text = results[name]._repr_html_()
    assert text.startswith("<div><strong>")
    assert ODD not in text
    assert text.count("<table>") == text.count("</table>") <= 2
    assert text.count("<tr>") <= 2 * MOST_LINES


def test_names_are_escaped_in_a_notebook(results: dict[str, Any]) -> None:
    assert "&lt;b&gt;a &amp; b" in results["plan of 3"]._repr_html_()


def test_stages_beyond_the_lines_are_counted(results: dict[str, Any]) -> None:
    for kind in ("plan", "replay", "stream", "certificate", "step"):
        text = str(results[f"{kind} of 100"])
        shown = sum(stage in text for stage in [ODD, *(f"stage-{number} " for number in range(2, 101))])
        assert shown >= 5
        assert text.endswith(f"… and {100 - shown} more stages")
        assert f"… and {100 - MOST_LINES + 1} more stages" in results[f"{kind} of 100"]._repr_html_()


def test_an_explanation_of_many_stages_says_how_much_is_left_out(results: dict[str, Any]) -> None:
    explanation = results["explanation"]
    assert str(explanation).splitlines() == explanation.lines()
    many = replace(explanation, stages=explanation.stages * 20)
    lines = str(many).splitlines()
    assert len(lines) == MOST_LINES
    assert lines[-1] == f"… and {len(many.lines()) - MOST_LINES + 1} more sentences"
    assert lines[:-1] == many.lines()[: MOST_LINES - 1]


def test_a_plan_says_what_it_costs_and_keeps(results: dict[str, Any]) -> None:
    plan = results["planned"]
    text = str(plan)
    assert text.splitlines()[0] == "Plan for long: optimal"
    assert f"cost         {plan.usd_per_hour:.4f} $/h, proven cheapest" in text
    assert "objective    P99 ≤ 2 s" in text
    assert "certificate" in text
    assert repr(plan).startswith(f"<Plan long: optimal, {plan.usd_per_hour:.4f} $/h, P99 ≤ 2 s (certificate ")


def test_a_plan_that_is_none_says_why(results: dict[str, Any]) -> None:
    plan = results["infeasible"]
    assert str(plan).startswith("Plan for long: infeasible\n")
    assert " ".join(str(plan).split()).endswith(plan.reason)
    assert repr(plan) == "<Plan long: infeasible, P99 ≤ 1 ms, 3 stages>"


def test_a_plan_says_what_kept_it_from_more() -> None:
    plan = replace(
        plan_of(3),
        objective=Objective(2 * 10**9, headroom=1.2, margin_ns=5_000_000, budget_microusd_per_hour=10**6),
        status=mp.PlanStatus.FEASIBLE,
        figures=Figures(900_000, None, 7_000_000, 8_000_000),
        provenance=Provenance(
            TraceReference("rush", "", "0" * 64, 1_000, 10**9),
            refinement=Refinement("oldest_first", quantile_ns=6_000_000),
        ),
        limit=Limit.TIME,
    )
    text = str(plan)
    for said in (
        "0.9000 $/h, budget 1.0000 $/h",
        "P99 ≤ 2 s, for 1.2 × the traffic, 5 ms of it kept back",
        "8 ms on rush (1,000 queries)",
        "6 ms, oldest first",
        "the time limit",
    ):
        assert said in text
    dearer = replace(plan, objective=Objective(10**9), figures=Figures(10**6, 9 * 10**5, None, None))
    assert "1.0000 $/h, no plan below 0.9000 $/h (gap 10.0%)" in str(dearer)


def test_a_replay_says_what_was_seen(results: dict[str, Any]) -> None:
    result = results["replay of 3"]
    assert str(result).startswith(f"Replay of {result.queries} queries over ")
    assert "max" in str(result)
    assert repr(result).startswith(f"<ReplayResult: {result.queries} queries, ")


@pytest.mark.parametrize("kind", ["stages", "in_flight", "windows", "histogram", "assignment", "quantile"])
def test_no_part_of_a_result_shows_arrays(results: dict[str, Any], kind: str) -> None:
    result = results["replay of 3"]
    stage = next(iter(result.stages.values()))
    part = {
        "stages": result.stages,
        "in_flight": result.in_flight,
        "windows": result.windows(1.0),
        "histogram": results["stream of 3"].histogram,
        "assignment": [stage.assignment, stage.queue_length],
        "quantile": result.statistics(0.1),
    }[kind]
    assert not re.search(r"array|\[\s*\d+[ ,]+\d+", repr(part))


def test_printing_changes_no_result(results: dict[str, Any]) -> None:
    plan = results["plan of 3"]
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_results_can_be_sent_to_another_process(results: dict[str, Any]) -> None:
    for name, result in results.items():
        assert str(pickle.loads(pickle.dumps(result))) == str(result), name


def test_tables_and_pictures_are_at_hand(results: dict[str, Any]) -> None:
    plan = results["plan of 3"]
    table = plan.to_pandas()
    assert list(table.columns) == ["hardware", "batch", "replicas", "usd_per_hour"]
    assert table["usd_per_hour"].sum() == pytest.approx(plan.usd_per_hour)
    assert list(table.index) == list(plan.choices)
    assert list(results["infeasible"].to_pandas().columns) == list(table.columns)
    assert len(results["comparison"].to_pandas()) == 2
    assert list(results["fleet"].to_pandas().index) == [ODD, "b"]
    assert isinstance(results["tuning"].to_pandas(), pd.DataFrame)
    for name in ("comparison", "fleet", "tuning"):
        assert results[name].plot().axes
    assert results["replay of 3"].plot(0.1).axes


class Wordy(Printable):
    """Says too much, in too long words."""

    def _summary(self) -> Summary:
        figures = [(f"figure {number}", "word " * 100) for number in range(9)]
        row = ("name " * 40, "12")
        return Summary("title " * 40, figures, ("what", ">how much"), [row] * 50, 50, "things")

    def _line(self) -> str:
        return ": much"


def test_long_texts_are_cut_to_size() -> None:
    lines = str(Wordy()).splitlines()
    assert len(lines) <= MOST_LINES
    assert max(map(len, lines)) <= MOST_COLUMNS
    assert lines[-1].endswith("more things")
    # Nine figures of three lines each: what is left out above the table is counted, too.
    assert [line for line in lines if "figure" in line][-1].startswith("  figure 2")
    assert f"  … and {9 * 3 - 9} more lines" in lines
    assert np.all([line.isprintable() for line in lines])


def test_what_a_replay_is_given_shows_no_arrays() -> None:
    schedule = mp.ReplicaSchedule([10, 20], [1, 3, 2])
    assert repr(schedule) == "<ReplicaSchedule: 2 changes, 1 to 3 replicas>"
    assert "array" not in repr(mp.ServiceNoise.from_factors([0.9, 1.0, 1.2]))


def test_what_other_rooms_offer_shows_no_arrays() -> None:
    table = mp.Profiles.default().table("preprocess", "cpu")
    assert table is not None
    assert re.fullmatch(r"<LatencyTable preprocess on cpu: \d+ batch sizes>", repr(table))
    counts = WindowCounts(np.array([10, 20]), np.array([1, 2]))
    assert repr(counts) == "<WindowCounts: 2 windows, at most 2 queries>"
    answer = Answer(Termination.OPTIMAL, np.array([0.0, 1.0]))
    assert "array" not in repr(answer)
