"""`verify`: whatever is changed in a plan file is noticed, and other traces are named."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mipplan as mp
from mipplan.certificate import resolve_certificate
from mipplan.certificate.certifying import CertifyParams
from mipplan.result import Ties, document_text, fingerprint
from mipplan.tokens import realise
from planning_instances import hand_made

TRACE = hand_made().trace


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "plan.json"
    hand_made(limit=9).plan().save(made)
    return made


def leaves(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    if not isinstance(value, dict | list):
        yield place, value
    for key, child in children:
        yield from leaves(child, (*place, key))


def changed(value: Any) -> list[Any]:
    if isinstance(value, int):
        return [value + 1]
    if isinstance(value, float):
        return [value * 1.5]
    if isinstance(value, str):
        return [value + "x", value[:-1] + ("0" if value[-1:] != "0" else "1")]
    return ["something"]


def with_leaf(document: Any, place: tuple[str | int, ...], value: Any) -> Any:
    made = copy.deepcopy(document)
    inner = made
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return made


def verdict(path: Path, text: str) -> bool:
    path.write_text(text, encoding="utf-8")
    try:
        return mp.verify(path, TRACE).verified
    except mp.InputError:
        return False


def test_fresh_file_is_verified(path: Path) -> None:
    verification = mp.verify(path, TRACE)
    assert verification.verified
    assert (verification.problems, verification.remarks) == ((), ())
    assert verification.certificate is not None
    assert verification.certificate.bound_ns == verification.plan.certificate_ns


def test_plan_is_judged_as_its_file(path: Path) -> None:
    plan = mp.Plan.load(path)
    of_file, of_plan = mp.verify(path, TRACE), mp.verify(plan, TRACE)
    assert (of_plan.verified, of_plan.problems, of_plan.remarks) == (of_file.verified, (), ())
    cheaper = replace(plan, figures=replace(plan.figures, microusd_per_hour=1))
    (cost, *_) = mp.verify(cheaper, TRACE).problems
    assert "the file states a cost" in cost
    run_today = mp.Plan.from_choices(plan.pipeline, plan.profiles, dict(plan.choices), slo_s=plan.slo_s)
    assert "made for none" in mp.verify(run_today, TRACE).remarks[0]


def test_every_single_change_is_noticed(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    places = list(leaves(document))
    assert len(places) > 60
    for place, value in places:
        for other in changed(value):
            text = json.dumps(with_leaf(document, place, other))
            assert not verdict(path, text), f"{place}: {value!r} became {other!r} unnoticed"


def test_layout_is_no_alteration(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    assert verdict(path, json.dumps(document, sort_keys=True, separators=(",", ":")))


def resealed(document: dict[str, Any]) -> str:
    """The file as a forger would write it: every checksum made anew."""
    body = {key: value for key, value in document.items() if key != "checksum"}
    body["hashes"] = {part: fingerprint(body[part]) for part in ("pipeline", "profiles")}
    return document_text(body)


def test_resealing_alone_changes_nothing(path: Path) -> None:
    assert verdict(path, resealed(json.loads(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("figures", "microusd_per_hour"), 1),
        (("figures", "certificate_ns"), 1),
        (("figures", "certificate_ns"), None),
        (("figures", "bound_ns"), 1),
        (("figures", "bound_ns"), None),
        (("slo_ns",), 1_000_000),
        (("choices", "detect", "replicas"), 77),
        (("profiles", "hardware", "cpu", "usd_per_hour"), 0.01),
        (("profiles", "tables", 0, "latency_ms", 1), 900.0),
        (("trace", "sha256"), "0" * 64),
    ],
)
def test_forged_figures_are_recomputed(path: Path, place: tuple[str | int, ...], value: Any) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    text = resealed(with_leaf(document, place, value))
    if place == ("trace", "sha256"):
        path.write_text(text, encoding="utf-8")
        assert "another trace" in mp.verify(path, TRACE).remarks[0]
    else:
        assert not verdict(path, text)


def test_other_trace_is_named_and_judged(path: Path) -> None:
    # The same rate without bursts: certified there too. Bursts of ten: not.
    calm = mp.Trace.from_ns(range(0, 400_000_000, 8_000_000), name="calm")
    verification = mp.verify(path, calm)
    assert verification.verified
    assert "'bursts'" in verification.remarks[0]
    assert "'calm'" in verification.remarks[0]
    violent = mp.Trace.from_ns([t for start in range(0, 400_000_000, 80_000_000) for t in [start] * 60])
    verification = mp.verify(path, violent)
    assert not verification.verified
    assert "above the objective" in " ".join(verification.problems)


def test_plan_without_choices_is_not_verified(tmp_path: Path) -> None:
    hand_made(0.005).plan().save(tmp_path / "none.json")
    verification = mp.verify(tmp_path / "none.json", TRACE)
    assert not verification.verified
    assert verification.certificate is None
    assert "infeasible" in verification.problems[0]


def test_given_plan_is_judged(tmp_path: Path) -> None:
    instance = hand_made()
    for choices, good in (
        ({"detect": ("t4", 4, 2), "identify": ("t4", 4, 2)}, True),
        ({"detect": ("cpu", 1, 1), "identify": ("cpu", 1, 1)}, False),
    ):
        plan = mp.Plan.from_choices(instance.pipeline, instance.profiles, choices, slo_s=0.045)
        plan.save(tmp_path / "given.json")
        verification = mp.verify(tmp_path / "given.json", TRACE)
        assert verification.verified == good
        assert "trace" in verification.remarks[0]


def test_a_sharp_plan_is_judged_by_the_law_that_is_asked_for(tmp_path: Path) -> None:
    made = hand_made(0.03).plan(certificate="sharp", time_limit_s=60)
    made.save(tmp_path / "sharp.json")
    laws = dict.fromkeys(made.choices, "paced")
    as_paced = mp.verify(tmp_path / "sharp.json", TRACE, dispatch=laws)
    assert as_paced.certificate is not None
    assert np.array_equal(as_paced.certificate.latency_ns, mp.certify(made, TRACE, dispatch=laws).latency_ns)
    assert not np.array_equal(as_paced.certificate.latency_ns, mp.certify(made, TRACE).latency_ns)
    document = json.loads((tmp_path / "sharp.json").read_text(encoding="utf-8"))
    document |= {"format": 2, "discipline": "oldest_first", "dispatch": laws}
    (tmp_path / "edited.json").write_text(json.dumps(document), encoding="utf-8")
    edited = mp.verify(tmp_path / "edited.json", TRACE)
    assert "altered" in edited.problems[0]


def test_a_class_of_runs_that_is_none_is_refused() -> None:
    instance = hand_made()
    plan: Any = instance.plan()
    wrong: Any = "0.9:1:settled"
    with pytest.raises(mp.InputError, match="runs: expected a RunClass"):
        mp.certify(plan, TRACE, certificate="sharp", runs=wrong)
    with pytest.raises(mp.InputError, match="runs: expected a RunClass"):
        mp.verify(plan, TRACE, certificate="sharp", runs=wrong)
    with pytest.raises(mp.InputError) as told:
        mp.certify(
            *(plan, TRACE),
            dispatch="lazy",
            discipline="lifo",
            certificate="dull",
            runs=wrong,
            stagger_s=-1.0,
            window_s=-1.0,
        )
    places = {fault.place for fault in told.value.faults}
    assert places == {"dispatch", "discipline", "certificate", "runs", "stagger_s", "window_s"}
    with pytest.raises(mp.InputError, match="runs: expected a RunClass"):
        mp.sharpen(plan, TRACE, runs=wrong)
    with pytest.raises(mp.InputError, match="runs: expected a RunClass"):
        instance.plan(certificate="sharp", runs=wrong)


@pytest.mark.parametrize("judge", [mp.certify, mp.verify])
def test_a_window_is_for_stages_that_are_eager(judge: Any) -> None:
    """Of others the dispatcher makes the batches: a window has no effect there, and that is told."""
    plan: Any = hand_made().plan()
    stage = next(iter(plan.choices))
    for window_s, place, whom in (
        (0.01, "window_s", "all are"),
        ({stage: 0.01}, f"window_s.{stage}", "this one is"),
    ):
        with pytest.raises(mp.InputError) as told:
            judge(plan, TRACE, dispatch="paced", window_s=window_s)
        assert [str(fault) for fault in told.value.faults] == [
            f"{place}: is for eager stages, and {whom} paced"
        ]
        judge(plan, TRACE, dispatch="eager", window_s=window_s)
    judge(plan, TRACE, dispatch="paced", window_s={stage: 0.0})


def test_what_is_no_plan_is_not_certified() -> None:
    with pytest.raises(mp.NoPlanError, match="infeasible"):
        mp.certify(hand_made(0.005).plan(), TRACE)


def test_something_else_than_a_plan_is_not_certified() -> None:
    with pytest.raises(mp.InputError, match=r"^plan: expected a Plan, found"):
        mp.certify("plan.json", TRACE)  # type: ignore[arg-type]


def test_a_wrong_seed_hides_no_fault_of_the_trace_and_adds_none() -> None:
    plan = hand_made(probability=0.5).plan()
    for trace, places in ((TRACE, ["seed"]), ("no trace", ["seed", "trace"])):
        with pytest.raises(mp.InputError) as told:
            mp.certify(plan, trace, seed=-1)  # type: ignore[arg-type]
        assert [fault.place for fault in told.value.faults] == places


def test_certificates_that_there_are_not_are_refused() -> None:
    plan = hand_made().plan()
    with pytest.raises(mp.InputError, match=r"certificate: .*dull"):
        mp.verify(plan, TRACE, certificate="dull")
    timed = hand_made().plan(dispatch="timed", time_limit_s=60)
    with pytest.raises(mp.InputError, match=r"certificate: .*dull"):
        mp.verify(timed, TRACE, certificate="dull")
    assert mp.certify(timed, TRACE, certificate="auto").bound_ns == timed.certificate_ns
    for how in ({"certificate": "classic"}, {"certificate": "sharp"}, {"runs": mp.RunClass(0.9)}):
        for judge in (mp.certify, mp.verify):
            with pytest.raises(mp.InputError, match="not go with timed dispatch"):
                judge(timed, TRACE, **how)


def test_a_seed_that_is_asked_for_is_the_only_one() -> None:
    instance = hand_made(probability=0.5)
    plan = mp.plan(instance.pipeline, instance.profiles, [TRACE], seeds=3, slo_s=1.0)
    found = mp.certify(plan, TRACE)
    assert [one.seed for one in found.samples] == [0, 1, 2]
    assert found.bound_ns == max(one.certificate_ns for one in found.samples)
    for one in found.samples:
        alone = mp.certify(plan, TRACE, seed=one.seed)
        assert (alone.bound_ns, alone.samples) == (one.certificate_ns, ())
    assert mp.certify(plan, TRACE, seed=7).samples == ()


def test_all_samples_are_judged_by_the_same_theorem() -> None:
    """Each alone is small enough for the sharp one; together they are not."""
    pipeline = mp.Pipeline.from_document({"slo": "1s", "stages": {"a": {"model": "resnet50"}}})
    plan = mp.Plan.from_choices(pipeline, mp.Profiles.default(), {"a": ("t4", 1, 9)})
    count = CertifyParams().most_tokens // 2
    few, many = (mp.Trace.from_ns(np.arange(n) * 1_000_000) for n in (count, count + 1))
    assert mp.certify(plan, [few, many], certificate="auto").runs is None
    short = [mp.Trace.from_ns(np.arange(n) * 1_000_000) for n in (40, 50)]
    assert mp.certify(plan, short, certificate="auto").runs is not None


@pytest.mark.parametrize("certificate", ["sharp", "auto"])
def test_a_timed_stage_beside_an_eager_one_is_eager_to_the_sharp_certificate(
    certificate: str, tmp_path: Path
) -> None:
    made = hand_made().plan(certificate=certificate, dispatch={"detect": "timed"}, time_limit_s=60)
    assert (made.dispatch, made.certificate) == ("mixed", "sharp")
    made.save(tmp_path / "mixed.json")
    assert mp.verify(tmp_path / "mixed.json", TRACE).problems == ()
    assert mp.certify(made, TRACE, dispatch="eager").bound_ns == made.certificate_ns


@pytest.mark.parametrize("dispatch", [None, "paced", "timed"])
def test_nothing_covers_fifo_queues_inside_an_arrival_curve(tmp_path: Path, dispatch: str | None) -> None:
    """The worst case inside a curve is a theorem about the oldest first, under every law."""
    instance = hand_made(slo_s=1.0)
    kept = instance.plan(guarantee="envelope")
    kept.save(tmp_path / "kept.json")
    assert mp.verify(tmp_path / "kept.json", instance.trace).verified
    judged = mp.verify(tmp_path / "kept.json", instance.trace, discipline="fifo", dispatch=dispatch)
    assert not judged.verified
    assert judged.certificate is None
    assert any("inside an arrival curve" in problem for problem in judged.problems)


def test_the_class_of_runs_is_the_one_of_the_file_or_the_one_asked_for(tmp_path: Path) -> None:
    instance, path = hand_made(), tmp_path / "sharp.json"
    own, other = mp.RunClass(0.9), mp.RunClass(0.0, 0.0, Ties.ANY)
    made = instance.plan(certificate="sharp", runs=own, time_limit_s=60)
    made.save(path)
    as_stated, named, wider = (mp.verify(path, TRACE, runs=runs) for runs in (None, own, other))
    assert as_stated.verified
    assert (named.problems, named.remarks) == (as_stated.problems, as_stated.remarks)
    assert wider.certificate is not None
    assert wider.certificate.bound_ns == mp.certify(made, TRACE, runs=other).bound_ns
    assert any("another class of runs" in remark for remark in wider.remarks)
    assert not any("recomputed" in problem for problem in wider.problems), "the figure is of other runs"
    by_arrival = mp.verify(path, TRACE, discipline="fifo", runs=mp.RunClass(0.5))
    assert by_arrival.certificate is not None
    assert by_arrival.certificate.runs == mp.RunClass(0.5)


@pytest.mark.parametrize("certificate", [None, "classic"])
def test_a_class_of_runs_is_not_dropped_by_the_classic_certificate(
    certificate: str | None, tmp_path: Path
) -> None:
    made = hand_made().plan()
    made.save(tmp_path / "classic.json")
    for ask in (
        lambda: mp.certify(made, TRACE, certificate=certificate, runs=mp.RunClass(0.9)),
        lambda: mp.verify(tmp_path / "classic.json", TRACE, certificate=certificate, runs=mp.RunClass(0.9)),
    ):
        with pytest.raises(mp.InputError, match="runs: go with a sharp certificate"):
            ask()


def test_a_class_of_runs_is_not_dropped_where_auto_is_classic() -> None:
    made = hand_made().plan()
    workload, few = realise(made.pipeline, TRACE, made.seed), CertifyParams(most_tokens=1)
    assert resolve_certificate("auto", [workload], params=few) == "classic"
    with pytest.raises(mp.InputError, match="auto takes the classic one for"):
        resolve_certificate("auto", [workload], mp.RunClass(0.9), few)
    assert resolve_certificate("auto", [workload], mp.RunClass(0.9)) == "sharp"
