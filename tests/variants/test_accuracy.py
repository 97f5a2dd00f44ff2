"""What counts as the accuracy of a plan: unknown ones, tables in place of what stages have, single variants, shares."""

from __future__ import annotations

import itertools
import sys
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import mipplan as mp
from mipplan.profiles import Hardware, LatencyTable, Profiles
from oracle_variants import accuracy, single
from small_problems import arriving_ms, pipeline_of, profiles_of

TRACE = mp.Trace.gamma(rate_rps=60, cv=1, duration_s=5, seed=1)
LATENCIES_MS = {"d1": 5.0, "d2": 8.0, "c": 5.0, "g": 5.0}


def profiles(**accuracies: float) -> Profiles:
    """One hardware type, batches of one; accuracies of the models that are named, no column for the others."""
    tables = [
        LatencyTable(
            model,
            "cpu",
            np.array([1]),
            np.array([latency_ms]),
            accuracy=np.array([accuracies[model]]) if model in accuracies else None,
        )
        for model, latency_ms in LATENCIES_MS.items()
    ]
    return Profiles.from_parts([Hardware("cpu", 0.1)], tables)


def pipeline(accuracy: object = "product", **stages: object) -> mp.Pipeline:
    """A chain of stages, each with variants (a list, or accuracies by model) or one model (text)."""
    names = list(stages)
    return mp.Pipeline.from_document(
        {
            "slo": "100ms",
            "accuracy": accuracy,
            "stages": {
                name: {"model" if isinstance(given, str) else "variants": given}
                for name, given in stages.items()
            },
            "edges": [{"from": one, "to": next_one} for one, next_one in itertools.pairwise(names)],
        }
    )


TABLE = {"table": [{"d": "d2", "accuracy": 0.5}]}


@pytest.mark.parametrize("known", [{"d1": 0.4, "d2": 60.0}, {"d1": 0.4, "d2": 0.0}, {}], ids=str)
def test_a_table_stands_in_place_of_what_profiles_say(known: dict[str, float]) -> None:
    given = pipeline(TABLE, d=["d1", "d2"]), profiles(**known), TRACE
    plan = mp.plan(*given, accuracy=0.4)
    assert (plan.status, plan.accuracy, plan.choices["d"].variant) == ("optimal", 0.5, "d2")
    began = time.monotonic()
    front = mp.pareto(*given, time_limit_s=20)
    menu = mp.menu(*given, by="accuracy", within=1, time_limit_s=20)
    assert time.monotonic() - began < 15
    for found in (front, menu):
        assert found.complete
        assert [plan.accuracy for plan in found.plans] == [0.5]


def test_a_plan_that_is_not_more_accurate_ends_the_search_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing should make one; if something does, an error is better than asking for it again and again."""
    monkeypatch.setattr("mipplan.result.plan.accuracy_of", lambda *_: None)
    with pytest.raises(AssertionError, match="less accurate than asked for"):
        mp.menu(pipeline(d={"d1": 0.4, "d2": 0.8}), profiles(), TRACE, by="accuracy", time_limit_s=5)


def test_a_menu_by_accuracy_ends_when_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    given = pipeline(d={"d1": 0.4, "d2": 0.8}, c={"c": 0.5, "g": 0.7}), profiles(), TRACE
    menu = mp.menu(*given, by="accuracy", within=10)
    assert menu.complete
    late = SimpleNamespace(deadline=SimpleNamespace(is_over=True), first=lambda: menu.plans[0])
    monkeypatch.setattr(sys.modules["mipplan.variants.menus"], "Asker", lambda *_, **__: late)
    short = mp.menu(*given, by="accuracy", within=10)
    assert (len(short.plans), short.complete, short.limit) == (1, False, "time")
    assert short.reason == "the search was stopped"


@pytest.mark.parametrize("within", [0.15, np.float64(0.15), 0.4, 1, 1.15])
def test_a_menu_holds_what_costs_just_the_share_more(within: float) -> None:
    """In floating point 100,000 micro-dollars and 15 % are 114,999."""
    dear = (100 + round(100 * float(within))) / 1000
    tables = [LatencyTable("g", name, np.array([1]), np.array([5.0])) for name in ("cpu", "gpu", "dearer")]
    hardware = [Hardware("cpu", 0.1), Hardware("gpu", dear), Hardware("dearer", dear + 1e-6)]
    menu = mp.menu(
        pipeline(g="g"), Profiles.from_parts(hardware, tables), TRACE, by="hardware", within=within
    )
    assert menu.complete
    assert [plan.choices["g"].hardware for plan in menu.plans] == ["cpu", "gpu"]


@pytest.mark.parametrize("given", [["g"], {"g": 0.5}], ids=str)
def test_a_stage_that_lists_one_variant_lists_variants(given: object) -> None:
    asked = pipeline(g=given), profiles(g=0.5), TRACE
    for least, status in ((None, "optimal"), (0.5, "optimal"), (0.6, "infeasible")):
        plan = mp.plan(*asked, accuracy=least)
        assert (plan.status, plan.accuracy) == (status, None if least == 0.6 else 0.5)
    assert mp.pareto(*asked).points == ((0.1, 0.5),)
    assert mp.Pipeline.from_document(asked[0].to_document()).stages["g"].variants == ("g",)


def test_where_one_variant_is_listed_its_accuracy_must_be_known() -> None:
    given = pipeline(g=["g"], d={"d1": 0.4, "d2": 0.8}), profiles(), TRACE
    assert mp.plan(*given).accuracy is None
    with pytest.raises(mp.InputError, match="the accuracy of 'g' is not known"):
        mp.plan(*given, accuracy=0.4)
    assert mp.plan(pipeline(g="g", d={"d1": 0.4, "d2": 0.8}), *given[1:], accuracy=0.4).accuracy == 0.8


@pytest.mark.parametrize(
    "asked", [{}, {"guarantee": "replay"}, {"guarantee": "reliable", "confidence": 0.5}], ids=str
)
def test_a_table_says_the_accuracy_of_a_pipeline_without_variants(asked: dict[str, Any]) -> None:
    given = pipeline({"table": [{"c": "c", "accuracy": 0.5}]}, c="c"), profiles(), TRACE
    for least in (None, 0.4):
        plan = mp.plan(*given, accuracy=least, time_limit_s=20, **asked)
        assert (plan.accuracy, plan.choices["c"].variant) == (0.5, None)
        assert mp.verify(plan, TRACE).verified
    none = mp.plan(*given, accuracy=0.6, **asked)
    told = "no row of the table has an accuracy of 0.6: the most accurate has 0.5"
    assert (none.status, none.reason) == ("infeasible", told)


@pytest.mark.parametrize(
    "rule", ["product", "sum", {"sum": {"d": 1, "c": 3}}, "worst_path", "path_shares"], ids=str
)
def test_a_model_of_unknown_accuracy_counts_as_1_by_every_rule(rule: object) -> None:
    """To write 1 into the profiles changes nothing; and what reaches an accuracy in truth is found."""
    stages = {"d": {"d1": 0.4, "d2": 0.8}, "c": "c"}
    unknown = pipeline(rule, **stages), profiles(), TRACE
    written = pipeline(rule, **stages), profiles(c=1.0), TRACE
    document = unknown[0].to_document()
    for model, own in {"d1": 0.4, "d2": 0.8}.items():
        models = {"d": model, "c": "c"}
        expected = accuracy({**document, "accuracy": rule}, single(document, models), models, {"d": own})
        assert expected is not None
        for given in (unknown, written):
            plan = mp.plan(*given, accuracy=expected)
            assert plan.status == "optimal"
            assert (plan.accuracy or 0) >= expected - 1e-12
            above = mp.plan(*given, accuracy=expected + 1e-6)
            assert (above.status == "infeasible") == (model == "d2")
            assert above.accuracy is None or above.accuracy > expected
    assert mp.pareto(*unknown).points == mp.pareto(*written).points


def test_a_rule_of_another_pipeline_is_checked() -> None:
    rule = pipeline({"sum": {"d": 1.0}}, d=["d1", "d2"]).accuracy
    with pytest.raises(mp.InputError, match="there is no stage 'd'"):
        mp.Pipeline(pipeline(c="c").graph, accuracy=rule)
    assert mp.Pipeline(pipeline(d=["d1", "d2"]).graph, accuracy=rule).accuracy == rule


def test_a_menu_does_not_print_an_unknown_accuracy_as_0() -> None:
    menu = mp.menu(pipeline(TABLE, d=["d1", "d2"]), profiles(), TRACE, by="variants")
    assert [plan.accuracy for plan in menu.plans] == [None, 0.5]
    assert [line.split()[1] for line in str(menu).splitlines()[-2:]] == ["–", "0.5"]


def test_variants_that_no_number_of_replicas_keeps_up_on_may_replay_within_the_objective() -> None:
    """Ten queries within 9 ms outrun one replica that takes 4 ms, and all are done within the objective."""
    pipeline = pipeline_of(
        {
            "first": {"model": "a", "variants": {"a": 0.9, "b": 0.8}, "replicas": {"max": 1}},
            "then": {"model": "c", "replicas": {"max": 1}},
        },
        [{"from": "first", "to": "then", "fanout": {"a": 1, "b": 2}}],
        slo="90ms",
    )
    profiles = profiles_of({"h": 1.0}, {("a", "h"): {1: 4}, ("b", "h"): {1: 3}, ("c", "h"): {1: 4}})
    trace = arriving_ms(range(10))
    assert mp.plan(pipeline, profiles, trace).status == "infeasible"
    plan = mp.plan(pipeline, profiles, trace, guarantee="replay", accuracy=0.85)
    assert (plan.status, plan.usd_per_hour, plan.choices["first"].variant) == ("optimal", 2.0, "a")
    assert mp.replay(plan, trace).quantile(plan.quantile) <= plan.slo_s


def test_refining_and_sharpening_look_at_variants_that_make_other_tokens() -> None:
    """The variant that runs makes three tokens, the other one: what is proven cheapest is so among both."""
    pipeline = pipeline_of(
        {"first": {"model": "b", "variants": {"a": 0.8, "b": 0.9}}, "then": {"model": "c"}},
        [{"from": "first", "to": "then", "fanout": {"a": 1, "b": 3}}],
        slo="40ms",
    )
    profiles = profiles_of({"h": 1.0}, {("a", "h"): {1: 4}, ("b", "h"): {1: 3}, ("c", "h"): {1: 8}})
    trace = arriving_ms(range(0, 200, 10))
    given = mp.Plan.from_choices(pipeline, profiles, {"first": ("h", 1, 1, "b"), "then": ("h", 1, 4)})
    refined = mp.refine(given, trace)
    assert (refined.status, refined.usd_per_hour, refined.choices["first"].variant) == ("optimal", 2.0, "a")
    assert mp.plan(pipeline, profiles, trace, guarantee="replay").usd_per_hour == refined.usd_per_hour
    sharpened = mp.sharpen(given, trace)
    assert (sharpened.status, sharpened.usd_per_hour, sharpened.certificate) == ("optimal", 2.0, "sharp")
    accurate = mp.refine(mp.plan(pipeline, profiles, trace, accuracy=0.9), trace)
    assert (accurate.status, accurate.usd_per_hour, accurate.accuracy) == ("optimal", 4.0, 0.9)
    with pytest.raises(mp.InputError, match=r"margin_s: .*\n?.*quantile"):
        mp.refine(given, trace, margin_s=-1.0, quantile=2.0)
