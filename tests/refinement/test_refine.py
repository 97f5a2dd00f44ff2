"""`mipplan.refine` as people call it, against replays of every plan."""

from __future__ import annotations

import pickle
import re
from collections import Counter
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mipplan as mp
from campaigns import campaign_size, write_summary
from mipplan.core import Deadline
from mipplan.profiles import Hardware, LatencyTable
from mipplan.refinement.evaluation import ScreenParams
from mipplan.refinement.refining import RefinementParams
from mipplan.refinement.result import record_refinement
from mipplan.replayer import StageReplays, StageRun
from mipplan.result import Choice, Limit, Refinement
from mipplan.tokens import Sample, realise
from oracle_refinement import Choices, replay_everything
from refinement_instances import refinement_instance


def test_refined_plan_is_the_cheapest_that_replays_within_the_objective() -> None:
    seen: Counter[str] = Counter()
    cases = campaign_size(30, 4_000)
    for number in range(cases):
        instance = refinement_instance(number)
        best = instance.refine(number, time_limit_s=None)
        seen[best.status.value] += 1
        assert best.microusd_per_hour == instance.optimum, number
        assert best.refinement is not None
        if instance.optimum is None:
            assert (best.status, best.choices) == (mp.PlanStatus.INFEASIBLE, {})
            assert best.reason
            continue
        assert (best.status, best.refinement.proof) == (mp.PlanStatus.OPTIMAL, "optimal")
        assert best.lower_bound_microusd_per_hour == best.microusd_per_hour
        replayed = mp.replay(best, instance.trace, discipline=instance.discipline)
        assert best.refinement.quantile_ns == replayed.quantile_ns(best.quantile) <= instance.slo_ns
    assert min(seen["optimal"], seen["infeasible"]) > cases // 10
    write_summary("refinement", {"cases": cases, **seen})


def test_where_there_is_no_plan_the_reason_names_an_objective_that_will_do() -> None:
    """By a certificate, which says nothing of fifo queues."""
    named: Counter[str] = Counter()
    for number in range(campaign_size(20, 1_000)):
        instance = refinement_instance(number)
        best = instance.refine(number, time_limit_s=None)
        if best.status is not mp.PlanStatus.INFEASIBLE:
            continue
        found = re.search(r"Sure to do, though less may: .*Ask for at least (\d+)ms", best.reason or "")
        named[instance.discipline] += found is not None
        if found is not None:
            wider = mp.refine(best, instance.trace, slo_s=int(found[1]) / 1e3, time_limit_s=None)
            assert wider.choices, number
    assert named["oldest_first"] > 0 == named["fifo"]


def test_paced_refinement_is_the_cheapest_that_replays_by_rule_p() -> None:
    """More replicas spread otherwise, so no number of them is left out because no token waits."""
    other = 0
    for number in range(campaign_size(12, 2_000)):
        instance = refinement_instance(number)
        plans = replay_everything(
            instance.pipeline,
            instance.profiles,
            instance.trace,
            quantile=instance.quantile,
            discipline=instance.discipline,
            seed=instance.seed,
            dispatch="paced",
        )
        optimum = min((plan.cost for plan in plans if plan.quantile_ns <= instance.slo_ns), default=None)
        best = instance.refine(number, dispatch="paced", time_limit_s=None)
        assert best.microusd_per_hour == optimum, number
        assert (best.dispatch, best.discipline) == ("paced", "oldest_first")
        assert best.refinement is not None
        assert best.refinement.discipline == instance.discipline
        eager = {tuple(plan.choices.items()): plan.quantile_ns for plan in instance.plans}
        other += any(eager[tuple(plan.choices.items())] != plan.quantile_ns for plan in plans)
    assert other > 5


def test_timed_refinement_is_the_cheapest_certified_plan(tmp_path: Path) -> None:
    """Stable, and the replay keeps the objective: certified, since every run is the replay."""
    made = 0
    for number in range(campaign_size(12, 2_000)):
        instance = refinement_instance(number)
        if instance.trace.span_ns == 0:
            continue
        workload = realise(instance.pipeline, instance.trace, instance.seed)

        def is_stable(choices: Choices, instance: Any = instance, workload: Any = workload) -> bool:
            plan = mp.Plan.from_choices(instance.pipeline, instance.profiles, choices, slo_s=1.0)
            return all(
                n * b * instance.trace.span_ns
                > workload.stages[stage].count * int(plan.service_ns(stage)[-1])
                for stage, (_, b, n) in choices.items()
            )

        optimum = min((plan.cost for plan in instance.good if is_stable(plan.choices)), default=None)
        best = instance.refine(number, dispatch="timed", time_limit_s=None)
        assert best.microusd_per_hour == optimum, number
        if optimum is None:
            continue
        made += 1
        best.save(tmp_path / "plan.json")
        verification = mp.verify(tmp_path / "plan.json", instance.trace)
        assert verification.verified, verification.problems
        assert best.refinement is not None
        assert best.discipline == best.refinement.discipline == instance.discipline
        certified = mp.certify(best, instance.trace)
        assert best.certificate_ns == best.refinement.quantile_ns == certified.bound_ns <= instance.slo_ns
        assert certified.latency_ns.tolist() == mp.replay(best, instance.trace).latency_ns.tolist()
    assert made > 5


def test_a_limit_leaves_the_best_plan_so_far_and_a_true_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time runs out after a number of looks at the clock, wherever that is."""
    seen: Counter[str] = Counter()
    for number in range(campaign_size(30, 1_500)):
        instance = refinement_instance(number)
        ticks = count()
        with monkeypatch.context() as patch:
            patch.setattr("time.monotonic", lambda ticks=ticks: float(next(ticks)))
            best = instance.refine(number, time_limit_s=float(3 + number % 40))
        seen[best.status.value] += 1
        assert best.refinement is not None
        if best.choices:
            replayed = mp.replay(best, instance.trace, discipline=instance.discipline)
            assert replayed.quantile_ns(best.quantile) <= instance.slo_ns
            assert best.lower_bound_microusd_per_hour is not None
            assert instance.optimum is not None
            assert best.lower_bound_microusd_per_hour <= instance.optimum
        if best.status is mp.PlanStatus.FEASIBLE:
            assert best.reason
            assert best.limit is Limit.TIME
            assert best.refinement.proof is None or best.refinement.proof.startswith("optimal assuming")
        if best.status is mp.PlanStatus.OPTIMAL:
            assert best.microusd_per_hour == instance.optimum
        if best.status is mp.PlanStatus.INFEASIBLE:
            assert instance.optimum is None
    assert seen["feasible"] > 3


@pytest.mark.parametrize("after", [0, 1, 2])
def test_ctrl_c_returns_the_best_so_far(after: int) -> None:
    instance = refinement_instance(_with_a_good_start())
    number = next(k for k, plan in enumerate(instance.plans) if plan.quantile_ns <= instance.slo_ns)
    said: list[str] = []

    def interrupt(line: str) -> None:
        said.append(line)
        if len(said) > 1 + after:
            raise KeyboardInterrupt

    best = instance.refine(number, progress=interrupt)
    assert best.status in (mp.PlanStatus.FEASIBLE, mp.PlanStatus.UNKNOWN, mp.PlanStatus.OPTIMAL)
    if best.status is not mp.PlanStatus.OPTIMAL:
        assert "interrupted" in str(best.reason)
        assert best.limit is Limit.INTERRUPT
    if best.choices:
        replayed = mp.replay(best, instance.trace, discipline=instance.discipline)
        assert replayed.quantile_ns(best.quantile) <= instance.slo_ns


def _with_a_good_start() -> int:
    return next(n for n in range(200) if len({p.cost for p in refinement_instance(n).good}) > 3)


def test_without_trust_nothing_is_claimed_on_it() -> None:
    """When the proof has no time, and conditions alone do not prove it, the plan says what it rests on."""
    params = RefinementParams(proven_by=0.0)
    plans = [
        (made, made.refine_by(params, time_limit_s=60.0)) for made in map(refinement_instance, range(30))
    ]
    unproven = [(made, best) for made, best in plans if best.status is mp.PlanStatus.FEASIBLE]
    assert unproven
    for instance, best in unproven:
        assert best.refinement is not None
        assert str(best.refinement.proof).startswith("optimal assuming")
        assert best.lower_bound_microusd_per_hour is not None
        assert instance.optimum is not None
        assert best.lower_bound_microusd_per_hour <= instance.optimum


def test_a_screened_trace_gives_the_same_plan() -> None:
    params = RefinementParams(screen=ScreenParams(longest_unscreened=10, queries=8, block=4))
    for number in range(campaign_size(15, 500)):
        instance = refinement_instance(number)
        assert instance.refine_by(params, number).microusd_per_hour == instance.optimum


@pytest.mark.parametrize("engine", ["numba", "numpy", "python"])
def test_engines_agree(engine: str) -> None:
    if engine == "numba":
        pytest.importorskip("numba")
    for number in range(8):
        instance = refinement_instance(number)
        assert instance.refine(1, engine=engine, time_limit_s=None).microusd_per_hour == instance.optimum


def test_margin_is_kept_back() -> None:
    for number in range(10):
        instance = refinement_instance(number)
        margin_ns = instance.slo_ns // 4
        best = instance.refine(0, margin_s=margin_ns / 1e9, time_limit_s=None)
        within = [p.cost for p in instance.plans if p.quantile_ns <= instance.slo_ns - margin_ns]
        assert best.microusd_per_hour == min(within, default=None)
        assert best.margin_ns == margin_ns


def hand_made(**more: Any) -> tuple[mp.Plan, mp.Trace]:
    """One stage; four queries at a time, every 100 ms; small: 1 $/h, 30 ms each; large: 5 $/h, 10 ms for up to 4."""
    pipeline = mp.Pipeline.from_document(
        {"name": "one", "slo": "60ms", "stages": {"s": {"model": "m"}}, "edges": []}
    )
    profiles = mp.Profiles.from_parts(
        [Hardware("small", 1.0), Hardware("large", 5.0)],
        [
            LatencyTable("m", "small", np.array([1]), np.array([30.0])),
            LatencyTable("m", "large", np.array([4]), np.array([10.0])),
        ],
    )
    trace = mp.Trace.from_ns(np.repeat(np.arange(10), 4) * 100_000_000, name="fours")
    choices = {"s": ("large", 4, 1)}
    return mp.Plan.from_choices(pipeline, profiles, choices, quantile=1.0, **more), trace


def test_by_hand() -> None:
    """Two small replicas serve four in 60 ms. One would take 120 ms, and nothing else is below 2 $/h."""
    plan, trace = hand_made()
    best = mp.refine(plan, trace)
    assert (best.status, best.usd_per_hour) == (mp.PlanStatus.OPTIMAL, 2.0)
    assert best.choices["s"] == mp.Choice("small", 1, 2)
    assert best.refinement is not None
    assert best.refinement.quantile_s == pytest.approx(0.06)
    assert set(best.refinement.noisy_ns) == {"lognormal, CV 0.1", "lognormal, CV 0.3"}
    assert best.refinement.worst_s is not None
    assert best.refinement.worst_s > 0.06
    assert best.refinement.other_seeds_ns == {}
    tight = mp.refine(plan, trace, margin_s=1e-9)
    assert tight.choices["s"] == mp.Choice("small", 1, 4)
    impossible = mp.refine(plan, trace, slo_s=0.009)
    assert impossible.status is mp.PlanStatus.INFEASIBLE
    assert "stage 's'" in str(impossible.reason)


def test_the_given_plan_is_judged_only_until_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stage by stage, and of what it is made of options on offer; only another plan takes a whole replay."""
    document: dict[str, Any] = {
        "name": "two",
        "slo": "60ms",
        "stages": {"s": {"model": "m"}, "t": {"model": "m"}},
        "edges": [{"from": "s", "to": "t"}],
    }
    pipeline, profiles, trace = mp.Pipeline.from_document(document), hand_made()[0].profiles, hand_made()[1]
    spent: Counter[str] = Counter()
    serve = StageReplays.serve

    def counted(self: StageReplays, stage: str, *given: Any) -> list[StageRun]:
        spent[stage] += 1
        return serve(self, stage, *given)

    def interrupt(line: str) -> None:
        if line.startswith("the given plan"):
            raise KeyboardInterrupt

    monkeypatch.setattr(StageReplays, "serve", counted)
    monkeypatch.setattr("mipplan.refinement.refining.replay", None)
    bad = mp.Plan.from_choices(pipeline, profiles, {"s": ("small", 1, 1), "t": ("large", 4, 1)}, quantile=1.0)
    assert mp.refine(bad, trace, progress=interrupt).status is mp.PlanStatus.UNKNOWN
    assert spent == {"s": 1}


@pytest.mark.parametrize("dispatch", ["eager", "timed"])
def test_ctrl_c_while_the_record_is_made_leaves_what_was_found(
    dispatch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cost the plan, and all the time that the search for it took; a timed plan is certified by its replay."""
    plan, trace = hand_made()
    whole = mp.refine(plan, trace, dispatch=dispatch)

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("mipplan.refinement.result.replay", interrupted)
    if dispatch == "timed":
        with pytest.raises(KeyboardInterrupt):
            mp.refine(plan, trace, dispatch=dispatch)
        return
    found = mp.refine(plan, trace)
    assert (found.status, found.choices, found.limit) == (whole.status, whole.choices, Limit.INTERRUPT)
    assert found.refinement is not None
    assert whole.refinement is not None
    assert (found.refinement.proof, found.refinement.quantile_ns) == (whole.refinement.proof, None)


def test_refining_for_fifo_queues_begins_with_a_plan_for_the_oldest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is found sooner; what it replays at under `fifo` is what counts."""
    plan, trace = hand_made()
    monkeypatch.setattr("mipplan.planner.instance.FifoOracle", None)
    said: list[str] = []
    best = mp.plan(
        plan.pipeline,
        plan.profiles,
        trace,
        slo_s=0.06,
        quantile=1.0,
        guarantee="replay",
        discipline="fifo",
        progress=said.append,
    )
    assert (best.usd_per_hour, best.discipline, best.status) == (2.0, "fifo", mp.PlanStatus.OPTIMAL)
    assert "the given plan keeps the objective" in said


def test_a_plan_outside_the_option_set_may_be_the_start() -> None:
    """A batch cap that was not measured is not on offer, but what runs today may have it."""
    plan, trace = hand_made()
    odd = mp.Plan.from_choices(plan.pipeline, plan.profiles, {"s": ("large", 3, 3)}, quantile=1.0, slo_s=0.06)
    assert mp.refine(odd, trace).usd_per_hour == 2.0


def test_a_given_plan_of_too_little_accuracy_is_no_start() -> None:
    """With a batch cap that nobody measured it was returned, for an accuracy that it does not have."""
    stage = {"variants": {"rough": 0.5, "fine": 0.9}}
    pipeline = mp.Pipeline.from_document({"name": "one", "slo": "60ms", "stages": {"s": stage}, "edges": []})
    tables = [
        LatencyTable(model, "large", np.array([1, 4]), np.array(latency_ms))
        for model, latency_ms in {"rough": [5.0, 10.0], "fine": [25.0, 70.0]}.items()
    ]
    profiles = mp.Profiles.from_parts([Hardware("large", 5.0, limit=4)], tables)
    fours = hand_made()[1]
    given = mp.Plan.from_choices(
        pipeline, profiles, {"s": mp.Choice("large", 3, 4, "rough")}, quantile=1.0, slo_s=0.02
    )
    assert mp.replay(given, fours).quantile(1.0) <= 0.02
    asked = replace(given, objective=replace(given.objective, min_accuracy=0.8))
    assert mp.refine(asked, fours).choices == {}
    assert mp.refine(asked, fours, slo_s=0.06).accuracy == 0.9


@pytest.mark.parametrize("bound", ["devices", "replicas"])
def test_a_given_plan_with_more_replicas_than_are_allowed_is_no_start(bound: str) -> None:
    """Six that keep the objective were kept where nothing else did, although only four can be had."""
    _, trace = hand_made()
    stage = {"model": "m", "hardware": ["large"]} | ({"replicas": {"max": 4}} if bound == "replicas" else {})
    pipeline = mp.Pipeline.from_document({"name": "one", "slo": "60ms", "stages": {"s": stage}, "edges": []})
    profiles = mp.Profiles.from_parts(
        [Hardware("large", 5.0, limit=4 if bound == "devices" else None)],
        [LatencyTable("m", "large", np.array([1, 2]), np.array([12.0, 35.0]))],
    )
    arrivals = mp.Trace.from_ns(np.repeat(np.arange(len(trace) // 4), 36) * 100_000_000, name="thirty-sixes")
    given = mp.Plan.from_choices(pipeline, profiles, {"s": ("large", 1, 8)}, quantile=1.0, slo_s=0.06)
    assert mp.replay(given, arrivals).quantile(1.0) <= 0.06
    best = mp.refine(given, arrivals)
    assert (best.status, best.choices) == (mp.PlanStatus.INFEASIBLE, {})


def test_what_belonged_to_the_given_plan_is_gone() -> None:
    plan, trace = hand_made()
    certified = mp.plan(plan.pipeline, plan.profiles, trace, slo_s=0.1, quantile=1.0, headroom=1.5)
    best = mp.refine(certified, trace, slo_s=0.06)
    assert (best.slo_s, best.headroom, best.solver, best.formulation) == (0.06, 1.0, None, None)
    assert best.certificate_ns == mp.certify(best, trace).bound_ns
    assert best.trace is not None
    assert best.trace.sha256 == trace.sha256


def test_record_survives_pickling_and_stays_out_of_the_file() -> None:
    plan, trace = hand_made()
    best = mp.refine(plan, trace)
    copied = pickle.loads(pickle.dumps(best))
    assert copied.refinement == best.refinement
    assert "refinement" not in best.to_document()
    with pytest.raises(TypeError):
        best.refinement.refuted["replay"] = 0  # type: ignore[index, union-attr]


def test_a_refined_file_says_that_it_rests_on_replay(tmp_path: Path) -> None:
    plan, trace = hand_made()
    best = mp.refine(plan, trace)
    assert best.certificate_ns is not None
    assert best.certificate_ns > best.slo_ns
    best.save(tmp_path / "plan.json")
    loaded = mp.Plan.load(tmp_path / "plan.json")
    assert loaded.guarantee == "replay"
    verification = mp.verify(tmp_path / "plan.json", trace)
    assert not verification.verified
    (problem,) = verification.problems
    assert problem.endswith(
        "the plan was refined by replay, which no theorem covers: judge it with mipplan replay"
    )
    with pytest.raises(
        mp.InputError, match="guarantee: expected one of trace, envelope, replay, reliable, found 'refined'"
    ):
        mp.plan(plan.pipeline, plan.profiles, trace, guarantee="refined")


@pytest.mark.parametrize(("find", "devices"), [(mp.refine, 1), (mp.sharpen, 2)])
def test_what_is_stopped_at_once_is_bounded_by_the_cheapest_devices(find: Any, devices: int) -> None:
    """What only has to replay may be overloaded by 44 queries/s of 30 ms; a certified plan keeps up with them."""
    plan, trace = hand_made()
    assert find(plan, trace, time_limit_s=1e-9).lower_bound_usd_per_hour == devices


def test_a_given_plan_that_costs_less_than_all_on_offer_is_bounded_by_its_own_cost() -> None:
    plan, trace = hand_made()
    stages = {"s": {"model": "m", "hardware": ["large"]}}
    pipeline = mp.Pipeline.from_document({"name": "one", "slo": "1s", "stages": stages, "edges": []})
    given = mp.Plan.from_choices(pipeline, plan.profiles, {"s": ("small", 1, 4)}, quantile=1.0)
    best = mp.refine(given, trace, time_limit_s=1e-9)
    assert (best.usd_per_hour, best.lower_bound_usd_per_hour) == (4.0, 4.0)


def test_other_seeds_are_tried_where_something_is_drawn() -> None:
    instance = next(
        i
        for i in map(refinement_instance, range(200))
        if i.optimum is not None and any(edge.probability < 1 for edge in i.pipeline.edges)
    )
    best = instance.refine(0, time_limit_s=None)
    assert best.refinement is not None
    assert list(best.refinement.other_seeds_ns) == [instance.seed + 1, instance.seed + 2, instance.seed + 3]
    last = mp.refine(best, instance.trace, slo_s=10.0, seed=2**128 - 2)
    assert last.refinement is not None
    assert list(last.refinement.other_seeds_ns) == [2**128 - 1, 0, 1]


def test_every_bad_argument_is_reported_at_once() -> None:
    plan, trace = hand_made()
    with pytest.raises(mp.InputError) as caught:
        mp.refine(
            plan,
            trace,
            slo_s=-1.0,
            quantile=99,
            discipline="lifo",
            time_limit_s=0,
            margin_s=5.0,
            seed=-1,
            engine="abacus",
        )
    places = [fault.place for fault in caught.value.faults]
    assert places == ["slo_s", "margin_s", "quantile", "seed", "discipline", "engine", "time_limit_s"]


@pytest.mark.parametrize(
    ("setup_s", "dispatch", "is_replayed"),
    [(1.0, "eager", False), (0.01, "eager", True), (1.0, "timed", True)],
)
def test_no_replay_is_begun_after_the_time_unless_it_is_short_or_the_certificate(
    setup_s: float, dispatch: str, is_replayed: bool
) -> None:
    plan, trace = hand_made(dispatch=dispatch)
    samples, workloads = [Sample(trace, 0)], [realise(plan.pipeline, trace)]
    over = Deadline(0.0)
    made = record_refinement(plan, samples, workloads, Refinement("fifo"), "auto", over, setup_s)
    assert made.choices == plan.choices
    assert made.refinement is not None
    assert (made.refinement.quantile_ns is not None) == is_replayed


@pytest.mark.parametrize("given", [True, False])
def test_batches_are_collected_though_those_of_the_given_plan_are_not(given: bool) -> None:
    """A batch of one waits for no other, so it did not tell that larger ones do."""
    document = {"name": "p", "stages": {"s": {"model": "m", "window": "100ms", "replicas": {"max": 3}}}}
    pipeline = mp.Pipeline.from_document({**document, "edges": []})
    tables = [
        LatencyTable("m", name, np.array([size]), np.array([latency_ms]))
        for name, size, latency_ms in (("small", 4, 9.0), ("large", 1, 20.0))
    ]
    profiles = mp.Profiles.from_parts([Hardware("small", 1.0), Hardware("large", 2.0)], tables)
    trace = mp.Trace.from_seconds([0, 0.1, 0.2, 0.3, 0.7, 0.9, 1.2])
    if given:
        start = mp.Plan.from_choices(pipeline, profiles, {"s": ("large", 1, 1)}, slo_s=0.06)
        best = mp.refine(start, trace)
    else:
        best = mp.plan(pipeline, profiles, trace, slo_s=0.06, guarantee="replay")
    assert best.status is mp.PlanStatus.OPTIMAL
    assert dict(best.choices) == {"s": Choice("large", 1, 1)}
    assert mp.replay(best, trace).quantile_ns(best.quantile) <= best.slo_ns


@pytest.mark.parametrize("dispatch", ["eager", "timed"])
def test_what_costs_the_least_there_can_be_is_optimal_whatever_the_time(dispatch: str) -> None:
    # there was no time to look, and it was told that plans from 2 $/h up to its 2 $/h were not refuted
    document = {"name": "p", "stages": {"a": {"model": "m"}, "b": {"model": "m"}}}
    pipeline = mp.Pipeline.from_document({**document, "edges": [{"from": "a", "to": "b"}]})
    table = LatencyTable("m", "h", np.array([1, 4]), np.array([5.0, 8.0]))
    profiles = mp.Profiles.from_parts([Hardware("h", 1.0)], [table])
    trace = mp.Trace.from_seconds(np.arange(50) * 0.05)
    choices = dict.fromkeys("ab", ("h", 4, 1))
    given = mp.Plan.from_choices(pipeline, profiles, choices, slo_s=0.5, dispatch=dispatch)
    best = mp.refine(given, trace, time_limit_s=1e-9)
    assert (best.status, best.limit, best.reason) == (mp.PlanStatus.OPTIMAL, None, None)
    assert best.usd_per_hour == best.lower_bound_usd_per_hour == 2.0
