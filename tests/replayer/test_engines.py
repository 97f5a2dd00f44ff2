"""Which engine is chosen, and what is said of one that cannot serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest

from mipplan.core import InputError
from mipplan.replayer import (
    ENGINES,
    Engine,
    EngineFeature,
    EngineParams,
    Served,
    StageTask,
    engines,
    resolve_engine,
)
from mipplan.replayer.engines import plain
from mipplan.result import Following
from random_tasks import differences, random_task

LARGE_JOB = EngineParams().large_job


class Named(Engine):
    """An engine that serves nothing."""

    def __init__(
        self, name: str, *, able: bool = True, missing: str | None = None, cold: bool = False
    ) -> None:
        self.name, self._missing, self._cold = name, missing, cold
        self.features = frozenset(EngineFeature) if able else frozenset()

    def missing(self) -> str | None:
        return self._missing

    def is_cold(self) -> bool:
        return self._cold

    def serve_many(self, tasks: Sequence[StageTask]) -> list[Served]:
        raise NotImplementedError


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    made = (Named("fast", cold=True), Named("plain", able=False), Named("slow"))
    monkeypatch.setattr(engines, "ENGINES", MappingProxyType({each.name: each for each in made}))


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    ("needed", "tokens", "chosen"),
    [
        (frozenset(), None, "fast"),
        (frozenset(), LARGE_JOB, "fast"),
        (frozenset(), LARGE_JOB - 1, "plain"),
        (frozenset({EngineFeature.SCHEDULE}), LARGE_JOB - 1, "slow"),
    ],
)
def test_auto_loads_the_fastest_only_where_that_pays(
    needed: frozenset[EngineFeature], tokens: int | None, chosen: str
) -> None:
    assert resolve_engine("auto", needed, tokens).name == chosen


def test_auto_passes_over_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = (Named("fast", missing="not there"), Named("slow"))
    monkeypatch.setattr(engines, "ENGINES", MappingProxyType({each.name: each for each in made}))
    assert resolve_engine("auto", frozenset()).name == "slow"
    with pytest.raises(InputError, match="not there"):
        resolve_engine("fast", frozenset())


@pytest.mark.usefixtures("three")
def test_refusals_name_the_way_out() -> None:
    with pytest.raises(InputError, match="schedule; use one of auto, fast, slow"):
        resolve_engine("plain", frozenset({EngineFeature.SCHEDULE}))
    with pytest.raises(InputError, match="expected one of auto, fast, plain, slow, found 'quick'"):
        resolve_engine("quick", frozenset())


def test_the_reference_engine_is_always_there() -> None:
    assert ENGINES["python"].missing() is None
    assert ENGINES["python"].can(frozenset(EngineFeature) - {EngineFeature.SYSTEM})


@pytest.mark.parametrize("name", ENGINES)
def test_every_registered_engine_serves_as_the_plain_one_does(name: str) -> None:
    engine = ENGINES[name]
    assert engine.name == name
    assert engine.missing() is None, "tests run with every engine installed"
    rng = np.random.default_rng(94)
    tasks = [random_task(rng, features=engine.features) for _ in range(200)]
    answers = engine.serve_many(tasks)
    assert not engine.is_cold()
    for number, (asked, answer) in enumerate(zip(tasks, answers, strict=True)):
        assert not differences(answer, plain.serve(asked)), f"task {number}"
    assert engine.serve_many([]) == []


@pytest.mark.parametrize("name", ENGINES)
def test_every_registered_engine_serves_tokens_that_follow_others(name: str) -> None:
    engine = ENGINES[name]
    rng = np.random.default_rng(95)
    for number in range(100):
        above = engine.serve_many([random_task(rng, features=())])[0]
        following = Following(above, int(rng.integers(20)))
        blank = replace(random_task(rng, features=()), arrival_ns=np.empty(0, dtype=np.int64))
        (made,) = engine.follow_many([blank], following)
        expected = plain.serve(replace(blank, arrival_ns=following.at_ns))
        assert not differences(made, expected), f"case {number}"
