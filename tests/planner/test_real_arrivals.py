"""Shipped pipelines and profiles under real arrivals: plans, certificates and replays agree."""

from __future__ import annotations

from pathlib import Path

import pytest

import mipplan as mp
from mipplan.documents import shipped_folder

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "traces"
PIPELINES = ("image-processing", "cascade", "video-monitoring", "social-media", "audio-question-answering")

pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not DATA.is_dir(), reason="the public data sets are not beside the checkout"),
]


@pytest.fixture(scope="module")
def traces() -> dict[str, mp.Trace]:
    return {
        "conversations": mp.Trace.read(DATA / "azure_llm_2023_conv_arrivals.csv.gz", start_s=0, end_s=600),
        "square bursts": mp.Trace.read(
            DATA / "proteus_zipf_exponential_bursty_arrivals_ms.csv.gz", start_s=20, end_s=40
        ).scale(0.2),
        "tweets": mp.Trace.read(
            DATA / "twitter_stream_per_second_days07-21.csv.gz",
            expand="poisson",
            seed=1,
            start_s=696_360,
            end_s=696_480,
        ),
    }


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("arrivals", ["conversations", "square bursts", "tweets"])
def test_plan_certificate_and_replay(traces: dict[str, mp.Trace], name: str, arrivals: str) -> None:
    pipeline = mp.Pipeline.read(shipped_folder() / "pipelines" / f"{name}.yaml")
    trace = traces[arrivals]
    plan = mp.plan(pipeline, mp.Profiles.default(), trace, slo_s=1.0, time_limit_s=20)
    assert plan.status in ("optimal", "feasible"), plan.reason
    certificate = mp.certify(plan, trace)
    assert plan.bound_ns is not None
    assert plan.bound_ns <= certificate.bound_ns == plan.certificate_ns
    assert certificate.bound_ns <= plan.slo_ns
    assert (mp.replay(plan, trace).latency_ns <= certificate.latency_ns).all()
    assert plan.lower_bound_microusd_per_hour is not None
    assert plan.microusd_per_hour is not None
    assert 0 < plan.lower_bound_microusd_per_hour <= plan.microusd_per_hour
