"""Questions about variants, one by one: what they refuse, what they promise, and what they leave as it was."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mipplan as mp
from mipplan.core import Deadline, InputError, SearchLimits
from mipplan.options import Configuration, Option, find_families, require_accuracy
from mipplan.pipeline import choosing, combinations, pinned
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.result import Figures, Limit
from mipplan.variants import best_combination
from oracle_variants import accuracy, every_choice, single
from variant_instances import variant_instance

ACCURACIES = {"n": 0.45, "s": 0.56, "m": 0.64, "r18": 0.69, "r50": 0.76}
TRACE = mp.Trace.gamma(rate_rps=60, cv=2, duration_s=20, seed=1)


def profiles(accuracies: dict[str, float] | None = None, **odd: float | None) -> Profiles:
    """Two hardware types, five models; with accuracies other than usual where given."""
    known = dict(ACCURACIES if accuracies is None else accuracies) | odd
    tables = [
        LatencyTable(
            model,
            hardware,
            np.array([1, 2, 4, 8]),
            base * factor * np.array([1.0, 1.5, 2.4, 4.2]),
            accuracy=None if known.get(model) is None else np.full(4, known[model]),
        )
        for model, base in (("n", 5.0), ("s", 9.0), ("m", 20.0), ("r18", 4.0), ("r50", 9.0))
        for hardware, factor in (("cpu", 4.0), ("gpu", 1.0))
    ]
    return Profiles.from_parts([Hardware("cpu", 0.2), Hardware("gpu", 1.0)], tables)


def document(**edge: Any) -> dict[str, Any]:
    return {
        "name": "video",
        "slo": "300ms",
        "stages": {"detect": {"variants": ["n", "s", "m"]}, "classify": {"variants": ["r18", "r50"]}},
        "edges": [{"from": "detect", "to": "classify", "delay": "1ms", **edge}],
    }


def pipeline(**edge: Any) -> mp.Pipeline:
    return mp.Pipeline.from_document(document(**edge))


def without_variants() -> mp.Pipeline:
    return mp.Pipeline.from_document(single(document(), {"detect": "n", "classify": "r18"}))


def faults(given: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        mp.Pipeline.from_document(given)
    return str(caught.value)


def test_every_fault_of_variants_is_told_at_once() -> None:
    given = document(fanout={"n": 2, "x": 3}, probability={"n": 0.5, "s": 2, "m": 0.5})
    given["stages"]["classify"] = {"variants": {"r18": 1.5, "r50": 0}, "model": "r99"}
    given["stages"]["detect"]["variants"].append("n")
    given["accuracy"] = {"sum": {"detekt": 1.0}}
    told = faults(given)
    for part in (
        "stages.detect.variants: 'n' is given twice",
        "stages.classify.variants.r18: expected an accuracy in (0, 1]",
        "stages.classify.variants.r50: expected an accuracy in (0, 1]",
        "edges[0].fanout.x: stage 'detect' has no variant 'x'",
        "edges[0].fanout: says nothing of the variants s, m",
        "edges[0].probability.s",
        "accuracy.sum.detekt: there is no stage 'detekt'; did you mean 'detect'?",
    ):
        assert part in told
    assert "none of the variants" in faults(
        document() | {"stages": {"a": {"model": "x", "variants": ["y", "z"]}}, "edges": []}
    )


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("best", "accuracy: expected product, sum, worst_path, path_shares"),
        ({"sum": {"detect": -1}}, "sum.detect: expected a weight above 0"),
        ({"table": [{"detect": "n"}]}, "table[0]: expected variants by stage, and accuracy"),
        ({"table": [{"detect": "n", "accuracy": 2}]}, "table[0].accuracy: expected an accuracy in (0, 1]"),
        (
            {"table": [{"detect": "q", "accuracy": 0.5}]},
            "stage 'detect' has no variant 'q'; there are n, s, m",
        ),
    ],
)
def test_odd_rules_are_refused(rule: object, expected: str) -> None:
    assert expected in faults(document() | {"accuracy": rule})


def test_accuracies_of_profiles_are_checked_where_they_are_asked_for() -> None:
    odd = profiles(n=45.0, s=None)
    mp.plan(pipeline(), odd, TRACE)  # without the question nobody minds
    with pytest.raises(InputError) as caught:
        mp.plan(pipeline(), odd, TRACE, accuracy=0.4)
    told = str(caught.value)
    assert "the accuracy of 's' is not known" in told
    assert "the profile of n on cpu has accuracy 45, outside (0, 1]; a percentage? divide it by 100" in told
    with pytest.raises(InputError, match="no stage of the pipeline lists variants"):
        mp.plan(without_variants(), odd, TRACE, accuracy=0.4)
    for wrong in (0, 1.2, "much"):
        with pytest.raises(InputError, match=r"accuracy: expected an accuracy in \(0, 1\]"):
            mp.plan(pipeline(), profiles(), TRACE, accuracy=wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="does not go with this question"):
        mp.pareto(pipeline(), profiles(), TRACE, accuracy=0.4)
    with pytest.raises(
        InputError, match=r"pipeline: expected a Pipeline(.|\n)*profiles: expected a Profiles"
    ):
        mp.pareto("video", "profiles", TRACE)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="within: expected a share") as both:
        mp.menu(pipeline(), profiles(), TRACE, within=-1, most=0, by="price", accuracy=40)
    for part in ("most: expected a whole number", "by: expected one of", "accuracy: expected an accuracy in"):
        assert part in str(both.value)


def test_unknown_variants_of_choices_are_refused() -> None:
    choices = {"detect": ("cpu", 1, 2, "x"), "classify": ("cpu", 1, 2)}
    with pytest.raises(InputError) as caught:
        mp.Plan.from_choices(pipeline(), profiles(), choices)
    assert "choices.detect.variant: there is no variant 'x'; there are n, s, m" in str(caught.value)
    made = mp.Plan.from_choices(
        pipeline(), profiles(), {"detect": ("cpu", 1, 2, "m"), "classify": ("cpu", 1, 2)}
    )
    assert [stage.model for stage in made.pipeline.stages.values()] == ["m", "r18"]
    assert made.accuracy == pytest.approx(0.64 * 0.69)
    assert int(made.service_ns("detect")[0]) == 80_000_000


def test_accuracy_follows_the_definitions() -> None:
    """Every rule, on chains and DAGs with branches, against ways walked one by one."""
    for number in range(60):
        instance = variant_instance(number)
        for models in every_choice(instance.document):
            own = {
                stage: instance.accuracies[stage][m]
                for stage, m in models.items()
                if stage in instance.accuracies
            }
            expected = accuracy(instance.document, single(instance.document, models), models, own)
            made = choosing(instance.pipeline, models)
            assert made.accuracy.value(made, own) == (
                None if expected is None else pytest.approx(expected, rel=1e-12)
            )


def test_caps_leave_out_nothing_that_is_accurate_enough() -> None:
    """What has the accuracy asked for keeps all rows; what is a part in a million short does not pass."""
    checked = 0
    for number in range(25):
        instance = variant_instance(number)
        made = instance.pipeline
        demand = dict.fromkeys(made.stages, Fraction(0))
        families = find_families(made, instance.profiles, demand)
        if made.accuracy.rows or not all(found.families for found in families.values()):
            continue
        for picked in itertools.islice(
            itertools.product(*(found.families for found in families.values())), 40
        ):
            plain = Configuration({s: Option(f, f.fewest) for s, f in zip(families, picked, strict=True)})
            value = require_accuracy(made, families, 1.0)[1].value(plain)
            assert value is not None
            for floor, is_enough in ((value, True), (value * (1 + 1e-6), False)):
                if floor <= 1:
                    counting, asked = require_accuracy(made, families, floor)
                    chosen = [
                        counting[s].families[families[s].families.index(f)]
                        for s, f in zip(families, picked, strict=True)
                    ]
                    own = Configuration(
                        {s: Option(f, f.fewest) for s, f in zip(families, chosen, strict=True)}
                    )
                    assert (own.keeps({}, asked.caps) and asked.is_kept(own)) == is_enough
                    assert own.keeps({}, asked.caps) or not is_enough
                    checked += 1
    assert checked > 200


def test_plans_without_variants_say_nothing_of_them() -> None:
    plain = mp.plan(without_variants(), profiles(), TRACE)
    assert plain.accuracy is None
    assert "variant" not in plain.to_json().replace("variants", "")
    assert "min_accuracy" not in plain.to_json()


def test_no_variant_is_as_good_as_one_listed_alone() -> None:
    """A model is a stage with one variant: same plan, same cost."""
    listed = document()
    listed["stages"] = {"detect": {"variants": {"n": 0.45}}, "classify": {"variants": ["r18"]}}
    plain = mp.plan(pinned(pipeline()), profiles(), TRACE)
    alone = mp.plan(mp.Pipeline.from_document(listed), profiles(), TRACE)
    assert alone.microusd_per_hour == plain.microusd_per_hour
    assert alone.certificate_ns == plain.certificate_ns


def test_combinations_are_the_variants_that_make_different_tokens() -> None:
    changing = pipeline(fanout={"n": 1.5, "s": 1.5, "m": 3})
    assert combinations(changing) == [{"detect": "n"}, {"detect": "m"}]
    assert combinations(pipeline()) == [{}]
    assert choosing(changing, {"detect": "m"}).edges[0].fanout.mean == 3
    with pytest.raises(InputError, match="there is no variant 'x'; there are n, s, m"):
        choosing(changing, {"detect": "x"})


def test_windows_stay_where_a_variant_is_chosen_and_no_limit_is_known_yet() -> None:
    plain = document()
    del plain["slo"]
    asked = mp.Pipeline.from_document(plain).asking(per_s=5.0, share=0.9)
    assert choosing(asked, {"detect": "s"}).slo == asked.slo != mp.Pipeline.from_document(plain).slo


def test_few_combinations_are_opened() -> None:
    """A combination whose demand alone costs more than the best plan is bounded, not planned for."""
    lines: list[str] = []
    plan = mp.plan(pipeline(fanout={"n": 1, "s": 2, "m": 20}), profiles(), TRACE, progress=lines.append)
    assert plan.status == "optimal"
    assert any("bounding 3 combinations" in line for line in lines)
    # The bound of the second is what the first costs, so that it might have a more accurate plan of that cost.
    assert sum("opened" in line for line in lines) == 2


@pytest.mark.parametrize(
    "asked", [{"certificate": "sharp"}, {"guarantee": "replay"}, {"dispatch": "paced"}, {"dispatch": "timed"}]
)
def test_every_kind_of_plan_keeps_the_least_accuracy(asked: dict[str, Any]) -> None:
    classic = mp.plan(pipeline(), profiles(), TRACE, accuracy=0.4)
    plan = mp.plan(pipeline(), profiles(), TRACE, accuracy=0.4, time_limit_s=30.0, **asked)
    assert plan.accuracy is not None
    assert plan.accuracy >= 0.4
    if asked.get("dispatch") is None:
        assert (plan.usd_per_hour or 0) <= (classic.usd_per_hour or 0)


def test_a_reliable_plan_keeps_the_least_accuracy() -> None:
    plan = mp.plan(
        pipeline(), profiles(), TRACE, accuracy=0.45, guarantee="reliable", confidence=0.8, time_limit_s=20.0
    )
    assert plan.status == "feasible"
    assert plan.accuracy == pytest.approx(0.64 * 0.76)
    assert all(choice.variant for choice in plan.choices.values())


def test_other_rooms_run_what_was_chosen() -> None:
    plan = mp.plan(pipeline(fanout={"n": 1.2, "s": 2, "m": 3}), profiles(), TRACE, accuracy=0.4)
    assert {stage: plan.table(stage).model for stage in plan.choices} == {"detect": "s", "classify": "r50"}
    assert mp.replay(plan, TRACE).quantile(0.99) <= (plan.certificate_s or 0)
    assert mp.verify(plan, TRACE).verified
    assert plan.explain().stages[0].choice.variant == "s"
    assert mp.Tuner(plan).plan.pipeline.stages["detect"].model == "s"
    costs = mp.guarantee_costs(plan, TRACE, guarantees=("eager", "paced"), time_limit_s=5.0)
    assert set(costs) == {"eager", "paced"}
    assert costs["eager"].plan.pipeline.stages["detect"].model == "s"
    greedy = mp.baselines.inferline(choosing(pipeline(), {"detect": "s"}), profiles(), TRACE)
    assert greedy.pipeline.stages["detect"].model == "s"
    fleet = mp.plan_fleet({"video": (pipeline(), TRACE, None, 1.0, 0.4)}, profiles(), gap=0.0)
    alone = mp.plan(pipeline(), profiles(), TRACE, accuracy=0.4)
    assert fleet.microusd_per_hour == alone.microusd_per_hour
    assert fleet.plans["video"].accuracy >= 0.4


def test_an_accuracy_that_no_variants_have_is_not_priced_as_if_it_were() -> None:
    made = mp.plan(pipeline(), profiles(), TRACE, accuracy=0.99)
    assert made.reason is not None
    assert "no plan has an accuracy of 0.99" in made.reason
    costs = mp.guarantee_costs(made, TRACE, time_limit_s=20.0)
    assert set(costs) == {"eager", "sharp", "paced", "timed", "replay"}
    assert not any(cost.plan.choices for cost in costs.values())
    reliable = mp.plan(pipeline(), profiles(), TRACE, accuracy=0.99, guarantee="reliable", time_limit_s=20.0)
    assert reliable.status == "infeasible"
    assert reliable.reason is not None
    told = made.reason.partition(": ")[2]
    assert "the most accurate variants" in told
    assert reliable.reason.endswith(f"combinations of variants keeps up and has an accuracy of 0.99: {told}")


def test_front_stops_where_time_is_up_and_says_what_is_known() -> None:
    whole = mp.pareto(pipeline(), profiles(), TRACE)
    assert whole.complete
    assert [round(a, 4) for _, a in whole.points] == sorted({round(a, 4) for _, a in whole.points})
    hurried = mp.pareto(pipeline(), profiles(), TRACE, time_limit_s=1e-9)
    assert not hurried.complete
    assert hurried.limit == "time"
    best = whole.best_by(accuracy=0.0, cost=1.0)
    assert best.usd_per_hour == whole.plans[0].usd_per_hour
    assert whole.best_by(accuracy=1.0, cost=0.0).accuracy == whole.plans[-1].accuracy
    for wrong in (float("nan"), float("inf"), 10**400):
        with pytest.raises(InputError, match="cost: expected a finite weight of at least 0"):
            whole.best_by(1.0, wrong)
    with pytest.raises(InputError, match="expected a finite weight of at least 0"):
        whole.best_by(accuracy=-1.0, cost=1.0)


def test_menu_by_accuracy_is_the_cheap_end_of_the_front() -> None:
    front = mp.pareto(pipeline(), profiles(), TRACE)
    menu = mp.menu(pipeline(), profiles(), TRACE, by="accuracy", within=1.0)
    most = 2 * (front.plans[0].microusd_per_hour or 0)
    assert menu.complete
    assert [plan.microusd_per_hour for plan in menu.plans] == [
        plan.microusd_per_hour for plan in front.plans if (plan.microusd_per_hour or 0) <= most
    ]
    short = mp.menu(pipeline(), profiles(), TRACE, by="both", within=1.0, most=1)
    assert len(short.plans) == 1
    assert not short.complete


def test_menu_of_hardware_offers_other_hardware() -> None:
    dear = replace(profiles().hardware["gpu"], usd_per_hour=0.5)
    menu = mp.menu(pinned(pipeline()), profiles().with_hardware(dear), TRACE, by="hardware", within=2.0)
    kinds = [tuple(choice.hardware for choice in plan.choices.values()) for plan in menu.plans]
    assert menu.complete
    assert len(set(kinds)) == len(kinds) > 1
    assert all(mp.verify(plan, TRACE).verified for plan in menu.plans)


def test_menus_keep_the_least_accuracy_that_a_table_tells() -> None:
    given = document()
    rows = {"n": 0.4, "s": 0.6, "m": 0.7}
    given["accuracy"] = {"table": [{"detect": name, "accuracy": known} for name, known in rows.items()]}
    asked = mp.Pipeline.from_document(given)
    for by, patterns in (("variants", 4), ("hardware", 1)):
        menu = mp.menu(asked, profiles(), TRACE, by=by, within=10.0, accuracy=0.6)
        assert menu.complete
        assert len(menu.plans) >= patterns
        assert {plan.choices["detect"].variant for plan in menu.plans} <= {"s", "m"}
        assert all(plan.accuracy == rows[plan.choices["detect"].variant or ""] for plan in menu.plans)
        assert all(plan.min_accuracy == 0.6 for plan in menu.plans)


def test_front_of_the_shipped_pipeline() -> None:
    """Golden: every breakpoint of IPA's video pipeline on the shipped trace, in dollars per hour and accuracy."""
    root = Path(__file__).parents[2] / "profiles"
    video = mp.Pipeline.read(root / "pipelines" / "video.yaml")
    bursty = mp.Trace.read(root / "traces" / "bursty.csv.gz")
    front = mp.pareto(video, Profiles.default(), bursty)
    assert front.complete
    assert [(round(usd, 4), round(value, 4)) for usd, value in front.points] == [
        *((0.595, 0.3188), (0.68, 0.335), (0.765, 0.3479), (1.02, 0.3962), (1.105, 0.4164), (1.19, 0.4324)),
        *((2.04, 0.4395), (2.72, 0.4448), (3.23, 0.4471), (3.4, 0.4699), (3.57, 0.488), (4.08, 0.4959)),
        *((4.76, 0.502), (5.865, 0.5124), (6.545, 0.5207), (7.225, 0.527), (9.86, 0.5331), (10.625, 0.5396)),
    ]
    assert len(str(front).splitlines()) <= 15
    stairs = mp.frontier(video, Profiles.default(), bursty, over="accuracy", end=0.4)
    assert stairs.cost_at(stairs.present) == 0.595
    assert [step.usd_start for step in stairs.steps] == [0.595, 0.68, 0.765, 1.02, 1.105]


@settings(max_examples=15)
@given(floors=st.lists(st.floats(0.05, 1.0), min_size=2, max_size=4))
def test_higher_accuracy_is_never_cheaper(floors: list[float]) -> None:
    plans = [mp.plan(pipeline(), profiles(), TRACE, accuracy=floor) for floor in sorted(floors)]
    costs = [plan.microusd_per_hour or 2**62 for plan in plans]
    assert costs == sorted(costs)


def made(detect: str, classify: str, **more: Any) -> mp.Plan:
    """A plan that runs these variants; whether it is any good does not matter."""
    choices = {"detect": ("cpu", 1, 2, detect), "classify": ("cpu", 1, 2, classify)}
    plan = mp.Plan.from_choices(pipeline(fanout={"n": 1, "s": 2, "m": 3}), profiles(), choices)
    return replace(plan, **more)


def test_fastest_within_a_budget_is_not_proven_before_all_combinations_were() -> None:
    """The search in the second one was stopped: that may hold a faster plan than the first, proven for its own."""
    figures = Figures(1, certificate_ns=50_000_000)
    first = made("n", "r18", status=mp.PlanStatus.OPTIMAL, figures=figures)
    slow = replace(figures, certificate_ns=60_000_000)
    stopped = made("s", "r18", status=mp.PlanStatus.FEASIBLE, figures=slow, limit=Limit.TIME)
    none = made("m", "r18", choices={}, status=mp.PlanStatus.INFEASIBLE, figures=Figures())
    objective = replace(first.objective, budget_microusd_per_hour=10)
    asked = replace(first, choices={}, objective=objective)
    for answers, status in (
        ([first, stopped, none], mp.PlanStatus.FEASIBLE),
        ([none, first, none], mp.PlanStatus.OPTIMAL),
    ):
        left = iter(answers)
        best = best_combination(asked, lambda *_, left=left: lambda: next(left), SearchLimits())  # type: ignore[misc]
        assert (best.status, best.certificate_ns) == (status, 50_000_000)


@pytest.mark.parametrize("limit", list(Limit))
def test_a_step_that_was_stopped_is_not_forgotten(monkeypatch: pytest.MonkeyPatch, limit: Limit) -> None:
    """Whether the budget pays for the greatest accuracy was left open, so what comes after it is no proven maximum.

    After Ctrl-C nothing comes.
    """
    optimal = {"status": mp.PlanStatus.OPTIMAL, "figures": Figures(1)}
    cheapest, better = made("n", "r18", **optimal), made("s", "r18", **optimal)
    unknown = made("m", "r50", choices={}, status=mp.PlanStatus.UNKNOWN, limit=limit)
    listed = [cheapest.accuracy, better.accuracy, 0.64 * 0.76]
    steps = iter([unknown, better])
    asker = SimpleNamespace(
        first=lambda: cheapest,
        accuracies=lambda: listed,
        at_least=lambda _: next(steps),
        next_above=lambda accuracy: accuracy + 1e-8,
        deadline=Deadline(),
    )
    monkeypatch.setattr("mipplan.variants.front.Asker", lambda *_: asker)
    best = mp.most_accurate(pipeline(), profiles(), TRACE, budget_usd_per_hour=1.0)
    found = cheapest if limit is Limit.INTERRUPT else better
    assert (best.status, best.accuracy, best.limit) == (mp.PlanStatus.FEASIBLE, found.accuracy, limit)


def test_menus_by_accuracy_hold_what_a_table_has() -> None:
    """The cheapest combination of all may have no row: then nothing is known of its accuracy."""
    rows = [{"detect": d, "classify": c, "accuracy": a} for d, c, a in (("s", "r18", 0.6), ("m", "r50", 0.8))]
    known = mp.Pipeline.from_document(document() | {"accuracy": {"table": rows}})
    menu = mp.menu(known, profiles(), TRACE.slice(0, 2), by="accuracy", within=10.0)
    assert [offered.accuracy for offered in menu.plans] == [0.6, 0.8]


def test_where_a_table_says_what_is_accurate_enough_plans_are_made_cheaper_with_the_same_variants() -> None:
    rows = [{"detect": d, "classify": c, "accuracy": a} for d, c, a in (("n", "r18", 0.5), ("m", "r50", 0.8))]
    known, trace = mp.Pipeline.from_document(document() | {"accuracy": {"table": rows}}), TRACE.slice(0, 2)
    plan = mp.plan(known, profiles(), trace, accuracy=0.7)
    for found in (mp.refine(plan, trace), mp.sharpen(plan, trace)):
        assert found.accuracy == plan.accuracy == 0.8
        assert (found.usd_per_hour or 9.0) <= (plan.usd_per_hour or 0.0)
