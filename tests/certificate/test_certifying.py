"""What is certified on several samples, and that certificates of long traces can be given up."""

from __future__ import annotations

import numpy as np
import pytest

from mipplan.calculus import given_up_at
from mipplan.certificate import CertificateEvaluator, FifoEvaluator, certified_on, plan_services
from mipplan.core import Deadline, LimitReachedError
from mipplan.result import RunClass
from mipplan.tokens import Sample, realise
from mipplan.verification import certify
from random_pipelines import random_case


def test_of_several_samples_the_worst_is_certified_and_each_is_named() -> None:
    case = random_case(np.random.default_rng(91))
    plan = case.plan()
    samples = [Sample(case.trace.scale(2.0**n), seed, n, f"sample {n}") for n, seed in enumerate((3, 0, 5))]
    alone = [
        certify(plan, each.trace, seed=each.seed, certificate=plan.certificate).bound_ns for each in samples
    ]
    figures = certified_on(plan, samples)
    assert [each.certificate_ns for each in figures.samples] == alone
    assert figures.certificate_ns == max(alone) > min(alone)
    one = certified_on(plan, samples[:1])
    assert (one.certificate_ns, one.samples) == (alone[0], ())


def test_the_clock_is_looked_at_before_a_stage_is_bounded() -> None:
    case = random_case(np.random.default_rng(92))
    workload, runs = realise(case.pipeline, case.trace), RunClass(0.5)
    services = plan_services(case.plan(), runs)
    for evaluator in (CertificateEvaluator(workload), FifoEvaluator(workload, runs)):
        with given_up_at(Deadline(0.0)), pytest.raises(LimitReachedError):
            evaluator.exits_ns(services)
