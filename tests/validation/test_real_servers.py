"""Real servers with models that sleep, each driven on this machine, against the replay by its own law.

What is asserted holds on any machine, however busy: every query is answered, once, and no sleep is shorter than asked
for, so no query is faster than its services. Above, latencies are bounded by a factor of five, which a law that is not
the system's breaks (one batch at a time where the plan has several, or queues that grow): processes that wait for a
processor take tens of milliseconds where a query takes some two hundred. How near predictions come on a quiet machine
is measured by ``benchmarks/truth``.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mipplan as mp
from benchmarks.truth.run import plan_of
from benchmarks.truth.servers import (
    ONGOING,
    PLAIN,
    RAY_WINDOW_MS,
    TRUTH_SYSTEMS,
    free_port,
    ray_servers,
    started,
)
from benchmarks.truth.trial import JOINED, JOINED_CHOICES
from mipplan.logs import QueryLog
from mipplan.serving import QUERY_HEADER
from mipplan.tokens import realise_queries
from serving_plans import small_plan

#: Bursts, at some half of what the slowest stage carries.
TRACE = mp.Trace.gamma(rate_rps=25, cv=2.5, duration_s=3, seed=4)
#: The same for Ray, which takes some 20 ms of a processor for each query, with fewer replicas, each a process.
RAY_TRACE = mp.Trace.gamma(rate_rps=8, cv=2.5, duration_s=5, seed=3)
#: A chain. (Branches by chance with a join, which only our dispatcher serves on Ray, are those of the trial.)
RAY_CHOICES = {"recognise": ("v100", 4, 1), "answer": ("t4", 2, 2), "speak": ("t4", 1, 1)}


LITSERVE = """
import sys, time
import litserve

class Sleeping(litserve.LitAPI):
    def setup(self, device):
        self.latency_s = [float(each) for each in sys.argv[2:]]
    def decode_request(self, request):
        return request["query"]
    def predict(self, batch):
        time.sleep(self.latency_s[len(batch) - 1])
        return batch
    def encode_response(self, output):
        return {"query": output}

if __name__ == "__main__":
    api = Sleeping(max_batch_size=4, batch_timeout=0.005)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=2)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False)
"""


def drawn(plan: mp.Plan, queries: int) -> dict[str, list[int]]:
    """By stage the queries of its tokens, as the replay draws them."""
    workload = realise_queries(plan.pipeline, np.zeros(queries, np.int64), plan.seed)
    return {stage: tokens.query.tolist() for stage, tokens in workload.stages.items()}


def check_tokens(plan: mp.Plan, queries: int, log: Path, *, again: int = 0) -> None:
    """Hold a server's own log to the draws; the first queries were sent `again`. Batches keep the caps."""
    stages = mp.read_log(log).stages
    for (stage, once), twice in zip(
        drawn(plan, queries).items(), drawn(plan, again or 1).values(), strict=True
    ):
        rows = stages.at(stage)
        assert sorted(rows.query.tolist()) == sorted(once + (twice if again else []))
        assert rows.batch_size.max() <= plan.choices[stage].batch


def driven(trace: mp.Trace, url: str, **how: Any) -> QueryLog:
    """Drive a server; where this machine stalls meanwhile, also after the last query was sent, nothing is compared."""
    over, longest_s = threading.Event(), 0.0

    def beat() -> None:
        nonlocal longest_s
        last_s = time.monotonic()
        while not over.wait(0.02):
            now_s = time.monotonic()
            longest_s, last_s = max(longest_s, now_s - last_s), now_s

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        log = mp.drive(trace, url, **how).log
    finally:
        over.set()
        beating.join()
    if max(longest_s, log.send_error_ns.max() / 1e9) > 0.5:
        pytest.skip("this machine stalled for half a second: what was served is not the trace")
    return log


def check(plan: mp.Plan, trace: mp.Trace, log: QueryLog, law: str | None) -> None:
    """Compare a run with its prediction."""
    assert log.query.tolist() == list(range(len(trace)))
    assert log.ok.all()
    visited = [
        stage for stage, tokens in drawn(plan, len(log.query)).items() if set(tokens) >= set(log.query)
    ]
    least_ns = sum(int(plan.service_ns(stage).min()) for stage in visited)
    assert log.latency_ns.min() >= least_ns
    sent = mp.Trace.from_ns(log.sent_ns - log.sent_ns[0])
    predicted = mp.replay(plan, sent, system=law)
    assert (predicted.engine == "events") == (law is not None)
    for quantile in (0.5, 0.99):
        measured_s = float(np.quantile(log.latency_ns, quantile, method="higher")) / 1e9
        assert predicted.quantile(quantile) / 1.5 < measured_s < 5 * predicted.quantile(quantile)


@pytest.mark.parametrize("name", ["dispatcher", "mosec", "triton"])
def test_server_does_what_its_law_says(name: str, tmp_path: Path) -> None:
    system = TRUTH_SYSTEMS[name]
    if (reason := system.missing()) is not None:
        pytest.skip(reason)
    plan = plan_of(system.law)
    with system.start(plan, tmp_path) as server:
        log = driven(TRACE, server.url, **server.how)
    check(plan, TRACE, log, system.law)
    if name == "dispatcher":
        check_tokens(plan, len(TRACE), tmp_path / "stages.parquet")


def test_litserve_does_what_its_law_says(tmp_path: Path) -> None:
    """A server of one stage."""
    pytest.importorskip("litserve")
    latency_ms = [20.0, 25.0, 30.0, 35.0]
    plan, port = small_plan({"a": (latency_ms, 2)}), free_port()
    (tmp_path / "server.py").write_text(LITSERVE, encoding="utf-8")
    command = [sys.executable, "server.py", str(port), *(str(each / 1e3) for each in latency_ms)]
    trace = mp.Trace.gamma(rate_rps=60, cv=2.5, duration_s=3, seed=4)
    with started(command, tmp_path, f"http://127.0.0.1:{port}/health"):
        for sent in (
            mp.Trace.from_seconds(np.arange(10) * 0.1),
            trace,
        ):  # The first ones find it still starting.
            log = driven(sent, f"http://127.0.0.1:{port}/predict", body='{"query": {query}}')
    check(plan, trace, log, "litserve:window=5ms")


@pytest.mark.parametrize("name", ["dispatcher", "triton"])
def test_branches_and_joins_are_served(name: str, tmp_path: Path) -> None:
    """By our front, and by the script that ``--to triton`` writes, which calls the stages of a query in turn."""
    system = TRUTH_SYSTEMS[name]
    if (reason := system.missing()) is not None:
        pytest.skip(reason)
    plan = plan_of(None, JOINED_CHOICES, 1, JOINED)
    with system.start(plan, tmp_path) as server:
        log = driven(TRACE, server.url, **server.how)
    check(plan, TRACE, log, system.law)
    if name == "dispatcher":
        check_tokens(plan, len(TRACE), tmp_path / "stages.parquet")


@pytest.mark.skipif(bool(os.environ.get("CI")), reason="`make servers`, which CI runs first, drives both")
def test_ray_serve_does_as_it_comes_and_by_the_exported_application(tmp_path: Path) -> None:
    """In one cluster, since starting it is what takes long: our dispatcher in the ingress, and ``@serve.batch``."""
    if (reason := TRUTH_SYSTEMS["ray"].missing()) is not None:
        pytest.skip(reason)
    joined, chain = plan_of(None, JOINED_CHOICES, 2, JOINED), plan_of("ray", RAY_CHOICES)
    plans = {"exported": joined, f"{PLAIN}chain": chain}
    with ray_servers(plans, tmp_path, tmp_path / "log") as (exported, plain):
        first = driven(mp.Trace.from_ns([0, 1]), exported.url, **exported.how)
        by_us = driven(RAY_TRACE, exported.url, **exported.how)
        by_ray = driven(RAY_TRACE, plain.url, **plain.how)
        one_more = urllib.request.Request(exported.url, b"7", {QUERY_HEADER: str(len(RAY_TRACE))})
        with urllib.request.urlopen(one_more) as answer:
            assert json.load(answer)["outputs"] == [["categorise", 7]]
    # Ready is ready: replicas are there before the first query.
    assert first.latency_ns.max() < 5_000_000_000
    check(joined, RAY_TRACE, by_us, None)
    check(chain, RAY_TRACE, by_ray, f"ray:window={RAY_WINDOW_MS}ms,ongoing={ONGOING}")
    # A query is led through branches and join as our front leads it.
    check_tokens(joined, len(RAY_TRACE) + 1, tmp_path / "log", again=len(first.query))
