"""Where pipelines are priced makes no difference: one process, several, a worker that has lost its data, Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import pytest

import mipplan as mp
from fleet_instances import arguments_of, fleet_of
from mipplan.core import SearchLimits
from mipplan.fleet import FleetSettings, read_fleet, workers
from mipplan.fleet.plan import FleetParams, FleetPlanner
from mipplan.fleet.pricing import PricingState
from mipplan.fleet.problem import Fleet
from mipplan.fleet.workers import PricingRequest, PricingTask, WorkerParams, WorkerPool, answer
from mipplan.solvers import resolve_solver
from ray_clusters import own_cluster

FLEET_NUMBER = 3
SIZE = 6


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return fleet_of(FLEET_NUMBER, pipelines=SIZE, scarcity=0.7)


@pytest.fixture(scope="module")
def expected(fleet: Fleet) -> mp.FleetPlan:
    return planned(fleet, n_jobs=1)


def planned(fleet: Fleet, **more: Any) -> mp.FleetPlan:
    pipelines, profiles = arguments_of(fleet)
    return mp.plan_fleet(pipelines, profiles, **{"quantile": fleet.quantile, **more})


def test_several_processes_give_the_same_fleet(fleet: Fleet, expected: mp.FleetPlan) -> None:
    assert expected.effort.rounds > 2
    assert planned(fleet, n_jobs=2) == expected
    with joblib.parallel_config(backend="threading", n_jobs=2):
        assert planned(fleet) == expected


def test_a_worker_without_data_asks_for_them(fleet: Fleet, tmp_path: Path) -> None:
    requests = tuple(PricingRequest(index, None, PricingState()) for index in range(2))
    task = PricingTask(
        str(tmp_path), fleet.hardware, fleet.prices, requests, {0: fleet.realisations[0]}, os.getpid()
    )
    replies, missing = answer(task)
    assert ([index for index, *_ in replies], missing) == ([0], [1])
    assert (tmp_path / "0.pickle").is_file()
    # another worker of this machine finds what the first one has left
    workers.worker_of.cache_clear()
    elsewhere = PricingTask(str(tmp_path), fleet.hardware, fleet.prices, requests, {}, os.getpid())
    again, missing = answer(elsewhere)
    assert ([index for index, *_ in again], missing) == ([0], [1])
    assert again[0][1] == replies[0][1]


def test_data_that_were_lost_are_sent_again(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that forget everything after each task, as new ones on other machines would."""
    sent = []

    def forgetful(task: PricingTask) -> Any:
        workers.worker_of.cache_clear()
        sent.append(sorted(task.data))
        return answer(task)

    monkeypatch.setattr(workers, "answer", forgetful)
    with WorkerPool.open(fleet, 1) as pool:
        first = pool.price(fleet.prices, {0: None, 1: None})
        assert sent == [[0], [1]]
        second = pool.price(fleet.prices, {0: None, 1: None})
    # asked without data, found to be missing, and sent
    assert sent[2:] == [[], [], [0], [1]]
    assert first == second


def test_traces_that_no_longer_fit_are_made_anew(fleet: Fleet, expected: mp.FleetPlan) -> None:
    params = FleetParams(workers=WorkerParams(most_tokens=0))
    pipelines, profiles = arguments_of(fleet)
    settings = FleetSettings(None, fleet.quantile, 0, 1e-3, None, "auto", None)
    planner = FleetPlanner(
        read_fleet(pipelines, profiles, None, settings),
        1e-3,
        SearchLimits(),
        1,
        resolve_solver("auto"),
        0.0,
        params,
    )
    assert planner.by_columns(None, alternatives=True, joint_too=True) == expected


def test_a_killed_run_goes_on_to_the_same_fleet(fleet: Fleet, expected: mp.FleetPlan, tmp_path: Path) -> None:
    checkpoint = tmp_path / "fleet.checkpoint"
    script = tmp_path / "run.py"
    script.write_text(_SCRIPT, encoding="utf-8")
    arguments = [sys.executable, str(script), str(checkpoint), str(FLEET_NUMBER), str(SIZE)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "round 3" in line:
                break
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert checkpoint.is_file()
    lines: list[str] = []
    resumed = planned(fleet, n_jobs=1, checkpoint=checkpoint, progress=lines.append)
    assert lines[0].startswith("going on from round ")
    assert int(lines[0].split()[4]) >= 2
    assert resumed == expected
    assert resumed.effort.rounds == expected.effort.rounds


# It waits at each line, so that it is killed in the middle.
_SCRIPT = """
import sys, time
import mipplan as mp
from fleet_instances import arguments_of, fleet_of

def report(line):
    print(line, flush=True)
    time.sleep(0.2)

fleet = fleet_of(int(sys.argv[2]), pipelines=int(sys.argv[3]), scarcity=0.7)
pipelines, profiles = arguments_of(fleet)
mp.plan_fleet(pipelines, profiles, quantile=fleet.quantile, n_jobs=1, checkpoint=sys.argv[1], progress=report)
"""


def test_every_round_can_be_gone_on_from(fleet: Fleet, expected: mp.FleetPlan, tmp_path: Path) -> None:
    """Interrupted after each round in turn, and gone on from the file that was there then."""
    checkpoint = tmp_path / "fleet.checkpoint"
    for stop_after in range(1, expected.effort.rounds + 1):
        checkpoint.unlink(missing_ok=True)

        def interrupt(line: str, last: int = stop_after) -> None:
            if f"round {last}:" in line and not line.startswith("going"):
                raise KeyboardInterrupt

        planned(fleet, checkpoint=checkpoint, progress=interrupt)
        assert planned(fleet, checkpoint=checkpoint) == expected


_NONE = "no checkpoint of a fleet"
_PLAN = '{"format": 1, "pipeline": {}, "choices": {}}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *((text, _NONE) for text in ("", "[]", "{}", "3", '"x"', "null", '{"format": 2}', _PLAN, "\x00")),
        ('{"format": 1, "fleet": "x", "columns": []}', "a checkpoint of format 1, not 2"),
        ('{"format": 2, "fleet": "x", "columns": []}', "the checkpoint of another"),
    ],
)
def test_a_file_that_is_no_checkpoint_of_this_fleet_is_refused(
    text: str, said: str, fleet: Fleet, tmp_path: Path
) -> None:
    path = tmp_path / "file.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(mp.InputError, match=rf"file\.json: is {said}"):
        planned(fleet, checkpoint=path)
    assert path.read_text(encoding="utf-8") == text


def test_a_checkpoint_of_other_settings_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    planned(fleet, checkpoint=path)
    with pytest.raises(mp.InputError, match="of another fleet"):
        planned(fleet, checkpoint=path, gap=0.5)


def test_ray_gives_the_same_fleet(
    fleet: Fleet, expected: mp.FleetPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cluster of this test's own: two workers and little memory on this machine, gone when it ends."""
    pytest.importorskip("ray", reason="the extra mipplan[ray] is not installed")
    from ray.util.joblib import register_ray

    with own_cluster(monkeypatch):
        register_ray()
        with joblib.parallel_config(backend="ray", n_jobs=2):
            found = planned(fleet)
    assert found == expected


def test_an_interrupt_while_traffic_is_analysed_for_one_program_is_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    pipelines, profiles = arguments_of(fleet_of(3, pipelines=2))
    monkeypatch.setattr("mipplan.fleet.problem.trace_instance", interrupt)
    found = mp.plan_fleet(pipelines, profiles, method="joint", quantile=0.9)
    assert (found.status, found.plans) == ("unknown", {})
    assert "stopped before one was found" in (found.reason or "")
