"""Which problems there are: ``python -m benchmarks.instances.drawing`` draws and freezes them.

Nothing is picked or left out for its results.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.compare import shared_data
from benchmarks.compare.specs import read_frozen as read_compared
from benchmarks.instances.building import JUST_MISSED, KNIFE_EDGE, OUT_OF_REACH, build, fingerprint
from benchmarks.instances.specs import FROZEN, Spec, write_frozen

#: Shapes of the suite with stages and width; each meets every kind of deadline.
SUITE = (
    ("chain", 3, 0),
    ("chain", 10, 0),
    ("chain", 30, 0),
    ("diamond", 6, 2),
    ("diamond", 14, 4),
    ("layered", 9, 3),
    ("layered", 20, 4),
    ("series-parallel", 8, 0),
    ("series-parallel", 16, 0),
    ("random", 7, 0),
    ("random", 12, 0),
    ("tree", 8, 2),
    ("tree", 20, 3),
)
#: Problems per shape and size.
TURNS = 2
#: Deadlines in thousandths of what the fastest selection takes; the last three see `Spec.tightness`.
TIGHTNESSES = (1_050, 1_300, 2_000, 4_000, KNIFE_EDGE, JUST_MISSED)
#: Numbers of replicas per hardware and batch size, and modes that nothing dominates.
MODES = ("served:3", "served:6", "traded:60")
HOPELESS = (("chain", 10, 0), ("layered", 9, 3), ("tree", 8, 2))
#: Pipelines of the comparison with greedy: the first so many of each name.
PIPELINES_EACH, MEASURED_EACH = 1, 2
#: Objectives of the ten-stage aim.
TEN_STAGES = (1_050, 1_500, 2_000, 3_000, 6_000)
GROWING_STAGES = (3, 10, 30, 100, 1_000)
GROWING_MODES = (10, 30, 100, 1_000)
#: Pairs of stages side by side: twice as many paths each.
GROWING_PATHS = (0, 4, 8, 12)


def draw() -> list[Spec]:
    """Describe all problems, fingerprints left empty."""
    return [
        *_aims(),
        _spec("building", "chain", 20, 0, "traded:5000", 1, 1_500),
        _spec("building", "chain", 500, 0, "traded:200", 1, 1_500),
        *_pruning(),
        *_growing(),
        *_pipelines(),
        *_suite(),
    ]


def _suite() -> Iterator[Spec]:
    number = 0
    for family, stages, width in SUITE:
        for turn in range(TURNS):
            # Deadlines, modes, limits and covers take turns such that every shape meets several of each.
            tightness = TIGHTNESSES[number % len(TIGHTNESSES)]
            modes = MODES[(number + number // len(TIGHTNESSES)) % len(MODES)]
            served = modes.startswith("served")
            yield _spec(
                "suite",
                family,
                stages,
                width,
                modes,
                10 + turn,
                tightness,
                limits=served and number % 3 != 1,
                covers=3 if number % 5 == 2 else 0,
                wait_classes=1 if family == "chain" else 1 + number % 3,
            )
            number += 1
    for family, stages, width in HOPELESS:
        yield _spec("suite", family, stages, width, "served:6", 20, OUT_OF_REACH)


def _pipelines() -> Iterator[Spec]:
    """Real latency tables: shipped ones, and public measurements where they are present."""
    counts: dict[str, int] = {}
    for compared in read_compared():
        if compared.group not in ("shipped", "measured"):
            continue
        counts[compared.pipeline] = counts.get(compared.pipeline, 0) + 1
        most = PIPELINES_EACH if compared.group == "shipped" else MEASURED_EACH
        if counts[compared.pipeline] <= most:
            yield replace(
                _spec("suite", "pipeline", compared.stages, 0, "options", 0, 1_000),
                name=f"pipeline-{compared.name}",
                source=compared.name,
            )


def _aims() -> Iterator[Spec]:
    for tightness in TEN_STAGES:
        yield _spec("ten-stages", "chain", 10, 0, "served:9", 31, tightness, pruned=False)
    for seed in (41, 42, 43):
        yield _spec("forty-stages", "chain", 40, 0, "traded:350", seed, 1_600)
    for seed in (51, 52):
        yield _spec("hundred-stages", "layered", 100, 20, "served:3", seed, 1_600, wait_classes=2)


def _growing() -> Iterator[Spec]:
    for stages in GROWING_STAGES:
        yield _spec("stages", "chain", stages, 0, "traded:20", 61, 1_600)
    for modes in GROWING_MODES:
        yield _spec("modes", "chain", 8, 0, f"traded:{modes}", 62, 1_600)
    for doublings in GROWING_PATHS:
        yield _spec("paths", "ladder", 24, doublings, "traded:8", 63, 1_600)


def _pruning() -> Iterator[Spec]:
    for family, stages, width in (("chain", 5, 0), ("layered", 9, 3)):
        for tightness in (1_300,):
            for pruned in (False, True):
                yield _spec("pruning", family, stages, width, "served:9", 71, tightness, pruned=pruned)


def _spec(
    group: str,
    family: str,
    stages: int,
    width: int,
    modes: str,
    seed: int,
    tightness: int,
    *,
    pruned: bool = True,
    limits: bool = False,
    covers: int = 0,
    wait_classes: int = 1,
) -> Spec:
    deadline = {KNIFE_EDGE: "edge", JUST_MISSED: "missed", OUT_OF_REACH: "hopeless"}.get(
        tightness, f"{tightness / 1_000:g}x"
    )
    extras = ("-raw" if not pruned else "") + ("-limits" if limits else "") + ("-covers" if covers else "")
    wide = f"x{width}" if width else ""
    name = f"{group}-{family}-{stages}{wide}-{modes.replace(':', '')}-{deadline}{extras}-{seed}"
    return Spec(
        name,
        group,
        family,
        "synthetic",
        stages,
        width,
        modes,
        pruned,
        seed,
        tightness,
        limits,
        covers,
        wait_classes,
    )


if __name__ == "__main__":
    if not shared_data.is_present():
        raise SystemExit(f"the measured pipelines need the public data in {shared_data.FOLDER}")
    specs = draw()
    write_frozen([replace(spec, fingerprint=fingerprint(build(spec))) for spec in specs])
    print(f"{len(specs)} problems written to {FROZEN}")
