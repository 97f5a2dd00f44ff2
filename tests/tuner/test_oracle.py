"""What a trace needs in hindsight: by hand, by brute force, and a bound that no schedule on time undercuts."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from benchmarks.tuner.lower_bound import least_usd
from campaigns import campaign_size
from mipplan.profiles import Profiles
from mipplan.replayer import ReplicaSchedule, replay
from mipplan.result import Plan
from mipplan.trace import Trace
from mipplan.tuner import simulate
from mipplan.tuner.policies import Newsvendor, Oracle, Setting
from mipplan.tuner.policies.oracle import cheapest_cover, required_replicas
from random_pipelines import random_case
from tuned_plans import one_stage

NS = 1_000_000_000


def cover_cost(counts: np.ndarray, gap: int, initial: int) -> int:
    """Periods paid for, and `gap` for every replica ordered."""
    return int(counts.sum()) + gap * int(np.maximum(0, np.diff(counts, prepend=initial)).sum())


def test_the_cheapest_cover_is_the_cheapest() -> None:
    for number in range(campaign_size(quick=150, deep=1_500)):
        rng = np.random.default_rng([81, number])
        required = rng.integers(1, 4, int(rng.integers(1, 7)))
        gap = int(rng.integers(0, 4))
        initial = int(rng.integers(1, 4))
        found = cheapest_cover(required, gap, initial)
        assert np.all(found >= required)
        choices = itertools.product(*(range(count, 4) for count in required.tolist()))
        best = min(cover_cost(np.array(counts), gap, initial) for counts in choices)
        assert cover_cost(found, gap, initial) == best


def test_the_cheapest_cover_keeps_nothing_where_it_may_not() -> None:
    for number in range(campaign_size(quick=100, deep=1_000)):
        rng = np.random.default_rng([82, number])
        required = rng.integers(1, 4, int(rng.integers(1, 7)))
        gap, initial = int(rng.integers(0, 4)), int(rng.integers(1, 4))
        free = rng.random(required.size) < 0.6
        found = cheapest_cover(required, gap, initial, free)
        assert np.all(found[~free] == required[~free])
        most = [4 if may else count + 1 for count, may in zip(required.tolist(), free, strict=True)]
        choices = itertools.product(*map(range, required.tolist(), most))
        best = min(cover_cost(np.array(counts), gap, initial) for counts in choices)
        assert cover_cost(found, gap, initial) == best


def test_replicas_that_a_period_requires_by_hand() -> None:
    # A replica serves 10/s. Twenty at once may be served within 0.5 s: 19 ahead of the last by 40/s at least.
    one, four = (Setting(one_stage(n), Trace.from_seconds([0.0, 1.0]), 0, NS, 0) for n in (1, 4))
    token_ns = np.concatenate([np.full(20, NS // 2), [2 * NS + NS // 2]])
    assert required_replicas(four, "only", token_ns, NS // 2).tolist() == [4, 1, 1]
    # The one that is there serves five until the period ends. The last of fifteen finds fourteen ahead.
    assert required_replicas(one, "only", token_ns, NS // 2).tolist() == [1, 3, 1]
    # If orders take a second more, five are left for the third period, in which another comes.
    late = Setting(one_stage(1), Trace.from_seconds([0.0, 1.0]), 0, NS, NS)
    assert required_replicas(late, "only", token_ns, NS // 2).tolist() == [1, 1, 1]
    # Within 2.1 s one replica does: nineteen take 1.9 s; half a second later 15 are left for the periods to come.
    assert required_replicas(one, "only", token_ns, 21 * NS // 10).tolist() == [1, 1, 1]
    # Ten more in the next period find what is left.
    more = np.sort(np.concatenate([token_ns, np.full(10, NS + 1)]))
    assert required_replicas(one, "only", more, 21 * NS // 10).tolist() == [1, 2, 1]


def random_schedules(plan: Plan, setting: Setting, rng: np.random.Generator) -> dict[str, ReplicaSchedule]:
    schedules = {}
    for stage in plan.choices:
        changes = np.flatnonzero(rng.random(8) < 0.3) + 1
        counts = rng.integers(1, 5, changes.size + 1)
        instants = setting.start_ns + setting.period_ns * changes.astype(np.int64)
        schedules[stage] = ReplicaSchedule(instants, counts, setting.delay_ns)
    return schedules


def test_no_schedule_on_time_costs_less_than_the_bound() -> None:
    on_time = tight = 0
    # In 629 nobody reaches the last stage, and the run ends before anybody could.
    for number in (629, *range(campaign_size(quick=80, deep=2_000))):
        rng = np.random.default_rng([82, number])
        case = random_case(rng, max_stages=4, max_arrivals=40)
        start_ns, period_ns = int(case.trace.arrival_ns[0]), max(1, case.trace.span_ns // 6)
        for _ in range(3):
            slowest = 0
            plan = case.plan(seed=number)
            setting = Setting(plan, case.trace, start_ns, period_ns, int(rng.integers(0, 20)))
            result = replay(plan, case.trace, seed=number, schedule=random_schedules(plan, setting, rng))
            slowest = int(result.latency_ns.max())
            if slowest < 1:
                continue
            # With this objective everybody is just on time.
            strict = Plan.from_choices(
                case.pipeline, case.profiles, case.choices, slo_s=slowest / NS, seed=number
            )
            bound = least_usd(Setting(strict, case.trace, start_ns, period_ns, 0), case.trace, number)
            assert bound <= result.usd * (1 + 1e-9)
            on_time += 1
            tight += bound > 0.4 * result.usd
    assert on_time > 200
    assert tight > 20


def test_the_bound_counts_work_where_there_is_more_of_it_than_one_replica_does() -> None:
    plan = one_stage(1, batch=2)  # 100 ms for up to two: 50 ms each
    trace = Trace.from_seconds(np.concatenate([np.arange(0.0, 10.0, 0.01), [100.0]]))
    setting = Setting(plan, trace, 0, NS, 0)
    # A thousand tokens take at least 50 s, within the first 10.5 s; 89 s more at one replica: about 139 s at 1 $/h.
    seconds = least_usd(setting, trace, 0) * 3600.0
    assert 137.0 < seconds <= 140.0


def test_the_oracle_orders_ahead_and_starts_with_the_plan() -> None:
    plan = one_stage(1, most=None)
    times = np.concatenate(
        [np.arange(0.0, 20.0, 0.2), np.arange(20.0, 30.0, 0.02), np.arange(30.0, 50.0, 0.2)]
    )
    trace = Trace.from_seconds(np.sort(times))
    run = simulate(Setting(plan, trace.slice(end_s=20.0), 0, NS, 5 * NS), trace, Oracle())
    (schedule,) = run.schedules.values()
    assert run.clairvoyant
    assert run.misses == 0
    assert schedule.replicas[0] == 1
    assert schedule.change_ns[0] == 15 * NS
    assert schedule.replicas[-1] == 1


def test_the_oracle_knows_what_the_first_replicas_leave_behind() -> None:
    """One replica serves 10/s, and 40/s come from the beginning: what is left until its order serves is work, too."""
    trace = Trace.from_seconds(np.arange(0.0, 40.0, 0.025))
    plan = one_stage(1, most=None)
    run = simulate(Setting(plan, trace.slice(end_s=2.0), 0, NS, 2 * NS), trace, Oracle())
    assert run.misses is not None
    # Three seconds' queries are late, and those that find them.
    assert run.miss_rate < 0.12
    counts = run.schedules["only"].replicas
    assert counts.max() > counts[-1] >= 4


def test_bounds_and_limits_hold_for_the_oracle_as_for_everybody() -> None:
    trace = Trace.from_seconds(np.arange(0.0, 20.0, 0.055))  # 18/s, of which a replica serves 10/s
    sample = trace.slice(end_s=2.0)
    for plan, least, most in (
        (one_stage(1, most=2), 1, 2),
        (one_stage(1, most=None, limit=3), 1, 3),
        (one_stage(3, least=3, most=None), 3, None),
    ):
        for policy in (Oracle(), Newsvendor()):
            run = simulate(Setting(plan, sample, 0, NS, NS), trace, policy)
            counts = run.schedules["only"].replicas
            assert counts.min() >= least
            assert most is None or counts.max() <= most
            assert counts.max() > counts.min() or most is None


def test_what_is_granted_is_within_bounds_and_limits_and_takes_nothing_away() -> None:
    """Against all that could be granted: in topological order each stage gets as much of its wish as there is."""
    checked = 0
    for number in range(campaign_size(quick=200, deep=4_000)):
        rng = np.random.default_rng([83, number])
        case = random_case(rng, max_stages=4)
        limits = {name: int(rng.integers(4, 16)) for name in case.profiles.hardware if rng.random() < 0.6}
        hardware = [replace(kind, limit=limits.get(name)) for name, kind in case.profiles.hardware.items()]
        profiles = Profiles.from_parts(hardware, case.profiles.tables.values())
        plan = Plan.from_choices(case.pipeline, profiles, case.choices, slo_s=1.0)
        setting = Setting(plan, case.trace, 0, NS, 0)
        held = dict(setting.replicas)
        for _ in range(4):
            wanted = {stage: int(rng.integers(0, 9)) for stage in held if rng.random() < 0.8}
            made = setting.granted(held, wanted)
            for name, limit in limits.items():  # which a plan of given choices may exceed
                own = [stage for stage in made if plan.choices[stage].hardware == name]
                assert sum(made[s] for s in own) <= max(limit, sum(held[s] for s in own))
            for stage, count in made.items():
                least, most = setting.bounds(stage)
                wish = max(least, min(wanted.get(stage, held[stage]), most or 1 << 40))
                assert count >= min(held[stage], wish)
                assert count <= max(held[stage], wish)
                if wish <= held[stage]:
                    assert count == wish
                checked += 1
            held = made
    assert checked > 500
