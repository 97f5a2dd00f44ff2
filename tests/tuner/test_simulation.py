"""`mipplan.tune`: arguments, limits, figures of a run, and what is left after Ctrl-C."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
import pytest

import mipplan as mp
from mipplan.core import Int64
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.replayer import NEVER, ChunkedReplay
from mipplan.result import Objective, Plan
from mipplan.trace import Trace, split_trace
from mipplan.tuner import simulate
from mipplan.tuner.policies import Observation, Setting
from mipplan.tuner.simulation.state import ReplicaState, StageMetrics
from serving_plans import small_plan
from tuned_plans import one_stage

NS = 1_000_000_000


@dataclass(frozen=True)
class Scripted:
    """Commands counts of the only stage at given seconds, whatever it sees."""

    script: Mapping[int, int]
    name: str = "scripted"

    def start(self, setting: Setting) -> Scripted:
        return self

    def decide(self, seen: Observation) -> Mapping[str, int]:
        count = self.script.get(seen.now_ns // NS)
        return {} if count is None else {"only": count}


@dataclass(frozen=True)
class Interrupted(Scripted):
    """Ctrl-C comes while it decides."""

    name: str = "interrupted"

    def decide(self, seen: Observation) -> Mapping[str, int]:
        raise KeyboardInterrupt


def steady(seconds: float = 20.0, gap: float = 0.25) -> Trace:
    return Trace.from_seconds(np.arange(0.0, seconds, gap))


def test_figures_of_a_run_by_hand() -> None:
    # Four a second, of which a replica serves ten; and twenty at once, 12.05 s in.
    times = np.sort(np.concatenate([np.arange(0.0, 20.0, 0.25), np.full(20, 12.05)]))
    trace = Trace.from_seconds(times)
    setting = Setting(one_stage(1), trace, 0, NS, 2 * NS)
    run = simulate(setting, trace, Scripted({5: 3, 10: 1}))
    assert [(a.at_s, a.stage, a.before, a.after) for a in run.actions] == [
        (5, "only", 1, 3),
        (10, "only", 3, 1),
    ]
    # The one of 12.00 s leaves at 12.1 s; then four of the twenty by 12.5 s, just within 0.5 s of 12.05 s. Sixteen are
    # late; and so are those behind them until the queue is short enough: before the one of 12.25 + k/4 s there are
    # 20 + k, so it leaves at 14.2 + k/10 s, less than half a second after it came from k = 10 on.
    assert run.misses == 16 + 10
    assert run.worst_window.start_s == 10.0
    assert run.worst_window.queries == 40
    assert run.worst_window.miss_rate == run.misses / 40
    assert run.reaction_s == 5.0
    # Three replicas for five seconds, one for the rest, until the last exit at 19.85 s; none was busy when let go.
    assert run.usd * 3600 == pytest.approx(19.85 + 2 * 5)
    assert run.usd_per_hour == pytest.approx(run.usd * 3600 / 19.85)


def test_a_run_keeps_no_times_of_tokens_and_gives_them_when_asked() -> None:
    trace, plan = steady(), one_stage(1)
    run = simulate(Setting(plan, trace, 0, NS, 2 * NS), trace, Scripted({5: 3, 10: 1}))
    replayed = mp.replay(plan, trace, schedule=run.schedules)
    stages = run.result.stages
    assert (list(stages), len(stages), "only" in stages, "other" in stages) == (["only"], 1, True, False)
    assert not any(isinstance(held, mp.ReplayResult | np.ndarray) for held in vars(stages).values())
    np.testing.assert_array_equal(stages["only"].exit_ns, replayed.stages["only"].exit_ns)
    assert stages["only"] is stages["only"]
    assert str(run.result) == str(replayed)


def test_a_run_in_which_nobody_is_late() -> None:
    run = simulate(Setting(one_stage(1), steady(), 0, NS, 0), steady(), Scripted({}))
    assert run.misses == 0
    assert run.reaction_s == 0.0
    assert run.worst_window.miss_rate == 0.0
    assert run.worst_window.p99_s == pytest.approx(0.1)


def test_the_first_part_stands_for_the_sample_unless_that_is_given() -> None:
    plan, trace = one_stage(2), steady()
    first, rest = split_trace(trace, 0.25)
    tuning = mp.tune(plan, trace, policies=["static"], split=0.25)
    assert (tuning.sample, tuning.trace) == (first, rest)
    given = mp.tune(plan, trace, policies=[Scripted({3: 2})], sample=first)
    assert (given.sample, given.trace) == (first, trace)
    assert given.run("scripted").result.queries == len(trace)
    with pytest.raises(KeyError):
        given.run("static")


def test_the_seed_of_draws_is_the_plans_unless_given() -> None:
    plan = one_stage(2)
    assert mp.tune(plan, steady(), policies=["static"]).seed == plan.seed
    assert mp.tune(plan, steady(), policies=["static"], seed=7).seed == 7


def test_ctrl_c_leaves_what_was_complete() -> None:
    plan = one_stage(2)
    tuning = mp.tune(plan, steady(), policies=["static", Interrupted({}), "hpa"])
    assert [run.policy for run in tuning.runs] == ["static"]
    assert tuning.left_out == ("interrupted", "hpa")
    with pytest.raises(KeyboardInterrupt):
        mp.tune(plan, steady(), policies=[Interrupted({})])


def test_every_bad_argument_is_told_at_once() -> None:
    bad: dict[str, Any] = {
        "policies": ["lp", "hpaa", "lp", 3],
        "period_s": 0,
        "activation_delay_s": -1,
        "discipline": "lifo",
        "engine": "none",
        "seed": -1,
        "split": 1.5,
    }
    with pytest.raises(mp.InputError) as caught:
        mp.tune(one_stage(1), steady(), **bad)
    text = str(caught.value)
    for expected in (
        "policies: there is no 'hpaa'; did you mean 'hpa'?",
        "policies: expected a name or a policy, found 3",
        "policies: names lp twice",
        "period_s: expected a positive number of seconds, found 0",
        "activation_delay_s: expected 0 or a positive number of seconds, found -1",
        "discipline: ",
        "engine: ",
        "seed: ",
        "split: expected a share",
    ):
        assert expected in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"policies": "lp"}, "policies: expected some of"),
        ({"policies": []}, "policies: expected some of"),
        ({"sample": "trace.csv"}, "sample: expected a Trace"),
        ({"sample": Trace.from_ns(np.array([5, 5]))}, "sample: all its queries arrive at once"),
        ({"period_s": 1e-6}, "period_s: makes 15,750,000 decisions on this trace, more than 1,000,000"),
        ({"activation_delay_s": "5s"}, "activation_delay_s: expected 0 or a positive number"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(mp.InputError, match=message.replace("(", r"\(")):
        mp.tune(one_stage(1), steady(), **arguments)


def test_what_is_no_plan_or_trace_is_told() -> None:
    with pytest.raises(mp.InputError, match=r"plan: expected a Plan[\s\S]*trace: expected a Trace"):
        mp.tune("plan.json", "trace.csv")  # type: ignore[arg-type]
    with pytest.raises(mp.NoPlanError):
        mp.tune(Plan(one_stage(1).pipeline, one_stage(1).profiles, Objective(NS)), steady())


class Answering:
    """A policy with one answer to everything."""

    name = "mine"

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def start(self, setting: Setting) -> Answering:
        return self

    def decide(self, seen: Observation) -> Any:
        return self.answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "policy mine: expected a mapping of stages to replicas, found nothing"),
        ({"onyl": 3}, "policy mine: there is no stage 'onyl'; did you mean 'only'?"),
        ({"only": 2.7}, "policy mine: expected a whole number of replicas for only, found 2.7"),
        ({"only": float("nan")}, "found nan"),
        ({"only": True}, "found True"),
        ({"only": 10**30}, "expected a whole number of replicas"),
    ],
)
def test_wrong_answers_of_a_policy_are_told(answer: object, message: str) -> None:
    with pytest.raises(mp.InputError, match=re.escape(message)):
        mp.tune(one_stage(1), steady(), policies=[Answering(answer)])


def test_answers_may_be_numpy_and_out_of_bounds() -> None:
    (run,) = mp.tune(one_stage(3), steady(), policies=[Answering({"only": np.int64(-4)})]).runs
    assert [(action.before, action.after) for action in run.actions] == [(3, 1)]


# --- what may be commanded -------------------------------------------------------------------------------------------


def two_stages(limit: int | None) -> Setting:
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("a", model="m", replicas={"min": 2, "max": 5})
    graph.add_node("b", model="m")
    graph.add_edge("a", "b")
    table = LatencyTable("m", "h", np.array([1]), np.array([10.0]))
    profiles = Profiles.from_parts([Hardware("h", 1.0, limit=limit)], [table])
    plan = Plan.from_choices(mp.Pipeline(graph), profiles, {"a": ("h", 1, 3), "b": ("h", 1, 2)}, slo_s=0.5)
    return Setting(plan, steady(), 0, NS, NS)


def test_counts_stay_within_the_bounds_of_the_stage() -> None:
    state = ReplicaState(two_stages(None))
    state.command(NS, {"a": 9, "b": 0})
    assert state.replicas == {"a": 5, "b": 1}
    state.command(2 * NS, {"a": 1, "b": 7})
    assert state.replicas == {"a": 2, "b": 7}


def test_hardware_is_granted_as_far_as_there_is_some() -> None:
    state = ReplicaState(two_stages(limit=6))
    state.command(NS, {"a": 5, "b": 5})
    assert state.replicas == {"a": 4, "b": 2}
    state.command(2 * NS, {"a": 2, "b": 9})
    assert state.replicas == {"a": 2, "b": 4}
    state.command(3 * NS, {"a": 5})
    assert state.replicas == {"a": 2, "b": 4}


def test_schedules_hold_every_command_and_capacities_those_that_still_count() -> None:
    state = ReplicaState(two_stages(None))
    for second, count in ((1, 4), (2, 4), (3, 2), (5, 3)):
        state.command(second * NS, {"b": count})
    schedule = state.schedules()["b"]
    assert (schedule.change_ns // NS).tolist() == [1, 3, 5]
    assert schedule.replicas.tolist() == [2, 4, 2, 3]
    whole = schedule.capacity
    for since in range(1, 9):
        part = state.capacities(since * NS)["b"]
        for at in range(since * NS, 10 * NS, NS // 2):
            assert _at(part, at) == _at(whole, at)


def _at(capacity: Any, instant: int) -> int:
    return int(capacity.replicas[np.searchsorted(capacity.from_ns, instant, side="right") - 1])


def test_ctrl_c_leaves_the_run_under_way_as_far_as_it_came() -> None:
    """It is what a run on the trace up to there would be; told in percent that do not fall."""
    told: list[str] = []

    def interrupt(line: str) -> None:
        told.append(line)
        if line.startswith("scripted: 4"):
            raise KeyboardInterrupt

    plan, trace = one_stage(2), steady(200.0)
    script = Scripted({5: 3, 60: 1, 150: 4})
    tuning = mp.tune(plan, trace, policies=["static", script, "hpa"], sample=steady(), progress=interrupt)
    assert [run.policy for run in tuning.runs] == ["static", "scripted"]
    assert tuning.left_out == ("hpa",)
    assert tuning.is_partial
    assert tuning.run("static").until_s is None
    run = tuning.run("scripted")
    assert 80 <= (run.until_s or 0) < 150
    part = trace.arrival_ns[: run.result.queries]
    assert run.until_s == int(part[-1]) / NS
    assert [(action.at_s, action.after) for action in run.actions] == [(5, 3), (60, 1)]
    expected = mp.replay(plan, Trace(part), schedule=run.schedules)
    assert run.result.latency_ns.tolist() == expected.latency_ns.tolist()
    assert "Ctrl-C" in str(run)
    assert "Ctrl-C" not in str(tuning.run("static"))
    percents = [int(re.findall(r"(\d+)% of 800 queries", line)[0]) for line in told]
    assert percents[0] == 0
    assert 100 in percents
    assert percents[: percents.index(100) + 1] == sorted(percents[: percents.index(100) + 1])


@pytest.mark.parametrize("when", range(2, 7))
def test_ctrl_c_between_two_stretches_leaves_the_run_as_far_as_it_came(
    when: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Latencies of a stretch were at hand, but not yet that it was over: its batches hold queries from later on."""
    calls, close = itertools.count(1), StageMetrics.close

    def interrupted(metrics: StageMetrics, now_ns: int) -> None:
        if next(calls) == when:
            raise KeyboardInterrupt
        close(metrics, now_ns)

    monkeypatch.setattr(StageMetrics, "close", interrupted)
    plan = small_plan({"only": ([900, 1000, 1250, 1500], 2)}, {})
    trace = mp.Trace.poisson(rate_rps=7, duration_s=60, seed=1)
    tuning = mp.tune(plan, trace, policies=["static"], sample=trace)
    part = Trace(trace.arrival_ns[: tuning.runs[0].result.queries])
    assert tuning.runs[0].result.latency_ns.tolist() == mp.replay(plan, part).latency_ns.tolist()
    assert tuning.is_partial


def test_the_schedule_lists_every_count_ordered() -> None:
    plan, trace = one_stage(2), steady()
    tuning = mp.tune(plan, trace, policies=["static", Scripted({5: 3, 10: 1})], sample=trace)
    table = tuning.schedule
    assert table.columns.tolist() == ["time_s", "stage", "replicas", "policy"]
    assert table.to_numpy().tolist() == [
        [0.0, "only", 2, "static"],
        [0.0, "only", 2, "scripted"],
        [5.0, "only", 3, "scripted"],
        [10.0, "only", 1, "scripted"],
    ]


def test_a_long_run_is_served_in_few_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations are counted: pieces double while nothing is commanded, and the trace is served about twice at most."""
    served: list[int] = []
    advance = ChunkedReplay.advance

    def counting(self: ChunkedReplay, ingress_ns: Int64, until_ns: int = NEVER) -> None:
        served.append(ingress_ns.size)
        advance(self, ingress_ns, until_ns)

    monkeypatch.setattr(ChunkedReplay, "advance", counting)
    trace = steady(2_000.0)
    simulate(Setting(one_stage(2), trace, 0, NS, 5 * NS), trace, Scripted({}))
    assert len(served) < 20
    assert sum(served) == len(trace)
    served.clear()
    simulate(
        Setting(one_stage(2), trace, 0, NS, 5 * NS),
        trace,
        Scripted({k: 1 + k % 2 for k in range(0, 2_000, 50)}),
    )
    assert len(served) < 500
    assert sum(served) < 2.5 * len(trace)
