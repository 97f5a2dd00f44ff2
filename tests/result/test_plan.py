"""Plans: made from choices, saved and read back, and what their files refuse."""

from __future__ import annotations

import copy
import json
import os
import pickle
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mipplan as mp
from mipplan.result.plan_file import PlanDocument
from planning_instances import hand_made

CHOICES = {"detect": ("cpu", 2, 1), "identify": ("t4", 4, 1)}


def given_plan(**more: Any) -> mp.Plan:
    instance = hand_made()
    return mp.Plan.from_choices(instance.pipeline, instance.profiles, CHOICES, **more)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "plan.json"
    hand_made().plan().save(made)
    return made


def test_a_plan_that_could_not_be_read_again_is_not_written(path: Path) -> None:
    plan, before = mp.Plan.load(path), path.read_bytes()
    tables = {
        key: replace(table, source="a very long word about where it is from " * 120_000)
        for key, table in plan.profiles.tables.items()
    }
    large = replace(plan, profiles=mp.Profiles.from_parts(plan.profiles.hardware.values(), tables.values()))
    with pytest.raises(mp.InputError, match="plan: takes more than the 8 MiB that are read"):
        large.save(path)
    assert path.read_bytes() == before


# ------------------------------------------------------------------------------------------ from choices


def test_given_plan_has_cost_and_no_claims() -> None:
    plan = given_plan()
    assert (plan.status, plan.usd_per_hour, plan.slo_s) == ("given", 0.6, 0.08)
    claims = (
        plan.lower_bound_usd_per_hour,
        plan.bound_s,
        plan.certificate_s,
        plan.gap,
        plan.trace,
        plan.solver,
    )
    assert claims == (None,) * 6
    assert plan.require() is plan


def test_choices_come_in_file_order() -> None:
    instance = hand_made()
    turned = dict(reversed(CHOICES.items()))
    assert list(mp.Plan.from_choices(instance.pipeline, instance.profiles, turned).choices) == list(CHOICES)


def test_every_fault_of_the_choices_is_listed() -> None:
    instance = hand_made()
    wrong = {"detect": ("cpu", 3, 0), "no_such": ("cpu", 1, 1)}
    with pytest.raises(mp.InputError) as caught:
        mp.Plan.from_choices(instance.pipeline, instance.profiles, wrong)
    places = [fault.place for fault in caught.value.faults]
    assert places == ["choices.no_such", "choices.detect.replicas", "choices.identify"]


@pytest.mark.parametrize(
    ("choice", "place"),
    [
        (("t4", 1), "choices.identify"),
        (("t4", 1, 1, 1), "choices.identify"),
        ("t4x", "choices.identify"),
        (None, "choices.identify"),
        (("t5", 1, 1), "choices.identify.hardware"),
        ((["t4"], 1, 1), "choices.identify.hardware"),
        (("t4", 5, 1), "choices.identify.batch"),
        (("t4", 0, 1), "choices.identify.batch"),
        (("t4", 1.0, 1), "choices.identify.batch"),
        (("t4", True, 1), "choices.identify.batch"),
        (("t4", 1, -1), "choices.identify.replicas"),
        (("t4", 1, "2"), "choices.identify.replicas"),
    ],
)
def test_impossible_choice(choice: Any, place: str) -> None:
    instance = hand_made()
    with pytest.raises(mp.InputError) as caught:
        mp.Plan.from_choices(instance.pipeline, instance.profiles, {**CHOICES, "identify": choice})
    assert [fault.place for fault in caught.value.faults] == [place]


def test_no_choices_at_all_are_a_fault_per_stage() -> None:
    instance = hand_made()
    with pytest.raises(mp.InputError) as caught:
        mp.Plan.from_choices(instance.pipeline, instance.profiles, {})
    assert len(caught.value.faults) == 2


@pytest.mark.parametrize("seed", [-1, 0.0, True, "1"])
def test_bad_seed(seed: Any) -> None:
    with pytest.raises(mp.InputError, match="seed"):
        given_plan(seed=seed)


def test_numpy_numbers_become_plain_ones() -> None:
    instance = hand_made()
    choices = {s: (h, np.int64(b), np.int32(n)) for s, (h, b, n) in CHOICES.items()}
    plan = mp.Plan.from_choices(
        instance.pipeline, instance.profiles, choices, seed=np.int64(0), quantile=np.float64(0.99)
    )
    assert plan.to_json() == given_plan().to_json()


def test_plans_are_immutable_and_can_be_copied() -> None:
    plan = hand_made().plan()
    with pytest.raises(TypeError):
        plan.choices["detect"] = mp.Choice("t4", 1, 1)  # type: ignore[index]
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert copy.deepcopy(plan) == plan
    assert replace(plan, objective=replace(plan.objective, seed=5)).seed == 5
    assert plan.with_slo(5).slo_ns == 5


def test_plan_keeps_only_its_own_problem() -> None:
    instance = hand_made()
    foreign = [replace(t, model=f"other-{t.model}") for t in instance.profiles.tables.values()]
    profiles = mp.Profiles.from_parts(
        instance.profiles.hardware.values(), [*instance.profiles.tables.values(), *foreign]
    )
    plan = mp.Plan.from_choices(instance.pipeline, profiles, CHOICES)
    assert set(plan.profiles.models) == {"m1", "m2"}


# ------------------------------------------------------------------------------------------ round trips


@given(
    batches=st.tuples(st.integers(1, 2), st.integers(1, 4)),
    replicas=st.tuples(st.integers(1, 10**6), st.integers(1, 50)),
    quantile=st.floats(0.001, 1.0) | st.just(1),
    seed=st.integers(0, 2**70),
    slo_ms=st.integers(1, 10**6),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_round_trip(
    tmp_path: Path,
    batches: tuple[int, int],
    replicas: tuple[int, int],
    quantile: float,
    seed: int,
    slo_ms: int,
) -> None:
    instance = hand_made()
    plan = mp.Plan.from_choices(
        instance.pipeline,
        instance.profiles,
        {"detect": ("cpu", batches[0], replicas[0]), "identify": ("t4", batches[1], replicas[1])},
        slo_s=slo_ms / 1000,
        quantile=quantile,
        seed=seed,
    )
    path = tmp_path / "plan.json"
    plan.save(path)
    again = mp.Plan.load(path)
    assert again == plan
    assert again.to_json() == plan.to_json() == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("slo_s", [0.08, 0.005])
def test_planned_plans_round_trip(tmp_path: Path, slo_s: float) -> None:
    plan = hand_made(slo_s).plan()
    plan.save(tmp_path / "plan.json")
    assert mp.Plan.load(tmp_path / "plan.json") == plan


def test_file_has_the_documented_parts(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["format"] == 1
    # A limit is written only where one was hit, laws and a certificate only if they are not the usual ones.
    unusual = {
        "limit",
        "dispatch",
        "discipline",
        "certificate",
        "runs",
        "per_ns",
        "share",
        "others",
        "reliability",
        "seeds",
        "other_traces",
        "samples",
        "min_accuracy",
        "energy",
    }
    assert set(document) == set(PlanDocument.model_fields) - unusual
    assert set(document["figures"]) == {
        *("microusd_per_hour", "lower_bound_microusd_per_hour", "bound_ns", "certificate_ns")
    }
    assert set(document["choices"]["detect"]) == {"hardware", "batch", "replicas"}
    assert document["trace"]["sha256"] == hand_made().trace.sha256
    assert path.read_bytes().endswith(b"}\n")


# ---------------------------------------------------------------------------------------- what is refused


def refused(path: Path, text: str | bytes) -> mp.InputError:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(mp.InputError) as caught:
        mp.Plan.load(path)
    for reader in (mp.Plan.load, lambda p: mp.verify(p, hand_made().trace)):
        with pytest.raises(mp.InputError):
            reader(path)
    assert str(path) in str(caught.value)
    return caught.value


@pytest.mark.parametrize("text", ["", "null", "[]", "3", '"plan"', "{}", "\x00", "{'format': 1}"])
def test_no_plan_file(path: Path, text: str) -> None:
    refused(path, text)


def test_every_truncation_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(0, len(whole) - 2, 97):
        refused(path, whole[:length])


def test_truncation_names_the_line(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert f"{path}:12" in str(refused(path, "\n".join(lines[:12])))


def test_missing_keys_are_all_listed(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    for key in ("slo_ns", "figures", "seed"):
        del document[key]
    del document["choices"]["detect"]["batch"]
    document["surplus"] = 1
    places = {fault.place.rsplit(": ", 1)[-1] for fault in refused(path, json.dumps(document)).faults}
    text = str(refused(path, json.dumps(document)))
    assert all(name in text for name in ("slo_ns", "figures", "seed", "batch", "surplus")), places
    assert len(refused(path, json.dumps(document)).faults) == 5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"format": 1', '"format": 3', "format"),
        ('"format": 1', '"format": "1"', "format"),
        ('"seed": 0', '"seed": -1', "seed"),
        ('"seed": 0', '"seed": true', "seed"),
        ('"seed": 0', '"seed": 0.0', "seed"),
        ('"seed": 0', '"seed": NaN', "NaN"),
        ('"seed": 0', '"seed": Infinity', "Infinity"),
        ('"seed": 0', '"seed": 1e999', "out of range"),
        ('"seed": 0', f'"seed": {"1" * 5000}', "digits"),
        ('"seed": 0', '"seed": 5,\n  "seed": 0', "twice"),
        ('"seed": 0', f'"seed": {"[" * 60}{"]" * 60}', "deep"),
        ('"seed": 0', f'"seed": {"[" * 90_000}', "deep|JSON"),
        ('"quantile": 0.99', '"quantile": 1.5', "quantile"),
        ('"status": "optimal"', '"status": "splendid"', "status"),
        ('"guarantee": "trace"', '"guarantee": "always"', "guarantee"),
    ],
)
def test_bad_value(path: Path, old: str, new: str, message: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    with pytest.raises(mp.InputError, match=message):
        raise refused(path, text.replace(old, new))


@pytest.mark.parametrize("value", ["NaN", "1e999", "-Infinity"])
def test_bad_number_is_found_in_its_line(path: Path, value: str) -> None:
    text = path.read_text(encoding="utf-8").replace('"seed": 0', f'"seed": {value}')
    line = text[: text.index('"seed"')].count("\n") + 1
    assert f"{path}:{line}:" in str(refused(path, text))


@pytest.mark.parametrize("depth", [40, 400, 900])
def test_deep_nesting_inside_the_problem(path: Path, depth: int) -> None:
    text = path.read_text(encoding="utf-8")
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        nested = opening * depth + "1" + closing * depth
        refused(path, text.replace('"pipeline": {', f'"pipeline": {{"x": {nested},', 1))


def test_not_utf8_and_no_file(path: Path, tmp_path: Path) -> None:
    refused(path, b"\xff\xfe{}")
    for missing in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(mp.InputError):
            mp.Plan.load(missing)


def test_altered_file_is_not_loaded(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    error = refused_by_load(path, text.replace('"seed": 0', '"seed": 1'))
    assert "altered" in str(error)


def refused_by_load(path: Path, text: str) -> mp.InputError:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(mp.InputError) as caught:
        mp.Plan.load(path)
    return caught.value


# ------------------------------------------------------------------------------------------ atomic writes


def test_failed_write_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(mp.InputError, match="No space left"):
                given_plan().save(path)
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]


def test_interrupted_write_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            given_plan().save(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002, 0o000])
def test_modes_are_what_the_umask_asks_for(tmp_path: Path, umask: int) -> None:
    # In a process of its own, whose umask is nobody else's.
    program = (
        "import os, sys\n"
        "from mipplan.documents import write_atomically\n"
        f"os.umask({umask})\n"
        "def refuse(mask):\n"
        "    raise AssertionError('the umask is the whole process\\'s: other threads write files meanwhile')\n"
        "os.umask = refuse\n"
        "for _ in range(2):\n"
        "    write_atomically(sys.argv[1], lambda stream: stream.write(b'whole'))\n"
    )
    target = tmp_path / "plan.json"
    subprocess.run([sys.executable, "-c", program, str(target)], check=True)
    assert target.read_bytes() == b"whole"
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask
    assert list(tmp_path.iterdir()) == [target]


def test_writing_asks_for_no_umask(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(os, "umask", asked.append)
    given_plan().save(path)
    assert asked == []


def test_unwritable_places(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "no" / "folder.json"):
        with pytest.raises(mp.InputError):
            given_plan().save(place)


def test_format_1_knows_no_samples_and_samples_know_their_traces(tmp_path: Path) -> None:
    pipeline, profiles = mp.Pipeline.read("profiles/pipelines/cascade.yaml"), mp.Profiles.default()
    traces = [mp.Trace.gamma(90.0, 2.0, 3.0, seed=3), mp.Trace.gamma(80.0, 1.0, 3.0, seed=4)]
    plan = mp.plan(pipeline, profiles, traces, seeds=2)
    document = plan.to_document()
    assert document["format"] == 2
    assert document["seeds"] == 2
    assert len(document["samples"]) == 4
    assert [one["sha256"] for one in (document["trace"], *document["other_traces"])] == sorted(
        trace.sha256 for trace in traces
    )
    for change, said in (
        ({"format": 1}, "of format 2"),
        ({"seeds": 0}, "seeds"),
        ({"other_traces": []}, "there are 1 traces, counted from 0"),
    ):
        changed = {**document, **change, "checksum": ""}
        path = tmp_path / "changed.json"
        path.write_text(json.dumps(changed))
        with pytest.raises(mp.InputError, match=said):
            mp.Plan.load(path)
    with pytest.raises(mp.InputError, match="seeds"):
        replace(plan.objective, seeds=0)
    assert pickle.loads(pickle.dumps(plan)) == plan
