"""What is said of plans once bounds are known: figures, several samples, which theorem is meant, what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import pytest

from mipplan.calculus import given_up_at
from mipplan.certificate import (
    AUTO,
    Certificate,
    CertificateEvaluator,
    FifoEvaluator,
    certified_figures,
    certified_on,
    check_covered,
    check_timed,
    plan_services,
    resolve_certificate,
    worst_of,
)
from mipplan.certificate.certifying import CertifyParams
from mipplan.core import Deadline, InputError, LimitReachedError, telling
from mipplan.pipeline import Pipeline
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.result import CertificateKind, CriticalStage, Figures, Plan, RunClass, Ties
from mipplan.tokens import Sample, Workload, realise
from mipplan.trace import Trace
from mipplan.verification import certify, verify
from random_pipelines import Case, random_case

CLASSIC, SHARP = CertificateKind


def case_of(number: int) -> Case:
    return random_case(np.random.default_rng([91, number]))


def workload_of(case: Case) -> Workload:
    return realise(case.pipeline, case.trace)


def asked(case: Case, certificate: str, runs: RunClass | None = None, **how: Any) -> Plan:
    """A plan of these choices as if it had been planned for this certificate."""
    plan = Plan.from_choices(case.pipeline, case.profiles, case.choices, slo_s=1.0, **how)
    return replace(
        plan, objective=replace(plan.objective, certificate=CertificateKind(certificate), runs=runs)
    )


def told(call: Any, *arguments: Any, **how: Any) -> str:
    """What it refuses, all in one line."""
    with pytest.raises(InputError) as caught:
        call(*arguments, **how)
    return "; ".join(f"{fault.place}: {fault.message}" for fault in caught.value.faults)


def test_figures_of_a_plan_are_those_of_its_own_theorem() -> None:
    narrower = 0
    for number in range(20):
        case = case_of(number)
        workload = workload_of(case)
        classic = asked(case, CLASSIC)
        figures = certified_figures(classic, workload)
        assert figures.certificate_ns == certify(classic, case.trace).bound_ns
        assert figures.bound_ns is not None
        assert figures.bound_ns <= figures.certificate_ns
        found = {}
        for runs in (None, RunClass(0.9)):
            figures = certified_figures(asked(case, SHARP, runs), workload)
            found[runs] = certify(classic, case.trace, certificate=SHARP, runs=runs).bound_ns
            assert (figures.certificate_ns, figures.bound_ns) == (found[runs], None)
            fifo = asked(case, CLASSIC, runs, discipline="fifo")
            figures = certified_figures(fifo, workload)
            expected = None if runs is None else certify(fifo, case.trace, runs=runs).bound_ns
            assert figures.certificate_ns == expected
        narrower += found[None] > found[RunClass(0.9)]
        timed = asked(case, CLASSIC, dispatch="timed")
        assert certified_figures(timed, workload) is timed.figures
    assert narrower > 0


def test_how_far_it_is_is_told_stage_by_stage() -> None:
    case = case_of(2)
    workload, services = workload_of(case), plan_services(asked(case, CLASSIC))
    count, told_so_far = len(services), list[str]()
    with telling(told_so_far.append):
        CertificateEvaluator(workload).latency_ns(services)
    assert count > 1
    shares = [f"{done / count:.0%}" for done in range(count)]
    assert told_so_far == [f"recomputing the certificate: {share} of the stages" for share in shares]


def test_the_longest_stage_adds_most_by_service_and_wait_together() -> None:
    path = (CriticalStage("a", 10, 0, 99), CriticalStage("b", 3, 4, 0), CriticalStage("c", 1, 8, 0))
    assert Certificate(np.array([1]), 0.99, 1, path).longest_stage == "a"


def test_of_several_samples_the_worst_is_certified_and_each_is_named() -> None:
    case = case_of(1)
    plan = asked(case, CLASSIC)
    samples = [Sample(case.trace.scale(2.0**n), seed, n, f"sample {n}") for n, seed in enumerate((3, 0, 5))]
    workloads = [realise(case.pipeline, each.trace, each.seed) for each in samples]
    alone = [certified_figures(plan, each) for each in workloads]
    bounds_ns, certificates_ns = (
        [getattr(own, name) for own in alone] for name in ("bound_ns", "certificate_ns")
    )
    found = certified_on(plan, samples)
    assert [each.certificate_ns for each in found.samples] == certificates_ns
    assert (found.bound_ns, found.certificate_ns) == (max(bounds_ns), max(certificates_ns))
    assert certificates_ns[0] < max(certificates_ns)
    assert found.microusd_per_hour == plan.figures.microusd_per_hour
    assert certified_on(plan, samples, workloads) == found
    assert certified_on(plan, samples, [workloads[0]] * 3).certificate_ns == certificates_ns[0]
    assert certified_on(plan, samples[:1]) == alone[0]
    judged = worst_of(samples, lambda one: certify(plan, one.trace, seed=one.seed))
    assert [each.certificate_ns for each in judged.samples] == certificates_ns
    assert judged.bound_ns == max(certificates_ns)
    timed = certified_on(asked(case, CLASSIC, dispatch="timed"), samples)
    assert timed == Figures(plan.figures.microusd_per_hour, samples=timed.samples)


def test_the_clock_is_looked_at_before_a_stage_is_bounded() -> None:
    case, runs = case_of(2), RunClass(0.5)
    workload, services = workload_of(case), plan_services(case.plan(), runs)
    for evaluator in (CertificateEvaluator(workload), FifoEvaluator(workload, runs)):
        with given_up_at(Deadline(0.0)), pytest.raises(LimitReachedError):
            evaluator.exits_ns(services)


def test_certificates_cannot_be_written_to_and_are_told_in_seconds() -> None:
    case = case_of(3)
    for kind in CertificateKind:
        found = certify(asked(case, kind), case.trace)
        assert not found.latency_ns.flags.writeable
        assert found.to_pandas()["latency_s"].tolist() == (found.latency_ns / 10**9).tolist()
        assert found.bound_s == found.bound_ns / 10**9
        assert (found.runs is None) == (kind is CLASSIC)
        assert found.samples == ()


def test_the_longest_stage_is_so_with_what_is_waited_there() -> None:
    path = CriticalStage("a", 5, 6, 0), CriticalStage("b", 9, 1, 90)
    found = Certificate(np.array([111]), 0.5, 111, path)
    assert found.longest_stage == "a"
    assert replace(found, critical_path=path[1:]).longest_stage == "b"


def test_auto_is_the_sharp_certificate_where_it_is_affordable() -> None:
    loads, runs = [workload_of(case_of(4))], RunClass()
    tokens = sum(stage.count for stage in loads[0].stages.values())
    enough, few = CertifyParams(tokens), CertifyParams(tokens - 1)
    assert resolve_certificate(AUTO, loads, runs, enough) is SHARP
    assert resolve_certificate(AUTO, loads, None, few) is CLASSIC
    assert resolve_certificate(AUTO, loads, collects=True) is CLASSIC
    assert resolve_certificate(SHARP, loads, runs, few) is SHARP
    assert resolve_certificate(CLASSIC, loads) is CLASSIC
    assert "this is classic" in told(resolve_certificate, CLASSIC, loads, runs)
    assert f"the classic one for {tokens:,} tokens" in told(resolve_certificate, AUTO, loads, runs, few)
    assert "where batches are collected" in told(resolve_certificate, AUTO, loads, runs, collects=True)
    assert "collected (window)" in told(resolve_certificate, SHARP, loads, collects=True)
    assert told(resolve_certificate, "tight", loads).startswith("certificate: ")


def test_what_no_theorem_covers_is_refused() -> None:
    for certificate, runs in ((None, None), (AUTO, None)):
        check_timed(certificate, runs)
    places = [fault.split(": ")[0] for fault in told(check_timed, CLASSIC, RunClass()).split("; ")]
    assert [place for place in places if place in ("certificate", "runs")] == ["certificate", "runs"]
    check_covered("oldest_first", SHARP, RunClass(ties=Ties.ANY), inside_curve=True)
    check_covered("fifo", CLASSIC, RunClass())
    check_covered("fifo", CLASSIC)
    assert told(check_covered, "fifo", CLASSIC, inside_curve=True).startswith("discipline: ")
    assert told(check_covered, "fifo", SHARP).startswith("certificate: ")
    assert told(check_covered, "fifo", CLASSIC, RunClass(ties=Ties.ANY)).startswith("runs.ties: ")


@pytest.mark.parametrize("stages", [31, 59])
@pytest.mark.parametrize("discipline", ["oldest_first", "fifo"])
def test_delays_of_centuries_are_refused_and_never_wrap_round(stages: int, discipline: str) -> None:
    """On the way of ten years between all stages nanoseconds leave int64, and came back as a bound below zero."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    nx.add_path(graph, [f"s{number}" for number in range(stages)], delay="87000h")
    nx.set_node_attributes(graph, "m", "model")
    profiles = Profiles.from_parts([Hardware("h", 1.0)], [LatencyTable("m", "h", [1], [1.0])])
    choices = dict.fromkeys(graph, ("h", 1, 1))
    plan = Plan.from_choices(Pipeline(graph), profiles, choices, slo_s=1.0, discipline=discipline)
    trace = Trace.from_ns(np.array([0, 10**9, 2 * 10**9]))
    with pytest.raises(InputError, match="more than a century"):
        verify(plan, trace)
