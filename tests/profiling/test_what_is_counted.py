"""What a figure counts, and what it does not: how long a command took, the memory of each size, whose energy it is."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import mipplan as mp
from mipplan.profiling import SUBJECTS, SubjectRequest
from mipplan.profiling.disturbance import DisturbanceParams
from mipplan.profiling.machine import EnergyMeter
from mipplan.profiling.replicas import replicas_of
from mipplan.profiling.subjects.callables import CallableSubject
from mipplan.profiling.subjects.onnx_models import weight_files
from mipplan.profiling.subjects.signature import TensorSpec, input_maker
from mipplan.profiling.worker import Server
from profiling.subjects_under_test import quick, serving

QUICK = quick(30)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_command_is_waited_for_without_looking_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's wait with a limit sleeps for up to 50 ms between looks: 120 ms passed for 165 ms, every time."""
    slept: list[float] = []
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: (slept.append(seconds), sleep(seconds)))
    command = SUBJECTS["command"].load(SubjectRequest("command", "sleep 0.0{batch}"))
    command.prepare(5)
    command.run()
    assert slept == []


#: They hold a block of so many MiB, a process that has ended or one that keeps it, and need hardly any time for it.
HOLD = ["dd if=/dev/zero of=/dev/null bs={batch}M count=1", "hoarding:hoards"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="memory by batch size is told on Linux only")
@pytest.mark.parametrize("model", HOLD)
def test_memory_is_that_of_the_batch_size(model: str) -> None:
    """The second visit of the smaller size comes after the first one of the larger."""
    hoards = (
        "def hoards(batch):\n    while len(held) < batch:\n        held.append(bytearray(b'x') * 2**20)\n"
    )
    Path("hoarding.py").write_text(f"held = []\n\n\n{hoards}")
    found = mp.measure(model, batches=[1, 96], **QUICK)
    small, large = (found.batches[batch].memory_gib or 0.0 for batch in (1, 96))
    assert 0.0 < small < 0.07 < 0.09 < large
    kind = "command" if "{batch}" in model else "callable"
    with replicas_of(
        SubjectRequest(kind, model), 1
    ) as replicas:  # where sizes are chosen, a smaller one may follow
        for batch in (96, 1):
            replicas.prepare(batch)
            held = replicas.observe(0.0).memory_gib or 0.0
            assert (held > 0.09) is (batch == 96)


@pytest.mark.parametrize(("system", "gib"), [("darwin", 16.0), ("linux", 16_384.0)])
def test_the_unit_of_memory_is_that_of_the_system(
    system: str, gib: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(ru_maxrss=2**34, ru_nivcsw=0, ru_utime=0.0, ru_stime=0.0)
    monkeypatch.setattr(resource, "getrusage", lambda _who: usage)
    monkeypatch.setattr(sys, "platform", system)
    server = Server(CallableSubject(lambda _batch: None, None))
    server.answer({"do": "prepare", "batch": 1})
    assert server.answer({"do": "observe", "start_ns": 0, "for_s": 0.0})["memory_gib"] == gib


def test_threads_beyond_the_processors_at_hand_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container, or under taskset, there are fewer than the machine has: that is no other load."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0}, raising=False)
    Path("quick.py").write_text("def quick(batch):\n    pass\n")
    any_waiting = DisturbanceParams(most_steal=2, most_other_load=2, most_waiting=-1, least_waiting_ns=-1)
    params = replace(QUICK["params"], disturbance=any_waiting)
    given = QUICK | {"disturbed": "reject", "params": params}
    assert mp.measure("quick:quick", batches=[1], threads=2, **given).failures == {}
    assert "waited for a processor" in mp.measure("quick:quick", batches=[1], threads=1, **given).failures[1]


def test_what_an_endpoint_uses_is_not_metered_here(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = iter(range(0, 10**12, 10**6))
    meter = EnergyMeter("RAPL", [lambda: next(counter)], [None])
    monkeypatch.setattr(EnergyMeter, "of_machine", lambda: meter)
    with serving(True) as server:
        found = mp.measure(server.url("free"), batches=[1], axes={"x.2": 5}, **QUICK)
    assert (found.batches[1].energy_j, found.energy_from) == (None, "")
    ours = mp.measure(lambda _batch: None, batches=[1], **QUICK)
    assert ours.batches[1].energy_j is not None
    assert ours.energy_from == "RAPL"


def test_replicas_that_cannot_be_started_are_told_and_the_others_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("quick.py").write_text("def quick(batch):\n    pass\n")
    start, started = subprocess.Popen, list[Any]()

    def until_there_is_no_room(*arguments: Any, **more: Any) -> Any:
        if len(started) == 2:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        started.append(start(*arguments, **more))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", until_there_is_no_room)
    with pytest.raises(mp.InputError, match="300 replicas cannot be started: Too many open files"):
        mp.measure("quick:quick", batches=[1], together=300, **QUICK)
    assert [process.returncode is not None for process in started] == [True, True]


def test_inputs_and_names_beside_a_model_may_be_odd() -> None:
    np.save("one.npy", np.ones((2, 3)))
    with pytest.raises(mp.InputError, match=r"inputs: one\.npy is no \.npz file of arrays"):
        input_maker([TensorSpec("x", "float32", ("batch", 3))], SubjectRequest("onnx", "m", inputs="one.npy"))
    Path("m.onnx").write_bytes(b"weights\xe9 beside")
    Path(os.fsdecode(b"weights\xe9")).write_bytes(b"1")
    Path(os.fsdecode(b"others\xe9")).write_bytes(b"2")
    assert weight_files(Path("m.onnx")) == [Path(os.fsdecode(b"weights\xe9"))]
