"""What `Plan.explain` says is true: every figure recomputed from public calls, alternatives by brute force."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest

import mipplan as mp
from mipplan import reporting
from mipplan.calculus import StageService
from mipplan.options import Configuration
from mipplan.planner import Request
from mipplan.questions.explanations import ExplanationParams
from mipplan.result import OptionVerdict
from planning_instances import PlanningInstance, hand_made, planning_instance
from small_problems import arriving_ms, pipeline_of, profiles_of

NUMBERS = range(9500, 9520)
NEAR_SHARE = ExplanationParams().near_share


def planned() -> Iterator[tuple[PlanningInstance, mp.Plan]]:
    for number in NUMBERS:
        instance = planning_instance(number)
        plan = instance.plan()
        if plan.choices:
            yield instance, plan


def certificate_ns(plan: mp.Plan, trace: mp.Trace, **changed: mp.Choice) -> int:
    choices = {**plan.choices, **changed}
    other = mp.Plan.from_choices(
        plan.pipeline, plan.profiles, choices, slo_s=plan.slo_s, quantile=plan.quantile, seed=plan.seed
    )
    return mp.certify(other, trace).bound_ns


def test_figures_of_every_stage_are_true() -> None:
    seen = {"spare": 0, "fewer": 0, "alternative": 0, "none": 0}
    for instance, plan in planned():
        explained = plan.explain()
        realised = Request.of(plan, instance.trace).instance()
        configuration = Configuration(
            {stage: realised.families[stage].option(choice) for stage, choice in plan.choices.items()}
        )
        services = configuration.services
        assert explained.certificate_ns == plan.certificate_ns
        assert explained.microusd_per_hour == plan.microusd_per_hour
        assert explained.slack_ns == plan.slo_ns - explained.certificate_ns >= 0
        path_ns = sum(s.latency_ns + s.wait_ns + s.delay_ns for s in explained.critical_path)
        assert path_ns == explained.certificate_ns
        for stage in explained.stages:
            own = services[stage.stage]
            grown = [
                realised.certificate_ns(
                    {
                        **services,
                        stage.stage: StageService(own.latency_ns + extra, own.period_ns, own.tokens),
                    }
                )
                for extra in (stage.spare_latency_ns, stage.spare_latency_ns + 1)
            ]
            assert grown[0] <= plan.slo_ns
            assert grown[1] > plan.slo_ns or stage.spare_latency_ns == plan.slo_ns
            assert stage.spare_latency_ns >= explained.slack_ns
            seen["spare"] += stage.spare_latency_ns > explained.slack_ns
            if stage.one_fewer_certificate_ns is not None:
                fewer = mp.Choice(stage.choice.hardware, stage.choice.batch, stage.choice.replicas - 1)
                assert certificate_ns(plan, instance.trace, **{stage.stage: fewer}) == (
                    stage.one_fewer_certificate_ns
                )
                seen["fewer"] += 1
            others = sum(f.microusd_per_hour * n for s, (f, n) in configuration.items() if s != stage.stage)
            cheapest = None if stage.alternative is None else stage.alternative.microusd_per_hour
            if stage.alternative is not None:
                changed = {stage.stage: stage.alternative.choice}
                assert certificate_ns(plan, instance.trace, **changed) == stage.alternative.certificate_ns
                assert stage.alternative.certificate_ns <= plan.slo_ns
            for family in realised.families[stage.stage].families:
                if family is configuration[stage.stage][0] or family.limited:
                    continue
                # Any cheaper replacement, or if there is said to be none any one at all, must be refused.
                most = (
                    min(family.most, 40)
                    if cheapest is None
                    else (cheapest - others - 1) // family.microusd_per_hour
                )
                if most >= family.fewest:
                    choice = mp.Choice(family.hardware, family.batch, min(most, family.most))
                    assert certificate_ns(plan, instance.trace, **{stage.stage: choice}) > plan.slo_ns
            seen["alternative" if stage.alternative else "none"] += 1
    assert min(seen.values()) > 0, seen


def test_plans_on_other_hardware_are_found_and_no_cheaper_one_is_missed() -> None:
    found = 0
    for instance, plan in planned():
        explained = plan.explain()
        own = [choice.hardware for choice in plan.choices.values()]
        patterns = [own]
        costs = []
        for near in explained.near_plans:
            choices = dict(near.choices)
            assert certificate_ns(plan, instance.trace, **choices) == near.certificate_ns <= plan.slo_ns
            assert plan.microusd_per_hour is not None
            assert (
                plan.microusd_per_hour <= near.microusd_per_hour <= plan.microusd_per_hour * (1 + NEAR_SHARE)
            )
            pattern = [choices[stage].hardware for stage in plan.choices]
            assert pattern not in patterns
            patterns.append(pattern)
            costs.append(near.microusd_per_hour)
            found += 1
        assert costs == sorted(costs)
        if explained.near_complete and len(plan.choices) <= 3:
            assert not list(itertools.islice(missed(instance, plan, patterns), 1))
    assert found


def missed(instance: PlanningInstance, plan: mp.Plan, patterns: list[list[str]]) -> Iterator[object]:
    """Certified plans within the share on a hardware pattern that was not named, by brute force."""
    realised = Request.of(plan, instance.trace).instance()
    assert plan.microusd_per_hour is not None
    budget = int(plan.microusd_per_hour * (1 + NEAR_SHARE))
    per_stage = [
        [
            (family, replicas)
            for family in found.families
            for replicas in range(family.fewest, min(family.most, budget // family.microusd_per_hour) + 1)
        ]
        for found in realised.families.values()
    ]
    for selection in itertools.product(*per_stage):
        if [family.hardware for family, _ in selection] in patterns:
            continue
        if sum(family.microusd_per_hour * n for family, n in selection) > budget:
            continue
        used: dict[str, int] = {}
        for family, n in selection:
            used[family.hardware] = used.get(family.hardware, 0) + n
        if any(used.get(name, 0) > limit for name, limit in realised.limits.items()):
            continue
        services = {
            stage: family.service(n) for stage, (family, n) in zip(realised.families, selection, strict=True)
        }
        if realised.keeps_slo(services):
            yield selection


def test_says_it_in_sentences() -> None:
    instance = hand_made()
    text = str(instance.plan().explain())
    for stage in instance.pipeline.stages:
        assert stage in text
    assert "It binds along" in text
    assert "within 5% of the cost" in text.lower() or "Within 5% of the cost" in text


def test_a_plan_without_its_trace_asks_for_one(tmp_path: object) -> None:
    instance = hand_made()
    plan = instance.plan()
    plan.save(f"{tmp_path}/plan.json")
    loaded = mp.Plan.load(f"{tmp_path}/plan.json")
    assert loaded == plan
    with pytest.raises(mp.InputError, match=r"mipplan\.explain"):
        loaded.explain()
    assert mp.explain(loaded, instance.trace) == plan.explain()


def test_plans_from_elsewhere_are_explained_too() -> None:
    instance = hand_made()
    greedy = mp.baselines.inferline(instance.pipeline, instance.profiles, instance.trace)
    explained = greedy.explain()
    assert explained.certificate_ns == greedy.certificate_ns
    assert "below what has to be kept" in str(explained)
    missing = mp.explain(greedy.with_slo(explained.certificate_ns - 2_000_000), instance.trace)
    assert ", 2 ms above what has to be kept" in str(missing)


def test_no_plan_has_nothing_to_explain() -> None:
    plan = hand_made().plan(slo_s=1e-6)
    with pytest.raises(mp.NoPlanError):
        plan.explain()


def test_every_option_has_its_true_reason() -> None:
    seen: set[str] = set()
    for instance, plan in itertools.islice(planned(), 8):
        realised = Request.of(plan, instance.trace).instance()
        for stage in plan.explain().stages:
            options = {(option.hardware, option.batch): option for option in stage.options}
            chosen = [option for option in stage.options if option.verdict is OptionVerdict.CHOSEN]
            assert [(o.hardware, o.batch, o.replicas) for o in chosen] == [
                (stage.choice.hardware, stage.choice.batch, stage.choice.replicas)
            ]
            assert stage.best_by_hardware()[stage.choice.hardware] is chosen[0]
            for family in realised.families[stage.stage].families:
                option = options[family.hardware, family.batch]
                seen.add(option.verdict)
                assert option.fewest == family.fewest
                if option.verdict is OptionVerdict.TOO_SLOW and not family.limited:
                    most = mp.Choice(family.hardware, family.batch, family.most)
                    certified_ns = certificate_ns(plan, instance.trace, **{stage.stage: most})
                    assert certified_ns == option.certificate_ns > plan.slo_ns
                if option.verdict in (OptionVerdict.THROUGHPUT, OptionVerdict.LATENCY):
                    assert option.replicas is not None
                    tried = mp.Choice(family.hardware, family.batch, option.replicas)
                    certified_ns = certificate_ns(plan, instance.trace, **{stage.stage: tried})
                    assert certified_ns == option.certificate_ns <= plan.slo_ns
                    is_few = option.replicas == family.fewest
                    assert is_few == (option.verdict is OptionVerdict.THROUGHPUT)
                    if not is_few:
                        fewer = mp.Choice(family.hardware, family.batch, option.replicas - 1)
                        assert certificate_ns(plan, instance.trace, **{stage.stage: fewer}) > plan.slo_ns
            whole = plan.explain()
            for option in stage.options:
                assert option.hardware in option.text(whole)
    assert {"chosen", "throughput", "too_slow"} <= seen


def told_of_slow(options: dict[str, object], limits: dict[str, int] | None = None) -> str:
    """What is said of slow hardware, of which four replicas would serve nine queries at once."""
    profiles = profiles_of(
        {"slow": 1.0, "fast": 2.0}, {("m", "slow"): {1: 12}, ("m", "fast"): {1: 2}}, limits
    )
    pipeline = pipeline_of({"s": {"model": "m", **options}}, slo="40ms")
    trace = arriving_ms([*[0] * 9, 100])
    whole = mp.explain(mp.plan(pipeline, profiles, trace), trace)
    (told,) = (one.text(whole) for one in whole.stages[0].options if one.hardware == "slow")
    return told


def test_more_replicas_than_there_may_be_are_not_called_too_slow() -> None:
    assert told_of_slow({}).endswith("4 replicas for the latency, where 2 would keep up")
    assert told_of_slow({}, {"slow": 2}) == "slow, batch 1: there are not as many devices as would do"
    limited = told_of_slow({"replicas": {"max": 2}})
    assert limited == "slow, batch 1: 4 replicas would do, and the pipeline allows s 2"


def test_what_no_number_of_replicas_does_is_not_put_down_to_too_few_devices() -> None:
    """Under fifo more replicas serve faster, and fewer let fewer overtake: no number is the best in both."""
    pipeline = pipeline_of(
        {"first": {"model": "a", "replicas": {"max": 4}}, "then": {"model": "b"}},
        [{"from": "first", "to": "then", "fanout": 2}],
        discipline="fifo",
        slo="40ms",
    )
    tables = {
        ("a", "slow"): {1: 12},
        ("a", "fast"): {1: 1.8},
        ("b", "slow"): {1: 12, 2: 16},
        ("b", "fast"): {1: 3.2, 2: 3.8},
    }
    arrivals = [0, 0, 4, 4, 5, 5, 20, 21, 22, 57, 57, 57, 58, 88, 487, 525, 585, 585, 585, 585]
    profiles, trace = profiles_of({"slow": 0.5, "fast": 1.25}, tables), arriving_ms(arrivals)
    plan = mp.plan(pipeline, profiles, trace)
    (slow,) = (one for one in mp.explain(plan, trace).stages[0].options if one.hardware == "slow")
    certified_ns = [
        mp.certify(replace(plan, choices={**plan.choices, "first": mp.Choice("slow", 1, n)}), trace).bound_ns
        for n in range(1, 5)
    ]
    assert slow.certificate_ns == min(certified_ns) > plan.slo_ns
    assert slow.verdict is OptionVerdict.TOO_SLOW


def test_variants_are_told_apart() -> None:
    trace = mp.Trace.read("bursty").slice(0, 5)
    plan = mp.plan(mp.Pipeline.read("video"), mp.Profiles.default(), trace, accuracy=0.4)
    told = plan.explain()
    for stage in told.stages:
        assert stage.best_by_hardware()[f"{stage.choice.variant} on cpu"].verdict is OptionVerdict.CHOSEN
        other = stage.alternative
        assert other is not None
        given = {**plan.choices, stage.stage: other.choice}
        again = mp.Plan.from_choices(plan.pipeline, plan.profiles, given, slo_s=1.5)
        assert again.microusd_per_hour == other.microusd_per_hour
        assert mp.certify(again, trace).bound_s * 1e9 == pytest.approx(other.certificate_ns)
        assert (again.accuracy or 0) >= 0.4
    refused = {option.text(told) for option in told.stages[0].options if option.variant == "yolov5n"}
    assert "yolov5n on cpu, batch 1: the plan would not be accurate enough" in refused
    document = reporting.explain_report(told, plan, "video", trace)
    assert [stage.variant for stage in document.stages] == [one.variant for one in plan.choices.values()]
    assert {option.variant for option in document.stages[0].options} == set(
        plan.pipeline.stages["detect"].models
    )


CPU = profiles_of({"cpu": 1.0, "gpu": 2.0}, {("m", "cpu"): {1: 10, 4: 16}, ("m", "gpu"): {1: 5, 4: 8}})
PAIR = {"a": {"model": "m"}, "b": {"model": "m"}}
EDGE = [{"from": "a", "to": "b"}]
EVERY_6_MS = arriving_ms(range(0, 300, 6))


def test_stages_that_fall_behind_the_traffic_are_told() -> None:
    """A replica serves 250 tokens a second; the certificate of a short trace would hide that more arrive."""
    pipeline = pipeline_of({name: {"model": "m", "hardware": ["cpu"]} for name in ("a", "b")}, EDGE)
    plan = mp.plan(pipeline, CPU, EVERY_6_MS)
    assert [(choice.replicas, choice.batch) for choice in plan.choices.values()] == [(1, 4), (1, 4)]
    assert mp.explain(plan, EVERY_6_MS.scale(1.4)).adopted is None
    for factor, fewest in ((3.0, 3), (100_000.0, 68_028)):
        with pytest.raises(mp.InputError) as caught:
            mp.explain(plan, EVERY_6_MS.scale(factor))
        said = f"falls behind this trace on 1 × cpu (batch 4): {fewest} replicas keep up"
        assert [fault.message for fault in caught.value.faults] == [f"a {said}", f"b {said}"]


def test_a_replayed_plan_may_cost_less_than_any_that_keeps_up() -> None:
    """All queries come at the beginning, and the last one sets the mean rate: the replay keeps what no rate does."""
    trace = arriving_ms([*range(0, 40, 4), 41])
    pipeline = pipeline_of({"a": {"model": "m", "hardware": ["cpu"], "batch": [1]}})
    plan = mp.plan(pipeline, CPU, trace, guarantee="replay")
    assert plan.choices["a"].replicas == 1
    told = mp.explain(plan, trace)
    assert told.adopted is None
    assert told.certificate_ns == mp.replay(plan, trace).quantile_ns(plan.quantile)
    chosen = next(option for option in told.stages[0].options if option.verdict is OptionVerdict.CHOSEN)
    assert chosen.fewest == 1


def test_choices_that_are_no_options_are_told_stage_by_stage() -> None:
    odd = mp.Plan.from_choices(pipeline_of(PAIR, EDGE), CPU, {"a": ("cpu", 3, 2), "b": ("gpu", 2, 1)})
    options = "options are cpu with batch 1, cpu with batch 4, gpu with batch 1, gpu with batch 4"
    with pytest.raises(mp.InputError) as caught:
        mp.explain(odd, EVERY_6_MS)
    assert [(fault.place, fault.message) for fault in caught.value.faults] == [
        ("plan", f"a runs on 2 × cpu (batch 3), which is no option of it on this trace: {options}"),
        ("plan", f"b runs on 1 × gpu (batch 2), which is no option of it on this trace: {options}"),
    ]


@pytest.mark.parametrize(
    ("limited", "factor", "reason"),
    [
        ({"hardware": ["gpu"]}, 1.0, "the pipeline allows a gpu only"),
        ({"hardware": ["cpu"], "batch": [1]}, 1.0, "options are cpu with batch 1"),
        ({"batch": [2]}, 1.0, "cpu has no measurement at an admitted batch size .measured: 1, 4."),
        ({"replicas": {"max": 2}}, 100.0, "cpu with batch 4 needs 69 replicas to keep up, but .* allows 2"),
        ({"variants": ["m"], "hardware": ["cpu"], "batch": [1]}, 1.0, "options are m on cpu with batch 1"),
        ({"variants": ["m"], "batch": [2]}, 1.0, "cpu has no measurement .*; gpu has no measurement"),
    ],
)
def test_choices_beyond_what_the_pipeline_allows_are_told_with_the_reason(
    limited: dict[str, object], factor: float, reason: str
) -> None:
    entry = limited if "variants" in limited else {"model": "m", **limited}
    plan = mp.Plan.from_choices(pipeline_of({"a": entry}), CPU, {"a": ("cpu", 4, 1)})
    with pytest.raises(mp.InputError, match=rf"plan: a runs on 1 × .*cpu \(batch 4\), .*: {reason}"):
        mp.explain(plan, EVERY_6_MS.scale(factor))
    # What if answers them, too.
    assert mp.whatif(plan, EVERY_6_MS.scale(factor), {"slo": "+10%"}).same.plan.choices == plan.choices
