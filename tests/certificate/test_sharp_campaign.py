"""The sharp theorem against runs that do their worst: no token may be dispatched or leave later than it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from adversarial_runs import AdversarialRun, adversarial_run, random_taking
from campaigns import Violations, campaign_size, write_summary
from mipplan.certificate import SharpEvaluator, StageBound, StageSetting, plan_settings
from mipplan.pipeline import DispatchLaw
from mipplan.replayer import replay
from mipplan.result import RunClass, Ties
from mipplan.tokens import Workload, realise
from random_pipelines import Case, features, random_case, random_laws

RUNS_PER_CASE = 4
#: What at least one case in twenty must hold, or the campaign would prove little.
WANTED = ("join all", "join each", "skip", "fan-out above 1", "overload", "ties", "non-monotone", "delay")


def draw_runs(rng: np.random.Generator) -> RunClass:
    """Draw a class: services, delays, and the order within an instant."""
    least_service = float(rng.choice([0.0, 0.5, 0.9, 1.0]))
    least_delay = float(rng.choice([1.0, 1.0, least_service, 0.5]))
    return RunClass(least_service, least_delay, Ties.SETTLED if rng.random() < 0.7 else Ties.ANY)


def play(
    case: Case,
    workload: Workload,
    runs: RunClass,
    rng: np.random.Generator,
    laws: dict[str, str] | None = None,
) -> AdversarialRun:
    """One run of the class, by an adversary drawn at random."""
    paced = [stage for stage, law in (laws or {}).items() if law == "paced"]
    service_ns = case.service_ns()
    slowest = max(max(times) for times in service_ns.values())
    service, delay = random_taking(rng, slowest), random_taking(rng, slowest)
    return adversarial_run(workload, service_ns, case.replicas(), runs, service, delay, rng, paced=paced)


def broken(bounds: dict[str, StageBound], run: AdversarialRun, less_ns: int = 0) -> list[str]:
    """Stages at which a run does not keep to the bounds, the latest exits lowered by so much."""
    return [
        stage
        for stage, bound in bounds.items()
        if np.any(run.exit[stage] > bound.tokens.latest_exit_ns - less_ns)
        or np.any(run.dispatch[stage] > bound.tokens.latest_dispatch_ns)
        or np.any(run.exit[stage] < bound.tokens.earliest_exit_ns)
        or np.any(run.arrival[stage] > bound.arrivals.latest_ns)
        or np.any(run.arrival[stage] < bound.arrivals.earliest_ns)
    ]


@pytest.mark.parametrize("part", range(12))
def test_no_run_exceeds_the_sharp_certificate(part: int) -> None:
    """Under eager dispatch in eight parts; some or all stages are paced in the other four."""
    violations, seen, kinds = Violations(), Counter[str](), Counter[str]()
    is_paced = part >= 8
    for number in range(campaign_size(quick=75, deep=25_000)):
        rng = np.random.default_rng([61, part, number])
        case = random_case(rng, max_arrivals=int(rng.choice([6, 15, 40])))
        workload = realise(case.pipeline, case.trace, number)
        runs, laws = draw_runs(rng), random_laws(rng, case) if is_paced else None
        settings = plan_settings(case.plan(seed=number, dispatch=laws))
        bounds = SharpEvaluator(workload, runs).bound(settings)
        latest = {stage: np.zeros_like(bound.tokens.latest_exit_ns) for stage, bound in bounds.items()}
        for _ in range(RUNS_PER_CASE):
            run = play(case, workload, runs, rng, laws)
            violations.expect(not broken(bounds, run), f"case {part}/{number}, {runs}")
            for stage, exits in run.exit.items():
                np.maximum(latest[stage], exits, out=latest[stage])
        seen["cases"] += 1
        seen["runs"] += RUNS_PER_CASE
        seen["token bounds"] += sum(exits.size for exits in latest.values())
        seen["attained"] += sum(
            int(np.count_nonzero(exits == bounds[stage].tokens.latest_exit_ns))
            for stage, exits in latest.items()
        )
        seen[f"ties {runs.ties}"] += 1
        seen[f"services from {runs.least_service:g}"] += 1
        seen["exact delays" if runs.least_delay == 1 else "jittered delays"] += 1
        kinds.update(features(case, workload))
    rare = {name: kinds[name] for name in WANTED if kinds[name] < seen["cases"] / 20}
    assert not rare, f"too few of {seen['cases']} cases hold these: {rare}"
    # Many bounds are attained to the nanosecond, so that a term too small by 1 ns somewhere would have failed above.
    assert seen["attained"] > seen["token bounds"] / 5
    write_summary(
        f"sharp-certificate-{part}",
        {
            **dict(sorted(seen.items())),
            "violations": violations.checked(),
            "features": dict(sorted(kinds.items())),
        },
    )


def test_with_everything_as_stated_a_run_is_the_replay() -> None:
    exact = RunClass(least_service=1.0)
    for number in range(100):
        rng = np.random.default_rng([62, number])
        case = random_case(rng)
        workload = realise(case.pipeline, case.trace, number)
        laws = random_laws(rng, case) if number % 2 else None
        run = play(case, workload, exact, rng, laws)
        replayed = replay(case.plan(seed=number, dispatch=laws), case.trace).latency_ns
        assert np.array_equal(workload.latency_ns(run.exit), replayed)


@pytest.mark.parametrize("is_paced", [False, True])
def test_the_campaign_catches_a_bound_that_is_1_ns_too_low(is_paced: bool) -> None:
    caught = 0
    for number in range(50):
        rng = np.random.default_rng([63, number])
        case = random_case(rng)
        workload = realise(case.pipeline, case.trace, number)
        laws = dict.fromkeys(case.choices, "paced") if is_paced else None
        settings = plan_settings(case.plan(seed=number, dispatch=laws))
        bounds = SharpEvaluator(workload, RunClass()).bound(settings)
        caught += bool(broken(bounds, play(case, workload, RunClass(), rng, laws), less_ns=1))
    assert caught > 25


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(
            lambda own: replace(own, law=DispatchLaw.EAGER), id="as if a replica that idles took at once"
        ),
        pytest.param(
            lambda own: replace(own, replicas=own.replicas + 1), id="a step of another number of replicas"
        ),
    ],
)
def test_the_campaign_catches_a_wrong_wait_for_rule_p(fault: Callable[[StageSetting], StageSetting]) -> None:
    caught = 0
    for number in range(150):
        rng = np.random.default_rng([65, number])
        case = random_case(rng)
        workload, laws = realise(case.pipeline, case.trace, number), dict.fromkeys(case.choices, "paced")
        settings = plan_settings(case.plan(seed=number, dispatch=laws))
        wrong = {stage: fault(own) if own.replicas > 1 else own for stage, own in settings.items()}
        bounds = SharpEvaluator(workload, RunClass()).bound(wrong)
        caught += bool(broken(bounds, play(case, workload, RunClass(), rng, laws)))
    assert caught > 15


@pytest.mark.parametrize(
    ("claimed", "played"),
    [
        pytest.param(RunClass(0.9), RunClass(0.0), id="shorter services"),
        pytest.param(RunClass(1.0), RunClass(1.0, least_delay=0.5), id="shorter delays"),
        pytest.param(RunClass(1.0), RunClass(1.0, ties=Ties.ANY), id="any order within an instant"),
    ],
)
def test_the_campaign_catches_runs_outside_the_class(claimed: RunClass, played: RunClass) -> None:
    """A proof that used more than it says would look like this."""
    caught = 0
    for number in range(150):
        rng = np.random.default_rng([64, number])
        case = random_case(rng, scales_ns=(3, 10))
        workload = realise(case.pipeline, case.trace, number)
        bounds = SharpEvaluator(workload, claimed).bound(plan_settings(case.plan(seed=number)))
        run = play(case, workload, played, rng)
        late = [stage for stage in bounds if np.any(run.exit[stage] > bounds[stage].tokens.latest_exit_ns)]
        caught += bool(late)
    assert caught >= 3
