from __future__ import annotations

import itertools
import pickle
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mipplan as mp
from mipplan.core import InputError
from mipplan.pipeline import Pipeline
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.replayer.stage_task import ALWAYS

DAY_NS = 24 * 3600 * 10**9


def chain(**service: tuple[list[int], int]) -> mp.Plan:
    """Plan of a chain from (ℓ(1), …, ℓ(b) in ns, replicas) per stage."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    names = list(service)
    graph.add_nodes_from((name, {"model": name}) for name in names)
    graph.add_edges_from(itertools.pairwise(names))
    tables = [
        LatencyTable(name, "h", np.arange(len(times)) + 1, np.array(times) * 1e-6)
        for name, (times, _) in service.items()
    ]
    profiles = Profiles.from_parts([Hardware("h", 1.0)], tables)
    choices = {name: ("h", len(times), replicas) for name, (times, replicas) in service.items()}
    return mp.Plan.from_choices(Pipeline(graph), profiles, choices, slo_s=1.0)


def replayed(
    plan: mp.Plan, arrivals: list[int], schedule: mp.ReplicaSchedule, **options: Any
) -> mp.ReplayResult:
    return mp.replay(plan, mp.Trace.from_ns(arrivals), schedule={"a": schedule}, **options)


# ---------------------------------------------------------------------------------------------- capacity


def steps(schedule: mp.ReplicaSchedule) -> list[tuple[int, int]]:
    capacity = schedule.capacity
    return list(zip(capacity.from_ns.tolist(), capacity.replicas.tolist(), strict=True))


def test_capacity_by_hand() -> None:
    """Ordered at 10, and cancelled but for one at 12, before any is active; that one is active at 15."""
    schedule = mp.ReplicaSchedule([10, 12, 30, 32], [2, 5, 3, 1, 4], delay_ns=5)
    assert steps(schedule) == [(ALWAYS, 2), (15, 3), (30, 1), (37, 4)]


def test_replacing_what_was_just_removed_takes_the_delay_too() -> None:
    assert steps(mp.ReplicaSchedule([10, 11], [3, 1, 3], delay_ns=100)) == [(ALWAYS, 3), (10, 1), (111, 3)]


def test_no_change_is_a_constant_capacity() -> None:
    assert mp.ReplicaSchedule([], [3]).capacity.is_constant
    assert mp.ReplicaSchedule([5, 9], [3, 7, 3], delay_ns=5).capacity.is_constant  # all cancelled in time


@given(
    st.lists(st.integers(0, 30), unique=True, max_size=8).map(sorted),
    st.lists(st.integers(0, 4), min_size=9, max_size=9),
    st.integers(0, 12),
)
def test_capacity_is_the_least_count_of_the_last_delay(
    changes: list[int], counts: list[int], delay: int
) -> None:
    replicas = [*counts[: len(changes)], 1 + counts[-1]]
    schedule = mp.ReplicaSchedule(changes, replicas, delay)

    def commanded(time: int) -> int:
        return replicas[sum(change <= time for change in changes)]

    for time in range(-2, 45):
        least = min(commanded(earlier) for earlier in range(time - delay, time + 1))
        assert least == [count for start, count in steps(schedule) if start <= time][-1]


# ------------------------------------------------------------------------------------------------ replay


def test_removed_replica_finishes_its_batch() -> None:
    result = replayed(chain(a=([10], 1)), [0, 0, 0, 0], mp.ReplicaSchedule([4], [2, 1]))
    # Two start at 0; at 10 both are done, only one goes on.
    assert result.stages["a"].dispatch_ns.tolist() == [0, 0, 10, 20]


def test_activation_takes_the_delay() -> None:
    result = replayed(chain(a=([10], 1)), [0, 0, 0], mp.ReplicaSchedule([1], [1, 3], delay_ns=5))
    assert result.stages["a"].dispatch_ns.tolist() == [0, 6, 6]


def test_nobody_serves_while_there_are_no_replicas() -> None:
    plan = chain(a=([10, 12, 14], 4))
    result = replayed(plan, [0, 3, 8, 100], mp.ReplicaSchedule([20], [0, 1], delay_ns=7))
    stage = result.stages["a"]
    assert stage.batch_start_ns.tolist() == [27, 100]
    assert stage.batch_size.tolist() == [3, 1]


def test_change_at_the_instant_of_an_arrival_counts_for_it() -> None:
    plan = chain(a=([10], 1))
    up, down = mp.ReplicaSchedule([5], [0, 1]), mp.ReplicaSchedule([5, 8], [1, 0, 1])
    assert replayed(plan, [5, 90], up).stages["a"].dispatch_ns.tolist() == [5, 90]
    assert replayed(plan, [5, 90], down).stages["a"].dispatch_ns.tolist() == [8, 90]


def test_finishing_replica_counts_as_busy_until_it_is_done() -> None:
    """Three busy until 10; told 1 at 2 and 3 at 4: as two are still finishing, nobody new comes before 10."""
    schedule = mp.ReplicaSchedule([2, 4], [3, 1, 3])
    result = replayed(chain(a=([10], 1)), [0, 0, 0, 5, 5, 5], schedule)
    assert result.stages["a"].dispatch_ns.tolist() == [0, 0, 0, 10, 10, 10]
    assert result.paid_replica_ns == {"a": 3 * 20}


def test_stages_not_named_keep_the_plans_replicas() -> None:
    plan = chain(a=([10], 1), b=([10], 2))
    schedule = mp.ReplicaSchedule([5], [4, 1])
    result = replayed(plan, [0] * 4, schedule)
    assert result.stages["b"].dispatch_ns.tolist() == [10, 10, 20, 20]
    assert (result.stages["a"].replicas, result.stages["b"].replicas) == (4, 2)


def test_constant_schedule_takes_the_place_of_the_plans_replicas() -> None:
    plan, trace = chain(a=([10, 11], 3)), mp.Trace.from_ns(np.arange(40) * 2)
    few = mp.replay(plan, trace, schedule={"a": mp.ReplicaSchedule([], [1])})
    assert few.latency_ns.tolist() == mp.replay(chain(a=([10, 11], 1)), trace).latency_ns.tolist()


def test_plans_that_differ_in_scheduled_replicas_only_are_served_once() -> None:
    trace = mp.Trace.from_ns(np.arange(40) * 2)
    schedule = {"a": mp.ReplicaSchedule([20], [1, 2])}
    plans = [chain(a=([10, 11], 3), b=([5], replicas)) for replicas in (1, 2)]
    plans.append(chain(a=([10, 11], 1), b=([5], 2)))
    results = mp.replay_many(plans, trace, schedule=schedule)
    assert results[0].stages["a"] is results[2].stages["a"]
    assert results[1].stages["b"] is results[2].stages["b"]
    assert results[0].latency_ns.tolist() != results[1].latency_ns.tolist()
    for plan, result in zip(plans, results, strict=True):
        assert result.latency_ns.tolist() == mp.replay(plan, trace, schedule=schedule).latency_ns.tolist()


# ----------------------------------------------------------------------------------------------- payment


def test_constant_replicas_are_paid_for_the_whole_window() -> None:
    plan = chain(a=([10], 3), b=([7], 2))
    result = mp.replay(plan, mp.Trace.from_ns([100, 130]))
    assert result.paid_replica_ns == {"a": 3 * 47, "b": 2 * 47}


def test_payment_from_the_order_to_retirement() -> None:
    """Paid at 0–4: 2; 4–10: 1 and a finishing one; 10–12: 1; 12–: 3 ordered, of which one active, until 20."""
    schedule = mp.ReplicaSchedule([4, 12], [2, 1, 3], delay_ns=50)
    result = replayed(chain(a=([10], 1)), [0, 0, 10], schedule)
    assert result.stages["a"].exit_ns.tolist() == [10, 10, 20]
    assert result.paid_replica_ns == {"a": 2 * 4 + 2 * 6 + 1 * 2 + 3 * 8}


def test_cancelled_order_is_paid_until_it_is_cancelled() -> None:
    schedule = mp.ReplicaSchedule([4, 7], [1, 11, 1], delay_ns=50)
    assert replayed(chain(a=([10], 1)), [0, 10], schedule).paid_replica_ns == {"a": 20 + 10 * 3}


def test_what_finishes_is_paid_however_many_batches_there_are() -> None:
    """More instants than are looked at together: each of them is counted once."""
    pairs = 40_000
    start = 100 + 20 * np.arange(pairs)
    # After three single ones two batches of 10 ns begin 5 ns apart. One replica goes while both are under way, and
    # comes back after them.
    changes = np.sort(np.concatenate([start[:-1] + 7, start[:-1] + 18]))
    schedule = mp.ReplicaSchedule(changes, np.append(np.tile([2, 1], pairs - 1), 2))
    # So the last instant of the first 65,536 is one from which on a replica finishes.
    arrivals = [0, 20, 40, *np.sort(np.concatenate([start, start + 5])).tolist()]
    paid = replayed(chain(a=([10], 2)), arrivals, schedule).paid_replica_ns
    # It is told to be away for 11 ns, of which it finishes in the first 3.
    assert paid == {"a": 2 * int(start[-1] + 15) - (11 - 3) * (pairs - 1)}


def test_changes_outside_the_window_are_not_paid() -> None:
    schedule = mp.ReplicaSchedule([40, 500], [1_000, 2, 1_000])
    assert replayed(chain(a=([10], 1)), [100, 110], schedule).paid_replica_ns == {"a": 2 * 20}


def test_payment_is_exact_beyond_64_bits() -> None:
    schedule = mp.ReplicaSchedule([DAY_NS], [10**9, 10**9 - 1])
    expected = 10**9 * DAY_NS + (10**9 - 1) * (1000 * DAY_NS + 10)
    assert replayed(chain(a=([10], 1)), [0, 1001 * DAY_NS], schedule).paid_replica_ns == {"a": expected}


# ----------------------------------------------------------------------------------------- the interface


def test_seconds_are_rounded_to_nanoseconds() -> None:
    schedule = mp.ReplicaSchedule.from_seconds([0.1, 2.0000000004], [1, 2, 3], delay_s=1.5)
    assert schedule.change_ns.tolist() == [100_000_000, 2_000_000_000]
    assert schedule.delay_ns == 1_500_000_000


def test_arrays_are_its_own_and_read_only_even_from_a_pickle() -> None:
    changes = np.array([5, 9])
    schedule = mp.ReplicaSchedule(changes, np.array([1, 2, 3]), 4)
    changes[0] = 7
    again = pickle.loads(pickle.dumps(schedule))
    for one in (schedule, again):
        assert (one.change_ns.tolist(), one.replicas.tolist(), one.delay_ns) == ([5, 9], [1, 2, 3], 4)
        for array in (one.change_ns, one.replicas, one.capacity.from_ns, one.capacity.replicas):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1


@pytest.mark.parametrize(
    ("given", "places"),
    [
        (
            ([5, 3, 3], [1, -2, 0], -4),
            ["replicas[1]", "change_ns[1]", "change_ns[2]", "replicas[2]", "replicas", "delay_ns"],
        ),
        (([5], [1, 0]), ["replicas[1]"]),
        (([], []), ["replicas"]),
        (([5], [1.5, 1], True), ["replicas", "delay_ns"]),
        (([[5]], [1, 1], 2.0), ["change_ns", "delay_ns"]),
        (([-1], [1, 1]), ["change_ns[0]"]),
        (([2**62], [1, 10**10]), ["change_ns[0]", "replicas[1]"]),
        (("soon", [[1], [1, 2]], 0), ["change_ns", "replicas"]),
    ],
)
def test_every_fault_is_listed(given: tuple[Any, ...], places: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        mp.ReplicaSchedule(*given)
    assert [fault.place for fault in caught.value.faults] == places


def test_every_fault_in_seconds_is_listed() -> None:
    with pytest.raises(InputError) as caught:
        mp.ReplicaSchedule.from_seconds([0.5, float("nan"), "x", 10**400], [1, -1], delay_s=1e300)  # type: ignore[list-item]
    assert [fault.place for fault in caught.value.faults] == [
        "change_s[1]",
        "change_s[2]",
        "change_s[3]",
        "delay_s",
        "replicas[1]",
    ]


def test_every_fault_of_a_replay_is_listed_once() -> None:
    plan, trace = chain(a=([10], 1), b=([10], 1)), mp.Trace.from_ns([0, 1])
    schedule: Any = {"c": mp.ReplicaSchedule([], [1]), "b": 3}
    noise: Any = 0.2
    with pytest.raises(InputError) as caught:
        mp.replay_many([plan, plan], trace, discipline="lifo", schedule=schedule, noise=noise)
    assert [fault.place for fault in caught.value.faults] == [
        "discipline",
        "schedule.c",
        "schedule.b",
        "noise",
    ]
    assert "the stages are a, b" in str(caught.value)
    whole: Any = mp.ReplicaSchedule([], [1])
    with pytest.raises(InputError, match="schedule: expected stage names to ReplicaSchedule"):
        mp.replay(plan, trace, schedule=whole)


def test_certificate_does_not_speak_of_other_replicas() -> None:
    plan, trace = chain(a=([10], 1)), mp.Trace.from_ns([0, 1])
    assert mp.replay(plan, trace).certificate_applies
    assert not mp.replay(plan, trace, discipline="fifo").certificate_applies
    assert not mp.replay(plan, trace, schedule={"a": mp.ReplicaSchedule([], [1])}).certificate_applies
