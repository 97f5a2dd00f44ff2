"""The engines that serve one stage, by name, fastest first. They agree bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mipplan.core import InputError, shown
from mipplan.replayer.engines import compiled, plain, vectorised
from mipplan.replayer.engines.engine import ALL_FEATURES, Engine, Feature

ENGINES: Mapping[str, Engine] = MappingProxyType(
    {
        engine.name: engine
        for engine in (
            Engine(
                "numba",
                ALL_FEATURES,
                compiled.missing,
                compiled.serve_many,
                compiled.is_cold,
                compiled.follow_many,
            ),
            Engine("numpy", ALL_FEATURES, lambda: None, vectorised.serve_many),
            Engine("python", ALL_FEATURES, lambda: None, lambda tasks: [plain.serve(task) for task in tasks]),
        )
    }
)


#: Tokens, over all stages and plans, from which loading the compiled engine pays.
LARGE_JOB = 3_000_000


def resolve_engine(name: str, needed: frozenset[Feature], tokens: int | None = None) -> Engine:
    """Return the engine asked for; for ``"auto"`` the fastest that is there and does what is needed.

    Parameters
    ----------
    name : str
    needed : frozenset of Feature
    tokens : int, optional
        About how many there are to serve: below `LARGE_JOB`, ``"auto"`` does not load what is not loaded yet.

    Raises
    ------
    InputError
        If there is no such engine, it is not installed, or it cannot do what is needed.
    """
    if name == "auto":
        is_small = tokens is not None and tokens < LARGE_JOB
        return next(
            engine
            for engine in ENGINES.values()
            if engine.can(needed) and engine.missing() is None and not (is_small and engine.is_cold())
        )
    if not isinstance(name, str) or name not in ENGINES:
        raise InputError.one("engine", f"expected one of auto, {', '.join(ENGINES)}, found {shown(name)}")
    engine = ENGINES[name]
    reason = engine.missing()
    if reason is not None:
        raise InputError.one("engine", reason)
    if not engine.can(needed):
        lacking = ", ".join(sorted(needed - engine.features))
        able = ", ".join(other.name for other in ENGINES.values() if other.can(needed))
        raise InputError.one("engine", f"{name} does not do this: {lacking}; use one of auto, {able}")
    return engine


__all__ = ["ENGINES", "LARGE_JOB", "Engine", "Feature", "resolve_engine"]
