"""The loop on a virtual clock: stops when it knows enough, keeps its budget, rejects what was disturbed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns import campaign_size
from mipplan.profiling import (
    BatchMeasurement,
    DisturbanceParams,
    Ending,
    MachineLoad,
    MeasuringParams,
    RunBlock,
    TimedRun,
    UnmeasuredError,
    measure_batch,
)
from mipplan.profiling.disturbance import find_disturbances
from mipplan.profiling.statistics import look_confidence, quantile_range
from profiling.fake_latencies import QUIET, VirtualMachine

PARAMS = MeasuringParams(visits=1)


def drawn(shape: str, seed: int, scale_ns: float = 2e6) -> tuple[Callable[[int], float], float]:
    """Latencies from a distribution, and its P99."""
    random = np.random.default_rng(seed)
    if shape == "exponential":
        return lambda _run: scale_ns * random.standard_exponential(), scale_ns * math.log(100)
    if shape == "uniform":
        return lambda _run: scale_ns * (1 + random.random()), scale_ns * 1.99
    return lambda _run: scale_ns * (1 - random.random()) ** -0.4, scale_ns * 100**0.4


@pytest.mark.parametrize("shape", ["uniform", "exponential", "pareto"])
def test_interval_holds_when_stopped_at_the_first_narrow_one(shape: str) -> None:
    """The promise of 95 % survives looking again and again; three standard deviations of the trials below."""
    trials = campaign_size(quick=20, deep=1_000)
    covered = 0
    for seed in range(trials):
        latency_ns, p99 = drawn(shape, seed)
        machine = VirtualMachine(latency_ns)
        found = measure_batch(1, machine.observe, machine.clock, replace(PARAMS, precision=0.4))
        covered += (found.p99.low_ns or 0) <= p99 <= (found.p99.high_ns or math.inf)
    assert covered >= 0.95 * trials - 3 * math.sqrt(trials * 0.95 * 0.05)


def test_it_stops_when_it_knows_enough() -> None:
    machine = VirtualMachine(drawn("uniform", 1)[0])
    found = measure_batch(4, machine.observe, machine.clock, PARAMS)
    assert found.ending is Ending.PRECISE
    assert max(found.p50.width, found.p99.width) <= PARAMS.precision
    assert machine.clock() < PARAMS.time_limit_s / 4
    assert (found.batch, found.disturbed, found.memory_gib, found.energy_j) == (4, 0, 0.25, 0.5)
    assert found.cpu_ms == pytest.approx(found.mean_ms / 2, rel=1e-6)


def test_a_constant_latency_is_known_after_as_many_runs_as_the_p99_needs() -> None:
    machine = VirtualMachine(lambda _run: 5e6)
    found = measure_batch(1, machine.observe, machine.clock, PARAMS)
    assert found.p50.value_ns == found.p99.value_ns == found.p99.high_ns == 5_000_000
    assert 300 < found.latency_ns.size < 1_500
    assert found.warm_up == 0


@pytest.mark.parametrize("phase_s", [1.0, 2.0, 3.0])
def test_a_second_measurement_in_another_phase_of_the_machine_reproduces_the_first(phase_s: float) -> None:
    """The machine is slower by half for every other stretch of some seconds, each begun at another place in it."""
    found = []
    for begins_s in np.arange(0.0, 2 * phase_s, phase_s / 3):
        random = np.random.default_rng(3)
        machine = VirtualMachine(lambda _run: 0.0)
        machine.now_ns = round(begins_s * 1e9)

        def latency_ns(
            _run: int, machine: VirtualMachine = machine, random: np.random.Generator = random
        ) -> float:
            is_slow = machine.clock() % (2 * phase_s) >= phase_s
            return (3e6 if is_slow else 2e6) * (1 + 0.02 * float(random.random()))

        machine.latency_ns = latency_ns
        found.append(measure_batch(1, machine.observe, machine.clock, PARAMS))
    p99_ns = [one.p99.value_ns for one in found]
    assert max(p99_ns) <= 1.2 * min(p99_ns)


@given(
    median_ms=st.floats(0.05, 3_000),
    spread=st.floats(0, 1.5),
    limit_s=st.floats(0.5, 30),
    seed=st.integers(0, 10),
)
@settings(deadline=None, max_examples=40)
def test_time_is_exceeded_by_one_run_at_most(
    median_ms: float, spread: float, limit_s: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    machine = VirtualMachine(lambda _run: 1e6 * median_ms * math.exp(spread * random.standard_normal()))
    params = replace(PARAMS, time_limit_s=limit_s, fewest_runs=1)
    started = machine.clock()
    found = measure_batch(1, machine.observe, machine.clock, params)
    overrun_s = machine.clock() - started - limit_s
    assert overrun_s <= (machine.longest_ns + machine.between_ns) / 1e9 + 1e-6
    assert found.spent_s == pytest.approx(machine.clock() - started)
    if found.ending is Ending.PRECISE:
        assert max(found.p50.width, found.p99.width) <= params.precision


def test_too_few_runs_say_nothing() -> None:
    machine = VirtualMachine(lambda _run: 2e9)
    with pytest.raises(UnmeasuredError, match=r"only \d runs after warm-up in .* allow more time"):
        measure_batch(1, machine.observe, machine.clock, replace(PARAMS, time_limit_s=10))


def test_runs_are_at_most_as_many_as_allowed() -> None:
    machine = VirtualMachine(drawn("pareto", 5, 1e4)[0])
    params = replace(PARAMS, precision=1e-6, most_runs=3_000, least_s=0.0)
    found = measure_batch(1, machine.observe, machine.clock, params)
    assert found.ending is Ending.RUNS
    assert found.p99.width > 1e-6


def test_of_quick_models_fewer_runs_count_over_the_same_time() -> None:
    machine = VirtualMachine(drawn("uniform", 6, 2e4)[0])
    found = measure_batch(1, machine.observe, machine.clock, replace(PARAMS, most_runs=2_000))
    assert found.spent_s >= PARAMS.least_s
    assert 1_000 <= found.latency_ns.size + found.warm_up < 60_000 < machine.made
    assert found.p99.value_ns == pytest.approx(2e4 * 1.99, rel=0.02)


VISITS = MeasuringParams(visits=2)


def visited(machine: VirtualMachine, params: MeasuringParams, between_s: float = 0.0) -> BatchMeasurement:
    """All visits of a batch size; in between are others, which take that long."""
    found = measure_batch(4, machine.observe, machine.clock, params)
    while found.is_due(params):
        machine.now_ns += round(between_s * 1e9)
        found = measure_batch(4, machine.observe, machine.clock, params, before=found)
    return found


@pytest.mark.parametrize("shape", ["uniform", "exponential", "pareto"])
def test_visits_are_put_together(shape: str) -> None:
    machine = VirtualMachine(drawn(shape, 7)[0])
    found = visited(machine, VISITS)
    assert 2 <= len(found.visits) <= VISITS.most_visits
    assert sum(found.visits) == found.latency_ns.size == machine.made - found.warm_up
    confidence = look_confidence(found.looks, 0.95)
    assert found.p50 == quantile_range(found.latency_ns, 0.50, confidence)
    assert found.p99 == quantile_range(found.latency_ns, 0.99, confidence)
    assert found.cpu_ms == pytest.approx(found.mean_ms / 2, rel=1e-6)
    assert (found.memory_gib, found.energy_j) == (0.25, 0.5)
    assert found.spent_s <= VISITS.time_limit_s + 1.0
    parts = np.split(found.latency_ns, np.cumsum(found.visits)[:-1])
    quantiles = [[quantile_range(part, q, 0.95).value_ns for part in parts] for q in (0.5, 0.99)]
    assert found.apart == pytest.approx(max(max(one) / min(one) - 1 for one in quantiles))


def test_intervals_of_all_visits_hold() -> None:
    trials = campaign_size(quick=20, deep=1_000)
    covered = 0
    for seed in range(trials):
        latency_ns, p99 = drawn("exponential", seed)
        found = visited(VirtualMachine(latency_ns), replace(VISITS, precision=0.4))
        covered += (found.p99.low_ns or 0) <= p99 <= (found.p99.high_ns or math.inf)
    assert covered >= 0.95 * trials - 3 * math.sqrt(trials * 0.95 * 0.05)


def test_visits_see_phases_of_minutes_that_one_visit_does_not() -> None:
    """The machine is slower by half every other minute; a second measurement begins a minute later."""

    def p99_ns(params: MeasuringParams, begins_s: float) -> int:
        random = np.random.default_rng(3)
        machine = VirtualMachine(lambda _run: 0.0)
        machine.now_ns = round(begins_s * 1e9)
        machine.latency_ns = lambda _run: (
            (3e6 if machine.clock() % 120 >= 60 else 2e6) * (1 + 0.02 * float(random.random()))
        )
        found = visited(machine, params, between_s=50)
        assert (found.apart > params.apart) == (len(found.visits) > 1)
        return found.p99.value_ns

    once, twice = ([p99_ns(params, begins_s) for begins_s in (0, 60)] for params in (PARAMS, VISITS))
    assert max(once) > 1.4 * min(once)
    assert max(twice) <= 1.02 * min(twice)


def test_where_a_visit_would_have_too_few_runs_it_takes_all_of_the_time() -> None:
    found = visited(VirtualMachine(lambda _run: 4e9), VISITS)
    assert found.visits == (14,)
    assert found.ending is Ending.TIME


def test_warm_up_is_cut_off() -> None:
    random = np.random.default_rng(2)
    machine = VirtualMachine(lambda run: 1e6 * (1 + 0.02 * random.standard_normal()) * (4 if run < 60 else 1))
    found = measure_batch(1, machine.observe, machine.clock, PARAMS)
    assert 60 <= found.warm_up <= 75
    assert found.latency_ns.max() < 2_000_000


def test_disturbed_blocks_are_rejected_and_repeated() -> None:
    """Every second block runs beside other load, at three times the latency; what is found is that of the others."""
    disturbed = MachineLoad(steal=0.0, others=0.5)
    machine = VirtualMachine(lambda _run: 2e6, lambda block: disturbed if block % 2 else QUIET)
    machine.latency_ns = lambda _run: 6e6 if machine.blocks % 2 else 2e6
    found = measure_batch(1, machine.observe, machine.clock, PARAMS)
    assert found.max_ms == 2.0
    assert found.disturbances == {"other load": found.disturbed}
    assert found.disturbed + found.warm_up + found.latency_ns.size == machine.made
    machine.blocks = machine.made = 0
    kept = measure_batch(
        1, machine.observe, machine.clock, replace(PARAMS, keeps_disturbed=True, time_limit_s=20)
    )
    assert kept.max_ms == 6.0
    assert kept.kept
    assert kept.disturbed > 0


def test_a_machine_never_quiet_is_no_place_to_measure() -> None:
    machine = VirtualMachine(lambda _run: 2e6, lambda _block: MachineLoad(steal=0.2, others=0.0))
    with pytest.raises(UnmeasuredError, match=r"disturbed too many of .* \(steal: \d+\).*--disturbed keep"):
        measure_batch(1, machine.observe, machine.clock, replace(PARAMS, time_limit_s=5))
    assert machine.clock() >= 4.9  # it tried for as long as it may


def test_slow_runs_are_kept_unless_something_outside_says_why() -> None:
    """Rejecting runs for being slow would make every P99 look good."""
    random = np.random.default_rng(4)
    slow = set(random.choice(5_000, 250, replace=False).tolist())
    machine = VirtualMachine(lambda run: 2e7 if run in slow else 2e6)
    found = measure_batch(1, machine.observe, machine.clock, PARAMS)
    assert found.latency_ms("p99") == 20.0
    assert found.disturbed == 0
    waiting = VirtualMachine(machine.latency_ns, waited_ns=lambda run: 18_000_000 if run in slow else 0)
    found = measure_batch(1, waiting.observe, waiting.clock, PARAMS)
    assert found.latency_ms("p99") == 2.0
    assert set(found.disturbances) == {"waited for a processor"}


def test_what_is_told_never_goes_below_nothing_left() -> None:
    told: list[float] = []
    machine = VirtualMachine(drawn("pareto", 3)[0])
    measure_batch(
        1,
        machine.observe,
        machine.clock,
        replace(PARAMS, time_limit_s=5),
        lambda _text, left_s: told.append(left_s),
    )
    assert told
    assert min(told) >= 0
    assert max(told) <= 5


def run(wall_ns: int = 10_000_000, **others: int | None) -> TimedRun:
    return TimedRun(
        **{"start_ns": 0, "wall_ns": wall_ns, "cpu_ns": wall_ns, "waited_ns": 0, "preempted": 0, **others}
    )


@pytest.mark.parametrize(
    ("block", "alone", "reason"),
    [
        (RunBlock((run(),), None), True, None),
        (RunBlock((run(),), QUIET), True, None),
        (RunBlock((run(),), MachineLoad(0.05, 0.0)), False, "steal"),
        (RunBlock((run(),), MachineLoad(0.0, 0.2)), False, "other load"),
        (RunBlock((run(waited_ns=600_000),)), True, "waited for a processor"),
        (RunBlock((run(waited_ns=600_000),)), False, None),  # that is what co-location costs
        (RunBlock((run(waited_ns=400_000),)), True, None),
        (RunBlock((run(wall_ns=50_000, waited_ns=40_000),)), True, None),  # as long as waking up takes
        (RunBlock((run(waited_ns=None, cpu_ns=5_000_000, preempted=1),)), True, "waited for a processor"),
        (RunBlock((run(waited_ns=None, cpu_ns=5_000_000),)), True, None),  # it read a file, perhaps
        (RunBlock((run(waited_ns=None, cpu_ns=None, preempted=1),)), True, None),
    ],
)
def test_what_counts_as_disturbed(block: RunBlock, alone: bool, reason: str | None) -> None:
    assert find_disturbances(block, alone, DisturbanceParams()) == [reason]
