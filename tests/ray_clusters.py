"""Ray clusters of a test's own: two workers and little memory on this machine, gone when the test ends."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def own_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start one, and end it whatever happens; the caller has seen to it that Ray is installed."""
    import ray

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # Sockets lie in its folder, and their paths must be short.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
        ray.init(
            "local",
            num_cpus=2,
            num_gpus=0,
            object_store_memory=100 * 2**20,
            include_dashboard=False,
            logging_level="ERROR",
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
        )
        try:
            yield
        finally:
            ray.shutdown()
