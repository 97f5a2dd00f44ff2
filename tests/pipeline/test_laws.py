"""Dispatch laws in pipelines, files and plans: what is said where, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import mipplan as mp
from mipplan.pipeline import DispatchLaw, Pipeline
from random_pipelines import random_case

DOCUMENT = {
    "dispatch": "paced",
    "stages": {"a": {"model": "m"}, "b": {"model": "m", "dispatch": "eager"}, "c": {"model": "m"}},
    "edges": [{"from": "a", "to": "b"}, {"from": "b", "to": "c"}],
}


def test_the_law_of_a_stage_comes_before_that_of_the_file() -> None:
    pipeline = Pipeline.from_document(DOCUMENT)
    assert [str(law) for law in pipeline.laws().values()] == ["paced", "eager", "paced"]
    again = Pipeline.from_document(pipeline.to_document())
    assert again == pipeline
    assert again.laws() == pipeline.laws() == Pipeline(pipeline.graph).laws()


def test_a_blank_law_of_a_stage_is_that_of_the_file() -> None:
    stages = {
        "a": {"model": "m", "dispatch": None},
        "b": {"model": "m", "dispatch": "eager"},
        "c": {"model": "m"},
    }
    pipeline = Pipeline.from_document(DOCUMENT | {"stages": stages})
    assert pipeline.laws() == Pipeline(pipeline.graph).laws() == Pipeline.from_document(DOCUMENT).laws()
    assert pipeline == Pipeline.from_document(DOCUMENT)


STAGGERED = DOCUMENT | {
    "stagger": "2us",
    "stages": {
        "a": {"model": "m", "stagger": "7ns"},
        "b": {"model": "m", "dispatch": "eager"},
        "c": {"model": "m"},
    },
}


def test_the_stagger_of_a_stage_comes_before_that_of_the_file() -> None:
    """That of the file is of eager stages; a is paced, and has its own; nothing follows c."""
    pipeline = Pipeline.from_document(STAGGERED)
    assert pipeline.stagger_s == 2e-6
    assert pipeline.staggers_ns() == {"a": 7, "b": 2_000, "c": 0}
    assert pipeline.staggers_ns(pipeline.laws("timed")) == {"a": 7, "b": 0, "c": 0}
    assert pipeline.staggers_ns(stagger_s=0) == dict.fromkeys("abc", 0)
    assert pipeline.staggers_ns(stagger_s={"b": 3e-9}) == {"a": 7, "b": 3, "c": 0}


def test_staggers_are_written_and_read_again() -> None:
    plainly, given = Pipeline.from_document(DOCUMENT), Pipeline.from_document(STAGGERED)
    assert "stagger" not in json.dumps(plainly.to_document())
    own = plainly.staggered({"b": 5e-9})
    for pipeline in (given, own, given.staggered({"a": 0}), given.staggered(1e-6), plainly.staggered(0)):
        again = Pipeline.from_document(pipeline.to_document())
        assert again == pipeline
        assert again.staggers_ns() == pipeline.staggers_ns()
        copied = Pipeline(pipeline.graph, pipeline.slo_s, pipeline.name, pipeline.stagger_s)
        assert copied == pipeline
    assert plainly.staggered(0) == given.staggered(0) == plainly == given.staggered(1e-6).staggered(0)
    assert plainly.staggered(None) is plainly
    assert own != plainly
    assert own.laws() == plainly.laws()


COLLECTING = DOCUMENT | {
    "window": "2ms",
    "discipline": "fifo",
    "stages": {
        "a": {"model": "m", "window": "7us"},
        "b": {"model": "m", "dispatch": "eager"},
        "c": {"model": "m", "dispatch": "eager", "window": "3us"},
    },
}


def test_windows_are_of_eager_stages_and_that_of_a_stage_comes_before_that_of_the_file() -> None:
    """Stage a is paced: its dispatcher makes the batches, whatever is said of its servers."""
    pipeline = Pipeline.from_document(COLLECTING)
    assert pipeline.window_s == 2e-3
    assert pipeline.windows_ns() == {"a": 0, "b": 2_000_000, "c": 3_000}
    assert pipeline.windows_ns(pipeline.laws("eager")) == {"a": 7_000, "b": 2_000_000, "c": 3_000}
    assert pipeline.windows_ns(pipeline.laws("timed")) == dict.fromkeys("abc", 0)
    assert pipeline.windows_ns(window_s={"b": 3e-9}) == {"a": 0, "b": 3, "c": 3_000}
    plainly = Pipeline.from_document(DOCUMENT)
    for made in (pipeline, pipeline.collecting(0), pipeline.collecting({"b": 0}), plainly.collecting(1e-6)):
        again = Pipeline.from_document(made.to_document())
        assert again == made
        assert again.windows_ns() == made.windows_ns()
        copied = Pipeline(made.graph, window_s=made.window_s, discipline=made.discipline)
        assert copied == made
    assert plainly.collecting(1e-6).collecting(0) == plainly
    assert plainly.collecting(None) is plainly


def test_the_discipline_of_the_file_is_that_of_plans_unless_another_is_asked_for() -> None:
    pipeline = Pipeline.from_document(COLLECTING)
    assert pipeline.discipline == "fifo"
    assert "discipline" not in Pipeline.from_document(DOCUMENT).to_document()
    made = mp.Pipeline.read("cascade").to_document() | {"discipline": "fifo"}
    queues, profiles = Pipeline.from_document(made), mp.Profiles.default()
    choices = {"preprocess": ("cpu", 1, 3), "fast": ("t4", 8, 2), "slow": ("v100", 16, 1)}
    assert mp.Plan.from_choices(queues, profiles, choices).discipline == "fifo"
    assert mp.Plan.from_choices(queues, profiles, choices, discipline="oldest_first").discipline != "fifo"
    trace = mp.Trace.gamma(rate_rps=40, cv=1, duration_s=4, seed=1)
    plan = mp.plan(queues, profiles, trace, slo_s=0.4, runs=mp.RunClass(0.9))
    assert (plan.discipline, plan.status) == ("fifo", "optimal")
    assert mp.baselines.inferline(queues, profiles, trace).discipline == "fifo"
    assert mp.compare(queues, profiles, trace, planners=["inferline"]).discipline == "fifo"
    fleet = mp.plan_fleet({"q": (queues, trace, 0.4)}, profiles, runs=mp.RunClass(0.9), n_jobs=1)
    assert (fleet.plans["q"].discipline, fleet.usd_per_hour) == ("fifo", plan.usd_per_hour)


def test_bad_windows_and_disciplines_are_told_together() -> None:
    bad = COLLECTING | {"window": "120s", "discipline": "lifo", "stages": {"a": {"model": "m", "window": 3}}}
    with pytest.raises(mp.InputError) as caught:
        Pipeline.from_document(bad | {"edges": []})
    assert [(fault.place, fault.message) for fault in caught.value.faults] == [
        ("pipeline: discipline", "expected oldest_first or fifo, found 'lifo'"),
        ("pipeline: window", "expected at most 60s, found 120s"),
        ("pipeline: stages.a.window", "3 has no unit: write 3ms or 3s"),
    ]
    graph = Pipeline.from_document(DOCUMENT).graph
    with pytest.raises(mp.InputError) as caught:
        Pipeline(graph, window_s=61.0, discipline="lifo")  # type: ignore[arg-type]
    assert [fault.place for fault in caught.value.faults] == ["window_s", "discipline"]


def test_bad_staggers_are_told_together() -> None:
    bad = STAGGERED | {"stagger": "2s", "stages": {"a": {"model": "m", "stagger": 3}}, "edges": []}
    with pytest.raises(mp.InputError) as caught:
        Pipeline.from_document(bad)
    assert [(fault.place, fault.message) for fault in caught.value.faults] == [
        ("pipeline: stagger", "expected at most 1s, found 2s"),
        ("pipeline: stages.a.stagger", "3 has no unit: write 3ms or 3s"),
    ]
    pipeline = Pipeline.from_document(DOCUMENT)
    with pytest.raises(mp.InputError) as caught:
        pipeline.staggered({"d": 0, "a": -1e-6, "b": "1us"})  # type: ignore[dict-item]
    assert [fault.place for fault in caught.value.faults] == ["stagger_s.d", "stagger_s.a", "stagger_s.b"]
    for stagger_s in (-1.0, 2.0, None, "1us", float("nan")):
        with pytest.raises(mp.InputError, match="stagger_s: expected seconds from 0 to 1"):
            Pipeline(pipeline.graph, stagger_s=stagger_s)  # type: ignore[arg-type]


def test_what_is_said_instead() -> None:
    pipeline = Pipeline.from_document(DOCUMENT)
    assert set(pipeline.laws("timed").values()) == {DispatchLaw.TIMED}
    assert [str(law) for law in pipeline.laws({"b": "timed"}).values()] == ["paced", "timed", "paced"]
    otherwise = dict.fromkeys("abc", DispatchLaw.TIMED)
    assert [str(law) for law in pipeline.laws({"b": "eager"}, otherwise).values()] == [
        "timed",
        "eager",
        "timed",
    ]


def test_every_fault_is_told() -> None:
    pipeline = Pipeline.from_document(DOCUMENT)
    with pytest.raises(mp.InputError) as caught:
        pipeline.laws({"d": "paced", "b": ["eager"]})  # type: ignore[dict-item]
    assert [fault.place for fault in caught.value.faults] == ["dispatch.d", "dispatch.b"]
    for wrong in ("swift", 3):
        with pytest.raises(mp.InputError, match="expected eager, paced or timed"):
            pipeline.laws(wrong)  # type: ignore[arg-type]
    with pytest.raises(mp.InputError, match="expected eager, paced or timed"):
        Pipeline.from_document({"dispatch": {}, "stages": {"a": {"model": "m"}}})


def test_a_plan_is_written_in_the_oldest_format_that_holds_it(tmp_path: Path) -> None:
    case = random_case(np.random.default_rng(8))
    path = tmp_path / "plan.json"

    def formats(**asked: str) -> tuple[int, bool]:
        plan = mp.Plan.from_choices(case.pipeline, case.profiles, case.choices, slo_s=1.0, **asked)
        plan.save(path)
        again = mp.Plan.load(path)
        assert again == plan
        assert (again.dispatch, again.discipline, again.laws) == (plan.dispatch, plan.discipline, plan.laws)
        document = json.loads(path.read_text(encoding="utf-8"))
        return document["format"], "dispatch" in document

    assert formats() == formats(dispatch="eager") == (1, False)
    assert formats(dispatch="paced") == formats(discipline="fifo") == formats(dispatch="timed") == (2, True)


def test_a_file_of_format_1_cannot_hold_laws(tmp_path: Path) -> None:
    case = random_case(np.random.default_rng(8))
    path = tmp_path / "plan.json"
    mp.Plan.from_choices(case.pipeline, case.profiles, case.choices, slo_s=1.0, dispatch="paced").save(path)
    document = json.loads(path.read_text(encoding="utf-8"))
    for change, message in (
        ({"format": 1}, "are of format 2"),
        ({"dispatch": {"nowhere": "paced"}}, "there is no such stage"),
        (
            {"dispatch": dict(list(document["dispatch"].items())[1:])},
            "dispatch.*: missing: format 2 has a law",
        ),
    ):
        path.write_text(json.dumps({**document, **change}), encoding="utf-8")
        with pytest.raises(mp.InputError, match=message):
            mp.verify(path, case.trace)


def test_fifo_queues_are_certified_and_planned_for_under_every_law(tmp_path: Path) -> None:
    case = random_case(np.random.default_rng(8))
    plan = mp.Plan.from_choices(case.pipeline, case.profiles, case.choices, slo_s=1.0, discipline="fifo")
    for law in ("eager", "paced"):
        bound_ns = mp.certify(plan, case.trace, dispatch=law).latency_ns
        assert (mp.replay(plan, case.trace, dispatch=law).latency_ns <= bound_ns).all()
        made = mp.plan(case.pipeline, case.profiles, case.trace, slo_s=1.0, dispatch=law, discipline="fifo")
        made.require().save(tmp_path / "fifo.json")
        assert (made.dispatch, made.discipline, made.runs) == (law, "fifo", mp.RunClass())
        assert mp.verify(tmp_path / "fifo.json", case.trace).verified
    replayed = mp.replay(plan, case.trace, dispatch="timed")
    assert mp.certify(plan, case.trace, dispatch="timed").latency_ns.tolist() == replayed.latency_ns.tolist()
    assert not replayed.certificate_applies  # the plan is not timed
    assert mp.certify(plan, case.trace, discipline="oldest_first").bound_ns > 0


def test_timed_plans_take_the_trace_as_it_is() -> None:
    case = random_case(np.random.default_rng(8))
    for more in ({"headroom": 1.2}, {"budget_usd_per_hour": 5.0}):
        with pytest.raises(mp.InputError, match="does not go with timed dispatch"):
            mp.plan(case.pipeline, case.profiles, case.trace, slo_s=1.0, dispatch="timed", **more)
    timed = mp.Plan.from_choices(case.pipeline, case.profiles, case.choices, slo_s=1.0, dispatch="timed")
    told = mp.explain(timed, case.trace)
    assert told.certificate_ns == mp.certify(timed, case.trace).bound_ns


def test_timed_plans_have_no_other_certificate_than_the_replay() -> None:
    case = random_case(np.random.default_rng(8))
    given = (case.pipeline, case.profiles, case.trace)
    timed = mp.Plan.from_choices(case.pipeline, case.profiles, case.choices, slo_s=1.0, dispatch="timed")
    for more, places in (
        ({"certificate": "sharp"}, ["certificate"]),
        ({"certificate": "sharp", "runs": mp.RunClass(0.9)}, ["certificate", "runs"]),
        ({"certificate": "auto", "runs": mp.RunClass(0.9)}, ["runs"]),
    ):
        for ask in (
            lambda more=more: mp.plan(*given, slo_s=1.0, dispatch="timed", **more),
            lambda more=more: mp.certify(timed, case.trace, **more),
        ):
            with pytest.raises(mp.InputError, match="not go with timed dispatch") as told:
                ask()
            assert [fault.place for fault in told.value.faults] == places
    with pytest.raises(mp.InputError, match="certificate: does not go with timed dispatch"):
        mp.certify(timed, case.trace, certificate="classic")
    assert mp.certify(timed, case.trace, certificate="auto") is not None


def test_advice_about_fifo_queues_can_be_followed() -> None:
    case = random_case(np.random.default_rng(8))
    for law in ("eager", "timed"):
        with pytest.raises(mp.InputError) as told:
            mp.plan(
                *(case.pipeline, case.profiles, case.trace),
                slo_s=1.0,
                dispatch=law,
                discipline="fifo",
                guarantee="envelope",
            )
        (fault,) = told.value.faults
        assert fault.place == "discipline"
        assert "inside an arrival curve" in fault.message
        assert "timed" not in fault.message


@pytest.mark.parametrize("law", ["eager", "paced", "timed"])
def test_the_certificate_of_a_plan_covers_its_own_discipline_only(law: str) -> None:
    case = random_case(np.random.default_rng(8))
    for own, other in (("oldest_first", "fifo"), ("fifo", "oldest_first")):
        plan = mp.Plan.from_choices(
            case.pipeline, case.profiles, case.choices, slo_s=1.0, dispatch=law, discipline=own
        )
        kept = mp.replay(plan, case.trace)
        assert kept.certificate_applies
        assert (kept.latency_ns <= mp.certify(plan, case.trace).latency_ns).all()
        assert not mp.replay(plan, case.trace, discipline=other).certificate_applies
