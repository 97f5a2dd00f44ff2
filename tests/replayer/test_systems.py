"""Laws of serving systems: by hand, against one global event loop, and where they are today's replay."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

import mipplan as mp
from campaigns import Violations, campaign_size, write_summary
from mipplan.pipeline import SYSTEMS, Collecting, Discipline, Routing, ServingSystem, read_system
from mipplan.replayer import NEVER, Capacity, StageTask
from mipplan.replayer.engines import EVENTS, plain
from oracle_replay import slow_noise
from oracle_systems import SystemLoop
from oracle_tokens import slow_tokens
from random_pipelines import Case, cases, random_case, random_noise, staggered
from random_tasks import differences, random_task
from serving_plans import MS, small_plan

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "systems.md"


def served(
    arrivals: list[int], table: list[int], replicas: int, system: ServingSystem, draws: str = ""
) -> list[tuple[int, tuple[int, ...]]]:
    """Start and tokens of each batch."""
    task = StageTask(
        np.array(arrivals, dtype=np.int64),
        np.array([table], dtype=np.int64),
        Capacity.constant(replicas),
        fifo=True,
        system=system,
        draws=draws,
    )
    (made,) = EVENTS.serve_many([task])
    assert made.rider is not None
    ends = np.cumsum(made.batch_size)
    batches = [
        tuple(made.rider[end - size : end].tolist()) for end, size in zip(ends, made.batch_size, strict=True)
    ]
    return list(zip(made.batch_start_ns.tolist(), batches, strict=True))


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_an_idle_replica_collects_for_the_window() -> None:
    system = ServingSystem("w", window_ns=5)
    # Alone for the whole window; then two in it; full at once.
    assert served([0], [10, 10, 10], 1, system) == [(5, (0,))]
    assert served([0, 3, 6], [10, 10, 10], 1, system) == [(5, (0, 1)), (20, (2,))]
    assert served([0, 3, 4], [10, 10, 10], 1, system) == [(4, (0, 1, 2))]
    # A token at the very end of the window is in.
    assert served([0, 5], [10, 10], 1, system) == [(5, (0, 1))]


def test_arrivals_go_round_idle_and_collecting_replicas() -> None:
    """Three in a burst at two replicas: two and one, where an eager replica would take all three."""
    assert served([0, 1, 2], [10] * 4, 2, ServingSystem("w", window_ns=5)) == [(5, (0, 2)), (6, (1,))]
    assert served([0, 0, 0], [10] * 4, 2, SYSTEMS["central"]) == [(0, (0, 1, 2))]


def test_what_comes_at_once_is_taken_together_by_mosec() -> None:
    """The outputs of a batch go to one worker; what comes a moment later goes to the next one."""
    together = ServingSystem("w", collecting=Collecting.TOGETHER, window_ns=5)
    assert served([0, 0, 1], [10] * 4, 2, together) == [(5, (0, 1)), (6, (2,))]
    assert served([0, 0, 0], [10] * 2, 2, together) == [(0, (0, 1)), (5, (2,))]
    spread = replace(together, collecting=Collecting.FROM_FIRST)
    assert served([0, 0, 1], [10] * 4, 2, spread) == [(5, (1,)), (5, (0, 2))]


def test_an_open_batch_gets_what_comes_while_it_is_collected() -> None:
    """A burst of three fills one batch of Triton's; the next one is opened when it is full."""
    system = ServingSystem("o", collecting=Collecting.OPEN, window_ns=5)
    assert served([0, 1, 2], [10] * 4, 2, system) == [(5, (0, 1, 2))]
    assert served([0, 1, 2], [10] * 2, 2, system) == [(1, (0, 1)), (7, (2,))]
    # Of who becomes idle and takes what waits the batch is open, too.
    assert served([0, 7, 14, 16], [10] * 4, 2, system) == [(5, (0,)), (12, (1,)), (20, (2, 3))]


def test_a_replica_that_becomes_idle_takes_all_that_waits_and_collects_on() -> None:
    system = ServingSystem("w", window_ns=5)
    assert served([0, 6, 7, 16], [10] * 4, 1, system) == [(5, (0,)), (20, (1, 2, 3))]


def test_windows_by_the_clock_follow_each_other() -> None:
    """Idle from 100 on (the first token's batch ends at 10 + 90): windows end at 105, 110, 115."""
    system = ServingSystem("c", collecting=Collecting.BY_CLOCK, window_ns=5)
    assert served([10, 113], [85, 85], 1, system) == [(15, (0,)), (115, (1,))]
    assert served([10, 110], [85, 85], 1, system) == [(15, (0,)), (115, (1,))]


def test_batches_closed_ahead_do_not_grow_with_the_queue() -> None:
    """All come while the replica is busy, more than a window apart: one token each, though eight may go together."""
    system = ServingSystem("a", routing=Routing.ROUND_ROBIN, collecting=Collecting.AHEAD, window_ns=0)
    assert served([0, 2, 4, 4], [10] * 8, 1, system) == [(0, (0,)), (10, (1,)), (20, (2, 3))]
    wide = replace(system, window_ns=2)
    assert served([0, 2, 4, 4], [10] * 8, 1, wide) == [(2, (0, 1)), (12, (2, 3))]


def test_round_robin_does_not_look_at_who_is_idle() -> None:
    system = ServingSystem("r", routing=Routing.ROUND_ROBIN)
    assert served([0, 1, 2], [10], 2, system) == [(0, (0,)), (1, (1,)), (10, (2,))]
    # The second replica is idle from 4 on, and token 2 waits for the first all the same.
    assert served([0, 1, 9], [10], 2, system)[2] == (10, (2,))


def test_of_two_replicas_the_one_with_fewer_tokens_is_given_more() -> None:
    system = ServingSystem("p", routing=Routing.POW2)
    assert served([0, 1, 2, 3], [10], 2, system) == [(0, (0,)), (1, (1,)), (10, (2,)), (11, (3,))]
    # Each knows of what was served 20 later: at 12 they look equal, and the first one drawn is taken.
    stale = replace(system, stale_ns=20)
    starts = {served([0, 1, 12, 13], [10], 2, stale, draws=str(seed))[-1][0] for seed in range(20)}
    assert starts == {13}


def test_a_router_that_finds_all_full_tries_again_ever_later() -> None:
    """One token at a time at the only replica, busy for 100 ms: drawn for at 1, 26, 76 and 176 ms."""
    system = ServingSystem("p", routing=Routing.POW2, most_ongoing=1)
    assert served([0, MS], [100 * MS], 1, system) == [(0, (0,)), (176 * MS, (1,))]
    # At last every 500 ms: at 776, 1276, 1776 and 2276 ms.
    assert served([0, MS], [2_000 * MS], 1, system)[1] == (2_276 * MS, (1,))


def test_what_a_router_finds_goes_to_who_has_waited_longest() -> None:
    """The only replica is free from 10 ms on. The second token is drawn for again at 26 ms; at 20 ms comes the third,
    and what is found for it goes to the second. At 26 ms the replica is busy, at 76 ms it takes the third."""
    system = ServingSystem("p", routing=Routing.POW2, most_ongoing=1)
    came = [0, MS, 20 * MS]
    assert served(came, [10 * MS], 1, system) == [(0, (0,)), (20 * MS, (1,)), (76 * MS, (2,))]


def test_what_comes_last_to_a_full_queue_is_turned_away() -> None:
    system = ServingSystem("b", most_waiting=1)
    assert served([0, 1, 2, 3, 10], [10], 1, system) == [(0, (0,)), (10, (1,)), (20, (4,))]
    # Of one instant, replicas take first; what then exceeds the bound goes, the last first.
    assert served([0, 0, 0, 0], [10], 1, system) == [(0, (0,)), (10, (1,))]
    assert served([5, 5], [10], 1, replace(system, most_waiting=0)) == [(5, (0,))]


# --- against the event loop ------------------------------------------------------------------------------------------


def random_system(rng: np.random.Generator, case: Case, discipline: Discipline) -> ServingSystem:
    """Any law, with windows about as long as batches take."""
    longest = max(max(times) for times in case.service_ns().values())
    routing = Routing(rng.choice(list(Routing)))
    wanted = [one for one in Collecting if (routing, one) != (Routing.CENTRAL, Collecting.AHEAD)]
    collecting = Collecting(rng.choice(wanted))
    routed = routing is Routing.POW2
    bounded = rng.random() < 0.4 and (routed or collecting is not Collecting.AHEAD)
    return ServingSystem(
        "any",
        routing=routing,
        collecting=collecting,
        window_ns=int(rng.choice([0, 1, rng.integers(1, longest + 1), 3 * longest])),
        stagger_ns=int(rng.choice([0, 1, longest // 3])),
        discipline=discipline,
        most_ongoing=int(rng.integers(1, 5)) if routed and rng.random() < 0.6 else None,
        stale_ns=int(rng.integers(0, longest)) if routed and rng.random() < 0.5 else 0,
        most_waiting=int(rng.integers(0, 6)) if bounded else None,
    )


def compare(rng: np.random.Generator, case: Case, seen: Counter[str]) -> None:
    """Replay a case and run it in the event loop."""
    discipline = Discipline(rng.choice(["fifo", "oldest_first"]))
    system = random_system(rng, case, discipline)
    noise = random_noise(rng) if rng.random() < 0.3 else None
    seed = int(rng.integers(0, 1_000))
    result = mp.replay(case.plan(), case.trace, system=system, noise=noise, seed=seed)
    tokens = slow_tokens(case.pipeline, len(case.trace), seed)
    settings: dict[str, Any] = {"stagger": dict(result.staggers_ns)}
    if noise is not None:
        assert noise.factors is not None
        noise_seed = seed if noise.seed is None else noise.seed
        settings["batch_time"] = slow_noise(tokens, case.service_ns(), noise.factors.tolist(), noise_seed)
    loop = SystemLoop(
        tokens,
        case.ingress_ns(),
        case.service_ns(),
        case.replicas(),
        discipline.value,
        systems=dict.fromkeys(case.pipeline.stages, system),
        seed=seed,
        **settings,
    )
    expected = loop.run()
    assert result.latency_ns.tolist() == expected.latency
    lost = set() if result.rejected is None else set(np.flatnonzero(result.rejected).tolist())
    assert lost == loop.lost
    for stage, made in result.stages.items():
        batches = expected.batches[stage]
        assert made.batch_start_ns.tolist() == [batch.start for batch in batches]
        assert made.batch_size.tolist() == [len(batch.tokens) for batch in batches]
        assert made.batch_service_ns.tolist() == [batch.service for batch in batches]
        numbers = np.arange(len(tokens[stage]))
        numbers = numbers if made.served is None else numbers[made.served]
        assert made.dispatch_ns.tolist() == [expected.dispatch[stage][token] for token in numbers.tolist()]
        # Each token that came is served once, or turned away; of a query that lost none, every one is served.
        came = set(expected.arrival[stage])
        assert came == set(numbers.tolist()) | set(loop.rejected[stage])
        assert not set(numbers.tolist()) & set(loop.rejected[stage])
        kept = {token for token, one in enumerate(tokens[stage]) if one.query not in lost}
        assert kept <= set(numbers.tolist())
        assert np.all(made.wait_ns >= 0)
        assert made.queue_length.integral_ns == made.total_wait_ns
    seen.update([f"{system.routing}, {system.collecting}"])
    seen.update({"rejected": bool(lost), "bounded": system.most_waiting is not None})


@given(case=cases(max_arrivals=25), seed=st.integers(0, 2**32 - 1), with_stagger=st.booleans())
@examples(max_examples=campaign_size(40, 5_000), deadline=None)
def test_replay_is_the_event_loop(case: Case, seed: int, with_stagger: bool) -> None:
    rng = np.random.default_rng(seed)
    compare(rng, staggered(rng, case) if with_stagger else case, Counter())


def test_campaign() -> None:
    """Every law that there is, and tokens turned away in some cases."""
    count, violations, seen = campaign_size(150, 40_000), Violations(), Counter[str]()
    for number in range(count):
        rng = np.random.default_rng([18, number])
        with violations.case(number):
            compare(rng, random_case(rng, max_arrivals=15), seen)
    laws = {f"{routing}, {one}" for routing in Routing for one in Collecting} - {"central, ahead"}
    assert laws <= set(seen)
    assert seen["rejected"] > count // 50
    write_summary("systems", {"cases": count, "seen": dict(seen), "violations": violations.found})
    assert violations.found == []


# --- where it is today's replay --------------------------------------------------------------------------------------


@given(case=cases(), fifo=st.booleans())
@examples(max_examples=campaign_size(60, 2_000), deadline=None)
def test_one_queue_without_window_or_bound_is_the_replay(case: Case, fifo: bool) -> None:
    """By the engine of events and by any other, bit for bit."""
    plan, discipline = case.plan(), "fifo" if fifo else "oldest_first"
    usual = mp.replay(plan, case.trace, discipline=discipline)
    for made in (
        mp.replay(plan, case.trace, discipline=discipline, system="central"),
        mp.replay(plan, case.trace, discipline=discipline, window_s=0.0),
        mp.replay(plan, case.trace, system="central:waiting=1000000", discipline=discipline),
    ):
        assert np.array_equal(made.latency_ns, usual.latency_ns)
        for stage, seen in usual.stages.items():
            assert np.array_equal(made.stages[stage].exit_ns, seen.exit_ns)
            assert np.array_equal(made.stages[stage].batch_size, seen.batch_size)


def test_the_engine_of_events_serves_eager_tasks_as_the_plain_one_does() -> None:
    rng = np.random.default_rng(96)
    for number in range(campaign_size(200, 5_000)):
        task = random_task(rng, features=EVENTS.features)
        (made,) = EVENTS.serve_many([task])
        assert not differences(made, plain.serve(task)), f"task {number}"


def test_the_engine_of_events_is_asked_only_where_it_is_needed() -> None:
    plan = small_plan({"a": ([10, 12], 2), "b": ([5, 6], 1)}, {("a", "b"): {}})
    trace = mp.Trace.poisson(rate_rps=50, duration_s=2, seed=1)
    assert mp.replay(plan, trace, system="triton", window_s=0).engine != "events"
    assert mp.replay(plan, trace, system="triton").engine == "events"
    at_one = mp.replay(plan, trace, window_s={"b": 0.002})
    assert dict(at_one.systems) == {"b": "central (one queue, collects for 2 ms from its first token on)"}
    # The first stage is as ever; the second collects.
    usual = mp.replay(plan, trace)
    assert np.array_equal(at_one.stages["a"].exit_ns, usual.stages["a"].exit_ns)
    assert at_one.stages["b"].mean_batch > usual.stages["b"].mean_batch


# --- what is said ----------------------------------------------------------------------------------------------------


def test_the_certificate_is_of_the_plans_law() -> None:
    plan = small_plan({"a": ([10, 12], 2)})
    trace = mp.Trace.poisson(rate_rps=50, duration_s=2, seed=1)
    assert mp.replay(plan, trace, system="central").certificate_applies
    made = mp.replay(plan, trace, system="mosec")
    assert not made.certificate_applies
    assert "replay only" in str(made)
    assert made.discipline == "fifo"
    assert mp.replay(plan, trace, system="mosec", discipline="oldest_first").discipline == "oldest_first"


def test_queries_turned_away_are_counted_as_missed_and_left_out_of_latencies() -> None:
    """One replica, 10 ms a token, one may wait: of four at once two are served, and a fifth much later."""
    plan = small_plan({"a": ([10], 1), "b": ([1], 1)}, {("a", "b"): {}}, slo_s=0.05)
    trace = mp.Trace.from_ns([0, 0, 0, 0, 50 * MS])
    made = mp.replay(plan, trace, system="central:waiting=1")
    assert made.rejected is not None
    assert made.rejected.tolist() == [False, False, True, True, False]
    assert made.queries_rejected == 2
    assert made.answered_ns.tolist() == [11 * MS, 21 * MS, 11 * MS]
    assert made.latency_ns.tolist() == [11 * MS, 21 * MS, 0, 0, 11 * MS]
    assert made.misses(0.05) == 2
    statistics = made.statistics(0.05)
    assert statistics.misses is not None
    assert statistics.misses.value == made.miss_rate(0.05) == 0.4
    assert made.mean_latency_s == pytest.approx(0.043 / 3)
    assert made.objective_ns(plan.objective) == NEVER
    assert {stage: seen.tokens for stage, seen in made.stages.items()} == {"a": 3, "b": 3}
    assert "rejected     2 queries" in str(made)
    assert made.to_pandas()["rejected"].sum() == 2
    assert made.summary(0.05)["rejected"] == 2
    assert int(made.windows(0.1).queries.sum()) == 3
    # Two tokens of each query at once, at a replica that takes one and lets none wait.
    forked = small_plan({"a": ([10], 1), "b": ([1], 1)}, {("a", "b"): {"fanout": 2}})
    none = mp.replay(forked, trace, system="central:waiting=0")
    with pytest.raises(mp.InputError, match="every query was turned away"):
        none.quantile(0.5)
    assert repr(none).startswith("<ReplayResult: 5 queries, 0.061 s, all turned away")
    assert "rejected     5 queries" in str(none)
    # The second token of the last query goes at 60 ms; the first one is served, for a millisecond more.
    assert (none.span_ns, none.paid_replica_ns["b"]) == (61 * MS, 61 * MS)


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_says_where_its_law_was_read(name: str) -> None:
    system = SYSTEMS[name]
    assert system.name == name
    assert system.source
    assert system.text.startswith(f"{name} (")
    assert f"| `{name}` |" in PAGE.read_text(encoding="utf-8")
    assert read_system(name) is not None


REFUSED = {
    "ry": ["system: there is no system 'ry'; did you mean 'ray'?"],
    "ray:windo=3ms,window=5,window=1ms": [
        "system: 'windo=3ms' is no KEY=VALUE that there is; did you mean 'window'?",
        "system.window: '5' has no unit: write 5ms or 5s",
    ],
    "ray:waiting=x": ["system.waiting: expected a whole number, found 'x'"],
    "ray:routing=near": ["system.routing: expected one of central, round_robin, pow2, found 'near'"],
    "mosec:ongoing=4": ["system.ongoing: only the router of pow2 counts tokens"],
    "central:collecting=ahead": [
        "system.collecting: closes batches before a replica: not with a central queue"
    ],
    "ray:routing=round_robin,waiting=3": [
        "system.waiting: with batches closed ahead only the router's queue has a bound",
        "system.ongoing: only the router of pow2 counts tokens",
    ],
    "ray:window=2min": ["system.window: expected at most 60 s, found 2min"],
    "ray:ongoing=0": ["system.ongoing: expected a whole number from 1 on, or None, found 0"],
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_system_is_told_with_every_fault(text: str) -> None:
    with pytest.raises(mp.InputError) as told:
        read_system(text)
    assert [str(fault) for fault in told.value.faults] == REFUSED[text]


def test_what_does_not_go_together_is_refused_with_its_place() -> None:
    plan = small_plan({"a": ([10, 12], 2)})
    trace = mp.Trace.poisson(rate_rps=50, duration_s=2, seed=1)
    schedule = {"a": mp.ReplicaSchedule([5], [1, 2])}
    with pytest.raises(mp.InputError) as told:
        mp.replay(plan, trace, system="ray", window_s={"b": 1, "a": 99}, dispatch="paced", schedule=schedule)
    assert [fault.place for fault in told.value.faults] == [
        "window_s.b",
        "window_s.a",
        "dispatch",
        "schedule",
    ]
    with pytest.raises(mp.InputError, match="slo_s: verdicts stop early"):
        mp.replay_many([plan], trace, system="ray", slo_s=0.1)  # type: ignore[call-overload]
    with pytest.raises(
        mp.InputError, match="engine: does not do all of this: a serving system's own law; say auto"
    ):
        mp.replay(plan, trace, system="ray", engine="numpy")
    with pytest.raises(
        mp.InputError, match="system: expected a name such as ray, or a ServingSystem, found 3"
    ):
        mp.replay(plan, trace, system=3)  # type: ignore[arg-type]


def test_tasks_of_the_engine_may_be_empty() -> None:
    rng = np.random.default_rng(3)
    task = replace(random_task(rng, features=(), most_tokens=0), system=SYSTEMS["ray"])
    (made,) = EVENTS.serve_many([task])
    assert made.tokens == 0
    assert made.batch_size.size == 0
