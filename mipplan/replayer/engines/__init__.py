"""The engines that serve one stage, by name. They agree bit for bit.

The order is that of preference: the compiled engine is the fastest where stages batch, and where they serve single
tokens in turn it uses the closed form of the NumPy engine. Laws of serving systems have an engine of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from mipplan.core import InputError, check_one_of
from mipplan.replayer.engines.events import EventEngine
from mipplan.replayer.engines.numba_engine import NumbaEngine
from mipplan.replayer.engines.numpy_engine import NumpyEngine
from mipplan.replayer.engines.plain import PlainEngine
from mipplan.replayer.stage_task import Engine, EngineFeature, Served, StageTask

ENGINES: Mapping[str, Engine] = MappingProxyType(
    {engine.name: engine for engine in (NumbaEngine(), NumpyEngine(), PlainEngine())}
)

#: Serves by the law of a serving system, which no other engine knows.
EVENTS = EventEngine()


@dataclass(frozen=True)
class EventsBeside(Engine):
    """Serves stages under a serving system's law by events, and all others by another engine."""

    others: Engine
    name: str = EVENTS.name
    features: frozenset[EngineFeature] = frozenset(EngineFeature) - {
        EngineFeature.SCHEDULE,
        EngineFeature.RESUME,
    }

    def serve_many(self, tasks: Sequence[StageTask]) -> list[Served]:
        """Serve one stage under several plans."""
        served: dict[int, Served] = {}
        for engine, is_ours in ((EVENTS, True), (self.others, False)):
            own = [number for number, task in enumerate(tasks) if (task.system is not None) is is_ours]
            served.update(zip(own, engine.serve_many([tasks[number] for number in own]), strict=True))
        return [served[number] for number in range(len(tasks))]


@dataclass(frozen=True)
class EngineParams:
    """When an engine is worth loading."""

    large_job: int = 3_000_000
    """Tokens, over all stages and plans, from which loading the compiled engine pays."""


def resolve_engine(
    name: str,
    needed: frozenset[EngineFeature],
    tokens: int | None = None,
    params: EngineParams = EngineParams(),
) -> Engine:
    """Return the engine asked for; for ``"auto"`` the first that is there and does what is needed.

    Raises `InputError` if there is no such engine, it is not installed, or it cannot do what is needed.

    Parameters
    ----------
    tokens : int, optional
        About how many there are to serve: for a small job ``"auto"`` does not load what is not loaded yet.
    """
    if EngineFeature.SYSTEM in needed:
        others = needed - {EngineFeature.SYSTEM}
        if name != "auto" or others & {EngineFeature.SCHEDULE, EngineFeature.RESUME}:
            what = ", ".join(sorted(needed))
            raise InputError.one("engine", f"does not do all of this: {what}; say auto, and no schedule")
        return EventsBeside(resolve_engine(name, others, tokens, params))
    if name == "auto":
        is_small = tokens is not None and tokens < params.large_job
        return next(
            engine
            for engine in ENGINES.values()
            if engine.can(needed) and not (is_small and engine.is_cold()) and engine.missing() is None
        )
    check_one_of("engine", name, ["auto", *ENGINES])
    engine = ENGINES[name]
    reason = engine.missing()
    if reason is not None:
        raise InputError.one("engine", reason)
    if not engine.can(needed):
        lacking = ", ".join(sorted(needed - engine.features))
        able = ", ".join(other.name for other in ENGINES.values() if other.can(needed))
        raise InputError.one("engine", f"{name} does not do this: {lacking}; use one of auto, {able}")
    return engine


__all__ = ["ENGINES", "EVENTS", "EngineParams", "resolve_engine"]
