"""mosec services, made by mosec itself."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import mipplan as mp
from export_plans import diamond, shipped_plan

mosec = pytest.importorskip("mosec", reason="mosec is not installed: services are not made by it")


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that exports a plan and imports the service, with this environment and no arguments."""
    monkeypatch.setattr(sys, "argv", ["server.py"])
    monkeypatch.setattr(os, "environ", {**os.environ})

    def load(plan: mp.Plan, *, emulate: bool) -> ModuleType:
        mp.export(plan, to="mosec", directory=tmp_path / "out", emulate=emulate)
        spec = importlib.util.spec_from_file_location("exported_server", tmp_path / "out" / "server.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def workers(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[type, dict[str, Any]]]:
    """What `append_worker` of mosec is called with, and takes."""
    called = []
    real = mosec.Server.append_worker

    def recorded(server: Any, worker: type, **arguments: Any) -> None:
        called.append((worker, arguments))
        real(server, worker, **arguments)

    monkeypatch.setattr(mosec.Server, "append_worker", recorded)
    module.make_server()
    return called


@pytest.mark.parametrize("emulate", [False, True])
def test_workers_are_what_the_plan_says(service: Any, emulate: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = shipped_plan("audio-question-answering")
    found = workers(service(plan, emulate=emulate), monkeypatch)
    assert [worker.__name__ for worker, _ in found] == ["Stage_recognise", "Stage_answer", "Stage_speak"]
    for (_, arguments), choice in zip(found, plan.choices.values(), strict=True):
        assert (arguments["num"], arguments["max_batch_size"]) == (choice.replicas, choice.batch)
        # 0 would mean the default of 10 ms.
        assert arguments["max_wait_time"] == 1
        assert arguments["timeout"] == pytest.approx(10 * plan.slo_s)
        assert len(arguments.get("env", [])) == (0 if emulate else choice.replicas)
    gpus = [one["CUDA_VISIBLE_DEVICES"] for _, arguments in found for one in arguments.get("env", [])]
    assert gpus == ([] if emulate else [str(gpu) for gpu in range(9)])


def test_emulated_workers_sleep_as_long_as_their_tables_say(
    service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = shipped_plan("image-processing")
    module = service(plan, emulate=True)
    times = iter(range(0, 10**12, 1_000))
    slept: list[float] = []
    monkeypatch.setattr(module.time, "monotonic_ns", lambda: next(times))
    monkeypatch.setattr(module, "sleep_until", lambda end_ns: slept.append(end_ns))
    # A worker that does not batch is handed the task itself.
    first, second = (worker for worker, _ in workers(module, monkeypatch))
    assert first().forward([1, 2]) == [1, 2]
    assert second().forward(["a"] * 16) == ["a"] * 16
    assert second().forward(["a"]) == ["a"]
    expected = [
        plan.service_ns("preprocess")[0],
        plan.service_ns("classify")[15],
        plan.service_ns("classify")[0],
    ]
    assert [end - begin for end, begin in zip(slept, (0, 1_000, 2_000), strict=True)] == expected


def test_limits_follow_from_the_plan_and_may_be_set(service: Any) -> None:
    service(shipped_plan("image-processing"), emulate=True)
    assert (os.environ["MOSEC_TIMEOUT"], os.environ["MOSEC_CAPACITY"]) == ("1200", "1024")


def test_a_limit_that_is_set_stays(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    os.environ["MOSEC_TIMEOUT"] = "77"
    found = workers(service(shipped_plan("image-processing"), emulate=True), monkeypatch)
    assert [arguments["timeout"] for _, arguments in found] == [0.077, 0.077]


def test_an_answer_can_be_sent(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = service(shipped_plan("image-processing"), emulate=True)
    (first, _), *_, (last, _) = workers(module, monkeypatch)
    assert json.loads(last().serialize(first().deserialize(b'{"a": 1}'))) == {"a": 1}


def test_every_reason_against_a_chain_is_told(tmp_path: Path) -> None:
    what = "mosec serves chains, where every query visits every stage once"
    with pytest.raises(mp.InputError) as told:
        mp.export(shipped_plan("video-monitoring"), to="mosec", directory=tmp_path / "out")
    assert [str(fault) for fault in told.value.faults] == [
        f"video-monitoring: edge detect -> identify: makes 2.6 tokens in the mean: {what}",
        f"video-monitoring: edge detect -> plates: is taken with probability 0.4: {what}",
        f"video-monitoring: stage detect: branches: {what}",
        f"video-monitoring: stage merge: merges: {what}",
    ]
    with pytest.raises(mp.InputError) as told:
        mp.export(diamond(), to="mosec", directory=tmp_path / "out")
    assert [fault.place for fault in told.value.faults] == ["diamond: stage first", "diamond: stage last"]
