"""Day schedules: against brute force, against the tuner's closed form, and replayed."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction

import networkx as nx
import numpy as np
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

import mipplan as mp
from kubernetes_definitions import check_resource
from mipplan.core import NS_PER_HOUR, InputError
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.scheduling import schedule_entries
from serving_plans import small_plan
from tuned_plans import one_stage


def sample(rate_rps: float = 20.0, duration_s: float = 60.0) -> mp.Trace:
    return mp.Trace.gamma(rate_rps=rate_rps, cv=1.5, duration_s=duration_s, seed=3)


def cost_of(counts: tuple[int, ...], start: int, rent: int, before: int) -> int:
    """Rent of every bin, and of starts, each count following the one before."""
    return sum(rent * n + start * max(0, n - b) for b, n in itertools.pairwise((before, *counts)))


def least_cost(needed: list[int], start: int, rent: int, planned: int | None) -> int:
    """By looking at every schedule; without `planned` the day repeats."""
    most = max([*needed, planned or 0])
    options = itertools.product(*(range(n, most + 1) for n in needed))
    return min(cost_of(c, start, rent, c[-1] if planned is None else planned) for c in options)


@settings(max_examples=60, deadline=None)
@given(
    rates=st.lists(st.sampled_from([0, 10, 25, 40, 60]), min_size=1, max_size=5).filter(any),
    delay_s=st.sampled_from([0.0, 5.0, 700.0, 5000.0]),
    switch_usd=st.sampled_from([0.0, 0.2, 0.9, 3.0]),
    repeats=st.booleans(),
)
def test_schedule_costs_the_least(rates: list[int], delay_s: float, switch_usd: float, repeats: bool) -> None:
    plan = one_stage(3)
    made = mp.schedule(
        plan,
        [rate * 1800.0 for rate in rates],
        bin_s=1800.0,
        sample=sample(),
        activation_delay_s=delay_s,
        switch_usd=switch_usd,
        repeats=repeats,
    )
    stage = made.stages["only"]
    assert (stage.replicas >= stage.needed).all()
    # In micro-dollars times nanoseconds, so that all is whole.
    rent = stage.microusd_per_hour * made.bin_ns
    start = stage.microusd_per_hour * (made.delay_ns + made.settle_ns) + made.switch_microusd * NS_PER_HOUR
    before = int(stage.replicas[-1]) if repeats else 3
    found = cost_of(tuple(stage.replicas.tolist()), start, rent, before)
    assert found == least_cost(stage.needed.tolist(), start, rent, None if repeats else 3)


@settings(max_examples=40, deadline=None)
@given(
    rates=st.lists(st.sampled_from([0, 20, 60]), min_size=1, max_size=3).filter(any),
    delay_s=st.sampled_from([0.0, 0.5, 2.2]),
    switch_usd=st.sampled_from([0.0, 0.0005]),
    repeats=st.booleans(),
    planned=st.integers(1, 4),
)
@example(rates=[20, 60, 20], delay_s=0.5, switch_usd=0.0, repeats=False, planned=4)
def test_no_counts_are_cheaper_where_the_objective_is_longer_than_a_bin(
    rates: list[int], delay_s: float, switch_usd: float, repeats: bool, planned: int
) -> None:
    plan = one_stage(planned, latency_ms=40.0, slo_s=1.5)
    made = mp.schedule(
        plan,
        rates,
        bin_s=1.0,
        sample=mp.ArrivalCurve.token_bucket(2, 20),
        activation_delay_s=delay_s,
        switch_usd=switch_usd,
        repeats=repeats,
    )

    def cost(counts: tuple[int, ...]) -> int:
        stages = {"only": replace(made.stages["only"], replicas=np.array(counts))}
        other = replace(made, stages=stages)
        return other.microusd + other.starts * other.switch_microusd

    needed = made.stages["only"].needed.tolist()
    most = max([*needed, planned])
    least = min(map(cost, itertools.product(*(range(n, most + 1) for n in needed))))
    assert cost(tuple(made.stages["only"].replicas.tolist())) <= least + 1  # costs are whole micro-dollars


@pytest.mark.parametrize(
    ("rates", "needs_more"), [([60, 10, 10], True), ([10, 60, 10], True), ([10, 10, 10], False)]
)
def test_starts_before_a_day_that_does_not_repeat_count_beyond_the_plan(
    rates: list[int], needs_more: bool
) -> None:
    plan = one_stage(3)
    made = mp.schedule(
        plan, [rate * 1800.0 for rate in rates], bin_s=1800.0, sample=sample(), switch_usd=0.0, repeats=False
    )
    counts = [3, *made.stages["only"].replicas.tolist()]
    rises = sum(max(0, after - before) for before, after in itertools.pairwise(counts))
    assert (made.starts, rises > 0) == (rises, needs_more)


def test_bin_has_what_the_closed_form_asks_for() -> None:
    plan, traffic = small_plan({"a": ([10, 14, 18], 2), "b": ([30], 3)}, {("a", "b"): {}}), sample(60.0)
    tuner = mp.Tuner(plan, sample=traffic, keep="objective", tokens="most")
    own_rps = traffic.rate_rps
    factors = [0.5, 1.0, 1.5]
    made = mp.schedule(
        plan, [f * own_rps * 3600 for f in factors], sample=traffic, keep="objective", tokens="most"
    )
    for place, factor in enumerate(factors):
        envelope = mp.Tuner(plan, sample=traffic.scale(factor), keep="objective", tokens="most").envelope()
        least = {stage: float(need or 0) for stage, need in tuner.needs(envelope).items()}
        for stage, entry in made.stages.items():
            # Windows are measured at other lengths in a trace that is scaled: the counts may be one apart.
            assert abs(entry.needed[place] - np.ceil(least[stage])) <= 1
        counts = {stage: int(entry.needed[place]) for stage, entry in made.stages.items()}
        assert tuner.bound_ns(counts, tuner.envelope().faster(Fraction(factor))) <= plan.slo_ns
    assert "every query" in made.keep


def test_bin_at_the_sample_rate_has_the_plans_counts_or_fewer() -> None:
    plan, traffic = small_plan({"a": ([10, 14], 2), "b": ([30], 3)}, {("a", "b"): {}}), sample(60.0)
    made = mp.schedule(plan, [traffic.rate_rps * 3600] * 2, sample=traffic)
    for stage, entry in made.stages.items():
        assert 1 <= entry.replicas[0] <= plan.choices[stage].replicas
    assert "bound on waits exceeds the plan's on its sample" in made.keep
    table = made.to_pandas()
    assert table["begin_s"].tolist() == [0.0, made.bin_s]
    assert table["b"].tolist() == made.stages["b"].replicas.tolist()


def test_bin_at_the_sample_rate_has_the_plans_counts_though_its_rate_is_rounded_up() -> None:
    bursts = mp.Trace.from_ns(np.add.outer(np.arange(5) * 2502, np.arange(20) * 40).ravel() * 10**6)
    made = mp.schedule(one_stage(1), [bursts.rate_rps * 10], bin_s=10.0, sample=bursts)
    assert made.stages["only"].needed.tolist() == [1]


def test_bin_at_the_rate_of_a_sample_with_a_busy_minute_has_what_that_asks_for() -> None:
    """It had the sample slowed down until its busiest minute came at the bin's rate."""
    quiet = mp.Trace.poisson(rate_rps=10.0, duration_s=120.0, seed=1).arrival_ns
    busy = mp.Trace.poisson(rate_rps=90.0, duration_s=60.0, seed=2).arrival_ns + 120 * 10**9
    traffic = mp.Trace.from_ns(np.concatenate([quiet, busy]))
    plan = one_stage(5, latency_ms=50.0)
    made = mp.schedule(plan, [traffic.rate_rps * 3600], sample=traffic)
    counts = {"only": mp.ReplicaSchedule([], made.stages["only"].replicas[:1])}
    assert mp.replay(plan, traffic, schedule=counts).miss_rate(plan.slo_s) <= 0.01


def fanned_out(replicas: int, limit: int | None = None) -> mp.Plan:
    """One query makes fifty tokens, of which a replica serves a hundred a second; P99 within 200 ms."""
    stages = {"a": {"model": "a"}, "b": {"model": "b", "join": "each"}}
    edges = [{"from": "a", "to": "b", "fanout": 50}]
    pipeline = mp.Pipeline.from_document({"name": "p", "slo": "200ms", "stages": stages, "edges": edges})
    tables = [LatencyTable(m, "h", np.array([1]), np.array([ms])) for m, ms in (("a", 1.0), ("b", 10.0))]
    profiles = Profiles.from_parts([Hardware("h", 1.0, limit=limit)], tables)
    return mp.Plan.from_choices(pipeline, profiles, {"a": ("h", 1, 1), "b": ("h", 1, replicas)})


def test_quiet_bin_keeps_the_replicas_that_the_tokens_of_one_query_need() -> None:
    """Its counts left the waits of the plan's, though own tokens take longer with fewer: 501 ms of 200."""
    plan, curve = fanned_out(10), mp.ArrivalCurve.token_bucket(1, 0.5)
    made = mp.schedule(plan, [1800, 36_000, 7200], sample=curve)
    tuner = mp.Tuner(plan, sample=curve)
    for place, rate_rps in enumerate(made.rate_rps):
        counts = {stage: int(entry.replicas[place]) for stage, entry in made.stages.items()}
        assert tuner.bound_ns(counts, mp.ArrivalCurve.token_bucket(1, float(rate_rps))) <= plan.slo_ns
    assert made.stages["b"].replicas[0] < made.stages["b"].replicas[1]
    lone = mp.Trace.from_seconds([0.0, 100.0, 200.0])
    assert mp.replay(plan, lone, schedule=made.schedules).latency_s.max() <= plan.slo_s


def test_bins_where_own_tokens_need_more_than_there_is_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"counts\[0, 2\]: 0.0% of the traffic can be served .* h is used up"
    ):
        mp.schedule(fanned_out(2, limit=3), [1800, 0, 1800], sample=mp.ArrivalCurve.token_bucket(1, 0.5))


def test_replay_of_a_schedule_keeps_what_the_plan_keeps_at_its_peak() -> None:
    """A day of twelve bins in two minutes: counts follow, and P99 is nowhere near the objective's end."""
    plan, traffic = one_stage(4, latency_ms=50.0), sample(60.0)
    rates = np.array([10, 10, 20, 40, 80, 100, 100, 80, 40, 20, 10, 10])
    made = mp.schedule(plan, rates * 10.0, bin_s=10.0, sample=traffic, activation_delay_s=3.0, headroom=1.2)
    parts = [
        mp.Trace.poisson(rate_rps=float(rate), duration_s=10.0, seed=place).arrival_ns + place * 10 * 10**9
        for place, rate in enumerate(rates)
    ]
    day = mp.Trace.from_ns(np.concatenate(parts))
    result = mp.replay(plan, day, schedule=made.schedules)
    assert result.miss_rate(plan.slo_s) == 0
    assert result.usd <= 0.8 * made.peak_usd
    # What is paid is what the replay pays, as every replica goes when it idles.
    assert result.usd == pytest.approx(made.usd, rel=0.1)


def day_schedule(**settings: float) -> mp.DaySchedule:
    plan = small_plan({"detect": ([20, 30], 2), "read it": ([30], 2)}, {("detect", "read it"): {}})
    rates = [10] * 7 + [60] * 3 + [90] * 6 + [60] * 5 + [10] * 3
    return mp.schedule(
        plan, np.array(rates) * 3600.0, sample=sample(40.0), activation_delay_s=90.0, **settings
    )


def count_at(entries: list[tuple[int, int]], minute: int) -> int:
    """Of (minute of the day, count): the last one told."""
    told = [count for at, count in sorted(entries) if at <= minute]
    return told[-1] if told else sorted(entries)[-1][1]


def test_crontab_tells_the_same_counts_at_every_minute() -> None:
    made = day_schedule()
    lines = schedule_entries(made, "cron", namespace="ml", time_zone="Europe/Berlin").splitlines()
    assert "CRON_TZ=Europe/Berlin" in lines
    jobs = [line.split() for line in lines if line[:1].isdigit()]
    for label, stage in (("detect", "detect"), ("read-it", "read it")):
        entries = [
            (60 * int(job[1]) + int(job[0]), int(job[-1].split("=")[1]))
            for job in jobs
            if f"/small-{label}-" in job[9]
        ]
        assert all(job[2:5] == ["*", "*", "*"] and job[5:8] == ["kubectl", "-n", "ml"] for job in jobs)
        replicas = made.stages[stage].replicas
        for hour in range(24):
            here, after = int(replicas[hour]), int(replicas[(hour + 1) % 24])
            assert count_at(entries, 60 * hour + 30) == here
            # Ordered two full minutes before it has to serve, and gone a minute after.
            assert count_at(entries, 60 * hour + 58) == max(here, after)
            assert count_at(entries, (60 * hour + 60) % 1440) == max(here, after)
            assert count_at(entries, (60 * hour + 61) % 1440) == after


def test_keda_triggers_cover_the_day() -> None:
    made = day_schedule()
    documents = list(yaml.safe_load_all(schedule_entries(made, "keda")))
    for document in documents:
        check_resource(document)
    assert [document["spec"]["scaleTargetRef"]["name"] for document in documents] == [
        "small-detect-predictor",
        "small-read-it-predictor",
    ]
    for document, stage in zip(documents, made.stages.values(), strict=True):
        least, triggers = document["spec"]["minReplicaCount"], document["spec"]["triggers"]
        assert least == stage.replicas.min()
        assert document["spec"]["maxReplicaCount"] == stage.replicas.max()
        for hour in range(24):
            minute, wanted = 60 * hour + 30, stage.replicas[hour]
            counts = [
                int(one["metadata"]["desiredReplicas"]) for one in triggers if covers(one["metadata"], minute)
            ]
            assert max([least, *counts]) == wanted
        assert all(one["type"] == "cron" for one in triggers)


def test_stages_that_need_another_count_all_day_than_the_plan_has_are_told_it() -> None:
    plan = small_plan({"detect": ([20, 30], 2), "read it": ([30], 2)}, {("detect", "read it"): {}})
    made = mp.schedule(plan, np.full(24, 200 * 3600.0), bin_s=3600.0, sample=sample(40.0))
    counts = {stage: set(one.replicas.tolist()) for stage, one in made.stages.items()}
    assert all(len(told) == 1 and min(told) > 2 for told in counts.values())
    lines = schedule_entries(made, "cron").splitlines()
    documents = list(yaml.safe_load_all(schedule_entries(made, "keda")))
    for (stage, told), label, document in zip(counts.items(), ("detect", "read-it"), documents, strict=True):
        (count,) = told
        (line,) = (line for line in lines if f"/small-{label}-" in line)
        assert line.startswith("0 0 * * * "), stage
        assert line.endswith(f"--replicas={count}")
        check_resource(document)
        assert document["spec"]["minReplicaCount"] == document["spec"]["maxReplicaCount"] == count
        assert [one["metadata"]["desiredReplicas"] for one in document["spec"]["triggers"]] == [str(count)]


def test_a_day_that_keeps_the_plan_has_entries_too() -> None:
    """It ended with an error, as if there were something wrong with the counts."""

    plan = small_plan({"detect": ([20, 30], 2), "read it": ([30], 2)}, {("detect", "read it"): {}})
    made = mp.schedule(plan, np.full(24, 40 * 3600.0), bin_s=3600.0, sample=sample(40.0))
    assert all((one.replicas == one.planned).all() for one in made.stages.values())
    documents = list(yaml.safe_load_all(schedule_entries(made, "keda")))
    assert len(documents) == len(made.stages)
    for document in documents:
        check_resource(document)
        assert [one["metadata"]["desiredReplicas"] for one in document["spec"]["triggers"]] == ["2"]
    assert "kubectl" not in schedule_entries(made, "cron")


def covers(trigger: dict[str, str], minute: int) -> bool:
    start, end = ([int(part) for part in trigger[name].split()[:2]] for name in ("start", "end"))
    low, high = 60 * start[1] + start[0], 60 * end[1] + end[0]
    return low <= minute < high if low < high else not high <= minute < low


@pytest.mark.parametrize(
    ("replicas_max", "devices", "most"),
    [(None, None, [6, 8]), (4, None, [4, 8]), (None, 9, [5, 6]), (1, 7, [3, 4])],
)
def test_load_asks_for_no_more_than_there_may_be(
    replicas_max: int | None, devices: int | None, most: list[int]
) -> None:
    """An autoscaler that asks for a device that nobody has leaves a pod pending."""
    made = day_schedule()
    assert [int(own.replicas.max()) for own in made.stages.values()] == [3, 4]
    pipeline = made.plan.pipeline
    graph = pipeline.graph.copy()
    if replicas_max is not None:
        graph.nodes["detect"]["replicas"] = {"max": replicas_max}
    hardware = [replace(kind, limit=devices) for kind in made.plan.profiles.hardware.values()]
    plan = replace(
        made.plan,
        pipeline=mp.Pipeline(graph, name=pipeline.name),
        profiles=mp.Profiles.from_parts(hardware, made.plan.profiles.tables.values()),
    )
    documents = yaml.safe_load_all(schedule_entries(replace(made, plan=plan), "hpa"))
    scalers = [one for one in documents if one["kind"] == "HorizontalPodAutoscaler"]
    assert [one["spec"]["maxReplicas"] for one in scalers] == most


def test_hpa_minima_follow_by_cron_jobs() -> None:
    made = day_schedule()
    documents = list(yaml.safe_load_all(schedule_entries(made, "hpa", time_zone="Etc/UTC")))
    for document in documents:
        assert check_resource(document)
    kinds = [document["kind"] for document in documents]
    assert kinds[:3] == ["ServiceAccount", "Role", "RoleBinding"]
    assert kinds.count("HorizontalPodAutoscaler") == 2
    jobs = [document for document in documents if document["kind"] == "CronJob"]
    names = [job["metadata"]["name"] for job in jobs]
    assert len(set(names)) == len(names)
    for stage, label in (("detect", "small-detect"), ("read it", "small-read-it")):
        patches = []
        for job in jobs:
            (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
            if container["args"][2] == label:
                minute, hour = job["spec"]["schedule"].split()[:2]
                patch = yaml.safe_load(container["args"][-1])
                patches.append((60 * int(hour) + int(minute), patch["spec"]["minReplicas"]))
        assert [count_at(patches, 60 * hour + 30) for hour in range(24)] == made.stages[
            stage
        ].replicas.tolist()


def test_a_lull_is_slept_through_only_if_a_start_costs_less() -> None:
    plan = one_stage(3)
    counts = np.array([60, 10, 60, 10, 10, 10]) * 3600.0
    cheap = mp.schedule(plan, counts, sample=sample()).stages["only"]
    dear = mp.schedule(plan, counts, sample=sample(), switch_usd=1.5).stages["only"]
    assert (cheap.replicas == cheap.needed).all()
    assert dear.replicas.tolist()[:3] == [dear.needed[0]] * 3  # one lull of one bin costs less than 1.5 $
    assert dear.replicas.tolist()[3:] == [dear.needed[3]] * 3


def test_devices_that_are_shared_are_never_more_than_there_are() -> None:
    sizes, once = np.array([1]), np.array([50.0])
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("a", model="a")
    graph.add_node("b", model="b")
    graph.add_edge("a", "b", probability=0.5)
    profiles = Profiles.from_parts(
        [Hardware("h", 1.0, limit=9)],
        [LatencyTable("a", "h", sizes, once), LatencyTable("b", "h", sizes, 2 * once)],
    )
    plan = mp.Plan.from_choices(mp.Pipeline(graph), profiles, {"a": ("h", 1, 4), "b": ("h", 1, 4)}, slo_s=1.0)
    traffic, counts = sample(20.0), np.array([20, 5, 22, 5]) * 3600.0
    roomy = mp.schedule(plan, counts, sample=traffic, switch_usd=9.0)
    total = sum(stage.replicas for stage in roomy.stages.values())
    assert (total <= 9).all()
    with pytest.raises(InputError, match="there are 9"):
        mp.schedule(plan, counts * 3, sample=traffic)


def test_limits_of_hardware_that_no_stage_runs_on_bind_nothing() -> None:
    kinds = [Hardware("h", 1.0, limit=9), Hardware("idle", 2.0, limit=1)]
    tables = [LatencyTable("m", kind.name, np.array([1]), np.array([50.0])) for kind in kinds]
    pipeline = mp.Pipeline.from_document({"name": "p", "slo": "1s", "stages": {"a": {"model": "m"}}})
    plan = mp.Plan.from_choices(pipeline, Profiles.from_parts(kinds, tables), {"a": ("h", 1, 4)})
    made = mp.schedule(plan, [72000, 18000], sample=sample(20.0))
    assert made.stages["a"].replicas[0] == made.stages["a"].needed[0]
    assert not made.notes


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"counts": []}, "counts"),
        ({"counts": [1.0, -1.0]}, r"counts\[1\]"),
        ({"counts": [0.0, 0.0]}, "counts"),
        ({"counts": "day"}, "counts"),
        ({"bin_s": 0.1}, "bin_s: expected seconds from 1 to 316,224,000, found 0.1"),
        ({"bin_s": 9.3e9}, "bin_s: expected seconds from 1 to 316,224,000, found 9300000000.0"),
        ({"headroom": 0}, "headroom"),
        ({"switch_usd": -1}, "switch_usd"),
        ({"activation_delay_s": -1}, "activation_delay_s"),
        ({"repeats": "no"}, "repeats: expected True or False, found 'no'"),
        ({"repeats": 1, "headroom": 0}, "headroom: .*\\nrepeats: expected True or False, found 1"),
    ],
)
def test_bad_input_is_named(wrong: dict[str, object], place: str) -> None:
    with pytest.raises(InputError, match=place):
        mp.schedule(one_stage(), **({"counts": [10.0], "sample": sample()} | wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("time_zone", "hours"), [("Europe/Berlin", [2]), ("America/New_York", [1, 2]), ("Asia/Tokyo", [])]
)
def test_hours_that_clocks_skip_or_have_twice_hold_the_most_that_they_ask_for(
    time_zone: str, hours: list[int]
) -> None:
    """Of all that is told, only what is due outside such hours is sure to be done."""
    for seed in range(8):
        delay_s, lead = ((400.0, 7), (0.0, 1))[seed % 2]
        counts = np.random.default_rng(seed).integers(1, 60, 96) * 900.0
        made = mp.schedule(one_stage(3), counts, bin_s=900, sample=sample(40.0), activation_delay_s=delay_s)
        jobs = [
            line.split()
            for line in schedule_entries(made, "cron", time_zone=time_zone).splitlines()
            if line[:1].isdigit()
        ]
        done = [(60 * int(job[1]) + int(job[0]), int(job[-1].split("=")[1])) for job in jobs]
        replicas = made.stages["only"].replicas
        assert all(count_at(done, 15 * place + 5) >= replicas[place] for place in range(96))
        if not hours:
            continue
        first, last = 60 * hours[0], 60 * hours[-1] + 60
        assert not any(first - lead < minute < last for minute, _ in done)
        held = count_at(done, first)
        # On the day without that hour what serves after it has been ordered in time, too.
        assert held >= max(replicas[first // 15 : int(-(-(last + delay_s / 60) // 15))])


def test_bins_in_which_nothing_is_expected_are_told() -> None:
    made = mp.schedule(one_stage(), [1e4, 1e4, 0, 1e4], sample=sample())
    assert [note.partition(":")[0] for note in made.notes if "clocks" in note] == [
        "nothing is expected in 1 bins, first in counts[2]"
    ]
    assert not any("clocks" in note for note in mp.schedule(one_stage(), [1e4] * 4, sample=sample()).notes)


def test_entries_are_of_one_day() -> None:
    made = mp.schedule(one_stage(), [1e4] * 6, sample=sample())
    with pytest.raises(InputError, match="has 23 or 25 h: take another"):
        schedule_entries(made, "cron")
    with pytest.raises(InputError, match="time_zone: expected a name such as"):
        schedule_entries(made, "cron", time_zone="Europe/Berln")
    with pytest.raises(InputError, match="namespace"):
        schedule_entries(made, "crone", namespace="A;b", time_zone="; rm")
    with pytest.raises(
        InputError, match=r"(?s)namespace: expected .* nothing.*time_zone: expected .* nothing"
    ):
        schedule_entries(made, "keda", namespace=None, time_zone=None)  # type: ignore[arg-type]
