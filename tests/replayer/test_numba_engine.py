"""The compiled engine against the plain one, and what it does where numba or a place for its cache is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import mipplan as mp
from campaigns import Violations, campaign_size, write_summary
from mipplan.core import InputError, compiled
from mipplan.profiles import Hardware, LatencyTable
from mipplan.replayer import NEVER, Capacity, EngineFeature, StageTask, resolve_engine
from mipplan.replayer.engines import numba_engine, plain
from mipplan.replayer.engines.numpy_engine import NumpyEngine, Way, sort_arrivals
from mipplan.replayer.stage_task import ALWAYS, Served
from random_tasks import differences, random_task

ENGINE = numba_engine.NumbaEngine()
NUMPY = NumpyEngine()
WANTED = (
    "fifo",
    "oldest first",
    "several levels",
    "replicas change",
    "busy at the start",
    "left waiting",
    "tokens overtake",
    "full batches",
    "oldest first matters",
)


def serve(task: StageTask) -> Served:
    return ENGINE.serve_many([task])[0]


def in_closed_form(served: Served) -> bool:
    """Whether it was served so: sizes and service times are one number each then, whatever the number of batches."""
    return served.batch_size.size > 0 and served.batch_size.strides == (0,)


def kinds(task: StageTask) -> list[str]:
    served = plain.serve(task)
    turned = plain.serve(replace(task, fifo=not task.fifo))
    found = {
        "fifo": task.fifo,
        "oldest first": not task.fifo,
        "several levels": task.level is not None and np.unique(task.level).size > 1,
        "replicas change": not task.capacity.is_constant,
        "busy at the start": task.busy_until_ns.size > 0,
        "left waiting": bool((served.exit_ns == NEVER).any()),
        "tokens overtake": bool((np.diff(task.arrival_ns) < 0).any()),
        "full batches": bool((served.batch_size == task.batch).any()),
        "oldest first matters": differences(served, turned) != [],
        "in closed form": in_closed_form(serve(task)),
    }
    return [name for name, holds in found.items() if holds]


def test_equals_the_plain_engine() -> None:
    seen: Counter[str] = Counter()
    count = campaign_size(quick=800, deep=20_000)
    violations = Violations()
    for number in range(count):
        with violations.case(number):
            # The long ones wrap the window of batch ends and merge sorted stretches.
            task = random_task(
                np.random.default_rng([81, number]), most_tokens=600 if number % 5 == 0 else 60
            )
            seen.update(kinds(task))
            found = differences(serve(task), plain.serve(task))
            assert not found, f"task {number}: {found}"
    rare = {name: seen[name] for name in WANTED if seen[name] < count / 20}
    assert not rare, f"too few of {count} tasks hold these: {rare}"
    summary = {
        "tasks": count,
        "violations": violations.checked(),
        "tasks_with_feature": dict(sorted(seen.items())),
    }
    write_summary("engine-numba", summary)


def test_single_tokens_in_turn_are_served_in_closed_form_as_numpy_does() -> None:
    """Whatever NumPy finds so, but for tokens that overtake and then ride by age: the loop sorts those faster."""
    rng = np.random.default_rng(86)
    ways: Counter[tuple[bool, bool]] = Counter()
    for number in range(600):
        task = random_task(rng, features=tuple(EngineFeature) if number % 2 else ())
        arrivals = sort_arrivals(task.arrival_ns)
        by_numpy = NUMPY.choose_way(task, arrivals) is Way.CLOSED_FORM
        by_arrival = task.fifo or arrivals.token is None
        served = serve(task)
        taken = in_closed_form(served)
        assert taken == (by_numpy and by_arrival and served.batch_size.size > 0), number
        ways[by_numpy, taken] += 1
    assert ways[True, True] > 30
    assert ways[True, False] > 10
    assert ways[False, False] > 200


def test_instants_too_far_apart_for_the_closed_form_are_left_to_the_loop() -> None:
    task = StageTask(np.array([0, 3]), np.array([[2**53]]), Capacity.constant(1))
    assert not in_closed_form(serve(task))
    assert differences(serve(task), plain.serve(task)) == []


@pytest.mark.parametrize("discipline", ["fifo", "oldest_first"])
@pytest.mark.parametrize(
    ("caps", "closed"), [((1, 1, 1), (True, True, True)), ((1, 4, 1), (True, False, None))]
)
def test_stages_of_single_tokens_are_replayed_in_closed_form(
    caps: tuple[int, ...], closed: tuple[bool | None, ...], discipline: str
) -> None:
    """The last of three behind a batching one only by arrival, if tokens overtake there."""
    names = ("a", "b", "c")
    pipeline = mp.Pipeline.from_document(
        {
            "stages": {name: {"model": name} for name in names},
            "edges": [{"from": "a", "to": "b", "delay": "1ms"}, {"from": "b", "to": "c"}],
        }
    )
    table = np.array([10.0, 13.0])
    profiles = mp.Profiles.from_parts(
        [Hardware("h", 1.0)], [LatencyTable(name, "h", np.array([1, 4]), table) for name in names]
    )
    choices = {name: ("h", cap, 3) for name, cap in zip(names, caps, strict=True)}
    plan = mp.Plan.from_choices(pipeline, profiles, choices, slo_s=1.0)
    trace = mp.Trace.gamma(rate_rps=250, cv=2, duration_s=10, seed=1)
    made, expected = (
        mp.replay(plan, trace, discipline=discipline, engine=engine) for engine in ("numba", "python")
    )
    assert made.latency_ns.tolist() == expected.latency_ns.tolist()
    for name, asked in zip(names, closed, strict=True):
        assert differences(made.stages[name].assignment, expected.stages[name].assignment) == []
        overtaken = bool((np.diff(made.stages[name].arrival_ns) < 0).any())
        taken = in_closed_form(made.stages[name].assignment)
        assert taken == (asked if asked is not None else discipline == "fifo" or not overtaken)


@pytest.mark.parametrize("fifo", [True, False])
def test_equals_the_plain_engine_on_a_long_queue(fifo: bool) -> None:
    # More tokens than three layers of 64 bits can hold, and most of them waiting at once.
    rng = np.random.default_rng(82)
    arrival_ns = rng.integers(10**6, size=64**3 + 1_000)
    task = StageTask(arrival_ns, np.array([[4, 7, 9]]), Capacity.constant(2), fifo)
    assert differences(serve(task), plain.serve(task)) == []


@pytest.mark.parametrize("levels", [0, 3])
def test_equals_the_plain_engine_on_a_queue_of_thousands(levels: int) -> None:
    """Three layers of bits; in bursts, so that who waits is sorted at first, and now and then nobody does."""
    rng = np.random.default_rng(86)
    tokens = 64**2 + 300
    burst = np.sort(rng.choice([0, 20_000, 21_000, 90_000], size=tokens, p=[0.05, 0.3, 0.6, 0.05]))
    arrival_ns = burst + rng.integers(800, size=tokens)
    service_ns = rng.integers(4, 12, size=(max(levels, 1), 3))
    level = rng.integers(levels, size=tokens).astype(np.uint16) if levels else None
    task = StageTask(arrival_ns, service_ns, Capacity.constant(2), False, level)
    assert differences(serve(task), plain.serve(task)) == []


@pytest.mark.parametrize("fifo", [True, False])
@pytest.mark.parametrize("scheduled", [True, False])
def test_equals_the_plain_engine_with_many_replicas(scheduled: bool, fifo: bool) -> None:
    rng = np.random.default_rng(85)
    capacity = Capacity(np.array([ALWAYS, 900, 1_800]), np.array([200, 90, 150]))
    arrival_ns = np.arange(4_000) + rng.integers(100, size=4_000)
    task = StageTask(
        arrival_ns,
        rng.integers(1, 400, size=(50, 2)),
        capacity if scheduled else Capacity.constant(81),
        fifo,
        rng.integers(50, size=4_000).astype(np.uint16),
        rng.integers(300, size=170),
    )
    expected = plain.serve(task)
    assert np.mean(expected.dispatch_ns > arrival_ns) > 0.2
    assert differences(serve(task), expected) == []


def shapes(rng: np.random.Generator) -> dict[str, NDArray[np.int64]]:
    ramp = np.arange(5_000) * 1_000
    batches = np.repeat(ramp[:1_000] + rng.integers(30_000, size=1_000), rng.integers(1, 9, size=1_000))
    return {
        "none": ramp[:0],
        "one": ramp[:1],
        "sorted": ramp,
        "reversed": ramp[::-1].copy(),
        "equal": np.zeros(1_000, dtype=np.int64),
        "random": rng.integers(-(2**62), 2**62, size=4_321),
        "many ties": rng.integers(7, size=4_321),
        "a little out of order": ramp + rng.integers(3_000, size=ramp.size),
        "much out of order": ramp + rng.integers(300_000, size=ramp.size),
        "two halves": np.r_[ramp, ramp],
        "in batches": batches,
    }


@pytest.mark.parametrize("name", shapes(np.random.default_rng(0)))
def test_sorting_is_right_and_stable(name: str) -> None:
    arrival_ns = shapes(np.random.default_rng(83))[name]
    expected = np.argsort(arrival_ns, kind="stable")
    # Token by token, and run by run of equal arrivals.
    for few_runs in (0.0, 1.0):
        key, order = numba_engine.sort_by_arrival(arrival_ns, numba_engine.NumbaParams(few_runs=few_runs))
        assert key.tolist() == arrival_ns[expected].tolist()
        places = np.arange(arrival_ns.size) if order is None else order
        assert places.tolist() == expected.tolist()


def test_takes_arrays_of_any_kind_and_leaves_them_alone() -> None:
    task = random_task(np.random.default_rng([84, 3]), most_tokens=60)
    doubled = np.repeat(task.arrival_ns, 2)[::2]
    assert task.tokens > 10
    assert not doubled.flags.c_contiguous
    frozen = task.arrival_ns.copy()
    frozen.flags.writeable = False
    expected = plain.serve(task)
    for array in (task.arrival_ns, doubled, frozen):
        before = array.tolist()
        served = serve(replace(task, arrival_ns=array))
        assert differences(served, expected) == []
        assert array.tolist() == before
        assert not np.shares_memory(served.exit_ns, array)


def test_batches_take_the_memory_of_batches() -> None:
    arrival_ns = np.zeros(10_000, dtype=np.int64)
    served = serve(StageTask(arrival_ns, np.full((1, 100), 5), Capacity.constant(1)))
    for array in (served.batch_start_ns, served.batch_size, served.batch_service_ns):
        assert array.shape == (100,)
        assert array.base is None


def test_numba_is_loaded_only_where_it_is_chosen() -> None:
    probe = """
import sys
from mipplan.replayer import resolve_engine
assert resolve_engine("auto", frozenset(), 10).name != "numba"
print("numba" in sys.modules)
assert resolve_engine("auto", frozenset(), 10**8).name == "numba"
print("numba" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["False", "True"]), done.stderr


#: What an engine may be asked for under laws of our own.
OWN = frozenset(EngineFeature) - {EngineFeature.SYSTEM}


def test_an_engine_that_is_not_there_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ENGINE.missing() is None
    assert resolve_engine("auto", OWN).name == "numba"
    monkeypatch.setattr(numba_engine, "numba_fault", lambda: "it is too old")
    with pytest.raises(InputError, match="engine numba cannot be used: it is too old"):
        resolve_engine("numba", frozenset())
    assert resolve_engine("auto", OWN).name != "numba"


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        ("ModuleNotFoundError('none', name='numba')", r"not installed: pip install 'mipplan[fast]'"),
        ("ImportError('Numba needs NumPy 2.3 or less')", "cannot be loaded: Numba needs NumPy 2.3 or less"),
    ],
)
def test_all_goes_on_without_numba_that_works(tmp_path: Path, raised: str, told: str) -> None:
    """One that is installed and does not go with the NumPy that is there, too."""
    (tmp_path / "numba.py").write_text(f"raise {raised}\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NUMBA], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert told in done.stdout


WITHOUT_NUMBA = """
import numpy as np
import mipplan as mp
from mipplan.core import numba_fault
from mipplan.replayer import ENGINES, resolve_engine
from mipplan_formulations.time_cost import can_anneal
from random_problems import chain_problem

pipeline, profiles = mp.Pipeline.read("image-processing"), mp.Profiles.default()
trace = mp.Trace.poisson(100.0, 20.0, seed=1)
plan = mp.plan(pipeline, profiles, trace, guarantee="replay", time_limit_s=20)
assert mp.replay(plan, trace, engine="auto").quantile(0.99) <= plan.slo_s
certified = mp.plan(pipeline, profiles, trace)
assert mp.certify(certified, trace, certificate="sharp").bound_s <= plan.slo_s
assert resolve_engine("auto", frozenset(), 10**7).name != "numba"
assert not can_anneal(chain_problem(3, 3, 2, seed=1))
print(numba_fault(), ENGINES["numba"].missing())
"""


def test_compiles_without_a_place_for_the_cache() -> None:
    # Nothing lies beside a function that came from no file.
    names: dict[str, Any] = {}
    exec("def doubled(number):\n    return 2 * number\n", names)
    assert compiled(names["doubled"])(21) == 42
